"""LayerCAM: activation times positive gradient, place by place; fine in early layers too."""

from __future__ import annotations

from torch import Tensor

from ..methods.result import Attribution
from ..model.run import Model
from ..objectives import Bound
from .ingredients.decorator import attribution
from .ingredients.layer_maps import Reshape, weighted_maps


@attribution(
    paper="Jiang, Zhang, Hou, Cheng & Wei 2021, LayerCAM: exploring hierarchical class activation maps for "
    "localization",
    one_pass=True,
    layer_map=True,
)
def layer_cam(
    model: Model, images: Tensor, objective: Bound, *, layer: str | None = None, reshape: Reshape | None = None
) -> Attribution:
    """Where more of a layer's activation would raise the objective.

    map = relu(sum_k relu(d objective / d A_k) x A_k).

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
    >>> pellucid.layer_cam(model, pellucid.shapes.scenes(1).images, "star").values.shape
    torch.Size([1, 1, 96, 96])
    """
    return weighted_maps(
        model, images, objective, layer, reshape, lambda activations, slopes: (activations * slopes.clamp(min=0)).sum(1)
    )
