"""Hugging Face's models, built from configurations: what the scorer takes from them, and its messages."""

from itertools import chain

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import tokenizers  # noqa: E402
from tiny_models import TINY_TEXT, V, blip, built, git, gpt2, pixels, vit_gpt2  # noqa: E402
from transformers.modeling_outputs import BaseModelOutput  # noqa: E402

from birnn_decode import BeamSearch, Pair, Template, as_scorer, bscd_decode, decode, score_sentences  # noqa: E402
from birnn_decode.scorers import AdjustedScorer, EnsembleScorer  # noqa: E402
from birnn_decode.scorers.state import Cached  # noqa: E402
from birnn_decode.scorers.torch import TorchScorer  # noqa: E402


def embeddings(images):
    return torch.stack(images)[:, 0, :4, :].repeat(1, 1, 2)  # [N, 4, 16]


@pytest.mark.parametrize(
    ("build", "start", "end", "never", "most"),
    [
        (vit_gpt2, 1, 2, {0, 1, 2, 3}, 12),
        (blip, 1, 2, {0, 1, 2, 3}, 12),  # ends with the separator instead of eos
        (git, 1, 2, {0, 1, 2}, 12),
        (gpt2, 0, 0, {0}, 16),
    ],
)
def test_ids_are_those_of_the_configuration(build, start, end, never, most):
    scorer = as_scorer(build(0))
    assert (scorer.start_token, scorer.end_token, scorer.vocab_size) == (start, end, V)
    assert scorer.never | {start, end} == never | {start, end}
    assert scorer.max_tokens == most
    told = as_scorer(build(0), "backward", start_token=end, end_token=start, never={7}, max_tokens=5)
    assert (told.start_token, told.end_token, told.max_tokens, told.direction) == (end, start, 5, "backward")
    assert told.never == scorer.never | {7}


def roberta(seed):
    config = transformers.RobertaConfig(**TINY_TEXT, pad_token_id=1, bos_token_id=0, eos_token_id=2, is_decoder=True)
    return built(transformers.RobertaForCausalLM, config, seed)


def test_positions_are_counted_from_behind_the_padding():
    """RoBERTa's first position is number 2 if PAD is 1, so that 12 rows of the table are enough for 10 tokens."""
    scorer = as_scorer(roberta(0))
    assert scorer.max_tokens == 10
    assert decode(Pair(scorer, None), None, Template.blank([4], 8), BeamSearch("forward"), beam_size=2).hypotheses
    told = as_scorer(roberta(0), max_tokens=12)
    with pytest.raises(ValueError, match=r"cannot read 11 tokens of a sentence, START included \(.*max_tokens="):
        decode(Pair(told, None), None, Template.blank([4], 10), BeamSearch("forward"), beam_size=2)


def test_scores_are_those_of_the_models_own_positions():
    """Its ``generate`` counts positions from 0, and it was trained with positions from after the padding."""
    model = roberta(0)
    with torch.no_grad():
        expected = [
            model(torch.tensor([[*own, 4, 5, 6]]))
            .logits[0, -4:]
            .log_softmax(-1)[[0, 1, 2, 3], [4, 5, 6, 2]]
            .sum()
            .item()
            for own in ([0], [7, 8, 9])
        ]
    sources = [None, {"input_ids": [7, 8, 9]}]
    found = [score_sentences(Pair(model), source, [[4, 5, 6]])[0].log_prob_forward for source in sources]
    assert found == pytest.approx(expected)


def test_a_configuration_without_a_limit():
    model = git(0)
    model.config.max_position_embeddings = -1
    assert as_scorer(model).max_tokens is None


def test_images_take_the_models_precision():
    model = gpt2(0).bfloat16()
    single = as_scorer(model, encode=lambda images: embeddings(images).float())
    half = as_scorer(model, encode=lambda images: embeddings(images).bfloat16())
    template = Template.blank([4], 2, [5])
    one, other = (decode(Pair(scorer, None), pixels(), template, BeamSearch("forward")) for scorer in (single, half))
    assert [result.hypotheses for result in one] == [result.hypotheses for result in other]


