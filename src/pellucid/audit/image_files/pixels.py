"""The pixels of many files of one size, read once."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...files.images import Size, UnreadableImage, read_image
from ...model.batches import progress

IN_MEMORY = 512 * 2**20  # bytes of pixels; more are kept in a temporary file, which the system pages in and out


@dataclass(frozen=True)
class Reading:
    """How files become pixels.

    crop: the square (or height and width) that is cut from the center, after resizing; its pixels stay as they are.
    resize: the shorter side, or height and width; bilinear. It changes the spectrum. channels: 3, or 1 for gray.
    """

    crop: Size | None = None
    resize: Size | None = None
    channels: int = 3

    def one(self, path: Path) -> Tensor:
        """C x H x W in [0, 1], as 8 bits know them: deeper files are rounded to 8."""
        image = read_image(path, resize=self.resize, crop=self.crop, channels=self.channels)
        return image.mul(255).round_().div_(255)


@dataclass(frozen=True, eq=False)
class Pixels:
    """Images in 8 bits.

    values: N x C x H x W, 0 to 255. rows: the number of the file of each. failures: files that could not be read, and
    why. digests: one text for each image; the same where all pixels are the same.
    """

    values: Tensor = field(repr=False)
    rows: tuple[int, ...] = field(repr=False)
    failures: tuple[tuple[str, str], ...] = ()
    digests: tuple[str, ...] = field(repr=False, default=())

    def __len__(self) -> int:
        return len(self.rows)

    def images(self, which: Tensor | slice, device: torch.device | None = None) -> Tensor:
        """Some of the images, float32 in [0, 1]."""
        return self.values[which].to(device).float().div_(255)


def read_pixels(
    files: Sequence[Path], reading: Reading | None = None, *, size: tuple[int, int] | None = None, label: str = "read"
) -> Pixels:
    """Read files of one size, leaving out and naming what cannot be read.

    Args:
        files: paths. reading: how. size: height and width that they must have; by default that of the first.
        label: what the progress bar says.

    Raises:
        ValueError: if none can be read, or sizes differ.

    >>> import tempfile
    >>> from pellucid.files.images import write_image
    >>> file = Path(tempfile.mkdtemp(), "gray.png")
    >>> write_image(torch.full((3, 4, 6), 0.2), file)
    >>> read_pixels([file]).values[0, 0, 0, 0]
    tensor(51, dtype=torch.uint8)
    """
    reading = reading or Reading()
    values: Tensor | None = None
    good: list[int] = []
    digests: list[str] = []
    failures: list[tuple[str, str]] = []
    for number, image, reason in each_image(files, reading, size=size, label=label):
        if image is None:
            failures.append((str(files[number]), reason))
            continue
        if values is None:
            values = _room((len(files), *image.shape))
        pixels = image.mul(255).round_().byte()
        values[len(good)] = pixels
        good.append(number)
        digests.append(hashlib.blake2b(pixels.numpy().tobytes(), digest_size=16).hexdigest())
    if values is None:
        raise ValueError(f"none of {len(files)} images can be read: {failures[0][1] if failures else 'there are none'}")
    return Pixels(values[: len(good)], tuple(good), tuple(failures), tuple(digests))


def each_image(
    files: Sequence[Path], reading: Reading, *, size: tuple[int, int] | None = None, label: str = "read"
) -> Iterator[tuple[int, Tensor | None, str]]:
    """One file after another: its number, and its image or the reason why it has none.

    Raises:
        ValueError: if sizes differ.
    """
    first = ""
    with progress(len(files), label) as advance:
        for number, file in enumerate(files):
            image, reason = None, ""
            try:
                image = reading.one(file)
            except (UnreadableImage, OSError, MemoryError) as error:
                reason = " ".join(str(getattr(error, "reason", error)).split())
            if image is not None:
                here = (image.shape[1], image.shape[2])
                if size is None:
                    size, first = here, file.name
                check_size(file, here, size, first)
            yield number, image, reason
            advance(1)


def at_once(numbers: int, most: int) -> int:
    """How many images of so many numbers are worked on at once: at most 64 MiB of them as float32.

    >>> at_once(3 * 128 * 128, 64), at_once(3 * 1024 * 1024, 64), at_once(3 * 8000 * 6000, 64)
    (64, 5, 1)
    """
    return max(1, min(most, 2**24 // numbers))


def check_size(file: Path, here: tuple[int, int], size: tuple[int, int], first: str = "") -> None:
    """Refuse an image whose height and width are not those of the others."""
    if here != size:
        other = f"and {first} is" if first else "expected"
        raise ValueError(
            f"{file} is {here[1]} x {here[0]}, {other} {size[1]} x {size[0]}: spectra of different sizes have other "
            "frequencies. Cut all to one size with crop, which keeps pixels as they are (resize would leave its own "
            "traces in the spectrum)"
        )


def _room(shape: tuple[int, ...]) -> Tensor:
    """Bytes of that shape: in memory, or in a temporary file that is gone with them."""
    if int(np.prod(shape)) <= IN_MEMORY:
        return torch.empty(shape, dtype=torch.uint8)
    with tempfile.TemporaryFile() as file:
        return torch.from_numpy(np.memmap(file, dtype=np.uint8, mode="w+", shape=shape))
