"""One process at a time in a folder, and what cannot be written said in words."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LOCK, HOLDER = "lock", ".lock-holder"


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
    """Hold the folder's lock, which the system frees when the process dies, however."""
    from filelock import FileLock, Timeout

    with writing(path, "lock"):
        (path / LOCK).touch()
    lock, holder = FileLock(path / LOCK), path / HOLDER
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        who = "another process"
        with suppress(OSError):
            who = holder.read_text(encoding="utf-8")
        raise FolderInUse(f"{path} is in use by {who}: wait for it, end it, or choose another folder") from error
    except (OSError, NotImplementedError) as error:
        warnings.warn(f"{path} cannot be locked ({error}): see that no other run writes there", stacklevel=5)
    try:
        # Beside the lock, as another process that tries it may empty its file.
        with writing(path, "lock"):
            holder.write_text(f"process {os.getpid()}, since {time.strftime('%Y-%m-%d %H:%M:%S')}", encoding="utf-8")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()
