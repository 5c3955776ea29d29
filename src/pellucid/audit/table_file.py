"""Results that are tables too: a row for each thing, as .csv or .parquet."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..files import whole
from ..result import Result

TABLES = (".csv", ".parquet")


class Tabular(Result):
    """A result whose numbers are rows of a table."""

    def rows(self) -> list[dict[str, Any]]:
        """The rows, each with the same columns."""
        raise NotImplementedError

    def save(self, path: str | Path, **options: Any) -> Path:
        """Write the result, whole or not at all.

        Args:
            path: a table (.csv, .parquet), a picture (.png, .svg, .pdf), or the tensors (.npz).
            options: those of `figure`, for pictures.
        """
        if Path(path).suffix.lower() in TABLES:
            return write_rows(path, self.rows())
        return super().save(path, **options)


def write_rows(path: str | Path, rows: Sequence[dict[str, Any]]) -> Path:
    """Write rows as a table, whole or not at all.

    >>> import tempfile
    >>> write_rows(tempfile.mkdtemp() + "/a.csv", [{"x": 1}, {"x": 2}]).read_text().split()
    ['x', '1', '2']
    """
    path = Path(path)
    with whole(path) as part:
        if path.suffix.lower() == ".parquet":
            import pyarrow
            from pyarrow import parquet

            parquet.write_table(pyarrow.Table.from_pylist(list(rows)), part)
        else:
            with part.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, list(rows[0]) if rows else [])
                writer.writeheader()
                writer.writerows(rows)
    return path
