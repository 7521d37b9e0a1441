"""Files of lines, one sentence per line, read in blocks, so that a file may be larger than the memory."""

from __future__ import annotations

import codecs
import itertools
import os
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from birnn_decode.checks import check_choice
from birnn_decode.files import reading

__all__ = ["Line", "LineFile", "Lines", "read_lines"]

SPLITS = ("train", "val", "test")
PER_BLOCK = 4096  # lines
SHARES = ("train",) * 18 + ("val", "test")  # a checksum decides which one a line has


class Line(NamedTuple):
    """One line of a file.

    Attributes:
        number: its number in the file, from 1.
        text: the line without its end.
        source: its source: text, a feature vector [feature_size], or None if the file has no sources.

    Example:
        >>> from birnn_decode.lines import Line
        >>> Line(1, "a dog", "ein Hund").text
        'a dog'
    """

    number: int
    text: str
    source: Any


@dataclass(frozen=True, eq=False)
class LineFile:
    r"""A file of lines and its sources, checked and indexed by `read_lines`.

    Attributes:
        path: the file.
        sources: the file of sources; None if there is none.
        counts: number of lines that are not empty in each split, see `LineFile.split`.
        left_out: the lines that are left out, in words, and how many there are.
        vectors: the feature vectors of the lines, [lines, feature_size]; None if the sources are texts, or if there are
            none.
        offsets: for each block of lines the places, in bytes, where it begins in each file of text.
        stamps: size and time of the last change of each file of text.

    Example:
        >>> import pathlib, tempfile
        >>> from birnn_decode.lines import read_lines
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder) / "some.smi"
        ...     _ = path.write_text("CCO\nCC(=O)O\n")
        ...     read_lines(path).counts.total()
        2
    """

    path: str
    sources: str | None
    counts: Counter[str]
    left_out: Counter[str]
    vectors: np.ndarray | None = field(repr=False)
    offsets: list[tuple[int, ...]] = field(repr=False)  # for each block its beginning in each file of text
    stamps: list[tuple[int, int]] = field(repr=False)  # of each file of text, to see whether it changes

    def split(self, name: str | None = None) -> Lines:
        r"""Return the lines of a split.

        A checksum of its text decides to which split a line belongs, so equal lines are in the same split: about 90 %
        of the lines are in "train", 5 % in "val" and 5 % in "test".

        Args:
            name: "train", "val" or "test"; None: all lines (default: None).

        Returns:
            The lines.

        Raises:
            ValueError: ``name`` is none of these, or the split has no lines.

        Example:
            >>> import pathlib, tempfile
            >>> from birnn_decode.lines import read_lines
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     path = pathlib.Path(folder) / "some.txt"
            ...     _ = path.write_text("".join(f"line {number}\n" for number in range(1000)))
            ...     [len(read_lines(path).split(name)) for name in ("train", "val", "test")]
            [904, 55, 41]
        """
        if name is not None:
            check_choice("the split", name, SPLITS)
        lines = Lines(self, name)
        if not len(lines):
            raise ValueError(
                f"{self.path} has no lines for the split {name!r}: a line in twenty is for val and one for test. Give "
                f"more lines, or a separate file: {name}=FILE"
            )
        return lines


@dataclass(frozen=True, eq=False)
class Lines:
    r"""The lines of a file, or of one of its splits. Empty lines are left out.

    Attributes:
        file: the file.
        name: "train", "val" or "test"; None for all lines (default: None).

    Example:
        >>> import pathlib, tempfile
        >>> from birnn_decode.lines import read_lines
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder) / "some.smi"
        ...     _ = path.write_text("CCO\nCC(=O)O\n")
        ...     for line in read_lines(path).split():
        ...         print(line.number, line.text)
        1 CCO
        2 CC(=O)O
    """

    file: LineFile
    name: str | None = None

    def __len__(self) -> int:
        return self.file.counts.total() if self.name is None else self.file.counts[self.name]

    def __iter__(self) -> Iterator[Line]:
        return itertools.chain.from_iterable(map(self.block, range(self.blocks)))

    @property
    def blocks(self) -> int:
        """Number of blocks of the file."""
        return len(self.file.offsets)

    def block(self, number: int) -> list[Line]:
        """Read a block of the file.

        Args:
            number: number of the block, from 0.

        Returns:
            Its lines that belong to this split, in the order of the file.

        Raises:
            OSError: a file cannot be read any more.
            ValueError: a file has changed.
        """
        file, first = self.file, number * PER_BLOCK
        wanted = SPLITS if self.name is None else (self.name,)
        blocks = []
        for path, offset, stamp in zip((file.path, file.sources), file.offsets[number], file.stamps, strict=False):
            assert path is not None
            with _opened(path) as opened:
                if _stamp(opened) != stamp:
                    raise ValueError(f"{path} has changed since it was first read: start again")
                opened.seek(offset)
                blocks.append(_raw_lines(opened, first))
        sources: Iterable[Any] = itertools.repeat(None)
        if file.vectors is not None:
            sources = file.vectors[first : first + PER_BLOCK]
        elif file.sources is not None:
            sources = map(bytes.decode, blocks[1])
        return [
            Line(at, raw.decode(), source)
            for at, raw, source in zip(itertools.count(first + 1), blocks[0], sources, strict=False)
            if _part(raw, source) in wanted
        ]


