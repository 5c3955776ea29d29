"""Grad-CAM: the channels of a layer, weighted by their mean gradient."""

from __future__ import annotations

from torch import Tensor

from ..methods.result import Attribution
from ..model.run import Model
from ..objectives import Bound
from .ingredients.decorator import attribution
from .ingredients.layer_maps import Reshape, weighted_maps


@attribution(
    paper="Selvaraju, Cogswell, Das, Vedantam, Parikh & Batra 2017, Grad-CAM: visual explanations from deep "
    "networks via gradient-based localization",
    one_pass=True,
    layer_map=True,
)
def grad_cam(
    model: Model, images: Tensor, objective: Bound, *, layer: str | None = None, reshape: Reshape | None = None
) -> Attribution:
    """Where a layer's channels that raise the objective are active.

    map = relu(sum_k w_k A_k), with w_k the mean over places of d objective / d A_k. The backward pass ends at
    the layer.

    Args:
        model: a network or a `Classifier`.
        images: N x C x H x W.
        objective: what to explain; None is the predicted class.
        layer: whose activations A; by default the last that lies over the image.
        reshape: from the activation to N x C x h x w, where that is not found by itself.

    Returns:
        An `Attribution`: values N x 1 x H x W, zero or above, enlarged from maps N x 1 x h x w.

    Raises:
        ValueError: for a layer that does not lie over the image.

    >>> import pellucid
    >>> model = pellucid.load("shapes")
    >>> pellucid.grad_cam(model, pellucid.shapes.scenes(1).images, "star").values.shape
    torch.Size([1, 1, 96, 96])
    """

    def combine(activations: Tensor, slopes: Tensor) -> Tensor:
        weights = slopes.mean((2, 3))
        return (weights[:, :, None, None] * activations).sum(1)

    return weighted_maps(model, images, objective, layer, reshape, combine)
