"""Fill-in-the-blank and whole captions: the questions that every method answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from birnn_decode.captions.blanks import middle_blank
from birnn_decode.captions.datasets import CaptionedImage
from birnn_decode.captions.vocabulary import UNK, WordVocabulary, words_of
from birnn_decode.result import Hypothesis
from birnn_decode.template import Gap, Template


@dataclass(frozen=True)
class Question:
    """A sentence with a blank, or a whole caption to write.

    Attributes:
        image: the source, as the models take it.
        source: the image's names and captions, the references.
        template: a caption with one blank; None for a whole caption.
        truths: the ids of the right sentences: the caption that the blank was made in, or all captions of the image.
        words: the words of the caption that the blank was made in, known to the vocabulary or not; empty for a whole
            caption.

    Example:
        >>> from birnn_decode import Template
        >>> from birnn_decode.captions import CaptionedImage
        >>> from birnn_decode.evaluation import Question
        >>> source = CaptionedImage("0.png", 0, "test", ("a red circle",))
        >>> question = Question(None, source, Template.blank([4], 1, [6]), ((4, 5, 6),), ("a", "red", "circle"))
        >>> question.words[question.blank]
        ('red',)
    """

    image: Any
    source: CaptionedImage
    template: Template | None
    truths: tuple[tuple[int, ...], ...]
    words: tuple[str, ...] = ()

    @property
    def blank(self) -> slice:
        """The place of the missing words in ``words``, and in the only one of ``truths``."""
        assert self.template is not None
        before = next(number for number, part in enumerate(self.template.parts) if not isinstance(part, int))
        return slice(before, len(self.truths[0]) - (len(self.template.parts) - before - 1))

    def text(self, found: Hypothesis | None) -> str:
        """Return an answer in words; "" for no answer.

        The words around a blank are the caption's own, never UNK.

        Args:
            found: the best hypothesis; None if there is none.

        Returns:
            the sentence.
        """
        if found is None or found.text is None:
            return ""
        if self.template is None:
            return found.text
        begin, end = self.blank.start, self.blank.stop
        filled = found.text.split()[begin : begin + len(found.blanks[0])]
        return " ".join([*self.words[:begin], *filled, *self.words[end:]])


def blank_questions(
    images: Sequence[CaptionedImage],
    inputs: Mapping[str, Any],
    vocabulary: WordVocabulary,
    fraction: float,
    *,
    min_words: int = 1,
    widths: tuple[int, int] | None = None,
) -> tuple[list[Question], Counter[str]]:
    """Make one question of every caption: its middle is missing (see `middle_blank`).

    Unknown words outside the blank are UNK. A caption with an unknown word inside the blank is left out: UNK is never
    an answer, so no method could be right.

    Args:
        images: the images with their captions.
        inputs: the sources as the models take them, by the images' names. Other images are left out.
        vocabulary: the vocabulary of the models.
        fraction: the share of the words that are missing.
        min_words: shorter captions are left out (default: 1).
        widths: the fewest and the most words that the blank may have (default: None, the width is given).

    Returns:
        the questions; and for each reason to leave captions out, their number.

    Example:
        >>> from birnn_decode.captions import CaptionedImage
        >>> from birnn_decode.evaluation import blank_questions
        >>> from birnn_decode.models import default_pair
        >>> image = CaptionedImage("0.png", 0, "test", ("a small green circle",))
        >>> questions, left_out = blank_questions([image], {"0.png": None}, default_pair().forward.vocabulary, 0.5)
        >>> questions[0].words[questions[0].blank]
        ('small', 'green')
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
            questions.append(Question(inputs[image.name], image, template, (tuple(words),), tuple(words_of(caption))))
    return questions, left_out


def caption_questions(
    images: Sequence[CaptionedImage], inputs: Mapping[str, Any], vocabulary: WordVocabulary
) -> tuple[list[Question], Counter[str]]:
    """Make one question of every image: its whole caption.

    An image whose captions have no word is left out.

    Args:
        images: the images with their captions.
        inputs: the sources as the models take them, by the images' names. Other images are left out.
        vocabulary: the vocabulary of the models.

    Returns:
        the questions; and for each reason to leave captions out, their number.

    Example:
        >>> from birnn_decode.captions import CaptionedImage
        >>> from birnn_decode.evaluation import caption_questions
        >>> from birnn_decode.models import default_pair
        >>> image = CaptionedImage("0.png", 0, "test", ("a green circle", "a circle"))
        >>> questions, left_out = caption_questions([image], {"0.png": None}, default_pair().forward.vocabulary)
        >>> len(questions), len(questions[0].truths)
        (1, 2)
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
    """Yield the images with an input, and count the captions of the others."""
    for image in images:
        if image.name in inputs:
            yield image
        else:
            left_out["captions of images without features"] += len(image.captions)
