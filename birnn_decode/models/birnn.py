"""The reference Bi-RNN: one softmax over the sum of a forward and a backward network's logits."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from birnn_decode.models.captioner import Captioner, check_together


class BiRNN(nn.Module):
    """A bidirectional recurrent network: each word is predicted from all others.

    It is a `JointScorer`. At each position, the forward half has read START and the words before it, and the backward
    half has read END and the words after it. Their logits are added, and one softmax is taken over the sum::

        p(w_t | w_<t, w_>t, I)  ∝  exp( f(w_<t, I) + g(w_>t, I) )

    This is the output layer of Schuster and Paliwal (Bidirectional Recurrent Neural Networks, 1997), over states that
    have not read the word itself, as in Berglund et al. (NeurIPS 2015).

    A Bi-RNN does not predict where a sentence ends: the backward half reads END, and neither half predicts it. Neither
    half is trained to be a model by itself.

    Args:
        forward_half: a captioner that reads forward; its logits are f.
        backward_half: a captioner that reads backward; its logits are g.

    Raises:
        TypeError: a half is not a captioner.
        ValueError: the halves have other directions, different words, different image encoders or different feature
            sizes.

    Example:
        >>> import torch
        >>> from birnn_decode.captions import WordVocabulary
        >>> from birnn_decode.models import BiRNN, GRUCaptioner
        >>> words = WordVocabulary(["a", "cat"])
        >>> sizes = {"feature_size": 3, "embedding_size": 4, "hidden_size": 8}
        >>> halves = [GRUCaptioner(words, direction=direction, **sizes) for direction in ("forward", "backward")]
        >>> model = BiRNN(*halves)
        >>> model(torch.zeros(2, 3), [words.encode("a cat"), words.encode("a")]).shape  # three words in all
        torch.Size([3, 6])
    """

    def __init__(self, forward_half: Captioner, backward_half: Captioner):
        super().__init__()
        for half in (forward_half, backward_half):
            if not isinstance(half, Captioner):
                raise TypeError(
                    f"a half of a BiRNN must be a captioner, such as an LSTMCaptioner, got {type(half).__name__}; use "
                    "JointModel for halves of other kinds"
                )
        check_together(forward_half, backward_half, "the halves of a BiRNN")
        if forward_half.feature_size != backward_half.feature_size:
            raise ValueError(
                "the halves of a BiRNN must have the same feature_size, got "
                f"{forward_half.feature_size} and {backward_half.feature_size}"
            )
        self.forward_half = forward_half
        self.backward_half = backward_half
        self.vocabulary = forward_half.vocabulary
        self.encoder = forward_half.encoder
        self.feature_size = forward_half.feature_size

    def standardise(self, features: torch.Tensor) -> None:
        """Scale the features of both halves, see `Captioner.standardise`.

        Args:
            features: feature vectors of the training images, [images, feature_size].
        """
        for half in (self.forward_half, self.backward_half):
            half.standardise(features)

    def forward(self, features: torch.Tensor, captions: Sequence[Sequence[int]]) -> torch.Tensor:
        """Compute the logits of every word, given all other words of its caption.

        Args:
            features: feature vectors of the images, [captions, feature_size].
            captions: the ids of the words of each caption, in sentence order.

        Returns:
            Logits [words, vocab_size]: of the words of the first caption, then of the second, and so on.
        """
        lengths = [len(words) for words in captions]
        owner = [row for row, length in enumerate(lengths) for _ in range(length)]
        before = [at for length in lengths for at in range(length)]
        behind = [length - 1 - at for length in lengths for at in range(length)]
        logits = []
        for half, places in ((self.forward_half, before), (self.backward_half, behind)):
            # A word is predicted from the state before it is read, so the last word is not read.
            read = half.padded(captions)[:, : max([1, *lengths])]
            states, _ = half.read(read, half.start(features))  # [captions, longest, hidden_size]
            logits.append(half.project(states[half.tokens(owner), half.tokens(places)]))
        return logits[0] + logits[1]
