"""Small stand-ins of captioning models as they exist in the wild, for the tests of what wraps them.

They are plain PyTorch modules, random but fixed by their seed, and know nothing of this library:

- `ShowAttendTell`: an LSTM cell that looks at regions of the image; a state of rows on axis 0.
- `ShowTell`: an LSTM whose first input is the image; a state of rows on axis 1, batch normalisation.
- `NewFC`, `Att2in`, `TransformerLike`: one interface, ``get_logprobs_state``, three kinds of state; one id is START,
  END and PAD.
- `Virtex`: both directions in one module, no state at all.
- `MeshedMemory`: the state is in the module's own buffers.

`pictures` of each draws images as its data set would hold them. `teacher_forced` is its training pass: a list of N
images and captions [N, T], START in front, to scores [N, T, vocab_size], at t those of token t + 1. A backward model is
another instance, of another seed, that has been trained on reversed captions; only `Virtex` has both in one.
"""

import contextlib
import math

import torch
from torch.nn import functional

REGIONS, FEATURE = 5, 6
DROPOUT = 0.3
SHARPNESS = 4  # of output layers: as initialised, all words would be about as probable
RECURRENT_SHARPNESS = 12  # what an LSTM puts out is smaller than what leaves a normalisation
GAIN = 4  # of recurrent cells, which as initialised hardly hear what they are told


@contextlib.contextmanager
def seeded(seed):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def louder(layer, gain):
    """The layer, its weights times ``gain``."""
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            if "bias" not in name:
                parameter *= gain
    return layer


def random_images(shape, count, seed, dtype):
    """A list of tensors; those of float64 are those of float32."""
    generator = torch.Generator().manual_seed(seed)
    return [2 * torch.randn(shape, generator=generator).to(dtype) for _ in range(count)]


def after(length, device=None):
    """[length, length], True where the column's token comes after the row's, which must not see it."""
    return torch.ones(length, length, dtype=torch.bool, device=device).triu(1)


class ShowAttendTell(torch.nn.Module):
    """Additive attention over regions, gated, into an LSTM cell; the memory stays the same from step to step."""

    PAD, START, END = 0, 1, 2

    def __init__(self, vocab_size=12, hidden=8, seed=0):
        super().__init__()
        self.vocab_size = vocab_size
        with seeded(seed):
            self.encoder = torch.nn.Sequential(torch.nn.Linear(FEATURE, hidden), torch.nn.ReLU())
            self.embedding = torch.nn.Embedding(vocab_size, hidden)
            self.init_h = torch.nn.Linear(hidden, hidden)
            self.init_c = torch.nn.Linear(hidden, hidden)
            self.attend_memory = torch.nn.Linear(hidden, hidden)
            self.attend_h = torch.nn.Linear(hidden, hidden)
            self.attend = torch.nn.Linear(hidden, 1)
            self.beta = torch.nn.Linear(hidden, hidden)
            self.cell = louder(torch.nn.LSTMCell(2 * hidden, hidden), GAIN)
            self.dropout = torch.nn.Dropout(DROPOUT)
            self.project = louder(torch.nn.Linear(hidden, vocab_size), RECURRENT_SHARPNESS)

    @staticmethod
    def pictures(count=3, seed=0, dtype=torch.float32):
        return random_images((REGIONS, FEATURE), count, seed, dtype)

    def encode(self, images):
        """Images [N, regions, feature] to memory [N, regions, hidden]."""
        return self.encoder(images)

    def init_state(self, memory):
        mean = memory.mean(dim=1)
        return torch.tanh(self.init_h(mean)), torch.tanh(self.init_c(mean))

    def step(self, tokens, memory, h, c):
        """Read tokens [R] with h, c [R, hidden]: logits [R, V] of the next ones, h, c."""
        energy = self.attend(torch.tanh(self.attend_memory(memory) + self.attend_h(h)[:, None])).squeeze(-1)
        seen = (torch.softmax(energy, dim=-1)[:, :, None] * memory).sum(dim=1)
        seen = torch.sigmoid(self.beta(h)) * seen
        h, c = self.cell(torch.cat([self.embedding(tokens), seen], dim=-1), (h, c))
        return self.project(self.dropout(h)), h, c

    def teacher_forced(self, images, captions):
        memory = self.encode(torch.stack(tuple(images)))
        keys, words = self.attend_memory(memory), self.embedding(captions)
        h, c = self.init_state(memory)
        read = []
        for word in words.unbind(dim=1):
            weights = self.attend(torch.tanh(keys + self.attend_h(h).unsqueeze(1))).softmax(dim=1)  # [N, regions, 1]
            seen = torch.bmm(weights.transpose(1, 2), memory).squeeze(1)
            h, c = self.cell(torch.cat([word, self.beta(h).sigmoid() * seen], dim=1), (h, c))
            read.append(h)
        return self.project(self.dropout(torch.stack(read, dim=1)))


