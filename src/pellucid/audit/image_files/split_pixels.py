"""The pixels of the three sets of a split, with no picture in two of them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from .file_classes import LabeledFiles, Split
from .pixels import Pixels, Reading, read_pixels

Pairs = list[tuple[str, str]]


def read_apart(parts: Split, reading: Reading) -> tuple[tuple[Pixels, Tensor], tuple[Pixels, Tensor], Pairs, Pairs]:
    """Training and validation images with their classes, without what is in a later set too; failures; duplicates."""
    sets = (parts.train, parts.validation, parts.test)
    size: tuple[int, int] | None = None
    read: list[Pixels] = []
    for files, name in zip(sets, ("train", "validation", "test"), strict=True):
        pixels = read_pixels(files.files, reading, size=size, label=f"read, {name}")
        size = (pixels.values.shape[2], pixels.values.shape[3])
        read.append(pixels)
    failures = [pair for pixels in read for pair in pixels.failures]
    if failures:
        warnings.warn(
            f"{len(failures)} of the files cannot be read and are left out, the first: {': '.join(failures[0])}",
            stacklevel=3,
        )
    _warn_of_two_classes(sets, read)
    duplicates: Pairs = []
    later: dict[str, Path] = {}
    kept: list[tuple[Pixels, Tensor]] = []
    for files, pixels in reversed(list(zip(sets, read, strict=True))):
        names = [files.files[row] for row in pixels.rows]
        twice = [digest in later for digest in pixels.digests]
        duplicates += [(str(f), str(later[d])) for f, d, two in zip(names, pixels.digests, twice, strict=True) if two]
        later.update(zip(pixels.digests, names, strict=True))
        keep = [i for i, two in enumerate(twice) if not two]
        labels = torch.tensor([files.labels[pixels.rows[i]] for i in keep])
        missing = [name for number, name in enumerate(files.classes) if number not in set(labels.tolist())]
        if missing and files is not parts.test:
            raise ValueError(
                f"no image of class {missing[0]!r} is left to train or validate on: {len(failures)} files cannot be "
                f"read, and {sum(twice)} are pictures that are in another set too"
            )
        if any(twice):
            rows = tuple(pixels.rows[i] for i in keep)
            pixels = replace(pixels, values=pixels.values[keep], rows=rows, digests=())
        kept.append((pixels, labels))
    if duplicates:
        warnings.warn(
            f"{len(duplicates)} of the pictures are in two of the three sets and left out of the earlier one, the "
            f"first: {duplicates[0][0]} is {duplicates[0][1]}",
            stacklevel=3,
        )
    return kept[2], kept[1], failures, duplicates


def _warn_of_two_classes(sets: Sequence[LabeledFiles], read: Sequence[Pixels]) -> None:
    known: dict[str, tuple[int, Path]] = {}
    found: list[tuple[Path, Path]] = []
    for files, pixels in zip(sets, read, strict=True):
        for row, digest in zip(pixels.rows, pixels.digests, strict=True):
            label, other = known.setdefault(digest, (files.labels[row], files.files[row]))
            if label != files.labels[row]:
                found.append((files.files[row], other))
    if found:
        warnings.warn(
            f"{len(found)} of the pictures are of two classes, which nothing can tell apart, the first: {found[0][0]} "
            f"is {found[0][1]}",
            stacklevel=4,
        )
