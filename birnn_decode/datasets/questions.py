"""Read files of questions, one window at a time: JSON Lines, Parquet, and the caption files of Karpathy and COCO."""

from __future__ import annotations

import array
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from birnn_decode.captions.datasets import CaptionFile, read_captions
from birnn_decode.datasets.columns import COLUMNS
from birnn_decode.files import reading

WINDOW = 16  # batches that are read and sorted by width at a time
KNOWN = ("image", "features", "source", "template", "references")
JSONL, PARQUET, CAPTIONS = (".jsonl", ".ndjson"), (".parquet",), (".json",)
CHUNK = 1 << 20
# Files that are no text are recognised by their first bytes.
MAGIC = {
    b"\x1f\x8b": "compressed (gzip); decompress it first",
    b"\xff\xfe": "in UTF-16; save it as UTF-8",
    b"\xfe\xff": "in UTF-16; save it as UTF-8",
    b"PAR1": "a Parquet file; let its name end in .parquet",
}
_WIDTH = re.compile(r"\{\s*(\d+)(?:\s*-\s*(\d+))?[^}]*\}|_")


@dataclass(frozen=True)
class Question:
    """One question of a file.

    Attributes:
        number: its place in the file, from 0.
        id: its id, or the number of its line.
        fields: its other fields, as they stand in the file.
    """

    number: int
    id: int | str
    fields: Mapping[str, Any]

    @property
    def width(self) -> int:
        """The number of missing words, as far as the text of the template tells. 0 for a whole caption."""
        template = self.fields.get("template")
        if not isinstance(template, str):
            return 0
        return sum(int(found[2] or found[1] or 1) for found in _WIDTH.finditer(template))


@dataclass(frozen=True)
class Batch:
    """Questions that are decoded together.

    Attributes:
        window: the number of the window that they are from.
        number: the number of the batch in its window.
        questions: the questions.
    """

    window: int
    number: int
    questions: Sequence[Question]

    @property
    def key(self) -> tuple[int, int]:
        """What identifies the batch in a run."""
        return self.window, self.number


