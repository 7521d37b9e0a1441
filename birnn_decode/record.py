"""The record of a search: what each sweep saw and kept, the splices, the draws and the bounds.

`decode` keeps it if it is called with ``record=True``. A record holds plain numbers and ids, so it can be written as
JSON, and `birnn_decode.show.trace_page` makes a page of it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, NamedTuple, TypeAlias

__all__ = [
    "Bound",
    "Candidate",
    "Choice",
    "Draw",
    "Draws",
    "Record",
    "RecordedSearch",
    "Splice",
    "Splices",
    "Sweep",
    "Writing",
]

SCHEMA = 1

Words: TypeAlias = tuple[int, ...]


class Candidate(NamedTuple):
    """Hold one way to continue a beam: a prefix and a word.

    All numbers are in nats. The first four make up the fifth:
    ``total = weight * (prefix + log_prob) + look_ahead + change``, where ``weight`` is that of the direction in the
    `Objective`, and 1 in a sweep that does not look ahead.

    Attributes:
        words: Ids of all words that the direction has read so far, the new word included, in sentence order. In a whole
            caption written freely, END is the new word of a finished sentence.
        prefix: Log-probability of the words before the new word. With a `JointModel`, the running score of the beam.
        log_prob: Log-probability of the new word. With a `JointModel`, given both sides.
        look_ahead: What the best beam of the other direction gives to the new word and the words on its far side, times
            the weight of that direction. None if the sweep does not look ahead.
        change: What constraints, score hooks, `Diversity` and the prior of `BSCD` add. Usually 0.
        total: What candidates are ranked by.
        kept: Whether the candidate is among the best ones, which make up the next beam.
        rest: Ids of the words on the far side of the new word that give the look-ahead, in sentence order. None if the
            sweep does not look ahead.

    Example:
        >>> one = Candidate((5, 7), -1.0, -0.5, -2.0, 0.0, -3.5, True, (9,))
        >>> one.prefix + one.log_prob + one.look_ahead == one.total
        True
    """

    words: Words
    prefix: float
    log_prob: float
    look_ahead: float | None
    change: float
    total: float
    kept: bool
    rest: Words | None


@dataclass(frozen=True)
class Choice:
    """Hold what a sweep saw at one blank position.

    Attributes:
        position: Position in the sentence, from 0. In a whole caption written from its end, whose length is not known
            yet, it is counted from the end: -1 is the last word.
        candidates: Kept candidates and a few that were dropped, highest total first.

    Example:
        >>> Choice(1, (Candidate((5, 7), -1.0, -0.5, None, 0.0, -1.5, True, None),)).kept[0].words
        (5, 7)
    """

    position: int
    candidates: tuple[Candidate, ...]

    @property
    def kept(self) -> tuple[Candidate, ...]:
        """The kept candidates: the beam after this position.

        Example:
            >>> Choice(1, ()).kept
            ()
        """
        return tuple(one for one in self.candidates if one.kept)


@dataclass(frozen=True)
class Sweep:
    """Hold one sweep of one direction over the blanks.

    Attributes:
        direction: ``"forward"`` or ``"backward"``.
        round: Number of the round; 0 for the beam searches that a method starts from.
        looks_ahead: Whether the sweep looks ahead through the beams of the other direction.
        repeated: Whether the sweep was not run, because it has run after the same beams of the other direction before.
            It then has no choices.
        choices: What it saw, in the order of reading. If there are fewer choices than blanks, it came to a dead end.

    Example:
        >>> Sweep("forward", 0, False, False, ()).kind
        'sweep'
    """

    direction: str
    round: int
    looks_ahead: bool
    repeated: bool
    choices: tuple[Choice, ...]
    kind: str = field(default="sweep", init=False)


@dataclass(frozen=True)
class Writing:
    """Hold the free beam search of one direction for a whole caption.

    Attributes:
        direction: ``"forward"`` or ``"backward"``.
        choices: What it saw, in the order of reading.

    Example:
        >>> Writing("backward", ()).kind
        'writing'
    """

    direction: str
    choices: tuple[Choice, ...]
    kind: str = field(default="writing", init=False)


@dataclass(frozen=True)
class Splice:
    """Hold one sentence made of a forward prefix, a word, and a backward suffix.

    Attributes:
        words: Ids of the whole sentence.
        position: Position of the word at which prefix and suffix are joined.
        value: What splices are ranked by: the weighted log-probabilities of prefix and word, and of word and suffix.
        score: Score of the sentence before the length rule, in nats. None if it was not read to its end, because other
            splices looked better.

    Example:
        >>> Splice((5, 7, 9), 1, -3.5, None).score is None
        True
    """

    words: Words
    position: int
    value: float
    score: float | None


@dataclass(frozen=True)
class Splices:
    """Hold the splices that were looked at after a round.

    Attributes:
        round: Number of the round.
        splices: The splices that were not looked at before, highest value first.

    Example:
        >>> Splices(0, ()).kind
        'splices'
    """

    round: int
    splices: tuple[Splice, ...]
    kind: str = field(default="splices", init=False)


class Draw(NamedTuple):
    """Hold one draw of a Gibbs sampler.

    Attributes:
        chain: Number of the chain.
        position: Position in the sentence.
        word: Id of the word drawn.
        log_prob: Log-probability of this draw, in nats.

    Example:
        >>> Draw(0, 3, 7, -0.25).word
        7
    """

    chain: int
    position: int
    word: int
    log_prob: float


@dataclass(frozen=True)
class Draws:
    """Hold one sweep of all chains of a Gibbs sampler.

    Attributes:
        round: Number of the sweep, from 1.
        draws: The draws, in order. A chain begins anew with a blank that has no word yet.

    Example:
        >>> Draws(1, (Draw(0, 3, 7, -0.25),)).kind
        'draws'
    """

    round: int
    draws: tuple[Draw, ...]
    kind: str = field(default="draws", init=False)


Step: TypeAlias = Writing | Sweep | Splices | Draws


@dataclass(frozen=True)
class Bound:
    """Hold what a proof knew at one time.

    Attributes:
        rows: Rows read for the item so far.
        upper: No sentence has a score above this, in nats.
        best: Best score found so far; None if there is no sentence.

    Example:
        >>> Bound(rows=250, upper=-13.0, best=-14.5).upper
        -13.0
    """

    rows: int
    upper: float
    best: float | None


@dataclass(frozen=True)
class RecordedSearch:
    """Hold the search of a template at one choice of widths.

    Attributes:
        template: For each position the id of a known word, None for a blank, or a tuple of the ids allowed. Empty for a
            caption that is written freely.
        beam_size: Number of beams, or of chains.
        group: Number of the group of a diverse beam; 0 without `Diversity`.
        steps: The steps, in order: `Writing`, `Sweep`, `Splices` and `Draws`.

    Example:
        >>> RecordedSearch((5, None, 9), 3, 0, ()).template
        (5, None, 9)
    """

    template: tuple[int | Words | None, ...]
    beam_size: int
    group: int
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Record:
    """Hold what a search did for one source and template; see `decode`.

    Attributes:
        searches: The searches, one for each choice of widths. `Exact` adds those with more beams.
        bounds: For `Exact`, the bound as it falls; empty for other methods.
        pool: Ids of all finished sentences that the search has ranked, each once, in the order of meeting.
        vocab_size: Number of ids that a word is chosen from (V).
        texts: Pairs of an id and its text, for all ids of the record. Empty without a vocabulary.
        schema: Version of the layout of ``to_dict``.

    Example:
        >>> from birnn_decode import decode
        >>> from birnn_decode.captions import make_scene
        >>> from birnn_decode.models import default_pair
        >>> picture = make_scene(seed=2, number=4).picture()
        >>> record = decode(default_pair(), picture, "a small _ circle is _ a star", record=True).record
        >>> [(step.kind, step.round) for step in record.searches[0].steps][:3]
        [('sweep', 0), ('sweep', 0), ('splices', 0)]
        >>> record.text(record.searches[0].steps[0].choices[0].candidates[0].words)
        'a small purple'
    """

    searches: tuple[RecordedSearch, ...]
    bounds: tuple[Bound, ...] = ()
    pool: tuple[Words, ...] = ()
    vocab_size: int = 0
    texts: tuple[tuple[int, str], ...] = ()
    schema: int = field(default=SCHEMA, init=False)

    def text(self, words: Iterable[int]) -> str:
        """Return the words of ids, with a space between them.

        Args:
            words: Ids that occur in the record.

        Returns:
            The text. An id without a text is written as a number.

        Example:
            >>> Record((), texts=((5, "a"), (7, "dog"))).text([5, 7, 9])
            'a dog 9'
        """
        texts = dict(self.texts)
        return " ".join(texts.get(word, str(word)) for word in words)

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as a dict for JSON.

        Returns:
            The dict. Tuples become lists, named tuples and dataclasses become dicts, and infinities become the strings
            ``"inf"`` and ``"-inf"``. ``kind`` tells the steps apart.

        Example:
            >>> Record(()).to_dict()["schema"]
            1
        """
        return {entry.name: plain(getattr(self, entry.name)) for entry in fields(self)}

    def to_json(self) -> str:
        """Return ``to_dict`` as JSON.

        Returns:
            The text, without line breaks.

        Example:
            >>> Record(()).to_json()[:16]
            '{"searches": [],'
        """
        return json.dumps(self.to_dict())

    @classmethod
    def joined(cls, several: Sequence[Record]) -> Record:
        """Join the records of the groups of a diverse beam.

        Args:
            several: One record for each group, in order.

        Returns:
            One record with the searches of all groups.

        Example:
            >>> Record.joined([Record((), pool=((5,),)), Record((), pool=((5,), (7,)))]).pool
            ((5,), (7,))
        """
        searches = [replace(own, group=group) for group, one in enumerate(several) for own in one.searches]
        return replace(
            several[0],
            searches=tuple(searches),
            bounds=tuple(bound for one in several for bound in one.bounds),
            pool=tuple(dict.fromkeys(words for one in several for words in one.pool)),
            texts=tuple(sorted({pair for one in several for pair in one.texts})),
        )


def plain(value: Any) -> Any:
    """Return a value ready for JSON: dataclasses and named tuples as dicts, tuples as lists, tensors as numbers."""
    if is_dataclass(value):
        return {entry.name: plain(getattr(value, entry.name)) for entry in fields(value)}
    if isinstance(value, tuple):
        if hasattr(value, "_fields"):
            return {name: plain(entry) for name, entry in zip(value._fields, value, strict=True)}
        return [plain(entry) for entry in value]
    if hasattr(value, "detach"):  # a tensor, scored with gradients
        value = value.detach().item()
    if isinstance(value, float) and math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return value
