"""The mean log-spectrum of any number of images, and how far they lie from it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from ...checks import check_images
from ...files.atomic import file_fingerprint
from ...files.images import list_images
from ...files.tensors import read_work, write_tensors
from ...model.batches import batched
from ...model.training import EVERY
from ...runfolder import hash_of
from ..image_files.pixels import Reading, at_once, each_image
from .fourier import EPS, azimuthal_average, check_eps, half_spectrum, row_average, whole_spectrum
from .moments import Moments

Images = Tensor | str | Path | Sequence[str | Path]
Read = tuple[int, Tensor | None, str]  # the number of a file, its image or the reason why there is none
_ROWS = 32  # images whose spectra are held at once, at most
_KIND = "the mean of spectra on its way"


@dataclass(frozen=True, eq=False)
class AverageSpectrum:
    """The mean over images of their log-spectra, and of two curves of each, in float64.

    mean, std: C x H x W, frequency 0 in the middle. rows, rows_std: C x W, of each image's mean over the rows, by
    horizontal frequency. circles, circles_std: C x R, of each image's mean over all directions, by frequency. The
    standard deviations are those over the images.
    count: how many images. failures: files that could not be read, and why.
    """

    mean: Tensor = field(repr=False)
    std: Tensor = field(repr=False)
    rows: Tensor = field(repr=False)
    rows_std: Tensor = field(repr=False)
    circles: Tensor = field(repr=False)
    circles_std: Tensor = field(repr=False)
    count: int
    failures: tuple[tuple[str, str], ...] = ()

    def __repr__(self) -> str:
        return f"AverageSpectrum({' x '.join(map(str, self.mean.shape))}, {self.count} images)"


def average_spectrum(
    images: Images,
    *,
    eps: float = EPS,
    reading: Reading | None = None,
    size: tuple[int, int] | None = None,
    checkpoint: str | Path | None = None,
    label: str = "spectra",
) -> AverageSpectrum:
    """The mean and the standard deviation of log-spectra, image after image, in memory that does not grow.

    Args:
        images: files and folders, or N x C x H x W.
        eps: as for `log_spectrum`.
        reading: how files become pixels. size: height and width that they must have.
        checkpoint: a .safetensors file that the sums are kept in, every few seconds and when it is interrupted; the
            same call goes on from it.
        label: what the progress bar says.

    Raises:
        OtherWork: for a checkpoint of other files or options.
        ValueError: for images of different sizes, or none that can be read.

    >>> import torch
    >>> average_spectrum(torch.rand(5, 3, 8, 8))
    AverageSpectrum(3 x 8 x 8, 5 images)
    """
    check_eps(eps)
    if isinstance(images, Tensor):
        return _of_tensor(images, eps, label)
    files = list_images(*([images] if isinstance(images, (str, Path)) else images))
    reading = reading or Reading()
    recipe = _recipe(files, eps, reading, size) if checkpoint is not None else ""
    state = _Sums()
    if checkpoint is not None and Path(checkpoint).exists():
        state = _resumed(Path(checkpoint), recipe)
    kept, written = state.seen, time.perf_counter()
    try:
        for group in _groups(files, state, reading, size, label):
            state = state.add(group, files, eps)
            if checkpoint is not None and time.perf_counter() - written >= EVERY:
                state.write(Path(checkpoint), recipe)
                kept, written = state.seen, time.perf_counter()
    finally:
        if checkpoint is not None and state.seen > kept:
            state.write(Path(checkpoint), recipe)
    if not state.whole.count:
        raise ValueError(f"none of {len(files)} images can be read: {state.failures[0][1]}")
    return state.found()


@dataclass(frozen=True)
class _Sums:
    """What has been added up so far; replaced as one, so that an interruption finds it consistent.

    seen: how many files are done. width: W of the images.
    """

    seen: int = 0
    width: int = 0
    whole: Moments = field(default_factory=Moments)
    rows: Moments = field(default_factory=Moments)
    circles: Moments = field(default_factory=Moments)
    failures: tuple[tuple[str, str], ...] = ()

    def add(self, group: Sequence[Read], files: Sequence[Path], eps: float) -> _Sums:
        images = [image for _, image, _ in group if image is not None]
        failed = tuple((str(files[number]), reason) for number, image, reason in group if image is None)
        state = replace(self, seen=group[-1][0] + 1, failures=self.failures + failed)
        if not images:
            return state
        # The 8 bits of the file, to all digits: log |F| of a small F would show the rounding of float32.
        return state.add_images(torch.stack(images).double().mul_(255).round_().div_(255), eps)

    def add_images(self, images: Tensor, eps: float) -> _Sums:
        half, width = half_spectrum(images.double(), eps), images.shape[3]
        rows, circles = row_average(half, width), azimuthal_average(half, width)
        return replace(
            self, width=width, whole=self.whole.add(half), rows=self.rows.add(rows), circles=self.circles.add(circles)
        )

    def found(self) -> AverageSpectrum:
        (mean, std), rows, circles = self.whole.both(), self.rows.both(), self.circles.both()
        mean, std = (whole_spectrum(half, self.width, shift=True) for half in (mean, std))
        return AverageSpectrum(mean, std, *rows, *circles, self.whole.count, self.failures)

    def write(self, path: Path, recipe: str) -> None:
        tensors: dict[str, Tensor] = {}
        for name in _SUMS if self.whole.count else ():
            moments = getattr(self, name)
            tensors |= {f"{name}.mean": moments.mean, f"{name}.squares": moments.squares}
        about = {"recipe": recipe, "seen": self.seen, "count": self.whole.count, "width": self.width}
        write_tensors(path, _KIND, tensors, {**about, "failures": self.failures})


_SUMS = ("whole", "rows", "circles")


def _resumed(path: Path, recipe: str) -> _Sums:
    tensors, about = read_work(path, _KIND, recipe, "of other files, or of another eps, crop or size")
    sums = {}
    if count := about["count"]:
        sums = {name: Moments(count, tensors[f"{name}.mean"], tensors[f"{name}.squares"]) for name in _SUMS}
    failures = tuple((name, reason) for name, reason in about["failures"])
    return _Sums(about["seen"], about["width"], failures=failures, **sums)


def _groups(
    files: Sequence[Path], state: _Sums, reading: Reading, size: tuple[int, int] | None, label: str
) -> Iterator[list[Read]]:
    """What was read from the files that are not done yet, some at a time."""
    start = state.seen
    if state.whole.mean is not None and size is None:
        size = (state.whole.mean.shape[1], state.width)
    group: list[Read] = []
    for place, image, reason in each_image(files[start:], reading, size=size, label=label):
        group.append((start + place, image, reason))
        rows = _ROWS if image is None else at_once(image.numel(), _ROWS)
        if len(group) >= rows or start + place + 1 == len(files):
            yield group
            group = []


def _of_tensor(images: Tensor, eps: float, label: str) -> AverageSpectrum:
    check_images(images)
    sums = _Sums()

    def step(part: slice) -> None:
        nonlocal sums
        sums = sums.add_images(images[part].detach(), eps)

    batched(step, len(images), like=images, label=label)
    return sums.found()


def _recipe(files: Sequence[Path], eps: float, reading: Reading, size: tuple[int, int] | None) -> str:
    return hash_of([eps, str(reading), size, *[[str(file), *file_fingerprint(str(file))] for file in files]])
