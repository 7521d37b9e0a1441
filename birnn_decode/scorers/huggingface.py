"""Scorers of Hugging Face's image-to-text models and of its causal language models; needs transformers.

What the models have in common is a cache that the call changes: a state holds one, and each call is given a copy of its
own (`birnn_decode.scorers.caches`). What differs is where the image is: in a memory that the decoder attends to, or in
the cache, in front of the words.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

import torch
from transformers import DynamicCache, EncoderDecoderCache, PreTrainedModel

from birnn_decode.scorers.caches import Cached
from birnn_decode.scorers.reader import Reader
from birnn_decode.scorers.state import Condition
from birnn_decode.scorers.wrappers import OPTIONS, Wrapper, ids_of
from birnn_decode.tokenizers import as_vocabulary, no_words

REORDER = "reorder_cache"  # what Hugging Face calls the method


class _State(NamedTuple):
    memory: Condition | None  # [N, regions, hidden] that the decoder attends to
    cache: Cached
    pending: tuple[torch.Tensor, ...]  # logits [R, vocab_size] of the first word, where START is not read
    words: int  # tokens read, START included, the image's not


def _kept(output: Any) -> Cached:
    """The cache that a model returned.

    Raises:
        TypeError: it returned none.
    """
    cache = getattr(output, "past_key_values", None)
    if not hasattr(cache, REORDER):
        raise TypeError(
            f"the model returned a {type(output).__name__} without a cache of keys and values: it writes no words one "
            "after another, or keeps its state in another way; wrap it with PrefixScorer or TorchScorer"
        )
    return Cached(cache, REORDER)


def _attending(memory: torch.Tensor) -> _State:
    """The first state of a decoder that attends to a memory [N, regions, hidden]."""
    cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
    return _State(Condition(memory, range(len(memory))), Cached(cache, REORDER), (), 0)


class HuggingFaceScorer(Wrapper, Reader):
    """A `Scorer` of a Hugging Face model; the base of those for each kind, between which `as_scorer` chooses.

    START, END, PAD and the size of the vocabulary are taken from the model's configuration. They may coincide. A
    backward model that was trained on reversed text has the same; one whose text was reversed with its START and END is
    told ``start_token`` and ``end_token``.

    Args:
        model: the model.
        start_token: if not the configuration's.
        end_token: if not the configuration's.
        encode: makes the model's pixel values [N, channels, height, width] of a list of images, such as
            ``lambda images: processor(images=images, return_tensors="pt").pixel_values``; without it images are tensors
            [channels, height, width].
        never: ids that are no words, besides those that the configuration and the tokenizer call special.
        vocabulary: may be a tokenizer.
        declared: see `Wrapper`; ``max_tokens`` is the number of the model's positions if not given.

    Raises:
        ValueError: the configuration lacks an id, or has several ends.
    """

    aligned = True
    SEEN = "[N, channels, height, width], such as the pixel_values of what a processor returns"
    DIMENSIONS: tuple[int, ...] = (4,)
    OPTIONS = OPTIONS - {"vocab_size", "model"}
    model: Any

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        start_token: int | None = None,
        end_token: int | None = None,
        encode: Callable[[Sequence[Any]], Any] | None = None,
        never: Collection[int] = (),
        vocabulary: Any = None,
        **declared: Any,
    ):
        self.model = model
        config = self._text_config()
        size = config.vocab_size
        named = [
            getattr(one, f"{name}_token_id", None)
            for one in (config, model.config)
            for name in ("pad", "bos", "eos", "sep")
        ]
        special = {token for token in named if isinstance(token, int) and 0 <= token < size}
        vocabulary = as_vocabulary(vocabulary)
        super().__init__(
            vocab_size=size,
            start_token=self._one_id("start_token", start_token, self._start_ids()),
            end_token=self._one_id("end_token", end_token, self._end_ids()),
            encode=encode or self._plain,
            never=ids_of(never) | special | no_words(vocabulary, size),
            vocabulary=vocabulary,
            model=model,
            **{"max_tokens": self._positions_of_words(), **declared},
        )
        self.batch_axis = (0, REORDER, 0, None)
        self._weight = next(model.parameters())  # is where the model is; to ask the model itself takes a while

    # ------------------------------------------------------------------------------- what the kinds of models differ in

    def _text_config(self) -> Any:
        """The configuration of the part that writes."""
        return self.model.config

    def _start_ids(self) -> Any:
        """START, as the configuration has it."""
        return self._text_config().bos_token_id

    def _end_ids(self) -> Any:
        """END, as the configuration has it."""
        return self._text_config().eos_token_id

    def _begin(self, encoded: Any, images: int) -> _State:
        """The state of one row per image."""
        raise NotImplementedError

    def _read(self, tokens: torch.Tensor, memory: Any, cache: Any, words: int) -> Any:
        """The model's output, with logits and past_key_values, for tokens [R, t] behind so many others."""
        raise NotImplementedError

    # ------------------------------------------------------------------------------------------------ what they share

    def _one_id(self, name: str, given: int | None, configured: Any) -> int:
        if given is not None:
            return given
        if isinstance(configured, int):
            return configured
        what = "several ids" if isinstance(configured, (list, tuple)) else "none"
        raise ValueError(
            f"the configuration of {type(self.model).__name__} has {what} for {name} ({configured}): give {name}= the "
            "id that the model was trained with"
        )

    def _positions_of_words(self) -> int | None:
        """How many tokens the model has positions for, if there is a limit."""
        most = getattr(self._text_config(), "max_position_embeddings", None)
        if not isinstance(most, int) or most < 1:
            return None
        for name, table in self.model.named_modules():
            padding = getattr(table, "padding_idx", None)
            if name.endswith("position_embeddings") and padding is not None and table.num_embeddings == most:
                return most - int(padding) - 1  # RoBERTa and its like count from behind the padding's position
        return most

    def _plain(self, images: Sequence[Any]) -> Any:
        """What the model sees of images where nothing was given to encode them."""
        if not all(isinstance(image, torch.Tensor) for image in images):
            raise TypeError(
                f"an image is a {type(images[0]).__name__}; {type(self.model).__name__} takes tensors [channels, "
                'height, width]. For others give encode=lambda images: processor(images=images, return_tensors="pt")'
                ".pixel_values"
            )
        return torch.stack(list(images))

    def encode(self, images: Sequence[Any]) -> _State:
        """What the model makes of the images: the state of one row for each, which every sentence begins from.

        Raises:
            TypeError: ``encode`` gave no tensor.
            ValueError: it gave one of another shape.
        """
        seen = self._encode(images)
        if seen is None:
            return self._begin(None, len(images))
        if not isinstance(seen, torch.Tensor):
            raise TypeError(f"encode gave a {type(seen).__name__}; it must give a tensor {self.SEEN}")
        if seen.ndim not in self.DIMENSIONS or len(seen) != len(images):
            raise ValueError(
                f"encode gave a tensor of shape {tuple(seen.shape)} for {len(images)} images; it must be {self.SEEN}"
            )
        return self._begin(seen.to(self.model.device, self.model.dtype), len(images))

    def start(self, context: _State) -> _State:
        """The state of one row per image; no call changes it."""
        return context

    def tokens(self, tokens: Any) -> torch.Tensor:
        """Token ids on the model's device."""
        return torch.as_tensor(tokens, dtype=torch.int64, device=self._weight.device)

    def read(self, tokens: torch.Tensor, state: _State) -> tuple[torch.Tensor, _State]:
        """Read ``tokens`` [R, t]: logits [R, t, vocab_size]."""
        words = state.words + tokens.shape[1]
        if state.pending:
            first = state.pending[0][:, None]
            state = state._replace(pending=(), words=1)
            if words == 1:
                return first, state
            rest, state = self.read(tokens[:, 1:], state)
            return torch.cat([first, rest], dim=1), state
        memory = None if state.memory is None else state.memory.rows()
        output = self._read(tokens, memory, state.cache.own(), state.words)
        return output.logits, state._replace(cache=_kept(output), words=words)

    def select(self, state: _State, rows: Any) -> _State:
        """Gather rows."""
        selected: _State = super().select(state, self.tokens(rows))
        return selected

    def project(self, hidden: torch.Tensor) -> torch.Tensor:
        """What is read are logits."""
        return hidden


