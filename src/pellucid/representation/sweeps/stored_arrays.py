"""Arrays of a run folder, read when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ... import runfolder
from ...runfolder import DamagedChunk, RunFolder


class Stored(Mapping[str, Tensor]):
    """The arrays of a run folder by name, as tensors of the rows to keep; each is read once, when it is asked for.

    Args:
        folder: of a finished run. keep: the items that are wanted, in order.
        names: what an array is called here, by its name in the folder; by default all arrays by their own names.
    """

    def __init__(self, folder: RunFolder, keep: Sequence[int], names: Mapping[str, str] | None = None) -> None:
        self.folder, self.keep = folder, list(keep)
        found: Any = runfolder.arrays(folder)
        self._kept_as = {name: name for name in found} if names is None else {n: stored for stored, n in names.items()}
        self._shapes = {name: tuple(found[stored].shape[1:]) for name, stored in self._kept_as.items()}
        self._read: dict[str, Tensor] = {}

    def chosen(self, names: Mapping[str, str]) -> Stored:
        """Some of the arrays, under other names."""
        return Stored(self.folder, self.keep, names)

    def only(self, name: str) -> Stored:
        """One of the arrays, under its name here."""
        return Stored(self.folder, self.keep, {self._kept_as[name]: name})

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of an array, without reading it."""
        return (len(self.keep), *self._shapes[name])

    def blocks(self, name: str) -> Iterator[Tensor]:
        """An array in pieces, chunk by chunk, so that it need not fit into the memory.

        Raises:
            DamagedChunk: a file of it cannot be read; its chunk is forgotten, and the same call computes it again.
        """
        keep = np.asarray(self.keep)
        try:
            for members, values in runfolder.blocks(self.folder, self._kept_as[name]):
                wanted = keep[(keep >= members.start) & (keep < members.stop)] - members.start
                if len(wanted):
                    yield torch.from_numpy(values[wanted])
        except DamagedChunk as damage:
            runfolder.forget(self.folder, [damage.number])
            raise

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._kept_as:
            raise KeyError(name)
        if name not in self._read:
            self._read[name] = torch.cat(list(self.blocks(name)))
        return self._read[name]

    def __contains__(self, name: object) -> bool:  # which Mapping would answer by reading
        return name in self._kept_as

    def __iter__(self) -> Iterator[str]:
        return iter(self._kept_as)

    def __len__(self) -> int:
        return len(self._kept_as)


def shape_of(arrays: Mapping[str, Tensor], name: str) -> tuple[int, ...]:
    """The shape of an array, which is not read for it."""
    return arrays.shape(name) if isinstance(arrays, Stored) else tuple(arrays[name].shape)


def blocks_of(arrays: Mapping[str, Tensor], name: str, size: int = 4096) -> Iterator[Tensor]:
    """An array in pieces."""
    yield from arrays.blocks(name) if isinstance(arrays, Stored) else arrays[name].split(size)


def rows_of(folder: RunFolder) -> list[dict[str, Any]]:
    """The rows of a run folder."""
    return list(runfolder.each_row(folder))
