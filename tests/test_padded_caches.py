"""Rows that have read different numbers of words share a call of a Hugging Face model: their caches are padded."""

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import generators  # noqa: E402
from generators import END, IDS, LLAMA, OPT, TEXT, V, built, prompt, sentence  # noqa: E402
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from birnn_decode import BSCD, Pair, Rerank, Template, as_scorer, decode  # noqa: E402


def opt():
    given = {name: value for name, value in OPT.items() if name != "model_type"}
    return built(transformers.OPTForCausalLM, transformers.OPTConfig(**given), 1)


def neox():
    return built(transformers.GPTNeoXForCausalLM, transformers.GPTNeoXConfig(**TEXT, **IDS), 1)


def qwen():
    return built(transformers.Qwen2ForCausalLM, transformers.Qwen2Config(**LLAMA), 1)


def roberta():
    """Its positions are counted from after the id of PAD."""
    ids = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": END}
    return built(transformers.RobertaForCausalLM, transformers.RobertaConfig(**TEXT, **ids, is_decoder=True), 1)


def falcon():
    """It has no positions: the distance to a word is subtracted from the attention to it."""
    size = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "alibi": True}
    return built(transformers.FalconForCausalLM, transformers.FalconConfig(vocab_size=V, **size, **IDS), 1)


MODELS = {
    "GPT-2": generators.gpt2,
    "Llama": generators.llama,
    "OPT": opt,
    "GPT-NeoX": neox,
    "Qwen": qwen,
    "RoBERTa": roberta,
    "Falcon": falcon,
    "T5": generators.t5,
    "BART": generators.bart,
    "mBART": generators.mbart,
    "Marian": generators.marian,
    "Pegasus": generators.pegasus,
    "BLIP-2": generators.MODELS["BLIP-2, T5"][0],
}
SOURCES = {
    **dict.fromkeys(("T5", "BART", "mBART", "Marian", "Pegasus"), sentence),
    "BLIP-2": generators.MODELS["BLIP-2, T5"][1],
}
WORDS = [[5, 9, 11, 6, 7, 8, 10], [12, 4, 6, 9, 5, 7, 13], [8, 8, 10, 14, 4, 11, 6]]
ROWS = [(0, 1), (1, 4), (1, 2), (0, 3), (2, 1)]  # the source of each row, and the words that it reads alone
MORE = 2  # words that all rows then read together
ORDER = [3, 1, 4, 0, 2]
SHORTER = [2, 0, 3]  # some of them, without the longest


def read(scorer, state, rows):
    return scorer.steps(torch.tensor(rows), state)


@pytest.mark.parametrize("name", [*MODELS, *(f"{name}, no prompt" for name in MODELS if name not in SOURCES)])
@torch.no_grad()
def test_rows_of_different_lengths_are_read_together(name):
    name, *no_prompt = name.split(", ")
    scorer = as_scorer(MODELS[name]())
    sources = [None if no_prompt else SOURCES.get(name, prompt)(number) for number in (2, 5, 7)]
    beginning = scorer.start(scorer.encode(sources))
    words = [WORDS[number % 3] for number in range(len(ROWS))]
    states = []
    for (source, count), own in zip(ROWS, words, strict=True):
        _, state = read(scorer, scorer.select(beginning, [source]), [[scorer.start_token, *own[:count]]])
        states.append(state)
    together = scorer.select(scorer.join(states), ORDER)
    both, after = read(scorer, together, [words[row][ROWS[row][1] : ROWS[row][1] + MORE] for row in ORDER])
    last, end = read(scorer, scorer.select(after, SHORTER), [[4]] * len(SHORTER))

    for place, row in enumerate(ORDER):
        source, count = ROWS[row]
        alone = scorer.start(scorer.encode([sources[source]]))
        whole, _ = read(scorer, alone, [[scorer.start_token, *words[row][: count + MORE], 4]])
        assert torch.allclose(both[place], whole[0, -1 - MORE : -1], atol=1e-9)
        if place in SHORTER:
            assert torch.allclose(last[SHORTER.index(place), 0], whole[0, -1], atol=1e-9)
    longest = max(ROWS[ORDER[place]][1] for place in SHORTER) + MORE + 1
    assert end.cache.cache.get_seq_length() == beginning.cache.cache.get_seq_length() + bool(no_prompt) + longest


