"""One process at a time in a folder, and what cannot be written said in words."""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LOCK = "lock"


class FolderInUse(OSError):
    """Another process runs in this folder."""


@contextmanager
def writing(path: Path, what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        cause = error.__cause__ if error.errno is None else error  # `whole` has put it in words already
        if not isinstance(cause, OSError) or cause.errno is None:
            raise
        raise type(cause)(
            f"cannot {what} {path}: {os.strerror(cause.errno)}. What was finished stays: make room or choose another "
            "place, then run the same again to go on"
        ) from error


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the folder's lock. It belongs to an open file, which the system closes when the process dies."""
    with writing(path, "lock"):
        file = (path / LOCK).open("a+b")
    with file:
        try:
            _lock(file.fileno())
        except (BlockingIOError, PermissionError) as error:
            file.seek(0)
            holder = file.read(200).decode(errors="replace").strip() or "another process"
            raise FolderInUse(f"{path} is in use by {holder}: wait for it, end it, or choose another folder") from error
        except OSError as error:
            warnings.warn(f"{path} cannot be locked ({error}): see that no other run writes there", stacklevel=5)
        file.truncate(0)
        file.write(f"process {os.getpid()}, since {time.strftime('%Y-%m-%d %H:%M:%S')}".encode())
        file.flush()
        try:
            yield
        finally:
            with suppress(OSError):
                file.truncate(0)


if sys.platform == "win32":
    import msvcrt

    def _lock(handle: int) -> None:
        os.lseek(handle, 1 << 30, os.SEEK_SET)  # beyond the text, which others may read
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
