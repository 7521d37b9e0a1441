"""Vocabularies: how text becomes tokens, and which id each token has.

The first four ids of every vocabulary are special: PAD (0), START (1), END (2) and UNK (3), which stands for every
unknown token.
"""

from __future__ import annotations

import difflib
import json
import os
import unicodedata
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from birnn_decode.checks import check_choice
from birnn_decode.files import reading
from birnn_decode.tokenizers import TokenizerVocabulary

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = [
    "ByteVocabulary",
    "CharacterVocabulary",
    "Normalisation",
    "SpacedVocabulary",
    "SubwordVocabulary",
    "WordVocabulary",
    "vocabulary_of",
    "words_of",
]

PAD, START, END, UNK = 0, 1, 2, 3
SPECIAL = ("<pad>", "<start>", "<end>", "<unk>")
FORMS = ("NFC", "NFD", "NFKC", "NFKD")

Made = TypeVar("Made", bound="ListVocabulary")


@dataclass(frozen=True)
class Normalisation:
    """A change that a vocabulary makes to each text first.

    Args:
        lower_case: whether letters become lower-case (default: False).
        unicode_form: Unicode normal form: ``"NFC"``, ``"NFD"``, ``"NFKC"`` or ``"NFKD"`` (default: None, no change).

    Raises:
        ValueError: ``unicode_form`` is none of these.

    Example:
        >>> Normalisation(lower_case=True)("Ein Hund")
        'ein hund'
    """

    lower_case: bool = False
    unicode_form: str | None = None

    def __post_init__(self) -> None:
        if self.unicode_form is not None:
            check_choice("unicode_form", self.unicode_form, FORMS)

    def __call__(self, text: str) -> str:
        """Return the normalised text.

        Args:
            text: the text.
        """
        text = self._formed(text)
        return self._formed(text.lower()) if self.lower_case else text

    def _formed(self, text: str) -> str:
        return text if self.unicode_form is None else unicodedata.normalize(self.unicode_form, text)  # type: ignore[arg-type]


NOTHING = Normalisation()


