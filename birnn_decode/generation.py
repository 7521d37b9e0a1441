"""Bidirectional search inside of the ``generate`` of Hugging Face models. Needs the package transformers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from transformers.generation.utils import GenerateBeamDecoderOnlyOutput, GenerateBeamEncoderDecoderOutput

from birnn_decode.constraints import BanWords, Constraint, Diversity, MustAppear, NoRepeatedNgram
from birnn_decode.decoding import decode
from birnn_decode.methods import BSCD, Method
from birnn_decode.objective import Objective
from birnn_decode.result import DecodeResult
from birnn_decode.scorers.huggingface import Opened, PreparedScorer, rows_of_sources
from birnn_decode.scorers.pair import Pair

# What the search does by itself, or takes from the configuration.
LENGTHS = ("MinLength", "MinNewTokensLength", "ForcedBOSToken", "ForcedEOSToken")
WORDS = ("NoRepeatNGram", "NoBadWords", "SuppressTokens", "SuppressTokensAtBegin")
PROCESSORS = frozenset(f"{name}LogitsProcessor" for name in (*LENGTHS, *WORDS))
CRITERIA = frozenset({"MaxLengthCriteria", "EosTokenCriteria"})
NO_INPUT = ("decoder_", "position_ids", "encoder_outputs", "past_key_values", "inputs_embeds")


def bidirectional(
    model_b: Any, method: Method = BSCD(), *, inputs: Mapping[str, Any] | None = None, **options: Any
) -> Callable[..., Any]:
    """Let ``generate`` search with a backward model, too.

    Give the result to ``generate`` of the forward model as ``custom_generate``. ``generate`` prepares the inputs as
    always, the search takes the place of its beam search, and ``generate`` returns what it always returns: the ids of
    the sentences, with the prompt of the decoder in front and END behind. With ``return_dict_in_generate=True`` and
    ``output_scores=True``, ``sequences_scores`` has the scores of the objective. ``scores`` of single steps are None,
    because a bidirectional search has no such steps. Rows of padding, with the score -inf, follow if fewer sentences
    than ``num_return_sequences`` were found.

    These options of ``generate`` are taken over: ``num_beams``, ``num_return_sequences``, ``max_length``,
    ``max_new_tokens``, ``min_length``, ``min_new_tokens``, ``length_penalty`` of 0 or 1, ``no_repeat_ngram_size``,
    ``bad_words_ids`` and ``force_words_ids`` of single tokens, ``suppress_tokens``, ``begin_suppress_tokens``,
    ``forced_bos_token_id``, ``num_beam_groups`` with ``diversity_penalty``, and several ``eos_token_id``. Every
    sentence takes END, whose probability counts. An option that the search cannot honour is an error.

    Args:
        model_b: the backward model: a Hugging Face model, or a `Scorer`.
        method: `BSCD` or another method (default: ``BSCD()``).
        inputs: the inputs of ``generate`` once more. They are needed if ``generate`` does not pass them on: for models
            that see pictures beside a prompt, and for BLIP (default: the inputs of ``generate``).
        **options: keywords of `decode`. They go before the options of ``generate``.

    Returns:
        a function for ``custom_generate``.

    Raises:
        ValueError: ``generate`` has an option that the search cannot honour.

    Example:
        >>> import torch, transformers
        >>> from birnn_decode.generation import bidirectional
        >>> config = transformers.T5Config(
        ...     vocab_size=9, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2, decoder_start_token_id=0
        ... )
        >>> model_f, model_b = (transformers.T5ForConditionalGeneration(config).eval() for _ in range(2))
        >>> source = {"input_ids": torch.tensor([[5, 6, 7, 1]])}  # or tokenizer("a sentence", return_tensors="pt")
        >>> sequences = model_f.generate(
        ...     **source, num_beams=4, max_new_tokens=5, custom_generate=bidirectional(model_b)
        ... )
        >>> sequences[0, 0].item(), sequences[0, -1].item()  # START and END
        (0, 1)
    """

    def custom_generate(
        model: Any,
        input_ids: torch.Tensor,
        logits_processor: Any,
        stopping_criteria: Any,
        generation_config: Any,
        inputs_tensor: torch.Tensor | None = None,
        **model_kwargs: Any,
    ) -> Any:
        _refuse(generation_config, logits_processor, stopping_criteria)
        expanded = max(generation_config.num_beams, generation_config.num_return_sequences)
        prepared = Opened(model, input_ids, generation_config, model_kwargs).every(expanded)
        given = inputs
        pictures = model_kwargs.get("mm_encoder_outputs")
        if given is None:
            given = {model.main_input_name: inputs_tensor, **_inputs(prepared.inputs)}
            if pictures or model_kwargs.get("encoder_hidden_states") is not None:
                raise ValueError(
                    f"{type(model).__name__}.generate does not pass the pictures on. Give them to the backward model: "
                    "bidirectional(model_b, inputs=inputs)"
                )
        sources = rows_of_sources(given, len(prepared.prompt))
        forward = PreparedScorer(prepared)
        if pictures:  # those of all sources are in one tensor, some for each row
            prepared.inputs = forward.opened(given).inputs
        question = {**_question(generation_config, prepared.prompt.shape[1], forward), **options}
        results = decode(Pair(forward, model_b), sources, None, method, **question)
        return _output(results, forward, prepared)

    return custom_generate


def _inputs(prepared: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Return the inputs among what ``generate`` has prepared."""
    return {
        name: value
        for name, value in prepared.items()
        if isinstance(value, torch.Tensor) and not name.startswith(NO_INPUT)
    }


