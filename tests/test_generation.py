"""`bidirectional` inside of ``generate``: the answers of `decode`, in the form of ``generate``."""

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from generators import GENERATE, MODELS, PAD, V, prompt, t5  # noqa: E402

from birnn_decode import (  # noqa: E402
    BSCD,
    BanWords,
    BeamSearch,
    Diversity,
    MustAppear,
    NoRepeatedNgram,
    Objective,
    Pair,
    as_scorer,
    decode,
)
from birnn_decode.generation import bidirectional  # noqa: E402
from birnn_decode.scorers.sources import batched  # noqa: E402

LEFT = {"Llama", "LLaVA", "GPT-2"}
SEEING = {"BLIP", "LLaVA"}


def models_and_inputs(name, count=3):
    build, source_of = MODELS[name]
    forward, backward = build(), build()
    with torch.no_grad():
        for parameter in backward.parameters():
            parameter.mul_(0.8)
    sources = [source_of(number) for number in range(count)]
    return forward, backward, sources, together(forward, sources, name in LEFT)


def together(model, sources, left=False):
    name = model.main_input_name
    return batched(sources, len(sources), main=name, dense=name, pad=PAD, left=left, name="")


def words_of(sequences, skipped, end):
    """The words of rows that begin with a prompt and end with END."""
    found = []
    for row in sequences.tolist():
        row = row[skipped:]
        found.append(tuple(row[: row.index(end)]))
    return found


@pytest.mark.parametrize("name", ["T5", "mBART", "Marian", "VisionEncoderDecoder, GPT-2", "BLIP", "Llama", "LLaVA"])
def test_generate_returns_what_decode_finds(name):
    forward, backward, sources, inputs = models_and_inputs(name)
    again = inputs if name in SEEING else None
    output = forward.generate(
        **inputs,
        custom_generate=bidirectional(backward, inputs=again),
        num_beams=4,
        num_return_sequences=2,
        max_new_tokens=6,
        return_dict_in_generate=True,
        output_scores=True,
    )
    results = decode(Pair(forward, backward), sources, None, BSCD(), beam_size=4, max_length=5)
    expected = [one for result in results for one in result.hypotheses[:2]]
    scorer = as_scorer(forward)
    prompts = inputs["input_ids"].shape[1] if name in LEFT else 1 + (name == "mBART")
    assert words_of(output.sequences, prompts, scorer.end_token) == [one.tokens for one in expected]
    assert output.sequences_scores.tolist() == pytest.approx([one.score for one in expected], abs=1e-4)
    kind = "EncoderDecoder" if forward.config.is_encoder_decoder else "DecoderOnly"
    assert type(output).__name__ == f"GenerateBeam{kind}Output"
    if name == "mBART":
        assert output.sequences[:, :2].tolist() == [[2, 7]] * 6  # START and the language


def test_whisper_returns_its_words():
    forward, backward, sources, inputs = models_and_inputs("Whisper", 2)
    options = GENERATE["Whisper"]
    written = forward.generate(
        **inputs,
        **options,
        custom_generate=bidirectional(as_scorer(backward, generate_kwargs=options)),
        num_beams=3,
        max_new_tokens=5,
    )
    pair = Pair(*(as_scorer(model, generate_kwargs=options) for model in (forward, backward)))
    results = decode(pair, sources, beam_size=3, max_length=4)
    found = [tuple(token for token in row if token not in (PAD, 2)) for row in written.tolist()]
    assert [row[-len(one.best.tokens) :] for row, one in zip(found, results, strict=True)] == [
        one.best.tokens for one in results
    ]


