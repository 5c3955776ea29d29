"""What embeddings and estimates of dimension start from: N points, and what is known of each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...checks import check_images
from ..sweeps.features_result import Features

Array = np.ndarray[Any, Any]
UNKNOWN = "unknown"  # the label of points whose class is not known
Labels = Sequence[str] | Sequence[int] | Tensor | Array | None


@dataclass(frozen=True, eq=False)
class Points:
    """N vectors, with what is known of each.

    values: N x D, float32 or float64. labels, names, files: N texts each, or none. predicted: whether the labels are
    what a network predicts. look: an image by its number, C x H x W. model, layer: where the vectors come from.
    """

    values: Array = field(repr=False)
    labels: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    predicted: bool = False
    look: Callable[[int], Tensor] | None = field(repr=False, default=None)
    model: str = ""
    layer: str = ""


def points(
    features: Features | Tensor | Array,
    *,
    labels: Labels = None,
    names: Sequence[str] = (),
    images: Tensor | None = None,
    least: int = 2,
) -> Points:
    """The points of `Features`, a tensor or an array, refused in words where nothing can be computed of them.

    Args:
        features: `Features` of one layer, or N x D numbers.
        labels: N classes, as texts or numbers; those of the features by default.
        names: N texts. images: N x C x H x W, for thumbnails.
        least: how many points there must be.

    Raises:
        TypeError: if it holds no numbers.
        ValueError: for another shape, NaN, fewer points than `least`, points that are all the same, or labels, names or
            images of another number.

    >>> points([[0.0, 1.0], [1.0, 0.0]], labels=[3, 4]).labels
    ('3', '4')
    """
    known: dict[str, Any] = {}
    if isinstance(features, Features):
        values: Any = features.values
        known = {
            **_classes(features),
            "names": features.names,
            "files": features.files,
            "look": features.look,
            "model": "" if features.call is None else features.call.model,
            "layer": features.layers[0],
        }
    else:
        values = features
    found = numbers(values)
    count = len(found)
    if count < least:
        raise ValueError(
            f"there {'is 1 point' if count == 1 else f'are {count} points'}: where one lies among others takes "
            f"{least} or more"
        )
    if not (found != found[:1]).any():
        raise ValueError(f"all {count} points are the same: nothing tells them apart")
    if labels is not None:
        known |= {"labels": texts(labels), "predicted": False}
    if names:
        known["names"] = tuple(map(str, names))
    if images is not None:
        check_images(images)
        known["look"] = lambda row: images[row]
    for what, given in {**known, "images": images}.items():
        if isinstance(given, (tuple, Tensor)) and len(given) not in (0, count):
            raise ValueError(f"got {len(given)} {what} for {count} points")
    return Points(found, **known)


def numbers(values: Any) -> Array:
    """N x D numbers as an array of float32, or of float64 where they are.

    Raises:
        TypeError, ValueError: as `points`.
    """
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        values = values.float() if values.dtype in (torch.float16, torch.bfloat16) else values
    found = np.asarray(values)
    if found.dtype.kind not in "fiub":
        raise TypeError(f"the points are of type {found.dtype}, expected numbers, N x D")
    found = found.astype(np.float64 if found.dtype == np.float64 else np.float32, copy=False)
    if found.ndim != 2 or not found.shape[1]:
        shape = " x ".join(map(str, found.shape)) or "a single number"
        hint = ": flatten the rest, or average over places" if found.ndim > 2 else ""
        raise ValueError(f"the points have the shape {shape}, expected N x D: a row for each{hint}")
    finite = np.isfinite(found).all(1)
    if not finite.all():
        bad = np.flatnonzero(~finite)
        raise ValueError(
            f"{len(bad)} of {len(found)} points have NaN or infinity, the first is row {bad[0]}: leave them out, or "
            "look at what made them"
        )
    return found


def directions(values: Array) -> Array:
    """The points at length 1, so that distances tell angles alone.

    Raises:
        ValueError: for points at 0, which have no direction.
    """
    lengths = np.linalg.norm(values.astype(np.float64), axis=1, keepdims=True)
    if not lengths.all():
        raise ValueError(
            f"{int((lengths == 0).sum())} of {len(values)} points are 0 and have no direction, which the cosine needs: "
            "leave them out, or use the metric l2"
        )
    unit: Array = (values / lengths).astype(values.dtype)
    return unit


def distinct(values: Array) -> tuple[Array, int]:
    """The points around their mean, without those that lie on others to the precision of float32; how many these were.

    The distance between two pictures of the same thing is rounding, and says nothing of what the points lie on.
    """
    from scipy.spatial import cKDTree
    from sklearn.neighbors import NearestNeighbors

    _, first = np.unique(values, axis=0, return_index=True)
    left = values[np.sort(first)].astype(np.float64)
    size = float(np.sqrt((left**2).sum(1).mean()))
    left -= left.mean(0)
    noise = 1e-6 * float(np.sqrt((left**2).sum(1).mean())) + 4 * float(np.finfo(values.dtype).eps) * size
    while len(left) > 2:
        if left.shape[1] <= 3:  # a tree is exact and quick there
            near = cKDTree(left).query_pairs(noise, output_type="ndarray")
            later = np.unique(near.max(1)) if len(near) else np.empty(0, int)
        else:
            found = NearestNeighbors(n_neighbors=1).fit(left)
            neighbor = found.kneighbors(return_distance=False)[:, 0]
            close = np.linalg.norm(left - left[neighbor], axis=1) < noise
            pairs = np.stack([np.flatnonzero(close), neighbor[close]], 1)
            later = np.unique(pairs.max(1)) if len(pairs) else np.empty(0, int)
        if not len(later):
            break
        left = np.delete(left, later, 0)
    return left, len(values) - len(left)


def nearest_points(values: Array, k: int) -> tuple[Array, Array]:
    """Distances to the k nearest other points and which these are, N x k each, in order.

    Neighbors are found with products, as fast code does it; their distances are then taken from differences, since
    |x|^2 - 2 x y + |y|^2 loses all digits between points that are near each other and far from 0.
    """
    from sklearn import config_context
    from sklearn.neighbors import NearestNeighbors

    centered = values - values.mean(0, dtype=np.float64)
    with config_context(working_memory=128):
        found = NearestNeighbors(n_neighbors=k).fit(centered).kneighbors(return_distance=False)
    distances = np.empty(found.shape)
    size = max(1, 2**22 // (k * values.shape[1]))
    for start in range(0, len(values), size):
        part = slice(start, start + size)
        distances[part] = np.linalg.norm(centered[part, None] - centered[found[part]], axis=2)
    order = distances.argsort(1, kind="stable")
    return np.take_along_axis(distances, order, 1), np.take_along_axis(found, order, 1)


def texts(labels: Iterable[Any]) -> tuple[str, ...]:
    """Labels as texts."""
    listed = labels.tolist() if isinstance(labels, (Tensor, np.ndarray)) else labels
    return tuple(map(str, listed))


def _classes(features: Features) -> dict[str, Any]:
    """The true class of each image; where none is known, what is predicted."""
    for indices, predicted in ((features.labels, False), (features.predictions, True)):
        if bool((indices >= 0).any()):
            words = [features.classes[index] if index >= 0 else UNKNOWN for index in indices.tolist()]
            return {"labels": tuple(words), "predicted": predicted}
    return {}
