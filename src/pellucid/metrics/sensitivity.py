"""How far a map moves when the image barely does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..attribution.ingredients.noise import uniform_noise
from ..methods.registry import find
from ..methods.result import Attribution
from ..methods.verb import verb
from ..model.batches import progress
from ..model.classifier import Classifier
from ..model.run import Model
from ..objectives import ObjectiveLike
from .inputs import resolve_target

Explains = Callable[..., Attribution | Tensor]


@verb(
    kind="metric",
    paper=("Yeh, Hsieh, Suggala, Inouye & Ravikumar 2019, On the (in)fidelity and sensitivity of explanations"),
)
def sensitivity_max(
    model: Model,
    images: Tensor,
    method: str | Explains,
    objective: ObjectiveLike = None,
    *,
    radius: float = 0.02,
    samples: int = 10,
    seed: int = 0,
    values: Attribution | Tensor | None = None,
    **options: Any,
) -> Tensor:
    """The largest change of a map, of its own length, over images within a small distance.

    max over y with |y - x| <= radius (each pixel) of ||v(y) - v(x)|| / ||v(x)||, looked for at random.

    Paper: Yeh, Hsieh, Suggala, Inouye & Ravikumar 2019, On the (in)fidelity and sensitivity of explanations.

    Args:
        model: a network or a `Classifier`, whose images stay within [0, 1].
        images: N x C x H x W.
        method: a name in the catalogue, or a function of model, images and objective.
        objective: what is explained; None is the class predicted for the image itself, also for those around it.
        radius: how far each pixel may move.
        samples: how many images around each.
        seed: of the images around, and of methods that are random: the same for all.
        values: the map of the images themselves, if it is there already.
        options: of the method.

    Returns:
        N numbers, 0 or more, lower is steadier; 0 for a map of zeros.

    Raises:
        UnknownName: for a method that does not exist.
        ValueError: for a radius that is not above 0, fewer than 1 sample, or what the method refuses.

    >>> import pellucid
    >>> model, images = pellucid.load("shapes"), pellucid.shapes.scenes(1).images
    >>> sensitivity_max(model, images, "saliency", samples=2).shape
    torch.Size([1])
    """
    if not 0 < radius < float("inf"):
        raise ValueError(f"radius is {radius!r}, expected a number above 0, in units of the images")
    if not isinstance(samples, int) or samples < 1:
        raise ValueError(f"samples is {samples!r}, expected a whole number of at least 1")
    explain = explainer(method, seed, options)
    images = images.detach()
    target = resolve_target(model, images, objective)
    pixels = isinstance(model, Classifier)
    draw = uniform_noise(images, seed)
    first = explain(model, images, target) if values is None else values
    start = (first.values if isinstance(first, Attribution) else first).double().flatten(1)
    most = torch.zeros(len(images), dtype=torch.float64, device=start.device)
    with progress(samples * len(images), "sensitivity") as advance:
        for number in range(samples):
            moved = images + radius * (2 * draw(torch.tensor([number])) - 1)
            moved = torch.maximum(torch.minimum(moved, images + radius), images - radius)  # also after rounding
            found = explain(model, moved.clamp(0, 1) if pixels else moved, target)
            there = (found.values if isinstance(found, Attribution) else found).double().flatten(1)
            most = torch.maximum(most, (there.to(start) - start).norm(dim=1))
            advance(len(images))
    length = start.norm(dim=1)
    return torch.where(length > 0, most / torch.where(length > 0, length, 1), 0).float()


def explainer(method: str | Explains, seed: int, options: dict[str, Any]) -> Explains:
    """A method by its name, or a function, with its options.

    Raises:
        UnknownName: for a name that is not in the catalogue of attributions.
    """
    if callable(method):
        return lambda model, images, objective: method(model, images, objective, **options)
    entry = find("attribution", method)
    given = {**({"seed": seed} if "seed" in entry.options else {}), **options}
    return lambda model, images, objective: entry.function(model, images, objective, **given)
