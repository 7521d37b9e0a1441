"""Files of lines, and training data made of them."""

import itertools
import os
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from birnn_decode import lines as lines_module
from birnn_decode.lines import read_lines
from birnn_decode.vocabularies import ByteVocabulary, CharacterVocabulary, SpacedVocabulary, SubwordVocabulary

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\r"), max_size=8)


def written(folder, texts, name="lines.txt", end="\n"):
    path = folder / name
    path.write_bytes("".join(text + end for text in texts).encode())
    return path


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """So that a few lines are several blocks."""
    monkeypatch.setattr(lines_module, "PER_BLOCK", 3)


@given(texts=st.lists(TEXT, min_size=1, max_size=12), end=st.sampled_from(["\n", "\r\n"]), cut=st.booleans())
def test_lines_are_not_changed(texts, end, cut, tmp_path_factory):
    r"""Only ``\n`` and ``\r\n`` end a line; empty lines are left out, with their numbers kept."""
    texts = [text if number != 1 else text.removeprefix("\ufeff") for number, text in enumerate(texts, start=1)]
    kept = [(number, text) for number, text in enumerate(texts, start=1) if text]
    path = written(tmp_path_factory.mktemp("lines"), texts, end=end)
    if cut:
        path.write_bytes(path.read_bytes().removesuffix(end.encode()))
    if not kept:
        with pytest.raises(ValueError, match="has no lines"):
            read_lines(path)
        return
    file = read_lines(path)
    read = list(file.split())
    assert [(line.number, line.text) for line in read] == kept
    assert len(file.split()) == len(kept)
    assert all(line.source is None for line in read)
    last_is_cut = cut and not texts[-1]
    assert file.left_out["empty lines"] == len(texts) - len(kept) - last_is_cut


@given(texts=st.lists(TEXT.filter(bool), min_size=1, max_size=200))
def test_splits_divide_the_lines(texts, tmp_path_factory):
    """Each line is in one split, and equal lines are in the same."""
    file = read_lines(written(tmp_path_factory.mktemp("lines"), texts))
    found = Counter()
    of = {}
    for name in ("train", "val", "test"):
        if not file.counts[name]:
            with pytest.raises(ValueError, match=f"has no lines for the split '{name}'"):
                file.split(name)
            continue
        for line in file.split(name):
            found[line.number, line.text] += 1
            assert of.setdefault(line.text, name) == name
    assert found == Counter((line.number, line.text) for line in file.split())


def test_the_shares_of_the_splits(tmp_path):
    file = read_lines(written(tmp_path, [f"line {number}" for number in range(20_000)]))
    assert 0.04 < file.counts["val"] / 20_000 < 0.06
    assert 0.04 < file.counts["test"] / 20_000 < 0.06


def test_a_byte_order_mark_is_no_text(tmp_path):
    path = tmp_path / "lines.txt"
    path.write_bytes(b"\xef\xbb\xbfone\n\xef\xbb\xbftwo\n")
    assert [line.text for line in read_lines(path).split()] == ["one", "\ufefftwo"]


@pytest.mark.parametrize("kind", ["text", "vectors"])
def test_sources_stay_with_their_lines(kind, tmp_path):
    texts = [f"line {number}" if number % 5 else "" for number in range(1, 17)]
    if kind == "text":
        sources = written(
            tmp_path, [f"source {number}" if number != 8 else " " for number in range(1, 17)], "sources.txt"
        )
    else:
        sources = tmp_path / "sources.npy"
        np.save(sources, np.arange(1, 17, dtype=np.float32)[:, None] * [1, 2])
    file = read_lines(written(tmp_path, texts), sources)
    for name in (None, "train", "val", "test"):
        for line in file.split(name) if name is None or file.counts[name] else ():
            assert line.text == f"line {line.number}"
            if kind == "text":
                assert line.source == f"source {line.number}"
            else:
                assert line.source.tolist() == [line.number, 2 * line.number]
    there = {line.number for line in file.split()}
    assert there == {number for number in range(1, 17) if number % 5 and not (kind == "text" and number == 8)}
    assert file.left_out["lines with an empty source"] == (kind == "text")