def _refuse(config: Any, processors: Any, criteria: Any) -> None:
    """Refuse what the search cannot honour."""
    wrong = [type(one).__name__ for one in processors if type(one).__name__ not in PROCESSORS]
    wrong += [type(one).__name__ for one in criteria if type(one).__name__ not in CRITERIA]
    names = ("do_sample", "output_attentions", "output_hidden_states", "output_logits", "assistant_early_exit")
    wrong += [f"{name}={getattr(config, name)}" for name in names if getattr(config, name, None)]
    if config.length_penalty not in (0, 1, None):
        wrong.append(f"length_penalty={config.length_penalty} (0: none, 1: per token, or give objective=)")
    phrases = [*(config.bad_words_ids or ()), *(config.force_words_ids or ())]
    if any(len(phrase) != 1 or not isinstance(phrase[0], int) for phrase in phrases):
        wrong.append("bad_words_ids or force_words_ids of several tokens")
    if config.constraints:
        wrong.append("constraints (give those of birnn_decode)")
    if wrong:
        raise ValueError(f"a bidirectional search cannot honour these options of generate: {', '.join(wrong)}.")


def _question(config: Any, prompt: int, scorer: PreparedScorer) -> dict[str, Any]:
    """Return the keywords of `decode` that options of ``generate`` stand for."""
    banned = {phrase[0] for phrase in config.bad_words_ids or ()} - scorer.never
    constraints: list[Constraint] = []
    if banned:
        constraints.append(BanWords(sorted(banned)))
    if config.force_words_ids:
        constraints.append(MustAppear([phrase[0] for phrase in config.force_words_ids]))
    if config.no_repeat_ngram_size:
        constraints.append(NoRepeatedNgram(config.no_repeat_ngram_size))
    groups = config.num_beam_groups or 1
    return {
        "beam_size": config.num_beams,
        "objective": Objective(length="none" if config.length_penalty == 0 else "average"),
        "constraints": constraints,
        "diversity": Diversity(groups, config.diversity_penalty or 0.0) if groups > 1 else None,
        "min_length": max((config.min_length or 0) - prompt, config.min_new_tokens or 0, 0),
        "max_length": max(config.max_length - prompt - 1, 0),  # END is a token, too
    }


def _output(results: Sequence[DecodeResult], scorer: PreparedScorer, prepared: Opened) -> Any:
    """Return what ``generate`` returns."""
    config, begin = prepared.config, prepared.prompt.tolist()
    rows, scores = [], []
    for result, read in zip(results, begin, strict=True):
        own = result.hypotheses[: config.num_return_sequences]
        rows += [[*read, *one.tokens, scorer.end_token] for one in own]
        scores += [one.score for one in own]
        rows += [[]] * (config.num_return_sequences - len(own))
        scores += [float("-inf")] * (config.num_return_sequences - len(own))
    pad = scorer.end_token if config.pad_token_id is None else config.pad_token_id
    longest = max(map(len, rows))
    device = prepared.prompt.device
    sequences = torch.tensor([row + [pad] * (longest - len(row)) for row in rows], device=device)
    if not config.return_dict_in_generate:
        return sequences
    decodes = prepared.model.config.is_encoder_decoder
    kind: Any = GenerateBeamEncoderDecoderOutput if decodes else GenerateBeamDecoderOnlyOutput
    return kind(
        sequences=sequences, sequences_scores=torch.tensor(scores, device=device) if config.output_scores else None
    )
