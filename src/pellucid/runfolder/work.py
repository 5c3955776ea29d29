"""Going on with a run: what has changed since is done again, and then what is not finished."""

from __future__ import annotations

from collections.abc import Callable

from ..model.batches import progress
from .chunks import DamagedChunk, each_row, forget, pending, span
from .folder import RunFolder, finished

Say = Callable[[str], object]


def forget_changed(
    folder: RunFolder,
    state: Callable[[int], tuple[int | None, int | None]],
    readable: Callable[[int], bool],
    on_message: Say,
) -> None:
    """Make chunks unfinished whose rows are damaged, or whose files have changed or can be read by now.

    Rows have the columns "name", "bytes", "modified" and "problem".

    Args:
        state: size and time of change of an item's file, by its number.
        readable: whether an item can be read, asked for those that have a problem.
        on_message: called with a line of text for what is done again.
    """
    changed: list[tuple[int, str]] = []
    for number in finished(folder):
        try:
            for row in each_row(folder, [number]):
                same = (row["bytes"], row["modified"]) == state(row["item"])
                if not same or (row["problem"] and readable(row["item"])):
                    changed.append((number, row["name"]))
        except DamagedChunk as damage:
            forget_damaged(folder, damage, on_message)
    if changed:
        count = len(changed)
        files, they = ("1 file has", "it is") if count == 1 else (f"{count} files have", "they are")
        on_message(f"{files} changed since, such as {changed[0][1]}: {they} done again")
        forget(folder, sorted({number for number, _ in changed}))


def forget_damaged(folder: RunFolder, damage: DamagedChunk, on_message: Say) -> None:
    """Make a chunk unfinished that cannot be read."""
    count = len(span(folder, damage.number))
    on_message(f"{damage.file} is damaged: its {'image is' if count == 1 else f'{count} images are'} done again")
    forget(folder, [damage.number])


def finish(folder: RunFolder, do: Callable[[int], object], label: str, on_message: Say) -> None:
    """Do what is not finished, chunk after chunk, with a bar of the items.

    Args:
        do: computes a chunk, by its number, and writes it. label: of the bar.
        on_message: called with a line of text if some chunks are finished already.
    """
    waiting = pending(folder)
    if len(waiting) < folder.chunks:
        on_message(f"{folder.chunks - len(waiting)} of {folder.chunks} chunks are finished already in {folder.path}")
    with progress(sum(len(span(folder, number)) for number in waiting), label) as advance:
        for number in waiting:
            do(number)
            advance(len(span(folder, number)))