def test_sums_of_half_precision_are_taken_in_single():
    model = git(0).bfloat16()
    scorer = as_scorer(model)
    with torch.no_grad():
        context = scorer.encode(pixels())
        (terms,) = scorer.score(context, torch.tensor([1]), [(4, 5, 6)])
        logits, _ = scorer.steps(torch.tensor([[1, 4, 5, 6]]), scorer.select(context, torch.tensor([1])))
    assert terms.dtype == torch.float32
    single = logits[0].float().log_softmax(-1)
    assert terms.tolist() == pytest.approx(
        [single[at, token].item() for at, token in enumerate((4, 5, 6, 2))], abs=1e-5
    )


def test_models_go_straight_into_a_decode():
    models = [git(1), git(2)]
    template = Template.blank([4], 2, [5])
    direct = bscd_decode(*models, pixels(), template)
    wrapped = bscd_decode(*(as_scorer(model) for model in models), pixels(), template)
    assert [result.hypotheses for result in direct] == [result.hypotheses for result in wrapped]


def test_dropout_is_off_while_decoding_and_on_again_afterwards():
    model = git(1).train()
    template = Template.blank([4], 2, [5])
    one, two = (decode(Pair(model, None), pixels()[0], template, BeamSearch("forward")) for _ in range(2))
    assert one.hypotheses == two.hypotheses
    assert model.training
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize("build", [vit_gpt2, blip, git, gpt2])
def test_states_are_not_changed_by_later_calls(build):
    """A call changes the cache that it gets, but not the cache of the state."""
    model = build(0)
    scorer = as_scorer(model, encode=embeddings) if build is gpt2 else as_scorer(model)
    with torch.no_grad():
        _, state = scorer.step([4, 5, 6], scorer.select(scorer.start(scorer.encode(pixels())), torch.arange(3)))
        first, _ = scorer.step([7, 8, 9], state)
        scorer.step([4, 4, 4], state)
        scorer.step([5, 6], scorer.select(state, torch.tensor([2, 0])))
        again, _ = scorer.step([7, 8, 9], state)
    assert torch.equal(first, again)


@pytest.mark.parametrize("build", [vit_gpt2, blip, git, gpt2])
def test_rows_joined_are_rows_side_by_side(build):
    model = build(0)
    scorer = as_scorer(model, encode=embeddings) if build is gpt2 else as_scorer(model)
    with torch.no_grad():
        _, state = scorer.step([4, 5, 6], scorer.start(scorer.encode(pixels())))
        parts = [scorer.select(state, torch.tensor(rows)) for rows in ([2, 0], [1, 1, 2])]
        together, _ = scorer.step([7, 8, 9, 10, 4], scorer.join(parts))
        alone = [scorer.step(tokens, part)[0] for tokens, part in zip(([7, 8], [9, 10, 4]), parts, strict=True)]
    assert torch.allclose(together, torch.cat(alone), atol=1e-10)


@pytest.mark.parametrize(("build", "eye"), [(vit_gpt2, "encoder"), (blip, "vision_model"), (git, "git.image_encoder")])
def test_images_are_looked_at_once(build, eye):
    """This holds for known words of different lengths and for any number of sentences."""
    model = build(0)
    calls = []
    model.get_submodule(eye).register_forward_hook(lambda *_: calls.append(1))
    templates = [Template.blank([4] * known, 2, [5]) for known in (0, 1, 2)]
    decode(Pair(model, None), pixels(), templates, BeamSearch("forward"))
    assert len(calls) == 1
    score_sentences(Pair(model, None), pixels(), [[[4, 5], [6]]] * 3)
    assert len(calls) == 2


def test_many_sentences_are_scored_in_parts(monkeypatch):
    scorer = as_scorer(blip(0))
    sentences = [[4, 5, 6], [7], [], [8, 9], [4, 4, 4, 4]]
    whole = score_sentences(Pair(scorer, None), pixels(), [sentences] * 3)
    monkeypatch.setattr("birnn_decode.scorers.reader.LARGEST_BLOCK", 11 * V)
    parts = score_sentences(Pair(scorer, None), pixels(), [sentences] * 3)
    for one, two in zip(chain(*whole), chain(*parts), strict=True):
        assert one.token_log_probs_forward == pytest.approx(two.token_log_probs_forward)


