"""Every kind of Hugging Face generator decodes as its own ``generate`` does."""

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import generators  # noqa: E402
import numpy as np  # noqa: E402
from generators import GENERATE, MODELS, PAD, bart, llama, mbart, prompt, sentence  # noqa: E402

from birnn_decode import (  # noqa: E402
    BeamSearch,
    Objective,
    Pair,
    PrefixScorer,
    Template,
    as_scorer,
    check_scorer,
    decode,
    score_sentences,
)
from birnn_decode.scorers.huggingface import HuggingFaceScorer  # noqa: E402

SOURCES, BEAMS, MOST = 20, 4, 40


class Banned(transformers.LogitsProcessor):
    """Ids that are no words, behind the prompt and the token that is forced there."""

    def __init__(self, banned, after):
        self.banned, self.after = banned, after

    def __call__(self, input_ids, scores):
        if input_ids.shape[1] >= self.after:
            scores[:, self.banned] = -torch.inf
        return scores


def generated(model, source, banned, **options):
    """Return the beams of ``generate`` for one source: words and scores, best first."""
    given = {"num_beams": BEAMS, "num_return_sequences": BEAMS, "length_penalty": 0.0, "do_sample": False}
    forced = model.generation_config.forced_bos_token_id is not None
    output = model.generate(
        **source,
        **{**given, **options},
        max_new_tokens=MOST,
        logits_processor=transformers.LogitsProcessorList([Banned(banned, 1 + forced)]),
        output_scores=True,
        return_dict_in_generate=True,
    )
    return output.sequences.tolist(), output.sequences_scores.tolist()


@pytest.mark.parametrize("name", MODELS)
def test_beam_search_is_that_of_generate(name):
    build, source_of = MODELS[name]
    model, sources = build(), [source_of(number) for number in range(SOURCES)]

    scorer = as_scorer(model, generate_kwargs=GENERATE.get(name))
    question = {"beam_size": BEAMS, "max_length": MOST, "objective": Objective(length="none")}
    results = decode(Pair(scorer), sources, None, BeamSearch("forward"), **question)

    banned = sorted(scorer.never - {scorer.end_token})
    for source, result in zip(sources, results, strict=True):
        only = {"num_return_sequences": 1} if name == "Whisper" else {}  # it returns the best sentence several times
        sequences, scores = generated(model, source, banned, **GENERATE.get(name, {}), **only)
        found = result.hypotheses[: len(scores)]
        assert [one.log_prob_forward for one in found] == pytest.approx(scores, abs=1e-4)
        for one, sequence in zip(found, sequences, strict=True):
            while sequence and sequence[-1] in (scorer.end_token, model.generation_config.pad_token_id):
                sequence.pop()
            assert list(one.tokens) == sequence[len(sequence) - len(one.tokens) :]


# ---------------------------------------------------------------------------------------------- one memory per source


def test_beams_share_the_keys_and_values_of_their_source():
    model, sources = bart(), [sentence(number) for number in range(3)]
    made, asked = [], []
    for layer in model.model.decoder.layers:
        layer.encoder_attn.k_proj.register_forward_hook(lambda _, read, __: made.append(read[0].shape[:2]))
        layer.encoder_attn.q_proj.register_forward_hook(lambda _, read, __: asked.append(read[0].shape[0]))
    search = BeamSearch("forward")
    results = decode(Pair(model), sources, Template.blank([], 4), search, beam_size=5)
    assert len(results) == 3
    assert made == [(3, 4)] * len(model.model.decoder.layers)  # once, three sources of up to three words and END
    assert max(asked) == 3


@pytest.mark.parametrize("rows", [[0, 0, 1, 2], [2, 0, 0], [1, 1], [2, 1, 0], [0, 1, 0, 2, 2, 2]])
def test_any_rows_of_any_sources(rows):
    """Of unequal numbers, out of order, and of some sources alone."""
    scorer = as_scorer(bart())
    sources = [sentence(number) for number in (0, 4, 7)]
    tokens = [[5 + row, 9, 11] for row in range(len(rows))]
    with torch.no_grad():
        context = scorer.encode(sources)
        _, state = scorer.step([scorer.start_token] * 3, scorer.start(context))
        state = scorer.select(state, torch.tensor(rows))
        for column in zip(*tokens, strict=True):
            together, state = scorer.step(column, state)
        for row, source in enumerate(rows):
            _, alone = scorer.step([scorer.start_token], scorer.start(scorer.encode([sources[source]])))
            for token in tokens[row]:
                expected, alone = scorer.step([token], alone)
            assert torch.allclose(together[row], expected[0], atol=1e-9)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["T5", "BART", "Llama", "LLaVA", "Whisper"])
