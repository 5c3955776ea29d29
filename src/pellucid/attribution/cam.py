"""CAM: the share of each place in a logit, exact for networks that average over places and end in a linear layer."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from ..methods.result import Attribution
from ..model.batches import batched
from ..model.run import Model, Trace, device_of, gradient
from ..objectives import Bound
from .ingredients.decorator import attribution
from .ingredients.layer_maps import Reshape, last_spatial_layer, spatial


@attribution(
    paper="Zhou, Khosla, Lapedriza, Oliva & Torralba 2016, Learning deep features for discriminative localization",
    logits_only=True,
    layer_map=True,
)
def cam(
    model: Model, images: Tensor, objective: Bound, *, layer: str | None = None, reshape: Reshape | None = None
) -> Attribution:
    """What each place adds to the objective, for networks whose head is global average pooling and a linear layer.

    map(y, x) = sum_k w_k A_k(y, x), with A the activations that are averaged and w the linear layer's weights
    for the class. Its mean over places, plus the bias, is the logit exactly. The weights are found from
    the network itself, whatever its modules are called; that the head is such a one is checked on the images.

    Args:
        model: a network or a `Classifier`.
        images: N x C x H x W.
        objective: a logit or a sum of logits; None is the predicted class.
        layer: the one that is averaged; by default the last that lies over the image.
        reshape: from the activation to N x C x h x w, where that is not found by itself.

    Returns:
        An `Attribution`: values N x 1 x H x W, signed, in units of the objective, enlarged from maps N x 1 x h x w.

    Raises:
        ValueError: if what follows the layer is not an average over places and a linear layer.

    >>> import pellucid
    >>> model = pellucid.load("shapes")
    >>> pellucid.cam(model, pellucid.shapes.scenes(1).images, "star").values.shape
    torch.Size([1, 1, 96, 96])
    """
    layer = layer or last_spatial_layer(model, images, objective)
    parts: list[Tensor] = []

    def step(part: slice) -> None:
        rows = torch.arange(part.start, part.stop)
        count = len(rows)
        try:
            # Behind the layer each image goes on twice, as it is and silenced, which gives the bias.
            slopes, trace = _twice(model, images[part], objective, layer, rows, lambda a: torch.cat([a, 0 * a]))
        except (RuntimeError, ValueError, IndexError):  # the network has counted its images before
            slopes, trace = _twice(
                model,
                torch.cat([images[part]] * 2),
                objective,
                layer,
                rows,
                lambda a: torch.cat([a[:count], 0 * a[count:]]),
            )
        slopes, activations = slopes[:count], trace.activations[layer].detach()[:count]
        with torch.no_grad():
            values, bias = objective(trace).split(count)
        places = spatial(activations, images[part], layer, reshape)
        weights = spatial(slopes, images[part], layer, reshape)
        maps = weights * places
        # One weight for a channel, except where a ReLU before the average lets nothing through.
        flat = weights.flatten(2)
        weight = flat.gather(2, flat.abs().argmax(2, keepdim=True))
        closed = (flat == 0) & (places.flatten(2) <= 0)
        uniform = bool((closed | ((flat - weight).abs() <= 1e-4 * weight.abs().amax(1, keepdim=True))).all())
        missing = (values - bias - maps.sum((1, 2, 3))).abs()
        if not uniform or (missing > 1e-3 * (values - bias).abs() + 1e-4 * maps.abs().sum((1, 2, 3))).any():
            raise ValueError(
                f"cam needs a head that averages over places and is linear; after layer {layer!r} this network does "
                f"something else with {objective}. Use hires_cam or grad_cam, or name the averaged layer with layer="
            )
        parts.append(maps.shape[2] * maps.shape[3] * maps.sum(1, keepdim=True))

    batched(step, len(images), like=images, label="cam", device=device_of(model))
    maps = torch.cat(parts).to(images)
    return Attribution(F.interpolate(maps, images.shape[2:], mode="bilinear", align_corners=False), maps=maps)


def _twice(
    model: Model, images: Tensor, objective: Bound, layer: str, rows: Tensor, edit: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Trace]:
    return gradient(model, images, objective, at=layer, rows=torch.cat([rows, rows]), edit={layer: edit})
