"""Features and other numbers as one file: NumPy, HDF5, Parquet or CSV."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ...files.atomic import atomic_write
from ...methods.result import Call
from .stored_arrays import blocks_of, shape_of


def write_arrays(
    path: Path,
    arrays: Mapping[str, Tensor],
    numbers: Mapping[str, Tensor],
    words: Mapping[str, Sequence[str]],
    call: Call | None,
) -> Path:
    """Write vectors by layer, other numbers and texts as .npz or .h5, whole or not at all.

    Raises:
        ImportError: for .h5 without h5py. OSError: if the file cannot be written.
    """
    about = json.dumps(asdict(call) if call else None, default=str)
    if path.suffix.lower() == ".npz":
        values = {f"values.{layer}": found.numpy() for layer, found in arrays.items()}
        others = {name: found.numpy() for name, found in numbers.items()}
        texts = {name: np.array(listed, dtype=str) for name, listed in words.items()}
        with atomic_write(path) as part, part.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **values, **others, **texts, call=np.array(about))
        return path
    try:
        import h5py
    except ImportError as error:
        raise ImportError("writing .h5 needs h5py: pip install 'pellucid[hdf5]', or save as .npz") from error
    with atomic_write(path) as part, h5py.File(part, "w") as file:
        group = file.create_group("values")
        for layer in arrays:
            start, place = 0, None
            for block in blocks_of(arrays, layer):  # so that a run folder larger than the memory goes through
                if place is None:
                    place = group.create_dataset(layer, shape_of(arrays, layer), dtype=block.numpy().dtype)
                place[start : start + len(block)] = block.numpy()
                start += len(block)
        for name, found in numbers.items():
            file.create_dataset(name, data=found.numpy())
        for name, listed in words.items():
            file.create_dataset(name, data=list(listed), dtype=h5py.string_dtype())
        file.attrs["call"] = about
    return path


def with_vectors(rows: list[dict[str, Any]], arrays: Mapping[str, Tensor]) -> list[dict[str, Any]]:
    """The same rows, each with its vector of each layer as a list."""
    for layer in arrays:
        start = 0
        for block in blocks_of(arrays, layer):
            for row, vector in zip(rows[start : start + len(block)], block.tolist(), strict=True):
                row[layer] = vector
            start += len(block)
    return rows
