"""Beam search with one model, beside what people use today: `make bench`, or `pytest benchmarks/test_generate.py -s`.

The same GPT-2-shaped model writes 16 words after 1, 8 or 32 prompts of 4 known words with 5 beams. Every program must
find the same sentences with the same log-probabilities. The programs are timed in turns:

- `decode` with `BeamSearch`. It is the only one that also computes the scores of the known words and of END.
- `generate` of transformers, without scores.
- A loop written by hand, one hypothesis at a time, for a single prompt.
- pytorch-beam-search, if it is installed (`pip install pytorch-beam-search`). It reads every prefix from its beginning
  at each step.

Ratios are the library's time divided by the other program's. Rows are the tokens that the model reads for a prompt.
"""

import contextlib
import copy

import measuring
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import models  # noqa: E402

from birnn_decode import BeamSearch, Pair, Template, decode  # noqa: E402

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
