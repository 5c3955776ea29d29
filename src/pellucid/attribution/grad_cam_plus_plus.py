"""Grad-CAM++: Grad-CAM that counts every occurrence of the object."""

from __future__ import annotations

import torch
from torch import Tensor

from ..methods.result import Attribution
from ..model.run import Model
from ..objectives import Bound
from .ingredients.decorator import attribution
from .ingredients.layer_maps import Reshape, weighted_maps


@attribution(
    paper="Chattopadhay, Sarkar, Howlader & Balasubramanian 2018, Grad-CAM++: improved visual explanations for "
    "deep convolutional networks",
    one_pass=True,
    layer_map=True,
)
def grad_cam_plus_plus(
    model: Model, images: Tensor, objective: Bound, *, layer: str | None = None, reshape: Reshape | None = None
) -> Attribution:
    """Where channels that raise the objective are active, each occurrence weighted alike.

    map = relu(sum_k w_k A_k), with g = d objective / d A_k, w_k = sum over places of a relu(g), and
     a = g^2 / (2 g^2 + g^3 sum A_k), taken as 0 where g is 0. This is the paper's closed form for exp(objective).

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
    >>> pellucid.grad_cam_plus_plus(model, pellucid.shapes.scenes(1).images, "star").values.shape
    torch.Size([1, 1, 96, 96])
    """

    def combine(activations: Tensor, slopes: Tensor) -> Tensor:
        # g^2 cancels: a = 1 / (2 + g sum A), which does not underflow.
        below = 2 + slopes * activations.sum((2, 3), keepdim=True)
        shares = torch.where((slopes == 0) | (below == 0), 0, 1 / torch.where(below == 0, 1, below))
        weights = (shares * slopes.clamp(min=0)).sum((2, 3))
        return (weights[:, :, None, None] * activations).sum(1)

    return weighted_maps(model, images, objective, layer, reshape, combine)
