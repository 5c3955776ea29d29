"""Writes what the command line knows without importing: the catalogue of methods, and the names of networks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pellucid import CATALOGUE, zoo
from pellucid.checks import in_words
from pellucid.cli import known
from pellucid.cli.console import finite


def catalogue() -> str:
    """`catalogue.json`: a line for each method."""
    entries: list[dict[str, Any]] = []
    methods = sorted(CATALOGUE.values(), key=lambda entry: (entry.family, entry.name))  # else in the order of imports
    for entry in sorted(methods, key=lambda entry: entry.family != "attribution"):
        options, kinds = entry.options, entry.option_types
        entries.append(
            {
                "name": entry.name,
                "family": entry.family,
                "kind": entry.kind,
                "summary": entry.summary,
                "paper": entry.paper,
                "options": finite(options),
                "shown": {name: repr(default) for name, default in options.items()},
                "takes": {name: in_words(kinds[name]) for name in options if name in kinds},
            }
        )
    return lines(entries)


def networks() -> str:
    """`models.json`: a line for each network, and the versions that have them."""
    rows = [known.rows(entry) for entry in zoo.models()]
    return f'{{"versions": {json.dumps(known.versions())},\n"networks": {lines(rows)}}}\n'


def lines(items: list[Any]) -> str:
    """JSON that tells in a line what changed."""
    return "[\n" + ",\n".join(json.dumps(item, default=str) for item in items) + "\n]\n"


if __name__ == "__main__":
    for name, text in (("catalogue.json", catalogue()), ("models.json", networks())):
        Path(known.HERE / name).write_text(text, encoding="utf-8")
