"""What all importers do with a graph: join its steps, make its modules, compare it with its source."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...model.classifier import Classifier, wrap
from .attention import attention, drop_unit_axes
from .equivalence import Exact, Values, difference, first_difference
from .fuse import fuse, simplify_reshapes
from .graph import Graph, ImportFailed
from .modules import modules
from .recognize import recognize

COUNT = 3  # images that a difference is looked for with
ROUNDING = 5e-2  # no more of the largest output is rounding; half precision has about as much


def finish(
    g: Graph,
    source: Callable[[Tensor], Tensor],
    images: Tensor,
    *,
    values: Values,
    limit: float,
    logits: bool,
    kinds: Mapping[tuple[str, ...], str] | None = None,
    exact: Exact | None = None,
) -> nn.Module:
    """The network of a graph, in evaluation mode, with `.difference`.

    Args:
        g: as it was read.
        source: the source network, from and to torch tensors.
        images: the example, N x C x H x W; another batch is made of random numbers in its range.
        values: what the source has for the origins of steps, for COUNT images.
        limit: for the difference from the source.
        logits: leave out a softmax that comes last.
        kinds: names of the classes of layers, where they are exact.
        exact: the source in float64, where that can be had: rounding is no mistake.

    Raises:
        ImportFailed: if the network differs from its source; the message names the first layer that does.
    """
    simplify_reshapes(g)
    recognize(g)
    fuse(g)
    drop_unit_axes(g)
    simplify_reshapes(g)
    attention(g)
    simplify_reshapes(g)
    net: nn.Module = modules(g, kinds).eval()
    noise = random_like(images)
    worst = difference(net, source, [images, noise])
    _check(g, net, source, worst, [images[torch.arange(COUNT) % len(images)], noise[:COUNT]], limit, values, exact)
    if logits and g.output.function is F.softmax and g.output.args[1] in (1, -1):
        g.output = g.output.args[0]
        g.prune()
        net = modules(g, kinds).eval()
    net.difference = worst  # type: ignore[assignment]
    return net


def _check(
    g: Graph,
    net: nn.Module,
    source: Callable[[Tensor], Tensor],
    worst: float,
    batches: list[Tensor],
    limit: float,
    values: Values,
    exact: Exact | None,
) -> None:
    """Refuse a network that is not its source; warn where only rounding sets them apart. The batches are of COUNT."""
    if worst <= limit and not (exact and exact.always):
        return
    said = f"the imported network differs from the source by {worst:.2g} of its largest output"
    wide = exact.source() if exact else None
    doubled = [batch.double() for batch in batches]
    far = _far(net, g.dtype, wide, doubled) if wide else None
    if exact is None or wide is None or far is None:
        if not worst <= limit:
            where = first_difference(g, batches[1], values(batches[1]), limit)
            raise ImportFailed(f"{said}, more than {limit:g}; the first to differ is {where}")
        return
    if not far <= exact.limit:
        where = first_difference(g, doubled[1], exact.values(doubled[1]), exact.limit)
        raise ImportFailed(f"{said}, where both compute in float64 by {far:.2g}, more than {exact.limit:g}; the first "
                           f"to differ is {where}")  # fmt: skip
    if worst <= limit:
        return
    mine, theirs = (difference(_narrowed(f, g.dtype), wide, doubled) for f in (net, source))
    said = (
        f"{said}, more than {limit:g}, by rounding alone: where both compute in float64 it is {far:.2g}. Of those "
        f"values the source itself misses {theirs:.2g}, the import {mine:.2g}"
    )
    if not worst <= ROUNDING:
        raise ImportFailed(
            f"{said}. A layer may subtract large numbers that are nearly equal, as a layer norm whose input is nearly "
            f"constant. Give weights and example in float64, or say tolerance={2 * worst:.1g}"
        )
    warnings.warn(said, stacklevel=5)


def _far(net: nn.Module, dtype: torch.dtype, wide: Callable[[Tensor], Tensor], batches: list[Tensor]) -> float | None:
    """The difference in float64; None where the network cannot compute in it, as where it makes float32 of truths."""
    try:
        return difference(net.double(), wide, batches)
    except RuntimeError:
        return None
    finally:
        net.to(dtype)


def _narrowed(function: Callable[[Tensor], Tensor], dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    return lambda images: function(images.to(dtype))


def example_of(example: Any) -> np.ndarray[Any, Any]:
    """A batch of images as an array of 32 or 64 bits.

    Raises:
        TypeError, ValueError: if it is none.
    """
    if isinstance(example, Tensor):  # numpy has no bfloat16
        example = example.detach().cpu().to(torch.float32 if example.dtype == torch.bfloat16 else example.dtype).numpy()
    batch = np.asarray(example)
    shape = " x ".join(map(str, batch.shape))
    if batch.dtype.kind in "OUSc":
        kind = "complex" if batch.dtype.kind == "c" else f"a {type(example).__name__}"
        raise TypeError(f"the example is {kind}, expected a batch of images as an array of floating-point numbers")
    if batch.dtype.kind not in "fV":
        raise TypeError(
            f"the example is {batch.dtype}, expected a batch of images in floating-point numbers: divide by 255"
        )
    if batch.ndim != 4:
        hint = ": give example[None]" if batch.ndim == 3 else ""
        raise ValueError(f"the example has the shape {shape}, expected a batch, N x H x W x C or N x C x H x W{hint}")
    if 0 in batch.shape:
        raise ValueError(f"the example has the shape {shape}: it is empty")
    batch = batch if batch.dtype.kind == "f" and batch.dtype.itemsize > 2 else batch.astype(np.float32)
    if not np.isfinite(batch).all():
        raise ValueError("the example holds NaN or infinity")
    return batch


def random_like(images: Tensor) -> Tensor:
    """Another batch, of random numbers in the range of the example's."""
    generator = torch.Generator().manual_seed(0)
    low, high = images.min(), images.max()
    low, high = (low, high) if high > low else (torch.zeros_like(low), torch.ones_like(low))
    noise = torch.rand(COUNT + 1, *images.shape[1:], generator=generator, dtype=images.dtype)
    return low + (high - low) * noise


