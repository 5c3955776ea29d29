"""Guided Grad-CAM: guided backpropagation where Grad-CAM finds the class."""

from __future__ import annotations

from torch import Tensor

from ..methods.result import Attribution
from ..model.run import Model
from ..objectives import Bound
from ..rules import guided
from .ingredients.batched_gradients import per_image
from .ingredients.decorator import attribution
from .ingredients.layer_maps import Reshape, weighted_maps


@attribution(
    paper="Selvaraju, Cogswell, Das, Vedantam, Parikh & Batra 2017, Grad-CAM: visual explanations from deep "
    "networks via gradient-based localization",
    one_pass=True,
    layer_map=True,
)
def guided_grad_cam(
    model: Model,
    images: Tensor,
    objective: Bound,
    *,
    layer: str | None = None,
    reshape: Reshape | None = None,
    strict: bool = True,
) -> Attribution:
    """The fine structure of guided backpropagation, at the places that Grad-CAM finds.

    values = guided_backprop x grad_cam, the latter enlarged to the image.

    Args:
        model: a network or a `Classifier`.
        images: N x C x H x W.
        objective: what to explain; None is the predicted class.
        layer: for Grad-CAM; by default the last that lies over the image.
        reshape: from its activation to N x C x h x w, where that is not found by itself.
        strict: rectifiers out of sight are an error; False takes their ordinary gradient, with a warning.

    Returns:
        An `Attribution`: values as the images, maps N x 1 x h x w those of Grad-CAM.

    Raises:
        ValueError: for a layer that does not lie over the image.
        RuleError: for rectifiers out of sight.

    >>> import pellucid
    >>> model = pellucid.load("shapes")
    >>> pellucid.guided_grad_cam(model, pellucid.shapes.scenes(1).images, "star").values.shape
    torch.Size([1, 3, 96, 96])
    """

    def combine(activations: Tensor, slopes: Tensor) -> Tensor:
        return (slopes.mean((2, 3))[:, :, None, None] * activations).sum(1)

    where = weighted_maps(model, images, objective, layer, reshape, combine)
    fine = per_image(model, images, objective, {"activation": guided()}, strict)
    return Attribution(fine * where.values, maps=where.maps)
