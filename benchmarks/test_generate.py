"""Beam search with one model, beside what people use today: `make bench`, or `pytest benchmarks/test_generate.py -s`.

The same GPT-2-shaped model writes 16 words after 1, 8 or 32 prompts of 4 known words with 5 beams. Every program must
find the same sentences with the same log-probabilities. The programs are timed in turns:

- `decode` with `BeamSearch`. It is the only one that also computes the scores of the known words and of END.
- `generate` of transformers, without scores.
- A loop written by hand, one hypothesis at a time, for a single prompt.
- pytorch-beam-search, if it is installed (`pip install pytorch-beam-search`). It reads every prefix from its beginning
  at each step.

Models of the shapes of T5-small and BART-base write 16 words and END for 1 or 16 sources of 32 tokens in the same way.
The last benchmark measures the keys and values that cross-attention makes of long sources.

Ratios are the library's time divided by the other program's. Rows are the tokens that the model reads for a prompt.
"""

import contextlib
import copy
import weakref

import measuring
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import models  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from birnn_decode import BeamSearch, Pair, Template, as_scorer, decode  # noqa: E402

try:
    from pytorch_beam_search import autoregressive
except ImportError:
    autoregressive = None

VOCABULARY, KNOWN, STEPS, BEAMS = 10_000, 4, 16, 5
START, END = 1, 2
CLOSE = 1e-4  # relative: what the order of additions does to a sum of log-probabilities in single precision


class Banned(transformers.LogitsProcessor):
    """START and END fill no blank. For two ids this is cheaper than `suppress_tokens`, which goes over them all."""

    def __call__(self, input_ids, scores):
        scores[:, [START, END]] = -torch.inf
        return scores


def ours(scorer, prompts):
    # Without images, None stands for the one that all prompts share.
    templates = [Template.blank(prompt, STEPS) for prompt in prompts]
    results = decode(Pair(scorer), None, templates, BeamSearch("forward"), beam_size=BEAMS)
    return [
        [(one.tokens[KNOWN:], sum(one.token_log_probs_forward[KNOWN:-1])) for one in found.hypotheses]
        for found in results
    ]


def together(sentences, scores):
    """Each prompt's hypotheses, best first, of tensors that have them in this order."""
    hypotheses = zip(map(tuple, sentences.reshape(-1, STEPS).tolist()), scores.flatten().tolist(), strict=True)
    return [list(several) for several in zip(*[hypotheses] * BEAMS, strict=True)]


def generate(model, prompts, scored=False):
    """To tell its scores it keeps those of all words at every step, so that it is timed without."""
    read = torch.tensor([[START, *prompt] for prompt in prompts], device=model.device)
    written = model.generate(
        read,
        attention_mask=torch.ones_like(read),
        num_beams=BEAMS,
        num_return_sequences=BEAMS,
        max_new_tokens=STEPS,
        eos_token_id=None,  # nothing ends early, and no step looks for what has ended
        length_penalty=0.0,
        do_sample=False,
        logits_processor=[Banned()],
        output_scores=scored,
        return_dict_in_generate=True,
    )
    scores = written.sequences_scores if scored else torch.zeros(len(written.sequences))
    return together(written.sequences[:, -STEPS:], scores)


@torch.no_grad()
def by_hand(model, prompts):
    """A cache is changed by the call that it is given to, so that each hypothesis has a copy of its parent's."""
    answers = []
    for prompt in prompts:
        beam = [((), 0.0, transformers.DynamicCache())]
        for _ in range(STEPS):
            candidates = []
            for words, score, cache in beam:
                cache = copy.deepcopy(cache)
                read = torch.tensor([[words[-1]] if words else [START, *prompt]])
                log_probs = model(read, past_key_values=cache, use_cache=True).logits[0, -1].log_softmax(-1)
                log_probs[[START, END]] = -torch.inf
                for log_prob, word in zip(*(best.tolist() for best in log_probs.topk(BEAMS)), strict=True):
                    candidates.append(((*words, word), score + log_prob, cache))
            beam = sorted(candidates, key=lambda candidate: -candidate[1])[:BEAMS]
        answers.append([(words, score) for words, score, _ in beam])
    return answers


