"""Chunks: the unit of work, finished by one rename."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ..files.atomic import atomic_write
from .folder import ARRAYS, ROWS, RunFolder, finished
from .lock import writing

if TYPE_CHECKING:
    import pyarrow
    import zarr

Row: TypeAlias = Mapping[str, Any]
Array: TypeAlias = np.ndarray[Any, Any]

_GIVEN = b"pellucid.arrays"  # in the metadata of a chunk's rows: which of its items have which arrays


class DamagedChunk(ValueError):
    """A file of a finished chunk cannot be read, as after the machine has crashed: the chunk is to be done again.

    `.file` and `.number` say which file, and of which chunk.
    """

    def __init__(self, file: Path, number: int, reason: str) -> None:
        super().__init__(
            f"{file} is damaged ({reason}): what belongs to it, chunk {number}, is done again by the same command with "
            "the same settings"
        )
        self.file, self.number = file, number


def pending(folder: RunFolder) -> list[int]:
    """The numbers of the chunks that are not finished, in order."""
    return sorted(set(range(folder.chunks)) - set(finished(folder)))


def span(folder: RunFolder, number: int) -> range:
    """Which items belong to a chunk.

    Raises:
        IndexError: there is no chunk of that number.
    """
    if not 0 <= number < folder.chunks:
        raise IndexError(f"there is no chunk {number}: {folder.path} has {folder.chunks}, counted from 0")
    size = folder.manifest["chunk"]
    return range(number * size, min((number + 1) * size, folder.manifest["items"]["count"]))


def write_chunk(
    folder: RunFolder,
    number: int,
    rows: Sequence[Row],
    arrays: Mapping[str, Sequence[Any] | Array] | None = None,
) -> None:
    """Write what a chunk gave, and with that finish it. Doing it again replaces it.

    Args:
        folder: from `begin` or `read`.
        number: of the chunk.
        rows: for each of its items a dict of columns: numbers, words, lists or dicts of such, or None. An
            item that could not be done says why in the column "problem".
        arrays: by name, for each item an array (or a CPU tensor), or None where there is none; or one array with
            the items as its first axis. Unless the folder is ragged, all arrays of a name have one shape and type.
            Names are made of letters, digits and `_ . -`.

    Raises:
        ValueError: for another number of rows or arrays than the chunk has items, a name that is not allowed, or
            an array of another shape or type than the others of its name.
        OSError: it could not be written, as on a full disk; finished chunks are untouched by that.
    """
    import zarr

    members = span(folder, number)
    given: dict[str, Sequence[Any] | Array] = dict(arrays or {})
    for what, values in {"rows": rows, **given}.items():
        if len(values) != len(members):
            raise ValueError(f"chunk {number} has {len(members)} items, got {len(values)} of {what}")
    with writing(folder.path, f"write chunk {number} into"):
        nothing: dict[str, Sequence[Any] | Array]
        nothing = dict.fromkeys(_array_names(folder), [None] * len(members))  # also where there was something before
        with zarr.config.set({"array.write_empty_chunks": True}):
            for name, values in {**nothing, **given}.items():
                block = values if isinstance(values, np.ndarray) else None
                listed = [None if v is None else np.asarray(v) for v in values] if block is None else block
                _write_array(folder, number, name, listed)
        having = {
            name: [item for item, value in zip(members, values, strict=True) if value is not None]
            for name, values in given.items()
        }
        _write_rows(folder, number, [{"item": item, **row} for item, row in zip(members, rows, strict=True)], having)


def read_chunk(folder: RunFolder, number: int) -> tuple[list[dict[str, Any]], dict[str, list[Array | None]]]:
    """What `write_chunk` wrote: rows, with their item's number as "item", and arrays by name.

    An array that was not given comes back as None.

    Raises:
        FileNotFoundError: the chunk is not finished.
        DamagedChunk: a file of it is missing or cannot be read.
    """
    members = span(folder, number)
    if not _part(folder, number).is_file():
        raise FileNotFoundError(f"chunk {number} of {folder.path} is not finished: run it first")
    table = _table(folder, number)
    written = json.loads((table.schema.metadata or {}).get(_GIVEN, b"{}"))
    found = arrays(folder)
    values: dict[str, list[Array | None]] = {name: [None] * len(members) for name in {**found, **written}}
    # Zarr takes a file that is missing for one of fill values alone; here it was lost.
    for name, items in written.items():
        place, array = folder.path / ARRAYS / name, found.get(name)
        if not items:
            continue
        if array is None:
            raise DamagedChunk(place / "zarr.json", number, "it is missing")
        block = None if folder.manifest["ragged"] else _block(place, array, number, members)
        for item in items:
            values[name][item - members.start] = (
                block[item - members.start] if block is not None else _ragged(place, array, number, f"{item:08}")
            )
    return table.to_pylist(), values


def rows(folder: RunFolder) -> pyarrow.Table:
    """The rows of all finished chunks, in order, as a pyarrow table; `.to_pylist()` makes dicts of them.

    A column that some chunk did not have is empty there.

    Raises:
        DamagedChunk: a file of them cannot be read.
    """
    import pyarrow

    parts = [_table(folder, number) for number in finished(folder)]
    if not parts:
        return pyarrow.table({"item": pyarrow.array([], pyarrow.int64())})
    return pyarrow.concat_tables(parts, promote_options="permissive")


def each_row(folder: RunFolder, numbers: Sequence[int] | None = None) -> Iterator[dict[str, Any]]:
    """The rows of some chunks, by default of all finished ones, one by one: a long run does not fill the memory.

    Raises:
        DamagedChunk: a file of them cannot be read.
    """
    for number in finished(folder) if numbers is None else numbers:
        yield from _table(folder, number).to_pylist()


def arrays(folder: RunFolder) -> dict[str, zarr.Array[Any] | zarr.Group]:
    """The arrays by name, as Zarr arrays whose first axis is the item, not yet read.

    In a ragged folder each is a Zarr group with an array for each item, named by the item's number in eight
    digits. Items of chunks that are not finished, or that gave no array, are NaN (0 for whole numbers). What these
    arrays say of a damaged file is Zarr's; `read_chunk` names it.

    Raises:
        ValueError: the description of an array is damaged.
    """
    import zarr

    found: dict[str, zarr.Array[Any] | zarr.Group] = {}
    for name in _array_names(folder):
        path = folder.path / ARRAYS / name
        try:
            found[name] = zarr.open(path, mode="r")
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{path / 'zarr.json'} is damaged ({error}), and with it all of {name!r}: overwrite this run"
            ) from error
    return found


def blocks(folder: RunFolder, name: str) -> Iterator[tuple[range, Array]]:
    """One array of a folder that is not ragged, chunk by chunk: the items of each finished chunk and their values.

    Raises:
        KeyError: there is no array of that name.
        DamagedChunk: a file of it is missing or cannot be read.
    """
    array = arrays(folder)[name]
    for number in finished(folder):
        members = span(folder, number)
        yield members, _block(folder.path / ARRAYS / name, array, number, members)


def failures(folder: RunFolder) -> list[tuple[str, str]]:
    """Which items could not be done, and why: those whose row has a "problem"."""
    return [(folder.items[row["item"]], row["problem"]) for row in each_row(folder) if row.get("problem")]


def forget(folder: RunFolder, numbers: Sequence[int]) -> None:
    """Make chunks unfinished, to be computed anew."""
    for number in numbers:
        _part(folder, number).unlink(missing_ok=True)


def _part(folder: RunFolder, number: int) -> Path:
    return folder.path / ROWS / f"{number:08}.parquet"


def _write_rows(
    folder: RunFolder, number: int, records: list[dict[str, Any]], given: Mapping[str, Sequence[int]]
) -> None:
    """The rows of a chunk, and which items have which arrays."""
    import pyarrow
    from pyarrow import parquet

    columns = dict.fromkeys(name for record in records for name in record)
    table = pyarrow.table({name: [record.get(name) for record in records] for name in columns})
    table = table.replace_schema_metadata({_GIVEN: json.dumps(given).encode()})
    with atomic_write(_part(folder, number)) as file:
        parquet.write_table(table, file)


def _table(folder: RunFolder, number: int) -> pyarrow.Table:
    from pyarrow import parquet

    file = _part(folder, number)
    with _undamaged(file, number):
        return parquet.ParquetFile(file).read()


def _block(place: Path, array: Any, number: int, members: range) -> Array:
    """The items of a chunk."""
    file = place / array.metadata.encode_chunk_key((number, *[0] * (array.ndim - 1)))
    if not file.is_file():
        raise DamagedChunk(file, number, "it is missing")
    with _undamaged(file, number):
        return np.asarray(array[members.start : members.stop])


def _ragged(place: Path, group: Any, number: int, item: str) -> Array:
    """One item of a folder in which each has an array of its own."""
    with _undamaged(place / item, number):
        if item not in group or group[item].nchunks_initialized < group[item].nchunks:
            raise ValueError("a file of it is missing")
        return np.asarray(group[item])


@contextmanager
def _undamaged(file: Path, number: int) -> Iterator[None]:
    """Errors of reading as `DamagedChunk`: each codec has its own. Not those of the system, which pass."""
    try:
        yield
    except (MemoryError, ImportError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise DamagedChunk(file, number, " ".join(str(error).split()) or type(error).__name__) from error


def _write_array(folder: RunFolder, number: int, name: str, values: Array | list[Array | None]) -> None:
    import zarr

    if not re.fullmatch(r"\w[\w.-]*", name):
        raise ValueError(f"an array is called {name!r}: expected letters, digits and _ . - alone")
    block = values if isinstance(values, np.ndarray) else None
    present = [value for value in (values if block is None else block[:1]) if value is not None]
    members, path = span(folder, number), folder.path / ARRAYS / name
    if not present and not path.is_dir():
        return
    if folder.manifest["ragged"]:
        group = zarr.open_group(path, mode="a", zarr_format=3)
        for item, value in zip(members, values, strict=True):
            if value is None:
                shutil.rmtree(path / f"{item:08}", ignore_errors=True)
            else:
                group.create_array(f"{item:08}", data=value, overwrite=True)
        return
    if not (path / "zarr.json").is_file():
        shape, kind = present[0].shape, present[0].dtype
        with suppress(zarr.errors.ContainsArrayError):  # another worker was faster
            zarr.create_array(
                path,
                shape=(folder.manifest["items"]["count"], *shape),
                chunks=(folder.manifest["chunk"], *(max(1, side) for side in shape)),
                dtype=kind,
                fill_value=np.nan if kind.kind in "fc" else kind.type(0),
                zarr_format=3,
            )
    array = zarr.open_array(path, mode="r+")
    for value in present:
        if value.shape != array.shape[1:] or value.dtype != array.dtype:
            got, had = (f"{' x '.join(map(str, s)) or 'a number'} {t}" for s, t in (
                (value.shape, value.dtype), (array.shape[1:], array.dtype)
            ))  # fmt: skip
            raise ValueError(
                f"array {name!r} has items of {had}, got one of {got}: begin the run with ragged=True if items differ"
            )
    if block is None:
        empty = np.full(array.shape[1:], array.fill_value, array.dtype)
        block = np.stack([empty if value is None else value for value in values])
    array[members.start : members.stop] = block


def _array_names(folder: RunFolder) -> list[str]:
    with suppress(FileNotFoundError):
        entries = os.scandir(folder.path / ARRAYS)
        return sorted(entry.name for entry in entries if Path(entry.path, "zarr.json").is_file())
    return []
