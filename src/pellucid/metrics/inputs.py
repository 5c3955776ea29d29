"""What the measures that run a model have in common: the checks before any work."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..methods.result import Attribution
from ..model.batches import batched
from ..model.classifier import ready
from ..model.run import Model, device_of, run
from ..objectives import Bound, ObjectiveLike, as_objective, logit, resolve


def bind_objective(model: Model, images: Tensor, objective: ObjectiveLike) -> tuple[Model, Bound]:
    """A model and an objective that is bound to images, both checked; a predicted class is settled by one pass.

    Raises:
        ValueError, TypeError: for images that the model cannot take, or a network in training mode.
        UnknownName: for a class or a layer that does not exist.
    """
    model = ready(model, images)
    bound = as_objective(model, objective).bind(model, len(images))
    resolve(model, images, bound)
    return model, bound


def values_for(images: Tensor, attribution: Attribution | Tensor) -> Tensor:
    """The values of an attribution of these images, N x C x H x W or N x 1 x H x W.

    Raises:
        TypeError: if they are not floating.
        ValueError: for a shape that does not belong to the images, other images, NaN or infinity.
    """
    values = attribution.values if isinstance(attribution, Attribution) else attribution
    if not isinstance(values, Tensor) or not values.is_floating_point():
        kind = str(values.dtype) if isinstance(values, Tensor) else type(values).__name__
        raise TypeError(f"the attribution is {kind}, expected an Attribution or floating values N x C x H x W")
    fits = values.ndim == 4 and len(values) == len(images) and values.shape[2:] == images.shape[2:]
    if not fits or values.shape[1] not in (1, images.shape[1]):
        hint = ""
        if values.ndim == 4 and values.shape[2:] != images.shape[2:]:
            hint = ": bring the map to the size of the images first, with pellucid.display.colors.enlarge"
        raise ValueError(
            f"the values have shape {tuple(values.shape)}, expected {tuple(images.shape)} as the images, or one channel"
            + hint
        )
    explained = attribution.images if isinstance(attribution, Attribution) else images
    if explained.shape == images.shape and not torch.equal(explained.to(images), images):
        raise ValueError("the attribution is of other images: give those that were explained")
    if not values.isfinite().all():
        raise ValueError("the attribution has NaN or infinite values: nothing can be ranked or summed by those")
    return values.detach().to(images.device)


def predicted(model: Model, images: Tensor) -> list[int]:
    """The predicted class of each image.

    Raises:
        ValueError: for a network that returns no N x K.
    """
    classes: list[int] = []

    def step(part: slice) -> None:
        output = run(model, images[part]).output
        if not isinstance(output, Tensor) or output.ndim != 2:
            raise ValueError("the network does not return N x K, so that it predicts no class: give an objective")
        classes.extend(output.argmax(1).tolist())

    with torch.no_grad():
        batched(step, len(images), like=images, label="predict", device=device_of(model))
    return classes


def resolve_target(model: Model, images: Tensor, objective: ObjectiveLike) -> Any:
    """An objective that means the same for other images and other models: the predicted classes, if it is None.

    Raises:
        ValueError, TypeError: for images that the model cannot take, or a network that returns no N x K.
    """
    model = ready(model, images)
    return logit(predicted(model, images)) if objective is None else objective
