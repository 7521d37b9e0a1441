"""Feature vectors of images in files, and which vector is of which image."""

from __future__ import annotations

import itertools
import os
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from birnn_decode.captions.datasets import CaptionedImage, reading

ZIP = (b"PK\x03\x04", b"PK\x05\x06")  # the second is how a zip file with nothing in it begins
HDF5 = b"\x89HDF\r\n\x1a\n"
SHOWN = 8  # arrays of a file that an error lists


@dataclass(frozen=True, eq=False)
class Features:
    """Feature vectors of images.

    Attributes:
        ids: what the images are called, each once.
        vectors: float32 [images, feature_size], all finite.

    Raises:
        ValueError: the vectors are not such an array, or the ids are not one for each of them.
    """

    ids: tuple[str, ...]
    vectors: np.ndarray

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or self.vectors.dtype != np.float32:
            raise ValueError(
                f"an array {list(self.vectors.shape)} of {self.vectors.dtype} is not feature vectors: they are float32 "
                f"[images, feature_size]"
            )
        if not self.vectors.size:
            raise ValueError(f"an array {list(self.vectors.shape)} has no feature vectors")
        if len(self.ids) != len(self.vectors):
            raise ValueError(f"there are {len(self.ids)} ids for {len(self.vectors)} feature vectors")
        twice = [name for name, times in Counter(self.ids).items() if times > 1]
        if twice:
            raise ValueError(f"the id {twice[0]!r} occurs twice")
        (bad,) = np.nonzero(~np.isfinite(self.vectors).all(axis=1))
        if len(bad):
            raise ValueError(
                f"{len(bad)} of {len(self.ids)} feature vectors have values that are NaN or infinite in float32, the "
                f"first that of {self.ids[bad[0]]!r}"
            )

    def rows(self, images: Sequence[CaptionedImage]) -> list[int | None]:
        """Which vector is of which image.

        An id is either the image's file name, or its file name but for the extension, or its image_id. One of the three
        holds for all images, the one by which most images have a vector (the first of those that are equal in this),
        since a number may be the name of one image and the image_id of another. What would join an image to two vectors
        or a vector to two images joins nothing.

        Args:
            images: all that the caption file has; of a part of them, another rule may hold by chance.

        Returns:
            For each image the row of its vector, None where it has none.

        Raises:
            ValueError: no image has a vector.
        """
        if not images:
            return []
        rules = (
            self._join(images, lambda image: image.name, self.ids),
            self._join(images, lambda image: _stem(image.name), map(_stem, self.ids)),
            self._join(images, lambda image: str(image.image_id), self.ids),
        )
        best = max(rules, key=lambda rows: len(rows) - rows.count(None))  # the first of equals
        if best.count(None) == len(best):
            raise ValueError(
                f"no feature vector is of these images: the vectors have ids such as {self.ids[0]!r}, the images names "
                f"such as {images[0].name!r} and ids such as {images[0].image_id!r}"
            )
        return best

    def _join(
        self, images: Sequence[CaptionedImage], key: Callable[[CaptionedImage], str], ids: Iterable[str]
    ) -> list[int | None]:
        rows: dict[str, int | None] = {}
        for row, name in enumerate(ids):
            rows[name] = None if name in rows else row
        owner: dict[str, str] = {}
        for image in images:
            if owner.setdefault(key(image), image.name) != image.name:
                rows[key(image)] = None
        return [rows.get(key(image)) for image in images]


def read_features(path: str | os.PathLike[str]) -> Features:
    """The feature vectors of a file.

    Args:
        path: of a NumPy .npz or an HDF5 file, told by what is in it, with two arrays, whatever they are called: the
            vectors, floats [images, feature_size], and the ids, strings or integers [images].

    Raises:
        OSError: the file cannot be read.
        ValueError: it is of another kind or damaged, has other arrays, or the vectors and ids are not as `Features`
            has them.
        ModuleNotFoundError: it is HDF5, and h5py is not installed.
    """
    path = os.fspath(path)
    with reading(path), open(path, "rb") as file:
        head = file.read(len(HDF5))
    if not head:
        raise ValueError(f"{path} is empty")
    if head.startswith(ZIP):
        ids, vectors = _read_npz(path)
    elif head == HDF5:
        ids, vectors = _read_hdf5(path)
    else:
        raise ValueError(f"{path} is no file of features: these are NumPy's .npz and HDF5")
    try:
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and an error that says of what
            return Features(tuple(map(_id_text, ids.tolist())), vectors.astype(np.float32, copy=False))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _read_npz(path: str) -> tuple[np.ndarray, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    name = ""
    try:
        # Opened here, since np.load leaves a file open that turns out to be damaged.
        with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
            for name in file.files:
                arrays[name] = np.asarray(file[name])  # what is no array in the zip file comes as bytes
    except (OSError, ValueError, LookupError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        if "Object arrays" in str(error):
            raise ValueError(
                f"{path}: the array {name!r} is of Python objects, which are not read; save ids as strings, with "
                f"np.array(ids, dtype=str)"
            ) from None
        raise ValueError(f"{path} is a damaged .npz file, or cut short: {error}") from None
    return _ids_and_vectors(path, arrays)


def _read_hdf5(path: str) -> tuple[np.ndarray, np.ndarray]:
    import h5py  # type: ignore[import, unused-ignore]

    arrays: dict[str, Any] = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            arrays[name] = item

    try:
        with h5py.File(path, "r") as file:
            file.visititems(visit)
            # Read once it is known which: a file may hold an array per image, more than fits into memory.
            ids, vectors = _ids_and_vectors(path, arrays)
            return ids[()], vectors[()]
    except _OtherArrays:
        raise
    except (OSError, ValueError, LookupError, RuntimeError, TypeError) as error:
        raise ValueError(f"{path} is a damaged HDF5 file, or cut short: {error}") from None


class _OtherArrays(ValueError):
    """A sound file, but of other arrays."""


def _ids_and_vectors(path: str, arrays: Mapping[str, Any]) -> tuple[Any, Any]:
    if len(arrays) == 2:
        for ids, vectors in itertools.permutations(arrays.values()):
            kinds = ids.dtype.kind, vectors.dtype.kind
            if ids.ndim == 1 and vectors.ndim == 2 and kinds[0] in "OSUiu" and kinds[1] == "f":
                return ids, vectors
    listed = [f"{name} {list(array.shape or ())} of {array.dtype}" for name, array in arrays.items()]
    more = f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
    raise _OtherArrays(
        f"{path} needs two arrays: floats [images, feature_size], and ids [images] that are strings or integers; it "
        f"has {', '.join(listed[:SHOWN]) or 'none'}{more}"
    )


def _id_text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8")
    if not isinstance(value, (str, int)):
        raise ValueError(f"the id {value!r} is neither text nor an integer")
    return str(value)


def _stem(name: str) -> str:
    return os.path.splitext(name)[0]
