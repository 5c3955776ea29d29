"""Eigen-CAM: the first principal component of a layer's activations, whatever the class."""

from __future__ import annotations

import torch
from torch import Tensor

from ..checks import nan_weights
from ..methods.result import Attribution
from ..model.batches import batched
from ..model.classifier import network
from ..model.run import Model, device_of, run
from ..objectives import Bound
from .ingredients.decorator import attribution
from .ingredients.layer_maps import Reshape, from_layer, last_spatial_layer, spatial


@attribution(
    paper="Muhammad & Yeasin 2020, Eigen-CAM: class activation map using principal components",
    one_pass=True,
    gradient=False,
    objective=False,
    layer_map=True,
)
def eigen_cam(
    model: Model, images: Tensor, objective: Bound, *, layer: str | None = None, reshape: Reshape | None = None
) -> Attribution:
    """The pattern that most of a layer's activation follows; it does not depend on the objective.

    map = relu(A v), with A the activations (places x channels, less their mean over places) and v the first
    right singular vector of A. Its sign is the one with which the map goes along with the mean activation.
    The pass ends at the layer.

    Args:
        model: a network or a `Classifier`.
        images: N x C x H x W.
        objective: only limits where the default layer may lie.
        layer: whose activations; by default the last that lies over the image.
        reshape: from the activation to N x C x h x w, where that is not found by itself.

    Returns:
        An `Attribution`: values N x 1 x H x W, zero or above, enlarged from maps N x 1 x h x w.

    Raises:
        ValueError: for a layer that does not lie over the image.

    >>> import pellucid
    >>> model = pellucid.load("shapes")
    >>> pellucid.eigen_cam(model, pellucid.shapes.scenes(1).images).values.shape
    torch.Size([1, 1, 96, 96])
    """
    layer = layer or last_spatial_layer(model, images, objective)
    parts: list[Tensor] = []

    def step(part: slice) -> None:
        trace = run(model, images[part], read=[layer], to_output=False)
        maps = spatial(trace.activations[layer], images[part], layer, reshape)
        if not maps.isfinite().all():
            raise ValueError(f"layer {layer!r} gives NaN or infinity{nan_weights(network(model))}")
        matrix = maps.flatten(2).transpose(1, 2)
        matrix = matrix.float() if matrix.dtype in (torch.float16, torch.bfloat16) else matrix
        centered = matrix - matrix.mean(1, keepdim=True)
        # The first singular vector, from the smaller of the two Gram matrices: cheaper than all of them by an SVD.
        if centered.shape[1] <= centered.shape[2]:
            values, vectors = torch.linalg.eigh(centered @ centered.mT)
            projected = vectors[..., -1] * values[..., -1:].clamp(min=0).sqrt()
        else:
            projected = (centered @ torch.linalg.eigh(centered.mT @ centered).eigenvectors[..., -1:])[..., 0]
        along = (projected * centered.mean(2)).sum(1, keepdim=True)
        projected = torch.where(along < 0, -projected, projected)
        parts.append(projected.unflatten(1, maps.shape[2:]))

    with torch.no_grad():
        batched(step, len(images), like=images, label="eigen cam", device=device_of(model))
    return from_layer(torch.cat(parts), images)
