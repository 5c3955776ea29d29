"""XGrad-CAM: Grad-CAM whose weights conserve the objective as well as they can."""

from __future__ import annotations

import torch
from torch import Tensor

from ..methods.result import Attribution
from ..model.run import Model
from ..objectives import Bound
from .ingredients.decorator import attribution
from .ingredients.layer_maps import Reshape, weighted_maps


@attribution(
    paper="Fu, Hu, Dong, Guo, Gao & Li 2020, Axiom-based Grad-CAM: towards accurate visualization and "
    "explanation of CNNs",
    one_pass=True,
    layer_map=True,
)
def xgrad_cam(
    model: Model, images: Tensor, objective: Bound, *, layer: str | None = None, reshape: Reshape | None = None
) -> Attribution:
    """Where channels that raise the objective are active; weights are gradients averaged by activation.

    map = relu(sum_k w_k A_k), with w_k = sum over places of (A_k / sum A_k) d objective / d A_k, taken as 0 for
     a channel whose activations add up to 0.

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
    >>> pellucid.xgrad_cam(model, pellucid.shapes.scenes(1).images, "star").values.shape
    torch.Size([1, 1, 96, 96])
    """

    def combine(activations: Tensor, slopes: Tensor) -> Tensor:
        total = activations.sum((2, 3))
        weights = (activations * slopes).sum((2, 3)) / torch.where(total == 0, 1, total)
        return (torch.where(total == 0, 0, weights)[:, :, None, None] * activations).sum(1)

    return weighted_maps(model, images, objective, layer, reshape, combine)
