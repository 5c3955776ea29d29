"""Writes the table of methods into the README, from the catalogue."""

from __future__ import annotations

from pathlib import Path

from pellucid import CATALOGUE

README = Path(__file__).parent.parent / "README.md"
HEAD = "| family | method | what it shows | paper |\n|---|---|---|---|\n"


def table() -> str:
    """One row for each method."""
    entries = sorted(CATALOGUE.values(), key=lambda m: (m.family != "attribution", m.family, m.name))
    rows = (f"| {m.family} | `{m.name}` | {m.summary.rstrip('.')} | {m.paper} |\n" for m in entries)
    return HEAD + "".join(rows)


def renewed(text: str) -> str:
    """The README with its table made anew."""
    before, after = text.split(HEAD)
    rest = after[after.index("\n\n") + 1 :] if after.startswith("|") else after[after.index("\n") + 1 :]
    return before + table() + rest


if __name__ == "__main__":
    README.write_text(renewed(README.read_text()))
