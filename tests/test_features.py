"""Files of feature vectors, and which of them is of which image."""

import os
import re
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from birnn_decode.captions import CaptionedImage, Features, read_captions, read_features, read_regions

DATA = os.environ.get("BIRNN_DECODE_DATA")
VECTORS = np.array([[0.1, -2], [3, 4], [5.5, 6]], dtype=np.float32)
IDS = ("b.jpg", "a.jpg", "ü.jpg")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "features"


def save(path, **arrays):
    with open(path, "wb") as file:
        np.savez(file, **arrays)


def fails(path, message, kind=ValueError):
    """Reading a file ends in an error of one line that names the file, and is as a regular expression says."""
    with pytest.raises(kind, match=message) as caught:
        read_features(path)
    assert str(caught.value).count(str(path)) == 1
    assert "\n" not in str(caught.value)


def images(*names_and_ids):
    return [CaptionedImage(name, image_id, "train", ("a",)) for name, image_id in names_and_ids]


def same(features, ids, vectors):
    assert features.ids == ids
    assert features.vectors.dtype == np.float32
    np.testing.assert_array_equal(features.vectors, vectors)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4", "longdouble"])
def test_vectors_of_npz_become_float32(path, dtype):
    save(path, feats=VECTORS.astype(dtype), names=np.array(IDS))
    features = read_features(path)
    same(features, IDS, VECTORS.astype(dtype).astype(np.float32))
    assert features.vectors.dtype.isnative


@pytest.mark.parametrize(
    "ids",
    [np.array(IDS), np.char.encode(np.array(IDS), "utf-8"), np.array([7, -8, 9]), np.array([7, 8, 9], dtype=np.uint8)],
    ids=lambda ids: ids.dtype.str,
)
def test_ids_of_npz_become_text(path, ids):
    save(path, a=ids, b=VECTORS)
    expected = IDS if ids.dtype.kind in "US" else tuple(str(one) for one in ids)
    same(read_features(path), expected, VECTORS)


def test_compressed_npz(path):
    with open(path, "wb") as file:
        np.savez_compressed(file, x=VECTORS, y=np.array(IDS))
    same(read_features(str(path)), IDS, VECTORS)


def test_one_image_is_read(path):
    save(path, x=VECTORS[:1], y=np.array(["a"]))
    same(read_features(path), ("a",), VECTORS[:1])


@pytest.mark.parametrize("ids", ["variable", "fixed", "integers"])
@pytest.mark.parametrize("dtype", ["float16", "float64", ">f4"])
def test_hdf5(path, ids, dtype):
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        file.create_dataset("deep/within", data=VECTORS.astype(dtype), compression="gzip")
        if ids == "variable":
            file.create_dataset("names", data=IDS, dtype=h5py.string_dtype())
        else:
            file["names"] = np.array([3, 1, 2]) if ids == "integers" else np.char.encode(np.array(IDS), "utf-8")
    same(read_features(path), ("3", "1", "2") if ids == "integers" else IDS, VECTORS.astype(dtype).astype(np.float32))


