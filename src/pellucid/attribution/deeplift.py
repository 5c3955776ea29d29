"""DeepLIFT: differences from a baseline, handed back by the rescale rule."""

from __future__ import annotations

import torch
from torch import Tensor

from ..methods.result import Attribution
from ..model.batches import batched
from ..model.run import Model, device_of
from ..objectives import Bound
from .ingredients.baselines import Baseline, baseline_images
from .ingredients.batched_gradients import values_of
from .ingredients.decorator import attribution
from .ingredients.deeplift_multipliers import multipliers


@attribution(
    paper="Shrikumar, Greenside & Kundaje 2017, Learning important features through propagating activation differences",
)
def deeplift(
    model: Model, images: Tensor, objective: Bound, *, baseline: Baseline = "mean", seed: int = 0, strict: bool = True
) -> Attribution:
    """What each pixel adds to the difference between the image and a baseline; one pass through both.

    values = (x - b) m, with m the gradient in which each function of one number has the slope
    (f(x) - f(b)) / (x - b) instead of its derivative. The values add up to f(image) - f(baseline) for networks of
    linear maps, activations, products and max pooling, and objectives that are linear in the output; what is
    missing elsewhere (softmax, layer norm) is the gap.

    Args:
        model: a network or a `Classifier`.
        images: N x C x H x W.
        objective: what to explain; None is the predicted class.
        baseline: "mean" color, "black", "white", "blur", "noise", or a tensor.
        seed: for "noise".
        strict: functions out of sight are an error; False takes their ordinary gradient, with a warning.

    Returns:
        An `Attribution`: values as the images, in units of the objective; gap, N numbers, what they fall short of
        or exceed f(image) - f(baseline) by.

    Raises:
        ValueError: for an unknown baseline or one of the wrong shape.
        RuleError: for functions out of sight.

    >>> import pellucid
    >>> model = pellucid.load("shapes")
    >>> result = pellucid.deeplift(model, pellucid.shapes.scenes(1).images, "star")
    >>> bool(result.gap.abs() < 1e-3)
    True
    """
    images = images.detach()
    start = baseline_images(model, images, baseline, seed)
    values = torch.empty_like(images)

    def step(part: slice) -> None:
        rows = torch.arange(part.start, part.stop)
        slopes = multipliers(model, images[part], start[part], objective, rows, strict)
        values[part] = slopes * (images[part] - start[part])

    batched(step, len(images), like=images, label="DeepLIFT", device=device_of(model))
    change = values_of(model, images, objective) - values_of(model, start, objective)
    return Attribution(values, convergence_delta=values.flatten(1).double().sum(1).to(change) - change)
