"""The reference Bi-RNN: one softmax over what a forward and a backward recurrent network make of the rest."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from birnn_decode.models.captioner import Captioner


class BiRNN(nn.Module):
    """A bidirectional recurrent network that tells each word from all the others, and a `JointScorer`.

    The forward half has read START and the words before a position, the backward half END and the words behind it; the
    logits of both are added, and one softmax is taken over the sum (the output layer of Schuster and Paliwal,
    Bidirectional Recurrent Neural Networks, 1997, over states that have not read the word itself, as Berglund et al.,
    NeurIPS 2015, need them)::

        p(w_t | w_<t, w_>t, I)  ∝  exp( f(w_<t, I) + g(w_>t, I) )

    It says nothing of where a sentence ends: END is read by the backward half and predicted by nobody. Neither half is
    trained to be a model of its own.

    Args:
        forward_half: a captioner that reads forward; f are its logits.
        backward_half: one that reads backward; g are its logits.

    Raises:
        TypeError: a half is no captioner.
        ValueError: the two have different words, image encoders or sizes of features, or other directions.
    """

    def __init__(self, forward_half: Captioner, backward_half: Captioner):
        super().__init__()
        for half in (forward_half, backward_half):
            if not isinstance(half, Captioner):
                raise TypeError(
                    f"a half of a BiRNN is a captioner, such as an LSTMCaptioner; this is {type(half).__name__}. "
                    "Halves of other kinds go into a birnn_decode.JointModel"
                )
        directions = (forward_half.direction, backward_half.direction)
        if directions != ("forward", "backward"):
            raise ValueError(f"the halves of a BiRNN read forward and backward; these read {' and '.join(directions)}")
        if forward_half.vocabulary != backward_half.vocabulary:
            raise ValueError("the halves of a BiRNN have the same words at the same ids; these do not")
        if forward_half.encoder is not backward_half.encoder:
            raise ValueError("the halves of a BiRNN share one image encoder; these have one each")
        if forward_half.feature_size != backward_half.feature_size:
            raise ValueError(
                "the halves of a BiRNN see the same features; these have vectors of "
                f"{forward_half.feature_size} and {backward_half.feature_size} numbers"
            )
        self.forward_half = forward_half
        self.backward_half = backward_half
        self.vocabulary = forward_half.vocabulary
        self.encoder = forward_half.encoder
        self.feature_size = forward_half.feature_size

    def standardise(self, features: torch.Tensor) -> None:
        """As `Captioner.standardise`, of both halves."""
        for half in (self.forward_half, self.backward_half):
            half.standardise(features)

    def forward(self, features: torch.Tensor, captions: Sequence[Sequence[int]]) -> torch.Tensor:
        """The logits of every word of some captions, given all other words of its caption.

        Args:
            features: of the images, [captions, feature_size].
            captions: for each the ids of its words, in sentence order.

        Returns:
            [words, vocab_size]: of the first caption's words, of the second's, ….
        """
        lengths = [len(words) for words in captions]
        longest = max(lengths, default=0)
        hidden = []
        for half in (self.forward_half, self.backward_half):
            backward = half is self.backward_half
            # What stands behind the words of a shorter caption is read, and used by nobody.
            rows = []
            for words in captions:
                read_words = list(reversed(words)) if backward else list(words)
                rows.append([half.start_token, *read_words] + [half.end_token] * (longest - len(words)))
            read = half.tokens(rows)[:, : max(longest, 1)]
            states, _ = half.read(read, half.start(features))  # [captions, longest, hidden_size]
            owner = half.tokens([row for row, length in enumerate(lengths) for _ in range(length)])
            places = [length - 1 - at if backward else at for length in lengths for at in range(length)]
            hidden.append(half.project(states[owner, half.tokens(places)]))
        return hidden[0] + hidden[1]