class ShowTell(torch.nn.Module):
    """The image is the first input of the LSTM, before START, and what comes out at it is dropped.

    It has no step of its own, as a model that was written to be trained: stepping is ``embedding``, ``lstm``,
    ``project``. The rows of (h, c) are on axis 1 in spite of ``batch_first``.
    """

    PAD, START, END = 0, 1, 2

    def __init__(self, vocab_size=12, hidden=8, seed=0, layers=2):
        super().__init__()
        self.vocab_size = vocab_size
        with seeded(seed):
            norm = torch.nn.BatchNorm1d(hidden)  # in train mode, it needs two images and changes its statistics
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.2, 3)
            self.cnn = torch.nn.Sequential(torch.nn.Linear(FEATURE, hidden), norm)
            self.embedding = torch.nn.Embedding(vocab_size, hidden)
            lstm = torch.nn.LSTM(hidden, hidden, num_layers=layers, batch_first=True, dropout=DROPOUT)
            self.lstm = louder(lstm, GAIN)
            self.project = louder(torch.nn.Linear(hidden, vocab_size), RECURRENT_SHARPNESS)

    @staticmethod
    def pictures(count=3, seed=0, dtype=torch.float32):
        return random_images((FEATURE,), count, seed, dtype)

    def teacher_forced(self, images, captions):
        first = self.cnn(torch.stack(tuple(images))).unsqueeze(1)
        output, _ = self.lstm(torch.cat([first, self.embedding(captions)], dim=1))
        return self.project(output[:, 1:])


class LogprobsStateCaptioner(torch.nn.Module):
    """What a family of captioners shares: prepared features go into every step, log-probabilities come out.

    One id, 0, is START, END and PAD. ``vocab_size`` is the number of words, without it: one less than there are scores,
    and than the ``vocab_size`` given here.

    A step is ``get_logprobs_state(it, p_fc_feats, p_att_feats, pp_att_feats, p_att_masks, state)``, after
    ``_prepare_feature(fc_feats, att_feats, att_masks)``, whose tuple has an entry for each of the four; the masks in it
    may be None.
    """

    PAD = START = END = 0

    def __init__(self, vocab_size, hidden):
        super().__init__()
        self.vocab_size = vocab_size - 1
        self.hidden = hidden

    @staticmethod
    def pictures(count=3, seed=0, dtype=torch.float32):
        whole = random_images((FEATURE,), count, seed, dtype)
        regions = random_images((REGIONS, FEATURE), count, seed + 1000, dtype)
        return [{"fc": fc, "att": att} for fc, att in zip(whole, regions, strict=True)]

    @staticmethod
    def collate(images):
        """(fc_feats [N, feature], att_feats [N, regions, feature], None): all images have equally many regions."""
        return torch.stack([image["fc"] for image in images]), torch.stack([image["att"] for image in images]), None

    def init_hidden(self, batch_size):
        some = next(self.parameters())
        return tuple(some.new_zeros(self.layers, batch_size, self.hidden) for _ in range(2))

    def get_logprobs_state(self, it, fc_feats, att_feats, p_att_feats, att_masks, state):
        """Read ``it`` [R]: log-probabilities [R, V] of the next words, and the state."""
        output, state = self.core(it, fc_feats, att_feats, p_att_feats, att_masks, state)
        return torch.log_softmax(self.logit(output), dim=-1), state