def test_hdf5_of_other_arrays(path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        file["group/9"] = VECTORS
        file["none"] = h5py.Empty("f4")
        file["one"] = 3.5
    fails(path, r"needs two arrays: .*; it has group/9 \[3, 2\] of float32, none \[\] of float32, one \[\] of float64$")
    with h5py.File(path, "w") as file:
        file["none"] = h5py.Empty("f4")
        file["ids"] = [3]
    fails(path, r"needs two arrays: .*; it has ids \[1\] of int64, none \[\] of float32$")
    with h5py.File(path, "w") as file:
        file.create_group("empty")
    fails(path, "needs two arrays: .*; it has none$")
    with h5py.File(path, "w") as file:
        for number in range(20):
            file[f"image{number:02}"] = VECTORS[0]
    fails(path, r"it has image00 \[2\] of float32, .*, image07 \[2\] of float32 and 12 more$")
    with h5py.File(path, "w") as file:
        file["x"] = VECTORS
        file.create_dataset("refs", data=[file["x"].ref] * 3, dtype=h5py.ref_dtype)
    fails(path, "an id must be text or an integer, got <HDF5 object reference>")


def test_hdf5_that_is_cut_short(path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        file["x"], file["ids"] = VECTORS, [1, 2, 3]
    path.write_bytes(path.read_bytes()[:-100])
    fails(path, "is a damaged HDF5 file, or cut short: ")
    path.write_bytes(path.read_bytes()[:8])
    fails(path, "is a damaged HDF5 file, or cut short: ")


def test_hdf5_without_h5py(path, monkeypatch):
    path.write_bytes(b"\x89HDF\r\n\x1a\n and more")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ModuleNotFoundError) as caught:
        read_features(path)
    assert caught.value.name == "h5py"


def test_files_that_cannot_be_read(path, tmp_path):
    fails(path, "^there is no file ", FileNotFoundError)
    fails(tmp_path, "is a folder, not a file$", IsADirectoryError)
    path.write_bytes(b"")
    fails(path, "is empty$")
    np.save(tmp_path / "one.npy", VECTORS)
    path.write_text("PK is how this text begins")
    for other in (tmp_path / "one.npy", path):
        fails(other, r"is not a file of features: give a NumPy \.npz file or an HDF5 file$")


def test_zip_files_of_other_things(path):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("word/document.xml", "text")
    fails(path, r"needs two arrays: .*; it has word/document\.xml \[\] of \|S4$")
    zipfile.ZipFile(path, "w").close()
    fails(path, "needs two arrays: .*; it has none$")


@pytest.mark.parametrize(
    ("arrays", "listed"),
    [
        ({"x": VECTORS}, r"x \[3, 2\] of float32"),
        ({"x": VECTORS, "y": VECTORS}, r"x \[3, 2\] of float32, y \[3, 2\] of float32"),
        ({"x": VECTORS.astype(int), "y": np.array(IDS)}, r"x \[3, 2\] of int64, y \[3\] of <U5"),
        ({"x": VECTORS, "y": np.array([1.0, 2, 3])}, r"x \[3, 2\] of float32, y \[3\] of float64"),
        ({"x": VECTORS, "y": np.array([[1], [2], [3]])}, r"x \[3, 2\] of float32, y \[3, 1\] of int64"),
        ({"x": VECTORS, "y": np.array([True, False, True])}, r"x \[3, 2\] of float32, y \[3\] of bool"),
        ({"x": VECTORS[..., None], "y": np.array(IDS)}, r"x \[3, 2, 1\] of float32, y \[3\] of <U5"),
        ({"x": VECTORS, "y": np.arange(3), "z": np.array(1)}, r"x .*, y \[3\] of int64, z \[\] of int64"),
    ],
)
def test_npz_of_other_arrays(path, arrays, listed):
    save(path, **arrays)
    fails(path, rf"needs two arrays: floats \[images, feature_size\], and ids \[images\] .*; it has {listed}$")


def test_python_objects_are_not_read(path):
    save(path, x=VECTORS, names=np.array(IDS, dtype=object))
    fails(path, r"the array 'names' holds Python objects, which are not read; save ids as strings with np\.array\(ids")


def test_what_is_wrong_with_vectors_and_ids(path):
    save(path, x=VECTORS, y=np.array(IDS[:2]))
    fails(path, ": there are 2 ids for 3 feature vectors$")
    save(path, x=VECTORS, y=np.array(["a", "b", "b"]))
    fails(path, ": the id 'b' occurs twice; ids must differ$")
    save(path, x=VECTORS[:0], y=np.array(IDS)[:0])
    fails(path, r": feature vectors .* not empty, got \[0, 2\] of float32$")
    save(path, x=VECTORS[:, :0], y=np.array(IDS))
    fails(path, r": feature vectors .* not empty, got \[3, 0\] of float32$")
    save(path, x=VECTORS, y=np.array([b"a", b"\xff", b"c"]))
    fails(path, ": 'utf-8' codec can't decode")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
def test_values_that_are_not_finite(path, bad):
    vectors = VECTORS.astype(np.float64)
    vectors[1, 1] = vectors[2, 0] = vectors[2, 1] = bad
    save(path, x=vectors, y=np.array(IDS))
    fails(
        path, ": 2 of 3 feature vectors have values that are NaN or infinite in float32; the first is that of 'a.jpg'$"
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "features"
    save(path, features=VECTORS, image_ids=np.array(IDS))
    return path.read_bytes()


@given(st.data())
def test_npz_that_is_cut_short(whole, tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "cut"
    path.write_bytes(whole[: data.draw(st.integers(4, len(whole) - 1))])
    fails(path, r"is a damaged \.npz file, or cut short: ")


@given(st.data())
def test_npz_with_a_byte_that_changed(whole, tmp_path_factory, data):
    """Either what the byte says is of no matter, or the file is refused."""
    path = tmp_path_factory.getbasetemp() / "changed"
    at = data.draw(st.integers(0, len(whole) - 1))
    changed = bytearray(whole)
    changed[at] ^= data.draw(st.integers(1, 255))
    path.write_bytes(changed)
    try:
        features = read_features(path)
    except ValueError as error:
        assert str(path) in str(error)  # noqa: PT017 - reading it may also end well
    else:
        same(features, IDS, VECTORS)


def test_features_in_memory_are_checked_too():
    for vectors in (VECTORS.astype(np.float64), VECTORS[0]):
        with pytest.raises(
            ValueError, match=rf"must be a .*, got {re.escape(str(list(vectors.shape)))} of {vectors.dtype}$"
        ):
            Features(IDS, vectors)
    with pytest.raises(ValueError, match=r"^there are 1 ids for 3"):
        Features(IDS[:1], VECTORS)


def named(*ids):
    return Features(ids, np.zeros((len(ids), 1), dtype=np.float32))


@pytest.mark.parametrize(
    ("ids", "given_images", "rows"),
    [
        (("b.jpg", "a.jpg"), [("a.jpg", 1), ("b.jpg", 2), ("c.jpg", 3)], [1, 0, None]),  # names
        (("b", "a"), [("a.jpg", 1), ("b.jpg", 2), ("c.jpg", 3)], [1, 0, None]),  # names without extensions
        (("b.npy", "a.npy"), [("a.jpg", 1), ("b.jpg", 2)], [1, 0]),  # of both
        (("3", "1"), [("a.jpg", 1), ("b.jpg", 2), ("c.jpg", 3)], [1, None, 0]),  # image_id
        (("3", "1"), [("a.jpg", "1"), ("b.jpg", "x"), ("c.jpg", "3")], [1, None, 0]),
        # In most places 0, 1, … is the id, in some it might be the name.
        (("0", "1", "2"), [("1.tif", 0), ("2.tif", 1), ("3.tif", 2)], [0, 1, 2]),
        # Here it is the name, though it might be the id of the first.
        (("1", "2", "3"), [("1.tif", 0), ("2.tif", 1), ("3.tif", 2)], [0, 1, 2]),
        # A tie of all three, and one of the later two: the earlier rule.
        (("2", "1"), [("1", 2), ("2", 1)], [1, 0]),
        (("2", "1"), [("1.a", 2), ("2.a", 1)], [1, 0]),
        # One rule for all: the id of the second image is a vector's id, but the names fit.
        (("a", "b", "9"), [("a", 1), ("x", 9), ("b", 2)], [0, None, 1]),
        # Two images of one stem, two vectors of one stem.
        (("a", "b"), [("a.jpg", 1), ("a.png", 2), ("b.png", 3)], [None, None, 1]),
        (("a.npy", "a.npz", "b.npz"), [("a.jpg", 1), ("b.png", 3)], [None, 2]),
        (("7", "8"), [("a", 7), ("b", 7), ("c", 8)], [None, None, 1]),
        # The end of a name that is not its extension.
        (("x.jpg.1", "x.jpg"), [("x.jpg", 1), ("x.jpg.1", 2)], [1, 0]),
    ],
)
def test_which_vector_is_of_which_image(ids, given_images, rows):
    assert named(*ids).rows(images(*given_images)) == rows


def test_the_same_image_may_be_asked_for_twice():
    assert named("b", "a").rows(images(("a", 1), ("b", 2), ("a", 1))) == [1, 0, 1]
    assert named("b", "a").rows([]) == []


def test_no_vector_is_of_these_images():
    with pytest.raises(
        ValueError, match=r"ids of vectors are like 'b\.npy', names of images like 'x\.jpg' and ids of images like 17$"
    ):
        named("b.npy", "a.npy").rows(images(("x.jpg", 17), ("y.jpg", 18)))


@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=20, unique=True).flatmap(
        lambda of: st.tuples(st.permutations(of), st.permutations(of))
    ),
    st.sampled_from([(".tif", ".tif"), (".tif", ""), (".png", ".npy")]),
    st.integers(100, 200),
)
def test_whatever_the_order(orders, extensions, shift):
    """The image n, of the id n + shift, has the vector n."""
    asked, kept = orders
    of_image, of_vector = extensions
    features = named(*(f"{number}{of_vector}" for number in kept))
    rows = features.rows(images(*((f"{number}{of_image}", number + shift) for number in asked)))
    assert [kept[row] for row in rows] == list(asked)
    by_id = named(*(str(number + shift) for number in kept)).rows(images(*((f"{n}.x", n + shift) for n in asked)))
    assert by_id == rows


@pytest.mark.skipif(DATA is None, reason="BIRNN_DECODE_DATA does not name the folder of real features")
def test_ucm_features():
    folder = Path(DATA) / "ucm"
    file, features = read_captions(folder / "dataset.json"), read_features(folder / "features_effnetlite0.npz")
    assert features.vectors.shape == (2100, 1280)
    rows = features.rows(file.images)
    assert [features.ids[row] for row in rows] == [image.name for image in file.images]
    (ten,) = [at for at, image in enumerate(file.images) if image.name == "10.tif"]
    assert file.images[ten].image_id == 9
    with np.load(folder / "features_effnetlite0.npz") as raw:
        expected = raw["features"][raw["image_ids"].tolist().index("10.tif")].astype(np.float32)
    np.testing.assert_array_equal(features.vectors[rows[ten]], expected)
    # The same vectors under the numbers that the file of captions gives its images.
    numbered = Features(tuple(str(file.images[at].image_id) for at in np.argsort(rows)), features.vectors)
    assert numbered.rows(file.images) == rows


REGIONS = np.arange(24, dtype=np.float32).reshape(2, 3, 4)


@pytest.mark.parametrize("kind", ["npz", "hdf5"])
def test_regions_are_read_with_the_whole_image_before_them(path, kind):
    if kind == "npz":
        save(path, feats=REGIONS.astype(np.float16), names=np.array(["a.jpg", "b.jpg"]))
    else:
        h5py = pytest.importorskip("h5py")
        with h5py.File(path, "w") as file:
            file["feats"] = REGIONS
            file["names"] = np.array([b"a.jpg", b"b.jpg"])
    features = read_regions(path)
    assert features.ids == ("a.jpg", "b.jpg")
    assert features.vectors.shape == (2, 4, 4)
    assert features.vectors.dtype == np.float32
    np.testing.assert_array_equal(features.vectors[:, 1:], REGIONS)
    np.testing.assert_allclose(features.vectors[:, 0], REGIONS.mean(axis=1))
    assert features.rows(images(("b.jpg", 1), ("c.jpg", 2))) == [1, None]


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (REGIONS[:, 0], r"floats \[images, regions, feature_size\], and ids .*; it has feats \[2, 4\] of float32"),
        (REGIONS[:, :0], r"that is not empty, got \[2, 0, 4\] of float32$"),
        (np.where(REGIONS == 20, np.nan, REGIONS), r"1 of 2 feature vectors have values that are NaN .* 'b.jpg'$"),
        (REGIONS[[0, 1, 1]], "there are 2 ids for 3 feature vectors$"),
    ],
)
def test_what_are_no_regions(path, vectors, message):
    save(path, feats=vectors.astype(np.float32), names=np.array(["a.jpg", "b.jpg"]))
    with pytest.raises(ValueError, match=message) as caught:
        read_regions(path)
    assert str(caught.value).count(str(path)) == 1


def test_regions_are_no_vectors_of_images(path):
    save(path, feats=REGIONS, names=np.array(["a.jpg", "b.jpg"]))
    fails(path, r"floats \[images, feature_size\], and ids .*; it has feats \[2, 3, 4\] of float32")