def test_special_tokens_and_ids_beyond_the_tokenizer_are_no_words():
    words = ["<pad>", "<s>", "</s>", "<unk>", "a", "dog", "runs", "far", "1", "."]
    own = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: token for token, word in enumerate(words)}, unk_token="<unk>")
    )
    own.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=own, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    scorer = as_scorer(gpt2(0), vocabulary=tokenizer)
    assert scorer.never == {0, 1, 2, 3, 10, 11}
    result = decode(Pair(scorer, None), None, "a _ runs", BeamSearch("forward"), beam_size=20)
    assert {hypothesis.blanks[0][0] for hypothesis in result.hypotheses} == set(range(4, 10))
    assert {hypothesis.text for hypothesis in result.hypotheses} >= {"a dog runs", "a far runs"}
    told = decode(Pair(gpt2(0), None), None, "a _ runs", BeamSearch("forward"), beam_size=20, vocabulary=tokenizer)
    assert told.hypotheses == result.hypotheses


def no_start():
    model = vit_gpt2(0)
    model.config.decoder_start_token_id = model.generation_config.decoder_start_token_id = None
    model.config.decoder.bos_token_id = model.generation_config.bos_token_id = None
    return model


def two_ends():
    model = git(0)
    model.generation_config.eos_token_id = [2, 3]
    return model


def crops(images):
    """Return two tensors per image, which is wrong."""
    return torch.stack(images).repeat_interleave(2, 0)


def two_way_bert():
    """A masked language model, which does not write word by word."""
    config = transformers.BertConfig(
        vocab_size=V, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, bos_token_id=1
    )
    config.eos_token_id = 2
    return transformers.BertLMHeadModel(config)


def bert():
    return transformers.BertModel(
        transformers.BertConfig(
            vocab_size=V, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
        )
    )


@pytest.mark.parametrize(
    ("build", "options", "images", "error", "message"),
    [
        (
            no_start,
            {},
            [],
            ValueError,
            r"VisionEncoderDecoderModel has no id for start_token \(None\). Give start_token=",
        ),
        (bert, {}, [], TypeError, "BertModel, which is not a Scorer"),
        (
            lambda: blip(0),
            {},
            ["a.png"],
            TypeError,
            "a source is a str; BlipForCond.*give encode=lambda images: processor",
        ),
        (
            lambda: gpt2(0),
            {},
            pixels(),
            ValueError,
            r"give inputs_embeds of shape \(3, 3, 8, 8\) for 3 sources; it must be \[N, P, hidden\]",
        ),
        (
            lambda: gpt2(0),
            {},
            ["a"],
            TypeError,
            "a source is a str; GPT2LMHeadModel takes mappings.*give encode=lambda te",
        ),
        (lambda: gpt2(0), {"reads_start": False}, [], ValueError, "reads_start=False needs an image before the words"),
        (
            lambda: gpt2(0),
            {"encode": torch.stack},
            pixels(),
            ValueError,
            r"shape \(3, 3, 8, 8\) for 3 sources; it must be \[N, P, hidden\], embeddings",
        ),
        (
            lambda: gpt2(0),
            {"colour": 3},
            [],
            TypeError,
            "no option colour for a .*GPT2LMHeadModel. The options are .*generate_kwargs.*reads_start",
        ),
        (lambda: git(0), {"reads_start": False}, [], ValueError, "reads_start=False needs an image before the words"),
        (lambda: git(0), {"vocab_size": 9}, [], TypeError, "no option vocab_size for a"),
        (lambda: git(0), {"never": 7}, [], TypeError, "never must be a set of ids.* got 7"),
        (
            lambda: git(0),
            {"encode": crops},
            pixels(),
            ValueError,
            r"shape \(6, 3, 8, 8\) for 3 sources; it must be \[N, ch",
        ),
        (lambda: blip(0), {}, [pixels()[0][None]], ValueError, r"shape \(1, 1, 3, 8, 8\) for 1 sources; it must be"),
        (
            lambda: blip(0),
            {"encode": enumerate},
            pixels(),
            TypeError,
            "encode returned a enumerate; it must return a tensor .* pixel_values that",
        ),
        (
            two_way_bert,
            {},
            [None],
            TypeError,
            "returned a CausalLMOutput.* without a cache of keys and values.*TorchScorer",
        ),
    ],
)
def test_what_does_not_do(build, options, images, error, message):
    with pytest.raises(error, match=message):
        decode(
            Pair(as_scorer(build(), "forward", **options), None), images, Template.blank([], 1), BeamSearch("forward")
        )