class VisionEncoderDecoderScorer(HuggingFaceScorer):
    """A `transformers.VisionEncoderDecoderModel`: TrOCR, ViT-GPT2, Donut and their like."""

    def _text_config(self) -> Any:
        return self.model.config.decoder

    def _start_ids(self) -> Any:
        for config in (self.model.config, self.model.generation_config):
            if getattr(config, "decoder_start_token_id", None) is not None:
                return config.decoder_start_token_id
        return self._text_config().bos_token_id

    def _end_ids(self) -> Any:
        for config in (self.model.config, self.model.generation_config):
            if getattr(config, "eos_token_id", None) is not None:
                return config.eos_token_id
        return self._text_config().eos_token_id

    def _begin(self, encoded: Any, images: int) -> _State:
        return _attending(self.model.encoder(encoded)[0])

    def _read(self, tokens: torch.Tensor, memory: Any, cache: Any, words: int) -> Any:
        return self.model(encoder_outputs=(memory,), decoder_input_ids=tokens, past_key_values=cache, use_cache=True)


class BlipScorer(HuggingFaceScorer):
    """A `transformers.BlipForConditionalGeneration`. Its sentences end with the separator, ``sep_token_id``."""

    def _text_config(self) -> Any:
        return self.model.config.text_config

    def _end_ids(self) -> Any:
        return self._text_config().sep_token_id

    def _begin(self, encoded: Any, images: int) -> _State:
        return _attending(self.model.vision_model(encoded).last_hidden_state)

    def _read(self, tokens: torch.Tensor, memory: Any, cache: Any, words: int) -> Any:
        return self.model.text_decoder(tokens, encoder_hidden_states=memory, past_key_values=cache, use_cache=True)


