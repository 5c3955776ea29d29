"""What a shell offers after TAB, and `pellucid completion`; nothing heavy is imported for it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from . import known

Offer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]

MODEL_FILES = (".pt2", ".onnx", ".keras", ".h5", ".safetensors")


def words(*all_of_them: str) -> Offer:
    """Some words."""

    def offer(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return _beginning(all_of_them, incomplete)

    return offer


def models(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of networks, and files that hold one."""
    found = _beginning(known.names_at_once(), incomplete)
    folder = Path(incomplete) if incomplete.endswith("/") else Path(incomplete).parent
    try:
        files = sorted(place for place in folder.iterdir() if place.is_dir() or place.suffix.lower() in MODEL_FILES)
    except OSError:
        files = []
    lead = incomplete[: incomplete.rfind("/") + 1]
    there = [f"{lead}{place.name}" + "/" * place.is_dir() for place in files if not place.name.startswith(".")]
    found += _beginning((place for place in there if incomplete or not place.endswith("/")), incomplete)
    return found or [CompletionItem(incomplete, type="file")]


def methods(kinds: Sequence[str], many: bool = False, more: Sequence[str] = ()) -> Offer:
    """Names of methods of some kinds; many: after a comma another one."""

    def offer(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
        entries = [entry for entry in known.methods().values() if entry.kind in kinds or not kinds]
        before, comma, begun = incomplete.rpartition(",") if many else ("", "", incomplete)
        named = before.split(",")
        found = [CompletionItem(before + comma + entry.name, help=entry.summary) for entry in entries
                 if entry.name.startswith(begun) and entry.name not in named]  # fmt: skip
        return found + _beginning(() if before else more, begun)

    return offer


def layers(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The layers of a network that has a name, if it was loaded once."""
    kept = layers_of(str(context.params.get("model")))
    before, comma, begun = incomplete.rpartition(",") if parameter.multiple else ("", "", incomplete)
    return _beginning((before + comma + name for name in kept if name.startswith(begun)), incomplete)


def layers_of(model: str) -> list[str]:
    """Names of layers as they are kept from when the network was loaded; none if it was not."""
    try:
        kept = json.loads((known.cache() / _file(model)).read_text(encoding="utf-8"))
        return [str(name) for name in kept]
    except (OSError, ValueError, TypeError):
        return []


def keep_layers(model: str, net: Any) -> None:
    """Keep the names of the layers of a network that has a name, for completion."""
    if not Path(model).exists() and not (known.cache() / _file(model)).is_file():
        known.keep(_file(model), [name for name, _ in net.named_modules() if name])


def _file(model: str) -> str:
    return f"layers/{model.replace('/', '+')}.json"


def _beginning(names: Iterable[str], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]
