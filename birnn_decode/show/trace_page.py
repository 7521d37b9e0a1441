"""The trace page: a search, step by step, on one HTML page that needs no network."""

from __future__ import annotations

import base64
import hashlib
import io
import itertools
import json
import math
import os
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from birnn_decode.files import write_whole
from birnn_decode.record import Record, RecordedSearch, Splices, Sweep, Words, Writing
from birnn_decode.result import DecodeResult, Hypothesis

PIXELS = 320
MOST_SPLICES = 12  # on the page, of each round
MOST_BOUNDS = 80  # steps of a proof
MOST_SWEEPS = 40  # of Gibbs sampling
MOST_BYTES = 700_000  # of all searches; those of other lengths than the answer's are left out beyond that
FILES = "page.html.j2", "trace.css", "trace.js"
# The full name of each method, and what it does in a few words.
NAMES = {
    "urnn-f": ("beam search with the forward network alone", "one search, left to right"),
    "urnn-b": ("beam search with the backward network alone", "one search, right to left"),
    "urnn-f+end": ("forward beam search, sentences ranked whole", "left to right, whole sentences ranked"),
    "urnn-b+end": ("backward beam search, sentences ranked whole", "right to left, whole sentences ranked"),
    "rerank": ("both beam searches, ranked by both models", "both searches, then both models choose"),
    "gibbs": ("Gibbs sampling", "words drawn at random, again and again"),
    "bscd": (
        "Beam-Search Coordinate Descent, which improves one side while the other is held fixed, in turns",
        "both searches, helping each other",
    ),
    "bscd-paper": ("Beam-Search Coordinate Descent as published", "both searches, helping each other, no joins"),
    "exact": ("exact search", "proves which sentence is best"),
}


def trace_page(
    results: DecodeResult | Mapping[str, DecodeResult],
    path: str | os.PathLike[str],
    *,
    picture: Any = None,
    title: str = "How the search found the words",
) -> None:
    """Write a page that steps through a search.

    The page is one HTML file with everything in it: it needs no network and no other file. It works in any browser of
    the last years, on a phone, in dark mode and with a screen reader, and it prints as a storyboard.

    Args:
        results: a result of `decode` that was called with ``record=True``, or the dict of results that `compare`
            returns for one source.
        path: the file to write. An existing file is replaced.
        picture: what the sentence is about, a picture of Pillow or the path of one (default: none).
        title: the heading of the page.

    Raises:
        ValueError: a result has no record.
        OSError: the file cannot be written, or the picture cannot be read.

    Example:
        >>> from birnn_decode import compare
        >>> from birnn_decode.captions import make_scene
        >>> from birnn_decode.models import default_pair
        >>> from birnn_decode.show import trace_page
        >>> picture = make_scene(seed=2, number=4).picture()
        >>> results = compare(default_pair(), picture, "a small green {3} a purple _", ["urnn-f", "bscd"], record=True)
        >>> trace_page(results, "trace.html", picture=picture)
    """
    write_whole(path, page(results, picture=picture, title=title).encode())


def page(
    results: DecodeResult | Mapping[str, DecodeResult],
    *,
    picture: Any = None,
    title: str = "How the search found the words",
) -> str:
    """Return the text of the page that `trace_page` writes."""
    import jinja2

    if isinstance(results, DecodeResult):
        results = {name_of(results): results}
    for name, result in results.items():
        if result.record is None:
            raise ValueError(f"the result of {name} has no record. Call decode or compare with record=True.")
    if not results:
        raise ValueError("there are no results to show. Give a result of decode, or the results of compare.")
    folder = resources.files("birnn_decode.show") / "trace"
    template, style, script = ((folder / name).read_text(encoding="utf-8") for name in FILES)
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    data = json.dumps(_story(results), separators=(",", ":"), allow_nan=False)
    # In a script element, "<" is the only character that could end it.
    data = data.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    return environment.from_string(template).render(
        title=title,
        style=style,
        style_hash=_hash(style),
        script=script,
        script_hash=_hash(script),
        data=data,
        picture=None if picture is None else _data_url(picture),
        description="picture that the sentence is about",
    )


def name_of(result: DecodeResult) -> str:
    """Return the name of the method of a result, as in tables."""
    first, second, *_ = (*result.signature.split("|"), "")
    if first.startswith("beam-"):
        return f"urnn-{first[5]}{'+end' if second == 'rank:sentence' else ''}"
    return first.removeprefix("birnn-")


