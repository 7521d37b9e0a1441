"""Scorers of Hugging Face's image-to-text models and causal language models. Needs the package transformers.

All these models have a cache that a call changes. A state holds a cache, and each call gets a copy of it. The models
differ in where the image is: in a memory that the decoder attends to, or in the cache, before the words.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from transformers import DynamicCache, EncoderDecoderCache, PreTrainedModel

from birnn_decode.scorers.reader import Reader
from birnn_decode.scorers.state import Cached, Condition
from birnn_decode.scorers.wrappers import OPTIONS, Wrapper
from birnn_decode.tokenizers import as_vocabulary, no_words

REORDER = "reorder_cache"  # method of Hugging Face's caches


class _State(NamedTuple):
    memory: Condition | None  # [N, regions, hidden] that the decoder attends to
    cache: Cached
    pending: tuple[torch.Tensor, ...]  # logits [R, vocab_size] of the first word, if START is not read
    words: int  # tokens read, START included, without those of the image


def _kept(output: Any) -> Cached:
    """Return the cache that a model returned.

    Raises:
        TypeError: The model returned no cache.
    """
    cache = getattr(output, "past_key_values", None)
    if not hasattr(cache, REORDER):
        raise TypeError(
            f"the model returned a {type(output).__name__} without a cache of keys and values, so it does not write "
            "word by word or keeps its state in another way. Wrap it with PrefixScorer or TorchScorer"
        )
    return Cached(cache, REORDER)


def _attending(memory: torch.Tensor) -> _State:
    """Return the first state of a decoder that attends to a memory [N, regions, hidden]."""
    cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
    return _State(Condition(memory, list(range(len(memory)))), Cached(cache, REORDER), (), 0)


class HuggingFaceScorer(Wrapper, Reader):
    """Base class of the scorers of Hugging Face models; `as_scorer` chooses the right one.

    START, END, PAD and the size of the vocabulary come from the configuration of the model. If a backward model was
    trained on reversed sentences with START and END reversed as well, give ``start_token`` and ``end_token``.

    Args:
        model: Model.
        start_token: Id that begins a sentence. (default: that of the configuration)
        end_token: Id that ends a sentence. (default: that of the configuration)
        encode: Function from a list of images to pixel values [N, channels, height, width], such as
            ``lambda images: processor(images=images, return_tensors="pt").pixel_values``. Without it, the images are
            tensors [channels, height, width].
        never: Ids that are not words, besides the special ids of the configuration and of the tokenizer.
        vocabulary: Vocabulary or tokenizer. (default: None)
        **declared: Other arguments of every wrapper; see `Wrapper`. ``max_tokens`` is the number of positions of the
            model by default.

    Raises:
        ValueError: The configuration lacks an id or has several END ids, and the id was not given.

    Example:
        >>> import torch, transformers
        >>> from birnn_decode import BeamSearch, Pair, Template, as_scorer, decode
        >>> config = transformers.GPT2Config(
        ...     vocab_size=9, n_embd=8, n_layer=1, n_head=1, n_positions=16, bos_token_id=0, eos_token_id=0
        ... )
        >>> scorer = as_scorer(transformers.GPT2LMHeadModel(config))  # a language model: images are None
        >>> scorer.start_token, scorer.end_token, scorer.max_tokens
        (0, 0, 16)
        >>> result = decode(Pair(scorer, None), None, Template.blank([5], 2), BeamSearch("forward"))
        >>> len(result.best.tokens)
        3
    """

    aligned = True
    SEEN = "[N, channels, height, width], such as the pixel_values that a processor returns"
    DIMENSIONS: tuple[int, ...] = (4,)
    OPTIONS: ClassVar[frozenset[str]] = OPTIONS - {"vocab_size", "model"}
    NEEDED: ClassVar[dict[str, str]] = {}
    model: Any
    batch_axis = (0, REORDER, 0, None)

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
        self._text_config: Any = model.config.get_text_config(decoder=True)
        size = self._text_config.vocab_size
        named = [
            getattr(config, f"{name}_token_id", None)
            for config in (self._text_config, model.config)
            for name in ("pad", "bos", "eos", "sep")
        ]
        special = {token for token in named if isinstance(token, int) and 0 <= token < size}
        vocabulary = as_vocabulary(vocabulary)
        super().__init__(
            vocab_size=size,
            start_token=self._one_id("start_token", start_token, self._configured("bos_token_id")),
            end_token=self._one_id("end_token", end_token, self._configured("eos_token_id")),
            encode=encode or self._plain,
            never=never,
            vocabulary=vocabulary,
            model=model,
            **{"max_tokens": self._positions_of_words(), **declared},
        )
        self.never |= special | no_words(vocabulary, size)
        self._weight = next(model.parameters())  # tells the device faster than the model does

    # ------------------------------------------------------------------------------------ differs between the models

    def _configured(self, name: str) -> Any:
        """Return START ("bos_token_id") or END ("eos_token_id") of the configuration."""
        return getattr(self._text_config, name)

    def _begin(self, encoded: Any, images: int) -> _State:
        """Return the state of one row per image."""
        raise NotImplementedError

    def _read(self, tokens: torch.Tensor, memory: Any, cache: Any, words: int) -> Any:
        """Return the model's output for tokens [R, t] after ``words`` tokens, with logits and past_key_values."""
        raise NotImplementedError

    # --------------------------------------------------------------------------------------- the same for all models

    def _one_id(self, name: str, given: int | None, configured: Any) -> int:
        if given is None and not isinstance(configured, int):
            what = "several ids" if isinstance(configured, (list, tuple)) else "no id"
            raise ValueError(
                f"the configuration of {type(self.model).__name__} has {what} for {name} ({configured}). Give {name}= "
                "the id that the model was trained with"
            )
        return configured if given is None else given

    def _positions_of_words(self) -> int | None:
        """Return the number of tokens that the model has positions for, or None if there is no limit."""
        most = getattr(self._text_config, "max_position_embeddings", None)
        if not isinstance(most, int) or most < 1:
            return None
        for name, table in self.model.named_modules():
            padding = getattr(table, "padding_idx", None)
            if name.endswith("position_embeddings") and padding is not None and table.num_embeddings == most:
                return most - int(padding) - 1  # RoBERTa and similar models count positions from after the padding
        return most

    def _plain(self, images: Sequence[Any]) -> Any:
        """Encode images without a function of the user."""
        if not all(isinstance(image, torch.Tensor) for image in images):
            raise TypeError(
                f"an image is a {type(images[0]).__name__}; {type(self.model).__name__} takes tensors [channels, "
                'height, width]. For other images give encode=lambda images: processor(images=images, return_tensors="'
                'pt").pixel_values'
            )
        return torch.stack(list(images))

    def encode(self, images: Sequence[Any]) -> _State:
        """Encode the images; return the state of one row per image, in which no token has been read.

        Raises:
            TypeError: ``encode`` returned something else than a tensor.
            ValueError: ``encode`` returned a tensor of a wrong shape.
        """
        seen = self._encode(images)
        if seen is None:
            return self._begin(None, len(images))
        if not isinstance(seen, torch.Tensor):
            raise TypeError(f"encode returned a {type(seen).__name__}; it must return a tensor {self.SEEN}")
        if seen.ndim not in self.DIMENSIONS or len(seen) != len(images):
            raise ValueError(
                f"encode returned a tensor of shape {tuple(seen.shape)} for {len(images)} images; it must be "
                f"{self.SEEN}"
            )
        return self._begin(seen.to(self.model.device, self.model.dtype), len(images))

    def start(self, context: _State) -> _State:
        """Return the state of one row per image, which no call changes; see `Scorer.start`."""
        return context

    def tokens(self, tokens: Any) -> torch.Tensor:
        """Return token ids as a tensor on the device of the model."""
        return torch.as_tensor(tokens, dtype=torch.int64, device=self._weight.device)

    def read(self, tokens: torch.Tensor, state: _State) -> tuple[torch.Tensor, _State]:
        """Read ``tokens`` [R, t]; return the logits [R, t, vocab_size] and the last state."""
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

    def select(self, state: _State, rows: Any) -> Any:
        """Make a state from some rows of another state; see `Scorer.select`."""
        return super().select(state, self.tokens(rows))  # on the device, for the cache

    def project(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return the outputs, which are logits already."""
        return hidden


class VisionEncoderDecoderScorer(HuggingFaceScorer):
    """Scorer of a ``transformers.VisionEncoderDecoderModel``, such as TrOCR, ViT-GPT2 and Donut."""

    def _configured(self, name: str) -> Any:
        outer = "decoder_start_token_id" if name == "bos_token_id" else name
        for config in (self.model.config, self.model.generation_config):
            if getattr(config, outer, None) is not None:
                return getattr(config, outer)
        return super()._configured(name)

    def _begin(self, encoded: Any, images: int) -> _State:
        return _attending(self.model.encoder(encoded)[0])

    def _read(self, tokens: torch.Tensor, memory: Any, cache: Any, words: int) -> Any:
        return self.model(encoder_outputs=(memory,), decoder_input_ids=tokens, past_key_values=cache, use_cache=True)


class BlipScorer(HuggingFaceScorer):
    """Scorer of a ``transformers.BlipForConditionalGeneration``, whose sentences end with ``sep_token_id``."""

    def _configured(self, name: str) -> Any:
        return super()._configured("sep_token_id" if name == "eos_token_id" else name)

    def _begin(self, encoded: Any, images: int) -> _State:
        return _attending(self.model.vision_model(encoded).last_hidden_state)

    def _read(self, tokens: torch.Tensor, memory: Any, cache: Any, words: int) -> Any:
        return self.model.text_decoder(tokens, encoder_hidden_states=memory, past_key_values=cache, use_cache=True)


class GitScorer(HuggingFaceScorer):
    """Scorer of a ``transformers.GitForCausalLM``, which has the image in its cache."""

    DIMENSIONS = (4, 5)  # videos have frames

    def _begin(self, encoded: Any, images: int) -> _State:
        nothing = torch.empty(images, 0, dtype=torch.int64, device=self.model.device)
        output = self.model(nothing, pixel_values=encoded, past_key_values=DynamicCache(), use_cache=True)
        return _State(None, _kept(output), (), 0)

    def _read(self, tokens: torch.Tensor, memory: Any, cache: Any, words: int) -> Any:
        # Positions of words begin with 0. With a cache, the model would count from the first region of the image.
        positions = torch.arange(words, words + tokens.shape[1], device=tokens.device)[None]
        return self.model(tokens, position_ids=positions, past_key_values=cache, use_cache=True)


class CausalScorer(HuggingFaceScorer):
    """Scorer of a causal language model, such as GPT-2, with the image as embeddings before the words.

    Args:
        model: Model.
        reads_start: True if START is read after the image. False if the first word follows the image directly, as in
            ClipCap. ``start_token`` is then an id that is never read. (default: True)
        encode: Function from a list of images to embeddings [N, P, hidden], which stand before the words. Without it,
            the model is a language model and the images are None.
        **declared: Other arguments of ``HuggingFaceScorer``.

    Raises:
        ValueError: ``reads_start`` is False and there is no ``encode``.

    Example:
        >>> import torch, transformers
        >>> from birnn_decode import as_scorer
        >>> config = transformers.GPT2Config(
        ...     vocab_size=9, n_embd=8, n_layer=1, n_head=1, n_positions=16, bos_token_id=0, eos_token_id=0
        ... )
        >>> model = transformers.GPT2LMHeadModel(config)
        >>> project = torch.nn.Linear(4, 3 * 8)  # an image vector to three embeddings
        >>> scorer = as_scorer(model, encode=lambda images: project(torch.stack(images)).unflatten(1, (3, 8)))
        >>> scorer.room(scorer.encode([torch.ones(4)]))  # positions that remain for the words and START
        13
    """

    SEEN = "[N, P, hidden], embeddings that stand before the words"
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
        # Rotary positions have no end. A user says so with max_tokens=None.
        self._positions = self._positions_of_words() if declared.get("max_tokens", 0) is not None else None
        if not reads_start and encode is None:
            raise ValueError(
                "reads_start=False needs an image before the words: give encode=images -> embeddings [N, P, hidden]"
            )

    def _plain(self, images: Sequence[Any]) -> Any:
        if any(image is not None for image in images):
            raise TypeError(
                f"{type(self.model).__name__} does not see images. Give encode=images -> embeddings [N, P, hidden] "
                "that stand before the words, or None as the image"
            )

    def _begin(self, encoded: Any, images: int) -> _State:
        if encoded is None:
            return _State(None, Cached(DynamicCache(), REORDER), (), 0)
        output = self.model(inputs_embeds=encoded, past_key_values=DynamicCache(), use_cache=True)
        return _State(None, _kept(output), () if self._reads_start else (output.logits[:, -1],), 0)

    def room(self, context: _State) -> int | None:
        """Return the number of tokens for which the embeddings of the image leave positions, START included."""
        taken = context.cache.own().get_seq_length()
        return self._positions - taken + (not self._reads_start) if self._positions and taken else None

    def _read(self, tokens: torch.Tensor, memory: Any, cache: Any, words: int) -> Any:
        return self.model(tokens, past_key_values=cache, use_cache=True)


KINDS = {
    "VisionEncoderDecoderModel": VisionEncoderDecoderScorer,
    "BlipForConditionalGeneration": BlipScorer,
    "GitForCausalLM": GitScorer,
}


def kind_of(model: PreTrainedModel) -> type[HuggingFaceScorer] | None:
    """Return the scorer class for a Hugging Face model, or None."""
    for base in type(model).__mro__:
        if base.__name__ in KINDS:
            return KINDS[base.__name__]
    writes = not model.config.is_encoder_decoder and model.can_generate()
    return CausalScorer if writes and hasattr(model.config, "vocab_size") else None