class NewFC(LogprobsStateCaptioner):
    """An LSTM; a row whose state is all zero has not seen its image yet, and sees it before it reads its first word.

    State (h, c), each [layers, R, hidden]. The regions are handed through and not looked at.
    """

    def __init__(self, vocab_size=12, hidden=8, seed=0, layers=2):
        super().__init__(vocab_size, hidden)
        self.layers = layers
        with seeded(seed):
            self.fc_embed = torch.nn.Linear(FEATURE, hidden)
            self.embed = torch.nn.Embedding(vocab_size, hidden)
            self.lstm = louder(torch.nn.LSTM(hidden, hidden, num_layers=layers), GAIN)
            self.dropout = torch.nn.Dropout(DROPOUT)
            self.logit = louder(torch.nn.Linear(hidden, vocab_size), RECURRENT_SHARPNESS)

    def _prepare_feature(self, fc_feats, att_feats, att_masks):
        return self.fc_embed(fc_feats), att_feats, att_feats, att_masks

    def core(self, it, fc_feats, att_feats, p_att_feats, att_masks, state):
        first = (state[0] == 0).all(dim=2).all(dim=0)
        if first.any():
            _, seen = self.lstm(fc_feats.unsqueeze(0), state)
            state = tuple(torch.where(first[None, :, None], new, old) for new, old in zip(seen, state, strict=True))
        output, state = self.lstm(self.embed(it).unsqueeze(0), state)
        return self.dropout(output.squeeze(0)), state

    def teacher_forced(self, images, captions):
        fc_feats, _, _ = self.collate(images)
        inputs = torch.cat([self.fc_embed(fc_feats).unsqueeze(0), self.embed(captions.T)])
        output, _ = self.lstm(inputs)
        return torch.log_softmax(self.logit(self.dropout(output[1:])), dim=-1).transpose(0, 1)


class FC(LogprobsStateCaptioner):
    """The oldest: the image is a step of its own, and `get_logprobs_state` knows nothing of it: ``(it, state)``.

    State (h, c), each [1, R, hidden].
    """

    layers = 1

    def __init__(self, vocab_size=12, hidden=8, seed=0):
        super().__init__(vocab_size, hidden)
        with seeded(seed):
            self.img_embed = torch.nn.Linear(FEATURE, hidden)
            self.embed = torch.nn.Embedding(vocab_size, hidden)
            self.lstm = louder(torch.nn.LSTM(hidden, hidden), GAIN)
            self.dropout = torch.nn.Dropout(DROPOUT)
            self.logit = louder(torch.nn.Linear(hidden, vocab_size), RECURRENT_SHARPNESS)

    def core(self, xt, state):
        output, state = self.lstm(xt.unsqueeze(0), state)
        return self.dropout(output.squeeze(0)), state

    def get_logprobs_state(self, it, state):
        output, state = self.core(self.embed(it), state)
        return torch.log_softmax(self.logit(output), dim=-1), state

    def teacher_forced(self, images, captions):
        fc_feats, _, _ = self.collate(images)
        inputs = torch.cat([self.img_embed(fc_feats).unsqueeze(0), self.embed(captions.T)])
        output, _ = self.lstm(inputs)
        return torch.log_softmax(self.logit(self.dropout(output[1:])), dim=-1).transpose(0, 1)


