"""Models inside of PyTorch's and PEFT's wrappers decode as what is inside them."""

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

import generators  # noqa: E402

from birnn_decode import BeamSearch, Pair, as_scorer, decode  # noqa: E402
from birnn_decode.scorers import unwrapped  # noqa: E402

OF_PEFT = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # it calls it


def answers(model):
    sources = [generators.sentence(number) for number in range(3)]
    results = decode(Pair(model), sources, None, BeamSearch("forward"), beam_size=2, max_length=6)
    return [one for result in results for one in result.hypotheses]


def in_parallel(model):
    return torch.nn.DataParallel(model)


def distributed(model):
    return torch.nn.parallel.DistributedDataParallel(model)


def compiled(model):
    return torch.compile(model, backend="eager")


def twice(model):
    return compiled(in_parallel(model))


@pytest.fixture
def process_group(tmp_path):
    store = f"file://{tmp_path}/store"
    torch.distributed.init_process_group("gloo", init_method=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("wrap", [in_parallel, distributed, compiled, twice])
def test_a_wrapped_model_decodes_as_the_model_inside(wrap, process_group):
    model = generators.bart()
    wrapped = wrap(model)
    assert wrapped is not model
    assert unwrapped(wrapped) is model
    assert answers(wrapped) == answers(model)


@OF_PEFT
def test_weights_of_lora_take_part():
    peft = pytest.importorskip("peft")
    plain = answers(generators.bart())
    wrapped = peft.get_peft_model(generators.bart(), peft.LoraConfig(target_modules=["q_proj", "v_proj"], r=2))
    assert answers(wrapped) == plain  # LoRA begins with a change of zero
    with torch.no_grad():
        for name, weight in wrapped.named_parameters():
            if "lora_B" in name:
                weight.fill_(0.5)
    changed = [one.score for one in answers(wrapped)]
    assert changed != pytest.approx([one.score for one in plain])
    assert changed == pytest.approx([one.score for one in answers(wrapped.merge_and_unload())])


@OF_PEFT
def test_a_learnt_prompt_is_refused():
    peft = pytest.importorskip("peft")
    config = peft.PromptTuningConfig(num_virtual_tokens=2, task_type="CAUSAL_LM")
    wrapped = peft.get_peft_model(generators.gpt2(), config)
    with pytest.raises(TypeError, match="PeftModelForCausalLM puts a learnt prompt in front of the model"):
        as_scorer(wrapped)


def test_what_is_no_wrapper_stays_as_it_is():
    class Model:
        module = "not a wrapped model"

    model = Model()
    assert unwrapped(model) is model
