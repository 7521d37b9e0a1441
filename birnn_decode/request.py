"""The question: what was given to the front door, checked once, and frozen.

A `Request` holds everything that belongs to the question and nothing that belongs to a method. Its part for some items,
and its group of a diverse beam, are requests of the same kind. A method takes a request and gives outcomes.
"""

from __future__ import annotations

import contextlib
import functools
import math
import operator
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypedDict

from birnn_decode import backend
from birnn_decode.checks import check_count, check_flag, check_type, type_name
from birnn_decode.constraints import ClashError, Constraint, Diversity, Hook, clash
from birnn_decode.objective import Objective
from birnn_decode.scorers.joint import JointScorer, halves_of
from birnn_decode.scorers.pair import Pair, check_same_words
from birnn_decode.scorers.protocol import Scorer, boundaries_of, eval_mode, never_of, room_of
from birnn_decode.search.coupling import Coupling
from birnn_decode.search.direction import Direction, branching_depths
from birnn_decode.search.finalists import Finalist
from birnn_decode.search.free import free_search
from birnn_decode.search.holding import Check, Demands, Problem
from birnn_decode.search.joint import JointCoupling
from birnn_decode.search.memory import Memory
from birnn_decode.search.pair import PairCoupling
from birnn_decode.search.recorder import Recorder
from birnn_decode.search.tree import Encoded, PrefixTree
from birnn_decode.spelling import spell
from birnn_decode.template import MAX_WIDTH, FixedTemplate, Template, Vocabulary, check_against_vocabulary
from birnn_decode.tokenizers import as_vocabulary, no_words

FORWARD, BACKWARD = "forward", "backward"
DEFAULT_MAX_LENGTH = 30
SEARCHED = object()  # in place of sentences: the search finds them


class Options(TypedDict, total=False):
    """The keywords of `decode`, `compare` and `bscd_decode`.

    They are everything about the question besides models, sources and templates, whichever method answers it.

    Attributes:
        beam_size: the number of prefixes kept at each position, and of hypotheses returned (B) (default: 5).
        objective: the score of a finished sentence (default: ``Objective()``).
        vocabulary: an object with ``encode(text) -> ids`` and ``decode(ids) -> text`` that reads text templates and
            writes ``Hypothesis.text``. A Hugging Face tokenizer is one, too; its special tokens fill no blank. Default:
            the ``vocabulary`` of the models, if they have one.
        constraints: a list of conditions on the words in the blanks: `BanWords`, `AllowAt`, `BanAt`, `MustAppear`,
            `NoRepeatedNgram`, `WordCount`, and score hooks, which are functions ``(position, prefix, scores) ->
            scores``. The search keeps to them in both directions. J stays as it is. If no sentence satisfies every
            constraint, the best sentences found are returned, and `Hypothesis.broken` lists the constraints that each
            one violates (default: no constraints).
        accept: a check of finished sentences, a function ``(text) -> bool``, for example one that tells whether a
            molecule can be parsed. Of all sentences that the search has met, the best accepted ones are returned first.
            If fewer than ``beam_size`` were accepted, the best others follow, and `Hypothesis.broken` names the check.
            The function is asked once per text of an item. J and the search stay as they are (default: None, no check).
        diversity: a `Diversity`, for hypotheses that differ from each other (default: None).
        widths: for whole captions, the lengths to search, in words (default: the lengths that the free searches find).
        min_length: for whole captions, the fewest words (default: 0).
        max_length: for whole captions, the most words (default: 30, or the largest of ``widths``). No caption is longer
            than the models can read.
        memory_limit: the bytes that scores and states kept by a search may take at a time. The memory that the models
            need for one step is not counted. A batch that needs more is split and decoded in parts, with the same
            results; a single item is always decoded. ``rows_evaluated`` does not count the rows that a batch had read
            before it was split (default: None, no limit).
        rows_per_call: the most prefixes or sentences that go through a model in one call, whatever the method, the
            number of items and ``beam_size``. The results are the same, up to rounding. A smaller number needs less
            memory for a step and more time. The sources of a list are encoded in one call, as ever (default: None, no
            limit).
        record: whether `DecodeResult.record` keeps what the search saw. The results are the same (default: False).

    Example:
        >>> from birnn_decode import Options, decode
        >>> from birnn_decode.captions import make_scene
        >>> from birnn_decode.models import default_pair
        >>> options = Options(beam_size=3, max_length=20)
        >>> len(decode(default_pair(), make_scene(seed=2, number=4).picture(), **options).hypotheses)
        3
    """

    beam_size: int
    objective: Objective
    vocabulary: Vocabulary | None
    constraints: Sequence[Constraint | Hook]
    accept: Callable[[str], bool] | None
    diversity: Diversity | None
    widths: Collection[int] | None
    min_length: int
    max_length: int | None
    memory_limit: int | None
    rows_per_call: int | None
    record: bool


