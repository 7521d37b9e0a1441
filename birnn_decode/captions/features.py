"""Read feature vectors of images, or of their regions, from files, and find those of each image."""

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

from birnn_decode.captions.datasets import CaptionedImage
from birnn_decode.files import reading

ZIP = (b"PK\x03\x04", b"PK\x05\x06")  # the second begins an empty zip file
HDF5 = b"\x89HDF\r\n\x1a\n"
SHOWN = 8  # number of arrays that an error lists


@dataclass(frozen=True, eq=False)
class Features:
    """Feature vectors of images or of their regions, with an id for each image.

    Attributes:
        ids: one id per image, all different.
        vectors: the vectors, float32 [images, feature_size] or [images, regions, feature_size], all finite.

    Raises:
        ValueError: ``vectors`` is not such an array, or ``ids`` does not have one different id per vector.

    Example:
        >>> import numpy as np
        >>> from birnn_decode.captions import CaptionedImage, Features
        >>> features = Features(("1.jpg", "2.jpg"), np.eye(2, dtype=np.float32))
        >>> features.rows([CaptionedImage("2.jpg", 2, "val", ("A cat.",))])
        [1]
    """

    ids: tuple[str, ...]
    vectors: np.ndarray

    def __post_init__(self) -> None:
        if self.vectors.ndim not in (2, 3) or self.vectors.dtype != np.float32 or not self.vectors.size:
            raise ValueError(
                f"feature vectors must be a float32 array [images, feature_size] or [images, regions, feature_size] "
                f"that is not empty, got {list(self.vectors.shape)} of {self.vectors.dtype}"
            )
        if len(self.ids) != len(self.vectors):
            raise ValueError(f"there are {len(self.ids)} ids for {len(self.vectors)} feature vectors")
        ((most_common, times),) = Counter(self.ids).most_common(1)
        if times > 1:
            raise ValueError(f"the id {most_common!r} occurs twice; ids must differ")
        (bad,) = np.nonzero(~np.isfinite(self.vectors.reshape(len(self.ids), -1)).all(axis=1))
        if len(bad):
            raise ValueError(
                f"{len(bad)} of {len(self.ids)} feature vectors have values that are NaN or infinite in float32; the "
                f"first is that of {self.ids[bad[0]]!r}"
            )

    def rows(self, images: Sequence[CaptionedImage]) -> list[int | None]:
        """Find the vector of each image.

        An id can be the image's file name, its file name without the extension, or its ``image_id``. All images follow
        the same rule, because a number may be the name of one image and the ``image_id`` of another. The rule that
        finds a vector for most images is used; if two rules find equally many, the earlier one in this list is used. If
        a rule gives two vectors for one image, or two images for one vector, it finds no vector for these images.

        Args:
            images: all images of the caption file. With only some of them, another rule may be chosen by chance.

        Returns:
            For each image the row of its vector, or None if it has no vector.

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
                f"no feature vector belongs to these images: ids of vectors are like {self.ids[0]!r}, names of images "
                f"like {images[0].name!r} and ids of images like {images[0].image_id!r}"
            )
        return best

    def of(self, images: Sequence[CaptionedImage]) -> dict[str, np.ndarray]:
        """Find the vectors of images by name; see `Features.rows`.

        Args:
            images: all images of the caption file.

        Returns:
            For the name of each image that has a vector, this vector.
        """
        pairs = zip(images, self.rows(images), strict=True)
        return {image.name: self.vectors[row] for image, row in pairs if row is not None}

    def _join(
        self, images: Sequence[CaptionedImage], key: Callable[[CaptionedImage], str], ids: Iterable[str]
    ) -> list[int | None]:
        """The row of each image whose key equals one id of ``ids``, if no other image has the same key."""
        names = list(ids)
        rows = {name: row for row, name in enumerate(names)}
        vectors = Counter(names)
        owners = Counter(wanted for wanted, _ in {(key(image), image.name) for image in images})
        return [rows[wanted] if vectors[wanted] == owners[wanted] == 1 else None for wanted in map(key, images)]


def read_features(path: str | os.PathLike[str]) -> Features:
    """Read feature vectors from a NumPy .npz or an HDF5 file.

    The file holds two arrays with any names: the vectors, floats [images, feature_size], and the ids, strings or
    integers [images]. The content of the file decides which format it has.

    Args:
        path: the file.

    Returns:
        The vectors, as float32, and the ids as text.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file has another format or is damaged, it has other arrays, or the arrays do not fit `Features`.
        ModuleNotFoundError: the file is HDF5 and h5py is not installed.

    Example:
        >>> import pathlib, tempfile
        >>> import numpy as np
        >>> from birnn_decode.captions import read_features
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder) / "features.npz"
        ...     np.savez(path, features=np.eye(2), image_ids=np.array(["1.jpg", "2.jpg"]))
        ...     features = read_features(path)
        >>> features.ids, features.vectors.shape
        (('1.jpg', '2.jpg'), (2, 2))
    """
    return _read(os.fspath(path), "images, feature_size")


def read_regions(path: str | os.PathLike[str]) -> Features:
    """Read feature vectors of the regions of images from a NumPy .npz or an HDF5 file.

    The file holds two arrays with any names: the vectors, floats [images, regions, feature_size], and the ids, strings
    or integers [images]. The whole image is added as the first region of each image. Its vector is the mean of the
    others, which for the cells of a grid is the usual feature vector of the image.

    Args:
        path: the file.

    Returns:
        The vectors, as float32 [images, 1 + regions, feature_size], and the ids as text.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file has another format or is damaged, it has other arrays, or the arrays do not fit `Features`.
        ModuleNotFoundError: the file is HDF5 and h5py is not installed.

    Example:
        >>> import pathlib, tempfile
        >>> import numpy as np
        >>> from birnn_decode.captions import read_regions
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder) / "regions.npz"
        ...     np.savez(path, features=np.ones((2, 16, 5)), image_ids=np.array(["1.jpg", "2.jpg"]))
        ...     features = read_regions(path)
        >>> features.vectors.shape
        (2, 17, 5)
    """
    read = _read(os.fspath(path), "images, regions, feature_size")
    return Features(read.ids, np.concatenate([read.vectors.mean(axis=1, keepdims=True), read.vectors], axis=1))


def _read(path: str, axes: str) -> Features:
    """Read a file whose vectors have these axes."""
    with reading(path), open(path, "rb") as file:
        head = file.read(len(HDF5))
    if not head:
        raise ValueError(f"{path} is empty")
    if head.startswith(ZIP):
        ids, vectors = _read_npz(path, axes)
    elif head == HDF5:
        ids, vectors = _read_hdf5(path, axes)
    else:
        raise ValueError(f"{path} is not a file of features: give a NumPy .npz file or an HDF5 file")
    try:
        with np.errstate(over="ignore"):  # values too large for float32 become infinite, which is then an error
            return Features(tuple(map(_id_text, ids.tolist())), vectors.astype(np.float32, copy=False))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _read_npz(path: str, axes: str) -> tuple[np.ndarray, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    name = ""
    try:
        # Opened here because np.load leaves a damaged file open.
        with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
            for name in file.files:
                arrays[name] = np.asarray(file[name])  # entries that are not arrays come as bytes
    except (OSError, ValueError, LookupError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        if "Object arrays" in str(error):
            raise ValueError(
                f"{path}: the array {name!r} holds Python objects, which are not read; save ids as strings with "
                f"np.array(ids, dtype=str)"
            ) from None
        raise ValueError(f"{path} is a damaged .npz file, or cut short: {error}") from None
    return _ids_and_vectors(path, arrays, axes)


def _read_hdf5(path: str, axes: str) -> tuple[np.ndarray, np.ndarray]:
    import h5py  # type: ignore[import, unused-ignore]

    names: list[str] = []
    try:
        with h5py.File(path, "r") as file:
            file.visit(names.append)
            arrays = {name: file[name] for name in names if isinstance(file[name], h5py.Dataset)}
            # Only the two arrays are read: a file may hold one array per image, more than fits into memory.
            ids, vectors = _ids_and_vectors(path, arrays, axes)
            return ids[()], vectors[()]
    except _OtherArrays:
        raise
    except (OSError, ValueError, LookupError, RuntimeError, TypeError) as error:
        raise ValueError(f"{path} is a damaged HDF5 file, or cut short: {error}") from None


class _OtherArrays(ValueError):
    """The file is sound but holds other arrays."""


def _ids_and_vectors(path: str, arrays: Mapping[str, Any], axes: str) -> tuple[Any, Any]:
    if len(arrays) == 2:
        for ids, vectors in itertools.permutations(arrays.values()):
            kinds = ids.dtype.kind, vectors.dtype.kind
            if ids.ndim == 1 and vectors.ndim == axes.count(",") + 1 and kinds[0] in "OSUiu" and kinds[1] == "f":
                return ids, vectors
    listed = [f"{name} {list(array.shape or ())} of {array.dtype}" for name, array in arrays.items()]
    more = f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
    raise _OtherArrays(
        f"{path} needs two arrays: floats [{axes}], and ids [images] that are strings or integers; it "
        f"has {', '.join(listed[:SHOWN]) or 'none'}{more}"
    )


def _id_text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8")
    if not isinstance(value, (str, int)):
        raise ValueError(f"an id must be text or an integer, got {value!r}")
    return str(value)


def _stem(name: str) -> str:
    return os.path.splitext(name)[0]