def test_half_precision(name, kind):
    build, source_of = MODELS[name]
    model = build()
    sources = [source_of(number) for number in range(3)]
    words = [[[5, 9, 4]]] * 3
    options = GENERATE.get(name)
    whole = score_sentences(Pair(as_scorer(model, generate_kwargs=options)), sources, words)
    half = score_sentences(Pair(as_scorer(model.to(kind), generate_kwargs=options)), sources, words)
    for (one,), (other,) in zip(whole, half, strict=True):
        assert other.log_prob_forward == pytest.approx(one.log_prob_forward, rel=0.1)
    assert written(as_scorer(model, generate_kwargs=options), sources)[0]


def written(model, sources):
    results = decode(Pair(model), sources, None, BeamSearch("forward"), beam_size=3, max_length=4)
    return [one.hypotheses for one in results]


ALONE = ["GPT-2", "Llama", "Mistral", "LLaVA", "PaliGemma", "GIT", "BLIP", "BLIP-2, OPT", "T5"]


@pytest.mark.parametrize("name", ALONE)
def test_a_source_alone_is_as_in_a_batch(name):
    """Alone, it has no padding and no mask."""
    build, source_of = MODELS[name]
    model, sources = build(), [source_of(number) for number in (2, 5)]
    for together, source in zip(written(model, sources), sources, strict=True):
        (alone,) = written(model, [source])
        assert [one.tokens for one in alone] == [one.tokens for one in together]
        assert [one.score for one in alone] == pytest.approx([one.score for one in together], abs=1e-6)


def test_a_static_cache_that_is_configured():
    model, sources = bart(), [sentence(number) for number in range(2)]
    plain = written(model, sources)
    model.generation_config.cache_implementation = "static"
    assert written(model, sources) == plain


# ------------------------------------------------------------------------------------------------------------ the ids


def test_several_ends_are_one():
    model = bart()
    model.generation_config.eos_token_id = [2, 9, 11]
    scorer = as_scorer(model)
    assert scorer.end_token == 2
    assert {9, 11} <= scorer.never
    ((scored,),) = score_sentences(Pair(scorer), [sentence(3)], [[[5, 6]]])
    with torch.no_grad():
        read = torch.tensor([[scorer.start_token, 5, 6]])
        log_probs = model(**sentence(3), decoder_input_ids=read).logits[0].log_softmax(-1)
    expected = log_probs[0, 5] + log_probs[1, 6] + log_probs[2, [2, 9, 11]].logsumexp(-1)
    assert scored.log_prob_forward == pytest.approx(expected.item(), abs=1e-9)


def test_forced_tokens_are_read_and_are_no_words():
    model = mbart()
    scorer = as_scorer(model)
    assert 7 in scorer.never
    ((scored,),) = score_sentences(Pair(scorer), [sentence(3)], [[[5, 6]]])
    other = as_scorer(mbart(), generate_kwargs={"forced_bos_token_id": 8})
    ((changed,),) = score_sentences(Pair(other), [sentence(3)], [[[5, 6]]])
    for language, found in ((7, scored), (8, changed)):
        with torch.no_grad():
            read = torch.tensor([[scorer.start_token, language, 5, 6]])
            log_probs = model(**sentence(3), decoder_input_ids=read).logits[0].log_softmax(-1)
        expected = log_probs[1, 5] + log_probs[2, 6] + log_probs[3, 2]
        assert found.log_prob_forward == pytest.approx(expected.item(), abs=1e-9)
    with pytest.raises(ValueError, match=r"id 7, .*is read before the words of every sentence"):
        decode(Pair(scorer), sentence(3), Template.blank([7], 2), BeamSearch("forward"))


def test_start_and_end_of_a_reversed_model():
    """Its START is the END of the sentence."""
    model = bart()
    scorer = as_scorer(model, "backward", start_token=2, end_token=1)
    ((scored,),) = score_sentences(Pair(None, scorer), [sentence(3)], [[[5, 6]]])
    with torch.no_grad():
        log_probs = model(**sentence(3), decoder_input_ids=torch.tensor([[2, 6, 5]])).logits[0].log_softmax(-1)
    expected = log_probs[0, 6] + log_probs[1, 5] + log_probs[2, 1]
    assert scored.log_prob_backward == pytest.approx(expected.item(), abs=1e-9)