@dataclass(frozen=True)
class QuestionFile:
    """A file of questions that has been read once and is sound.

    The batches depend on the file and on ``batch_size`` alone. So the answers, whose last digits depend on the batch,
    are the same however often a run is interrupted and however many workers decode.

    Attributes:
        path: the file.
        folder: the folder that paths of images are relative to.
        count: the number of questions.
        batch_size: the number of questions that are decoded together.
        checksum: SHA-256 of the file.
        kinds: for each field except the id, in order of appearance: "text", "texts", "integer", "number", "flag" or
            "json".
        numeric_ids: whether all ids are integers.
        starts: for each window of a file of lines, the byte and the number of its first line.
    """

    path: Path
    folder: Path
    count: int
    batch_size: int
    checksum: str
    kinds: Mapping[str, str]
    numeric_ids: bool
    starts: Sequence[tuple[int, int]] = ()

    @property
    def windows(self) -> int:
        """The number of windows."""
        return -(-self.count // (WINDOW * self.batch_size))

    def batch_count(self, window: int) -> int:
        """Return the number of batches of a window."""
        size = WINDOW * self.batch_size
        return -(-min(size, self.count - window * size) // self.batch_size)

    def window(self, number: int) -> list[Question]:
        """Read the questions of a window, in order."""
        size = WINDOW * self.batch_size
        first = number * size
        count = min(size, self.count - first)
        if self.path.suffix in PARQUET:
            rows = _parquet_rows(self.path, first, count)
        else:
            byte, line = self.starts[number]
            rows = (row for row, _ in _lines(self.path, byte, line))
        return [_question(first + at, *next(rows)) for at in range(count)]

    def batches(self, window: int) -> list[Batch]:
        """Read a window, and divide it into batches of questions of similar width."""
        questions = sorted(self.window(window), key=lambda one: one.width)  # stable
        parts = [questions[at : at + self.batch_size] for at in range(0, len(questions), self.batch_size)]
        return [Batch(window, number, part) for number, part in enumerate(parts)]


def read_questions(path: str | os.PathLike[str], batch_size: int, folder: Path | None = None) -> QuestionFile:
    """Read a file of questions once, and check everything that is not about a single question.

    Args:
        path: a file of JSON Lines (.jsonl) or Parquet (.parquet).
        batch_size: the number of questions that are decoded together.
        folder: the folder that paths of images are relative to (default: the folder of the file).

    Returns:
        The file, ready to be read window by window.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file is of another kind or damaged, has no questions, or has two questions of one id.
    """
    path = Path(path)
    if path.suffix not in (*JSONL, *PARQUET):
        raise ValueError(f"{path} must end in .jsonl (JSON Lines), .parquet, or .json (captions of Karpathy or COCO)")
    kinds: dict[str, set[str]] = {}
    starts: list[tuple[int, int]] = []
    hashes, numeric, count = array.array("Q"), True, 0
    checksum = file_checksum(path, "file of questions")
    if path.suffix in PARQUET:
        rows: Iterator[tuple[tuple[Any, int], int]] = ((row, 0) for row in _parquet_rows(path, 0, None))
    else:
        rows = _lines(path, 0, 1)
    for (fields, line), begin in rows:
        if count % (WINDOW * batch_size) == 0:
            starts.append((begin, line))
        question = _checked(path, fields, line, count)
        hashes.append(_hash(question.id))
        numeric = numeric and isinstance(question.id, int)
        for name, value in question.fields.items():
            if (kind := _kind(value)) not in kinds.setdefault(name, set()) and kind:
                kinds[name].add(kind)
        count += 1
    if not count:
        raise ValueError(f"{path} has no questions")
    if not {*kinds} & {*KNOWN}:
        there = f"it has {', '.join(kinds)}" if kinds else "it has none at all"
        raise ValueError(f"{path} has none of the fields {', '.join(KNOWN[:4])}; {there}")
    _check_ids(path, np.asarray(hashes))
    joined = {name: next(iter(own)) if len(own) == 1 else _of_several(own) for name, own in kinds.items()}
    return QuestionFile(
        path, path.parent if folder is None else folder, count, batch_size, checksum, joined, numeric, starts
    )


def file_checksum(path: Path, what: str = "file") -> str:
    """Return the SHA-256 of a file, in hexadecimal notation."""
    digest = hashlib.sha256()
    with reading(path, what), path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def as_lines(given: Any, split: str | None) -> Iterator[bytes] | None:
    """Return the lines of questions that are not in a file of lines or Parquet; None for a file that is.

    Args:
        given: a path of a caption file (.json), an iterable of dicts, or an iterable of lines in bytes.
        split: the split of a caption file that is asked about; None for all images.
    """
    if isinstance(given, (str, os.PathLike)):
        path = Path(given)
        if path.suffix not in CAPTIONS:
            if split is not None:
                raise ValueError(f"a split is for caption files (.json), and {path} is another file")
            return None
        return _captions(path, split)
    return (one if isinstance(one, bytes) else json.dumps(one).encode() + b"\n" for one in given)


def _captions(path: Path, split: str | None) -> Iterator[bytes]:
    """The lines of a caption file: a whole caption for each image."""
    with reading(path, "file of captions"), path.open("rb") as file:
        # Karpathy's file names the splits, COCO's does not.
        named = b'"annotations"' not in file.read()
    captions: CaptionFile = read_captions(path) if named else read_captions(path, split=split or "test")
    for image in captions.images if split is None else captions.of(split):
        asked = {"id": image.image_id, "image": image.name, "references": list(image.captions)}
        yield json.dumps(asked).encode() + b"\n"


def _lines(path: Path, byte: int, number: int) -> Iterator[tuple[tuple[dict[str, Any], int], int]]:
    """The objects of a file of JSON Lines from a byte on, each with its line's number, and its first byte."""
    with reading(path, "file of questions"), path.open("rb") as file:
        head = file.read(4)
        for magic, what in MAGIC.items():
            if head.startswith(magic):
                raise ValueError(f"{path} is {what}")
        file.seek(byte)
        for at, line in enumerate(file, start=number):
            begin, byte = byte, byte + len(line)
            if begin == 0:
                line = line.removeprefix(b"\xef\xbb\xbf")
            if not line.isspace():
                yield (_object(path, line, at), at), begin


def _object(path: Path, line: bytes, number: int) -> dict[str, Any]:
    where = f"{path}, line {number}"
    try:
        found = json.loads(line.decode(), parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise ValueError(f"{where}: byte 0x{line[error.start]:02x} is not UTF-8; save the file as UTF-8") from None
    except (ValueError, RecursionError) as error:
        cut = "" if line.endswith(b"\n") else "; is the file cut short?"
        raise ValueError(f"{where} is not JSON: {error}{cut}") from None
    if b"\\u" in line and "\\ud" in json.dumps(found):
        try:
            json.dumps(found, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError(f"{where}: a text has half of a surrogate pair, which is no character") from None
    if not isinstance(found, dict):
        raise ValueError(f'{where}: a question must be an object such as {{"image": …, "template": …}}')
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number in JSON")


def _parquet_rows(path: Path, first: int, count: int | None) -> Iterator[tuple[dict[str, Any], int]]:
    """The rows of a Parquet file from a row on, each with its number from 1."""
    import pyarrow
    import pyarrow.parquet

    with reading(path, "file of questions"), path.open("rb") as opened:
        try:
            file = pyarrow.parquet.ParquetFile(opened)
        except pyarrow.ArrowException as error:
            raise ValueError(f"{path} is not a Parquet file, or it is cut short: {error}") from None
        for field in file.schema_arrow:
            _check_column(path, field)
        sizes = [file.metadata.row_group(at).num_rows for at in range(file.num_row_groups)]
        begin, at = 0, 0
        while at < len(sizes) and begin + sizes[at] <= first:
            begin, at = begin + sizes[at], at + 1
        last = None if count is None else first + count
        try:
            for batch in file.iter_batches(1024, row_groups=list(range(at, len(sizes)))):
                for number, row in enumerate(batch.to_pylist(), start=begin):
                    if last is not None and number >= last:
                        return
                    if number >= first:
                        yield {name: _plain(value) for name, value in row.items() if value is not None}, number + 1
                begin += batch.num_rows
        except pyarrow.ArrowException as error:
            raise ValueError(f"{path} is damaged, or cut short: {error}") from None


def _check_column(path: Path, field: Any) -> None:
    """Check the type of a column that this package reads."""
    from pyarrow import types

    def text(kind: Any) -> bool:
        return bool(types.is_string(kind) or types.is_large_string(kind))

    def of(kind: Any, inside: Callable[[Any], bool]) -> bool:
        lists = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
        return bool(lists and inside(kind.value_type))

    rules: dict[str, tuple[Callable[[Any], bool], str]] = {
        "id": (lambda kind: text(kind) or types.is_integer(kind), "text or integers"),
        "features": (
            lambda kind: text(kind) or types.is_integer(kind) or of(kind, types.is_floating),
            "lists of floats, or keys",
        ),
        "references": (lambda kind: of(kind, text), "lists of text"),
    }
    rules |= dict.fromkeys(("image", "source", "template"), (text, "text"))
    fits, wanted = rules.get(field.name, (lambda kind: True, ""))
    if not types.is_null(field.type) and not fits(field.type):
        raise ValueError(f"{path}: the column {field.name} has the type {field.type}; it must have {wanted}")


def _question(number: int, fields: dict[str, Any], line: int) -> Question:
    own = {name: value for name, value in fields.items() if name != "id"}
    return Question(number, line if fields.get("id") is None else fields["id"], own)


def _checked(path: Path, fields: dict[str, Any], line: int, number: int) -> Question:
    """Return a question whose id is sound and whose fields have no name that a column of the answers has."""
    given = fields.get("id")
    if given is not None and (not isinstance(given, (int, str)) or isinstance(given, bool)):
        raise ValueError(f"{path}, line {line}: the id must be text or an integer, got {given!r}")
    for name in fields:
        if name in COLUMNS and name != "id":
            raise ValueError(f"{path}, line {line}: rename the field {name!r}, which is a column of the answers")
    return _question(number, fields, line)


def _check_ids(path: Path, hashes: np.ndarray) -> None:
    """Check that ids differ. Only if two hashes are equal, the file is read again and the ids are compared."""
    ordered = np.sort(hashes)
    suspects = {*ordered[1:][ordered[1:] == ordered[:-1]].tolist()}
    if not suspects:
        return
    found: dict[str, int] = {}
    rows = _parquet_rows(path, 0, None) if path.suffix in PARQUET else (row for row, _ in _lines(path, 0, 1))
    for fields, line in rows:
        one = str(line if fields.get("id") is None else fields["id"])
        if _hash(one) in suspects:
            if one in found:
                raise ValueError(f"{path}: lines {found[one]} and {line} have the same id {one!r}; ids must differ")
            found[one] = line


def _hash(one: int | str) -> int:
    return int.from_bytes(hashlib.blake2b(str(one).encode(errors="surrogatepass"), digest_size=8).digest(), "big")


def _kind(value: Any) -> str:
    """What kind of value a column must hold for this one; "" for no value."""
    if value is None:
        return ""
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return "texts"
    if isinstance(value, int) and abs(value) >= 2**63:
        return "json"
    return {bool: "flag", int: "integer", float: "number", str: "text"}.get(type(value), "json")


def _of_several(kinds: Iterable[str]) -> str:
    return "number" if {*kinds} == {"integer", "number"} else "json" if {*kinds} else "text"


def _plain(value: Any) -> Any:
    """A value that JSON can hold. What Parquet has beside JSON, such as dates, becomes text."""
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)
