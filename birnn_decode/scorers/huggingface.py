"""Scorer of every Hugging Face model with ``generate``. Needs the package transformers.

The scorer asks the model itself how it is called. `encode` runs the model's own ``generate`` with a ``custom_generate``
that stops it before the first step. Everything that ``generate`` prepares is then known: which module writes the words,
the encoder's output, masks, positions, the cache, and the prompt of the decoder, with forced tokens. The prompt is read
once per source. After it, the scorer does what ``generate`` does in its loop.

The words of a beam change from step to step. Their keys and values are in a cache that a call changes, so each call
gets a copy. Rows may have read different numbers of words: the caches of shorter rows are padded on the left, as
``generate`` pads prompts. What belongs to the source exists once per source: the keys and values that cross-attention
makes of the encoder's output are shared by all beams. The beams of a source attend to them as if they were one longer
sentence.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import inspect
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, NamedTuple

import torch
from transformers import DynamicCache, EncoderDecoderCache, GenerationMixin, PreTrainedModel
from transformers.cache_utils import DynamicLayer
from transformers.generation.utils import MULTIMODAL_INPUTS_TO_DROP_OUTSIDE_PREFILL
from transformers.utils import logging
from transformers.utils.generic import ModelOutput

from birnn_decode.scorers.reader import Reader
from birnn_decode.scorers.sources import EMBEDDINGS, IDS, PICTURES, batched
from birnn_decode.scorers.state import Cached
from birnn_decode.scorers.wrappers import OPTIONS, Wrapper
from birnn_decode.tokenizers import as_vocabulary, no_words

REORDER = "reorder_cache"  # method of Hugging Face's caches
CACHE, CROSS = "past_key_values", "cross_attention_cache"
MEMORY = ("encoder_outputs", "encoder_hidden_states")  # what a decoder attends to
TYPES, POSITIONS, ATTENTION = "token_type_ids", "position_ids", "attention_mask"
DECODER_ATTENTION = "decoder_attention_mask"  # of an encoder-decoder, whose ATTENTION is that of the source
OWN = frozenset({CACHE, "logits_to_keep", EMBEDDINGS, *MULTIMODAL_INPUTS_TO_DROP_OUTSIDE_PREFILL})
ONE_ROW = {  # options of ``generate`` with which it prepares one row per source
    "num_beams": 1,
    "num_return_sequences": 1,
    "do_sample": False,
    "use_cache": True,
    "cache_implementation": "dynamic",
    "max_new_tokens": 1,
}


@dataclass
class Opened:
    """What ``generate`` has prepared before its first step.

    Args:
        model: The module that writes words. It is a part of the model if the model is made of several.
        prompt: Tokens that are read before the words, ids [N, P].
        config: Options of ``generate``.
        inputs: Arguments that ``generate`` passes on from step to step.
    """

    model: Any
    prompt: torch.Tensor
    config: Any
    inputs: dict[str, Any]

    def every(self, expanded: int) -> Opened:
        """Return one row per source of what was expanded to several rows per source."""
        rows = len(self.prompt)

        def one(name: str, value: Any) -> Any:
            if isinstance(value, ModelOutput):
                return type(value)({key: one(name, own) for key, own in value.items()})
            axis = _axis_of_rows(name, value)
            if isinstance(value, torch.Tensor) and value.ndim > axis and value.shape[axis] == rows:
                return value.index_select(axis, torch.arange(0, rows, expanded, device=value.device))
            return value

        inputs = {name: one(name, value) for name, value in self.inputs.items()}
        return Opened(self.model, self.prompt[::expanded], self.config, inputs)


def _axis_of_rows(name: str, value: Any) -> int:
    """Return the axis that counts the rows. Positions may have several axes in front, one for each kind of position."""
    return value.ndim - 2 if name.endswith(POSITIONS) and isinstance(value, torch.Tensor) else 0


class _Passed(dict[str, Any]):
    """An output that has a cache and nothing else."""

    __getattr__ = dict.get


class _StoppedError(Exception):
    """Ends ``generate`` before its first step."""

    def __init__(self, opened: Opened):
        super().__init__()
        self.opened = opened


def _stop(
    model: Any,
    input_ids: torch.Tensor,
    logits_processor: Any,
    stopping_criteria: Any,
    generation_config: Any,
    **model_kwargs: Any,
) -> None:
    raise _StoppedError(Opened(model, input_ids, generation_config, model_kwargs))


class _Beams:
    """The beams of some sources, side by side, for modules that attend to the sources.

    Attention to a source does not depend on the other queries. The beams of a source, [beams, t, hidden], can therefore
    attend to it as one row of queries [1, beams * t, hidden], and keys and values are needed once per source.

    Args:
        sources: Number of the source of each row.
    """

    def __init__(self, sources: Sequence[int]):
        self.sources = list(dict.fromkeys(sources))
        place = {source: number for number, source in enumerate(self.sources)}
        own: list[list[int]] = [[] for _ in self.sources]
        for row, source in enumerate(sources):
            own[place[source]].append(row)
        most = max(map(len, own))
        self.rows = len(sources)
        self.single = most == 1
        self.regular = [row for rows in own for row in rows] == list(range(self.rows)) and self.rows == most * len(own)
        self.first = torch.tensor([rows[0] for rows in own])
        self.slots = torch.tensor([rows + rows[:1] * (most - len(rows)) for rows in own])  # [sources, most]
        self.back = torch.empty(self.rows, dtype=torch.int64)
        for number, rows in enumerate(own):
            self.back[rows] = number * most + torch.arange(len(rows))

    def to(self, device: torch.device) -> _Beams:
        """Move the numbers of the rows to a device."""
        self.first, self.slots, self.back = (one.to(device) for one in (self.first, self.slots, self.back))
        return self

    def together(self, module: Any, positional: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """Change the arguments of a module from rows to sources: the first is the queries, the masks have 4 axes."""
        queries = positional[0] if positional else named["hidden_states"]
        length = queries.shape[1]

        def change(value: Any) -> Any:
            if value is queries:
                chosen = value if self.regular else value[self.slots].flatten(0, 1)
                return chosen.reshape(len(self.sources), -1, value.shape[-1])
            if isinstance(value, torch.Tensor) and value.ndim == 4 and len(value) == self.rows:
                return value[self.first][:, :, :1]  # padding is masked alike for all queries
            return value

        self._length = length
        return tuple(map(change, positional)), {name: change(value) for name, value in named.items()}

    def apart(self, module: Any, positional: tuple[Any, ...], output: Any) -> Any:
        """Change the output of a module from sources to rows."""
        attended = output[0] if isinstance(output, tuple) else output
        rows = attended.reshape(-1, self._length, attended.shape[-1])
        rows = rows if self.regular else rows[self.back]
        return (rows, *output[1:]) if isinstance(output, tuple) else rows

    def attending(self, modules: Sequence[torch.nn.Module]) -> contextlib.AbstractContextManager[None]:
        """Let modules attend for all beams of a source together."""
        return _hooked(modules, self.together, self.apart)


class _Rows(NamedTuple):
    inputs: dict[str, Any]  # what ``generate`` passes on from step to step, with one row per beam
    memory: Any  # keys and values of the sources, or None
    beams: _Beams


@dataclass(frozen=True, eq=False)
class _Prompt:
    """What a model has prepared and read for N sources, for rows of these sources.

    Args:
        model: The module that writes words. It is a part of the model if the model is made of several.
        inputs: What ``generate`` passes on after the prompt: tensors with one row per source, and other values.
        memory: Cache of the keys and values of cross-attention, or None.
        attending: Modules that attend to the memory.
        tokens: Tokens of the prompt, with those of pictures in it.
        sources: Number of the source of each row.
        words: Number of words that each row has read.
        last: Sources of the last expansion and its result. All states of one context share this list.
    """

    model: Any
    inputs: Mapping[str, Any]
    memory: Any
    attending: Sequence[torch.nn.Module]
    tokens: int
    count: int
    sources: list[int]
    words: list[int]
    last: list[Any] = field(default_factory=list)

    @functools.cached_property
    def plain(self) -> bool:
        """Whether a step needs the tokens and the cache alone."""
        tensors = any(isinstance(value, (torch.Tensor, ModelOutput)) for value in self.inputs.values())
        return not tensors and _usual(self.model)

    def select(self, rows: Any) -> _Prompt:
        """Return the same for the given rows."""
        numbers = torch.as_tensor(rows).tolist()
        sources, words = ([own[row] for row in numbers] for own in (self.sources, self.words))
        return replace(self, sources=sources, words=words)

    @staticmethod
    def join(several: Sequence[_Prompt]) -> _Prompt:
        """Join the rows of several states of one context."""
        sources = [source for one in several for source in one.sources]
        return replace(several[0], sources=sources, words=[words for one in several for words in one.words])

    def rows(self) -> _Rows:
        """Return what is passed on, with one row for each of the rows. The result must not be changed."""
        if not self.last or self.last[0] != self.sources:
            self.last[:] = [self.sources, self._expanded()]
        rows: _Rows = self.last[1]
        return rows

    def _expanded(self) -> _Rows:
        device = self.model.device
        index = torch.tensor(self.sources, device=device)
        inputs = {name: self._own(name, value, index) for name, value in self.inputs.items()}
        beams = _Beams(self.sources).to(device)
        memory = self.memory
        if memory is not None and beams.sources != list(range(self.count)):
            memory = copy.copy(memory)
            memory.layers = [copy.copy(layer) for layer in memory.layers]
            memory.reorder_cache(torch.tensor(beams.sources, device=device))
        return _Rows(inputs, memory, beams)

    def _own(self, name: str, value: Any, index: torch.Tensor) -> Any:
        """Return the rows of a value."""
        if isinstance(value, ModelOutput):
            return type(value)({key: self._own(name, one, index) for key, one in value.items()})
        if name in MEMORY and self.memory is not None:
            # Its keys and values are known. It only says how many rows there are, and takes no memory for them.
            return value[:1].expand(len(index), *value.shape[1:])
        axis = _axis_of_rows(name, value)
        if isinstance(value, torch.Tensor) and value.ndim > axis and value.shape[axis] == self.count:
            return value.index_select(axis, index)
        return value


class _State(NamedTuple):
    prompt: _Prompt
    cache: Cached  # keys and values of the words, and of the prompt if the decoder attends to nothing else
    pending: tuple[torch.Tensor, ...]  # logits [R, vocab_size] of the first word, as long as no word was read


class HuggingFaceScorer(Wrapper, Reader):
    """Scorer of a Hugging Face model that has ``generate``.

    A source is what a tokenizer or processor returns for one source: a mapping of tensors, such as ``input_ids`` with
    ``attention_mask``, ``pixel_values`` or ``input_features``. The scorer pads and batches sources. A tensor is the
    main input of the model: a picture [channels, height, width], or token ids [length]. For a language model, a source
    is a prompt, with a picture if the model sees pictures, and the sentence follows it; None is no prompt.

    The scorer calls the model as the model's own ``generate`` does. All tokens that ``generate`` reads before the first
    word are read and are no words: START, ``forced_bos_token_id``, the prefix of language and task of Whisper. END,
    PAD and the ids that ``generate`` suppresses come from the configuration. If there are several END ids, END has the
    sum of their probabilities. Options of a search, such as ``num_beams`` and ``length_penalty``, belong to `decode`.

    Args:
        model: Model.
        start_token: Id that begins a sentence. Give it if a backward model was trained on sentences reversed together
            with START and END. (default: that of the configuration)
        end_token: Id that ends a sentence. (default: that of the configuration)
        encode: Function from a list of sources to a mapping of batched tensors, such as
            ``lambda texts: tokenizer(texts, padding=True, return_tensors="pt")``; or to a list with one mapping or
            tensor per source. A tensor is the main input, [N, …], or for a language model the embeddings
            [N, P, hidden] that stand before the words. (default: the sources are such mappings or tensors)
        reads_start: True if START is read after embeddings that ``encode`` returns. False if the first word follows
            them directly, as in ClipCap. ``start_token`` is then an id that is never read. (default: True)
        generate_kwargs: Arguments of ``generate`` that say what is read before the words, such as
            ``{"forced_bos_token_id": 7}`` or ``{"language": "en", "task": "transcribe"}``. (default: none)
        never: Ids that are not words, besides the special ids of the configuration and of the tokenizer.
        vocabulary: Vocabulary or tokenizer. (default: None)
        **declared: Other arguments of every wrapper; see `Wrapper`. ``max_tokens`` is the number of positions of the
            model by default.

    Raises:
        ValueError: The configuration lacks an id that was not given, or the tokenizer has more ids than the model.

    Example:
        >>> import torch, transformers
        >>> from birnn_decode import BeamSearch, Pair, as_scorer, decode
        >>> config = transformers.T5Config(
        ...     vocab_size=9, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2, decoder_start_token_id=0
        ... )
        >>> scorer = as_scorer(transformers.T5ForConditionalGeneration(config))
        >>> scorer.start_token, scorer.end_token
        (0, 1)
        >>> source = {"input_ids": [5, 6, 7, 1]}  # or tokenizer("a sentence")
        >>> result = decode(Pair(scorer), source, method=BeamSearch("forward"), widths=[3])
        >>> len(result.best.tokens)
        3
    """

    OPTIONS: ClassVar[frozenset[str]] = OPTIONS - {"vocab_size", "model"} | {"reads_start", "generate_kwargs"}
    NEEDED: ClassVar[dict[str, str]] = {}
    model: Any
    batch_axis = (0, REORDER, 0)

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        start_token: int | None = None,
        end_token: int | None = None,
        encode: Callable[[Sequence[Any]], Any] | None = None,
        reads_start: bool = True,
        generate_kwargs: Mapping[str, Any] | None = None,
        never: Collection[int] = (),
        vocabulary: Any = None,
        **declared: Any,
    ):
        self.model = model
        self._text_config: Any = model.config.get_text_config(decoder=True)
        self._options = dict(generate_kwargs or {})
        self._given_start, self._given_end = start_token, end_token
        self._reads_start = reads_start
        self._attends = bool(model.config.is_encoder_decoder)
        self._accepted = frozenset(inspect.signature(model.forward).parameters)
        if not reads_start and encode is None:
            raise ValueError(
                "reads_start=False needs an image before the words: give encode=images -> embeddings [N, P, hidden]"
            )
        size = self._text_config.vocab_size
        vocabulary = as_vocabulary(vocabulary)
        if hasattr(vocabulary, "__len__") and len(vocabulary) > size:
            raise ValueError(
                f"the vocabulary has {len(vocabulary)} ids, and {type(model).__name__} writes {size}. Give the "
                "tokenizer that the model was trained with"
            )
        self._ends = self._end_ids() if end_token is None else [end_token]
        super().__init__(
            vocab_size=size,
            start_token=self._start_id() if start_token is None else start_token,
            end_token=self._ends[0],
            encode=encode,
            never=never,
            vocabulary=vocabulary,
            model=model,
            **{"max_tokens": self._positions_of_words(), **declared},
        )
        self.never |= self._special(size) | no_words(vocabulary, size) | {*self._ends}
        forced = self._option("forced_bos_token_id")
        self.boundaries = frozenset(self._ends) | (frozenset() if forced is None else {int(forced)})
        self.aligned = not self._takes_padding()
        self._weight = next(model.parameters())  # tells the device faster than the model does
        begins = self._option("begin_suppress_tokens") or ()
        self._not_first = [token for token in begins if token < size]
        # What is ruled out at the beginning takes probability away and gives none to the other words.
        self.normalized = bool(self._not_first)

    def _takes_padding(self) -> bool:
        """Tell whether caches may be padded on the left, since masks and positions can be given for each row."""
        layers = DynamicCache(config=self.model.config).layers
        if not _usual(self.model) or any(type(layer) is not DynamicLayer for layer in layers) or self._is_stretched:
            return False
        if self._attends:
            return DECODER_ATTENTION in self._accepted and (bool(self._tables) or self._is_relative)
        sees_more = PICTURES in self._accepted or getattr(self._text_config, "add_cross_attention", False)
        return {ATTENTION, POSITIONS} <= self._accepted and self.model.main_input_name == IDS and not sees_more

    @property
    def _is_stretched(self) -> bool:
        """Whether the longest row of a call changes the rotations of all."""
        given = getattr(self._text_config, "rope_parameters", None) or {}
        of_kinds = [own for own in given.values() if isinstance(own, Mapping)]  # of layers
        return any(own.get("rope_type") in ("longrope", "dynamic") for own in (given, *of_kinds))

    @functools.cached_property
    def _decoder(self) -> dict[str, torch.nn.Module]:
        """The modules of an encoder-decoder that read words, by their names."""
        return dict(self.model.get_decoder().named_modules())

    @property
    def _is_relative(self) -> bool:
        """Whether an encoder-decoder looks at the distances between words alone, as T5 does."""
        return any(name.endswith("relative_attention_bias") for name in self._decoder)

    @functools.cached_property
    def _tables(self) -> list[torch.nn.Module]:
        """The tables of an encoder-decoder that are asked for the vectors of positions."""
        return [
            module
            for name, module in self._decoder.items()
            if name == "embed_positions"
            and isinstance(module, torch.nn.Embedding)
            and POSITIONS in inspect.signature(module.forward).parameters
        ]

    # ---------------------------------------------------------------------------------------- ids of the configuration

    def _option(self, name: str) -> Any:
        """Return an option of ``generate``: as given, or as configured."""
        places = (self._options, vars(self.model.generation_config), *map(vars, (self.model.config, self._text_config)))
        return next((place[name] for place in places if place.get(name) is not None), None)

    def _start_id(self) -> int:
        """Return the id that begins a sentence. A language model without one begins with END, if it ever does."""
        names = ("decoder_start_token_id", "bos_token_id") if self._attends else ("bos_token_id",)
        start = next((self._option(name) for name in names if self._option(name) is not None), None)
        if start is None and not self._attends:
            start = self._ends[0]
        return self._needed("start_token", start)

    def _end_ids(self) -> list[int]:
        """Return the ids that end a sentence, at least one."""
        ends = self._option("eos_token_id")
        separator = getattr(self._text_config, "sep_token_id", None)
        if separator is not None and type(self.model).generate is not GenerationMixin.generate:
            ends = separator  # the model has its own way to write, with a decoder that was made to read two sentences
        if ends is None:
            ends = self._option("forced_eos_token_id") if separator is None else separator
        return [int(self._needed("end_token", one)) for one in (ends if isinstance(ends, (list, tuple)) else [ends])]

    def _needed(self, name: str, configured: Any) -> int:
        if not isinstance(configured, int):
            raise ValueError(
                f"the configuration of {type(self.model).__name__} has no id for {name} ({configured}). Give {name}= "
                "the id that the model was trained with"
            )
        return configured

    def _special(self, size: int) -> set[int]:
        """Return the ids that the configuration names or that ``generate`` suppresses."""
        places = (self._options, *map(vars, (self._text_config, self.model.config, self.model.generation_config)))
        named = [
            token for place in places for name, token in place.items() if name.endswith(("_token_id", "_token_index"))
        ]
        flat = [one for token in named for one in (token if isinstance(token, (list, tuple)) else [token])]
        flat += self._option("suppress_tokens") or ()
        return {token for token in flat if isinstance(token, int) and 0 <= token < size}

    def _positions_of_words(self) -> int | None:
        """Return the number of tokens that the model has positions for, or None if there is no limit."""
        names = ("max_target_positions", "max_position_embeddings")
        most = next((value for name in names if (value := getattr(self._text_config, name, None)) is not None), None)
        return most - self._first_position if isinstance(most, int) and most > 0 else None

    @functools.cached_property
    def _first_position(self) -> int:
        """The number of the first position. RoBERTa and similar models count positions from after the padding."""
        tables = (table for name, table in self.model.named_modules() if name.endswith("position_embeddings"))
        return max(
            (1 + table.padding_idx for table in tables if getattr(table, "padding_idx", None) is not None), default=0
        )

    # ------------------------------------------------------------------------------------------------------ the source

    def encode(self, images: Sequence[Any]) -> _State:
        """Encode the sources and read what comes before the words; return a state of one row per source.

        Raises:
            TypeError: A source, or what ``encode`` returned, is neither a mapping nor a tensor.
            ValueError: A source has a wrong shape.
        """
        given = self._encode(images)
        with_pad = self._option("pad_token_id")
        main = self.model.main_input_name
        inputs = batched(
            given,
            len(images),
            main=main,
            dense=PICTURES if PICTURES in self._accepted else EMBEDDINGS if main == IDS else main,
            pad=self._ends[0] if with_pad is None else with_pad,
            left=not self._attends,
            name=type(self.model).__name__,
        )
        nothing = not inputs
        if nothing and (self._attends or main != IDS):
            raise TypeError(f"{type(self.model).__name__} needs a source, got None")
        if not self._attends and main == IDS and not inputs.keys() & {IDS, EMBEDDINGS}:
            inputs[IDS] = torch.full((len(images), 1), self.start_token)
        weight = self._weight
        inputs = {
            name: value.to(weight.device, weight.dtype if value.is_floating_point() else None)
            for name, value in inputs.items()
        }
        if EMBEDDINGS in inputs and not self._attends and self._reads_start:
            begin = self.model.get_input_embeddings()(self.tokens([[self.start_token]] * len(images)))
            inputs[EMBEDDINGS] = torch.cat([inputs[EMBEDDINGS], begin], dim=1)
        return self._begin(self.opened(inputs), len(images), nothing)

    def opened(self, inputs: Mapping[str, torch.Tensor]) -> Opened:
        """Return what ``generate`` prepares for batched sources, one row per source."""
        options: dict[str, Any] = {**self._options, **ONE_ROW, "custom_generate": _stop}
        if self._given_start is not None and self._attends:
            options["decoder_start_token_id"] = self.start_token
        verbosity = logging.get_verbosity()
        logging.set_verbosity(40)  # errors only: `generate` gives advice that does not apply here
        try:
            # Without its decorators, which switch gradients off.
            inspect.unwrap(type(self.model).generate)(self.model, **inputs, **options)
        except _StoppedError as stopped:
            return stopped.opened
        finally:
            logging.set_verbosity(verbosity)
        raise TypeError(
            f"{type(self.model).__name__}.generate does not pass custom_generate on. Wrap the model with TorchScorer "
            "or PrefixScorer"
        )

    def _begin(self, opened: Opened, count: int, nothing: bool = False) -> _State:
        """Read the prompts of all sources; return the state of one row per source.

        Args:
            opened: What ``generate`` has prepared.
            count: Number of sources.
            nothing: Whether the prompt is START alone, which is then read together with the first words.
        """
        model, prompt, config, inputs = opened.model, opened.prompt, opened.config, opened.inputs
        ends = config.eos_token_id if isinstance(config.eos_token_id, (list, tuple)) else [config.eos_token_id]
        if self._given_end is None and None not in ends and {*ends} != {*self._ends}:
            raise ValueError(
                f"{type(self.model).__name__}.generate ends sentences with id {ends}, and its configuration says "
                f"{self._ends}. Give end_token="
            )
        attends = any(inputs.get(name) is not None for name in MEMORY)
        if self._given_start is not None and attends:
            prompt[:, 0] = self.start_token  # of a model whose ``generate`` takes no other START
        if config.forced_bos_token_id is not None and prompt.shape[1] == 1:
            opened.prompt = prompt = torch.cat([prompt, torch.full_like(prompt, config.forced_bos_token_id)], dim=1)
        if attends and not isinstance(inputs.get(CACHE), EncoderDecoderCache):
            inputs[CACHE] = EncoderDecoderCache(inputs[CACHE], copy.deepcopy(inputs[CACHE]))
        if self._first_position and POSITIONS in inputs:
            inputs[POSITIONS] = inputs[POSITIONS] + self._first_position
        if nothing and prompt.shape[1] == 1 and CACHE in inputs and not self._not_first:
            own = _Prompt(model, _passed(model, inputs, 0), None, (), 0, count, list(range(count)), [0] * count)
            return _State(own, Cached(inputs[CACHE], REORDER), ())
        read = model.prepare_inputs_for_generation(prompt, is_first_iteration=True, **inputs)
        attending: list[torch.nn.Module] = []
        with _writers(model, getattr(inputs.get(CACHE), CROSS, None), attending):
            output = model(**read, return_dict=True)
        cache = self._kept(output)
        memory = getattr(cache, CROSS, None)
        passed = model._update_model_kwargs_for_generation(
            output, inputs, is_encoder_decoder=model.config.is_encoder_decoder
        )
        if memory is not None and not len(memory.layers):
            memory = None
        embedded = read.get(EMBEDDINGS)
        tokens = prompt.shape[1] if embedded is None else embedded.shape[1]
        passed = _passed(model, passed, cache.get_seq_length())
        own = _Prompt(model, passed, memory, attending, tokens, count, list(range(count)), [0] * count)
        cache = cache.self_attention_cache if memory is not None else cache
        return _State(own, Cached(cache, REORDER), (self._first(output.logits[:, -1]),))

    def _first(self, logits: torch.Tensor) -> torch.Tensor:
        """Return the scores of the first word."""
        logits = self._scores(logits)
        return logits.index_fill(1, self.tokens(self._not_first), -torch.inf) if self._not_first else logits

    @staticmethod
    def _kept(output: Any) -> Any:
        """Return the cache that a model returned.

        Raises:
            TypeError: The model returned no cache.
        """
        cache = getattr(output, CACHE, None)
        if not hasattr(cache, REORDER):
            raise TypeError(
                f"the model returned a {type(output).__name__} without a cache of keys and values, so it does not "
                "write word by word or keeps its state in another way. Wrap it with PrefixScorer or TorchScorer"
            )
        return cache

    def start(self, context: _State) -> _State:
        """Return the state of one row per source, which no call changes; see `Scorer.start`."""
        return context

    def room(self, context: _State) -> int | None:
        """Return the number of tokens for which the prompt leaves positions, START included."""
        # Rotary positions have no end. A user says so with max_tokens=None.
        return None if self.max_tokens is None else self.max_tokens - max(context.prompt.tokens, 1) + 1

    # ------------------------------------------------------------------------------------------------------- the words

    def tokens(self, tokens: Any) -> torch.Tensor:
        """Return token ids as a tensor on the device of the model."""
        return torch.as_tensor(tokens, dtype=torch.int64, device=self._weight.device)

    def read(self, tokens: torch.Tensor, state: _State) -> tuple[torch.Tensor, _State]:
        """Read ``tokens`` [R, t]; return the logits [R, t, vocab_size] and the last state."""
        if state.pending:
            first = state.pending[0][:, None]
            state = state._replace(pending=())
            if tokens.shape[1] == 1:
                return first, state
            rest, state = self.read(tokens[:, 1:], state)
            return torch.cat([first, rest], dim=1), state
        prompt, (inputs, memory, beams) = state.prompt, state.prompt.rows()
        model, length, longest = prompt.model, tokens.shape[1], max(prompt.words)
        missing = [longest - words for words in prompt.words]
        cache = state.cache.own(None if self.aligned else prompt.tokens + longest)
        if memory is not None:
            cache = EncoderDecoderCache(cache, memory)
        words = longest + length
        passed = {**inputs, CACHE: cache}
        if words > 1 and not prompt.plain:
            passed = model._update_model_kwargs_for_generation(
                _Passed({CACHE: cache}),
                passed,
                is_encoder_decoder=model.config.is_encoder_decoder,
                num_new_tokens=words - 1,
            )
            if TYPES in inputs:
                passed[TYPES] = inputs[TYPES][:, -1:].expand(-1, words)
        positioned: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
        if any(missing):
            mask, positions = self._padded(passed, missing, prompt.tokens + words)
            passed[DECODER_ATTENTION if self._attends else ATTENTION] = mask
            if self._attends:
                positioned = _positioned(self._tables, positions[:, -length:])
            else:
                passed[POSITIONS] = positions[:, -length:]
        if prompt.plain:
            output = model(tokens, **passed)
        else:
            read = model.prepare_inputs_for_generation(tokens, next_sequence_length=length, **passed)
            together = memory is not None and not beams.single
            with positioned, beams.attending(prompt.attending) if together else contextlib.nullcontext():
                output = model(**read, return_dict=True)
        cache = self._kept(output)
        cache = cache.self_attention_cache if memory is not None else cache
        prompt = replace(prompt, words=[own + length for own in prompt.words])
        return self._scores(output.logits), state._replace(prompt=prompt, cache=Cached(cache, REORDER))

    def _padded(
        self, passed: Mapping[str, Any], missing: Sequence[int], length: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return masks and positions, [R, length], of rows with padding on the left.

        Args:
            passed: What is passed to the model if there is no padding.
            missing: Number of tokens by which each row is shorter than the longest.
            length: Number of tokens of the longest row, with those that are read now.
        """
        device = self._weight.device
        places = torch.arange(length, device=device) - torch.tensor(missing).to(device, non_blocking=True)[:, None]
        there, places = places >= 0, places.clamp(min=0)
        mask, positions = passed.get(DECODER_ATTENTION if self._attends else ATTENTION), passed.get(POSITIONS)
        mask = there.long() if mask is None else mask.gather(1, places) * there
        return mask, places if positions is None else positions.expand(len(places), -1).gather(1, places)

    def _scores(self, logits: torch.Tensor) -> torch.Tensor:
        """Return logits, or log-probabilities if ``normalized``, with all END ids as one."""
        if len(self._ends) > 1:
            end, *others = self._ends
            logits = logits.clone()
            logits[..., end] = logits[..., self._ends].logsumexp(-1)
            logits[..., others] = -torch.inf
        if self.normalized:
            logits = logits.log_softmax(-1, dtype=torch.promote_types(logits.dtype, torch.float32))
        return logits

    def select(self, state: _State, rows: Any) -> Any:
        """Make a state from some rows of another state; see `Scorer.select`."""
        return super().select(state, self.tokens(rows))  # on the device, for the cache

    def project(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return the outputs, which are logits already."""
        return hidden


def _positioned(tables: Sequence[torch.nn.Module], positions: torch.Tensor) -> contextlib.AbstractContextManager[None]:
    """Replace the vectors that a decoder looks up for positions by those of ``positions``, [R, t]."""

    def ask(module: Any, given: Any, named: dict[str, Any]) -> Any:
        bound = inspect.signature(module.forward).bind(*given, **named)
        bound.arguments[POSITIONS] = positions.flatten()
        return bound.args, bound.kwargs

    def shape(module: Any, given: Any, vectors: torch.Tensor) -> torch.Tensor:
        return vectors.reshape(*positions.shape, -1)

    return _hooked(tables, ask, shape)


@contextlib.contextmanager
def _hooked(
    modules: Sequence[torch.nn.Module], before: Callable[..., Any], after: Callable[..., Any]
) -> Iterator[None]:
    """Change what modules are given, by ``before``, and what they return, by ``after``."""
    hooks = [one.register_forward_pre_hook(before, with_kwargs=True) for one in modules]
    hooks += [one.register_forward_hook(after) for one in modules]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _usual(model: Any) -> bool:
    """Tell whether a model prepares the inputs of a step as most models do."""
    return type(model).prepare_inputs_for_generation is GenerationMixin.prepare_inputs_for_generation


def _passed(model: Any, inputs: Mapping[str, Any], read: int) -> dict[str, Any]:
    """Return the inputs that are passed on from step to step, given the number of tokens in the cache.

    Positions that just count the tokens are left out: the model counts by itself, and a step takes less time.
    """
    passed = {name: value for name, value in inputs.items() if name not in OWN and value is not None}
    positions = passed.get(POSITIONS)
    if positions is not None and ATTENTION not in passed and _usual(model):
        counted = torch.arange(read + 1, device=positions.device)
        if positions.ndim == 2 and torch.equal(positions, counted.expand(len(positions), -1)):
            del passed[POSITIONS]
    return passed


class PreparedScorer(HuggingFaceScorer):
    """Scorer of a model whose ``generate`` has prepared the sources already."""

    TAKEN = ("eos_token_id", "pad_token_id", "suppress_tokens", "begin_suppress_tokens", "forced_bos_token_id")

    def __init__(self, opened: Opened):
        options = {name: getattr(opened.config, name) for name in self.TAKEN}
        super().__init__(opened.model, generate_kwargs=options)
        self._prepared = opened

    def encode(self, images: Sequence[Any]) -> _State:
        """Read what ``generate`` has prepared, whatever the sources are."""
        return self._begin(self._prepared, len(images))


def rows_of_sources(inputs: Mapping[str, Any], count: int) -> list[dict[str, torch.Tensor]]:
    """Divide batched inputs into those of each source.

    Raises:
        ValueError: An input does not have one row per source.
    """
    tensors = {name: value for name, value in inputs.items() if isinstance(value, torch.Tensor)}
    for name, value in tensors.items():
        if len(value) != count:
            raise ValueError(f"{name} has {len(value)} rows for {count} sources. Call decode once for each source")
    return [{name: value[row : row + 1] for name, value in tensors.items()} for row in range(count)]


@contextlib.contextmanager
def _writers(model: torch.nn.Module, cache: Any, found: list[torch.nn.Module]) -> Iterator[None]:
    """Find the modules of a model that put keys and values into a cache. They attend to them."""
    if cache is None:
        yield
        return
    running: list[torch.nn.Module] = []
    hooks = []
    for module in model.modules():
        hooks.append(module.register_forward_pre_hook(lambda one, _: running.append(one)))
        hooks.append(module.register_forward_hook(lambda *_: running.pop() and None))
    update = cache.update

    def watched(*arguments: Any, **options: Any) -> Any:
        found.append(running[-1])
        return update(*arguments, **options)

    cache.update = watched
    try:
        yield
    finally:
        del cache.update
        for hook in hooks:
            hook.remove()
