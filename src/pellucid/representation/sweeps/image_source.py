"""The images that a run goes over: files and folders, or the rows of a tensor."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ...checks import UnknownName
from ...files.atomic import file_fingerprint, printable, short_names
from ...files.images import list_images
from ...model.classifier import Classifier, check_input
from ...model.run import Model
from ...model.true_classes import Truth, true_names
from .measures import storable

Images = Tensor | str | Path | Sequence[str | Path]
Labels = Truth | Tensor | Sequence[int] | Sequence[str]


@dataclass(frozen=True, eq=False)
class Source:
    """Images in order.

    items: what tells each from the others: the path of its file, or its row. names: what people call it.
    labels: its true class in words, None where it is not known. read: an image by its number, C x H x W.
    images: all of them, if they came as a tensor.
    """

    items: tuple[str, ...]
    names: tuple[str, ...]
    labels: tuple[str | None, ...]
    read: Callable[[int], Tensor] = field(repr=False)
    images: Tensor | None = field(repr=False, default=None)

    def __len__(self) -> int:
        return len(self.items)

    @property
    def of_files(self) -> bool:
        return self.images is None

    def identity(self) -> str:
        """What tells these images from others, besides the items: of a tensor a hash, of files nothing."""
        if self.images is None:
            return ""
        numbers = np.ascontiguousarray(storable(self.images).numpy())
        return f"{tuple(self.images.shape)} {hashlib.sha256(numbers.data).hexdigest()}"

    def state(self, number: int) -> tuple[int | None, int | None]:
        """Size and time of change of a file; nothing for the row of a tensor."""
        return file_fingerprint(self.items[number]) if self.of_files else (None, None)

    def row(self, number: int) -> dict[str, Any]:
        """What is known of an image before any pass."""
        size, changed = self.state(number)
        return {
            "file": printable(self.items[number]),
            "name": self.names[number],
            "bytes": size,
            "modified": changed,
            "label": self.labels[number],
            "prediction": None,
            "score": None,
            "problem": None,
        }


def source_of(model: Model, images: Images, labels: Labels = "folders") -> Source:
    """The images that someone means.

    Args:
        model: a `Classifier` where files are to be read.
        images: N x C x H x W, or files and folders.
        labels: for files as for `pellucid.model.true_classes.true_names`; for a tensor N classes, by index or name.

    Raises:
        TypeError: for files and a model that cannot read them, or for what is neither.
        ValueError: for images that the model cannot take, or another number of classes.
        FileNotFoundError: for a path that does not exist, or a folder without images.
    """
    if isinstance(images, Tensor):
        return _of_tensor(model, images, labels)
    paths = [images] if isinstance(images, (str, Path)) else images
    if not isinstance(paths, Sequence) or not all(isinstance(path, (str, Path)) for path in paths):
        raise TypeError(
            f"images is a {type(images).__name__}, expected a tensor N x C x H x W, a file or folder, or a list of them"
        )
    if not isinstance(model, Classifier):
        raise TypeError(
            f"a {type(model).__name__} cannot read files: wrap it, which makes a Classifier of it, or give the images "
            "as a tensor"
        )
    if isinstance(labels, Tensor) or (isinstance(labels, Sequence) and not isinstance(labels, str)):
        raise TypeError(
            "labels is a list of classes, which goes with a tensor: for files give a dict or a table of files and "
            "labels, or 'folders'"
        )
    given = [Path(path) for path in paths]
    found = {os.path.abspath(file): file for file in list_images(*given)}  # noqa: PTH100 - resolve() follows links
    items = tuple(found)
    names = true_names(model, list(found.values()), labels, [path for path in given if path.is_dir()])
    read = model.read_one
    return Source(items, tuple(short_names(items)), tuple(names), lambda number: read(items[number]))


def _of_tensor(model: Model, images: Tensor, labels: Labels) -> Source:
    check_input(model, images)
    count = len(images)
    if labels is None or (isinstance(labels, str) and labels == "folders"):
        names: list[str | None] = [None] * count
    elif isinstance(labels, (str, Path, dict)):
        raise TypeError("labels names files, and these images are a tensor: give N classes")
    else:
        classes = labels.tolist() if isinstance(labels, Tensor) else list(labels)
        if len(classes) != count:
            raise ValueError(f"got {len(classes)} true classes for {count} images: give one for each")
        names = [_word(model, label) for label in classes]
    numbers = tuple(map(str, range(count)))
    return Source(numbers, numbers, tuple(names), lambda number: images[number], images.detach())


def _word(model: Model, label: Any) -> str | None:
    """A class in words; None for -1 and None."""
    if label is None or (not isinstance(label, str) and int(label) == -1):
        return None
    if isinstance(label, str):
        return label
    if int(label) < -1:
        raise UnknownName(f"the class {int(label)} is below 0: classes are counted from 0, and -1 is one not known")
    return model.label(int(label)) if isinstance(model, Classifier) else str(int(label))