@pytest.mark.parametrize(("reads_start", "most"), [(True, 11), (False, 12)])
def test_the_images_embeddings_take_positions_too(reads_start, most):
    """Four embeddings of the image leave 12 of 16 positions for the words, and for START if it is read."""
    scorer = as_scorer(gpt2(0), encode=embeddings, reads_start=reads_start)
    for given in (scorer, AdjustedScorer(scorer, temperature=2), EnsembleScorer([scorer])):
        assert decode(
            Pair(given, None), pixels()[0], Template.blank([4] * 9, most - 9), BeamSearch("forward")
        ).hypotheses
        with pytest.raises(ValueError, match=f"has up to {most + 1} words, but the models read at most {most} words"):
            decode(Pair(given, None), pixels()[0], Template.blank([4] * 9, most - 8), BeamSearch("forward"))
        written = decode(Pair(given, None), pixels()[0], method=BeamSearch("forward"), beam_size=2)
        assert max(len(hypothesis.tokens) for hypothesis in written.hypotheses) <= most
    longer = as_scorer(gpt2(0), encode=lambda images: embeddings(images).repeat(1, 2, 1), reads_start=reads_start)
    for together in ([scorer, longer], [longer, scorer]):
        with pytest.raises(ValueError, match=f"the models read at most {most - 4}"):
            decode(
                Pair(EnsembleScorer(together), None),
                pixels()[0],
                Template.blank([4] * 9, most - 9),
                BeamSearch("forward"),
            )
    unlimited = as_scorer(gpt2(0), encode=embeddings, max_tokens=None)
    with pytest.raises(ValueError, match="the forward scorer cannot read 13 tokens of a sentence, START included"):
        decode(Pair(unlimited, None), pixels()[0], Template.blank([4] * 9, 7), BeamSearch("forward"))


# ------------------------------------------------------------------------------------------------------------- caches


class OwnCache:
    """A cache of one tensor, which it changes in place. It has two methods that reorder it."""

    def __init__(self, rows):
        self.kept = torch.zeros(rows, 3, dtype=torch.int64)
        self.length = 0

    def add(self, tokens):
        self.kept[:, self.length] = tokens
        self.length += 1

    def reorder(self, rows):
        self.kept.copy_(self.kept[rows]) if len(rows) == len(self.kept) else setattr(self, "kept", self.kept[rows])

    def chosen(self, rows):
        new = OwnCache(len(rows))
        new.kept, new.length = self.kept[rows], self.length
        return new


@pytest.mark.parametrize("method", ["reorder", "chosen"])
def test_a_cache_of_ones_own_is_reordered_and_stepped_on_copies(method):
    def step(tokens, state):
        state["cache"].add(tokens)  # in place
        scores = torch.nn.functional.one_hot(state["cache"].kept.sum(dim=1) % V, V).double()
        return scores, state

    scorer = TorchScorer(
        step,
        lambda images: {"cache": OwnCache(len(images))},
        batch_axis={"cache": method},
        vocab_size=V,
        start_token=0,
        end_token=1,
    )
    assert scorer.join is None
    state = scorer.start(scorer.encode([None] * 3))
    scores, after = scorer.step([1, 2, 3], state)
    assert scores.argmax(dim=1).tolist() == [1, 2, 3]
    for _ in range(2):  # the state has not changed, nor what was selected from it
        assert scorer.step([4, 5, 6], after)[0].argmax(dim=1).tolist() == [5, 7, 9]
        turned = scorer.select(after, torch.tensor([2, 0, 0]))
        assert scorer.step([1, 1, 2], turned)[0].argmax(dim=1).tolist() == [4, 2, 3]
        fewer = scorer.select(after, torch.tensor([1]))
        assert scorer.step([0], fewer)[0].argmax(dim=1).tolist() == [2]
        assert scorer.step([1, 1, 2], turned)[0].argmax(dim=1).tolist() == [4, 2, 3]
    assert scorer.step([4, 5, 3], state)[0].argmax(dim=1).tolist() == [4, 5, 3]


