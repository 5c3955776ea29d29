"""What an audit of spectra keeps in a folder while it is not done, so that the same call goes on from there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

from ...files.atomic import atomic_write
from ...runfolder.lock import LOCK, locked
from ..image_files.confounds_result import Confound, Confounds
from ..image_files.evaluation import Proportion

CONFOUNDS, TRAINING, CONTROL = "confounds.json", "training.safetensors", "control.safetensors"
_FOLDER = "spectra-"
_OURS = (CONFOUNDS, TRAINING, CONTROL, "spectrum-*.safetensors")


def spectra(number: int) -> str:
    """The file of the sums of the mean spectrum of one origin."""
    return f"spectrum-{number}.safetensors"


@contextmanager
def kept_in(place: Path | None, made_of: str) -> Iterator[Path | None]:
    """The folder for work on these files with these options, in a folder that is held against other processes.

    Work of another kind that lies there too stays apart.

    Args:
        place: the folder, which is made; None keeps nothing. made_of: of `recipe`.

    Raises:
        FolderInUse: another process works there.
    """
    if place is None:
        yield None
        return
    inner = place / f"{_FOLDER}{made_of[:12]}"
    inner.mkdir(parents=True, exist_ok=True)
    try:
        with locked(place):
            yield inner
    finally:
        if not any(inner.glob("*")):
            discard(inner.parent, inner.name)


def discard(place: Path, name: str = f"{_FOLDER}*") -> None:
    """Remove what was kept in a folder, and nothing else; the folder too, if it is empty then."""
    if not place.is_dir():
        return
    with locked(place):
        for inner in place.glob(name):
            for file in (file for ours in _OURS for file in inner.glob(ours)):
                file.unlink()
            with suppress(OSError):
                inner.rmdir()
    if not any(path.name != LOCK for path in place.iterdir()):
        (place / LOCK).unlink(missing_ok=True)
        with suppress(OSError):
            place.rmdir()


def kept_confounds(path: Path | None, find: Callable[[], Confounds]) -> Confounds:
    """What is in a file, or what is found anew and then written there."""
    if path is None:
        return find()
    if path.exists():
        known = json.loads(path.read_text(encoding="utf-8"))
        found = tuple(Confound(**{**one, "accuracy": Proportion(**one["accuracy"])}) for one in known["found"])
        return Confounds(found, tuple(known["classes"]), tuple((name, why) for name, why in known["failures"]))
    result = find()
    about = {"found": [asdict(one) for one in result.found], "classes": result.classes, "failures": result.failures}
    with atomic_write(path) as part:
        part.write_text(json.dumps(about), encoding="utf-8")
    return result
