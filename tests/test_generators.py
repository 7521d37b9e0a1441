"""Every kind of Hugging Face generator decodes as its own ``generate`` does."""

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from generators import GENERATE, MODELS  # noqa: E402

from birnn_decode import BeamSearch, Objective, Pair, as_scorer, decode  # noqa: E402

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
