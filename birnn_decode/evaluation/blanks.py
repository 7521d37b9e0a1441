"""Fill-in-the-blank and whole captions: the questions that every method is asked, and the asking."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from birnn_decode.call import Constraints
from birnn_decode.captions.blanks import middle_blank
from birnn_decode.captions.datasets import CaptionedImage
from birnn_decode.captions.vocabulary import UNK, WordVocabulary, words_of
from birnn_decode.constraints import ClashError, Diversity
from birnn_decode.decode import COMPARED, MAX_ROWS, compare, score_sentences
from birnn_decode.joint import JOINT_METHODS, joint_compare, joint_score_sentences
from birnn_decode.objective import Objective
from birnn_decode.result import DecodeResult, Hypothesis
from birnn_decode.template import Gap, Template

OF_PAIR = ("joint", "log_prob_forward", "log_prob_backward", "token_log_probs_forward", "token_log_probs_backward")
OF_JOINT = ("pseudo_log_prob", "token_conditionals")


@dataclass(frozen=True)
class Question:
    """A sentence with a blank, or a whole caption to write.

    Attributes:
        image: as the models take it.
        source: the image's names and captions, the references.
        template: a caption with its only blank; None: the whole caption.
        truths: the ids of the sentences that are right: the caption that the blank was made in, or all of the image's.
        words: those of the caption that the blank was made in, the vocabulary's or not; none for a whole caption.
    """

    image: Any
    source: CaptionedImage
    template: Template | None
    truths: tuple[tuple[int, ...], ...]
    words: tuple[str, ...] = ()

    @property
    def blank(self) -> slice:
        """Where the missing words are in ``words``, and in the only one of ``truths``."""
        assert self.template is not None
        before = next(number for number, part in enumerate(self.template.parts) if not isinstance(part, int))
        behind = len(self.template.parts) - before - 1
        return slice(before, len(self.truths[0]) - behind)

    def text(self, found: Hypothesis | None) -> str:
        """An answer in words; "" is none. Around a blank stand the caption's own words, not UNK for some of them."""
        if found is None or found.text is None:
            return ""
        if self.template is None:
            return found.text
        blank = self.blank
        filled = found.text.split()[blank.start : blank.start + len(found.blanks[0])]
        return " ".join([*self.words[: blank.start], *filled, *self.words[blank.stop :]])


def blank_questions(
    images: Sequence[CaptionedImage],
    inputs: Mapping[str, Any],
    vocabulary: WordVocabulary,
    fraction: float,
    *,
    min_words: int = 1,
    widths: tuple[int, int] | None = None,
) -> tuple[list[Question], Counter[str]]:
    """One question for every caption: its middle is missing (see `middle_blank`).

    Words that the vocabulary lacks are UNK, outside of the blank. A caption with one inside is left out: UNK is never
    an answer, so nobody could be right.

    Args:
        images: whose captions.
        inputs: the image as the models take it, by its name; images that are not there are left out.
        vocabulary: the models'.
        fraction: of the words that are missing.
        min_words: shorter captions are left out.
        widths: the fewest and the most words that the blank may be taken to have; None: the width is told.

    Returns:
        the questions, and what was left out: in words, and of how many captions.
    """
    questions = []
    left_out: Counter[str] = Counter()
    for image in _with_inputs(images, inputs, left_out):
        for caption in image.captions:
            words = vocabulary.encode(caption, unknown=UNK)
            if len(words) < max(min_words, 1):
                left_out[f"captions of fewer than {max(min_words, 1)} words"] += 1
                continue
            template = middle_blank(words, fraction)
            ((begin, end),) = template.fixed()[0].runs
            if UNK in words[begin:end]:
                left_out["captions with a word in the blank that the vocabulary lacks"] += 1
                continue
            if widths is not None:
                template = Template((*words[:begin], Gap(*widths), *words[end:]))
            written = tuple(words_of(caption))
            questions.append(Question(inputs[image.name], image, template, (tuple(words),), written))
    return questions, left_out


def caption_questions(
    images: Sequence[CaptionedImage], inputs: Mapping[str, Any], vocabulary: WordVocabulary
) -> tuple[list[Question], Counter[str]]:
    """One question for every image: its whole caption; arguments and results as `blank_questions`'s.

    An image whose captions have no word is left out.
    """
    questions = []
    left_out: Counter[str] = Counter()
    for image in _with_inputs(images, inputs, left_out):
        truths = [tuple(vocabulary.encode(caption, unknown=UNK)) for caption in image.captions]
        if any(truths):
            questions.append(Question(inputs[image.name], image, None, tuple(filter(None, truths))))
        else:
            left_out["images whose captions have no word"] += 1
    return questions, left_out