def read_lines(path: str | os.PathLike[str], sources: str | os.PathLike[str] | None = None) -> LineFile:
    r"""Check and index a file of lines.

    The file is read once from its beginning to its end, and only the places of some lines are kept. A line ends with
    ``\n`` or ``\r\n``; all other characters belong to the line. Empty lines, and lines with an empty source, are left
    out and counted.

    Args:
        path: the file, in UTF-8.
        sources: the source of each line: a file of lines, or a ``.npy`` file with one feature vector per line, an array
            [lines, feature_size] (default: None, no sources).

    Returns:
        The file.

    Raises:
        OSError: a file cannot be read.
        ValueError: a file is not text in UTF-8 or is not such an array, a vector has values that are not finite, the
            numbers of lines and of sources differ, there are no lines, or a file is a pipe.

    Example:
        >>> import pathlib, tempfile
        >>> from birnn_decode.lines import read_lines
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder) / "some.smi"
        ...     _ = path.write_text("CCO\n\nCC(=O)O\n")
        ...     file = read_lines(path)
        ...     [line.text for line in file.split()], dict(file.left_out)
        (['CCO', 'CC(=O)O'], {'empty lines': 1})
    """
    path = os.fspath(path)
    of_sources = None if sources is None else os.fspath(sources)
    vectors = _vectors(of_sources) if of_sources is not None and of_sources.endswith(".npy") else None
    texts = [path] if of_sources is None or vectors is not None else [path, of_sources]
    parts: Counter[str] = Counter()
    offsets: list[tuple[int, ...]] = []
    lines = 0
    with ExitStack() as stack:
        files = [stack.enter_context(_opened(one)) for one in texts]
        stamps = [_stamp(file) for file in files]
        while True:
            places = tuple(file.tell() for file in files)
            blocks = [_raw_lines(file, lines) for file in files]
            if not any(blocks):
                break
            decoded = [_decoded(block, one, lines) for block, one in zip(blocks, texts, strict=True)]
            if len(set(map(len, blocks))) > 1:
                counted = [lines + len(own) + sum(1 for _ in file) for own, file in zip(blocks, files, strict=True)]
                raise _different(path, of_sources, *counted)
            parts.update(map(_part, blocks[0], decoded[1] if len(files) > 1 else itertools.repeat(None)))
            offsets.append(places)
            lines += len(blocks[0])
    if vectors is not None:
        if lines != len(vectors):
            raise _different(path, of_sources, lines, len(vectors))
        _check_finite(vectors, of_sources)
    counts = Counter({part: count for part, count in parts.items() if part in SPLITS})
    if not counts:
        raise ValueError(f"{path} has no lines")
    return LineFile(path, of_sources, counts, parts - counts, vectors, offsets, stamps)


def _opened(path: str) -> BinaryIO:
    with reading(path):
        file = open(path, "rb")  # noqa: SIM115 - the caller closes it
    if not file.seekable():
        file.close()
        raise ValueError(f"{path} is a pipe, which can be read only once: give a file")
    return file


def _stamp(file: BinaryIO) -> tuple[int, int]:
    """The size and the time of the last change of a file."""
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns


def _raw_lines(file: BinaryIO, before: int) -> list[bytes]:
    """The lines of a block without their ends; ``before`` counts the lines before it."""
    with reading(file.name):
        raws = [raw.removesuffix(b"\n").removesuffix(b"\r") for raw in itertools.islice(file, PER_BLOCK)]
    if raws and not before:
        raws[0] = raws[0].removeprefix(codecs.BOM_UTF8)
    return raws


def _decoded(block: Sequence[bytes], path: str, before: int) -> list[str]:
    """The texts of a block; ``before`` counts the lines before it."""
    texts: list[str] = []
    try:
        for raw in block:
            texts.append(raw.decode())
    except UnicodeDecodeError as error:
        number = before + len(texts) + 1
        raise ValueError(
            f"{path} is not text in UTF-8: byte 0x{raw[error.start]:02x} in line {number}; convert the file"
        ) from None
    return texts


def _part(raw: bytes, source: Any) -> str:
    """The split that a line belongs to, or why it is left out."""
    if not raw:
        return "empty lines"
    if isinstance(source, str) and not source.strip():
        return "lines with an empty source"
    return SHARES[zlib.crc32(raw) % len(SHARES)]


def _different(path: str, sources: str | None, lines: int, given: int) -> ValueError:
    return ValueError(f"{path} has {lines} lines, and {sources} has {given} sources: give one source for each line")


def _vectors(path: str) -> np.ndarray:
    """The array of a file of feature vectors, which stays on the disk."""
    with reading(path, "file of feature vectors"):
        try:
            vectors = np.load(path, mmap_mode="c")  # PyTorch warns about arrays that cannot be written
        except (ValueError, EOFError) as error:
            raise ValueError(f"{path} is not a .npy file of numbers: {error}") from None
    if vectors.ndim != 2 or vectors.dtype.kind != "f":
        raise ValueError(
            f"{path} must have an array of floats [lines, feature_size], got {list(vectors.shape)} of {vectors.dtype}"
        )
    return vectors


def _check_finite(vectors: np.ndarray, path: str | None) -> None:
    for begin in range(0, len(vectors), PER_BLOCK):
        finite = np.isfinite(vectors[begin : begin + PER_BLOCK]).all(axis=1)
        if not finite.all():
            raise ValueError(f"{path} has NaN or infinite values in vector {begin + int(finite.argmin()) + 1}")