DEFAULTS = Options(
    beam_size=5,
    objective=Objective(),
    vocabulary=None,
    constraints=(),
    accept=None,
    diversity=None,
    widths=None,
    min_length=0,
    max_length=None,
    memory_limit=None,
    rows_per_call=None,
    record=False,
)


@dataclass(frozen=True)
class Lengths:
    """The lengths that a whole caption may have, in words.

    Attributes:
        widths: the lengths to search, ascending; None if the free searches find them.
        least: the fewest words.
        most: the most words.
    """

    widths: tuple[int, ...] | None
    least: int
    most: int

    @classmethod
    def given(cls, widths: Any, min_length: Any, max_length: Any, most_words: float) -> Lengths:
        """Check the arguments, and cut them to the words that the models can read."""
        most = max_length
        if max_length is None:
            most = DEFAULT_MAX_LENGTH if widths is None else MAX_WIDTH
        if min_length > most:
            raise ValueError(f"min_length={min_length} is more than max_length={most}. Give a larger max_length.")
        if widths is not None:
            try:
                widths = tuple(sorted({check_count("every entry of widths", width) for width in widths}))
            except TypeError:
                raise TypeError(f"widths must be a list of whole numbers, got {widths!r}.") from None
            if not widths or widths[0] < min_length or widths[-1] > most:
                raise ValueError(
                    f"widths={list(widths)}: give at least one length, all from {min_length} to {most} words "
                    "(min_length, max_length)."
                )
        least = max(min_length, *(widths or (0,)))
        if least > most_words:
            raise ValueError(
                f"a caption of {least} words is asked for, but the models read at most {most_words} words (max_tokens "
                "counts START, too). Ask for a shorter caption."
            )
        if max_length is None:
            most = max(DEFAULT_MAX_LENGTH, *(widths or (0,)))
        return cls(widths, min_length, int(min(most, most_words)))

    def __str__(self) -> str:
        return f"{self.least}-{self.most}" if self.widths is None else ",".join(map(str, self.widths))