class Logits(torch.nn.Module):
    """A model as pytorch-beam-search calls it. It bans nothing: END is never good enough behind these prompts."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, read):
        return self.model(read, use_cache=False).logits


def pytorch_beam_search(model, prompts):
    read = torch.tensor([[START, *prompt] for prompt in prompts])
    sentences, scores = autoregressive.beam_search(Logits(model), read, predictions=STEPS, beam_width=BEAMS)
    return together(sentences[..., -STEPS:], scores)


def assert_same(answers, expected):
    """Same scores in the same order, and the same sentences wherever scores are not too close to be told apart."""
    assert len(answers) == len(expected)
    for answer, known in zip(answers, expected, strict=True):
        assert len(answer) == len(known) == BEAMS
        assert [score for _, score in answer] == pytest.approx([score for _, score in known], rel=CLOSE)
        lowest = known[-1][1] * (1 - 2 * CLOSE)  # at the end of the beam another may have had the place
        for words, score in answer:
            near = [one for one, value in known if value == pytest.approx(score, rel=2 * CLOSE)]
            assert words in near or score < lowest
        assert len({words for words, _ in answer}) == BEAMS


@contextlib.contextmanager
def counting(model, rows, name):
    """Add the tokens that the model reads to ``rows[name]``."""

    def hook(_, read):
        rows[name] += read[0].numel()

    handle = model.transformer.wte.register_forward_pre_hook(hook)
    yield
    handle.remove()


@pytest.mark.parametrize("items", [1, 8, 32])
def test_generate(benchmark, items):
    if benchmark.disabled and items > 1:
        pytest.skip("one prompt is enough to see that it runs")
    model = models.gpt2("forward", VOCABULARY)
    scorer = models.scorer(model, "forward")
    generator = torch.Generator().manual_seed(0)
    prompts = torch.randint(3, VOCABULARY, (items, KNOWN), generator=generator).tolist()
    programs = {
        "birnn_decode": lambda: ours(scorer, prompts),
        "transformers generate": lambda: generate(model, prompts),
    }
    if items == 1:
        programs["one hypothesis at a time"] = lambda: by_hand(model, prompts)
    if autoregressive is not None:
        programs["pytorch-beam-search"] = lambda: pytorch_beam_search(model, prompts)
    rows = dict.fromkeys(programs, 0)
    expected = programs["birnn_decode"]()
    for name, program in {**programs, "transformers generate": lambda: generate(model, prompts, scored=True)}.items():
        with counting(model, rows, name):
            answers = program()
        assert_same(answers, expected)
    times = measuring.in_turns(benchmark, programs)
    for name in programs:
        ratio = {} if name == "birnn_decode" else times.ratio("birnn_decode", name)
        row = {"items": items, "method": name, "rows": rows[name] / items, "ms": 1000 * times.median(name)}
        measuring.record(benchmark, "generate", **row, **ratio)


class Words(transformers.LogitsProcessor):
    """Sixteen words and then END, for `generate`: its score is then that of `decode`, with END."""

    def __init__(self, banned, end):
        self.banned, self.end = banned, end

    def __call__(self, input_ids, scores):
        if input_ids.shape[1] <= STEPS:
            scores[:, self.banned] = -torch.inf
        else:
            end = scores[:, self.end].clone()
            scores[:] = -torch.inf
            scores[:, self.end] = end
        return scores


BEST = BeamSearch("forward", rank="sentence")


def translate(scorer, sources):
    results = decode(Pair(scorer), sources, [Template.blank([], STEPS)] * len(sources), BEST)
    return [[(one.tokens, sum(one.token_log_probs_forward)) for one in found.hypotheses] for found in results]


def generate_translations(scorer, sources, scored=False):
    """The sources have the same length, so that they need no padding."""
    written = scorer.model.generate(
        **{name: torch.cat([source[name] for source in sources]) for name in sources[0]},
        num_beams=BEAMS,
        num_return_sequences=BEAMS,
        max_new_tokens=STEPS + 1,
        eos_token_id=None,
        forced_eos_token_id=None,
        length_penalty=0.0,
        do_sample=False,
        logits_processor=transformers.LogitsProcessorList([Words(sorted(scorer.never), scorer.end_token)]),
        output_scores=scored,
        return_dict_in_generate=True,
    )
    scores = written.sequences_scores if scored else torch.zeros(len(written.sequences))
    return together(written.sequences[:, 1 : 1 + STEPS], scores)


def of_length(length, items, vocab_size):
    ids = torch.randint(10, vocab_size, (items, length), generator=torch.Generator().manual_seed(0))
    return [{"input_ids": own[None], "attention_mask": torch.ones_like(own[None])} for own in ids]


@pytest.mark.parametrize("items", [1, 16])
@pytest.mark.parametrize("name", ["t5_small", "bart_base"])
def test_encoder_decoders(benchmark, name, items):
    if benchmark.disabled and (name, items) != ("t5_small", 1):
        pytest.skip("one of them is enough to see that it runs")
    scorer = as_scorer(getattr(models, name)())
    sources = of_length(32, items, scorer.vocab_size)
    programs = {
        "birnn_decode": lambda: translate(scorer, sources),
        "transformers generate": lambda: generate_translations(scorer, sources),
    }
    assert_same(generate_translations(scorer, sources, scored=True), programs["birnn_decode"]())
    times = measuring.in_turns(benchmark, programs)
    for program in programs:
        ratio = {} if program == "birnn_decode" else times.ratio("birnn_decode", program)
        row = {"model": name, "items": items, "method": program, "ms": 1000 * times.median(program)}
        measuring.record(benchmark, "encoder-decoders", **row, **ratio)


class KeysAndValues(TorchDispatchMode):
    """The most bytes at a time of keys and values [rows, heads, length, size] of sources of one length.

    Attributes:
        peak: the most bytes.
    """

    def __init__(self, length):
        super().__init__()
        self.length, self.peak, self._users = length, 0, {}

    def __torch_dispatch__(self, function, types, arguments=(), named=None):
        output = function(*arguments, **(named or {}))
        for tensor in output if isinstance(output, (tuple, list)) else [output]:
            if isinstance(tensor, torch.Tensor) and tensor.ndim == 4 and tensor.shape[2] == self.length:
                storage = tensor.untyped_storage()
                key = storage.data_ptr(), storage.nbytes()
                self._users[key] = self._users.get(key, 0) + 1
                weakref.finalize(tensor, self._gone, key)
        self.peak = max(self.peak, sum(size for _, size in self._users))
        return output

    def _gone(self, key):
        self._users[key] -= 1
        if not self._users[key]:
            del self._users[key]


def test_memory_of_sources(benchmark):
    """The keys and values of 8 sources of 512 tokens, with more and more beams."""
    length, items = (512, 8) if not benchmark.disabled else (64, 2)
    scorer = as_scorer(models.t5_small())
    sources = of_length(length, items, scorer.vocab_size)
    peaks = {}

    def search():
        for beams in (1, 5, 10):
            with KeysAndValues(length) as watched:
                template = [Template.blank([], 3)] * items
                decode(Pair(scorer), sources, template, BeamSearch("forward"), beam_size=beams)
            peaks[beams] = watched.peak

    benchmark.pedantic(search, rounds=1)
    assert 0 < peaks[1] == peaks[5] == peaks[10]
    for beams, peak in peaks.items():
        measuring.record(
            benchmark, "memory of sources", items=items, length=length, beams=beams, megabytes=peak / 2**20
        )
