"""Files of questions: the kinds that are read, and malformed ones, which are right or one clear line."""

import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from birnn_decode.datasets.questions import WINDOW, Batch, Question, as_lines, read_questions

ROWS = [
    {"id": "a", "source": "1", "template": "a _ ball", "references": ["a red ball"], "weight": 0.5},
    {"id": "b", "source": "2", "template": "a {1-3} here", "weight": 2},
    {"id": "c", "source": "3", "tags": ["x", "y"], "whole": True},
]


def lines_of(rows):
    return "".join(json.dumps(one) + "\n" for one in rows)


@pytest.fixture
def write(tmp_path):
    def write(data, name="questions.jsonl"):
        path = tmp_path / name
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return path

    return write


def refusal(path, kind=ValueError):
    with pytest.raises(kind) as caught:
        read_questions(path, 4)
    (line,) = str(caught.value).splitlines()
    assert str(path) in line
    return line.replace(str(path), "FILE")


def test_lines(write):
    found = read_questions(write(lines_of(ROWS)), 4)
    assert (found.count, found.windows, found.numeric_ids) == (3, 1, False)
    assert found.kinds == {
        "source": "text",
        "template": "text",
        "references": "texts",
        "weight": "number",
        "tags": "texts",
        "whole": "flag",
    }
    assert [{"id": one.id, **one.fields} for one in found.window(0)] == ROWS
    assert [one.width for one in found.window(0)] == [1, 3, 0]


def test_without_an_id_it_is_the_number_of_the_line(write):
    found = read_questions(write('\n{"source": "1"}\n\n{"source": "2", "id": null}\n'), 4)
    assert [one.id for one in found.window(0)] == [2, 4]
    assert found.numeric_ids


@given(st.lists(st.integers(0, 5), min_size=1, max_size=60), st.integers(1, 3))
def test_batches_hold_every_question_once_and_sort_a_window_by_width(tmp_path_factory, widths, batch_size):
    path = tmp_path_factory.mktemp("questions") / "questions.jsonl"
    path.write_text(lines_of({"source": "1", "template": " ".join(["a", *["_"] * width])} for width in widths))
    found = read_questions(path, batch_size)
    size = WINDOW * batch_size
    numbers = []
    for window in range(found.windows):
        batches = found.batches(window)
        assert [one.key for one in batches] == [(window, at) for at in range(found.batch_count(window))]
        assert all(len(one.questions) == batch_size for one in batches[:-1])
        assert 1 <= len(batches[-1].questions) <= batch_size
        sorted_widths = [one.width for batch in batches for one in batch.questions]
        assert sorted_widths == sorted(sorted_widths)
        own = [one.number for batch in batches for one in batch.questions]
        assert sorted(own) == list(range(window * size, min((window + 1) * size, len(widths))))
        assert [widths[number] for number in own] == sorted_widths
        numbers += own
    assert sorted(numbers) == list(range(len(widths)))


def test_the_key_of_a_batch():
    assert Batch(3, 1, [Question(0, "a", {})]).key == (3, 1)


# ---------------------------------------------------------------------------------------------------- malformed files


def test_a_byte_order_mark_and_windows_line_ends_are_read(write):
    plain = read_questions(write(lines_of(ROWS)), 4)
    for data in (b"\xef\xbb\xbf" + lines_of(ROWS).encode(), lines_of(ROWS).replace("\n", "\r\n")):
        found = read_questions(write(data, "other.jsonl"), 4)
        assert found.window(0) == plain.window(0)
        assert found.checksum != plain.checksum


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("", "FILE has no questions"),
        ("\n \r\n", "FILE has no questions"),
        (lines_of(ROWS).encode("utf-16"), "FILE is in UTF-16; save it as UTF-8"),
        (gzip.compress(lines_of(ROWS).encode()), "FILE is compressed (gzip); decompress it first"),
        ('{"source": "caf\xe9"}\n'.encode("latin-1"), "FILE, line 1: byte 0xe9 is not UTF-8; save the file as UTF-8"),
        (lines_of(ROWS)[:-20], "FILE, line 3 is not JSON: "),
        (lines_of([*ROWS, ROWS[1]]), "FILE: lines 2 and 4 have the same id 'b'; ids must differ"),
        (lines_of([{"id": 1}, {"id": "1"}, {"image": "a"}]), "FILE: lines 1 and 2 have the same id '1'"),
        (lines_of([{"id": 2, "source": "a"}, {"source": "b"}]), "FILE: lines 1 and 2 have the same id '2'"),
        ('{"id": 1.5, "source": "a"}\n', "FILE, line 1: the id must be text or an integer, got 1.5"),
        ('{"id": true, "source": "a"}\n', "FILE, line 1: the id must be text or an integer, got True"),
        ('{"source": "a"}\n["a"]\n', "FILE, line 2: a question must be an object such as "),
        ('{"source": "a", "weight": NaN}\n', "FILE, line 1 is not JSON: NaN is no number in JSON"),
        ('{"source": "a \\ud83d"}\n', "FILE, line 1: a text has half of a surrogate pair"),
        ('{"source": "a", "score": 1}\n', "FILE, line 1: rename the field 'score', which is a column of the answers"),
        ('{"picture": "a", "words": "b"}\n', "FILE has none of the fields image, features, source, template; it has "),
        ("[" * 100_000, "FILE, line 1 is not JSON: "),
        (b"PAR1" + b"\x00" * 40, "FILE is a Parquet file; let its name end in .parquet"),
    ],
)
def test_malformed_lines_are_one_clear_line(write, data, message):
    line = refusal(write(data))
    assert line.startswith(message)


