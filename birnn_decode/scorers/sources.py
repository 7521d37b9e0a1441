"""Batches of sources as tokenizers and processors of Hugging Face return them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

IDS, MASK, EMBEDDINGS, PROMPT = "input_ids", "attention_mask", "inputs_embeds", "decoder_input_ids"
PICTURES = "pixel_values"
SHAPES = {
    PICTURES: ("[N, channels, height, width], such as the pixel_values that a processor returns", (4, 5)),
    EMBEDDINGS: ("[N, P, hidden], embeddings that stand before the words", (3,)),
    IDS: ("[N, length]", (2,)),
    PROMPT: ("[N, length]", (2,)),
}


def batched(
    given: Any, count: int, *, main: str, dense: str, pad: int, left: bool, name: str
) -> dict[str, torch.Tensor]:
    """Make one mapping of batched tensors.

    Args:
        given: A mapping of batched tensors; a batched tensor; or a list with a mapping or a tensor for each source, or
            with None for each.
        count: Number of sources.
        main: Name of the main input of the model, which a tensor of ids stands for.
        dense: Name of the input that a tensor of other numbers stands for.
        pad: Id that fills shorter rows of ids.
        left: Whether shorter rows are filled on the left, so that words can follow.
        name: Name of the model, for messages.

    Returns:
        The tensors by their names; an empty dict if no source was given.

    Raises:
        TypeError: A source is neither a mapping nor a tensor.
        ValueError: A tensor has a wrong shape.
    """
    if isinstance(given, (list, tuple)):
        if all(one is None for one in given):
            return {}
        rows = [_single(one, main, dense, name) for one in given]
        if any(row.keys() != rows[0].keys() for row in rows):
            raise ValueError(
                f"the sources have different inputs: {', '.join(rows[0])}, and "
                f"{', '.join(next(row for row in rows if row.keys() != rows[0].keys()))}. Decode them in separate calls"
            )
        inputs = _padded(rows, pad, left)
    elif isinstance(given, Mapping):
        inputs = {key: torch.as_tensor(value) for key, value in given.items()}
    elif isinstance(given, torch.Tensor):
        inputs = {dense if given.is_floating_point() else main: given}
    else:
        wanted, _ = SHAPES.get(dense, ("[N, …]", None))
        raise TypeError(
            f"encode returned a {type(given).__name__}; it must return a tensor {wanted}, or a mapping of batched "
            "tensors, such as a tokenizer or processor returns"
        )
    checked = {main, EMBEDDINGS, IDS, PROMPT} | (set() if IDS in inputs else {PICTURES})
    for key in inputs.keys() & checked:
        wanted, dimensions = SHAPES.get(key, ("[N, …]", range(1, 9)))
        shape = tuple(inputs[key].shape)
        if shape[:1] != (count,) or len(shape) not in dimensions or (key == main == PICTURES and len(shape) != 4):
            what = "the sources give" if isinstance(given, (list, tuple)) else "encode returned"
            raise ValueError(f"{what} {key} of shape {shape} for {count} sources; it must be {wanted}")
    if IDS in inputs and MASK not in inputs:
        inputs[MASK] = torch.ones_like(inputs[IDS])
    if left and MASK in inputs and not inputs[MASK][:, -1].all():
        raise ValueError(
            "encode padded the prompts on the right, and the words would follow the padding. Give the tokenizer "
            'padding_side="left"'
        )
    return inputs


def _single(source: Any, main: str, dense: str, name: str) -> dict[str, torch.Tensor]:
    """Return the inputs of one source, with an axis in front that counts it."""
    if isinstance(source, torch.Tensor):
        return {dense if source.is_floating_point() else main: source[None]}
    if not isinstance(source, Mapping):
        how = (
            "tensors [channels, height, width], or mappings such as a processor returns. For other images give "
            'encode=lambda images: processor(images=images, return_tensors="pt").pixel_values'
            if dense == PICTURES
            else "mappings of tensors such as a tokenizer or processor returns. For other sources give "
            'encode=lambda texts: tokenizer(texts, padding=True, return_tensors="pt")'
        )
        raise TypeError(f"a source is a {type(source).__name__}; {name} takes {how}")
    inputs = {key: torch.as_tensor(value) for key, value in source.items() if value is not None}
    for key, value in inputs.items():
        if value.ndim == 1 or (key == main and len(value) != 1):
            inputs[key] = value[None]
    return inputs


def _padded(rows: Sequence[Mapping[str, torch.Tensor]], pad: int, left: bool) -> dict[str, torch.Tensor]:
    """Join the rows of several sources. Axis 1 of shorter ones is filled."""
    inputs, masks = {}, {}
    for key in rows[0]:
        tensors = [row[key] for row in rows]
        if len({tensor.shape[1:] for tensor in tensors}) > 1:
            if key == PROMPT or len({(tensor.shape[0], *tensor.shape[2:]) for tensor in tensors}) > 1:
                shapes = ", ".join(str(tuple(shape)) for shape in dict.fromkeys(one.shape for one in tensors))
                raise ValueError(
                    f"the sources have {key} of different shapes: {shapes}. Give all the same shape, or decode them in "
                    "separate calls"
                )
            lengths = [tensor.shape[1] for tensor in tensors]
            if MASK not in rows[0]:
                masks[key] = [torch.ones(1, length, dtype=torch.int64) for length in lengths]
            tensors = _filled(tensors, max(lengths), pad if key in (IDS,) else 0, left)
        inputs[key] = torch.cat(tensors)
    if masks:
        own = masks.get(IDS) or next(iter(masks.values()))
        inputs[MASK] = torch.cat(_filled(own, max(mask.shape[1] for mask in own), 0, left))
    return inputs


def _filled(tensors: Sequence[torch.Tensor], length: int, value: int, left: bool) -> list[torch.Tensor]:
    filled = []
    for tensor in tensors:
        missing = tensor.new_full((tensor.shape[0], length - tensor.shape[1], *tensor.shape[2:]), value)
        filled.append(torch.cat([missing, tensor] if left else [tensor, missing], dim=1))
    return filled
