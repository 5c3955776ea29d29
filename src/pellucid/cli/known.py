"""What there is, read from files that ship with the package: asking for it imports no method and not torch."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib.util import find_spec
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Known:
    """A method as the catalogue has it.

    options: names and defaults, as JSON has them. shown: the defaults as Python writes them. takes: in words.
    """

    name: str
    family: str
    kind: str
    summary: str
    paper: str
    options: dict[str, Any]
    shown: dict[str, str]
    takes: dict[str, str]


def methods() -> dict[str, Known]:
    """The catalogue, from `catalogue.json`; a test holds that it is the real one."""
    listed = json.loads((HERE / "catalogue.json").read_text(encoding="utf-8"))
    return {entry["name"]: Known(**entry) for entry in listed}


@dataclass(frozen=True)
class Network:
    """As `zoo.Entry`."""

    name: str
    source: str
    size: tuple[int, int]
    weights: tuple[str, ...] = ()


def networks(pattern: str = "") -> list[Network]:
    """What `zoo.models` lists.

    Of torchvision and timm it is kept by their versions: with the package for those that it was made with, and for
    others in the cache of the user, where it is put at the first call. That one imports them, which takes seconds.
    """
    wanted = pattern if set(pattern) & set("*?[") else f"*{pattern}*"
    return [entry for entry in _kept(versions()) or _listed() if fnmatchcase(entry.name, wanted)]


def names_at_once() -> list[str]:
    """Names of networks for completion, which must not wait: those of other versions if these are not kept."""
    here = versions()
    kept = _kept(here) or _read(HERE / "models.json", None)
    return [entry.name for entry in kept if entry.source in here or entry.source == "pellucid"]


def versions() -> dict[str, str]:
    """Of what brings networks, as far as it is installed; found without importing it."""
    found = {}
    for package in ("torchvision", "timm"):
        spec = find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            continue
        file = Path(spec.submodule_search_locations[0]) / "version.py"
        said = file.is_file() and re.search(r"__version__.*?=\s*['\"]([^'\"+]+)", file.read_text("utf-8"))
        if said:
            found[package] = said[1]
        else:
            from importlib.metadata import version  # three times as slow

            found[package] = version(package)
    return found


def cache() -> Path:
    """The folder in which pellucid keeps what can be found out again."""
    from platformdirs import user_cache_path

    return user_cache_path("pellucid", appauthor=False)


def keep(name: str, value: Any) -> None:
    """Write JSON into the cache, if that can be written."""
    from ..files.atomic import atomic_write

    try:
        (cache() / name).parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(cache() / name) as part:
            part.write_text(json.dumps(value), encoding="utf-8")
    except OSError:
        pass  # it only saves time


def _kept(here: dict[str, str]) -> list[Network]:
    """Networks of just these versions; none if they are not kept."""
    return _read(HERE / "models.json", here) or _read(cache() / _file(), here)


def _file() -> str:
    from ..version import __version__

    return f"models-{__version__}.json"  # for it lists some of its own


def _listed() -> list[Network]:
    """As torchvision and timm say themselves, and kept for the next time."""
    from .console import say

    here = versions()
    told = " and ".join(f"{package} {number}" for package, number in here.items())
    say(f"the names of {told} are looked up, once")
    from .. import zoo

    found = zoo.models()
    keep(_file(), {"versions": here, "networks": [rows(entry) for entry in found]})
    return [Network(entry.name, entry.source, entry.size, entry.weights) for entry in found]


def rows(entry: Any) -> list[Any]:
    """A network as it is written into a file."""
    return [entry.name, entry.source, list(entry.size), *entry.weights]


def _read(file: Path, here: dict[str, str] | None) -> list[Network]:
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
        if here is not None and any(kept["versions"].get(source) != number for source, number in here.items()):
            return []
        found = [Network(row[0], row[1], (row[2][0], row[2][1]), tuple(row[3:])) for row in kept["networks"]]
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return []  # none, or not ours
    return [entry for entry in found if here is None or entry.source in here or entry.source == "pellucid"]
