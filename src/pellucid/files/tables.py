"""Rows as a table in a file: Parquet or CSV."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .atomic import atomic_write

TABLES = (".csv", ".parquet")


def write_table(path: Path, table: Sequence[Mapping[str, Any]]) -> Path:
    """Write rows as Parquet or CSV, whole or not at all; in CSV a list of numbers becomes columns.

    Raises:
        ValueError: for another ending. OSError: if the file cannot be written.

    >>> import tempfile
    >>> write_table(Path(tempfile.mkdtemp(), "a.csv"), [{"x": 1}, {"x": 2}]).read_text().split()
    ['x', '1', '2']
    """
    kind = path.suffix.lower()
    if kind == ".parquet":
        import pyarrow
        from pyarrow import parquet

        names = list(dict.fromkeys(name for row in table for name in row))
        columns = pyarrow.table({name: [row.get(name) for row in table] for name in names})
        with atomic_write(path) as part:
            parquet.write_table(columns, part)
    elif kind == ".csv":
        flat = [_flat(row) for row in table]
        heads = list(dict.fromkeys(name for row in flat for name in row))
        with atomic_write(path) as part, part.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, heads, restval="")
            writer.writeheader()
            writer.writerows(flat)
    else:
        raise ValueError(f"cannot write a table as {path.name!r}: expected .parquet or .csv")
    return path


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, (list, tuple)):
            flat |= {f"{name}.{place}": item for place, item in enumerate(value)}
        else:
            flat[name] = "" if value is None else value
    return flat
