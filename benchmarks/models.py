"""The models that are timed: random weights, as peaked as trained ones, and pairs of them that mostly agree."""

from __future__ import annotations

from typing import Any

import torch

from birnn_decode import Scorer, as_scorer
from birnn_decode.models import LSTMCaptioner
from birnn_decode.vocabularies import WordVocabulary

PEAKED = 8  # times the spread of random output weights


def lstm(direction: str, hidden: int, vocab_size: int) -> LSTMCaptioner:
    """A language model of the library's own, of as many units in its word vectors as in its state."""
    torch.manual_seed(direction == "backward")
    words = WordVocabulary([f"w{number}" for number in range(vocab_size - 4)])
    model = LSTMCaptioner(words, direction=direction, feature_size=0, embedding_size=hidden, hidden_size=hidden)
    with torch.no_grad():
        model.output.weight *= PEAKED
    return model.eval()


def gpt2(direction: str, vocab_size: int = 10_000) -> Any:
    """A `transformers.GPT2LMHeadModel` of 4 layers of 256 units."""
    import transformers

    torch.manual_seed(direction == "backward")
    config = transformers.GPT2Config(
        vocab_size=vocab_size, n_embd=256, n_layer=4, n_head=4, n_positions=64, bos_token_id=1, eos_token_id=2
    )
    model = transformers.GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        model.transformer.ln_f.weight *= PEAKED
    return model


def t5_small() -> Any:
    """A `transformers.T5ForConditionalGeneration` of the shape of T5-small: 6 layers of 512 units, 32,128 ids."""
    import transformers

    torch.manual_seed(0)
    return transformers.T5ForConditionalGeneration(transformers.T5Config(decoder_start_token_id=0)).eval()


def bart_base() -> Any:
    """A `transformers.BartForConditionalGeneration` of the shape of BART-base: 6 layers of 768 units, 50,265 ids."""
    import transformers

    torch.manual_seed(0)
    size = {"d_model": 768, "encoder_ffn_dim": 3072, "decoder_ffn_dim": 3072}
    heads = {"encoder_attention_heads": 12, "decoder_attention_heads": 12}
    config = transformers.BartConfig(encoder_layers=6, decoder_layers=6, **size, **heads)
    return transformers.BartForConditionalGeneration(config).eval()


def scorer(model: Any, direction: str) -> Scorer:
    """What decodes a model that is read in a direction."""
    start, end = (1, 2) if direction == "forward" else (2, 1)
    return as_scorer(model) if hasattr(model, "step") else as_scorer(model, direction, start_token=start, end_token=end)
