"""Gradient x input: the first-order share of each pixel in the objective."""

from __future__ import annotations

from torch import Tensor

from ..methods.result import Attribution
from ..model.run import Model
from ..objectives import Bound
from .ingredients.baselines import Baseline, baseline_images
from .ingredients.batched_gradients import per_image
from .ingredients.decorator import attribution


@attribution(
    paper="Shrikumar, Greenside, Shcherbina & Kundaje 2016, Not just a black box: learning important features "
    "through propagating activation differences",
    one_pass=True,
)
def gradient_x_input(
    model: Model, images: Tensor, objective: Bound, *, baseline: Baseline = "mean", seed: int = 0
) -> Attribution:
    """What each pixel adds to the objective, as far as the objective is linear.

    values = (pixel - baseline) x d objective / d pixel. On a linear network they add up to
    f(image) - f(baseline) exactly. The baseline is the mean color by default, so that for a `Classifier` this is
    gradient x normalized input; for pixels as they are, say baseline="black" or torch.zeros(C).

    Args:
        model: a network or a `Classifier`.
        images: N x C x H x W.
        objective: what to explain; None is the predicted class.
        baseline: what counts as no input: "mean" color, "black", "white", "blur", "noise", or a tensor.
        seed: for "noise".

    Returns:
        An `Attribution`: values as the images, in units of the objective.

    Raises:
        ValueError: for an unknown baseline or one of the wrong shape.

    >>> import pellucid, torch
    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 1, bias=False)).eval()
    >>> image = torch.rand(1, 1, 2, 2)
    >>> values = pellucid.gradient_x_input(net, image, 0, baseline=torch.zeros(1, 1, 2, 2)).values
    >>> bool(torch.isclose(values.sum(), net(image)[0, 0]))
    True
    """
    start = baseline_images(model, images, baseline, seed)
    return Attribution(per_image(model, images, objective) * (images.detach() - start))
