"""Fill-in-the-blank and whole sentences: the questions that every method answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from birnn_decode.captions.blanks import middle_blank
from birnn_decode.captions.datasets import CaptionedImage
from birnn_decode.result import Hypothesis
from birnn_decode.template import Gap, Template
from birnn_decode.vocabularies import UNK


@dataclass(frozen=True)
class Question:
    """A sentence with a blank, or a whole caption to write.

    Attributes:
        image: the source, as the models take it.
        source: the name of the image or of the line, and its sentences, the references.
        template: a sentence with one blank; None for a whole sentence.
        truths: the ids of the right sentences: the sentence that the blank was made in, or all sentences of the source.
        words: the tokens of the sentence that the blank was made in, known to the vocabulary or not; empty for a whole
            sentence.
        vocabulary: the vocabulary of the models, one of ``birnn_decode.vocabularies``. Without one there are no texts
            (default: None).

    Example:
        >>> from birnn_decode import Template
        >>> from birnn_decode.captions import CaptionedImage, WordVocabulary
        >>> from birnn_decode.evaluation import Question
        >>> source = CaptionedImage("0.png", 0, "test", ("a red circle",))
        >>> template, vocabulary = Template.blank([4], 1, [6]), WordVocabulary(["a", "red", "circle"])
        >>> question = Question(None, source, template, ((4, 5, 6),), ("a", "red", "circle"), vocabulary)
        >>> question.words[question.blank]
        ('red',)
        >>> question.truth
        'a red circle'
    """

    image: Any
    source: CaptionedImage
    template: Template | None
    truths: tuple[tuple[int, ...], ...]
    words: tuple[str, ...] = ()
    vocabulary: Any = None

    @property
    def truth(self) -> str:
        """The sentence that the blank was made in; "" for a whole sentence."""
        return self.vocabulary.join(self.words) if self.words and self.vocabulary else ""

    @property
    def blank(self) -> slice:
        """The place of the missing words in ``words``, and in the only one of ``truths``."""
        assert self.template is not None
        before = next(number for number, part in enumerate(self.template.parts) if not isinstance(part, int))
        return slice(before, len(self.truths[0]) - (len(self.template.parts) - before - 1))

    def text(self, found: Hypothesis | None) -> str:
        """Return an answer as text; "" for no answer.

        The tokens around a blank are the sentence's own. They are not UNK, except in subwords, where UNK does not say
        which text it stands for.

        Args:
            found: the best hypothesis; None if there is none.

        Returns:
            the sentence.
        """
        if found is None or found.text is None:
            return ""
        if self.template is None or self.vocabulary is None:
            return found.text
        filled = [self.vocabulary.words[token] for token in found.blanks[0]]
        return self.vocabulary.join([*self.words[: self.blank.start], *filled, *self.words[self.blank.stop :]])


def blank_questions(
    images: Sequence[CaptionedImage],
    inputs: Mapping[str, Any],
    vocabulary: Any,
    fraction: float,
    *,
    min_words: int = 1,
    widths: tuple[int, int] | None = None,
) -> tuple[list[Question], Counter[str]]:
    """Make one question of every sentence: its middle is missing (see `middle_blank`).

    Words are the tokens of the vocabulary: they are characters if the vocabulary is one of characters. Unknown words
    outside the blank are UNK. A sentence with an unknown word inside the blank is left out: UNK is never an answer, so
    no method could be right.

    Args:
        images: the images with their captions, or each line of a file as a caption.
        inputs: the sources as the models take them, by the images' names. Other images are left out.
        vocabulary: the vocabulary of the models, one of ``birnn_decode.vocabularies``.
        fraction: the share of the words that are missing.
        min_words: shorter sentences are left out (default: 1).
        widths: the fewest and the most words that the blank may have (default: None, the width is given).

    Returns:
        the questions; and for each reason to leave sentences out, their number.

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
    word = unit_of(vocabulary)
    for image in _with_inputs(images, inputs, left_out):
        for caption in image.captions:
            words = vocabulary.encode(caption, unknown=UNK)
            if len(words) < max(min_words, 1):
                left_out[f"sentences of fewer than {max(min_words, 1)} {word}s"] += 1
                continue
            template = middle_blank(words, fraction)
            ((begin, end),) = template.fixed()[0].runs
            if UNK in words[begin:end]:
                left_out[f"sentences with a {word} in the blank that the vocabulary lacks"] += 1
                continue
            if widths is not None:
                template = Template((*words[:begin], Gap(*widths), *words[end:]))
            own = tuple(vocabulary.split(caption))
            questions.append(Question(inputs[image.name], image, template, (tuple(words),), own, vocabulary))
    return questions, left_out


def caption_questions(
    images: Sequence[CaptionedImage], inputs: Mapping[str, Any], vocabulary: Any
) -> tuple[list[Question], Counter[str]]:
    """Make one question of every source: a whole sentence about it.

    A source whose sentences have no word is left out.

    Args:
        images: the images with their captions, or each line of a file as a caption.
        inputs: the sources as the models take them, by the images' names. Other images are left out.
        vocabulary: the vocabulary of the models, one of ``birnn_decode.vocabularies``.

    Returns:
        the questions; and for each reason to leave sentences out, their number.

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
            known = tuple(filter(None, truths))
            questions.append(Question(inputs[image.name], image, None, known, vocabulary=vocabulary))
        else:
            left_out[f"sources whose sentences have no {unit_of(vocabulary)}"] += 1
    return questions, left_out


def unit_of(vocabulary: Any) -> str:
    """Return what messages call a token of a vocabulary."""
    return "character" if vocabulary.exact else "word"


def _with_inputs(
    images: Sequence[CaptionedImage], inputs: Mapping[str, Any], left_out: Counter[str]
) -> Iterator[CaptionedImage]:
    """Yield the images with an input, and count the captions of the others."""
    for image in images:
        if image.name in inputs:
            yield image
        else:
            left_out["captions of images without features"] += len(image.captions)
