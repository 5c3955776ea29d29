"""A training kept in a file, so that one that was stopped ends as if it had never been."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from ...files.atomic import file_fingerprint
from ...files.tensors import read_work, write_tensors
from ...model.training import under
from ...runfolder import hash_of
from ...runfolder.identity import as_json
from ..image_files.file_classes import Split

_KIND = "a training of spectra on its way"
_OTHER = "of a training on other files or with other options"


@dataclass(frozen=True)
class Epoch:
    """What one pass over the training images came to: mean losses, and the share of validation images correctly
    classified."""

    loss: float
    validation_loss: float
    accuracy: float


@dataclass(eq=False)
class Progress:
    """How far a training is.

    kept: the weights of the best epoch. history: the epochs; best: the number of the best.
    place, total, inside: of the epoch that is not over, what its training needs to go on: how many batches or passes
    were made, the sum of their losses, and tensors by name.
    """

    kept: dict[str, Tensor]
    history: list[Epoch] = field(default_factory=list)
    best: int = 0
    place: int = 0
    total: float = 0.0
    inside: dict[str, Tensor] = field(default_factory=dict)


def recipe(parts: Split, options: Sequence[Any]) -> str:
    """A text that is another one for other files, changed files, another split, or other options."""
    files = [
        [str(file), *file_fingerprint(str(file)), label]
        for part in (parts.train, parts.validation, parts.test)
        for file, label in zip(part.files, part.labels, strict=True)
    ]
    return hash_of([files, as_json({"options": options})])


def check_training(path: Path, made_of: str) -> None:
    """Refuse what is there already and cannot be gone on with.

    Raises:
        OtherWork: if it is another training.
        ValueError: if the file is damaged or something else.
    """
    if path.exists():
        read_work(path, _KIND, made_of, _OTHER)


def write_training(path: Path, made_of: str, at: Progress, weights: Mapping[str, Tensor]) -> None:
    """Write a training with its weights, whole or not at all."""
    parts = {"now": weights, "kept": at.kept, "inside": at.inside}
    tensors = {f"{part}.{name}": value for part, named in parts.items() for name, value in named.items()}
    about = {
        "recipe": made_of, "history": [asdict(epoch) for epoch in at.history], "best": at.best, "place": at.place,
        "total": at.total,
    }  # fmt: skip
    write_tensors(path, _KIND, tensors, about)


def read_training(path: Path, made_of: str) -> tuple[Progress, dict[str, Tensor]]:
    """How far the training in a file is, and its weights.

    Raises:
        OtherWork, ValueError: as `check_training`.
    """
    tensors, about = read_work(path, _KIND, made_of, _OTHER)
    history, inside = [Epoch(**epoch) for epoch in about["history"]], under(tensors, "inside.")
    at = Progress(under(tensors, "kept."), history, about["best"], about["place"], about["total"], inside)
    return at, under(tensors, "now.")
