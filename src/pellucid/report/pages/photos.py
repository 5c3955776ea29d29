"""Photos from files and folders, in one batch, with what is known of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ...files.atomic import short_names
from ...files.images import list_images
from ...model.batches import progress
from ...model.classifier import Classifier
from ...model.true_classes import Truth, true_classes


@dataclass(frozen=True, eq=False)
class Photos:
    """Images read from files.

    names: short ones, one for each image. images: N x C x H x W in [0, 1]. labels: N classes, where no truth is known
    the predicted ones. known: N booleans, whether it is. failures: names and reasons of files that could not be read.
    """

    names: tuple[str, ...]
    images: Tensor
    labels: Tensor
    known: Tensor
    failures: tuple[tuple[str, str], ...]


def photos(model: Classifier, paths: Sequence[str | Path], labels: Truth = "folders") -> Photos:
    """Read files and folders, leaving out and naming what cannot be read.

    Args:
        model: whose preprocessing and labels count.
        paths: files and folders, which are searched.
        labels: as for `pellucid.explain`.

    Raises:
        FileNotFoundError: for a path that does not exist or a folder without images.
        ValueError: if no file can be read, or images of a model of any size differ in size.

    >>> import pellucid, tempfile
    >>> from pellucid.files.images import write_image
    >>> file = Path(tempfile.mkdtemp(), "scene.png")
    >>> write_image(pellucid.shapes.scenes(1).images[0], file)
    >>> photos(pellucid.load("shapes"), [file]).names
    ('scene.png',)
    """
    files = list_images(*paths)
    read: list[Tensor] = []
    good: list[Path] = []
    failures: list[tuple[str, str]] = []
    with progress(len(files), "read") as advance:
        for file in files:
            try:
                read.append(model.read_one(file))
                good.append(file)
            except (ValueError, OSError, MemoryError) as error:
                failures.append((str(file), " ".join(str(error).split())))
            advance(1)
    if not read:
        raise ValueError(f"none of {len(files)} images can be read: {failures[0][1]}")
    if other := next((i for i, image in enumerate(read) if image.shape != read[0].shape), None):
        raise ValueError(
            f"{good[0]} is {' x '.join(map(str, read[0].shape))} and {good[other]} is "
            f"{' x '.join(map(str, read[other].shape))}: images that are attacked together have one size; say it "
            "with size="
        )
    images = torch.stack(read)
    true = true_classes(model, good, labels)
    predicted = model.predict(images, k=1).classes[:, 0].cpu()
    classes = torch.tensor([int(p) if t is None else t for p, t in zip(predicted, true, strict=True)])
    known = torch.tensor([t is not None for t in true])
    return Photos(tuple(short_names([str(file) for file in good])), images, classes, known, tuple(failures))