class Att2in(LogprobsStateCaptioner):
    """What an LSTM sees of the regions, it sees in its input gate only; masked regions it does not see.

    State (h, c), each [1, R, hidden].
    """

    layers = 1

    def __init__(self, vocab_size=12, hidden=8, seed=0):
        super().__init__(vocab_size, hidden)
        with seeded(seed):
            self.att_embed = torch.nn.Sequential(
                torch.nn.Linear(FEATURE, hidden), torch.nn.ReLU(), torch.nn.Dropout(DROPOUT)
            )
            self.embed = torch.nn.Sequential(
                torch.nn.Embedding(vocab_size, hidden), torch.nn.ReLU(), torch.nn.Dropout(DROPOUT)
            )
            self.ctx2att = torch.nn.Linear(hidden, hidden)
            self.h2att = torch.nn.Linear(hidden, hidden)
            self.alpha = torch.nn.Linear(hidden, 1)
            self.x2gates = louder(torch.nn.Linear(hidden, 4 * hidden), GAIN)
            self.h2gates = louder(torch.nn.Linear(hidden, 4 * hidden), GAIN)
            self.a2in = louder(torch.nn.Linear(hidden, hidden), GAIN)
            self.dropout = torch.nn.Dropout(DROPOUT)
            self.logit = louder(torch.nn.Linear(hidden, vocab_size), RECURRENT_SHARPNESS)

    def _prepare_feature(self, fc_feats, att_feats, att_masks):
        att_feats = self.att_embed(att_feats)
        return fc_feats, att_feats, self.ctx2att(att_feats), att_masks

    def core(self, it, fc_feats, att_feats, p_att_feats, att_masks, state):
        h, c = state[0][-1], state[1][-1]
        energy = self.alpha(torch.tanh(p_att_feats + self.h2att(h).unsqueeze(1))).squeeze(-1)
        weight = torch.softmax(energy, dim=1)
        if att_masks is not None:
            weight = weight * att_masks.to(weight)
            weight = weight / weight.sum(dim=1, keepdim=True)
        seen = torch.bmm(weight.unsqueeze(1), att_feats).squeeze(1)
        gate_in, gate_forget, gate_out, new = (self.x2gates(self.embed(it)) + self.h2gates(h)).chunk(4, dim=1)
        new = torch.tanh(new + self.a2in(seen))
        c = torch.sigmoid(gate_forget) * c + torch.sigmoid(gate_in) * new
        h = torch.sigmoid(gate_out) * torch.tanh(c)
        return self.dropout(h), (h.unsqueeze(0), c.unsqueeze(0))

    def teacher_forced(self, images, captions):
        _, regions, _ = self.collate(images)
        regions = self.att_embed(regions)
        keys, gates = self.ctx2att(regions), self.x2gates(self.embed(captions))
        h = c = regions.new_zeros(len(captions), self.hidden)
        read = []
        for t in range(captions.shape[1]):
            energy = self.alpha(torch.tanh(keys + self.h2att(h)[:, None, :]))  # [N, regions, 1]
            seen = (energy.softmax(dim=1) * regions).sum(dim=1)
            i, f, o, new = torch.split(gates[:, t] + self.h2gates(h), self.hidden, dim=-1)
            c = f.sigmoid() * c + i.sigmoid() * (new + self.a2in(seen)).tanh()
            h = o.sigmoid() * c.tanh()
            read.append(h)
        return self.logit(self.dropout(torch.stack(read, dim=1))).log_softmax(dim=-1)


