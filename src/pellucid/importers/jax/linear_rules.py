"""JAX's primitives in torch: convolutions, products of matrices, windows, gather."""

from __future__ import annotations

import math
import operator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..graph.batch_dims import check_batch_axis
from ..graph.graph import Dim, Graph, ImagesMixed, ImportFailed, Permuted, Shape, Value
from ..graph.products import count_of
from ..graph.shapes import dilated, updated
from ..graph.windows import convolution, max_pool, sum_pool
from .jaxpr import Equation
from .rules import rule


@rule("conv_general_dilated")
def conv(g: Graph, e: Equation, x: Value, w: Value) -> Permuted:
    p = e.params
    if p["batch_group_count"] != 1:
        raise ImportFailed("conv_general_dilated with batch_group_count has no rule")
    if not w.known:
        raise ImportFailed("a convolution whose weights depend on the images has no rule")
    axes = p["dimension_numbers"]
    held = g.ordered(g.expanded(x), axes.lhs_spec)
    weight = g.ordered(w, axes.rhs_spec)
    assert isinstance(weight, Tensor)
    size = x.ndim - 2
    if not 1 <= size <= 3:
        raise ImportFailed(f"a convolution of {size} dimensions has no rule")
    for axis, step in enumerate(p["lhs_dilation"]):
        if step != 1:  # a transposed convolution
            held = g.call(dilated, held, axis + 2, step - 1, 0.0)
    out = convolution(
        g, held, weight, None, p["window_strides"], [(int(a), int(b)) for a, b in p["padding"]], p["rhs_dilation"],
        p["feature_group_count"],
    )  # fmt: skip
    return Permuted(out, tuple(axes.out_spec))


@rule("dot_general")
def dot_general(g: Graph, e: Equation, a: Value, b: Value) -> Any:
    (over_a, over_b), (each_a, each_b) = e.params["dimension_numbers"]
    over_a, over_b, each_a, each_b = ([int(i) for i in axes] for axes in (over_a, over_b, each_a, each_b))
    for value, axes in ((a, over_a), (b, over_b)):
        if not value.known:
            check_batch_axis(value, axes, e.name)
    free_a = [i for i in range(a.ndim) if i not in over_a + each_a]
    free_b = [i for i in range(b.ndim) if i not in over_b + each_b]
    if not each_a and a.known != b.known:
        if b.known:
            return _dense(g, a, b, free_a, free_b, over_a, over_b, list(range(len(e.shapes[0]))))
        order = [*range(len(free_a), len(e.shapes[0])), *range(len(free_a))]
        return _dense(g, b, a, free_b, free_a, over_b, over_a, order)
    a, b = g.expanded(a), g.expanded(b)
    left = _matrices(g, a, each_a, free_a, over_a)
    right = _matrices(g, b, each_b, over_b, free_b)
    shape: Shape = (*(a.shape[i] for i in each_a), _product(a, free_a), _product(b, free_b))
    held = g.call(torch.matmul, left, right)
    return held if shape == e.shapes[0] else g.reshaped(held, e.shapes[0])


def _dense(
    g: Graph, x: Value, w: Value,
    free_x: list[int], free_w: list[int], over_x: list[int], over_w: list[int], order: list[int],
) -> Permuted:  # fmt: skip
    """A dense layer over the last axes of x. `order`: axes of the equation's output, those of x first."""
    across = [w.shape[i] for i in free_w]
    weight = g.ordered(w, free_w + over_w)
    assert isinstance(weight, Tensor)
    width = math.prod(n for n in (w.shape[i] for i in over_w) if isinstance(n, int))
    weight = weight.reshape(-1, width).contiguous()
    picture = x.ndim == 4 and len(over_x) == len(free_w) == 1 and x.order == (*free_x[:1], *over_x, *free_x[1:])
    held = g.ordered(x, free_x + over_x)
    lengths = tuple(x.shape[i] for i in free_x)
    if len(over_x) != 1:
        held = g.reshaped(held, (*lengths, width))
    out = g.call(F.linear, held, weight, None)
    if len(across) != 1:
        out = g.reshaped(out, (*lengths, *across))
    if picture:  # a dense layer at each place of a feature map gives a feature map
        out = g.call(Tensor.permute, out, (0, 3, 1, 2))
        order = [order[0], order[3], order[1], order[2]]
    return Permuted(out, tuple(order))


def _matrices(g: Graph, x: Value, each: list[int], rows: list[int], columns: list[int]) -> Any:
    held = g.ordered(x, each + rows + columns)
    if len(rows) == len(columns) == 1:
        return held
    return g.reshaped(held, (*(x.shape[i] for i in each), _product(x, rows), _product(x, columns)))


def _product(x: Value, axes: list[int]) -> Dim:
    return count_of([x.shape[i] for i in axes])


