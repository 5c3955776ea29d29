"""Files with their classes, and a split of them into sets for training, validation and test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Classes = Literal["binary", "folders"]


@dataclass(frozen=True)
class LabeledFiles:
    """Image files with their classes.

    files: paths. labels: the number of the class of each. classes: their names. origins: the folder that each file
    comes from (of a fake: its generator).
    """

    files: tuple[Path, ...]
    labels: tuple[int, ...]
    classes: tuple[str, ...]
    origins: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.files)

    def __repr__(self) -> str:
        counts = ", ".join(f"{self.labels.count(i)} {name}" for i, name in enumerate(self.classes))
        return f"LabeledFiles({counts})"

    def rows(self, which: Sequence[int]) -> LabeledFiles:
        """Those of some numbers, in their order."""
        pick = [(self.files[i], self.labels[i], self.origins[i]) for i in which]
        files, labels, origins = zip(*pick, strict=True) if pick else ((), (), ())
        return LabeledFiles(tuple(files), tuple(labels), self.classes, tuple(origins))

    def of(self, label: int) -> LabeledFiles:
        """Those of one class."""
        return self.rows([i for i, one in enumerate(self.labels) if one == label])


@dataclass(frozen=True)
class Split:
    """Three sets of files that share none: to learn from, to stop by, and to measure on."""

    train: LabeledFiles
    validation: LabeledFiles
    test: LabeledFiles
    seed: int = 0

    @property
    def classes(self) -> tuple[str, ...]:
        return self.train.classes
