"""Small copies of published captioning models, for the tests of the wrappers.

They are plain PyTorch modules with random weights that their seed fixes. They do not use this library.

- `ShowAttendTell`: an LSTM cell that looks at regions of the image. The rows of its state are on axis 0.
- `ShowTell`: an LSTM whose first input is the image, with batch normalisation. The rows of its state are on axis 1.
- `NewFC`, `Att2in`, `TransformerLike`: one interface, ``get_logprobs_state``, and three kinds of state. START, END and
  PAD have the same id.
- `Virtex`: both directions in one module, without a state.
- `MeshedMemory`: the state is in buffers of the module.

``pictures`` draws images in the format of the model's data set. ``teacher_forced`` is the training pass: it maps a list
of N images and captions [N, T], which begin with START, to scores [N, T, vocab_size]. The scores at t are those of
token t + 1. A backward model is another instance with another seed, trained on reversed captions. Only `Virtex` has
both directions in one instance.
"""

import contextlib
import math

import torch
from torch.nn import functional

REGIONS, FEATURE = 5, 6
DROPOUT = 0.3
SHARPNESS = 4  # factor of output layers; without it, all words would be about equally probable
RECURRENT_SHARPNESS = 12  # the same after an LSTM, whose outputs are smaller than those of a normalisation
GAIN = 4  # factor of recurrent cells, whose initial weights hardly let the inputs through


@contextlib.contextmanager
def seeded(seed):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def louder(layer, gain):
    """Multiply the weights of a layer by ``gain``."""
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            if "bias" not in name:
                parameter *= gain
    return layer


def random_images(shape, count, seed, dtype):
    """Draw a list of tensors, with the same values for float64 and float32."""
    generator = torch.Generator().manual_seed(seed)
    return [2 * torch.randn(shape, generator=generator).to(dtype) for _ in range(count)]


def after(length, device=None):
    """Return a mask [length, length], True where the token of the column comes after the token of the row."""
    return torch.ones(length, length, dtype=torch.bool, device=device).triu(1)


class ShowAttendTell(torch.nn.Module):
    """Gated additive attention over regions, then an LSTM cell. The memory is the same in all steps."""

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
        """Map images [N, regions, feature] to the memory [N, regions, hidden]."""
        return self.encoder(images)

    def init_state(self, memory):
        mean = memory.mean(dim=1)
        return torch.tanh(self.init_h(mean)), torch.tanh(self.init_c(mean))

    def step(self, tokens, memory, h, c):
        """Read tokens [R] with h and c [R, hidden]; return logits [R, V] of the next tokens, h and c."""
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
    """An LSTM whose first input is the image, before START. The output of the image is dropped.

    The model was written for training and has no method for a step. A step is ``embedding``, ``lstm``, ``project``. The
    rows of (h, c) are on axis 1 although ``batch_first`` is True.
    """

    PAD, START, END = 0, 1, 2

    def __init__(self, vocab_size=12, hidden=8, seed=0, layers=2):
        super().__init__()
        self.vocab_size = vocab_size
        with seeded(seed):
            norm = torch.nn.BatchNorm1d(hidden)  # in train mode it needs two images and changes its statistics
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
    """Base of a family of captioners: every step gets prepared features and returns log-probabilities.

    Id 0 is START, END and PAD. The attribute ``vocab_size`` is the number of words without this id: one less than the
    number of scores and than the argument ``vocab_size``.

    A step is ``get_logprobs_state(it, p_fc_feats, p_att_feats, pp_att_feats, p_att_masks, state)``. The four features
    are the tuple that ``_prepare_feature(fc_feats, att_feats, att_masks)`` returns. The masks may be None.
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
        """Return fc_feats [N, feature], att_feats [N, regions, feature] and None: all images have the same regions."""
        return torch.stack([image["fc"] for image in images]), torch.stack([image["att"] for image in images]), None

    def init_hidden(self, batch_size):
        some = next(self.parameters())
        return tuple(some.new_zeros(self.layers, batch_size, self.hidden) for _ in range(2))

    def get_logprobs_state(self, it, fc_feats, att_feats, p_att_feats, att_masks, state):
        """Read ``it`` [R]; return log-probabilities [R, V] of the next words and the state."""
        output, state = self.core(it, fc_feats, att_feats, p_att_feats, att_masks, state)
        return torch.log_softmax(self.logit(output), dim=-1), state


class NewFC(LogprobsStateCaptioner):
    """An LSTM. If the state of a row is all zero, the row reads its image before its first word.

    The state is (h, c), each [layers, R, hidden]. The regions are not used.
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
    """The oldest model: the image is a separate step, and ``get_logprobs_state(it, state)`` takes no features.

    The state is (h, c), each [1, R, hidden].
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
    """An LSTM that sees the regions only in its input gate. It does not see masked regions.

    The state is (h, c), each [1, R, hidden].
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
    """No cache: the state is a list with the tokens read so far, [1, R, t]; before the first token it is empty.

    Features that are not used have width 0 after ``_prepare_feature``. If there are no masks, it makes masks
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
    """Embeddings with ``max_caption_length`` positions, START included; IndexError beyond."""

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
    """Both directions in one module, which share the image, the words and the output layer. There is no state.

    The backward half was trained on reversed captions. It reads END first and predicts START last.
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
        """Return logits [R, V] of the next token of captions [R, t], which begin with START.

        ``visual_features`` is the output of ``visual`` with one row per caption.
        """
        return self.textual(visual_features, partial_captions)[:, -1]

    def backward_decoding_step(self, visual_features, partial_captions):
        """Do the same for reversed captions, which begin with END."""
        return self.backward_textual(visual_features, partial_captions)[:, -1]

    def teacher_forced(self, images, captions, backward=False):
        half = self.backward_textual if backward else self.textual
        return half(self.visual(torch.stack(tuple(images))), captions)


