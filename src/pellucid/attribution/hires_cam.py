"""HiResCAM: activation times gradient, place by place."""

from __future__ import annotations

from torch import Tensor

from ..methods.result import Attribution
from ..model.run import Model
from ..objectives import Bound
from .ingredients.decorator import attribution
from .ingredients.layer_maps import Reshape, weighted_maps


@attribution(
    paper="Draelos & Carin 2020, Use HiResCAM instead of Grad-CAM for faithful explanations of convolutional "
    "neural networks",
    one_pass=True,
    layer_map=True,
)
def hires_cam(
    model: Model, images: Tensor, objective: Bound, *, layer: str | None = None, reshape: Reshape | None = None
) -> Attribution:
    """What each place of a layer adds to the objective.

    map = relu(sum_k A_k x d objective / d A_k). Where the rest of the network is linear, the map before the
     positive part is taken adds up to the objective less its bias.

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
    >>> pellucid.hires_cam(model, pellucid.shapes.scenes(1).images, "star").values.shape
    torch.Size([1, 1, 96, 96])
    """
    return weighted_maps(
        model, images, objective, layer, reshape, lambda activations, slopes: (activations * slopes).sum(1)
    )