class GitScorer(HuggingFaceScorer):
    """A `transformers.GitForCausalLM`. The image is in the cache, and words count their positions from 0 behind it."""

    DIMENSIONS = (4, 5)  # videos have frames

    def _begin(self, encoded: Any, images: int) -> _State:
        nothing = torch.empty(images, 0, dtype=torch.int64, device=self.model.device)
        output = self.model(nothing, pixel_values=encoded, past_key_values=DynamicCache(), use_cache=True)
        return _State(None, _kept(output), (), 0)

    def _read(self, tokens: torch.Tensor, memory: Any, cache: Any, words: int) -> Any:
        # Left to itself the model counts positions from the image's first region on, once there is a cache.
        positions = torch.arange(words, words + tokens.shape[1], device=tokens.device)[None]
        return self.model(tokens, position_ids=positions, past_key_values=cache, use_cache=True)


class CausalScorer(HuggingFaceScorer):
    """A causal language model, such as `transformers.GPT2LMHeadModel`, with the image as embeddings before the words.

    Args:
        model: the model.
        reads_start: whether START is read behind the image. False: the first word follows the image directly, as in
            ClipCap; ``start_token`` is then only a name for what is not there.
        encode: makes the embeddings [N, P, hidden] of a list of images that stand before the words; without it the
            model is a language model, and images are None.
        declared: as `HuggingFaceScorer`'s.
    """

    SEEN = "[N, P, hidden], embeddings to stand before the words"
    DIMENSIONS = (3,)
    OPTIONS = HuggingFaceScorer.OPTIONS | {"reads_start"}

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        reads_start: bool = True,
        encode: Callable[[Sequence[Any]], Any] | None = None,
        **declared: Any,
    ):
        super().__init__(model, encode=encode, **declared)
        self._reads_start = reads_start
        # Rotary positions have no end: who says so gives max_tokens=None.
        limited = declared.get("max_tokens", 0) is not None
        self._positions = self._positions_of_words() if limited else None
        if not reads_start and encode is None:
            raise ValueError(
                "reads_start=False needs an image to follow: give encode=images -> embeddings [N, P, hidden]"
            )

    def _plain(self, images: Sequence[Any]) -> Any:
        if any(image is not None for image in images):
            raise TypeError(
                f"{type(self.model).__name__} sees no images: give encode=images -> embeddings [N, P, hidden] to "
                "stand before the words, or None as the image"
            )

    def _begin(self, encoded: Any, images: int) -> _State:
        if encoded is None:
            return _State(None, Cached(DynamicCache(), REORDER), (), 0)
        output = self.model(inputs_embeds=encoded, past_key_values=DynamicCache(), use_cache=True)
        pending = () if self._reads_start else (output.logits[:, -1],)
        return _State(None, _kept(output), pending, 0)

    def room(self, context: _State) -> int | None:
        """The positions that the image's embeddings leave; START is a token although it may not be read."""
        taken: int = context.cache.own().get_seq_length()
        if self._positions is None or not taken:
            return None
        return self._positions - taken + (not self._reads_start)

    def _read(self, tokens: torch.Tensor, memory: Any, cache: Any, words: int) -> Any:
        return self.model(tokens, past_key_values=cache, use_cache=True)


KINDS = {
    "VisionEncoderDecoderModel": VisionEncoderDecoderScorer,
    "BlipForConditionalGeneration": BlipScorer,
    "GitForCausalLM": GitScorer,
}


def kind_of(model: PreTrainedModel) -> type[HuggingFaceScorer] | None:
    """The scorer for a Hugging Face model, or None where none of the kinds fits."""
    for base in type(model).__mro__:
        if base.__name__ in KINDS:
            return KINDS[base.__name__]
    writes = not model.config.is_encoder_decoder and model.can_generate()
    return CausalScorer if writes and hasattr(model.config, "vocab_size") else None