def _with_inputs(
    images: Sequence[CaptionedImage], inputs: Mapping[str, Any], left_out: Counter[str]
) -> Iterator[CaptionedImage]:
    """The images that there is an input for; the captions of the others are counted."""
    for image in images:
        if image.name in inputs:
            yield image
        else:
            left_out["captions of images without features"] += len(image.captions)


def ask(
    model_f: Any,
    model_b: Any,
    questions: Sequence[Question],
    *,
    methods: Sequence[str] = COMPARED,
    joint: Any = None,
    beam_size: int = 5,
    max_rounds: int = 10,
    objective: Objective = Objective(),
    max_rows: int = MAX_ROWS,
    constraints: Constraints = (),
    diversity: Diversity | None = None,
    batch_size: int = 64,
) -> Iterator[list[dict[str, DecodeResult]]]:
    """Put the questions to every method.

    Args:
        model_f: the forward model; None where no method asks it.
        model_b: the backward model; None likewise.
        questions: what is asked.
        methods: who is asked; see `birnn_decode.compare` and `birnn_decode.joint_compare`.
        joint: a model with one softmax over both sides, for the latter's methods. Where there is a pair as well, the
            best answer of every method has both the pair's J and this model's pseudo-log-likelihood.
        beam_size: B.
        max_rounds: of BSCD.
        objective: what a finished sentence is worth.
        max_rows: of the exact search, for each question.
        constraints: what the words in the blanks must be like; see `birnn_decode.bscd_decode`.
        diversity: hypotheses that differ from each other; likewise.
        batch_size: questions decoded at a time.

    Yields:
        after each batch its results: for each question, method name to result; nothing for a question that no sentence
        could answer and satisfy the constraints.
    """
    settings: Any = {
        "beam_size": beam_size,
        "max_rounds": max_rounds,
        "objective": objective,
        "constraints": constraints,
        "diversity": diversity,
    }
    of_pair = [method for method in methods if method not in JOINT_METHODS]
    of_joint = [method for method in methods if method in JOINT_METHODS]

    def answers(some: Sequence[Question]) -> list[dict[str, DecodeResult]]:
        given: Any = ([question.image for question in some], [question.template for question in some])
        found: list[dict[str, DecodeResult]] = [{} for _ in some]
        if of_pair:
            found = compare(model_f, model_b, *given, methods=of_pair, max_rows=max_rows, **settings)
        if of_joint:
            more = joint_compare(joint, *given, methods=of_joint, **settings)
            found = [own | others for own, others in zip(found, more, strict=True)]
        if joint is not None and model_f is not None:
            found = with_both_scores(model_f, model_b, joint, given[0], found)
        return [{method: own[method] for method in methods} for own in found]

    for begin in range(0, len(questions), batch_size):
        some = list(questions[begin : begin + batch_size])
        found: dict[int, dict[str, DecodeResult]] = {}
        asked = list(range(len(some)))
        while asked and not found:
            try:
                found = dict(zip(asked, answers([some[number] for number in asked]), strict=True))
            except ClashError as error:
                del asked[error.item]
        yield [found.get(number, {}) for number in range(len(some))]


def with_both_scores(
    model_f: Any,
    model_b: Any,
    joint: Any,
    images: Sequence[Any],
    found: Sequence[Mapping[str, DecodeResult]],
    top: int = 1,
) -> list[dict[str, DecodeResult]]:
    """What a pair and a model with one softmax over both sides have found, each hypothesis scored by all of them.

    Args:
        model_f: the pair's forward model.
        model_b: the pair's backward model.
        joint: the other model.
        images: for each item its image.
        found: for each item, method name to result.
        top: how many hypotheses of each result are completed.

    Returns:
        the same results, with J, the pseudo-log-likelihood and the terms of both, in nats, in the first hypotheses of
        each. What they are ranked by stays, and the rows of this scoring are not counted.
    """
    words: list[list[tuple[int, ...]]] = []
    for own in found:
        some = (one.tokens for result in own.values() for one in result.hypotheses[:top])
        words.append(list(dict.fromkeys(some)))
    by_pair = score_sentences(model_f, model_b, list(images), words)
    by_joint = joint_score_sentences(joint, list(images), words)
    both = []
    for own, *scored in zip(found, by_pair, by_joint, strict=True):
        known = {
            of_pair.tokens: {
                **{name: getattr(of_pair, name) for name in OF_PAIR},
                **{name: getattr(of_joint, name) for name in OF_JOINT},
            }
            for of_pair, of_joint in zip(*scored, strict=True)
        }
        completed = {}
        for method, result in own.items():
            first = [replace(one, **known[one.tokens]) for one in result.hypotheses[:top]]
            completed[method] = replace(result, hypotheses=(*first, *result.hypotheses[top:]))
        both.append(completed)
    return both
