"""An adversarial patch: a sticker that makes the network see one class, wherever it lies."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..display.figures import displayable
from ..files.atomic import atomic_write
from ..methods.result import Call
from ..methods.verb import verb
from ..model.batches import batched, progress
from ..model.classifier import Classifier
from ..model.run import Model, device_of
from ..objectives import Target
from .attack.batches import over_batches
from .attack.case import Case
from .attack.decorator import check_classes, check_pixels
from .attack.diagnostics import emit_warnings
from .attack.losses import cross_entropy
from .attack.result import Attack
from .attack.transformations import adjust_brightness, warp_onto

BETA1, BETA2 = 0.9, 0.999  # of Adam


@dataclass(frozen=True, eq=False, repr=False)
class Patch(Attack):
    """An `Attack` by a sticker: `patch`, C x h x w in [0, 1], and `mask`, 1 x h x w, 1 where it covers.

    The images are the originals with the patch in a place of its own on each.
    """

    patch: Tensor = field(repr=False, default_factory=lambda: torch.empty(0))
    mask: Tensor = field(repr=False, default_factory=lambda: torch.empty(0))

    def print_to(self, path: str | Path, *, centimetres: float = 10.0, dots: int = 300) -> Path:
        """Write the patch to print and cut out: white outside, of that width on paper.

        Args:
            path: a .png or .pdf file.
            centimetres: its width on paper.
            dots: per inch.

        Raises:
            ValueError: for another ending, or a width that is not above 0.
            OSError: if the file cannot be written.
        """
        from PIL import Image

        path = Path(path)
        if path.suffix.lower() not in (".png", ".pdf"):
            raise ValueError(f"cannot print to {path.name!r}: expected .png or .pdf")
        if not centimetres > 0 or dots < 1:
            raise ValueError(f"centimetres is {centimetres:g} and dots is {dots}, expected a width above 0")
        side = max(1, round(centimetres / 2.54 * dots))
        shown = displayable(self.patch[None])[0] * self.mask + (1 - self.mask)
        pixels = (shown.permute(1, 2, 0) * 255).round().byte().cpu().numpy()
        picture = Image.fromarray(pixels).resize((side, side), Image.Resampling.LANCZOS)
        with atomic_write(path) as part:
            picture.save(part, dpi=(dots, dots), resolution=dots)
        return path


@verb(paper="Brown, Mane, Roy, Abadi & Gilmer 2017, Adversarial patch")
def patch(
    model: Model,
    images: Tensor,
    labels: Target = None,
    *,
    target: Target,
    size: float = 0.4,
    steps: int = 200,
    step_size: float = 0.05,
    scales: tuple[float, float] = (0.8, 1.2),
    angle: float = 20.0,
    light: float = 0.1,
    round: bool = True,
    seed: int = 0,
) -> Patch:
    """A sticker that makes the network see one class, wherever it lies (expectation over transformations).

    Maximizes the mean of log p(target) over images, places, sizes, angles and light of the patch, drawn anew at every
    step, by Adam on its pixels, which are clipped to [0, 1].

    Args:
        model: a network or a `Classifier`.
        images: N x C x H x W in [0, 1], on which it is tried.
        labels: the right classes, for the record; None is the predicted class.
        target: the class to be taken for, by index or label.
        size: the side of the patch as a share of the shorter side of the images, in (0, 1].
        steps: of Adam, each over all images.
        step_size: of Adam, in units of pixels.
        scales: the patch is between so many times smaller and larger.
        angle: it is turned by up to so many degrees either way.
        light: brightness and contrast vary by up to that share.
        round: a disc, or a square.
        seed: for the transformations.

    Returns:
        A `Patch`: an `Attack` with the patch, which `print_to` writes for a printer.

    Raises:
        ValueError: for images outside [0, 1], a size outside (0, 1], or fewer than 1 step.
        ModelError: if the network has no gradient.

    Brown, Mane, Roy, Abadi & Gilmer 2017, Adversarial patch; Athalye, Engstrom, Ilyas & Kwok 2018, Synthesizing
    robust adversarial examples.

    >>> import pellucid
    >>> model, scenes = pellucid.load("shapes"), pellucid.shapes.scenes(2)
    >>> result = pellucid.patch(model, scenes.images, target="star", steps=2)
    >>> result.patch.shape
    torch.Size([3, 38, 38])
    """
    low, high = check_pixels(model, images, None)
    if not 0 < size <= 1 or steps < 1 or not step_size > 0:
        raise ValueError(f"size is {size:g}, steps is {steps}, step_size is {step_size:g}; expected (0, 1], 1 or more, "
                         "and a length above 0")  # fmt: skip
    if not 0 < scales[0] <= scales[1] or size * scales[1] > 1:
        raise ValueError(f"scales is {scales!r} and size {size:g}: the patch must fit into the image at its largest")
    right, goal = check_classes(model, labels, target, len(images))
    assert goal is not None
    device, source = device_of(model) or images.device, torch.Generator().manual_seed(seed)
    side = max(2, int(size * min(images.shape[2:])))
    made = torch.full((images.shape[1], side, side), 0.5, device=device, dtype=images.dtype)
    first, second = torch.zeros_like(made), torch.zeros_like(made)
    views = _views(images, source, size, scales, angle, light)
    with progress(steps + 1, "patch", unit="step") as advance:
        for number in range(steps):
            view, total = next(views), torch.zeros_like(made)

            def step(
                part: slice, view: list[dict[str, Any]] = view, total: Tensor = total, made: Tensor = made
            ) -> None:
                x = images[part].detach().to(device)
                places = torch.arange(len(x), device=device)
                aims = goal[part].to(device)
                case = Case(model, x, aims, aims, low, high, seed, 0 * places, places, lambda _: None)
                with torch.enable_grad():
                    leaf = made.detach().requires_grad_()
                    covered = _covered(x, leaf, view[part], round)
                # Two gradients in a row: the network's of the images, then the picture's of the patch.
                slope, _, _ = case.gradient(covered.detach(), cross_entropy)
                (back,) = torch.autograd.grad(covered, leaf, slope)
                total += back

            batched(step, len(images), like=images, device=device)
            first = BETA1 * first + (1 - BETA1) * total
            second = BETA2 * second + (1 - BETA2) * total.square()
            scaled = (second / (1 - BETA2 ** (number + 1))).sqrt() + 1e-12
            made = (made + step_size * first / (1 - BETA1 ** (number + 1)) / scaled).clamp(low, high)
            advance(1)
        last = next(views)
        covered = torch.cat(
            [_covered(images[i : i + 1].to(device), made, last[i : i + 1], round) for i in range(len(images))]
        )
        fields = emit_warnings(over_batches(
            _looked_up(covered), model, images.detach(), right, goal,
            budget=(None, "linf"), bounds=(low, high), seed=seed, keep=False, name="patch",
        ))  # fmt: skip
        advance(1)
    record = Call(
        options={"size": size, "steps": steps, "step_size": step_size, "scales": tuple(scales), "angle": angle,
                 "light": light, "round": round, "seed": seed},
        objective=f"to {model.label(int(goal[0])) if isinstance(model, Classifier) else int(goal[0])}",
    )  # fmt: skip
    _, mask = warp_onto((side, side), made, scale=1, angle=0, y=0, x=0, round_=round)
    names = model.labels if isinstance(model, Classifier) else ()
    return Patch(
        originals=images.detach(), names=names, call=record, patch=made.to(images.device), mask=mask.to(images.device),
        **fields,
    )  # fmt: skip


def _views(
    images: Tensor, source: torch.Generator, size: float, scales: tuple[float, float], angle: float, light: float
) -> Iterator[list[dict[str, Any]]]:
    """Where and how the patch lies in each image, drawn again and again."""
    height, width = images.shape[2:]
    while True:
        draws = torch.rand(len(images), 6, generator=source, dtype=torch.float64).tolist()
        views = []
        for a, b, c, d, e, f in draws:
            scale = size * scales[0] * (scales[1] / scales[0]) ** a
            room = [max(0.0, 1 - scale * min(height, width) / side) for side in (height, width)]
            views.append({
                "scale": scale, "angle": math.radians(angle) * (2 * b - 1),
                "y": room[0] * (2 * c - 1), "x": room[1] * (2 * d - 1),
                "brightness": light * (2 * e - 1), "contrast": 1 + light * (2 * f - 1),
            })  # fmt: skip
        yield views


def _covered(images: Tensor, made: Tensor, views: list[dict[str, Any]], round_: bool) -> Tensor:
    """The images with the patch on each, in its view."""
    out = []
    for image, view in zip(images, views, strict=True):
        place = {key: view[key] for key in ("scale", "angle", "y", "x")}
        shown, mask = warp_onto((image.shape[1], image.shape[2]), made, round_=round_, **place)
        shown = adjust_brightness(shown, brightness=view["brightness"], contrast=view["contrast"])
        out.append(image * (1 - mask) + shown * mask)
    return torch.stack(out)


def _looked_up(found: Tensor) -> Any:
    """The work of a case whose images are known: they come slice by slice, in order."""
    done = 0

    def work(case: Case) -> Tensor:
        nonlocal done
        rows = done + case.places
        done += len(case.queries)
        return found[rows]

    return work