class Stateful(torch.nn.Module):
    """A module that can keep what it has read in buffers, for one batch at a time."""

    def __init__(self):
        super().__init__()
        self.stateful = False
        self._states = {}

    def register_state(self, name, default):
        """Add a buffer that is ``default``, without a batch axis, while statefulness is off."""
        self._states[name] = default.shape
        self.register_buffer(name, default, persistent=False)

    def enable_statefulness(self, batch_size):
        """Forget what was read, and from now on keep what ``batch_size`` rows read."""
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
        """Replace every buffer by ``function(buffer)``: its own beam search reorders the rows on axis 0 in this way."""
        for module in self.modules():
            if isinstance(module, Stateful):
                for name in module._states:
                    setattr(module, name, function(getattr(module, name)))


class StatefulAttention(Stateful):
    """Multi-head attention with a residual; ``remembers``: with all keys and values since statefulness was enabled."""

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
    """Attention to every level of the memory, with a gate for each level."""

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
    """Layers over words and positions. While statefulness is on, a buffer counts the positions."""

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
            self.running_seq.add_(1)  # in place, unlike the other buffers: a reference without a copy sees the change
            positions, unseen = self.running_seq, None
        else:
            positions = torch.arange(1, tokens.shape[1] + 1, device=tokens.device)
            unseen = after(tokens.shape[1], tokens.device)
        hidden = self.words(tokens) + self.positions(positions)
        for layer in self.layers:
            hidden = layer(hidden, memory, unseen)
        return functional.log_softmax(self.project(hidden), dim=-1)


class MeshedMemory(Stateful):
    """A transformer that keeps what it has read in buffers of its submodules, and returns log-probabilities.

    Between ``enable_statefulness(rows)`` and ``disable_statefulness()``, ``step`` reads one token of each row. While
    statefulness is off, ``forward`` reads whole captions.
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
        """Map images [N, regions, feature] to the memory [N, levels, regions, hidden]."""
        level, memory = self.project(images), []
        for layer in self.encoder:
            level = layer(level, level)
            memory.append(level)
        return torch.stack(memory, dim=1)

    def step(self, tokens, memory):
        """Read tokens [R]; return log-probabilities [R, V] of the next tokens. The buffers grow."""
        if not self.stateful:
            raise RuntimeError("enable_statefulness(batch_size) comes before the first step")
        return self.decoder(tokens.unsqueeze(1), memory).squeeze(1)

    def forward(self, memory, captions):
        if self.stateful:
            raise RuntimeError("disable_statefulness() comes before a pass over whole captions")
        return self.decoder(captions, memory)

    def teacher_forced(self, images, captions):
        return self(self.encode(torch.stack(tuple(images))), captions)