class TransformerLike(LogprobsStateCaptioner):
    """No cache: the state is a list of the tokens read so far, [1, R, t], and of nothing at all before the first.

    What is not looked at has width 0 after `_prepare_feature`, and where there are no masks, it makes some,
    [N, 1, regions].
    """

    max_length = 20

    def __init__(self, vocab_size=12, hidden=12, seed=0):
        super().__init__(vocab_size, hidden)
        with seeded(seed):
            self.att_embed = torch.nn.Sequential(
                torch.nn.Linear(FEATURE, hidden), torch.nn.ReLU(), torch.nn.Dropout(DROPOUT)
            )
            self.embed = torch.nn.Embedding(vocab_size, hidden)
            self.positions = torch.nn.Embedding(self.max_length, hidden)
            self.dropout = torch.nn.Dropout(DROPOUT)
            self.decoder = torch.nn.TransformerDecoderLayer(hidden, 2, 2 * hidden, DROPOUT, batch_first=True)
            self.logit = louder(torch.nn.Linear(hidden, vocab_size), SHARPNESS)

    def init_hidden(self, batch_size):
        return []

    def _prepare_feature(self, fc_feats, att_feats, att_masks):
        memory = self.att_embed(att_feats)
        if att_masks is None:
            att_masks = att_feats.new_ones(att_feats.shape[:2], dtype=torch.long)
        return fc_feats[..., :0], memory, att_feats[..., :0], att_masks.unsqueeze(-2)

    def decode(self, memory, mask, ys):
        positions = torch.arange(ys.shape[1], device=ys.device)
        inputs = self.dropout(self.embed(ys) + self.positions(positions))
        unseen = None if mask is None else mask.squeeze(1) == 0
        return self.decoder(
            inputs, memory, tgt_mask=after(ys.shape[1], ys.device), memory_key_padding_mask=unseen, tgt_is_causal=True
        )

    def core(self, it, fc_feats, att_feats, p_att_feats, att_masks, state):
        ys = torch.cat([state[0][0], it.unsqueeze(1)], dim=1) if state else it.unsqueeze(1)
        return self.decode(att_feats, att_masks, ys)[:, -1], [ys.unsqueeze(0)]

    def teacher_forced(self, images, captions):
        _, att_feats, _ = self.collate(images)
        return torch.log_softmax(self.logit(self.decode(self.att_embed(att_feats), None, captions)), dim=-1)


class WordsAndPositions(torch.nn.Module):
    """As many positions as a caption may be long, START included; IndexError beyond."""

    def __init__(self, vocab_size, hidden, max_caption_length, pad):
        super().__init__()
        self.words = torch.nn.Embedding(vocab_size, hidden, padding_idx=pad)
        self.positions = torch.nn.Embedding(max_caption_length, hidden)
        self.norm = torch.nn.LayerNorm(hidden)
        self.dropout = torch.nn.Dropout(DROPOUT)

    def forward(self, tokens):
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        return self.dropout(self.norm(self.words(tokens) + self.positions(positions)))


class TextualHead(torch.nn.Module):
    """One reading direction of `Virtex`."""

    def __init__(self, embedding, output, hidden):
        super().__init__()
        self.embedding = embedding
        self.transformer = torch.nn.TransformerDecoder(
            torch.nn.TransformerDecoderLayer(hidden, 2, 2 * hidden, DROPOUT, batch_first=True), num_layers=1
        )
        self.output = output

    def forward(self, visual_features, tokens):
        mask = after(tokens.shape[1], tokens.device)
        return self.output(self.transformer(self.embedding(tokens), visual_features, tgt_mask=mask, tgt_is_causal=True))