@dataclass(frozen=True, eq=False)
class Models:
    """The models of a request, wrapped as scorers.

    Attributes:
        given: the models as they were given.
        scorers: the scorer of each direction that there is a model for.
        vocabulary: the vocabulary; None if there is none.
        vocab_size: the number of ids.
        never: ids that a blank never takes.
    """

    given: Any
    scorers: Mapping[str, Scorer]
    vocabulary: Any
    vocab_size: int
    never: frozenset[int]

    @classmethod
    def wrap(cls, models: Any, vocabulary: Any) -> Models:
        """Wrap and check models."""
        if isinstance(models, Pair):
            scorers = models.scorers()
        elif isinstance(models, JointScorer):
            scorers = dict(zip((FORWARD, BACKWARD), halves_of(models), strict=True))
        else:
            raise TypeError(
                f"models must be Pair(model_f, model_b), a JointModel or another JointScorer, got {type_name(models)}."
            )
        check_same_words(scorers)
        for owner in (models, *scorers.values()):
            vocabulary = getattr(owner, "vocabulary", None) if vocabulary is None else vocabulary
        vocabulary = as_vocabulary(vocabulary)
        for member in ("encode", "decode"):
            if vocabulary is not None and not hasattr(vocabulary, member):
                raise TypeError(
                    f"vocabulary must have encode(text) -> ids and decode(ids) -> text, got {type_name(vocabulary)} "
                    f"without {member}."
                )
        vocab_size = scorers[next(iter(scorers))].vocab_size
        never = frozenset(no_words(vocabulary, vocab_size).union(*map(never_of, scorers.values())))
        return cls(models, scorers, vocabulary, vocab_size, never)

    @property
    def kind(self) -> type[Coupling]:
        """What this kind of models brings to a search."""
        return PairCoupling if isinstance(self.given, Pair) else JointCoupling

    @contextlib.contextmanager
    def inference(self, gradients: bool = False) -> Iterator[None]:
        """Run models in eval mode and without a graph, unless gradients are asked for."""
        if gradients:
            yield
            return
        with backend.no_graph(), eval_mode([*self.scorers.values(), self.given]):
            yield

    def encode(self, sources: list[Any], gradients: bool = False) -> tuple[dict[str, Any], float]:
        """Encode sources, and find the most words of a sentence that every model can read."""
        if not sources:
            return {}, math.inf
        with self.inference(gradients):
            contexts = {name: scorer.encode(sources) for name, scorer in self.scorers.items()}
        return contexts, min(room_of(self.scorers[name], context) for name, context in contexts.items()) - 1

    @property
    def compared(self) -> list[str]:
        """The names of the methods that `compare` runs by default."""
        ends = ("", "+end") if self.kind.writes else ("",)
        names = [f"urnn-{direction[0]}{end}" for end in ends for direction in self.scorers]
        return names if len(self.scorers) == 1 else [*names, "rerank", "bscd"]

    def needed_vocabulary(self, what: str) -> Any:
        """Return the vocabulary, which must be there to read text."""
        if self.vocabulary is None:
            raise TypeError(
                f"{what} needs a vocabulary with encode(text) and decode(ids): pass vocabulary=, or give the model an "
                "attribute `vocabulary`."
            )
        return self.vocabulary

    def text(self, template: Template | None, words: Sequence[int], runs: Sequence[tuple[int, int]]) -> str:
        """Return the text of a sentence that fills a template. A whole caption is spelled as it is."""
        return spell(template or Template(()), words, runs, self.vocabulary)

    def spelled(self, words: Sequence[int]) -> str | None:
        """Return the text of ids; None without a vocabulary."""
        return None if self.vocabulary is None else self.vocabulary.decode([*words])

    def check_ids(self, template: Template, name: str) -> None:
        """Check that the scorers have the ids of a template."""
        boundaries = {token for one in self.scorers.values() for token in boundaries_of(one)}
        check_against_vocabulary(template, self.vocab_size, boundaries, self.never, name)

    def words(self, given: Any) -> tuple[int, ...]:
        """Return the ids of a sentence given as text or ids."""
        ids = self.needed_vocabulary("a sentence in text").encode(given) if isinstance(given, str) else given
        try:
            words = tuple(operator.index(word) for word in ids)
        except TypeError:
            raise TypeError(f"a sentence must be a text or a sequence of ids, got {given!r}.") from None
        self.check_ids(Template(words), "sentence")
        return words

    def sentences(self, given: Any, items: int) -> list[list[tuple[int, ...]]]:
        """Return the words of the sentences of each item."""
        if isinstance(given, str) or not isinstance(given, Sequence):
            raise TypeError(f"sentences must be a list of lists, one list for each source, got {given!r}.")
        if len(given) != items:
            raise ValueError(f"got {items} sources and {len(given)} lists of sentences. Give one list for each source.")
        for own in given:
            if isinstance(own, str) or not isinstance(own, Sequence):
                raise TypeError(f"the sentences of a source must be a list, even a single sentence, got {own!r}.")
        return [[self.words(sentence) for sentence in own] for own in given]

    def template(self, given: Any, name: str) -> Template | None:
        """Return a template given as text or as a value; None for a whole caption."""
        if given is None:
            return None
        if isinstance(given, str):
            given = Template.from_text(given, self.needed_vocabulary("a template in text"))
        if not isinstance(given, Template):
            raise TypeError(
                f"the {name} must be a text, a Template (from ids: Template.from_tokens), or None for a whole caption, "
                f"got {given!r}. Only a list is one template for each source."
            )
        self.check_ids(given, name)
        return given.within(self.vocab_size, self.never)


@dataclass(frozen=True, eq=False)
class Item:
    """One source with one template.

    Attributes:
        number: its number in the whole request.
        source: the number of its source.
        template: its template; None for a whole caption.
        fixed: the template at every choice of widths; None for a whole caption.
        width: what is known of the width: ``"known"``, ``"range"`` or ``"whole"``; see ``Objective.length_rule``.
        rule: the length rule of the objective.
    """

    number: int
    source: int
    template: Template | None
    fixed: Sequence[FixedTemplate] | None
    width: str
    rule: str | float


