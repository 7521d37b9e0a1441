"""Putting the same questions to several methods and several kinds of models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from birnn_decode.constraints import ClashError
from birnn_decode.decoding import compare, score_sentences
from birnn_decode.evaluation.blanks import Question
from birnn_decode.methods import BSCD, METHODS, Exact, Gibbs, Method
from birnn_decode.result import DecodeResult
from birnn_decode.scorers.pair import Pair

# The names that methods have for a Bi-RNN, and for a pair.
BIRNN_METHODS = {
    "birnn-f": "urnn-f",
    "birnn-b": "urnn-b",
    "birnn-rerank": "rerank",
    "birnn-gibbs": "gibbs",
    "birnn-bscd": "bscd",
}
Asked = tuple[Any, Method]

OF_PAIR = ("joint", "log_prob_forward", "log_prob_backward", "token_log_probs_forward", "token_log_probs_backward")
OF_JOINT = ("pseudo_log_prob", "token_conditionals")


def asked(
    names: Sequence[str],
    pair: Pair | None = None,
    birnn: Any = None,
    max_rounds: int = 10,
    max_rows: int = Exact.max_rows,
) -> dict[str, Asked]:
    """Look up the methods of an evaluation of a pair and a Bi-RNN by name.

    Args:
        names: names of methods: of the pair as in `compare`, of the Bi-RNN ``"birnn-f"``, ``"birnn-b"``,
            ``"birnn-rerank"``, ``"birnn-gibbs"``, ``"birnn-bscd"``.
        pair: the pair (default: None, no name is of a pair).
        birnn: the Bi-RNN or other `JointScorer` (default: None, no name is of a Bi-RNN).
        max_rounds: the largest number of rounds of BSCD (default: 10).
        max_rows: the rows that an exact search may take for a question (default: 20,000).

    Returns:
        for each name the models and the method. Gibbs sampling takes as many rows as BSCD for the same question.

    Raises:
        ValueError: a name is unknown, or its models are not given.

    Example:
        >>> from birnn_decode.evaluation import asked
        >>> from birnn_decode.models import default_pair
        >>> asked(["bscd"], default_pair(), max_rounds=3)["bscd"][1]
        BSCD(max_rounds=3, prior=None, prior_weight=1.0, splices=True)
    """
    methods = {
        **METHODS,
        "bscd": BSCD(max_rounds),
        "bscd-paper": BSCD(max_rounds, splices=False),
        "gibbs": Gibbs(rows=BSCD(max_rounds)),
        "exact": Exact(max_rounds, max_rows),
    }
    known: dict[str, Asked] = {name: (pair, method) for name, method in methods.items()}
    known |= {name: (birnn, methods[own]) for name, own in BIRNN_METHODS.items()}
    for name in names:
        if name not in known:
            raise ValueError(f"names has {name!r}, which is no method. The names are {', '.join(known)}.")
        if known[name][0] is None:
            raise ValueError(f"names has {name!r}. Give {'birnn' if name in BIRNN_METHODS else 'pair'}, its models.")
    return {name: known[name] for name in names}


def ask(
    methods: Mapping[str, Asked], questions: Sequence[Question], *, batch_size: int = 64, **options: Any
) -> Iterator[list[dict[str, DecodeResult]]]:
    """Put questions to methods.

    If both a pair and a Bi-RNN are asked, the best answer of every method has both the pair's J and the Bi-RNN's
    pseudo-log-likelihood.

    Args:
        methods: for each name the models and the method; see `asked`.
        questions: the questions.
        batch_size: the number of questions decoded at a time (default: 64).
        **options: the keywords of `decode`.

    Yields:
        after each batch, for each question a dict of results by name; an empty dict for a question that no sentence can
        answer under the constraints.

    Example:
        >>> from birnn_decode import BSCD, Template
        >>> from birnn_decode.captions import CaptionedImage, make_scene
        >>> from birnn_decode.evaluation import Question, ask
        >>> from birnn_decode.models import default_pair
        >>> pair, picture = default_pair(), make_scene(seed=2, number=4).picture()
        >>> words = pair.forward.vocabulary.encode("a small green circle")
        >>> source = CaptionedImage("0.png", 0, "test", ("a small green circle",))
        >>> question = Question(picture, source, Template.blank(words[:2], 2), (tuple(words),))
        >>> [(found,)] = ask({"bscd": (pair, BSCD())}, [question])
        >>> found["bscd"].rows_evaluated > 0
        True
    """
    models = list({id(own): own for own, _ in methods.values()}.values())
    pairs, joints = ([one for one in models if isinstance(one, Pair) == wanted] for wanted in (True, False))

    def answers(some: Sequence[Question]) -> list[dict[str, DecodeResult]]:
        sources, templates = [question.image for question in some], [question.template for question in some]
        found: list[dict[str, DecodeResult]] = [{} for _ in some]
        for one in models:
            own = {name: method for name, (of, method) in methods.items() if of is one}
            answered = compare(one, sources, templates, list(own.values()), **options)
            for results, by_method in zip(found, answered, strict=True):
                results.update({name: by_method[method.name] for name, method in own.items()})
        if pairs and joints:
            found = with_both_scores(pairs[0], joints[0], sources, found)
        return [{name: results[name] for name in methods} for results in found]

    for begin in range(0, len(questions), batch_size):
        some = list(questions[begin : begin + batch_size])
        found: dict[int, dict[str, DecodeResult]] = {}
        open_numbers = list(range(len(some)))
        while open_numbers and not found:
            try:
                found = dict(zip(open_numbers, answers([some[number] for number in open_numbers]), strict=True))
            except ClashError as error:
                del open_numbers[error.item]
        yield [found.get(number, {}) for number in range(len(some))]


def with_both_scores(
    pair: Pair, birnn: Any, sources: Sequence[Any], found: Sequence[Mapping[str, DecodeResult]], top: int = 1
) -> list[dict[str, DecodeResult]]:
    """Score what a pair and a Bi-RNN have found with both of them.

    Args:
        pair: the pair.
        birnn: the Bi-RNN or other `JointScorer`.
        sources: the source of each question.
        found: for each question a dict of results by name.
        top: the number of hypotheses of each result that are scored (default: 1).

    Returns:
        the same results. Their first hypotheses have J, the pseudo-log-likelihood and all terms, in nats. The ranking
        stays, and the rows of this scoring are not counted.

    Example:
        >>> from birnn_decode import BSCD, JointModel, compare
        >>> from birnn_decode.captions import make_scene
        >>> from birnn_decode.evaluation import with_both_scores
        >>> from birnn_decode.models import default_pair
        >>> pair, picture = default_pair(), make_scene(seed=2, number=4).picture()
        >>> found = compare(pair, [picture], "a small _ circle", [BSCD()])
        >>> (scored,) = with_both_scores(pair, JointModel(pair.forward, pair.backward), [picture], found)
        >>> scored["bscd"].best.pseudo_log_prob < 0
        True
    """
    words = [
        list(dict.fromkeys(one.tokens for result in own.values() for one in result.hypotheses[:top])) for own in found
    ]
    scored = [score_sentences(models, list(sources), words) for models in (pair, birnn)]
    both = []
    for own, by_pair, by_birnn in zip(found, *scored, strict=True):
        known = {
            one.tokens: {name: getattr(one, name) for name in OF_PAIR}
            | {name: getattr(other, name) for name in OF_JOINT}
            for one, other in zip(by_pair, by_birnn, strict=True)
        }
        completed = {}
        for name, result in own.items():
            first = [replace(one, **known[one.tokens]) for one in result.hypotheses[:top]]
            completed[name] = replace(result, hypotheses=(*first, *result.hypotheses[top:]))
        both.append(completed)
    return both
