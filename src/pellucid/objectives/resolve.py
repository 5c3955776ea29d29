"""The predicted classes that an objective leaves open, fixed by one pass over the original images."""

from __future__ import annotations

import torch
from torch import Tensor

from ..model.batches import batched
from ..model.run import Model, device_of, run
from .algebra import Bound


def resolve(model: Model, images: Tensor, objective: Bound) -> None:
    """Fix the predicted classes of an objective by a pass over the original images, if it has any open."""
    if not objective.unresolved():
        return

    def step(part: slice) -> None:
        objective(run(model, images[part], read=objective.reads, rows=torch.arange(part.start, part.stop)))

    with torch.no_grad():
        batched(step, len(images), like=images, label="predict", device=device_of(model))
