"""The columns of answers, and the files that they are written to: JSON Lines, Parquet, and COCO's results."""

from __future__ import annotations

import itertools
import json
import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from birnn_decode.checks import check_choice
from birnn_decode.datasets.columns import COLUMNS, OF_HYPOTHESIS
from birnn_decode.datasets.questions import Question, QuestionFile
from birnn_decode.files import reading
from birnn_decode.result import DecodeResult, Hypothesis

FORMATS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}
ROWS_AT_A_TIME = 4096


def format_of(output: Path, given: str | None) -> str:
    """Return the format of a file of answers: "jsonl", "parquet" or "coco"."""
    if given is not None:
        check_choice("form", given, ("jsonl", "parquet", "coco"))
    found = FORMATS.get(output.suffix) if given is None else given
    if found is None:
        raise ValueError(f"{output} must end in .jsonl or .parquet; the format coco may have any ending")
    if given is not None and FORMATS.get(output.suffix, given) != given:
        raise ValueError(f"{output} does not go with the format {given}: give it another ending")
    return found


def answer(question: Question, result: DecodeResult | None, error: str | None = None) -> bytes:
    """Return the line of an answer: JSON with all columns, then the fields of the question.

    A vector of features is left out. "-inf" stands for the logarithm of 0.
    """
    found: dict[str, Any] = dict.fromkeys(COLUMNS) | {"id": question.id, "hypotheses": [], "error": error}
    if result is not None:
        hypotheses = [_hypothesis(one) for one in result.hypotheses]
        for best in hypotheses[:1]:
            found |= {name: value for name, value in best.items() if name in COLUMNS}
        found |= {
            "hypotheses": hypotheses,
            "stop": str(result.stop),
            "rounds": result.rounds,
            "rows": result.rows_evaluated,
            "proved": result.proved,
            "upper_bound": _number(result.upper_bound),
            "signature": result.signature,
        }
    found |= {
        name: value for name, value in question.fields.items() if name != "features" or not isinstance(value, list)
    }
    return json.dumps(found, ensure_ascii=False).encode() + b"\n"


def _hypothesis(one: Hypothesis) -> dict[str, Any]:
    return {
        "text": one.text,
        "width": sum(map(len, one.blanks)),
        "tokens": list(one.tokens),
        **{name: _number(getattr(one, name)) for name, kind in OF_HYPOTHESIS.items() if kind == "number"},
        "broken": list(one.broken),
    }


def _number(value: float | None) -> float | str | None:
    return "-inf" if value == -math.inf else value


def read_answers(path: str | os.PathLike[str]) -> Iterator[dict[str, Any]]:
    r"""Read the answers of a file, one after the other.

    Args:
        path: a file of answers in JSON Lines or Parquet.

    Yields:
        a dict for each answer, in the order of the questions.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file is of another kind, or damaged.

    Example:
        >>> from pathlib import Path
        >>> from birnn_decode.datasets import read_answers
        >>> size = Path("answers.jsonl").write_text('{"id": 1, "text": "a dog", "error": null}\n')
        >>> [one["text"] for one in read_answers("answers.jsonl")]
        ['a dog']
    """
    path = Path(path)
    if FORMATS.get(path.suffix) == "parquet":
        yield from _parquet(path)
        return
    with reading(path, "file of answers"), path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                found = json.loads(line)
                if not {"id", "text", "error"} <= {*found}:
                    raise ValueError("the columns id, text and error are missing")
            except (ValueError, TypeError) as error:
                raise ValueError(f"{path}, line {number} is no answer of `birnn-decode decode`: {error}") from None
            yield found


def _parquet(path: Path) -> Iterator[dict[str, Any]]:
    import pyarrow
    import pyarrow.parquet

    with reading(path, "file of answers"), path.open("rb") as opened:
        try:
            file = pyarrow.parquet.ParquetFile(opened)
            if not {"id", "text", "error"} <= {*file.schema_arrow.names}:
                raise ValueError(f"{path} has no answers of `birnn-decode decode`: id, text and error are missing")
            encoded = {field.name for field in file.schema_arrow if (field.metadata or {}).get(b"json")}
            for batch in file.iter_batches(1024):
                for row in batch.to_pylist():
                    yield {
                        name: json.loads(value) if name in encoded and value is not None else value
                        for name, value in row.items()
                    }
        except pyarrow.ArrowException as error:
            raise ValueError(f"{path} is not a Parquet file, or it is cut short: {error}") from None


def write_answers(file: BinaryIO, lines: Iterable[bytes], form: str, questions: QuestionFile) -> None:
    """Write answers in a format.

    Args:
        file: the file to write to.
        lines: the answers as `answer` returns them, in the order of the questions.
        form: the format; see `format_of`.
        questions: the file of the questions.
    """
    if form == "jsonl":
        file.writelines(lines)
    elif form == "coco":
        joint = b"["
        for line in lines:
            found = json.loads(line)
            file.write(joint + b"\n" + json.dumps({"image_id": found["id"], "caption": found["text"] or ""}).encode())
            joint = b","
        file.write(b"\n]\n")
    else:
        _write_parquet(file, lines, questions)


def _write_parquet(file: BinaryIO, lines: Iterable[bytes], questions: QuestionFile) -> None:
    import pyarrow
    import pyarrow.parquet

    schema = _schema(questions)
    encoded = {field.name for field in schema if (field.metadata or {}).get(b"json")}
    numeric = {field.name for field in schema if pyarrow.types.is_floating(field.type)}

    def converted(line: bytes) -> dict[str, Any]:
        row = json.loads(line)
        if not questions.numeric_ids:
            row["id"] = str(row["id"])
        for name in encoded:
            row[name] = None if row.get(name) is None else json.dumps(row[name], ensure_ascii=False)
        for one in (row, *row["hypotheses"]):
            one.update({name: -math.inf for name in numeric if one.get(name) == "-inf"})
        return row

    rows = map(converted, lines)
    with pyarrow.parquet.ParquetWriter(file, schema) as writer:
        while some := list(itertools.islice(rows, ROWS_AT_A_TIME)):
            writer.write_table(pyarrow.Table.from_pylist(some, schema))


def _schema(questions: QuestionFile) -> Any:
    """The types of all columns. A field whose values have several types is JSON, and says so."""
    import pyarrow

    plain: dict[str, Any] = {
        "text": pyarrow.string(),
        "integer": pyarrow.int64(),
        "number": pyarrow.float64(),
        "flag": pyarrow.bool_(),
    }
    types = {
        **plain,
        "id": pyarrow.int64() if questions.numeric_ids else pyarrow.string(),
        "texts": pyarrow.list_(pyarrow.string()),
        "integers": pyarrow.list_(pyarrow.int64()),
        "json": pyarrow.string(),
    }
    types["hypotheses"] = pyarrow.list_(pyarrow.struct({name: types[kind] for name, kind in OF_HYPOTHESIS.items()}))
    carried = {name: kind for name, kind in questions.kinds.items() if (name, kind) != ("features", "json")}
    fields = [
        pyarrow.field(name, types[kind], metadata={"json": "1"} if kind == "json" else None)
        for name, kind in {**COLUMNS, **carried}.items()
    ]
    return pyarrow.schema(fields)
