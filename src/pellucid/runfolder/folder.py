"""The folder: its settings, written once, and the list of what the run goes over."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..files.atomic import atomic_write
from ..version import __version__
from .identity import as_json, difference, items_differ, sha256
from .lock import LOCK, locked, writing

FORMAT = 1
MANIFEST, ITEMS, ARRAYS, ROWS = "manifest.json", "items.json", "arrays", "rows"
_PART = re.compile(r"(\d{8,})\.parquet")


class OtherRun(ValueError):
    """The folder was made by another run: another model, other weights, options or items.

    `.finished` says whether that run has come to its end.
    """

    def __init__(self, message: str, *, finished: bool) -> None:
        super().__init__(message)
        self.finished = finished


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

    A run with other settings of which nothing is finished yet makes room: there is nothing to lose.

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
        OtherRun: the folder holds a run with other settings, of which something is finished; the message says which.
        FolderInUse: another process runs in it.
        FileExistsError: the path is no run folder, and not empty.
        OSError: the folder cannot be written.
        ValueError: there is no item, an item occurs twice, or the chunk is not a whole number above 0.

    >>> import tempfile
    >>> import numpy as np
    >>> from pellucid.runfolder import pending, write_chunk
    >>> path = Path(tempfile.mkdtemp(), "run")
    >>> with begin(path, verb="mean", model={}, items=["a", "b", "c"], options={}, seed=0, chunk=2) as folder:
    ...     write_chunk(folder, 0, [{"label": "x"}, {"label": "y"}], {"mean": [np.zeros(4), np.ones(4)]})
    >>> pending(read(path))
    [1]
    """
    path = Path(path)
    listed = _listed(items)
    wanted = _wanted(listed, verb, model, items, options, seed, chunk, ragged)
    with writing(path, "make the run folder"):
        if path.is_file():
            raise NotADirectoryError(f"{path} is a file, expected a folder to run in: choose another place")
        strange = _strangers(path)
        if strange and not (path / MANIFEST).is_file():
            raise FileExistsError(
                f"{path} is not a run folder and holds {strange[0]!r}: choose a new or an empty folder"
            )
        path.mkdir(parents=True, exist_ok=True)
    with locked(path):
        found = _manifest(path, overwrite)
        if found is not None and not overwrite and not _same(path, found, wanted, items):
            found = None
        with writing(path, "make the run folder"):
            if found is None or overwrite:
                # What was there goes when the new is written, and has only to be renamed: the manifest last, with which
                # the folder exists.
                with atomic_write(path / MANIFEST) as manifest, atomic_write(path / ITEMS) as listing:
                    listing.write_bytes(listed)
                    manifest.write_text(json.dumps(wanted, indent=2), encoding="utf-8")
                    _clear(path)
                    (path / ROWS).mkdir()
                found = wanted
            _sweep(path)
        yield RunFolder(path, found)


def holds(
    path: str | Path,
    *,
    verb: str,
    model: Mapping[str, Any],
    items: Sequence[str],
    options: Mapping[str, Any],
    seed: int,
    chunk: int = 8,
    ragged: bool = False,
) -> bool:
    """Whether a folder has a run with these settings, finished or not, so that `begin` would go on in it."""
    found = _manifest(Path(path), lenient=True)
    return found is not None and not difference(
        found, _wanted(_listed(items), verb, model, items, options, seed, chunk, ragged)
    )


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


def _listed(items: Sequence[str]) -> bytes:
    return json.dumps(list(items), indent=0, ensure_ascii=False).encode(errors="surrogatepass")


def _wanted(
    listed: bytes,
    verb: str,
    model: Mapping[str, Any],
    items: Sequence[str],
    options: Mapping[str, Any],
    seed: int,
    chunk: int,
    ragged: bool,
) -> dict[str, Any]:
    """The manifest of a run.

    Raises:
        ValueError: there is no item, an item occurs twice, or the chunk is not a whole number above 0.
    """
    if not items:
        raise ValueError("a run needs at least one item, got none")
    if len(set(items)) != len(items):
        raise ValueError(f"the items of a run are all different, but {_most(items)!r} occurs twice")
    if type(chunk) is not int or chunk < 1:
        raise ValueError(f"chunk is {chunk!r}, expected a whole number of items above 0")
    return as_json(
        {
            "format": FORMAT,
            "pellucid": __version__,
            "verb": verb,
            "model": model,
            "options": options,
            "seed": seed,
            "items": {"count": len(items), "sha256": sha256(listed)},
            "ragged": ragged,
            "chunk": chunk,
        }
    )


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
def _items(file: Path, expected: str) -> tuple[str, ...]:
    data = file.read_bytes()
    if sha256(data) != expected:
        raise ValueError(f"{file} is damaged or was changed: its hash is not that in {MANIFEST}. Run anew")
    return tuple(json.loads(data.decode(errors="surrogatepass")))


def _same(path: Path, found: Mapping[str, Any], wanted: Mapping[str, Any], items: Sequence[str]) -> bool:
    """Whether a run is the one that is wanted.

    Raises:
        OtherRun: it is another one, and some of it is finished, which would be lost.
    """
    differs, done = difference(found, wanted), len(finished(RunFolder(path, found)))
    if differs and not done:
        return False
    if "items" in differs:
        with suppress(OSError, ValueError):
            differs["items"] = items_differ(_items(path / ITEMS, found["items"]["sha256"]), items)
    if differs:
        total = RunFolder(path, found).chunks
        state = "a finished run" if done == total else f"a run that is {max(1, 100 * done // total)} % finished"
        raise OtherRun(
            f"{path} holds {state} with other settings: {'; '.join(differs.values())}. Choose another folder, "
            "or overwrite this one (overwrite=True, --overwrite)",
            finished=done == total,
        )
    return True


def _most(items: Sequence[str]) -> str:
    return Counter(items).most_common(1)[0][0]


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