def wrapped(net: nn.Module, shape: tuple[int, ...], axes: tuple[int, ...], **options: Any) -> Classifier:
    """An imported network for images of one size as a `Classifier`.

    Args:
        net: takes N x C x H x W.
        shape: of the example, as its source takes it.
        axes: those of N, C, H, W in that.
        options: as for `wrap`.
    """
    channels, height, width = (shape[axis] for axis in axes[1:])
    net.register_forward_pre_hook(partial(check_shape, (channels, height, width)))
    return wrap(net.eval(), size=(height, width), channels=channels, **options)


def image_shape(batch: Sequence[int | None] | None, size: int | tuple[int, int] | None) -> tuple[int, int, int]:
    """Height, width and channels of a model's images, from the shape that it states of a batch and the size given.

    Raises:
        ImportFailed: if that does not say all of them.
    """
    if batch is None or len(batch) != 4:
        stated = "that it does not state" if batch is None else tuple(batch)
        raise ImportFailed(f"the model takes inputs of shape {stated}, expected N x H x W x C")
    shape = batch[1:]
    free = [axis for axis, length in enumerate(shape) if length is None]
    if free and size is None:
        raise ImportFailed("the model takes images of any size: give size=, height and width in pixels")
    sides = (size, size) if isinstance(size, int) else size or ()
    height, width, channels = (dict(zip(free, sides, strict=False)).get(axis, n) for axis, n in enumerate(shape))
    if height is None or width is None or channels is None:
        raise ImportFailed("the model does not say how many channels its images have")
    return height, width, channels


def pixel_range(mean: Any, std: Any) -> tuple[float, float]:
    """Between which numbers (pixels - mean) / std lie, for pixels in [0, 1]."""
    means, stds = (np.atleast_1d(usual if given is None else given) for usual, given in ((0.0, mean), (1.0, std)))
    return float(((0 - means) / stds).min()), float(((1 - means) / stds).max())


def check_shape(shape: tuple[int, ...], _net: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """A hook before the network, which is for images of one size."""
    if tuple(inputs[0].shape[1:]) != shape:
        got, wanted = (" x ".join(map(str, s)) for s in (inputs[0].shape[1:], shape))
        raise ValueError(f"this network was imported for images {wanted} (C x H x W), and got {got}")