class Virtex(torch.nn.Module):
    """Both directions in one module, which share the image, the words and the output layer, and keep no state.

    The backward half has been trained on reversed captions: what it reads first is END, what it predicts last is START.
    """

    PAD, START, END = 0, 1, 2

    def __init__(self, vocab_size=12, hidden=12, seed=0, max_caption_length=8):
        super().__init__()
        self.vocab_size = vocab_size
        self.sos_index, self.eos_index, self.padding_idx = self.START, self.END, self.PAD
        self.max_caption_length = max_caption_length
        with seeded(seed):
            self.visual = torch.nn.Linear(FEATURE, hidden)
            embedding = WordsAndPositions(vocab_size, hidden, max_caption_length, self.PAD)
            output = louder(torch.nn.Linear(hidden, vocab_size), SHARPNESS)
            self.textual = TextualHead(embedding, output, hidden)
            self.backward_textual = TextualHead(embedding, output, hidden)

    @staticmethod
    def pictures(count=3, seed=0, dtype=torch.float32):
        return random_images((REGIONS, FEATURE), count, seed, dtype)

    def decoding_step(self, visual_features, partial_captions):
        """What ``visual`` makes of images, a row for each caption, and captions [R, t]: logits [R, V] of what is next.

        Captions begin with START.
        """
        return self.textual(visual_features, partial_captions)[:, -1]

    def backward_decoding_step(self, visual_features, partial_captions):
        """As `decoding_step`, for reversed captions, which begin with END."""
        return self.backward_textual(visual_features, partial_captions)[:, -1]

    def teacher_forced(self, images, captions, backward=False):
        half = self.backward_textual if backward else self.textual
        return half(self.visual(torch.stack(tuple(images))), captions)


class Stateful(torch.nn.Module):
    """A module that can hold what has been read in buffers: not re-entrant, one batch at a time."""

    def __init__(self):
        super().__init__()
        self.stateful = False
        self._states = {}

    def register_state(self, name, default):
        """A buffer which is ``default`` (without a batch axis) as long as statefulness is off."""
        self._states[name] = default.shape
        self.register_buffer(name, default, persistent=False)

    def enable_statefulness(self, batch_size):
        """Forget what has been read, and from now on remember it, of ``batch_size`` rows."""
        self._switch(True, (batch_size,))

    def disable_statefulness(self):
        self._switch(False, ())

    def _switch(self, on, batch):
        for module in self.modules():
            if isinstance(module, Stateful):
                for name, shape in module._states.items():
                    setattr(module, name, getattr(module, name).new_zeros(*batch, *shape))
                module.stateful = on

    def apply_to_states(self, function):
        """Replace every buffer by the function of it: how its own beam search reorders the rows, on axis 0."""
        for module in self.modules():
            if isinstance(module, Stateful):
                for name in module._states:
                    setattr(module, name, function(getattr(module, name)))


class StatefulAttention(Stateful):
    """Multi-head attention with a residual; ``remembers``: over all keys and values since statefulness was enabled."""

    def __init__(self, hidden, heads=2, remembers=False):
        super().__init__()
        self.heads = heads
        self.remembers = remembers
        self.query = torch.nn.Linear(hidden, hidden)
        self.key = torch.nn.Linear(hidden, hidden)
        self.value = torch.nn.Linear(hidden, hidden)
        self.output = torch.nn.Linear(hidden, hidden)
        self.dropout = torch.nn.Dropout(DROPOUT)
        self.norm = torch.nn.LayerNorm(hidden)
        if remembers:
            self.register_state("running_keys", torch.zeros(0, hidden))
            self.register_state("running_values", torch.zeros(0, hidden))

    def forward(self, queries, others, unseen=None):
        keys, values = self.key(others), self.value(others)
        if self.remembers and self.stateful:
            self.running_keys = keys = torch.cat([self.running_keys, keys], dim=1)
            self.running_values = values = torch.cat([self.running_values, values], dim=1)
        q, k, v = (x.unflatten(-1, (self.heads, -1)).transpose(1, 2) for x in (self.query(queries), keys, values))
        energy = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        if unseen is not None:
            energy = energy.masked_fill(unseen, -math.inf)
        seen = (energy.softmax(dim=-1) @ v).transpose(1, 2).flatten(-2)
        return self.norm(queries + self.dropout(self.output(seen)))


