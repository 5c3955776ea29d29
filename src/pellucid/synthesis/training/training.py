"""What trainings of this family share: squares of photographs, files of weights, and going on after a kill."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ...checks import check_images
from ...files.atomic import write_tensors
from ...files.images import list_images, read_image
from ..ascent.progress import climbing

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


def read_tensors(path: Path, what: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `write_tensors` wrote.

    Raises:
        ValueError: if the file is something else than `what`.
        FileNotFoundError: if there is none.
    """
    import safetensors

    check_suffix(path, what)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file")
    try:
        with safetensors.safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {})["pellucid"])
            return {name: file.get_tensor(name) for name in file.keys()}, about  # noqa: SIM118
    except (safetensors.SafetensorError, KeyError, ValueError) as error:
        raise ValueError(f"{path} is no {what}: {error}") from error


def check_suffix(path: Path, what: str) -> None:
    """Refuse another ending than .safetensors."""
    if path.suffix != ".safetensors":
        raise ValueError(f"{path.name!r}: a {what} is kept in a file that ends in .safetensors")


def write_checkpoint(
    path: Path,
    state: Mapping[str, Tensor],
    optimizer: torch.optim.Adam,
    trained: Mapping[str, Tensor],
    about: Mapping[str, Any],
) -> None:
    """A training as it is: the state of its networks, and Adam's of each parameter that is trained."""
    tensors = dict(state)
    for name, parameter in trained.items():
        for key in ("exp_avg", "exp_avg_sq"):
            known = optimizer.state[parameter].get(key)
            tensors[f"adam.{key}.{name}"] = torch.zeros_like(parameter) if known is None else known
    write_tensors(path, tensors, about)


def read_checkpoint(
    path: Path, what: str, optimizer: torch.optim.Adam, trained: Mapping[str, Tensor], about: Mapping[str, Any]
) -> tuple[dict[str, Tensor], int]:
    """The state of the networks and the steps made; Adam's state is put back.

    Raises:
        ValueError: if the file is of another training than `about` says.
    """
    tensors, told = read_tensors(path, what)
    if {key: told.get(key) for key in about} != dict(about) or "steps" not in told:
        raise ValueError(
            f"{path} is of another training (other images, layers, weights, sizes or seed): give another checkpoint, "
            "or remove it"
        )
    done = int(told["steps"])
    for name, parameter in trained.items() if done else ():
        optimizer.state[parameter] = {
            "step": torch.tensor(float(done)),
            **{key: tensors[f"adam.{key}.{name}"].to(parameter.device) for key in ("exp_avg", "exp_avg_sq")},
        }
    return {name: value for name, value in tensors.items() if not name.startswith("adam.")}, done


def steps_in(checkpoint: Path) -> int:
    """How many steps a training had made when it wrote its checkpoint.

    Raises:
        ValueError: if the file is no checkpoint.
        FileNotFoundError: if there is none.
    """
    told = read_tensors(checkpoint, "checkpoint")[1]
    if not isinstance(told.get("steps"), int):
        raise ValueError(f"{checkpoint} is no checkpoint: it does not say how many steps were made")
    return int(told["steps"])


def descend(
    loss_of: Callable[[int], Tensor],
    trained: Mapping[str, Tensor],
    optimizer: torch.optim.Adam,
    *,
    done: int,
    steps: int,
    every: int,
    step: float,
    bar: str,
    before: Callable[[], None] = lambda: None,
    keep: Callable[[int], None],
    checkpoint: str | Path | None,
) -> None:
    """Go down a loss, from where a training is; Ctrl-C ends it and keeps what there is.

    The learning rate rises over the first tenth of the steps, 100 at the most, and falls as a cosine to a hundredth at
    the last: a constant one leaves ripples in what is painted.

    Args:
        loss_of: the loss of a step, by its number. trained: the parameters; their `.grad` is None afterwards.
        optimizer: of these parameters. done: steps made. steps: all. every: after how many it is kept.
        step: the highest learning rate. bar: what the progress bar calls the loss.
        before: called between the gradients and the step itself.
        keep: called with the steps made, to keep them. checkpoint: where, for the message.

    Raises:
        ValueError: if the loss became NaN.

    Warns:
        UserWarning: if it was interrupted.
    """
    interrupted, rising = False, max(1, min(100, steps // 10))
    try:
        with climbing(steps, "train", bar) as advance, torch.enable_grad():
            advance(done, None)
            while done < steps:
                loss = loss_of(done)
                if not loss.isfinite():
                    raise ValueError(f"the loss became NaN at step {done}: take a smaller step than {step:g}")
                slopes = torch.autograd.grad(loss, list(trained.values()))
                for parameter, slope in zip(trained.values(), slopes, strict=True):
                    parameter.grad = slope
                before()
                falling = 0.01 + 0.99 * (1 + math.cos(math.pi * done / steps)) / 2
                optimizer.param_groups[0]["lr"] = step * min(1.0, (done + 1) / rising) * falling
                optimizer.step()
                done += 1
                advance(1, loss)
                if done % every == 0 or done == steps:
                    keep(done)
    except KeyboardInterrupt:
        interrupted = True
        keep(done)
    if interrupted:
        kept = f"; the same again goes on from {checkpoint}" if checkpoint else ""
        warnings.warn(f"stopped after {done} of {steps} steps{kept}", stacklevel=3)
    for parameter in trained.values():
        parameter.grad = None
