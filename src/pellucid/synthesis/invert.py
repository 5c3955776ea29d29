"""Inversion: an image that a layer takes for a given one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..checks import check_images
from ..model.classifier import Classifier
from ..model.run import Model, run
from ..model.run import layer as find
from .ascent.decorator import synthesis
from .ascent.plan import OptimizerSpec, Plan
from .ascent.problem import STEPS, build_problem, check_ascent, mean_color, optimize
from .ascent.result import Synthesis
from .ingredients.canvas import Parametrization
from .ingredients.objectives import content
from .ingredients.parametrizations import Fourier
from .ingredients.penalties import Penalty, lp, total_variation
from .ingredients.transforms import Transform


@synthesis(paper="Mahendran & Vedaldi 2015, Understanding deep image representations by inverting them")
def invert(
    model: Model,
    images: Tensor,
    layer: str | Sequence[str],
    *,
    variation: float = 1e-3,
    beta: float = 2.0,
    alpha: float = 6.0,
    bound: float = 1e-4,
    photos: Tensor | None = None,
    start: str | Tensor = "noise",
    parametrization: Parametrization | None = None,
    optimizer: OptimizerSpec = "adam",
    step_size: float | None = None,
    steps: int = 300,
    transforms: Transform | Sequence[Transform] = (),
    record_every: int = 0,
    seed: int = 0,
) -> Synthesis:
    """What a layer keeps of an image: another image with the same activation there, otherwise as plain as can be.

    Minimizes |a - b|^2 / |b|^2 + variation V + bound A, with a and b the activations of the image that is made and
    of the given one, V the total variation ((dx^2 + dy^2)^(beta / 2) on average over the pixels, in units of their
    range) and A the average of |x - mean|^alpha. What differs between the two images, the layer does not see.

    Args:
        model: a network or a `Classifier`.
        images: N x C x H x W.
        layer: its name; with several, each is inverted for the first image, for a figure over all of a network.
        variation, beta: weight and exponent of the total variation; weight 0 is without it.
        alpha, bound: exponent and weight of the norm that keeps pixels near the mean color; weight 0 is without it.
        photos: images whose average distance from one another at the layer is the unit of the error, as in the
            paper; |b| by default.
        start, parametrization, optimizer, step_size, steps, transforms, record_every, seed: as for `maximize`;
            frequencies by default.

    Returns:
        A `Synthesis`; error: N, |a - b| of the image as it is, in units of |b| or of the photos' distance.

    Raises:
        ValueError: for a weight below 0, or what `maximize` refuses.
        UnknownName: for a layer that does not exist.

    >>> import pellucid
    >>> model, scenes = pellucid.load("shapes"), pellucid.shapes.scenes(1)
    >>> result = pellucid.invert(model, scenes.images, "features.1", steps=5)
    >>> result.images.shape, result.error.shape
    (torch.Size([1, 3, 96, 96]), torch.Size([1]))
    """
    check_images(
        images, channels=model.preprocessing.channels if isinstance(model, Classifier) else None,
        pixels=isinstance(model, Classifier),
    )  # fmt: skip
    if min(variation, bound) < 0:
        raise ValueError(f"variation and bound are {variation} and {bound}, expected weights from 0")
    names = [layer] if isinstance(layer, str) else list(layer)
    if not names:
        raise ValueError("there are no layers: name at least one")
    for name in names:  # all of them, before the first is worked on
        find(model, name)
    if len(names) > 1:
        images = images[:1]
    # Centered on the image's range: a bare network's pixels are taken as they are, of deviation about 1.
    span = 1.0 if isinstance(model, Classifier) else float(images.max() - images.min()) or 1.0
    size = images[0].numel()
    penalties: list[Penalty] = []
    if variation:
        penalties.append(total_variation(variation / size * (10 / span) ** beta, beta))
    if bound:
        middle = mean_color(model, images)
        penalties.append(lp(bound / size * (2 / span) ** alpha, alpha, center=middle.view(-1)))
    bounds = (0.0, 1.0) if isinstance(model, Classifier) else None
    chosen = parametrization or Fourier(bounds=bounds)
    parts = []
    for number, name in enumerate(names):
        label = f"invert {name}" if len(names) == 1 else f"invert {name} ({number + 1} of {len(names)})"
        problem = build_problem(model, content(name, images), start, tuple(images.shape[1:]), len(images), chosen)
        edited = (transforms,) if isinstance(transforms, Transform) else tuple(transforms)
        length = STEPS.get(str(optimizer), {}).get(type(chosen), 1.0) if step_size is None else step_size
        check_ascent(problem, optimizer, step_size, steps, penalties, edited, record_every)
        found = optimize(
            problem, Plan(steps, length, optimizer, edited, seed, record_every, label, best=True), penalties
        )
        error = _distance(model, found.images, images, name, photos)
        title = name if len(names) > 1 else found.titles[0]
        parts.append(replace(found, error=error, titles=(title,) * len(found.images)))
        if found.interrupted:
            break
    return _joined(parts)


def _distance(model: Model, made: Tensor, images: Tensor, layer: str, photos: Tensor | None) -> Tensor:
    with torch.no_grad():
        a, b = (run(model, x, read=[layer], to_output=False).activations[layer].flatten(1) for x in (made, images))
        away: Tensor = (a - b).norm(dim=1)
        if photos is None:
            unit = b.norm(dim=1).clamp(min=1e-30)
            return away.div(unit)
        check_images(photos)
        if len(photos) < 2:
            raise ValueError("photos: their average distance is the unit of the error, give at least two")
        others = run(model, photos, read=[layer], to_output=False).activations[layer].flatten(1)
        return away.div(torch.pdist(others.float()).mean().to(away))


def _joined(parts: Sequence[Synthesis]) -> Synthesis:
    first = parts[0]
    if len(parts) == 1:
        return first
    length = min(part.history.shape[1] for part in parts)

    def stack(name: str) -> Tensor:
        values = [getattr(part, name) for part in parts]
        return torch.cat([v[:, :length] if name in ("history", "penalties") else v for v in values])

    together: dict[str, Any] = {
        name: stack(name) for name in ("images", "values", "history", "penalties", "zero_gradient", "error")
    }
    frames = [part.frames for part in parts if part.frames is not None]
    same = len({f.shape[1] for f in frames}) == 1 and len(frames) == len(parts)
    return replace(
        first,
        **together,
        frames=torch.cat(frames) if same else None,
        titles=tuple(title for part in parts for title in part.titles),
        steps=min(part.steps for part in parts),
        interrupted=any(part.interrupted for part in parts),
    )
