"""Words and their ids."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Sequence

PAD, START, END, UNK = 0, 1, 2, 3
SPECIAL = ("<pad>", "<start>", "<end>", "<unk>")


def words_of(text: str) -> list[str]:
    """The words of a caption: lower-case, split at white space, all but letters and digits dropped.

    This is the rule of Karpathy and Fei-Fei (CVPR 2015, section 4): "A man's hat." is "a", "mans", "hat".
    """
    words = ("".join(filter(str.isalnum, word)) for word in text.lower().split())
    return [word for word in words if word]


class WordVocabulary:
    """Words and their ids, which begin with PAD, START, END and UNK.

    Args:
        words: in the order of their ids, the four special ones left out.

    Attributes:
        words: every word at its id, the special ones in front.

    Raises:
        ValueError: a word that `words_of` would not give, or one that occurs twice.
    """

    def __init__(self, words: Iterable[str]):
        words = tuple(words)
        self.words = (*SPECIAL, *words)
        self._ids = {word: token for token, word in enumerate(self.words)}
        for word in words:
            if words_of(word) != [word]:
                raise ValueError(f"{word!r} is no word: words are of lower-case letters and digits")
        if len(self._ids) != len(self.words):
            twice = [word for word, times in Counter(self.words).items() if times > 1]
            raise ValueError(f"the vocabulary has {twice[0]!r} twice")

    @classmethod
    def from_captions(cls, captions: Iterable[str], min_count: int = 1) -> WordVocabulary:
        """The words that occur at least ``min_count`` times, in alphabetical order."""
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
        """The ids of a text's words.

        Args:
            text: in which `words_of` finds the words.
            unknown: the id that stands for words that the vocabulary lacks, such as UNK; None if there may be none.

        Raises:
            ValueError: a word that the vocabulary lacks, and no ``unknown`` to stand for it; the message names it, and
                words that are spelt nearly like it.
        """
        words = words_of(text)
        if unknown is not None:
            return [self._ids.get(word, unknown) for word in words]
        for word in words:
            if word not in self._ids:
                near = difflib.get_close_matches(word, self.words[len(SPECIAL) :])
                raise ValueError(
                    f"the vocabulary lacks {word!r}"
                    + (f"; near it: {', '.join(near)}" if near else f" (it has {len(self) - len(SPECIAL)} words)")
                )
        return [self._ids[word] for word in words]

    def decode(self, ids: Sequence[int]) -> str:
        """The words of ids, with spaces between them."""
        return " ".join(self.words[token] for token in ids)
