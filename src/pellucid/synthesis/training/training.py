"""What trainings of this family share: squares of photographs, and the way down the loss."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from ...checks import check_images
from ...files.images import list_images, read_image
from ...model.training import Checkpoint, descend, resumed

Photos = Tensor | str | Path | Sequence[str | Path]


class Squares:
    """Random squares of random photographs.

    Args:
        photos: images N x C x H x W in [0, 1], or files and folders.
        size: side of the squares.
        channels: of the images.
        room: how much longer than the square the shorter side of a file is made, so that squares differ.
        mirror: whether half of them are mirrored.
    """

    def __init__(self, photos: Photos, size: int, channels: int, *, room: float = 1.15, mirror: bool = True) -> None:
        self.size, self.channels, self.room, self.mirror = size, channels, room, mirror
        self.photos: Tensor | list[Path]
        if isinstance(photos, Tensor):
            check_images(photos, channels=channels, pixels=True)
            self.photos = photos
        else:
            self.photos = list_images(*([photos] if isinstance(photos, (str, Path)) else photos))
        if not len(self.photos):
            raise ValueError("there are no photos to learn from")

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """count x C x size x size, float32 on the CPU."""
        chosen = []
        for index in torch.randint(len(self.photos), (count,), generator=generator).tolist():
            image = self._photo(index)
            y, x = (int(torch.randint(side - self.size + 1, (), generator=generator)) for side in image.shape[1:])
            image = image[:, y : y + self.size, x : x + self.size]
            flip = self.mirror and bool(torch.rand((), generator=generator) < 0.5)
            chosen.append(image.flip(2) if flip else image)
        return torch.stack(chosen).detach().float().cpu()

    def _photo(self, index: int) -> Tensor:
        if isinstance(self.photos, Tensor):
            image = self.photos[index]
        else:
            image = read_image(self.photos[index], resize=round(self.size * self.room), channels=self.channels)
        if min(image.shape[1:]) < self.size:
            factor = self.size / min(image.shape[1:])
            sides = [max(self.size, round(side * factor)) for side in image.shape[1:]]
            image = F.interpolate(image[None], sides, mode="bilinear", align_corners=False)[0]
        return image


def train(
    loss_of: Callable[[int], Tensor],
    trained: Mapping[str, Tensor],
    *,
    steps: int,
    step: float,
    kept: Checkpoint | None,
    before: Callable[[], None] = lambda: None,
    word: str = "loss",
) -> None:
    """Go down a loss with Adam, from where a training is; Ctrl-C ends it and keeps what there is.

    The learning rate rises over the first tenth of the steps, 100 at the most, and falls as a cosine to a hundredth at
    the last: a constant one leaves ripples in what is painted.

    Args:
        loss_of: the loss of a step, by its number.
        trained: the parameters by name.
        steps: all. step: the highest learning rate.
        kept: where the training is kept.
        before: called between the gradients and the step itself.
        word: what the progress bar calls the loss.

    Raises:
        ValueError: if the loss became NaN.
        OtherWork: if what is kept there is another training.

    Warns:
        UserWarning: if it was interrupted.
    """
    optimizer = torch.optim.Adam(trained.values(), lr=step)
    done, rising = resumed(kept, optimizer), max(1, min(100, steps // 10))

    def finite(number: int) -> Tensor:
        loss = loss_of(number)
        if not loss.isfinite():
            raise ValueError(f"the loss became NaN at step {number}: take a smaller step than {step:g}")
        return loss

    def rate(number: int) -> None:
        before()
        falling = 0.01 + 0.99 * (1 + math.cos(math.pi * number / steps)) / 2
        optimizer.param_groups[0]["lr"] = step * min(1.0, (number + 1) / rising) * falling

    def count(made: int, _: Tensor) -> None:
        nonlocal done
        done = made

    try:
        descend(finite, trained.values(), optimizer, steps, done=done, before=rate, after=count, kept=kept, word=word)
    except KeyboardInterrupt:
        goes_on = f"; the same again goes on from {kept.path}" if kept else ""
        warnings.warn(f"stopped after {done} of {steps} steps{goes_on}", stacklevel=3)