def _hash(text: str) -> str:
    """Return what a content security policy calls a text."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _data_url(picture: Any) -> str:
    """Return a picture as a URL that holds it."""
    from PIL import Image

    if isinstance(picture, (str, os.PathLike)):
        with Image.open(Path(picture)) as opened:
            picture = opened.convert("RGB")
    small = picture.convert("RGB")
    small.thumbnail((PIXELS, PIXELS))
    data = io.BytesIO()
    small.save(data, format="PNG", optimize=True)
    if data.tell() > 150_000:  # a photograph
        data = io.BytesIO()
        small.save(data, format="JPEG", quality=85)
        return f"data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode()}"
    return f"data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}"


# ----------------------------------------------------------------------------------------------------------- the story


def _story(results: Mapping[str, DecodeResult]) -> dict[str, Any]:
    """Return what the script of the page needs, as plain values."""
    words = _Words([result.record for result in results.values() if result.record is not None])
    methods = [_method(name, result, words) for name, result in results.items()]
    return {"words": words.texts, "space": _space(results), "methods": methods}


def _space(results: Mapping[str, DecodeResult]) -> str:
    """Return what stands between words: a space, or nothing if the vocabulary has characters or subwords."""
    for result in results.values():
        for one in result.hypotheses:
            assert result.record is not None
            if one.text is not None:
                return " " if one.text == result.record.text(one.tokens) else ""
    return " "


class _Words:
    """The numbers that words have on the page, and their texts."""

    def __init__(self, records: Sequence[Record]):
        known = dict(itertools.chain(*(record.texts for record in records)))
        self._known = known
        self._numbers: dict[int, int] = {}
        self.texts: list[str] = []

    def __call__(self, word: int) -> int:
        """Return the number of an id."""
        if word not in self._numbers:
            self._numbers[word] = len(self.texts)
            self.texts.append(self._known.get(word) or f"⟨{word}⟩")
        return self._numbers[word]

    def all(self, words: Sequence[int]) -> list[int]:
        """Return the numbers of ids."""
        return [self(word) for word in words]


def _method(name: str, result: DecodeResult, words: _Words) -> dict[str, Any]:
    record = result.record
    assert record is not None
    best = result.hypotheses[0] if result.hypotheses else None
    searches = [_search(one, words) for one in record.searches]
    shown = next((at for at, one in enumerate(record.searches) if best is not None and _fits(one, best)), 0)
    sizes = [len(json.dumps(one)) for one in searches]
    room = MOST_BYTES
    kept = []
    for at in sorted(range(len(searches)), key=lambda at: at != shown):
        room -= sizes[at]
        if at == shown or room > 0:
            kept.append(at)
    kept.sort()
    title, does = NAMES.get(name.removeprefix("birnn-"), (name, None))
    return {
        "name": name,
        "title": title,
        "does": does,
        "vocab": record.vocab_size,
        "searches": [searches[at] for at in kept],
        "left": len(searches) - len(kept),
        "shown": kept.index(shown) if searches else 0,
        "hypotheses": [_hypothesis(one, result, words, at) for at, one in enumerate(result.hypotheses)],
        "bounds": [[one.rows, _number(one.upper), _number(one.best)] for one in _some(record.bounds, MOST_BOUNDS)],
        "pool": len(record.pool),
        "rows": result.rows_evaluated,
        "ms": round(1000 * result.seconds),
        "stop": result.stop.advice,
        "reason": result.stop.value,
        "proved": result.proved,
        "sure": _sure(result, words),
    }


def _fits(search: RecordedSearch, hypothesis: Hypothesis) -> bool:
    """Tell whether a hypothesis fills the template of a search."""
    return len(search.template) == len(hypothesis.tokens) and all(
        own is None or own == word or (isinstance(own, tuple) and word in own)
        for own, word in zip(search.template, hypothesis.tokens, strict=True)
    )


def _some(values: Sequence[Any], most: int) -> list[Any]:
    """Return the first, the last, and some values between them."""
    if len(values) <= most:
        return [*values]
    return [values[round(at * (len(values) - 1) / (most - 1))] for at in range(most)]


def _number(value: float | None, digits: int = 3) -> float | None:
    """Return a number for the page; None for an infinite one."""
    return None if value is None or not math.isfinite(value) else round(value, digits)


def _hypothesis(one: Hypothesis, result: DecodeResult, words: _Words, at: int) -> dict[str, Any]:
    terms = {
        "forward": one.token_log_probs_forward,
        "backward": one.token_log_probs_backward,
        "both": one.token_conditionals,
    }
    share = None if result.posterior is None else _number(result.posterior.hypotheses[at].estimate, 6)
    blanks = {at for begin, end in one.runs for at in range(begin, end)}
    return {
        "words": words.all(one.tokens),
        "blank": [int(at in blanks) for at in range(len(one.tokens))],
        "score": _number(one.score, 6),
        "joint": _number(one.joint if one.joint is not None else one.pseudo_log_prob, 6),
        "sums": [_number(one.log_prob_forward, 6), _number(one.log_prob_backward, 6)],
        "terms": {name: [_number(value) for value in own] for name, own in terms.items() if own is not None},
        "broken": [*one.broken],
        "share": share,
    }


def _sure(result: DecodeResult, words: _Words) -> dict[str, Any] | None:
    """Return the probabilities of words and of the contents of each blank; None without a posterior."""
    posterior = result.posterior
    if posterior is None:
        return None
    return {
        "sentences": posterior.sentences,
        "mass": [_number(value, 4) for value in posterior.mass],
        "words": [
            [
                [words(one.token), *(_number(getattr(one.probability, end), 4) for end in ("estimate", "low", "high"))]
                for one in own
            ]
            for own in posterior.words
        ],
        "spans": [
            [
                [
                    words.all(one.tokens),
                    *(_number(getattr(one.probability, end), 4) for end in ("estimate", "low", "high")),
                ]
                for one in own
            ]
            for own in posterior.spans
        ],
    }


def _search(search: RecordedSearch, words: _Words) -> dict[str, Any]:
    steps: list[dict[str, Any]] = []
    frontiers: dict[str, _Lanes] = {}
    drawn = 0
    for step in search.steps:
        if isinstance(step, (Sweep, Writing)):
            steps.append(_sweep(step, frontiers, words))
        elif isinstance(step, Splices):
            ranked = sorted(step.splices, key=lambda one: (one.score is None, -(one.score or 0.0), -one.value))
            steps.append(
                {
                    "kind": "splices",
                    "round": step.round,
                    "count": len(step.splices),
                    "read": sum(one.score is not None for one in step.splices),
                    "splices": [
                        [words.all(one.words), one.position, _number(one.value), _number(one.score, 6)]
                        for one in ranked[:MOST_SPLICES]
                    ],
                }
            )
        elif drawn < MOST_SWEEPS:
            drawn += 1
            draws = [[one.chain, one.position, words(one.word), _number(one.log_prob)] for one in step.draws]
            steps.append({"kind": "draws", "round": step.round, "draws": draws})
    template = [
        words(one) if isinstance(one, int) else None if one is None else words.all(one) for one in search.template
    ]
    return {"template": template, "beams": search.beam_size, "group": search.group, "steps": steps}


class _Lanes:
    """Where the kept candidates of a sweep stand, by their words."""

    def __init__(self) -> None:
        self.choices: list[dict[Words, int]] = []
        self.positions: list[int] = []


def _sweep(step: Sweep | Writing, frontiers: dict[str, _Lanes], words: _Words) -> dict[str, Any]:
    """Return a sweep in short: words stand as references to the beams that they come from."""
    reverse = step.direction == "backward"
    other = frontiers.get("forward" if reverse else "backward")
    lanes = _Lanes()
    choices = []
    for choice in step.choices:
        before = lanes.choices[-1] if lanes.choices else {}
        # The beams of the other direction that stop at the next blank position on the far side.
        ahead: dict[Words, int] = {}
        if other is not None:
            beyond = [at for at in other.positions if (at < choice.position if reverse else at > choice.position)]
            if beyond:
                ahead = other.choices[other.positions.index(max(beyond) if reverse else min(beyond))]
        rows = []
        for one in choice.candidates:
            row: list[Any] = [
                words(one.words[0] if reverse else one.words[-1]),
                _suffix_of(before, one.words[1:]) if reverse else _prefix_of(before, one.words[:-1]),
                int(one.kept),
                _number(one.prefix),
                _number(one.log_prob),
                _number(one.total),
            ]
            if one.rest is not None or one.change:
                row.append(_number(one.look_ahead))
                rest = one.rest or ()
                row.append(_prefix_of(ahead, rest) if reverse else _suffix_of(ahead, rest))
            if one.change:
                row.append(_number(one.change))
            rows.append(row)
        choices.append([choice.position, rows])
        lanes.positions.append(choice.position)
        lanes.choices.append({one.words: rank for rank, one in enumerate(choice.candidates) if one.kept})
    if not isinstance(step, Sweep):
        return {"kind": "writing", "direction": step.direction, "choices": choices}
    if not step.repeated:
        frontiers[step.direction] = lanes
    return {
        "kind": "sweep",
        "direction": step.direction,
        "round": step.round,
        "looks": step.looks_ahead,
        "repeated": step.repeated,
        "choices": choices,
    }


def _prefix_of(beams: Mapping[Words, int], words: Words) -> int:
    """Return the rank of the beam that words begin with, -1 for none. Known words may follow it."""
    return next((rank for beam, rank in beams.items() if words[: len(beam)] == beam), -1)


def _suffix_of(beams: Mapping[Words, int], words: Words) -> int:
    """Return the rank of the beam that words end with, -1 for none. Known words may come before it."""
    return next((rank for beam, rank in beams.items() if words[len(words) - len(beam) :] == beam), -1)