@rule("reduce_window_max", "reduce_window_min", "reduce_window_sum")
def window(g: Graph, e: Equation, x: Value) -> Any:
    """Pools. A sum is an average pool with the divisor 1; what it is divided by is joined to it later."""
    p = e.params
    axes = range(x.ndim)
    wide = [i for i in axes if (p["window_dimensions"][i], p["window_strides"][i]) != (1, 1) or any(p["padding"][i])]
    if any(p["base_dilation"][i] != 1 for i in axes) or len(wide) > 3:
        raise ImportFailed(f"{e.name} over {len(wide)} dimensions, or with base dilation, has no rule")
    check_batch_axis(x, wide, e.name)
    if not wide:
        return x
    held_wide = tuple(sorted(wide))
    rest = [i for i in x.order if i not in wide]
    order = (*rest, *held_wide)
    held = g.ordered(x, order)
    size, lengths = len(wide), [x.shape[i] for i in order]
    if len(rest) != 2:  # torch pools N x C x ...
        held = g.reshaped(held, (*lengths[:1], _product(x, rest[1:]), *lengths[len(rest) :]))
    kernel, stride, dilation = (
        tuple(p[key][i] for i in held_wide) for key in ("window_dimensions", "window_strides", "window_dilation")
    )
    pads = [(int(before), int(after)) for before, after in (p["padding"][i] for i in held_wide)]
    if e.name == "reduce_window_sum":
        if any(d != 1 for d in dilation) or size != 2:
            raise ImportFailed(f"reduce_window_sum over {size} dimensions, or dilated, has no rule")
        out = sum_pool(g, held, kernel, stride, pads)
    elif e.name == "reduce_window_max":
        out = max_pool(g, held, kernel, stride, pads, dilation)
    else:
        out = g.call(torch.neg, max_pool(g, g.call(torch.neg, held), kernel, stride, pads, dilation))
    out = out if len(rest) == 2 else g.reshaped(out, tuple(e.shapes[0][i] for i in order))
    return Permuted(out, order)


@rule("gather")
def gather(g: Graph, e: Equation, x: Value, indices: Value) -> Any:
    """Rows of an array by known numbers, or one block of it."""
    d, sizes = e.params["dimension_numbers"], e.params["slice_sizes"]
    if not isinstance(indices.held, Tensor):
        raise ImportFailed("gather at places that depend on the images has no rule")
    if d.operand_batching_dims or d.start_indices_batching_dims:
        raise ImportFailed("gather with other places for each image has no rule")
    at = indices.held.long()
    axes = [int(axis) for axis in d.start_index_map]
    held = g.plain(g.expanded(x))
    count = math.prod(at.shape[:-1])
    if count == 1:  # one block
        starts = dict(zip(axes, at.reshape(-1).tolist(), strict=True))
        index = []
        for axis, size in enumerate(sizes):
            length = x.shape[axis]
            if size != length and not isinstance(length, int):
                raise ImagesMixed("it takes a part of the images: each must be computed by itself")
            start = min(max(starts.get(axis, 0), 0), length - size) if isinstance(length, int) else 0
            index.append(slice(None) if size == length else slice(start, start + size))
        return g.reshaped(g.call(operator.getitem, held, tuple(index)), e.shapes[0])
    whole = all(sizes[i] == x.shape[i] for i in range(x.ndim) if i not in axes)
    if not whole or any(sizes[i] != 1 for i in axes) or sorted(map(int, d.collapsed_slice_dims)) != sorted(axes):
        raise ImportFailed("gather of several blocks has no rule")
    length = math.prod(n for n in (x.shape[i] for i in axes) if isinstance(n, int))
    rest = [i for i in range(x.ndim) if i not in axes]
    flat, stride = torch.zeros(at.shape[:-1], dtype=torch.long), length
    for place, axis in enumerate(axes):
        n = x.shape[axis]
        assert isinstance(n, int)
        stride //= n
        flat = flat + at[..., place].clamp(0, n - 1) * stride
    held = g.ordered(Value(held, x.shape, tuple(range(x.ndim))), [*axes, *rest])
    held = g.reshaped(held, (length, *(x.shape[i] for i in rest)))
    held = g.call(torch.index_select, held, 0, flat.reshape(-1))
    held = g.reshaped(held, (*at.shape[:-1], *(x.shape[i] for i in rest)))
    offsets = [int(i) for i in d.offset_dims]
    order = [i for i in range(len(e.shapes[0])) if i not in offsets] + offsets
    return Permuted(held, tuple(order))


@rule("scatter")
def scatter(g: Graph, e: Equation, x: Value, indices: Value, updates: Value) -> Any:
    """One block of an array, at a known place, replaced."""
    d = e.params["dimension_numbers"]
    if not isinstance(indices.held, Tensor) or indices.held.numel() != len(d.scatter_dims_to_operand_dims):
        raise ImportFailed("scatter to several places, or to places that depend on the images, has no rule")
    starts = dict(zip(map(int, d.scatter_dims_to_operand_dims), indices.held.reshape(-1).tolist(), strict=True))
    windows = iter([updates.shape[int(axis)] for axis in d.update_window_dims])
    places: list[tuple[int, int | None]] = []
    block: list[Dim] = []
    for axis, length in enumerate(x.shape):
        size = 1 if axis in d.inserted_window_dims else next(windows)
        start = starts.get(axis, 0)
        places.append((0, None) if size == length else (start, start + size))
        block.append(size)
    held = g.reshaped(g.plain(g.expanded(updates)), tuple(block))
    return g.call(updated, g.plain(g.expanded(x)), held, tuple(places))
