"""The reference translator: a bidirectional LSTM reads the source, and LSTM layers with attention write the target."""

from __future__ import annotations

import operator
import reprlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from birnn_decode.models.captioner import Captioner
from birnn_decode.scorers.recurrent import run_layers
from birnn_decode.scorers.state import Condition
from birnn_decode.vocabularies import PAD, UNK


class Translator(Captioner):
    """A recurrent translator with attention, which writes forward or backward.

    A translator reads a source text and is a `Scorer` of its translations. The source is any text: a sentence in
    another language, a question, a description. An LSTM reads it in both directions (Bahdanau et al., ICLR 2015,
    section 3.2). Two LSTM layers read the target. Between them, each position attends to the whole source with the
    "general" score of Luong et al. (EMNLP 2015, section 3.1), without input feeding::

        h1_t = LSTM(y_t, h1_{t-1})
        a_t  = softmax over the source of  h1_t · W_k m_s / sqrt(hidden_size)
        c_t  = sum over the source of  a_ts W_v m_s
        h2_t = LSTM([h1_t; c_t], h2_{t-1})
        p(y_{t+1}) = softmax(E tanh(W [h2_t; c_t]) + b)

    Without input feeding, no state depends on an earlier attention, so that a whole target is read in a few calls. E
    holds the word vectors of the target as well (Press and Wolf, EACL 2017). Dropout is applied to the word vectors,
    between the layers and before the output.

    Args:
        vocabulary: the vocabulary of the target.
        direction: ``"forward"`` to read START, first word, …; ``"backward"`` to read END, last word, ….
        source_vocabulary: the vocabulary of the source. Words that it lacks are read as its UNK.
        embedding_size: size of the word vectors of the source and of the target (default: 256).
        hidden_size: size of each recurrent state (default: 256).
        dropout: share of values that are dropped in training (default: 0).
        encoder: None, because a translator has no image encoder (default: None).

    Raises:
        ValueError: ``direction`` is neither of the two, or there is an ``encoder``.

    Example:
        >>> import torch
        >>> from birnn_decode.captions import WordVocabulary
        >>> from birnn_decode.models import Translator
        >>> german, english = WordVocabulary(["ein", "hund"]), WordVocabulary(["a", "dog"])
        >>> model = Translator(english, direction="forward", source_vocabulary=german)
        >>> context = model.encode(["ein Hund", "ein"])
        >>> model(context, model.padded([english.encode("a dog"), english.encode("a")])).shape
        torch.Size([2, 4, 6])
    """

    kind = "translator"
    batch_axis = ((1, 1), (1, 1), 0)  # of the memories of both layers, and of what is known about the source

    def __init__(
        self,
        vocabulary: Any,
        *,
        direction: str,
        source_vocabulary: Any,
        embedding_size: int = 256,
        hidden_size: int = 256,
        dropout: float = 0.0,
        encoder: None = None,
    ):
        if encoder is not None:
            raise ValueError(f"a translator has no image encoder, got {reprlib.repr(encoder)}; leave encoder out")
        super().__init__(
            vocabulary,
            direction=direction,
            feature_size=0,
            embedding_size=embedding_size,
            hidden_size=hidden_size,
            dropout=dropout,
        )
        del self.config["feature_size"]
        del self.embedding  # the word vectors are the weights of the output layer
        self.output = nn.Linear(embedding_size, self.vocab_size)
        nn.init.normal_(self.output.weight, std=embedding_size**-0.5)
        self.source_vocabulary = source_vocabulary
        self.source_embedding = nn.Embedding(len(source_vocabulary), embedding_size)
        self.source_recurrent = nn.LSTM(embedding_size, hidden_size, batch_first=True, bidirectional=True)
        self.to_memories = nn.Linear(2 * hidden_size, 4 * hidden_size)  # h and c of both layers
        self.to_keys = nn.Linear(2 * hidden_size, hidden_size, bias=False)  # W_k
        self.to_values = nn.Linear(2 * hidden_size, hidden_size, bias=False)  # W_v
        self.lower = nn.LSTM(embedding_size, hidden_size, batch_first=True)
        self.upper = nn.LSTM(2 * hidden_size, hidden_size, batch_first=True)
        self.combine = nn.Linear(2 * hidden_size, embedding_size)  # W

    def encode(self, sources: Sequence[Any]) -> Any:
        """Read the sources.

        Args:
            sources: for each source a text, or its ids in the source vocabulary: a sequence, an array or a tensor. In
                `decode`, give ids as a tuple, because a list is a batch there.

        Returns:
            The first memories of the two layers [4, N, hidden_size], and for the attention the keys and the values
            [N, longest source, hidden_size] and which of them are real [N, longest source].

        Raises:
            TypeError: a source is neither a text nor a sequence of ids.
            ValueError: a source is empty, or an id is outside the source vocabulary.
        """
        texts = [self._ids_of(source, number) for number, source in enumerate(sources)]
        lengths = torch.tensor([len(ids) for ids in texts])
        longest = int(lengths.max())
        padded = self.tokens([[*ids, *[PAD] * (longest - len(ids))] for ids in texts])
        vectors = self.dropout(self.source_embedding(padded))
        packed = pack_padded_sequence(vectors, lengths, batch_first=True, enforce_sorted=False)
        states, (last, _) = self.source_recurrent(packed)
        read = self.dropout(pad_packed_sequence(states, batch_first=True)[0])
        memories = torch.tanh(self.to_memories(torch.cat([last[0], last[1]], dim=1)))
        real = (torch.arange(longest) < lengths[:, None]).to(padded.device)
        return torch.stack(memories.chunk(4, dim=1)), (self.to_keys(read), self.to_values(read), real)

    def start(self, context: Any) -> Any:
        """Return the state before anything is read, one row per source.

        Args:
            context: what `Translator.encode` returned.

        Returns:
            The memories (h, c) of the two layers, each [1, N, hidden_size], and what is known about the sources. Rows
            of one source share the latter.
        """
        memories, known = context
        h1, c1, h2, c2 = memories.split(1)
        return (h1, c1), (h2, c2), Condition.of(known, len(known[0]))

    def read(self, tokens: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any]:
        """Read tokens of the target.

        Args:
            tokens: token ids, [R, t].
            state: the state before the first of them.

        Returns:
            The hidden states tanh(W [h2_t; c_t]) [R, t, embedding_size], and the state after the last token.
        """
        lower, upper, source = state
        keys, values, real = source.rows()
        # The vectors are small enough for an output layer; the recurrent layer needs values of about 1.
        vectors = nn.functional.embedding(tokens, self.output.weight) * self.output.in_features**0.5
        h1, lower = run_layers(self.lower, self.dropout(vectors), lower)
        attended = nn.functional.scaled_dot_product_attention(h1, keys, values, attn_mask=real[:, None])
        h2, upper = run_layers(self.upper, self.dropout(torch.cat([h1, attended], dim=-1)), upper)
        hidden = torch.tanh(self.combine(torch.cat([h2, attended], dim=-1)))
        return hidden, (lower, upper, source)

    def _ids_of(self, source: Any, number: int) -> list[int]:
        """Return the ids of a source, and check them."""
        given = f"source {number} is {reprlib.repr(source)}"
        if isinstance(source, str):
            ids = self.source_vocabulary.encode(source, unknown=UNK)
        elif isinstance(source, (Sequence, np.ndarray, torch.Tensor)) and not isinstance(source, bytes):
            try:
                ids = [operator.index(token) for token in source]
            except TypeError:
                raise TypeError(f"{given}; give a text, or whole numbers as ids") from None
        else:
            raise TypeError(f"{given}; give a text, or a tuple of ids of the source vocabulary")
        if not ids:
            raise ValueError(f"{given}, which has no words; give a source of at least one word")
        if not 0 <= min(ids) <= max(ids) < len(self.source_vocabulary):
            raise ValueError(
                f"{given}; give ids from 0 to {len(self.source_vocabulary) - 1}, as the source vocabulary has"
            )
        return ids