class MeshedLayer(Stateful):
    """Looks at every level of the memory, and weighs what it sees there with a gate."""

    def __init__(self, hidden, levels):
        super().__init__()
        self.self_attention = StatefulAttention(hidden, remembers=True)
        self.cross_attention = StatefulAttention(hidden)
        self.gates = torch.nn.ModuleList(torch.nn.Linear(2 * hidden, hidden) for _ in range(levels))
        self.feed_forward = torch.nn.Sequential(
            torch.nn.Linear(hidden, 2 * hidden), torch.nn.ReLU(), torch.nn.Linear(2 * hidden, hidden)
        )
        self.norm = torch.nn.LayerNorm(hidden)

    def forward(self, inputs, memory, unseen):
        read = self.self_attention(inputs, inputs, unseen)
        seen = 0
        for gate, level in zip(self.gates, memory.unbind(dim=1), strict=True):
            look = self.cross_attention(read, level)
            seen = seen + torch.sigmoid(gate(torch.cat([read, look], dim=-1))) * look
        seen = seen / math.sqrt(len(self.gates))
        return self.norm(seen + self.feed_forward(seen))


class MeshedDecoder(Stateful):
    """Layers over words and positions, which it counts in a buffer of its own while statefulness is on."""

    max_length = 20

    def __init__(self, vocab_size, hidden, layers, levels):
        super().__init__()
        self.words = torch.nn.Embedding(vocab_size, hidden, padding_idx=0)
        self.positions = torch.nn.Embedding(self.max_length + 1, hidden)  # the first is number 1
        self.layers = torch.nn.ModuleList(MeshedLayer(hidden, levels) for _ in range(layers))
        self.project = louder(torch.nn.Linear(hidden, vocab_size, bias=False), SHARPNESS)
        self.register_state("running_seq", torch.zeros(1, dtype=torch.long))

    def forward(self, tokens, memory):
        if self.stateful:
            self.running_seq.add_(1)  # in place, unlike the other buffers: who keeps it without a copy sees it change
            positions, unseen = self.running_seq, None
        else:
            positions = torch.arange(1, tokens.shape[1] + 1, device=tokens.device)
            unseen = after(tokens.shape[1], tokens.device)
        hidden = self.words(tokens) + self.positions(positions)
        for layer in self.layers:
            hidden = layer(hidden, memory, unseen)
        return functional.log_softmax(self.project(hidden), dim=-1)


class MeshedMemory(Stateful):
    """A transformer that keeps what it has read in buffers of its submodules; log-probabilities come out.

    `step` between ``enable_statefulness(rows)`` and ``disable_statefulness()`` reads one token of each row; `forward`
    reads whole captions while statefulness is off.
    """

    PAD, START, END = 0, 1, 2

    def __init__(self, vocab_size=12, hidden=12, seed=0, layers=2, levels=2):
        super().__init__()
        self.vocab_size = vocab_size
        with seeded(seed):
            self.project = torch.nn.Linear(FEATURE, hidden)
            self.encoder = torch.nn.ModuleList(StatefulAttention(hidden) for _ in range(levels))
            self.decoder = MeshedDecoder(vocab_size, hidden, layers, levels)

    @staticmethod
    def pictures(count=3, seed=0, dtype=torch.float32):
        return random_images((REGIONS, FEATURE), count, seed, dtype)

    def encode(self, images):
        """Images [N, regions, feature] to memory [N, levels, regions, hidden]."""
        level, memory = self.project(images), []
        for layer in self.encoder:
            level = layer(level, level)
            memory.append(level)
        return torch.stack(memory, dim=1)

    def step(self, tokens, memory):
        """Read tokens [R]: log-probabilities [R, V] of the next ones; the buffers grow."""
        if not self.stateful:
            raise RuntimeError("enable_statefulness(batch_size) comes before the first step")
        return self.decoder(tokens.unsqueeze(1), memory).squeeze(1)

    def forward(self, memory, captions):
        if self.stateful:
            raise RuntimeError("disable_statefulness() comes before a pass over whole captions")
        return self.decoder(captions, memory)

    def teacher_forced(self, images, captions):
        return self(self.encode(torch.stack(tuple(images))), captions)
