"""Use Hugging Face tokenizers as vocabularies: the pieces of a template get the ids that they have in running text."""

from __future__ import annotations

import itertools
import unicodedata
import weakref
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

# Texts to put beside a piece, so that the piece is encoded as in running text. An anchor helps only if the tokenizer
# does not join it with the piece. That depends on the piece: "a" and "s" become one token "as", "1" and "s" do not.
ANCHORS = ("a", "1", ".", "x", "the", "0")
MOST_OWN_ANCHORS = 40
TOKENIZER_MEMBERS = ("convert_ids_to_tokens", "all_special_ids", "encode", "decode")


@dataclass(frozen=True)
class WordClasses:
    """The ids that words consist of.

    Punctuation and special tokens are in none of the three sets.

    Attributes:
        begin: ids that begin a word: white space, then text with a letter or a digit.
        go_on: ids that continue a word: letters and digits only.
        open: ids that can begin the first word of a sentence, which needs no white space before it.
    """

    begin: frozenset[int]
    go_on: frozenset[int]
    open: frozenset[int]


# Finding the classes means decoding every id, so they are kept, by the number of ids. The tokenizers are referred to
# weakly, so that they can be deleted.
_classes_of: weakref.WeakKeyDictionary[Any, dict[int, WordClasses]] = weakref.WeakKeyDictionary()


@dataclass(eq=False, repr=False)
class TokenizerVocabulary:
    """A Hugging Face tokenizer as a vocabulary.

    Args:
        tokenizer: an object with ``convert_ids_to_tokens``, ``all_special_ids``, ``encode`` and ``decode``, such as a
            ``transformers.PreTrainedTokenizerFast``.

    Attributes:
        tokenizer: the tokenizer that was given.
    """

    tokenizer: Any

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
        """Every token at its id, as the tokenizer spells it ("Ġgirl", "##ing").

        The text is "" at an id without a token.
        """
        size = max(len(self.tokenizer), 1 + max(self.tokenizer.get_vocab().values(), default=-1))
        return tuple(token or "" for token in self.tokenizer.convert_ids_to_tokens(list(range(size))))

    @property
    def special_ids(self) -> frozenset[int]:
        """Ids of the special tokens, such as padding and the begin and the end of a text."""
        return frozenset(self.tokenizer.all_special_ids)

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, without special tokens.

        Args:
            text: the text.

        Returns:
            The ids.

        Raises:
            ValueError: the tokenizer has no token for a part of the text.
        """
        return self._checked(text, self._ids(text))

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids.

        Args:
            ids: the ids; special ones are shown as well.

        Returns:
            The text.
        """
        return self._texts([ids])[0]

    def encode_pieces(self, pieces: Sequence[str]) -> list[list[int]]:
        """Return the ids of the pieces of a text that has blanks between them.

        The ids do not depend on what fills the blanks. White space after a blank belongs to the next piece. White space
        before a blank belongs to the blank if the tokenizer makes it a part of the next token, as most do; otherwise
        it belongs to the piece before the blank.

        Args:
            pieces: the texts before, between and after the blanks; "" if there is no text. The first piece begins the
                text and the last one ends it.

        Returns:
            The ids of each piece.

        Raises:
            ValueError: the tokenizer has no token for a part of a piece.
        """
        return [
            self._checked(piece, self._piece(piece, behind=number > 0, before=number < len(pieces) - 1))
            for number, piece in enumerate(pieces)
        ]

    def keeps_space(self, before: str, after: str) -> bool:
        """Return whether white space between two texts changes the ids.

        Args:
            before: the text before the white space.
            after: the text after it.

        Returns:
            True if the ids differ with and without a space.
        """
        one, two = before.split()[-1:], after.split()[:1]
        return self._ids("".join(one + two)) != self._ids(" ".join(one + two))

    def decode_behind(self, ids: Sequence[int]) -> str:
        """Return the text of ids that follow other text.

        White space at its beginning is kept.

        Args:
            ids: the ids.

        Returns:
            The text.
        """
        head = self._anchors[0][1] if self._anchors else []
        text, shown = self._texts([[*head, *ids], head])
        return text[len(shown) :] if text.startswith(shown) else self.decode(ids)

    def word_classes(self) -> WordClasses:
        """Return the ids that words consist of.

        They are found by decoding every id, once per tokenizer.

        Returns:
            The three sets of ids.

        Raises:
            ValueError: no id begins a word, as with tokenizers of bytes or characters.
        """
        if not self._classes.begin:
            raise ValueError(
                f"the tokenizer ({self!r}) has no token that begins a word, because white space is a separate token: a "
                "template cannot count words; count tokens, as in {4-12}"
            )
        return self._classes

    @cached_property
    def _classes(self) -> WordClasses:
        size = len(self.words)
        try:
            known = _classes_of.setdefault(self.tokenizer, {})
        except TypeError:  # the tokenizer cannot be hashed, or cannot be referred to weakly
            known = {}
        if size not in known:  # tokens may have been added
            known[size] = self._found_classes()
        return known[size]

    def _found_classes(self) -> WordClasses:
        """Find the classes by decoding every id after other text."""
        if not self._anchors:
            return WordClasses(frozenset(), frozenset(), frozenset())
        _, head = self._anchors[0]
        ids = sorted(frozenset(range(len(self.words))) - self.special_ids)
        (shown,) = self._texts([head])
        begin, go_on, opens = set(), set(), set()
        alone = self._texts([[token] for token in ids])
        for token, text, first in zip(ids, self._texts([[*head, token] for token in ids]), alone, strict=True):
            rest = text[len(shown) :]
            word = rest.lstrip()
            if not text.startswith(shown) or not any(map(str.isalnum, word)) or any(map(str.isspace, word)):
                continue
            if word != rest:
                begin.add(token)
            elif all(map(_of_words, word)):
                go_on.add(token)
            else:
                continue
            if first.lstrip() == word:  # alone, "##ing" is decoded with its marks: it does not begin a sentence
                opens.add(token)
        return WordClasses(frozenset(begin), frozenset(go_on), frozenset(opens))

    @cached_property
    def _anchors(self) -> list[tuple[str, list[int]]]:
        """The anchors for which the tokenizer has tokens, each with its ids."""
        return self._known(ANCHORS) or self._own_anchors

    @cached_property
    def _own_anchors(self) -> list[tuple[str, list[int]]]:
        """Tokens of letters and digits as anchors, for a tokenizer of proteins, say."""
        own = filter(str.isalnum, self.words)
        return self._known(itertools.islice(own, MOST_OWN_ANCHORS))

    def _heads(self) -> Iterator[tuple[str, list[int]]]:
        """The anchors, then those that are looked for only if the tokenizer joins each anchor with the piece."""
        yield from self._anchors
        yield from self._own_anchors

    def _known(self, anchors: Iterable[str]) -> list[tuple[str, list[int]]]:
        """The anchors for which the tokenizer has tokens, each with its ids."""
        encoded = [(anchor, self._ids(anchor)) for anchor in anchors]
        return [(anchor, ids) for anchor, ids in encoded if ids and self._unknown_id not in ids]

    @property
    def _unknown_id(self) -> int | None:
        return getattr(self.tokenizer, "unk_token_id", None)

    def _piece(self, piece: str, behind: bool, before: bool) -> list[int]:
        """The ids of a piece with a blank behind it, before it, on both sides, or on none."""
        for anchor, head in self._heads() if behind else [("", [])]:
            ids = self._up_to_blank(anchor, piece) if before else self._ids(anchor + piece)
            if ids[: len(head)] == head:
                return ids[len(head) :]
        return self._up_to_blank("", piece) if before else self._ids(piece)

    def _up_to_blank(self, anchor: str, piece: str) -> list[int]:
        """The ids of an anchor and a piece, without the white space that is a part of the token after the piece."""
        shortest = len(piece.rstrip())
        for end in range(len(piece), shortest, -1):
            ids = self._ids(anchor + piece[:end])
            goes_on = [self._ids(anchor + piece + word) for word, _ in self._anchors]
            if goes_on and all(longer[: len(ids)] == ids for longer in goes_on):
                return ids
        return self._ids(anchor + piece[:shortest])

    def _checked(self, text: str, ids: list[int]) -> list[int]:
        """The ids of a text, after a check that no part of it is lost: some tokenizers drop unknown text."""
        words = text.split()
        lost = [word for word in words if any(map(str.isalnum, word)) and not self._ids(word)]
        if self._unknown_id in ids:
            lost += [word for word in words if self._unknown_id in self._ids(word)] or [text.strip()]
        if lost:
            raise ValueError(
                f"the tokenizer has no token for {lost[0]!r}, in {text!r}: write a blank in its place, or other words"
            )
        return ids

    def _ids(self, text: str) -> list[int]:
        return [int(token) for token in self.tokenizer.encode(text, add_special_tokens=False)] if text else []

    def _texts(self, sequences: Iterable[Sequence[int]]) -> list[str]:
        options = {"skip_special_tokens": False, "clean_up_tokenization_spaces": False}
        given = [[int(token) for token in ids] for ids in sequences]
        if len(given) > 1 and hasattr(self.tokenizer, "batch_decode"):
            return list(self.tokenizer.batch_decode(given, **options))
        return [self.tokenizer.decode(ids, **options) for ids in given]


