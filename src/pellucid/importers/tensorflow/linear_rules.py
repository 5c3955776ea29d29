"""TensorFlow's operations in torch: convolutions, pools, batch norm, products of matrices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..graph import windows
from ..graph.graph import Graph, ImportFailed, Permuted, Value
from ..graph.products import contracted, matmul, matrix_transposed
from .rules import Rows, rule, shape_of


@rule("Conv2D", "DepthwiseConv2dNative")
def convolution(g: Graph, op: Any, x: Value, w: Value) -> Permuted:
    kernel = w.held
    if not isinstance(kernel, Tensor):
        raise ImportFailed("a convolution whose weights depend on the images has no rule")
    order, stride, dilation = _layout(op)
    channels = x.shape[order[1]]
    assert isinstance(channels, int)
    if op.type == "Conv2D":
        weight, groups = kernel.permute(3, 2, 0, 1), channels // kernel.shape[2]
    else:
        weight, groups = kernel.permute(2, 3, 0, 1).reshape(-1, 1, *kernel.shape[:2]), channels
    pads = _pads(op, x, order, weight.shape[2:], stride, dilation)
    out = windows.convolution(g, g.ordered(x, order), weight, None, stride, pads, dilation, groups)
    return Permuted(out, order)


@rule("MaxPool", "AvgPool")
def pool(g: Graph, op: Any, x: Value) -> Permuted:
    order, stride, _ = _layout(op)
    high, wide = order[2:]
    kernel = [int(op.get_attr("ksize")[axis]) for axis in (high, wide)]
    held, pads = g.ordered(x, order), _pads(op, x, order, kernel, stride, (1, 1))
    if op.type == "MaxPool":
        return Permuted(windows.max_pool(g, held, kernel, stride, pads, (1, 1)), order)
    return Permuted(windows.average_pool(g, held, kernel, stride, pads, (x.shape[high], x.shape[wide])), order)


def _layout(op: Any) -> tuple[tuple[int, int, int, int], tuple[int, int], tuple[int, int]]:
    """The order that gives N x C x H x W, strides and dilations of the sides."""
    order = (0, 1, 2, 3) if op.get_attr("data_format") == b"NCHW" else (0, 3, 1, 2)
    strides = op.get_attr("strides")
    try:
        dilations = op.get_attr("dilations")
    except ValueError:  # a pool has none
        dilations = [1, 1, 1, 1]
    (a, b), (c, d) = ((int(values[order[2]]), int(values[order[3]])) for values in (strides, dilations))
    return order, (a, b), (c, d)


def _pads(
    op: Any, x: Value, order: tuple[int, ...], kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> list[tuple[int, int]]:
    """What SAME, VALID and EXPLICIT pad before and after the sides."""
    kind = op.get_attr("padding")
    if kind == b"VALID":
        return [(0, 0), (0, 0)]
    if kind == b"EXPLICIT":
        listed = [int(n) for n in op.get_attr("explicit_paddings")]
        return [(listed[2 * axis], listed[2 * axis + 1]) for axis in order[2:]]
    return windows.same_pads([x.shape[axis] for axis in order[2:]], kernel, stride, dilation)


@rule("BiasAdd")
def bias_add(g: Graph, op: Any, x: Value, b: Value) -> Value:
    channel = 1 if op.get_attr("data_format") == b"NCHW" else x.ndim - 1
    assert isinstance(b.held, Tensor)
    bias = b.held.reshape([-1 if axis == channel else 1 for axis in x.order])
    return Value(g.call(torch.add, x.held, bias), x.shape, x.order)


@rule("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")
def batch_norm(g: Graph, op: Any, x: Value, scale: Value, offset: Value, mean: Value, var: Value) -> Permuted:
    if op.get_attr("is_training"):
        raise ImportFailed("the batch norm takes the statistics of the batch: import the network as it predicts")
    order = (0, 1, 2, 3) if op.get_attr("data_format") == b"NCHW" else (0, 3, 1, 2)
    known = [value.held for value in (mean, var, scale, offset)]
    out = g.call(F.batch_norm, g.ordered(x, order), *known, False, 0.0, op.get_attr("epsilon"))
    return Permuted(out, order)


@rule("MatMul", "BatchMatMulV2", "BatchMatMul")
def product(g: Graph, op: Any, a: Value, b: Value) -> Any:
    words = ("transpose_a", "transpose_b") if op.type == "MatMul" else ("adj_x", "adj_y")
    left, right = (
        g.plain(matrix_transposed(value) if op.get_attr(word) else value)
        for value, word in zip((a, b), words, strict=True)
    )
    if not isinstance(a, Rows) or not isinstance(right, Tensor) or right.ndim != 2:
        return matmul(g, left, right)
    x, weight = a.unflattened, right.T.contiguous()  # a dense layer at each place
    out, order = g.call(F.linear, g.plain(x), weight, None), tuple(range(x.ndim))
    if x.order == (0, 3, 1, 2):  # of a feature map, and it stays one
        out, order = g.call(Tensor.permute, out, x.order), x.order
    whole = Value(out, (*x.shape[:-1], len(weight)), order)
    shape = (a.shape[0], len(weight))
    return Rows(g.reshaped(g.plain(whole), shape), shape, (0, 1), whole)


@rule("Einsum")
def einsum(g: Graph, op: Any, *values: Value) -> Any:
    return contracted(g, op.get_attr("equation").decode(), values, shape_of(op.outputs[0], needed=True))
