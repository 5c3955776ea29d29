"""Run folders: what a verb over many items writes, chunk by chunk, so that it can stop anywhere and go on.

    run/
      manifest.json           verb, model, hash of the weights, options, seed, hash of the items, items in a chunk
      items.json              what the run goes over, in order
      arrays/saliency/        Zarr v3, items first, one file for each chunk
      rows/00000012.parquet   one row for each item of chunk 12; where it is, chunk 12 is finished
      lock                    held by the process that runs; the system frees it when that process ends, however

A chunk is computed by any function of (folder, number) that ends with `write_chunk`: arrays first, then the
rows, which appear by one rename. A chunk is therefore finished or not, and computing it again gives the same.
Nothing else is shared, so that any engine may call the function, in any order, in any process: one process
holds the folder open with `begin`, and its workers use `read`.

    with begin("run", verb="explain", model=..., items=files, options={}, seed=0) as folder:
        for number in pending(folder):
            write_chunk(folder, number, rows, arrays)
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import shutil
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from .classifier import Classifier, network
from .files import whole
from .version import __version__

if TYPE_CHECKING:
    import pyarrow
    import zarr

Row: TypeAlias = Mapping[str, Any]
Array: TypeAlias = np.ndarray[Any, Any]

FORMAT = 1
MANIFEST, ITEMS, ARRAYS, ROWS, LOCK = "manifest.json", "items.json", "arrays", "rows", "lock"
_PART = re.compile(r"(\d{8,})\.parquet")


class OtherRun(ValueError):
    """The folder was made by another run: another model, other weights, options or items.

    `.finished` says whether that run has come to its end.
    """

    def __init__(self, message: str, *, finished: bool) -> None:
        super().__init__(message)
        self.finished = finished


class FolderInUse(OSError):
    """Another process runs in this folder."""


@dataclass(frozen=True)
class RunFolder:
    """A run folder that is open.

    path: where it is. manifest: what was asked, as in `manifest.json`; nothing in it changes during a run.
    """

    path: Path
    manifest: Mapping[str, Any]

    @property
    def items(self) -> tuple[str, ...]:
        """What the run goes over, in order."""
        return _items(self.path / ITEMS, self.manifest["items"]["sha256"])

    @property
    def chunks(self) -> int:
        """How many chunks there are, finished or not."""
        return int(-(-self.manifest["items"]["count"] // self.manifest["chunk"]))

    def __repr__(self) -> str:
        done = len(finished(self))
        return f"RunFolder({str(self.path)!r}, {self.manifest['verb']}, {done} of {self.chunks} chunks finished)"


@contextmanager
def begin(
    path: str | Path,
    *,
    verb: str,
    model: Mapping[str, Any],
    items: Sequence[str],
    options: Mapping[str, Any],
    seed: int,
    chunk: int = 8,
    ragged: bool = False,
    overwrite: bool = False,
) -> Iterator[RunFolder]:
    """Make a run folder, or go on in one that was made with the same settings. No one else may meanwhile.

    Args:
        path: the folder; missing parents are made.
        verb: what is done: "explain", ...
        model: what tells one model from another; see `describe_model`.
        items: what the run goes over: names of files, usually. All different.
        options: all that a result depends on besides; what JSON does not know is kept as its text.
        seed: of whatever is random.
        chunk: items in a chunk, the unit of work and of loss; a folder that exists keeps its own.
        ragged: items differ in the shape of their arrays.
        overwrite: throw away what a run left here, the same one or another, and begin anew. A folder that is no
            run folder stays as it is.

    Yields:
        The folder. The lock is held until the block ends.

    Raises:
        OtherRun: the folder holds a run with other settings; the message says which.
        FolderInUse: another process runs in it.
        FileExistsError: the path is no run folder, and not empty.
        OSError: the folder cannot be written.
        ValueError: there is no item, an item occurs twice, or the chunk is not a whole number above 0.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "run")
    >>> with begin(path, verb="mean", model={}, items=["a", "b", "c"], options={}, seed=0, chunk=2) as folder:
    ...     write_chunk(folder, 0, [{"label": "x"}, {"label": "y"}], {"mean": [np.zeros(4), np.ones(4)]})
    >>> pending(read(path))
    [1]
    """
    path = Path(path)
    if not items:
        raise ValueError("a run needs at least one item, got none")
    if len(set(items)) != len(items):
        raise ValueError(f"the items of a run are all different, but {_most(items)!r} occurs twice")
    if type(chunk) is not int or chunk < 1:
        raise ValueError(f"chunk is {chunk!r}, expected a whole number of items above 0")
    listed = json.dumps(list(items), indent=0, ensure_ascii=False)
    wanted = _as_json(
        {
            "format": FORMAT,
            "pellucid": __version__,
            "verb": verb,
            "model": model,
            "options": options,
            "seed": seed,
            "items": {"count": len(items), "sha256": _sha256(listed.encode(errors="surrogatepass"))},
            "ragged": ragged,
            "chunk": chunk,
        }
    )
    with _writing(path, "make the run folder"):
        if path.is_file():
            raise NotADirectoryError(f"{path} is a file, expected a folder to run in: choose another place")
        strange = _strangers(path)
        if strange and not (path / MANIFEST).is_file():
            raise FileExistsError(
                f"{path} is not a run folder and holds {strange[0]!r}: choose a new or an empty folder"
            )
        path.mkdir(parents=True, exist_ok=True)
    with _locked(path):
        found = _manifest(path, overwrite)
        if found is not None and not overwrite:
            _same(path, found, wanted, items)
        with _writing(path, "make the run folder"):
            if found is None or overwrite:
                _clear(path)
                (path / ROWS).mkdir(exist_ok=True)
                _write_text(path / ITEMS, listed)
                _write_text(path / MANIFEST, json.dumps(wanted, indent=2))  # last: with it the folder exists
                found = wanted
            _sweep(path)
        yield RunFolder(path, found)


def read(path: str | Path) -> RunFolder:
    """Open a run folder to read it, or to work in it on behalf of the process that holds it.

    Raises:
        FileNotFoundError: there is no such folder, or it is no run folder.
        ValueError: its manifest is damaged, or of a later version of pellucid.
    """
    path = Path(path)
    manifest = _manifest(path)
    if manifest is None:
        what = f"holds no {MANIFEST}, so it is not a run folder" if path.is_dir() else "does not exist"
        raise FileNotFoundError(f"{path} {what}: give the folder that a run has written")
    return RunFolder(path, manifest)


def finished(folder: RunFolder) -> list[int]:
    """The numbers of the chunks that are finished, in order."""
    with suppress(FileNotFoundError):
        found = (_PART.fullmatch(entry.name) for entry in os.scandir(folder.path / ROWS))
        return sorted(int(match[1]) for match in found if match)
    return []


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
    arrays: Mapping[str, Sequence[Any]] | None = None,
) -> None:
    """Write what a chunk gave, and with that finish it. Doing it again replaces it.

    Args:
        folder: from `begin` or `read`.
        number: of the chunk.
        rows: for each of its items a dict of columns: numbers, words, lists or dicts of such, or None. An
            item that could not be done says why in the column "problem".
        arrays: by name, for each item an array (or a CPU tensor), or None where there is none. Unless the
            folder is ragged, all arrays of a name have one shape and type. Names are made of letters,
            digits and `_ . -`.

    Raises:
        ValueError: for another number of rows or arrays than the chunk has items, a name that is not allowed, or
            an array of another shape or type than the others of its name.
        OSError: it could not be written, as on a full disk; finished chunks are untouched by that.
    """
    members = span(folder, number)
    for what, given in {"rows": rows, **(arrays or {})}.items():
        if len(given) != len(members):
            raise ValueError(f"chunk {number} has {len(members)} items, got {len(given)} of {what}")
    with _writing(folder.path, f"write chunk {number} into"):
        nothing = dict.fromkeys(_array_names(folder), [None] * len(members))  # also where there was something before
        for name, values in {**nothing, **(arrays or {})}.items():
            _write_array(folder, number, name, [None if v is None else np.asarray(v) for v in values])
        _write_rows(folder, number, [{"item": item, **row} for item, row in zip(members, rows, strict=True)])


def read_chunk(folder: RunFolder, number: int) -> tuple[list[dict[str, Any]], dict[str, list[Array | None]]]:
    """What `write_chunk` wrote: rows, with their item's number as "item", and arrays by name.

    An array that was not given comes back as None only from a ragged folder or a chunk without any; elsewhere as
    NaN (zeros, if the type has no NaN).

    Raises:
        FileNotFoundError: the chunk is not finished.
    """
    members = span(folder, number)
    file = _part(folder, number)
    if not file.is_file():
        raise FileNotFoundError(f"chunk {number} of {folder.path} is not finished: run it first")
    values: dict[str, list[Array | None]] = {}
    array: Any
    for name, array in arrays(folder).items():
        if folder.manifest["ragged"]:
            values[name] = [np.asarray(array[f"{i:08}"]) if f"{i:08}" in array else None for i in members]
        else:
            values[name] = list(np.asarray(array[members.start : members.stop]))
    return _read_rows(file).to_pylist(), values


def rows(folder: RunFolder) -> pyarrow.Table:
    """The rows of all finished chunks, in order, as a pyarrow table; `.to_pylist()` makes dicts of them.

    A column that some chunk did not have is empty there.
    """
    import pyarrow

    parts = [_read_rows(_part(folder, number)) for number in finished(folder)]
    if not parts:
        return pyarrow.table({"item": pyarrow.array([], pyarrow.int64())})
    return pyarrow.concat_tables(parts, promote_options="permissive")


def each_row(folder: RunFolder) -> Iterator[dict[str, Any]]:
    """The rows of all finished chunks, in order, one by one, so that a long run does not fill the memory."""
    for number in finished(folder):
        yield from _read_rows(_part(folder, number)).to_pylist()


def arrays(folder: RunFolder) -> dict[str, zarr.Array[Any] | zarr.Group]:
    """The arrays by name, as Zarr arrays whose first axis is the item, not yet read.

    In a ragged folder each is a Zarr group with an array for each item, named by the item's number in eight
    digits. Items of chunks that are not finished, or that gave no array, are NaN (0 for whole numbers).
    """
    import zarr

    return {name: zarr.open(folder.path / ARRAYS / name, mode="r") for name in _array_names(folder)}


def failures(folder: RunFolder) -> list[tuple[str, str]]:
    """Which items could not be done, and why: those whose row has a "problem"."""
    return [(folder.items[row["item"]], row["problem"]) for row in each_row(folder) if row.get("problem")]


def forget(folder: RunFolder, numbers: Sequence[int]) -> None:
    """Make chunks unfinished, to be computed anew."""
    for number in numbers:
        _part(folder, number).unlink(missing_ok=True)


def describe_model(model: Callable[[Tensor], Any]) -> dict[str, Any]:
    """What tells one model from another, for a manifest: names, weights, and how images get into it.

    >>> describe_model(torch.nn.Flatten())["kind"]
    'torch.nn.modules.flatten.Flatten'
    """
    net = network(model)
    kind = type(model if net is None else net)
    about: dict[str, Any] = {"kind": f"{kind.__module__}.{kind.__qualname__}", "weights": weights_hash(model)}
    if isinstance(model, Classifier):
        labels = _sha256("\n".join(model.labels).encode(errors="surrogatepass")) if model.labels else ""
        about = {"name": model.name, **about, "preprocessing": asdict(model.preprocessing), "labels": labels}
    return about


def weights_hash(model: Callable[[Tensor], Any]) -> str:
    """SHA-256 over the names, types, shapes and bytes of all weights and buffers that a network would save.

    It says the same of a network and of a `Classifier` around it, and does not depend on the device.

    Args:
        model: a network or a `Classifier`.

    Returns:
        64 hexadecimal digits; nothing for a function that is no torch module.

    >>> weights_hash(torch.nn.Flatten())[:8]
    'e3b0c442'
    """
    net = network(model)
    if net is None:
        return ""
    digest = hashlib.sha256()
    for name, value in net.state_dict().items():
        if not isinstance(value, Tensor):  # what get_extra_state returned
            digest.update(f"{name}: {value!r}\n".encode())
            continue
        tensor = value.detach()
        tensor = tensor.dequantize() if tensor.is_quantized else tensor
        tensor = (tensor if tensor.layout == torch.strided else tensor.to_dense()).cpu().contiguous()
        digest.update(f"{name}: {value.dtype} {tuple(value.shape)}\n".encode())
        if tensor.numel():
            digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def hash_of(value: Any) -> str:
    """SHA-256 of anything that JSON knows, for what is too long for a manifest.

    >>> hash_of(["a", 1])[:8]
    '2657442b'
    """
    return _sha256(json.dumps(value, sort_keys=True).encode())


def _part(folder: RunFolder, number: int) -> Path:
    return folder.path / ROWS / f"{number:08}.parquet"


def _write_rows(folder: RunFolder, number: int, records: list[dict[str, Any]]) -> None:
    import pyarrow
    from pyarrow import parquet

    columns = dict.fromkeys(name for record in records for name in record)
    table = pyarrow.table({name: [record.get(name) for record in records] for name in columns})
    with whole(_part(folder, number)) as file:
        parquet.write_table(table, file)


def _read_rows(file: Path) -> pyarrow.Table:
    from pyarrow import parquet

    return parquet.ParquetFile(file).read()


def _write_array(folder: RunFolder, number: int, name: str, values: list[Array | None]) -> None:
    import zarr

    if not re.fullmatch(r"\w[\w.-]*", name):
        raise ValueError(f"an array is called {name!r}: expected letters, digits and _ . - alone")
    present = [value for value in values if value is not None]
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
    empty = np.full(array.shape[1:], array.fill_value, array.dtype)
    array[members.start : members.stop] = np.stack([empty if value is None else value for value in values])


def _array_names(folder: RunFolder) -> list[str]:
    with suppress(FileNotFoundError):
        entries = os.scandir(folder.path / ARRAYS)
        return sorted(entry.name for entry in entries if Path(entry.path, "zarr.json").is_file())
    return []


def _manifest(path: Path, lenient: bool = False) -> dict[str, Any] | None:
    try:
        found = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        version = found["format"]
        found["items"]["sha256"], found["chunk"], found["ragged"]
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, KeyError, TypeError) as error:
        if lenient:
            return None
        raise ValueError(
            f"{path / MANIFEST} is damaged ({error!r}): choose another folder, or overwrite this one"
        ) from error
    if version > FORMAT and not lenient:
        raise ValueError(
            f"{path} was written by a later version of pellucid (its format is {version}): update pellucid"
        )
    return dict(found)


@functools.lru_cache(maxsize=4)
def _items(file: Path, sha256: str) -> tuple[str, ...]:
    data = file.read_bytes()
    if _sha256(data) != sha256:
        raise ValueError(f"{file} is damaged or was changed: its hash is not that in {MANIFEST}. Run anew")
    return tuple(json.loads(data.decode(errors="surrogatepass")))


def _same(path: Path, found: Mapping[str, Any], wanted: Mapping[str, Any], items: Sequence[str]) -> None:
    differs = _difference(found, wanted)
    if "items" in differs:
        with suppress(OSError, ValueError):
            differs["items"] = _items_differ(_items(path / ITEMS, found["items"]["sha256"]), items)
    if differs:
        done = len(finished(RunFolder(path, found)))
        total = RunFolder(path, found).chunks
        state = "a finished run" if done == total else f"a run that is {100 * done // total} % finished"
        raise OtherRun(
            f"{path} holds {state} with other settings: {'; '.join(differs.values())}. Choose another folder, "
            "or overwrite this one (overwrite=True, --overwrite)",
            finished=done == total,
        )


def _difference(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, str]:
    """What differs between two manifests, in words; the size of a chunk may."""
    differs: dict[str, str] = {}
    for key in {**wanted, **found}:
        old, new = _flat(key, found.get(key)), _flat(key, wanted.get(key))
        changed = [name for name in {**new, **old} if old.get(name) != new.get(name)] if key != "chunk" else []
        if changed:
            shown = [f"{name} was {_short(old.get(name))}, is now {_short(new.get(name))}" for name in changed[:3]]
            differs[key] = ", ".join(shown) + (f" and {len(changed) - 3} more" if len(changed) > 3 else "")
    return differs


def _items_differ(old: Sequence[str], new: Sequence[str]) -> str:
    gone, come = sorted(set(old) - set(new)), sorted(set(new) - set(old))
    said = [
        f"{len(names)} items {how}, such as {names[0]!r}" for names, how in ((gone, "fewer"), (come, "more")) if names
    ]
    return " and ".join(said) or "the items are the same, in another order"


def _flat(name: str, value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return {inner: item for key in value for inner, item in _flat(f"{name}.{key}", value[key]).items()}
    return {name: value}


def _short(value: Any) -> str:
    text = "absent" if value is None else str(value)
    return f"{text[:12]}..." if re.fullmatch("[0-9a-f]{64}", text) else text if len(text) < 80 else f"{text[:77]}..."


def _most(items: Sequence[str]) -> str:
    return Counter(items).most_common(1)[0][0]


def _as_json(value: Any) -> dict[str, Any]:
    """What the value is after a way through a file; a tensor becomes its shape and hash, other things their text."""

    def told(item: Any) -> str:
        if isinstance(item, Tensor):
            return (
                f"tensor {' x '.join(map(str, item.shape))} {_sha256(np.asarray(item.detach().cpu()).tobytes())[:16]}"
            )
        return str(item)

    return dict(json.loads(json.dumps(value, default=told)))


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _write_text(path: Path, text: str) -> None:
    with whole(path) as file:
        file.write_bytes(text.encode(errors="surrogatepass"))


def _strangers(path: Path) -> list[str]:
    """What lies in a folder that no run put there."""
    known = {MANIFEST, ITEMS, ARRAYS, ROWS, LOCK}
    return sorted(p.name for p in path.iterdir() if p.name not in known and p.name[0] != ".") if path.is_dir() else []


def _clear(path: Path) -> None:
    """Remove what a run wrote, the manifest first: from then on the folder holds no run."""
    for name in (MANIFEST, ITEMS):
        (path / name).unlink(missing_ok=True)
    for name in (ROWS, ARRAYS):
        if (path / name).is_dir():
            shutil.rmtree(path / name)


def _sweep(path: Path) -> None:
    """Remove the unfinished files of a run that was killed."""
    for pattern in (f"{ROWS}/.*.parquet", f"{ARRAYS}/**/*.partial", ".manifest-*.json", ".items-*.json"):
        for file in path.glob(pattern):
            file.unlink(missing_ok=True)


@contextmanager
def _writing(path: Path, what: str) -> Iterator[None]:
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
def _locked(path: Path) -> Iterator[None]:
    """Hold the folder's lock. It belongs to an open file, which the system closes when the process dies."""
    with _writing(path, "lock"):
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