def as_vocabulary(given: Any) -> Any:
    """Wrap a Hugging Face tokenizer as a vocabulary; return anything else as it is.

    Raises:
        TypeError: the vocabulary is a bare ``tokenizers.Tokenizer``, which does not know its special ids.
    """
    if all(hasattr(given, member) for member in TOKENIZER_MEMBERS):
        return TokenizerVocabulary(given)
    if hasattr(given, "id_to_token") and hasattr(given, "encode_batch"):
        raise TypeError(
            f"the vocabulary is a bare {type(given).__module__}.{type(given).__name__}; wrap it: "
            "transformers.PreTrainedTokenizerFast(tokenizer_object=…, unk_token=…)"
        )
    return given


def ids_of_word(vocabulary: Any, word: str) -> tuple[list[int], list[int]]:
    """Return the ids of a word within a sentence, and its ids at the beginning of a sentence."""
    inside = first = list(vocabulary.encode(word))
    if isinstance(vocabulary, TokenizerVocabulary):
        inside = vocabulary.encode_pieces(["", f" {word.strip()} ", ""])[1]
        first = vocabulary.encode_pieces([f"{word.strip()} ", ""])[0]
    return inside, first


def no_words(vocabulary: Any, vocab_size: int) -> frozenset[int]:
    """The ids below ``vocab_size`` that are special or have no token.

    For a vocabulary that is not a tokenizer there are none. A table of embeddings is often longer than the tokenizer's
    list, because its size is rounded up.
    """
    if not isinstance(vocabulary, TokenizerVocabulary):
        return frozenset()
    return (vocabulary.special_ids | frozenset(range(len(vocabulary), vocab_size))) & frozenset(range(vocab_size))


def _of_words(character: str) -> bool:
    """Whether a character is a letter, a digit, or a mark on a letter."""
    return character.isalnum() or unicodedata.category(character).startswith("M")