def test_bad_files(tmp_path):
    def refused(error, match, *given):
        with pytest.raises(error, match=match):
            read_lines(*given)

    good = written(tmp_path, ["a", "b", "c", "d"])
    refused(FileNotFoundError, "there is no file .*missing", tmp_path / "missing")
    refused(IsADirectoryError, "is a folder, not a file", tmp_path)
    (tmp_path / "latin").write_bytes("a\nb\ncafé\n".encode("latin-1"))
    refused(ValueError, "latin is not text in UTF-8: byte 0xe9 in line 3; convert the file", tmp_path / "latin")
    refused(ValueError, "latin is not text in UTF-8: byte 0xe9 in line 3", good, tmp_path / "latin")
    (tmp_path / "empty").write_bytes(b"")
    refused(ValueError, "empty has no lines", tmp_path / "empty")
    for count in (3, 5):
        some = written(tmp_path, ["x"] * count, "some")
        refused(ValueError, f"has 4 lines, and .*some has {count} sources: give one source for each line", good, some)
        np.save(tmp_path / "some.npy", np.zeros((count, 2)))
        refused(ValueError, f"has 4 lines, and .*some.npy has {count} sources", good, tmp_path / "some.npy")
    np.save(tmp_path / "nan.npy", np.where(np.arange(4)[:, None] == 3, np.nan, np.ones((4, 2))))
    refused(ValueError, "nan.npy has NaN or infinite values in vector 4", good, tmp_path / "nan.npy")
    np.save(tmp_path / "flat.npy", np.zeros(4))
    refused(
        ValueError,
        r"flat.npy must have an array of floats \[lines, feature_size\], got \[4\]",
        good,
        tmp_path / "flat.npy",
    )
    (tmp_path / "text.npy").write_text("no array")
    refused(ValueError, "text.npy is not a .npy file of numbers", good, tmp_path / "text.npy")
    with pytest.raises(ValueError, match="the split must be"):
        read_lines(good).split("dev")


def test_a_file_that_changes_is_refused(tmp_path):
    """The places of its lines are no longer known."""
    for changed in ("lines.txt", "sources.txt"):
        sources = written(tmp_path, ["a", "b"], "sources.txt")
        lines = read_lines(written(tmp_path, ["one", "two"]), sources).split()
        assert len(list(lines)) == 2
        with (tmp_path / changed).open("a") as file:
            file.write("x\n")
        with pytest.raises(ValueError, match=f"{changed} has changed since it was first read: start again"):
            list(lines)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_pipe_is_refused(tmp_path):
    """A file is read several times."""
    os.mkfifo(tmp_path / "pipe")
    end = os.open(tmp_path / "pipe", os.O_RDWR)  # neither side waits for the other
    with pytest.raises(ValueError, match="pipe is a pipe, which can be read only once: give a file"):
        read_lines(tmp_path / "pipe")
    os.close(end)


def training_lines(folder, texts, vocabulary=None, **settings):
    pytest.importorskip("torch")
    from birnn_decode.training import TextLines

    characters = vocabulary or CharacterVocabulary(sorted({one for text in texts for one in text}))
    return TextLines(read_lines(written(folder, texts)).split(), characters, **settings)