@dataclass(frozen=True, eq=False)
class Request:
    """The question.

    Attributes:
        models: the models.
        contexts: for each direction what the scorer's ``encode`` returned.
        sources: the number of sources in ``contexts``.
        items: the items.
        batch: whether the answer is a list.
        objective: the score of a finished sentence.
        lengths: the lengths that whole captions may have.
        demands: the constraints, and the check of finished sentences.
        beam_size: B, of all groups together.
        diversity: the groups of the beam; None for one group.
        memory_limit: in bytes; None for no limit.
        rows_per_call: None for no limit.
        record: whether searches are recorded.
        sentences: the words of each item's sentences if these are to be scored and nothing is searched; else None.
    """

    models: Models
    contexts: Mapping[str, Any]
    sources: int
    items: Sequence[Item]
    batch: bool
    objective: Objective
    lengths: Lengths
    demands: Demands
    beam_size: int = 1
    diversity: Diversity | None = None
    memory_limit: int | None = None
    rows_per_call: int | None = None
    record: bool = False
    sentences: Sequence[Sequence[tuple[int, ...]]] | None = None

    @property
    def rules(self) -> list[str | float]:
        """The length rule of each item."""
        return [item.rule for item in self.items]

    # ------------------------------------------------------------------------------------------------- parts and groups

    @property
    def groups(self) -> int:
        """The number of groups that share the beam and the rows of an item."""
        return 1 if self.diversity is None else self.diversity.groups

    @property
    def share(self) -> int:
        """The beam size of one group."""
        return self.beam_size // self.groups

    def part(self, some: slice) -> Request:
        """Return the request for some of the items. Sources are not encoded again."""
        demands = replace(self.demands, avoided=self.demands.avoided[some], checks=self.demands.checks[some])
        return replace(self, items=self.items[some], demands=demands)

    def group(self, avoided: Sequence[Sequence[tuple[int, ...]]]) -> Request:
        """Return the request for the next group, given the sentences of the groups before for each item."""
        return replace(self, demands=replace(self.demands, avoided=avoided if any(avoided) else ()))

    # ------------------------------------------------------------------------------------------------ what searches ask

    def writes(self, item: Item) -> bool:
        """Tell whether the free searches find the length of an item's sentence."""
        return item.fixed is None and self.lengths.widths is None

    def coupling(self, single_sweep: bool = False) -> Coupling:
        """Open the models for a search. Nothing has been read yet.

        Args:
            single_sweep: whether each direction sweeps at most once.
        """
        kind = self.models.kind
        combine = getattr(self.models.given, "combine", None)
        weights = {FORWARD: self.objective.weight_forward, BACKWARD: self.objective.weight_backward}
        # Choices of widths share prefixes, each of which is then asked for again; and score hooks are asked once more
        # when sentences are ranked.
        several = any(item.width != "known" and not self.writes(item) for item in self.items)
        asked_again = not single_sweep or kind.every_score or several or bool(self.demands.hooks)
        memory = Memory(self.memory_limit if len(self.items) > 1 else None)  # one item cannot be split
        sources, numbers = [one.source for one in self.items], [one.number for one in self.items]
        directions = []
        for name, scorer in self.models.scorers.items():
            reverse = name == BACKWARD
            branching = [
                None if one.fixed is None or kind.every_score else branching_depths(one.fixed, reverse)
                for one in self.items
            ]
            encoded = Encoded(self.contexts.get(name), sources, self.sources, numbers)
            every_state = combine is not None
            tree = PrefixTree(scorer, name, encoded, branching, asked_again, every_state, memory, self.rows_per_call)
            directions.append(Direction(tree, weights[name], reverse, tuple(sorted(self.models.never))))
        recorder = Recorder() if self.record else None
        return kind(tuple(directions), self.objective, self.rules, self.demands, combine, recorder)

    def write_freely(self, coupling: Coupling, directions: Sequence[Direction]) -> list[Finalist]:
        """Let each direction write the whole captions freely, if it knows where a sentence ends."""
        items = [number for number, item in enumerate(self.items) if item.fixed is None and self.models.kind.writes]
        written = []
        for direction in directions:
            held = {number: self.demands.hold_freely(number, direction.reverse, self.lengths.most) for number in items}
            asked = {number: one for number, one in held.items() if one is not None}
            lengths = self.lengths.least, self.lengths.most
            found = free_search(direction, items, self.share, *lengths, asked, coupling.recorder)
            for number, hypotheses in zip(items, found, strict=True):
                for one in hypotheses:
                    words = direction.words_in_reading_order(one.words)
                    written.append(Finalist(number, FixedTemplate.all_blank(len(words)), words, one.finished))
        return written

    def problems(self, written: Iterable[Finalist] = ()) -> list[Problem]:
        """Return every item at every choice of widths; whole captions at the lengths asked for or written freely."""
        lengths: list[set[int]] = [set(self.lengths.widths or ()) for _ in self.items]
        if self.lengths.widths is None:
            for one in written:
                lengths[one.item].add(len(one.words))
        problems = []
        for number, item in enumerate(self.items):
            templates = item.fixed
            if templates is None:
                blank = [FixedTemplate.all_blank(width) for width in sorted(lengths[number])]
                templates = self.demands.possible(blank)
            problems += [Problem(number, template, self.demands.hold(number, template)) for template in templates]
        return problems

    def length_rules(self, weight: float) -> list[str | float]:
        """Return the length rule of each item for one model with this weight."""
        return [self.objective.length_rule(item.width, weight) for item in self.items]


