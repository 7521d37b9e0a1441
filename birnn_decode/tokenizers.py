"""Hugging Face tokenizers as vocabularies: pieces of a template to the ids that they have in running text, and back."""

from __future__ import annotations

import unicodedata
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

# What may stand beside a piece of text, so that it is encoded as in running text. Which of them a tokenizer leaves
# alone depends on the piece: "a" in front of "s" is a word of its own, "1" is not.
ANCHORS = ("a", "1", ".", "x", "the", "0")
TOKENIZER_MEMBERS = ("convert_ids_to_tokens", "all_special_ids", "encode", "decode")


@dataclass(frozen=True)
class WordClasses:
    """Which ids words are made of, white space aside. A token of punctuation and a special one are in none of the sets.

    Attributes:
        begin: ids that begin a word: white space, then a letter or a digit among what follows.
        go_on: ids that continue a word: letters and digits only.
        open: ids that begin the first word of a sentence, which needs no white space in front.
    """

    begin: frozenset[int]
    go_on: frozenset[int]
    open: frozenset[int]


# Finding the classes takes a decode of every id. They hold no reference to their tokenizer, so that it can go.
_classes_of: weakref.WeakKeyDictionary[Any, tuple[int, WordClasses]] = weakref.WeakKeyDictionary()


class TokenizerVocabulary:
    """A Hugging Face tokenizer as a vocabulary.

    Args:
        tokenizer: anything with ``convert_ids_to_tokens``, ``all_special_ids``, ``encode`` and ``decode``, such as a
            ``transformers.PreTrainedTokenizerFast``.

    Attributes:
        tokenizer: the same.
    """

    def __init__(self, tokenizer: Any):
        self.tokenizer = tokenizer

    def __len__(self) -> int:
        return len(self.words)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TokenizerVocabulary):
            return NotImplemented
        return self.tokenizer is other.tokenizer or self.words == other.words

    def __hash__(self) -> int:
        return hash(self.words)

    def __repr__(self) -> str:
        return f"{type(self.tokenizer).__name__} of {len(self)} ids"

    @cached_property
    def words(self) -> tuple[str, ...]:
        """Every token at its id, as the tokenizer spells it ("Ġgirl", "##ing"); "" at an id that it leaves out."""
        size = max(len(self.tokenizer), 1 + max(self.tokenizer.get_vocab().values(), default=-1))
        return tuple(token or "" for token in self.tokenizer.convert_ids_to_tokens(list(range(size))))

    @property
    def special_ids(self) -> frozenset[int]:
        """Ids of the special tokens: padding, the beginning and the end of a text, and the like."""
        return frozenset(self.tokenizer.all_special_ids)

    def encode(self, text: str) -> list[int]:
        """The ids of a text, no special token added.

        Raises:
            ValueError: the tokenizer has no token for something in it.
        """
        ids = self._ids(text)
        self._check_all_known(text, ids)
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, special ones included."""
        return self._texts([ids])[0]

    def encode_pieces(self, pieces: Sequence[str]) -> list[list[int]]:
        """The ids that pieces of a text have in it, whatever stands in the blanks between them.

        White space behind a blank belongs to the piece that it begins. White space before a blank belongs to the blank
        where the tokenizer makes it a part of the next token, as most do, and to the piece where it stands alone.

        Args:
            pieces: what stands before, between and behind the blanks; "" where nothing does. The first begins the text
                and the last ends it.

        Raises:
            ValueError: the tokenizer has no token for something in them.
        """
        last = len(pieces) - 1
        encoded = []
        for number, piece in enumerate(pieces):
            ids = self._piece(piece, behind=number > 0, before=number < last) if piece else []
            self._check_all_known(piece, ids)
            encoded.append(ids)
        return encoded

    def keeps_space(self, before: str, after: str) -> bool:
        """Whether white space between two texts makes a difference to the tokenizer."""
        one, two = before.split()[-1:], after.split()[:1]
        return self._ids("".join(one + two)) != self._ids(" ".join(one + two))

    def decode_behind(self, ids: Sequence[int]) -> str:
        """The text of ids that stand behind other text: white space at its beginning is not lost."""
        head = self._anchors[0][1] if self._anchors else []
        text, shown = self._texts([[*head, *ids], head])
        return text[len(shown) :] if text.startswith(shown) else self.decode(ids)

    def word_classes(self) -> WordClasses:
        """Which ids words are made of; found by decoding every id, once per tokenizer.

        Raises:
            ValueError: none begins a word, as with tokenizers of bytes or characters.
        """
        classes = self._classes
        if not classes.begin:
            raise ValueError(
                f"the tokenizer ({self!r}) has no token that begins a word, as white space is a token of its own: a "
                "template for it cannot count words; count tokens, as in {4-12}"
            )
        return classes

    @cached_property
    def _classes(self) -> WordClasses:
        size = len(self.words)
        try:
            known = _classes_of.get(self.tokenizer)
            if known is None or known[0] != size:  # tokens may have been added
                known = _classes_of[self.tokenizer] = (size, self._found_classes())
        except TypeError:  # a tokenizer that cannot be hashed, or not be referred to weakly
            return self._found_classes()
        return known[1]

    def _found_classes(self) -> WordClasses:
        if not self._anchors:
            return WordClasses(frozenset(), frozenset(), frozenset())
        _, head = self._anchors[0]
        ids = sorted(frozenset(range(len(self.words))) - self.special_ids)
        (shown,) = self._texts([head])
        begin, go_on, opens = set(), set(), set()
        alone = self._texts([[token] for token in ids])
        for token, text, first in zip(ids, self._texts([[*head, token] for token in ids]), alone, strict=True):
            if not text.startswith(shown):
                continue
            rest = text[len(shown) :]
            word = rest.lstrip()
            if not any(map(str.isalnum, word)) or any(map(str.isspace, word)):
                continue
            if word != rest:
                begin.add(token)
            elif all(map(_of_words, word)):
                go_on.add(token)
            else:
                continue
            if first.lstrip() == word:  # "##ing" shows its marks where it stands alone: it begins no sentence
                opens.add(token)
        return WordClasses(frozenset(begin), frozenset(go_on), frozenset(opens))

    @cached_property
    def _anchors(self) -> list[tuple[str, list[int]]]:
        """The anchors that the tokenizer knows, each with its ids."""
        encoded = [(anchor, self._ids(anchor)) for anchor in ANCHORS]
        return [(anchor, ids) for anchor, ids in encoded if ids and self._unknown_id not in ids]

    @property
    def _unknown_id(self) -> int | None:
        return getattr(self.tokenizer, "unk_token_id", None)

    def _piece(self, piece: str, behind: bool, before: bool) -> list[int]:
        """The ids of a piece that stands behind a blank, before one, both, or neither."""
        for anchor, head in self._anchors if behind else [("", [])]:
            ids = self._up_to_blank(anchor, piece) if before else self._ids(anchor + piece)
            if ids[: len(head)] == head:
                return ids[len(head) :]
        return self._up_to_blank("", piece) if before else self._ids(piece)

    def _up_to_blank(self, anchor: str, piece: str) -> list[int]:
        """The ids of an anchor and a piece, less white space that goes to the token behind the piece."""
        shortest = len(piece.rstrip())
        for end in range(len(piece), shortest, -1):
            ids = self._ids(anchor + piece[:end])
            goes_on = [self._ids(anchor + piece + word) for word, _ in self._anchors]
            if goes_on and all(longer[: len(ids)] == ids for longer in goes_on):
                return ids
        return self._ids(anchor + piece[:shortest])

    def _check_all_known(self, text: str, ids: Sequence[int]) -> None:
        """Check that nothing of a text was lost; some tokenizers drop what they do not know."""
        words = text.split()
        lost = [word for word in words if any(map(str.isalnum, word)) and not self._ids(word)]
        if self._unknown_id in ids and self._unknown_id is not None:
            unknown = (word for word in words if self._unknown_id in self._ids(word))
            lost.append(next(unknown, text.strip()))
        if lost:
            raise ValueError(
                f"the tokenizer has no token for {lost[0]!r}, in {text!r}: leave a blank there, or write it otherwise"
            )

    def _ids(self, text: str) -> list[int]:
        return [int(token) for token in self.tokenizer.encode(text, add_special_tokens=False)] if text else []

    def _texts(self, sequences: Iterable[Sequence[int]]) -> list[str]:
        options = {"skip_special_tokens": False, "clean_up_tokenization_spaces": False}
        given = [[int(token) for token in ids] for ids in sequences]
        if len(given) > 1 and hasattr(self.tokenizer, "batch_decode"):
            return list(self.tokenizer.batch_decode(given, **options))
        return [self.tokenizer.decode(ids, **options) for ids in given]


def as_vocabulary(given: Any) -> Any:
    """What a caller gives as a vocabulary: a Hugging Face tokenizer is wrapped, everything else is left as it is.

    Raises:
        TypeError: a ``tokenizers.Tokenizer``, whose ids have no wrapper around them that tells special ones.
    """
    if isinstance(given, TokenizerVocabulary):
        return given
    if all(hasattr(given, member) for member in TOKENIZER_MEMBERS):
        return TokenizerVocabulary(given)
    if hasattr(given, "id_to_token") and hasattr(given, "encode_batch"):
        raise TypeError(
            f"the vocabulary is a bare {type(given).__module__}.{type(given).__name__}; wrap it: "
            "transformers.PreTrainedTokenizerFast(tokenizer_object=…, unk_token=…)"
        )
    return given


def no_words(vocabulary: Any, vocab_size: int) -> frozenset[int]:
    """The ids below ``vocab_size`` that a tokenizer calls special or lacks; of other vocabularies, none is known.

    A table of embeddings is often longer than the tokenizer's list, to be a multiple of something.
    """
    if not isinstance(vocabulary, TokenizerVocabulary):
        return frozenset()
    special = {token for token in vocabulary.special_ids if token < vocab_size}
    return frozenset(special.union(range(len(vocabulary), vocab_size)))


def _of_words(character: str) -> bool:
    """Whether it is a letter, a digit, or a mark on a letter."""
    return character.isalnum() or unicodedata.category(character).startswith("M")