@pytest.mark.parametrize(
    ("options", "keywords"),
    [
        ({"length_penalty": 0.0}, {"objective": Objective(length="none")}),
        ({"no_repeat_ngram_size": 1, "min_length": 6}, {"constraints": [NoRepeatedNgram(1)], "min_length": 5}),
        ({"bad_words_ids": [[22], [8]]}, {"constraints": [BanWords([22, 8])]}),
        ({"force_words_ids": [[9]]}, {"constraints": [MustAppear([9])]}),
        ({"min_new_tokens": 3}, {"min_length": 3}),
        ({"min_length": 4}, {"min_length": 3}),  # START is a token, too
        ({"suppress_tokens": [22, 8]}, {"constraints": [BanWords([22, 8])]}),
        ({"num_beam_groups": 2, "diversity_penalty": 0.7}, {"diversity": Diversity(2, 0.7)}),
    ],
)
def test_options_are_taken_over(options, keywords):
    forward, backward, sources, inputs = models_and_inputs("T5")
    written = forward.generate(
        **inputs,
        **options,
        custom_generate=bidirectional(backward),
        num_beams=4,
        num_return_sequences=4,
        max_new_tokens=6,
    )
    results = decode(Pair(forward, backward), sources, beam_size=4, max_length=5, **keywords)
    expected = [one for result in results for one in result.hypotheses]
    assert [row for row in words_of_found(written) if row is not None] == [one.tokens for one in expected]
    plain = decode(Pair(forward, backward), sources, beam_size=4, max_length=5)
    assert expected != [one for result in plain for one in result.hypotheses]


def words_of_found(written):
    """Words of each row; None for a row of padding."""
    return [tuple(row[1 : row.index(2)]) if 2 in row else None for row in written.tolist()]


def test_keywords_and_methods_of_the_search():
    forward, backward, sources, inputs = models_and_inputs("T5")
    search = bidirectional(backward, BeamSearch("forward"), rows_per_call=2, max_length=3)
    written = forward.generate(**inputs, custom_generate=search, num_beams=2, max_new_tokens=9)
    results = decode(Pair(forward, backward), sources, None, BeamSearch("forward"), beam_size=2, max_length=3)
    assert words_of(written, 1, 2) == [one.best.tokens for one in results]


def test_a_sentence_that_is_missing_is_a_row_of_padding():
    model = t5()
    words = [token for token in range(V) if token not in (2, 5)]
    output = model.generate(
        **together(model, [MODELS["T5"][1](0)]),
        custom_generate=bidirectional(t5()),
        num_beams=3,
        num_return_sequences=3,
        max_new_tokens=2,
        suppress_tokens=words,
        return_dict_in_generate=True,
        output_scores=True,
    )
    assert output.sequences.tolist()[2] == [PAD] * output.sequences.shape[1]
    assert output.sequences_scores[2] == -torch.inf
    assert sorted(words_of(output.sequences[:2], 1, 2)) == [(), (5,)]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"do_sample": True}, "do_sample=True"),
        ({"repetition_penalty": 1.5}, "RepetitionPenaltyLogitsProcessor"),
        ({"length_penalty": 2.0}, "length_penalty=2.0"),
        ({"bad_words_ids": [[5, 6]]}, "bad_words_ids or force_words_ids of several tokens"),
        ({"force_words_ids": [[[5], [6]]]}, "bad_words_ids or force_words_ids of several tokens"),
        ({"max_time": 1.0}, "MaxTimeCriteria"),
        ({"output_attentions": True, "return_dict_in_generate": True}, "output_attentions=True"),
        ({"sequence_bias": [[[5], 2.0]]}, "SequenceBiasLogitsProcessor"),
        ({"prefix_allowed_tokens_fn": lambda batch, ids: [5]}, "PrefixConstrainedLogitsProcessor"),
    ],
)
def test_options_that_cannot_be_honoured(options, named):
    model = t5()
    with pytest.raises(ValueError, match=f"cannot honour these options of generate: .*{named}") as caught:
        model.generate(
            **{**together(model, [MODELS["T5"][1](0)]), "max_new_tokens": 3, "num_beams": 2, **options},
            custom_generate=bidirectional(t5()),
        )
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", sorted(SEEING))
def test_pictures_that_generate_does_not_pass_on(name):
    forward, backward, _, inputs = models_and_inputs(name, 1)
    with pytest.raises(ValueError, match=r"does not pass the pictures on.*bidirectional\(model_b, inputs=inputs\)"):
        forward.generate(**inputs, custom_generate=bidirectional(backward), num_beams=2, max_new_tokens=3)


def test_what_generate_would_do_is_done_for_prompts_too():
    model = MODELS["Llama"][0]()
    source = prompt(4)
    written = model.generate(**source, custom_generate=bidirectional(model), num_beams=2, max_new_tokens=4)
    assert written[0, : source["input_ids"].shape[1]].tolist() == source["input_ids"][0].tolist()