def ask(
    models: Any,
    source: Any,
    template: Any,
    options: Mapping[str, Any],
    sentences: Any = SEARCHED,
    gradients: bool = False,
) -> Request:
    """Check a question and encode its sources.

    Args:
        models: a `Pair`, or a `JointScorer`.
        source: one source, or a list of them.
        template: one template, or a list of them.
        options: see `Options`.
        sentences: the sentences to be scored, if nothing is searched (default: ``SEARCHED``).
        gradients: whether the sources are encoded with PyTorch's graph.
    """
    if unknown := sorted(set(options) - set(DEFAULTS)):
        raise TypeError(
            f"unknown keywords: {', '.join(unknown)}. The keywords are {', '.join(DEFAULTS)}. An option of a method "
            "belongs to the method, for example BSCD(max_rounds=3)."
        )
    given: dict[str, Any] = {**DEFAULTS, **options}
    given["beam_size"] = check_count("beam_size", given["beam_size"], 1)
    check_count("min_length", given["min_length"])
    for name, least in (("max_length", 0), ("memory_limit", 1), ("rows_per_call", 1)):
        if given[name] is not None:
            check_count(name, given[name], least)
    check_flag("record", given["record"])
    if (diversity := given["diversity"]) is not None:
        check_type("diversity", diversity, Diversity, "Diversity(groups=5, strength=0.5)")
        if given["beam_size"] % diversity.groups:
            raise ValueError(
                "beam_size must be a multiple of the number of groups, because each group has an equal share of the "
                f"beam, got beam_size={given['beam_size']} and {diversity.groups} groups."
            )
    wrapped = Models.wrap(models, given["vocabulary"])
    scored = sentences is not SEARCHED
    objective = _checked_objective(given["objective"], wrapped, not scored)
    batch, sources, source_of, templates = _pairs(source, template)
    name = "template of item {}" if batch else "template"
    templates = [wrapped.template(one, name.format(number)) for number, one in enumerate(templates)]
    sentences = wrapped.sentences(sentences if batch else [sentences], len(source_of)) if scored else None
    about_length = given["widths"], given["min_length"], given["max_length"]
    asks_length = given["widths"] is not None or given["max_length"] is not None or given["min_length"] != 0
    if asks_length and templates and None not in templates:
        raise ValueError(
            "widths, min_length and max_length are for whole captions (template=None). A template gives its own "
            "widths, for example {1-6}."
        )
    demands = _demands(given["constraints"], wrapped, diversity, _checks(given["accept"], wrapped, templates))
    fixed_templates = [
        None if one is None else _possible(demands, one.fixed(), name.format(number), number)
        for number, one in enumerate(templates)
    ]
    contexts, most_words = wrapped.encode(sources, gradients)
    lengths = Lengths.given(*about_length, most_words)
    if None in templates and sentences is None:
        lengths = _possible_lengths(lengths, wrapped, demands, templates.index(None))
    items, longest = [], [(len(words), "sentence") for own in sentences or () for words in own]
    for number, fixed in enumerate(fixed_templates):
        blanks = lengths.widths or () if fixed is None else [one.blank_count for one in fixed]
        width = "known" if sentences is not None or len(blanks) == 1 else "whole" if fixed is None else "range"
        rule = wrapped.kind.length_rule(objective, width, min(blanks, default=0))
        items.append(Item(number, source_of[number], templates[number], fixed, width, rule))
        longest.append((max(map(len, fixed or ((),))), name.format(number)))
    for length, what in longest:
        if length > most_words:
            raise ValueError(
                f"the {what} has up to {length} words, but the models read at most {most_words} words (max_tokens "
                "counts START, too). Shorten it, or narrow its blanks."
            )
    return Request(
        wrapped,
        contexts,
        len(sources),
        items,
        batch,
        objective,
        lengths,
        demands,
        given["beam_size"],
        diversity,
        given["memory_limit"],
        given["rows_per_call"],
        given["record"],
        sentences,
    )


