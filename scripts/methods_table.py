"""Writes the table of methods into docs/methods.md, from the catalogue."""

from __future__ import annotations

from pathlib import Path

from pellucid import CATALOGUE

PAGE = Path(__file__).parent.parent / "docs" / "methods.md"
HEAD = "| family | method | what it shows | paper |\n|---|---|---|---|\n"


def table() -> str:
    """One row for each method."""
    entries = sorted(CATALOGUE.values(), key=lambda m: (m.family != "attribution", m.family, m.name))
    rows = (f"| {m.family} | `{m.name}` | {m.summary.rstrip('.')} | {m.paper} |\n" for m in entries)
    return HEAD + "".join(rows)


def renewed(text: str) -> str:
    """The page with its table made anew."""
    return text[: text.index(HEAD)] + table()


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text()))
