"""Saliency: the gradient of the objective with respect to the pixels."""

from __future__ import annotations

from torch import Tensor

from ..methods.result import Attribution
from ..model.run import Model
from ..objectives import Bound
from .ingredients.batched_gradients import per_image, reduce_channels
from .ingredients.decorator import attribution


@attribution(
    paper="Simonyan, Vedaldi & Zisserman 2014, Deep inside convolutional networks: visualizing image "
    "classification models and saliency maps",
    one_pass=True,
)
def saliency(
    model: Model, images: Tensor, objective: Bound, *, sign: str = "absolute", channels: str = "max"
) -> Attribution:
    """How much the objective changes when a pixel changes a little.

    values = |d objective / d pixel|, the largest over the color channels.

    Args:
        model: a network or a `Classifier`.
        images: N x C x H x W.
        objective: what to explain; None is the predicted class.
        sign: "absolute" takes the magnitude, "keep" keeps the sign, "positive" keeps the positive part.
        channels: "max" keeps the channel of the largest magnitude, "mean" the mean over channels, "all" all.

    Returns:
        An `Attribution`: values N x 1 x H x W, or as the images for channels="all"; in units of the
        objective per unit of a pixel.

    Raises:
        ValueError: for an unknown sign or channels.

    >>> import pellucid, torch
    >>> model = pellucid.load("shapes")
    >>> images = pellucid.shapes.scenes(1).images
    >>> pellucid.saliency(model, images, "star").values.shape
    torch.Size([1, 1, 96, 96])
    """
    return Attribution(reduce_channels(per_image(model, images, objective), sign, channels))
