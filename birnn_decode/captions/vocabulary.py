"""Words and their ids."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Sequence

PAD, START, END, UNK = 0, 1, 2, 3
SPECIAL = ("<pad>", "<start>", "<end>", "<unk>")


def words_of(text: str) -> list[str]:
    """Split a caption into its words.

    The text is lower-cased and split at white space, and every character that is neither a letter nor a digit is
    removed. This is the rule of Karpathy and Fei-Fei (CVPR 2015, section 4).

    Args:
        text: the caption.

    Returns:
        The words, in order.

    Example:
        >>> from birnn_decode.captions import words_of
        >>> words_of("A man's hat.")
        ['a', 'mans', 'hat']
    """
    words = ("".join(filter(str.isalnum, word)) for word in text.lower().split())
    return [word for word in words if word]


class WordVocabulary:
    """A vocabulary of whole words.

    The first four ids are special: PAD (0), START (1), END (2) and UNK (3), which stands for every unknown word.

    Args:
        words: the words in the order of their ids, without the four special ones.

    Attributes:
        words: every word at its id; the first four entries are the special ones.

    Raises:
        ValueError: a word is not one that `words_of` returns, or a word occurs twice.

    Example:
        >>> from birnn_decode.captions import WordVocabulary
        >>> vocabulary = WordVocabulary(["a", "cat", "sleeps"])
        >>> vocabulary.encode("A cat sleeps.")
        [4, 5, 6]
        >>> vocabulary.decode([4, 5])
        'a cat'
    """

    def __init__(self, words: Iterable[str]):
        words = tuple(words)
        self.words = (*SPECIAL, *words)
        self._ids = {word: token for token, word in enumerate(self.words)}
        for word in words:
            if words_of(word) != [word]:
                raise ValueError(f"{word!r} is not a word: a word consists of lower-case letters and digits")
        if len(self._ids) != len(self.words):
            ((twice, _),) = Counter(self.words).most_common(1)
            raise ValueError(f"the vocabulary has {twice!r} twice; each word may occur once")

    @classmethod
    def from_captions(cls, captions: Iterable[str], min_count: int = 1) -> WordVocabulary:
        """Make a vocabulary of the words that occur in captions, in alphabetical order.

        Args:
            captions: the captions as text.
            min_count: number of times that a word must occur to be in the vocabulary (default: 1).

        Returns:
            The vocabulary.
        """
        counts = Counter(word for caption in captions for word in words_of(caption))
        return cls(sorted(word for word, times in counts.items() if times >= min_count))

    def __len__(self) -> int:
        return len(self.words)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, WordVocabulary) and self.words == other.words

    def __hash__(self) -> int:
        return hash(self.words)

    def __repr__(self) -> str:
        return f"WordVocabulary of {len(self)} ids"

    def encode(self, text: str, *, unknown: int | None = None) -> list[int]:
        """Return the ids of the words of a text.

        Args:
            text: the text; `words_of` splits it into words.
            unknown: id to use for a word that is not in the vocabulary, such as UNK. None: such a word is an error
                (default: None).

        Returns:
            One id per word.

        Raises:
            ValueError: a word is not in the vocabulary and ``unknown`` is None. The message suggests words that are
                spelt nearly like it.
        """
        words = words_of(text)
        if unknown is not None:
            return [self._ids.get(word, unknown) for word in words]
        for word in words:
            if word not in self._ids:
                near = ", ".join(difflib.get_close_matches(word, self.words[len(SPECIAL) :]))
                hint = f"; near it: {near}" if near else f" (it has {len(self) - len(SPECIAL)} words)"
                raise ValueError(f"the vocabulary lacks {word!r}{hint}")
        return [self._ids[word] for word in words]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the words of ids, separated by spaces.

        Args:
            ids: the ids, special ones included.

        Returns:
            The text.
        """
        return " ".join(self.words[token] for token in ids)