def _pairs(source: Any, template: Any) -> tuple[bool, list[Any], list[int], list[Any]]:
    """Return whether it is a batch, the sources to encode, and for each item the number of its source and template."""
    if isinstance(source, list) and isinstance(template, list) and len(source) != len(template):
        raise ValueError(
            f"got {len(source)} sources and {len(template)} templates. Give one template for each source, or a single "
            "template."
        )
    if isinstance(source, list):
        templates = template if isinstance(template, list) else [template] * len(source)
        return True, source, list(range(len(source))), templates
    if isinstance(template, list):
        return True, [source] if template else [], [0] * len(template), template
    return False, [source], [0], [template]


def _demands(given: Any, models: Models, diversity: Diversity | None, checks: Sequence[Check]) -> Demands:
    if isinstance(given, (str, Constraint)) or not isinstance(given, Sequence):
        raise TypeError(f"constraints must be a list of constraints and score hooks, got {given!r}.")
    for one in given:
        if isinstance(one, type) or not (isinstance(one, Constraint) or callable(one)):
            raise TypeError(
                f"every entry of constraints must be a constraint, such as BanWords, or a function, got {one!r}."
            )
    return Demands(
        [one.resolved(models) for one in given if isinstance(one, Constraint)],
        [one for one in given if not isinstance(one, Constraint)],
        frozenset(range(models.vocab_size)) - models.never if given else frozenset(),
        strength=0.0 if diversity is None else diversity.strength,
        share=models.kind.share,
        checks=checks,
    )


def _checks(accept: Any, models: Models, templates: Sequence[Template | None]) -> list[Check]:
    """Return the check of each item; an empty list if none was given."""
    if accept is None:
        return []
    if not callable(accept):
        raise TypeError(f"accept must be a function (text) -> bool, or None for no check, got {accept!r}.")
    models.needed_vocabulary("accept")
    return [Check(accept, functools.partial(models.text, template)) for template in templates]


def _possible_lengths(lengths: Lengths, models: Models, demands: Demands, item: int) -> Lengths:
    """Return the lengths of a whole caption that the constraints leave."""
    if not models.kind.writes and lengths.widths is None:
        raise ValueError(
            "a joint model does not predict where a sentence ends. Give a template, or the lengths of a whole caption, "
            "for example widths=range(5, 15)."
        )
    if not demands.constraints:
        return lengths
    asked = lengths.widths or range(lengths.least, lengths.most + 1)
    blank = [FixedTemplate.all_blank(width) for width in asked]
    kept = tuple(len(fixed) for fixed in _possible(demands, blank, "caption", item))
    return Lengths(None if lengths.widths is None else kept, min(kept), max(kept))


def _possible(demands: Demands, templates: Sequence[FixedTemplate], name: str, item: int) -> Sequence[FixedTemplate]:
    """Return the templates that the constraints leave, at least one; see ``Demands.possible``."""
    kept = demands.possible(templates)
    if templates and not kept:
        clashing = "; ".join(clash(demands.constraints, templates, demands.everything))
        raise ClashError(f"no sentence fills the {name} and satisfies these constraints together: {clashing}", item)
    return kept


def _checked_objective(objective: Objective, models: Models, searches: bool) -> Objective:
    check_type("objective", objective, Objective, "Objective(length='average')")
    weights = {FORWARD: objective.weight_forward, BACKWARD: objective.weight_backward}
    if models.kind is JointCoupling and set(weights.values()) != {1}:
        raise ValueError(f"{objective}: a joint model has one softmax and nothing to weigh. Leave both weights at 1.")
    if not searches and not any(weights[name] for name in models.scorers):
        raise ValueError(f"{objective} gives weight 0 to the only model of the Pair. Nothing is left to score with.")
    # A beam search by the only model of a Pair is ranked as `BeamSearch.rank` says.
    return replace(objective, scope="sentence") if searches and len(models.scorers) == 1 else objective
