"""A forward and a backward model that are decoded together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from birnn_decode.scorers.protocol import Scorer, as_scorer
from birnn_decode.tokenizers import as_vocabulary


@dataclass(frozen=True)
class Pair:
    """Two models of the same sentences: one reads forward, the other backward.

    Args:
        forward: a `Scorer`, or any model that `as_scorer` can wrap; it predicts each word from the words to its left.
        backward: a `Scorer`, or any model that `as_scorer` can wrap; it predicts each word from the words to its right.
            None if there is no backward model (default: None).

    Example:
        >>> from birnn_decode import Pair
        >>> from birnn_decode.models import default_pair
        >>> models = default_pair()
        >>> models.forward.direction, models.backward.direction
        ('forward', 'backward')
        >>> Pair(models.forward).backward is None
        True
    """

    forward: Any
    backward: Any = None

    def scorers(self) -> dict[str, Scorer]:
        """Wrap the models that there are.

        Returns:
            the scorer of each direction that there is a model for, forward first.

        Raises:
            TypeError: a model cannot be wrapped, or there is none.
            ValueError: a model reads the other way.
        """
        models = {"forward": self.forward, "backward": self.backward}
        scorers = {name: as_scorer(model, name) for name, model in models.items() if model is not None}
        if not scorers:
            raise TypeError("models is a Pair of None and None. Give at least one model.")
        return scorers


def check_same_words(scorers: Mapping[str, Scorer]) -> None:
    """Check that two models have the same words at the same ids, as far as their vocabularies can be compared.

    Raises:
        ValueError: the models differ.
    """
    if len({scorer.vocab_size for scorer in scorers.values()}) > 1:
        raise ValueError(
            f"the forward model has {scorers['forward'].vocab_size} ids and the backward model "
            f"{scorers['backward'].vocab_size}. Both must share one vocabulary."
        )
    one, other = (as_vocabulary(getattr(scorers.get(name), "vocabulary", None)) for name in ("forward", "backward"))
    comparable = type(one).__eq__ is not object.__eq__  # type: ignore[comparison-overlap]
    if None not in (one, other) and comparable and one != other:
        raise ValueError(
            f"the vocabulary of the forward model ({one!r}) differs from the vocabulary of the backward model "
            f"({other!r}). Both must have the same words at the same ids{_difference(one, other)}"
        )


def _difference(forward: Any, backward: Any) -> str:
    """Describe how two vocabularies differ and how to mend it, as far as their words are known."""
    words = [list(getattr(vocabulary, "words", ())) for vocabulary in (forward, backward)]
    if not all(words):
        return "."
    if sorted(words[0]) == sorted(words[1]):
        cure = "birnn_decode.scorers.in_vocabulary(model_b, model_f.vocabulary)"
        return f". They have the same words in another order: give {cure} as the backward model."
    found = [
        f"only the {name} one has {', '.join(map(repr, sorted(alone)[:2]))}"
        for name, alone in (("forward", {*words[0]} - {*words[1]}), ("backward", {*words[1]} - {*words[0]}))
        if alone
    ]
    return f": {'; '.join(found)}." if found else "."
