"""Score-CAM: channels weighted by the objective of the image seen through each of them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..methods.result import Attribution
from ..model.batches import batched
from ..model.run import Model, device_of, run
from ..objectives import Bound
from .ingredients.baselines import Baseline, baseline_images
from .ingredients.batched_gradients import scores_over
from .ingredients.decorator import attribution
from .ingredients.layer_maps import Reshape, from_layer, last_spatial_layer, spatial


@attribution(
    paper="Wang, Wang, Du, Yang, Zhang, Ding, Mardziel & Hu 2020, Score-CAM: score-weighted visual "
    "explanations for convolutional neural networks",
    gradient=False,
    layer_map=True,
)
def score_cam(
    model: Model,
    images: Tensor,
    objective: Bound,
    *,
    layer: str | None = None,
    reshape: Reshape | None = None,
    baseline: Baseline = "mean",
    seed: int = 0,
) -> Attribution:
    """Where channels are active through which the image keeps its objective; no gradient is used.

    map = relu(sum_k w_k A_k), with w the softmax over channels of f(b + m_k (x - b)), where m_k is A_k
    enlarged to the image and scaled to [0, 1], x the image and b the baseline. One pass for each channel.

    Args:
        model: a network or a `Classifier`.
        images: N x C x H x W.
        objective: what to explain; None is the predicted class.
        layer: whose activations A; by default the last that lies over the image.
        reshape: from the activation to N x C x h x w, where that is not found by itself.
        baseline: what hidden pixels become: "mean" color, "black", "white", "blur", "noise", or a tensor.
        seed: for "noise".

    Returns:
        An `Attribution`: values N x 1 x H x W, zero or above, enlarged from maps N x 1 x h x w.

    Raises:
        ValueError: for a layer that does not lie over the image, or a baseline that does not fit.

    >>> import pellucid
    >>> model = pellucid.load("shapes")
    >>> pellucid.score_cam(model, pellucid.shapes.scenes(1).images, "star").values.shape
    torch.Size([1, 1, 96, 96])
    """
    images = images.detach()
    layer = layer or last_spatial_layer(model, images, objective)
    start = baseline_images(model, images, baseline, seed)
    found: list[Tensor] = []

    def read(part: slice) -> None:
        trace = run(model, images[part], read=[layer], to_output=False)
        found.append(spatial(trace.activations[layer], images[part], layer, reshape).to(images))

    with torch.no_grad():
        batched(read, len(images), like=images, device=device_of(model))
    maps = torch.cat(found)

    def through(rows: Tensor, k: Tensor) -> Tensor:
        mask = F.interpolate(maps[rows, k][:, None], images.shape[2:], mode="bilinear", align_corners=False)
        low, high = mask.amin((2, 3), keepdim=True), mask.amax((2, 3), keepdim=True)
        mask = (mask - low) / torch.where(high > low, high - low, 1)
        return torch.lerp(start[rows], images[rows], mask.expand(-1, images.shape[1], -1, -1))

    weights = scores_over(model, images, objective, maps.shape[1], through, "score cam").softmax(1)
    return from_layer(torch.einsum("nc,nchw->nhw", weights, maps), images)