@given(
    texts=st.lists(st.text("abc", min_size=1, max_size=9), min_size=1, max_size=40),
    size=st.integers(1, 5),
    seed=st.none() | st.integers(0, 99),
    pool=st.integers(1, 3),
)
def test_batches_have_every_line_once(texts, size, seed, pool, tmp_path_factory):
    torch = pytest.importorskip("torch")
    from birnn_decode import training

    data = training_lines(tmp_path_factory.mktemp("lines"), texts, CharacterVocabulary("abc"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "POOL", pool)
        patch.setattr(training, "ALIKE", 2)
        orders = [None if seed is None else torch.Generator().manual_seed(seed) for _ in range(2)]
        batches, again = ([batch.sentences for batch in data.batches(size, order)] for order in orders)
    assert batches == again
    read = [data.vocabulary.decode(ids) for batch in batches for ids in batch]
    assert Counter(read) == Counter(texts)
    assert len(data) == len(texts)
    assert sorted(map(len, batches), reverse=True)[:-1] == [size] * (len(batches) - 1)
    assert len(batches) == -(-len(texts) // size)


def test_the_order_of_lines(tmp_path, monkeypatch):
    """Each epoch has another one; lines of a batch are nearly equally long."""
    torch = pytest.importorskip("torch")
    from birnn_decode import training

    monkeypatch.setattr(training, "POOL", 200)  # all lines
    random = np.random.default_rng(0)
    texts = ["".join(random.choice(list("abc"), size=random.integers(1, 30))) for _ in range(600)]
    data = training_lines(tmp_path, texts)
    order = torch.Generator().manual_seed(0)
    first, second = ([batch.sentences for batch in data.batches(8, order)] for _ in range(2))
    assert first != second
    spread = [max(map(len, batch)) - min(map(len, batch)) for batch in first]
    assert np.median(spread) <= 1
    lengths = [len(batch[0]) for batch in first]
    assert lengths != sorted(lengths)
    places = [texts.index("".join(data.vocabulary.words[token] for token in batch[0])) for batch in first[:20]]
    assert max(places) - min(places) > 300  # from all over the file


def test_what_is_left_out(tmp_path):
    """What a vocabulary lacks is counted in the lines that are left."""
    data = training_lines(tmp_path, ["ab", "abab", "abcd", "xyz", "x"], CharacterVocabulary("abc"), max_tokens=3)
    assert len(data) == 3
    assert data.left_out == {"lines of more than 3 tokens": 2}
    assert data.lacking == {"x": 2, "y": 1, "z": 1}
    assert data.lacking_lines == 2
    (batch,) = data.batches(9)
    assert sorted(batch.sentences) == [[3], [3, 3, 3], [4, 5]]
    with pytest.raises(ValueError, match="has no line of at most 1 tokens"):
        training_lines(tmp_path, ["ab"], max_tokens=1)


def test_white_space_alone(tmp_path):
    """It has no words, but characters."""
    data = training_lines(tmp_path, ["a", "  ", "b a"], SpacedVocabulary("ab"))
    assert (len(data), data.left_out) == (2, {"lines of white space": 1})
    assert sorted(ids for batch in data.batches(2) for ids in batch.sentences) == [[4], [5, 4]]
    data = training_lines(tmp_path, ["a", "  ", "b a"], CharacterVocabulary(" ab"))
    assert (len(data), data.left_out) == (3, {})


def test_a_source_without_tokens_is_unknown(tmp_path):
    """A tokenizer may drop characters; a translator needs a source of at least one token."""
    pytest.importorskip("torch")
    tokenizers = pytest.importorskip("tokenizers")
    from birnn_decode.training import TextLines

    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordPiece({"[UNK]": 0, "un": 1}, unk_token="[UNK]"))
    tokenizer.normalizer = tokenizers.normalizers.BertNormalizer()
    sources = written(tmp_path, ["un", "\x01"], "sources.txt")
    lines = read_lines(written(tmp_path, ["a", "b"]), sources).split()
    (batch,) = TextLines(lines, CharacterVocabulary("ab"), SubwordVocabulary(tokenizer.to_str())).batches(2)
    assert batch.sources == [[5], [3]]


def test_bytes_are_counted_as_bytes(tmp_path):
    """A character of four bytes is four tokens."""
    data = training_lines(tmp_path, ["😀", "😀😀", "abcd"], ByteVocabulary(), max_tokens=4)
    assert len(data) == 2


def test_a_limit_takes_lines_from_the_whole_file(tmp_path):
    texts = [f"line {number}" for number in range(2000)]
    data = training_lines(tmp_path, texts, SpacedVocabulary(["line", *map(str, range(2000))]), limit=100)
    numbers = [int(data.vocabulary.decode(batch.sentences[0][1:])) for batch in data.batches(1)]
    assert len(numbers) == len(data)
    assert 60 <= len(data) <= 140
    assert max(np.diff(numbers)) < 250


def test_lines_with_vectors_and_sentences_as_sources(tmp_path):
    torch = pytest.importorskip("torch")
    from birnn_decode.training import TextLines

    path = written(tmp_path, ["ab", "b", "a"])
    np.save(tmp_path / "vectors.npy", np.arange(6, dtype=np.float16).reshape(3, 2))
    characters = CharacterVocabulary("ab")
    data = TextLines(read_lines(path, tmp_path / "vectors.npy").split(), characters)
    for batch in data.batches(2):
        assert batch.sources.dtype == torch.float32
        for ids, vector in zip(batch.sentences, batch.sources.tolist(), strict=True):
            assert vector == {2: [0.0, 1.0], 1: [2.0, 3.0] if ids == [5] else [4.0, 5.0]}[len(ids)]
    german = SpacedVocabulary(["ein", "zwei"])
    sources = written(tmp_path, ["zwei ein", "ein", "drei"], "sources.txt")
    data = TextLines(read_lines(path, sources).split(), characters, german)
    assert data.lacking == {"drei": 1}
    found = {tuple(ids): source for batch in data.batches(2) for ids, source in zip(*batch[:2], strict=True)}
    assert found == {(4, 5): [5, 4], (5,): [4], (4,): [3]}
    assert len(TextLines(read_lines(path, sources).split(), characters, german, max_tokens=1)) == 2


def test_other_lines_have_another_fingerprint(tmp_path):
    prints = [
        training_lines(tmp_path, texts, CharacterVocabulary("abc"), max_tokens=most).fingerprint()
        for texts, most in itertools.product((["a", "b"], ["b", "a"], ["a", "c"], ["a", "b", "a"]), (5, 6))
    ]
    assert len({repr(one) for one in prints}) == 8
    assert prints[0] == training_lines(tmp_path, ["a", "b"], CharacterVocabulary("abc"), max_tokens=5).fingerprint()


@pytest.mark.parametrize("kind", ["text", "vectors"])
def test_other_sources_have_another_fingerprint(kind, tmp_path):
    pytest.importorskip("torch")
    from birnn_decode.training import TextLines

    prints = []
    for values in ([1.0, 2.0], [2.0, 1.0], [1.0, 2.0]):
        if kind == "text":
            sources = written(tmp_path, map(str, values), "sources.txt")
        else:
            sources = tmp_path / "sources.npy"
            np.save(sources, np.array(values)[:, None])
        lines = read_lines(written(tmp_path, ["a", "b"]), sources).split()
        vocabulary = SpacedVocabulary(["1.0", "2.0"]) if kind == "text" else None
        prints.append(TextLines(lines, CharacterVocabulary("ab"), vocabulary).fingerprint())
    assert prints[0] != prints[1]
    assert prints[0] == prints[2]