def test_gradients_do_not_go_through_a_cache_that_is_copied():
    weight = torch.ones(V, requires_grad=True)

    def step(tokens, state):
        state.kept = state.kept * weight[0]
        return weight.expand(len(tokens), V), state

    scorer = TorchScorer(
        step, lambda images: OwnCache(1), batch_axis="reorder", vocab_size=V, start_token=0, end_token=1
    )
    with pytest.raises(TypeError, match=r"a OwnCache cannot be copied while gradients are recorded\. Make its tensors"):
        score_sentences(Pair(scorer, None), None, [[4, 5]], gradients=True)


def test_gradients_go_through_a_growing_cache():
    model = git(0)
    ((sentence,),) = score_sentences(Pair(model, None), pixels()[:1], [[[4, 5]]], gradients=True)
    sentence.log_prob_forward.backward()
    assert model.output.weight.grad.abs().sum() > 0


def test_a_state_of_a_type_of_its_own():
    """Hugging Face's outputs are dicts that also have attributes."""

    def start(images):
        return BaseModelOutput(last_hidden_state=torch.arange(len(images)))

    def step(tokens, state):
        scores = torch.nn.functional.one_hot((state.last_hidden_state + tokens) % V, V).double()
        return scores, BaseModelOutput(last_hidden_state=state.last_hidden_state + tokens)

    scorer = TorchScorer(step, start, batch_axis=0, vocab_size=V, start_token=0, end_token=1)
    state = scorer.select(scorer.start(scorer.encode([None] * 3)), torch.tensor([2, 1]))
    scores, state = scorer.step([3, 4], scorer.join([state]))
    assert scores.argmax(dim=1).tolist() == [5, 5]


def test_a_cache_without_the_method_it_is_said_to_have():
    scorer = TorchScorer(
        None, lambda _: [OwnCache(1)], batch_axis=["shuffle"], vocab_size=V, start_token=0, end_token=1
    )
    with pytest.raises(TypeError, match=r"state\[0\] is a OwnCache, which has no method 'shuffle' to reorder its rows"):
        scorer.start(scorer.encode([None]))


def test_a_cache_that_is_written_in_place_is_copied_whole():
    """Hugging Face's static cache is one table that each call writes into."""
    cache = transformers.StaticCache(config=gpt2(0).config, max_cache_len=4)
    keys = torch.randn(2, 2, 1, 8)
    cache.update(keys, keys, 0)
    kept = Cached(cache, "reorder_cache")
    kept.own().update(keys + 1, keys + 1, 0)
    assert torch.equal(cache.layers[0].keys[:, :, 1:], torch.zeros(2, 2, 3, 8))
    turned = kept.select(torch.tensor([1, 0])).own()
    assert torch.equal(turned.layers[0].keys[:, :, 0], keys[[1, 0], :, 0])
    assert torch.equal(cache.layers[0].keys[:, :, 0], keys[:, :, 0])
    with pytest.raises(TypeError, match="caches of type StaticCache cannot be joined"):
        Cached.join([kept, kept])


def test_a_growing_cache_is_copied_without_its_tensors():
    cache = transformers.DynamicCache()
    keys = torch.randn(2, 2, 1, 8)
    cache.update(keys, keys, 0)
    own = Cached(cache, "reorder_cache").own()
    assert own.layers[0].keys is cache.layers[0].keys
    own.update(keys, keys, 0)
    assert cache.get_seq_length() == 1
    assert own.get_seq_length() == 2


def test_rows_of_a_cache_selected_again_and_again():
    cache = transformers.DynamicCache()
    keys = torch.arange(3.0)[:, None, None, None]
    cache.update(keys, keys, 0)
    kept = Cached(cache, "reorder_cache").select(torch.tensor([2, 0, 0, 1])).select([3, 0, 1])
    assert kept.own().layers[0].keys.flatten().tolist() == [1, 2, 0]
    both = Cached.join([kept, kept.select([2])])
    assert both.own().layers[0].values.flatten().tolist() == [1, 2, 0, 0]
