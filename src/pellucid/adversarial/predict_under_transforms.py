"""What a network sees in images through many views of them."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ..methods.verb import verb
from ..model.batches import batched
from ..model.run import Model, device_of, run
from .attack.case import as_outputs
from .attack.decorator import check_pixels
from .attack.transformations import Transformations


@verb(paper="Athalye, Engstrom, Ilyas & Kwok 2018, Synthesizing robust adversarial examples")
def predict_under_transforms(
    model: Model,
    images: Tensor,
    transformations: Transformations,
    *,
    count: int = 50,
    seed: int = 0,
    bounds: tuple[float, float] | None = None,
) -> Tensor:
    """What a network sees in images through many views of them: does a change survive a camera?

    Args:
        model: a network or a `Classifier`.
        images: N x C x H x W in [0, 1].
        transformations: how they differ; `samples` plays no part.
        count: views of each image, the same ones for all images; 1 or more.
        seed: for the views.
        bounds: of pixels, for a bare network that takes others than [0, 1].

    Returns:
        The predicted classes, N x count.

    Raises:
        ValueError: for images outside the bounds, or fewer than 1 view.

    >>> import pellucid
    >>> model, scenes = pellucid.load("shapes"), pellucid.shapes.scenes(2)
    >>> pellucid.predict_under_transforms(model, scenes.images, pellucid.Transformations(rotation=5), count=4).shape
    torch.Size([2, 4])
    """
    low, high = check_pixels(model, images, bounds)
    many, device = replace(transformations, samples=count), device_of(model) or images.device
    found = torch.zeros(len(images), count, dtype=torch.long)

    def step(part: slice) -> None:
        source = torch.Generator().manual_seed(seed)
        for k, seen in enumerate(many.of(images[part].to(device), source, low, high)):
            found[part, k] = as_outputs(run(model, seen).output).argmax(1).cpu()

    with torch.no_grad():
        batched(step, len(images), like=images, label="views", device=device)
    return found
