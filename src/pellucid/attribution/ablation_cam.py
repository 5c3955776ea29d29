"""Ablation-CAM: channels weighted by what the objective loses without each of them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..methods.result import Attribution
from ..model.batches import batched
from ..model.run import Model, Trace, device_of, run
from ..objectives import Bound
from .ingredients.decorator import attribution
from .ingredients.layer_maps import Reshape, from_layer, last_spatial_layer, spatial


@attribution(
    paper="Desai & Ramaswamy 2020, Ablation-CAM: visual explanations via gradient-free localization",
    gradient=False,
    layer_map=True,
)
def ablation_cam(
    model: Model, images: Tensor, objective: Bound, *, layer: str | None = None, reshape: Reshape | None = None
) -> Attribution:
    """Where channels are active without which the objective falls; no gradient is used.

    map = relu(sum_k w_k A_k), with w_k = (y - y_k) / |y|, where y is the objective and y_k the objective with
    channel k set to 0. (The paper divides by y, which turns the map around where an objective is negative, as
    log-probabilities are.) What comes before the layer runs once for many channels, what comes after it once for
    each; only a network that counts its images before the layer, or joins the layer's output to a copy of the
    batch made earlier (a concatenation across the layer), runs as a whole.

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
    >>> pellucid.ablation_cam(model, pellucid.shapes.scenes(1).images, "star").values.shape
    torch.Size([1, 1, 96, 96])
    """
    images = images.detach()
    layer = layer or last_spatial_layer(model, images, objective)
    with torch.no_grad():
        maps = torch.stack([
            _one(model, images[number : number + 1], number, objective, layer, reshape) for number in range(len(images))
        ])  # fmt: skip
    return from_layer(maps, images)


def _one(model: Model, image: Tensor, number: int, objective: Bound, layer: str, reshape: Reshape | None) -> Tensor:
    """The map of one image, h x w."""

    def score(edit: Callable[[Tensor], Tensor], count: int, images: Tensor) -> tuple[Tensor, Trace]:
        trace = run(
            model,
            images,
            read={layer, *objective.reads},
            edit={layer: edit},
            to_output=objective.needs_output,
            rows=torch.full((count,), number),
        )
        return objective(trace), trace

    whole, trace = score(lambda activation: activation, 1, image)
    activation = trace.activations[layer]
    maps = spatial(activation, image, layer, reshape)[0]
    # Which numbers of the activation make up each channel, found by sending their places through the reshape.
    places = torch.arange(activation.numel(), dtype=torch.float64, device=activation.device).view_as(activation)
    places = spatial(places, image, layer, reshape)[0].flatten(1).long()
    left: list[Tensor] = []
    shared = True

    def step(part: slice) -> None:
        nonlocal shared
        mine = places[part]

        def silence(activation: Tensor) -> Tensor:
            ablated = activation[:1].repeat(len(mine), *[1] * (activation.ndim - 1)).contiguous()
            ablated.flatten(1).scatter_(1, mine, 0)
            return ablated

        if shared:
            try:
                left.append(score(silence, len(mine), image)[0])
                return
            except (RuntimeError, ValueError, IndexError):  # the network has counted its images before
                if len(mine) == 1:
                    raise
                shared = False
        left.append(score(silence, len(mine), image.expand(len(mine), -1, -1, -1))[0])

    batched(step, len(places), like=activation, label="ablation cam", device=device_of(model), guess=16)
    weights = (whole - torch.cat(left)) / torch.where(whole == 0, 1, whole.abs())
    return torch.einsum("c,chw->hw", weights.to(maps), maps)