def test_a_truncated_last_line_is_said_to_be_cut(write):
    assert refusal(write(lines_of(ROWS)[:-20])).endswith("is the file cut short?")
    assert refusal(write('{"source": "a"\n{"source": "b"}\n')).endswith("column 1 (char 15)")


def test_what_is_no_file(tmp_path):
    (tmp_path / "folder.jsonl").mkdir()
    assert refusal(tmp_path / "folder.jsonl", OSError) == "FILE is a folder, not a file of questions"
    assert refusal(tmp_path / "nothing.jsonl", OSError) == "there is no file of questions FILE"
    assert refusal(tmp_path / "questions.txt").startswith("FILE must end in .jsonl (JSON Lines), .parquet, or .json")


# ------------------------------------------------------------------------------------------------------------- Parquet


def test_parquet_is_read_like_lines(tmp_path, write):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [{"id": number, "source": str(number), "weight": number / 2} for number in range(200)]
    rows[3]["source"] = None
    path = tmp_path / "questions.parquet"
    parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=37)
    found = read_questions(path, 2)
    for row in rows:
        if row["source"] is None:
            del row["source"]
    lines = read_questions(write(lines_of(rows)), 2)
    assert [found.window(at) for at in range(found.windows)] == [lines.window(at) for at in range(lines.windows)]
    assert (found.count, found.windows, found.numeric_ids, found.kinds) == (200, 7, True, lines.kinds)


def test_values_that_json_does_not_have_become_text(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    import datetime

    path = tmp_path / "questions.parquet"
    parquet.write_table(pyarrow.table({"source": ["a"], "day": [datetime.date(2026, 11, 29)]}), path)
    found = read_questions(path, 4)
    assert found.window(0)[0].fields == {"source": "a", "day": "2026-11-29"}
    assert found.kinds["day"] == "text"


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"template": [1, 2]}, "FILE: the column template has the type int64; it must have text"),
        ({"source": ["a", "b"], "id": [0.5, 1.0]}, "FILE: the column id has the type double; it must have text or "),
        ({"features": [["a"], ["b"]]}, "FILE: the column features has the type list<element: string>; it must have "),
        ({"source": ["a", "b"], "references": ["c", "d"]}, "FILE: the column references has the type string; it must"),
        ({"url": ["a", "b"]}, "FILE has none of the fields image, features, source, template; it has url"),
        ({"source": ["a", "b"], "id": ["c", "c"]}, "FILE: lines 1 and 2 have the same id 'c'"),
    ],
)
def test_parquet_of_another_schema_is_one_clear_line(tmp_path, columns, message):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "questions.parquet"
    parquet.write_table(pyarrow.table(columns), path)
    assert refusal(path).startswith(message)


def test_damaged_parquet_is_one_clear_line(tmp_path, write):
    pytest.importorskip("pyarrow")
    assert refusal(write(lines_of(ROWS), "lines.parquet")).startswith("FILE is not a Parquet file, or it is cut short")


# ------------------------------------------------------------------------------------------------------- caption files


def test_caption_files_ask_for_whole_captions(write):
    sentences = [{"raw": "A cat."}, {"raw": "A dog."}]
    karpathy = {
        "images": [
            {"filename": "1.jpg", "imgid": 5, "split": "train", "sentences": sentences},
            {"filename": "2.jpg", "imgid": 6, "split": "val", "sentences": sentences[:1]},
        ]
    }
    path = write(json.dumps(karpathy), "dataset.json")
    first = {"id": 5, "image": "1.jpg", "references": ["A cat.", "A dog."]}
    second = {"id": 6, "image": "2.jpg", "references": ["A cat."]}
    assert [json.loads(line) for line in as_lines(path, None)] == [first, second]
    assert [json.loads(line) for line in as_lines(path, "val")] == [second]
    coco = {"images": [{"id": 5, "file_name": "1.jpg"}], "annotations": [{"image_id": 5, "caption": "A cat."}]}
    (found,) = as_lines(write(json.dumps(coco), "coco.json"), None)
    assert json.loads(found) == {"id": 5, "image": "1.jpg", "references": ["A cat."]}


def test_other_files_and_dicts(write):
    assert as_lines(write(lines_of(ROWS)), None) is None
    with pytest.raises(ValueError, match="a split is for caption files"):
        as_lines("questions.jsonl", "val")
    assert [json.loads(line) for line in as_lines(ROWS, None)] == ROWS
    assert list(as_lines([b"a\n"], None)) == [b"a\n"]


def test_equal_hashes_are_no_equal_ids(write, monkeypatch):
    """With hashes of 64 bits nobody meets this."""
    monkeypatch.setattr("birnn_decode.datasets.questions._hash", lambda one: 1)
    assert read_questions(write(lines_of(ROWS)), 4).count == 3
