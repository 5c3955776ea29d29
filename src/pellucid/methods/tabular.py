"""Results that are tables too: a row for each thing, as .csv or .parquet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..files.tables import TABLES, write_table
from .result import Result


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
            return write_table(Path(path), self.rows())
        return super().save(path, **options)
