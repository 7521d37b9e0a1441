"""Read files with clear errors, and write files completely or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def reading(path: str | os.PathLike[str], what: str = "file") -> Iterator[None]:
    """Turn an ``OSError`` that is raised inside into one line that names the file.

    Args:
        path: the file that is read inside.
        what: what the file is, for the message (default: "file").
    """
    path = os.fspath(path)
    try:
        yield
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no {what} {path}") from None
    except IsADirectoryError:
        raise IsADirectoryError(f"{path} is a folder, not a {what}") from None
    except OSError as error:
        raise OSError(f"cannot read the {what} {path}: {error.strerror or error}") from None


def write_whole(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file completely or not at all.

    The data are written to a temporary file in the same folder, which then replaces ``path``. If writing fails, the
    file that was there before is unchanged.

    Args:
        path: the file to write.
        data: its new content.

    Raises:
        OSError: the file cannot be written; the message names it.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"cannot write {path}: there is no folder {path.parent}")
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as beside:
            temporary = Path(beside) / path.name
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())  # a full disk raises here at the latest, before the old file is replaced
            os.replace(temporary, path)
    except OSError as error:
        raise OSError(f"cannot write {path}: {error.strerror or error}") from None