class TextVocabulary(ABC):
    """Base of the vocabularies: text is split into tokens, and each token has an id.

    Attributes:
        words: every token at its id; the first four entries are the special ones.
        normalisation: the change that is made to each text first.
        exact: whether ``decode`` gives every text back as it was encoded, white space included.
    """

    kind: ClassVar[str]
    exact: ClassVar[bool] = False
    words: tuple[str, ...]
    normalisation: Normalisation

    def __len__(self) -> int:
        return len(self.words)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TextVocabulary) and self.config == other.config

    def __hash__(self) -> int:
        return hash(self.words)

    def __repr__(self) -> str:
        return f"{type(self).__name__} of {len(self)} ids"

    @property
    @abstractmethod
    def config(self) -> dict[str, Any]:
        """The kind and the settings as values for JSON, for `vocabulary_of`."""

    @abstractmethod
    def split(self, text: str) -> list[str]:
        """Return the tokens of a text, known to the vocabulary or not.

        Args:
            text: the text.
        """

    @abstractmethod
    def join(self, tokens: Sequence[str]) -> str:
        """Return the text of tokens.

        Args:
            tokens: tokens, known to the vocabulary or not.
        """

    def lacking(self, text: str) -> list[str]:
        """Return the tokens of a text that the vocabulary does not have.

        Args:
            text: the text.
        """
        return [token for token in self.split(text) if token not in self._id_of]

    def encode(self, text: str, *, unknown: int | None = None) -> list[int]:
        """Return the ids of the tokens of a text.

        Args:
            text: the text.
            unknown: id to use for a token that is not in the vocabulary, such as UNK. None: such a token is an error
                (default: None).

        Returns:
            One id per token.

        Raises:
            ValueError: a token is not in the vocabulary and ``unknown`` is None.
        """
        tokens, ids = self.split(text), self._id_of
        if unknown is not None:
            return [ids.get(token, unknown) for token in tokens]
        try:
            return [ids[token] for token in tokens]
        except KeyError as error:
            raise ValueError(f"the vocabulary lacks {self._shown(error.args[0])}") from None

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids.

        Args:
            ids: the ids, special ones included.
        """
        return self.join([self.words[token] for token in ids])

    @cached_property
    def _id_of(self) -> dict[str, int]:
        return {word: token for token, word in enumerate(self.words[len(SPECIAL) :], start=len(SPECIAL))}

    def _shown(self, token: str) -> str:
        """A token that the vocabulary lacks, for a message."""
        return f"{token!r} (it has {len(self) - len(SPECIAL)} tokens)"


class ListVocabulary(TextVocabulary):
    """Base of the vocabularies that are a list of tokens.

    Args:
        tokens: the tokens in the order of their ids, without the four special ones.
        normalisation: the change that is made to each text first (default: none).

    Raises:
        ValueError: a token is not one of this kind, or occurs twice.
    """

    separator: ClassVar[str]
    a_token: ClassVar[str]

    def __init__(self, tokens: Iterable[str], normalisation: Normalisation = NOTHING):
        tokens = tuple(tokens)
        self.words = (*SPECIAL, *tokens)
        self.normalisation = normalisation
        for token in tokens:
            if self._split(token) != [token]:
                raise ValueError(f"{token!r} is not {self.a_token}")
            if token in SPECIAL:
                raise ValueError(f"{token!r} is the name of a special token; leave it out")
        if len(self._id_of) != len(tokens):
            ((twice, _),) = Counter(tokens).most_common(1)
            raise ValueError(f"the vocabulary has {twice!r} twice; each token may occur once")

    @classmethod
    def from_counts(
        cls: type[Made], counts: Mapping[str, int], min_count: int = 1, normalisation: Normalisation = NOTHING
    ) -> Made:
        """Make a vocabulary of the tokens that occur often enough, in alphabetical order.

        A word such as ``<unk>``, the name of a special token, is left out, and thus unknown.

        Args:
            counts: how often each token occurs.
            min_count: number of times that a token must occur to be in the vocabulary (default: 1).
            normalisation: the change that is made to each text first (default: none).

        Returns:
            The vocabulary.
        """
        often = (token for token, times in counts.items() if times >= min_count and token not in SPECIAL)
        return cls(sorted(often), normalisation)

    @property
    def config(self) -> dict[str, Any]:
        """The kind and the settings as values for JSON, for `vocabulary_of`."""
        return {"kind": self.kind, "tokens": list(self.words[len(SPECIAL) :]), **asdict(self.normalisation)}

    def split(self, text: str) -> list[str]:
        """Return the tokens of a text, known to the vocabulary or not.

        Args:
            text: the text.
        """
        return self._split(self.normalisation(text))

    def join(self, tokens: Sequence[str]) -> str:
        """Return the text of tokens.

        Args:
            tokens: tokens, known to the vocabulary or not.
        """
        return self.separator.join(tokens)

    @staticmethod
    @abstractmethod
    def _split(text: str) -> list[str]:
        """Split a normalised text."""


def words_of(text: str) -> list[str]:
    """Split a caption into its words.

    The text is lower-cased and split at white space, and every character that is neither a letter nor a digit is
    removed. This is the rule of Karpathy and Fei-Fei (CVPR 2015, section 4).

    Args:
        text: the caption.

    Returns:
        The words, in order.

    Example:
        >>> words_of("A man's hat.")
        ['a', 'mans', 'hat']
    """
    words = ("".join(filter(str.isalnum, word)) for word in text.lower().split())
    return [word for word in words if word]


class WordVocabulary(ListVocabulary):
    """A vocabulary of the words of captions, as `words_of` finds them.

    The first four ids are special: PAD (0), START (1), END (2) and UNK (3), which stands for every unknown word.

    Args:
        tokens: the words in the order of their ids, without the four special ones.
        normalisation: the change that is made to each text first (default: none).

    Attributes:
        words: every word at its id; the first four entries are the special ones.

    Raises:
        ValueError: a word is not one that `words_of` returns, or a word occurs twice.

    Example:
        >>> vocabulary = WordVocabulary(["a", "cat", "sleeps"])
        >>> vocabulary.encode("A cat sleeps.")
        [4, 5, 6]
        >>> vocabulary.decode([4, 5])
        'a cat'
    """

    kind = "captions"
    separator = " "
    a_token = "a word: a word consists of lower-case letters and digits"

    @classmethod
    def from_captions(cls, captions: Iterable[str], min_count: int = 1) -> WordVocabulary:
        """Make a vocabulary of the words that occur in captions, in alphabetical order.

        Args:
            captions: the captions as text.
            min_count: number of times that a word must occur to be in the vocabulary (default: 1).

        Returns:
            The vocabulary.
        """
        return cls.from_counts(Counter(word for caption in captions for word in words_of(caption)), min_count)

    @staticmethod
    def _split(text: str) -> list[str]:
        return words_of(text)

    def _shown(self, token: str) -> str:
        near = ", ".join(difflib.get_close_matches(token, self.words[len(SPECIAL) :]))
        return f"{token!r}; near it: {near}" if near else f"{token!r} (it has {len(self) - len(SPECIAL)} words)"


class SpacedVocabulary(ListVocabulary):
    """A vocabulary of words that white space separates. Case and symbols are kept.

    Args:
        tokens: the words in the order of their ids, without the four special ones.
        normalisation: the change that is made to each text first (default: none).

    Raises:
        ValueError: a word is empty, has white space, or occurs twice.

    Example:
        >>> vocabulary = SpacedVocabulary(["Ein", "Hund", "schläft", "."])
        >>> vocabulary.encode("Ein Hund schläft .")
        [4, 5, 6, 7]
    """

    kind = "words"
    separator = " "
    a_token = "a word: a word is not empty and has no white space"

    @staticmethod
    def _split(text: str) -> list[str]:
        return text.split()

    _shown = WordVocabulary._shown


class CharacterVocabulary(ListVocabulary):
    """A vocabulary of characters. White space is a character, too.

    Args:
        tokens: the characters in the order of their ids, without the four special ones.
        normalisation: the change that is made to each text first (default: none).

    Raises:
        ValueError: a token is not a single character, or occurs twice.

    Example:
        >>> vocabulary = CharacterVocabulary("(=)COc1")
        >>> vocabulary.decode(vocabulary.encode("CC(=O)c1ccccc1"))
        'CC(=O)c1ccccc1'
    """

    kind = "characters"
    separator = ""
    exact = True
    a_token = "a single character"

    @staticmethod
    def _split(text: str) -> list[str]:
        return list(text)

    def _shown(self, token: str) -> str:
        return f"the character {token!r} (U+{ord(token):04X}; it has {len(self) - len(SPECIAL)} characters)"


class ByteVocabulary(TextVocabulary):
    """A vocabulary of the 256 bytes of text in UTF-8. It lacks no text.

    Args:
        normalisation: the change that is made to each text first (default: none).

    Example:
        >>> vocabulary = ByteVocabulary()
        >>> vocabulary.encode("é")
        [199, 173]
        >>> vocabulary.decode([199, 173])
        'é'
    """

    kind = "bytes"
    exact = True
    words = (*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)))

    def __init__(self, normalisation: Normalisation = NOTHING):
        self.normalisation = normalisation

    @property
    def config(self) -> dict[str, Any]:
        """The kind and the settings as values for JSON, for `vocabulary_of`."""
        return {"kind": self.kind, **asdict(self.normalisation)}

    def split(self, text: str) -> list[str]:
        """Return the bytes of a text, each as ``<0x41>``.

        Args:
            text: the text.
        """
        return [self.words[len(SPECIAL) + byte] for byte in self.normalisation(text).encode()]

    def join(self, tokens: Sequence[str]) -> str:
        """Return the text of bytes. Bytes that are not UTF-8 become U+FFFD.

        Args:
            tokens: bytes, each as ``<0x41>``, and special tokens.
        """
        known = self._id_of
        return b"".join(
            bytes([known[token] - len(SPECIAL)]) if token in known else token.encode() for token in tokens
        ).decode(errors="replace")


class _Shifted:
    """A ``tokenizers.Tokenizer`` as ``transformers`` has them, with our special ids before its own."""

    def __init__(self, tokenizer: Tokenizer):
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self.tokenizer = tokenizer
        self._encoder, unknown = _with_unknown(tokenizer)
        self._own = {text: len(SPECIAL) + token for text, token in tokenizer.get_vocab(with_added_tokens=True).items()}
        self._texts = {**dict(enumerate(SPECIAL)), **{token: text for text, token in self._own.items()}}
        ids = self._encoder.get_vocab(with_added_tokens=True).items()
        self._id_of = {token: UNK if text == unknown else self._own[text] for text, token in ids}
        self.unk_token_id = UNK
        ends = self._encoder.encode("")  # the tokens that it puts around every text: special, whether it says so or not
        special = {token for token, text in tokenizer.get_added_tokens_decoder().items() if text.special}
        special |= {token for token, mark in zip(ends.ids, ends.special_tokens_mask, strict=True) if mark}
        self.all_special_ids = sorted(
            {*range(len(SPECIAL)), *(len(SPECIAL) + token for token in special), self._own.get(unknown, UNK)}
            | {token for token in range(len(self)) if token not in self._texts}  # no blank is filled with no token
        )

    def __len__(self) -> int:
        return 1 + max(self._texts)

    def get_vocab(self) -> dict[str, int]:
        return {**{text: token for token, text in enumerate(SPECIAL)}, **self._own}

    def convert_ids_to_tokens(self, ids: Iterable[int]) -> list[str | None]:
        return [self._texts.get(token) for token in ids]

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        ids = self._encoder.encode(text, add_special_tokens=add_special_tokens).ids
        return [self._id_of[token] for token in ids]

    def decode(self, ids: Iterable[int], **_: Any) -> str:
        tokens = [self._texts.get(token, "") for token in ids]
        decoder = self.tokenizer.decoder
        return " ".join(tokens) if decoder is None else str(decoder.decode(tokens))


def _with_unknown(tokenizer: Tokenizer) -> tuple[Tokenizer, str]:
    """Return a tokenizer and its token for unknown text.

    A model without such a token drops unknown text or fails. It is given one, which may change the ids of added tokens.
    """
    settings = json.loads(tokenizer.to_str())
    model = settings["model"]
    vocab, added = model["vocab"], "\0unknown"
    if isinstance(vocab, list):  # Unigram
        if model["unk_id"] is not None:
            return tokenizer, vocab[model["unk_id"]][0]
        model["unk_id"] = len(vocab)
        vocab.append([added, min(score for _, score in vocab)])
    else:
        if model["unk_token"] in vocab:
            return tokenizer, model["unk_token"]
        vocab[added] = 1 + max(vocab.values(), default=-1)
        model["unk_token"] = added
    return type(tokenizer).from_str(json.dumps(settings)), added


class SubwordVocabulary(TokenizerVocabulary):
    """A vocabulary of subwords: a tokenizer of Hugging Face's package ``tokenizers``.

    The ids are those of the tokenizer plus four, because the first four ids are special. The tokenizer's own special
    tokens fill no blank. Its settings for truncation, padding and marks around a text are not used.

    Args:
        tokenizer: the content of a ``tokenizer.json``.
        normalisation: the change that is made to each text first, before the tokenizer's own (default: none).

    Raises:
        ModuleNotFoundError: the package ``tokenizers`` is not installed.
        ValueError: the text is not a tokenizer.

    Example:
        >>> from tokenizers import Tokenizer, models
        >>> tokenizer = Tokenizer(models.WordPiece({"[UNK]": 0, "un": 1, "##do": 2}, unk_token="[UNK]"))
        >>> vocabulary = SubwordVocabulary(tokenizer.to_str())
        >>> vocabulary.encode("undo")
        [5, 6]
    """

    kind = "subwords"
    exact = False

    def __init__(self, tokenizer: str, normalisation: Normalisation = NOTHING):
        from tokenizers import Tokenizer

        try:
            made = Tokenizer.from_str(tokenizer)
        except Exception as error:  # the package raises no more specific one
            raise ValueError(f"this is not a tokenizer of the package tokenizers: {error}") from None
        super().__init__(_Shifted(made))
        self.normalisation = normalisation

    @classmethod
    def read(cls, path: str | os.PathLike[str], normalisation: Normalisation = NOTHING) -> SubwordVocabulary:
        """Read a tokenizer file.

        Args:
            path: a ``tokenizer.json``.
            normalisation: the change that is made to each text first (default: none).

        Returns:
            The vocabulary.

        Raises:
            OSError: the file cannot be read.
            ValueError: the file is not a tokenizer.
        """
        with reading(path, "tokenizer file"), open(path, "rb") as file:
            data = file.read()
        try:
            return cls(data.decode(), normalisation)
        except ValueError:
            raise ValueError(
                f"{os.fspath(path)} is not a tokenizer file: give a tokenizer.json of Hugging Face's tokenizers"
            ) from None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SubwordVocabulary) and self.config == other.config

    __hash__ = TokenizerVocabulary.__hash__

    def __repr__(self) -> str:
        return f"{type(self).__name__} of {len(self)} ids"

    @cached_property
    def config(self) -> dict[str, Any]:
        """The kind and the settings as values for JSON, for `vocabulary_of`."""
        return {"kind": self.kind, "tokenizer": self.tokenizer.tokenizer.to_str(), **asdict(self.normalisation)}

    def split(self, text: str) -> list[str]:
        """Return the subwords of a text, as the tokenizer spells them.

        Args:
            text: the text.

        Returns:
            The subwords. Text without a subword is ``<unk>``.
        """
        return [self.words[token] for token in self._ids(text)]

    def join(self, tokens: Sequence[str]) -> str:
        """Return the text of subwords.

        Args:
            tokens: subwords as the tokenizer spells them.

        Returns:
            The text.
        """
        ids = self.tokenizer.get_vocab()
        return self.decode([ids[token] for token in tokens])

    def lacking(self, text: str) -> list[str]:
        """Return the words of a text that the tokenizer has no subwords for.

        Args:
            text: the text.

        Returns:
            The words, in order.
        """
        if UNK not in self._ids(text):
            return []
        return [word for word in text.split() if UNK in self._ids(word)] or [text.strip()]

    def encode(self, text: str, *, unknown: int | None = None) -> list[int]:
        """Return the ids of the subwords of a text.

        Args:
            text: the text.
            unknown: id to use where the tokenizer has no subword. None: this is an error (default: None).

        Returns:
            One id per subword.

        Raises:
            ValueError: the tokenizer has no token for a part of the text, and ``unknown`` is None.
        """
        if unknown is None:
            return super().encode(text)
        return [unknown if token == UNK else token for token in self._ids(text)]

    def _ids(self, text: str) -> list[int]:
        return super()._ids(self.normalisation(text))


KINDS: dict[str, Any] = {
    one.kind: one for one in (WordVocabulary, SpacedVocabulary, CharacterVocabulary, ByteVocabulary, SubwordVocabulary)
}


def vocabulary_of(config: Mapping[str, Any]) -> Any:
    """Make a vocabulary from its ``config``.

    Args:
        config: the value of ``config`` of one of the vocabularies of this module.

    Returns:
        The vocabulary.

    Raises:
        LookupError: a setting is missing, or the kind is unknown.
        TypeError: there is a setting that the kind does not have.
        ValueError: a setting has a wrong value.

    Example:
        >>> vocabulary_of(CharacterVocabulary("CO").config).words[4:]
        ('C', 'O')
    """
    settings = dict(config)
    kind = KINDS[settings.pop("kind")]
    normalisation = Normalisation(settings.pop("lower_case"), settings.pop("unicode_form"))
    made: Any = kind(**settings, normalisation=normalisation)
    return made
