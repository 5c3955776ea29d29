"""Work that is kept in a run folder, or in several side by side, and what happens to another run that lies there."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from . import OtherRun, RunFolder, finished, pending, read, span
from .folder import ARRAYS, ITEMS, MANIFEST, ROWS
from .lock import LOCK, locked

R = TypeVar("R")


def kept(
    work: Callable[[], R],
    place: Path,
    *,
    overwrite: bool = False,
    replace: bool = False,
    on_message: Callable[[str], object],
) -> R:
    """Do work that goes on from what a folder has of it.

    Args:
        work: writes into the folder, or into folders inside it.
        place: the folder.
        overwrite: throw away what lies there first.
        replace: a run with other settings that is finished makes room.
        on_message: called with a line of text for what is worth knowing.

    Raises:
        OtherRun: the folder holds another run, which stays.
    """
    if overwrite:
        discard(place)
    done = sum(len(span(run, number)) for run in runs(place) for number in finished(run))
    total = sum(len(run.items) for run in runs(place))
    try:
        if 0 < done < total:
            on_message(f"going on with what is kept in {place}: {done} of {total} images are done")
        return work()
    except OtherRun:
        if not replace or any(map(pending, runs(place))):
            raise
        on_message(f"{place} held a finished run with other settings, which is replaced")
        discard(place)
        return work()


def runs(place: Path) -> list[RunFolder]:
    """The runs in a folder: itself, or those side by side in it."""
    found = []
    for manifest in (*place.glob(MANIFEST), *sorted(place.glob(f"*/{MANIFEST}"))):
        with suppress(ValueError, OSError):
            found.append(read(manifest.parent))
    return found


def discard(place: Path) -> None:
    """Remove the runs in a folder, and nothing that no run put there.

    Raises:
        FolderInUse: another process runs in one of them.
    """
    for manifest in (*place.glob(MANIFEST), *place.glob(f"*/{MANIFEST}")):
        folder = manifest.parent
        with locked(folder):
            manifest.unlink(missing_ok=True)
            (folder / ITEMS).unlink(missing_ok=True)
            for name in (ROWS, ARRAYS):
                shutil.rmtree(folder / name, ignore_errors=True)
        (folder / LOCK).unlink(missing_ok=True)
        with suppress(OSError):
            folder.rmdir()