def test_a_prompt_leaves_fewer_positions():
    model = generators.gpt2()  # 64 positions
    for source, most in ((None, 63), (prompt(4), 59)):
        with pytest.raises(ValueError, match=f"the models read at most {most} words"):
            decode(Pair(model), source, Template.blank([], most + 1), BeamSearch("forward"), beam_size=1)


@pytest.mark.parametrize(
    ("build", "sources", "error", "message"),
    [
        (bart, [None], TypeError, "BartForConditionalGeneration needs a source, got None"),
        (bart, ["a text"], TypeError, r"a source is a str; .* takes mappings .*encode=lambda texts: tokenizer"),
        (bart, [{"input_ids": [[[5]]]}], ValueError, r"input_ids of shape \(1, 1, 1\) for 1 sources; it must be"),
        (bart, [{"input_ids": [5]}, {"inputs_embeds": torch.ones(1, 2, 16)}], ValueError, "have different inputs"),
        (
            generators.blip,
            [{"pixel_values": torch.ones(1, 3, 8, 8)}, {"pixel_values": torch.ones(1, 3, 8, 4)}],
            ValueError,
            r"pixel_values of different shapes: \(1, 3, 8, 8\), \(1, 3, 8, 4\). Give all the same shape",
        ),
    ],
)
def test_sources_that_cannot_be_read(build, sources, error, message):
    with pytest.raises(error, match=message):
        decode(Pair(build()), sources, Template.blank([], 1), BeamSearch("forward"))


def test_a_tokenizer_that_is_too_large():
    class Words:
        def __len__(self):
            return 99

        encode = decode = None

    with pytest.raises(ValueError, match="the vocabulary has 99 ids, and BartForConditionalGeneration writes 24"):
        as_scorer(bart(), vocabulary=Words())


# -------------------------------------------------------------------------------------------------------- check_scorer


def right(sources):
    """Pad on the right, with a mask."""
    ids = [source["input_ids"][0] for source in sources]
    padded = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=PAD)
    return {"input_ids": padded, "attention_mask": (padded != PAD).long()}


def without_mask(sources):
    return {**right(sources), "attention_mask": torch.ones_like(right(sources)["input_ids"])}


class KeepsSources(HuggingFaceScorer):
    """Its words are reordered, and its sources are not."""

    def select(self, state, rows):
        new = super().select(state, rows)
        known = state.prompt.sources
        return new._replace(prompt=state.prompt.select([row % len(known) for row in range(len(rows))]))


THREE = [sentence(number) for number in (2, 5, 8)]


@pytest.mark.parametrize(
    ("make", "sources", "fault", "words"),
    [
        (lambda: as_scorer(bart(), encode=right), THREE, None, ""),
        (lambda: as_scorer(llama()), [prompt(number) for number in (2, 5, 8)], None, ""),
        (lambda: as_scorer(bart(), encode=without_mask), THREE, "padding", "read as if it belonged to the source"),
        (lambda: as_scorer(llama(), encode=right), THREE, "shapes", "padded the prompts on the right"),
        (lambda: KeepsSources(bart()), THREE, "features", "these are features of the images"),
    ],
)
def test_faults_of_sources_are_told_apart(make, sources, fault, words):
    report = check_scorer(make(), sources, direction="forward")
    if fault is None:
        assert report.ok, report
    else:
        assert report.faults[0].fault == fault
        assert words in report.faults[0].message


LANGUAGE, CAPTIONS = 3, [[5, 6, 7, 7, 5, 6, 5, 7], [6, 7, 5, 5, 7, 6, 6, 5], [7, 5, 6, 6, 6, 5, 7, 7]]


def speaks(languages, prefixes):
    """A model that has learnt three sentences by heart, which come after START and a language."""
    scores = np.zeros((len(prefixes), 9))
    for row, (prefix, caption) in enumerate(zip(np.asarray(prefixes).tolist(), languages, strict=True)):
        knows = prefix[:2] == [0, LANGUAGE]
        at = len(prefix) - 2 if knows else len(prefix) - 1
        if knows or at:
            scores[row, [*caption, 1][min(at, 8)]] = 9
        else:
            scores[row, 8] = 9
    return scores


def test_a_language_that_is_not_read():
    scorer = PrefixScorer(speaks, vocab_size=9, start_token=0, end_token=1, never={2, LANGUAGE})
    report = check_scorer(scorer, CAPTIONS, direction="forward", captions=CAPTIONS)
    (found,) = [one for one in report.faults if one.check == "start"]
    assert "more likely if id 3 is read after start_token" in found.message
    assert "forced_bos_token_id" in found.cure
