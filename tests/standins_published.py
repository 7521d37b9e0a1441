"""Small models with random weights, with the modules and methods of architectures that others have published."""

import math
import typing

import torch


def causal(length):
    return torch.ones(length, length, dtype=torch.bool).tril()


class Decoder(torch.nn.Module):
    """WeNet's: ``forward_one_step(memory, memory_mask, tgt, tgt_mask, cache)`` gives log-probabilities and a cache."""

    def __init__(self, vocab_size, hidden):
        super().__init__()
        self.embed = torch.nn.Embedding(vocab_size, hidden)
        self.positions = torch.nn.Embedding(32, hidden)
        self.layer = torch.nn.TransformerDecoderLayer(hidden, 2, 2 * hidden, 0.1, batch_first=True)
        self.output_layer = torch.nn.Linear(hidden, vocab_size)

    def forward(self, memory, memory_mask, tgt, tgt_mask):
        read = self.embed(tgt) + self.positions(torch.arange(tgt.shape[1]))
        mask = ~tgt_mask[0]
        seen = self.layer(read, memory, tgt_mask=mask, memory_key_padding_mask=~memory_mask[:, 0])
        return self.output_layer(seen)

    def forward_one_step(self, memory, memory_mask, tgt, tgt_mask, cache=None):
        return self(memory, memory_mask, tgt, tgt_mask)[:, -1].log_softmax(-1), cache


class BiTransformerDecoder(torch.nn.Module):
    def __init__(self, vocab_size, hidden):
        super().__init__()
        self.left_decoder, self.right_decoder = Decoder(vocab_size, hidden), Decoder(vocab_size, hidden)


class WeNet(torch.nn.Module):
    """An encoder and two decoders."""

    def __init__(self, vocab_size=12, features=5, hidden=16):
        super().__init__()
        torch.manual_seed(0)
        self.vocab_size = vocab_size
        self.sos = self.eos = vocab_size - 1
        self.encoder = torch.nn.Linear(features, hidden)
        self.decoder = BiTransformerDecoder(vocab_size, hidden)
        with torch.no_grad():
            for parameter in self.decoder.parameters():
                parameter.mul_(2)

    def _forward_encoder(self, speech, speech_lengths):
        mask = torch.arange(speech.shape[1])[None] < speech_lengths[:, None]
        return self.encoder(speech), mask[:, None]


class FairseqEncoder(torch.nn.Module):
    def __init__(self, vocab_size, hidden, pad):
        super().__init__()
        self.embed, self.pad = torch.nn.Embedding(vocab_size, hidden), pad
        self.layer = torch.nn.TransformerEncoderLayer(hidden, 2, 2 * hidden, 0.1)

    def forward(self, src_tokens, src_lengths):
        padding = src_tokens == self.pad
        out = self.layer(self.embed(src_tokens).transpose(0, 1), src_key_padding_mask=padding)
        return {"encoder_out": [out], "encoder_padding_mask": [padding]}  # [S, N, hidden], [N, S]


class FairseqDecoder(torch.nn.Module):
    def __init__(self, vocab_size, hidden):
        super().__init__()
        self.embed_tokens = torch.nn.Embedding(vocab_size, hidden)
        self.positions = torch.nn.Embedding(32, hidden)
        self.layer = torch.nn.TransformerDecoderLayer(hidden, 2, 2 * hidden, 0.1)
        self.output_projection = torch.nn.Linear(hidden, vocab_size, bias=False)

    def forward(self, prev_output_tokens, encoder_out):
        length = prev_output_tokens.shape[1]
        read = math.sqrt(8) * self.embed_tokens(prev_output_tokens) + self.positions(torch.arange(length))
        (memory,), (padding,) = encoder_out["encoder_out"], encoder_out["encoder_padding_mask"]
        seen = self.layer(
            read.transpose(0, 1), memory, tgt_mask=~causal(length), memory_key_padding_mask=padding
        ).transpose(0, 1)
        return self.output_projection(seen), {}


class Fairseq(torch.nn.Module):
    PAD, END, UNK, START = 1, 2, 3, 0

    def __init__(self, vocab_size=14, hidden=16):
        super().__init__()
        torch.manual_seed(1)
        self.encoder, self.decoder = FairseqEncoder(vocab_size, hidden, self.PAD), FairseqDecoder(vocab_size, hidden)


class OldCaptioner(torch.nn.Module):
    """A model of a program that is no longer there; it was stored whole."""

    def __init__(self, vocab_size=11, size=6):
        super().__init__()
        torch.manual_seed(2)
        self.embedding = torch.nn.Embedding(vocab_size, size)
        self.lstm = torch.nn.LSTM(size, size, batch_first=True)
        self.output = torch.nn.Linear(size, vocab_size)
        self.extra = Trap()

    def forward(self, tokens):
        return self.output(self.lstm(self.embedding(tokens))[0])


class Trap:
    """An object whose loading runs a function."""

    sprung: typing.ClassVar[list] = []

    def __reduce__(self):
        return spring, ("loaded",)


def spring(word):
    Trap.sprung.append(word)
    return Trap()
