"""The picture of features: what the rows look like, and how far apart the images are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...display.figures import plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def overview(
    arrays: Mapping[str, Tensor], labels: Tensor, predictions: Tensor, classes: tuple[str, ...], *, most: int = 256
) -> Figure:
    """For each layer the vectors as rows of colors, and the cosine similarity of each pair of images.

    Args:
        arrays: by layer, N x D. labels, predictions: N, by which the rows are ordered. classes: their names.
        most: images that are drawn, evenly taken from all.
    """
    from matplotlib.figure import Figure

    count = len(labels)
    taken = torch.linspace(0, count - 1, min(most, count)).round().long()
    by = labels if bool((labels >= 0).any()) else predictions
    order = taken[by[taken].argsort(stable=True)]
    groups = by[order]
    layers = tuple(arrays)
    figure = Figure(figsize=(7.2, 3.2 * len(layers) + 0.3), dpi=130, layout="constrained")
    axes = figure.subplots(len(layers), 2, squeeze=False, width_ratios=(1.4, 1))
    for (left, right), layer in zip(axes, layers, strict=True):
        values = arrays[layer][order].double()
        spread = values.std(0, correction=0)
        standard = (values - values.mean(0)) / torch.where(spread > 0, spread, 1.0)
        wide = standard[:, torch.linspace(0, values.shape[1] - 1, min(values.shape[1], 600)).round().long()]
        left.imshow(wide.numpy(), cmap="RdBu_r", vmin=-3, vmax=3, aspect="auto", interpolation="nearest")
        left.set_title(plain(f"{layer}: {values.shape[1]} numbers of each image"), fontsize=9, parse_math=False)
        left.set_xlabel("number; standardized over the images, red is above the mean", fontsize=7, color="0.4")
        similar = torch.nn.functional.normalize(standard, dim=1)
        right.imshow((similar @ similar.T).numpy(), cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
        right.set_title("how alike two images are", fontsize=9)
        right.set_xlabel("cosine; red is alike", fontsize=7, color="0.4")
        for axis in (left, right):
            _mark_classes(axis, groups, classes)
            axis.set_xticks([])
            axis.spines[:].set_visible(False)
        right.set_yticks([])
    shown = f"{len(order)} of {count} images" if len(order) < count else f"{count} images"
    ordered = "true" if by is labels else "predicted"
    figure.supxlabel(f"{shown}, in the order of their {ordered} classes", fontsize=7, color="0.4")
    return figure


def _mark_classes(axis: Any, groups: Tensor, classes: tuple[str, ...]) -> None:
    found, counts = groups.unique_consecutive(return_counts=True)
    ends = counts.cumsum(0)
    for end in ends[:-1].tolist():
        axis.axhline(end - 0.5, color="black", lw=0.5)
    middles = (ends - counts / 2 - 0.5).tolist()
    names = [classes[index] if index >= 0 else "not known" for index in found.tolist()]
    few = len(found) <= 30
    axis.set_yticks(middles if few else [], [plain(name)[:24] for name in names] if few else [], fontsize=7)
    axis.tick_params(length=0)
