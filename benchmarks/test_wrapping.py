"""What a wrapper adds to a step of its model: `make bench`, or `pytest benchmarks/test_wrapping.py -s`.

64 images with 5 beams each. Timed in turns: a step of the wrapper, and the model's own step on the same rows; then the
same with the reordering of beams before it, beside the loop that one writes by hand (the memory expanded once per beam,
the recurrent state gathered; Hugging Face's cache reordered in place). `extra_info` has the medians and the quartiles.
"""

import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from measuring import in_turns, record  # noqa: E402
from standins import ShowAttendTell  # noqa: E402

from birnn_decode import as_scorer  # noqa: E402
from birnn_decode.scorers.state import Cached  # noqa: E402
from birnn_decode.scorers.torch import TorchScorer  # noqa: E402

IMAGES, BEAMS, REPETITIONS = 64, 5, 21
ROWS = IMAGES * BEAMS
WORDS = 10  # read before the step that is timed


class Attention:
    """A decoder of 512 units over 49 regions, 10,000 words."""

    def __init__(self):
        torch.manual_seed(0)
        self.model = ShowAttendTell(10_000, hidden=512, seed=0).eval()
        self.images = [torch.randn(49, 6) for _ in range(IMAGES)]
        self.scorer = TorchScorer(
            self.step,
            start=self.model.init_state,
            condition=lambda memory: memory,
            batch_axis=0,
            aligned=False,
            encode=lambda images: self.model.encode(torch.stack(images)),
            vocab_size=10_000,
            start_token=1,
            end_token=2,
        )

    def step(self, tokens, state, memory):
        logits, h, c = self.model.step(tokens, memory, *state)
        return logits, (h, c)

    def begin_own(self):
        memory = self.model.encode(torch.stack(self.images))
        h, c = self.model.init_state(memory)
        return memory.repeat_interleave(BEAMS, 0), h.repeat_interleave(BEAMS, 0), c.repeat_interleave(BEAMS, 0)

    def fresh(self, own):
        return own

    def step_own(self, tokens, own):
        memory, h, c = own
        _, h, c = self.model.step(tokens, memory, h, c)
        return memory, h, c

    def reorder_own(self, own, rows):
        memory, h, c = own
        return memory, h[rows], c[rows]


class GPT2:
    """4 layers of 256 units behind 10 embeddings of an image, 10,000 words."""

    def __init__(self):
        torch.manual_seed(0)
        config = transformers.GPT2Config(
            vocab_size=10_000, n_embd=256, n_layer=4, n_head=4, n_positions=64, bos_token_id=0, eos_token_id=0
        )
        self.model = transformers.GPT2LMHeadModel(config).eval()
        self.images = [torch.randn(10, 256) for _ in range(IMAGES)]
        self.scorer = as_scorer(self.model, encode=torch.stack)

    def begin_own(self):
        cache = self.model(inputs_embeds=torch.stack(self.images), use_cache=True).past_key_values
        cache.batch_repeat_interleave(BEAMS)
        return cache

    def fresh(self, own):
        return Cached(own, "reorder_cache").own()

    def step_own(self, tokens, own):
        return self.model(tokens[:, None], past_key_values=own, use_cache=True).past_key_values

    def reorder_own(self, own, rows):
        own.reorder_cache(rows)
        return own


@pytest.mark.parametrize("what", ["step", "reorder and step"])
@pytest.mark.parametrize("kind", [Attention, GPT2])
def test_overhead(benchmark, kind, what):
    here = kind()
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(3, 10_000, (ROWS,), generator=generator)
    # Beams change places within their image.
    rows = (
        torch.arange(IMAGES)[:, None] * BEAMS + torch.randint(BEAMS, (IMAGES, BEAMS), generator=generator)
    ).flatten()
    scorer = here.scorer
    with torch.no_grad():
        state = scorer.select(scorer.start(scorer.encode(here.images)), torch.arange(IMAGES).repeat_interleave(BEAMS))
        own = here.begin_own()
        for _ in range(WORDS):
            _, state = scorer.step(tokens, state)
            own = here.step_own(tokens, own)
        mine = []

        def prepare():
            mine[:] = [here.fresh(own)]

        programs = {
            "step": (lambda: scorer.step(tokens, state), lambda: here.step_own(tokens, *mine)),
            "reorder and step": (
                lambda: scorer.step(tokens, scorer.select(state, rows)),
                lambda: here.step_own(tokens, here.reorder_own(*mine, rows)),
            ),
        }
        wrapper, model = programs[what]
        times = in_turns(
            benchmark, {"wrapper": wrapper, "model": model}, repetitions=REPETITIONS, before={"model": prepare}
        )
    ms = 1e3 * times.median("model")
    record(benchmark, "wrapping", decoder=kind.__name__, what=what, model_ms=ms, **times.ratio("wrapper", "model"))