class Counted:
    """A scorer that counts the calls of its model."""

    def __init__(self, scorer, aligned):
        self._scorer, self.aligned, self.calls = scorer, aligned, 0

    def __getattr__(self, name):
        return getattr(self._scorer, name)

    def step(self, tokens, state):
        self.calls += 1
        return self._scorer.step(tokens, state)

    def steps(self, tokens, state):
        self.calls += 1
        return self._scorer.steps(tokens, state)


SCORERS = [as_scorer(generators.gpt2()), as_scorer(generators.llama())]
TRANSLATORS = [as_scorer(generators.bart()), as_scorer(generators.t5())]


@settings(max_examples=15)
@given(
    blanks=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 5), st.integers(0, 3)), min_size=1, max_size=3),
    given=st.sampled_from([(SCORERS, None), (SCORERS, prompt), (TRANSLATORS, sentence)]),
    beam_size=st.integers(1, 4),
)
def test_answers_and_rows_are_those_of_separate_calls(blanks, given, beam_size):
    templates = [Template.blank(WORDS[0][:left], width, WORDS[1][:right]) for left, width, right in blanks]
    scorers, source_of = given
    sources = source_of and [source_of(number) for number in range(len(blanks))]
    found, calls = [], []
    for aligned in (False, True):
        counted = [Counted(scorer, aligned) for scorer in scorers]
        found.append(decode(Pair(*counted), sources, templates, BSCD(), beam_size=beam_size))
        calls.append(sum(one.calls for one in counted))
    for one, other in zip(*found, strict=True):
        assert [best.tokens for best in one.hypotheses] == [best.tokens for best in other.hypotheses]
        assert one.best.score == pytest.approx(other.best.score, abs=1e-9)
        assert one.rows_evaluated == other.rows_evaluated
    assert calls[0] <= calls[1]


def test_a_search_takes_fewer_calls():
    template = Template.blank([5, 6, 7], 10, [8, 9])
    calls = []
    for aligned in (False, True):
        counted = [Counted(scorer, aligned) for scorer in SCORERS]
        decode(Pair(*counted), None, template, BSCD())
        calls.append(sum(one.calls for one in counted))
    assert calls[0] < 0.8 * calls[1]


def test_a_sentence_read_from_start_beside_one_read_from_its_blank():
    """The first word after a prompt has its scores already, so START is not read again."""
    sources, templates = [prompt(2), prompt(5)], [Template((5,)), Template.blank([5, 6], 3, [7, 8, 9])]
    together = decode(Pair(*SCORERS), sources, templates, Rerank())
    for source, template, found in zip(sources, templates, together, strict=True):
        alone = decode(Pair(*SCORERS), source, template, Rerank())
        assert [one.tokens for one in found.hypotheses] == [one.tokens for one in alone.hypotheses]
        assert [one.score for one in found.hypotheses] == pytest.approx([one.score for one in alone.hypotheses])


KEEP = ["Whisper", "VisionEncoderDecoder, GPT-2", "BLIP", "GIT", "Mistral", "LLaVA"]


@pytest.mark.parametrize("name", KEEP)
def test_other_models_read_rows_of_one_length(name):
    """Their caches are windows, they put pictures among the words, or they are given no positions."""
    build, _ = generators.MODELS[name]
    assert as_scorer(build(), generate_kwargs=generators.GENERATE.get(name)).aligned


@pytest.mark.parametrize("kind", ["longrope", "dynamic"])
def test_rotations_that_depend_on_the_longest_row(kind):
    factors = {"short_factor": [1.0] * 4, "long_factor": [4.0] * 4} if kind == "longrope" else {}
    rotations = {"rope_type": kind, "rope_theta": 1e4, "factor": 8.0, "original_max_position_embeddings": 8, **factors}
    config = transformers.LlamaConfig(**LLAMA, rope_parameters=rotations)
    assert as_scorer(built(transformers.LlamaForCausalLM, config, 1)).aligned
