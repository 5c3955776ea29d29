"""Files: written whole or not at all, named for people, and known again when they have changed."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """A temporary name beside `path`, renamed to it when the block ends well and removed when it does not.

    Args:
        path: the file to write; missing folders are made.

    Raises:
        OSError: of the kind that the system gave (PermissionError, ...), naming the file and what to do. Other
            errors of the block, also those of files that it reads, come out as they are.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with atomic_write(folder / "a.txt") as file:
    ...     _ = file.write_text("done")
    >>> [p.name for p in folder.iterdir()]
    ['a.txt']
    """
    path = Path(path)
    part: Path | None = None
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder, give the name of a file in it", str(path))
        path.parent.mkdir(parents=True, exist_ok=True)
        name = path.with_name(f".{path.stem[:40]}-{secrets.token_hex(4)}{path.suffix}")
        name.open("xb").close()  # not by tempfile, whose files are for their owner alone
        part = name
        yield part
        part.replace(path)
    except OSError as error:
        read = part is not None and error.filename is not None and str(error.filename) not in (str(path), str(part))
        if read or error.errno is None:
            raise  # about a file that the block read, not the one it wrote
        raise OSError(
            error.errno, f"cannot write {path}: {error.strerror}. Choose another place or make room"
        ) from error
    finally:
        if part is not None:
            part.unlink(missing_ok=True)


def short_names(files: Sequence[str]) -> list[str]:
    """Names of files for people: from the last folder that all of them share.

    >>> short_names(["/photos/a/1.png", "/photos/b/1.png"])
    ['a/1.png', 'b/1.png']
    """
    try:
        shared = os.path.commonpath([os.path.dirname(file) for file in files])  # noqa: PTH120
        names = [Path(file).relative_to(shared).as_posix() for file in files]
    except ValueError:  # on several drives
        names = list(files)
    return [printable(name) for name in names]


def printable(text: str) -> str:
    """Text without the bytes of a file's name that are no UTF-8, which no page and no table takes."""
    return text.encode("utf-8", "backslashreplace").decode()


def file_fingerprint(file: str) -> tuple[int | None, int | None]:
    """Size and time of change, by which a file that was changed is known."""
    try:
        found = Path(file).stat()
    except OSError:
        return None, None
    return found.st_size, found.st_mtime_ns
