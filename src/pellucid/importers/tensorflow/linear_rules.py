"""TensorFlow's operations in torch: convolutions, pools, batch norm, products of matrices."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..graph.graph import Graph, ImportFailed, Value
from ..graph.rule_parts import contracted, padded
from .rules import Rows, rule, shape_of


@rule("Conv2D", "DepthwiseConv2dNative")
def convolution(g: Graph, op: Any, x: Value, w: Value) -> Value:
    kernel = w.held
    if not isinstance(kernel, Tensor):
        raise ImportFailed("a convolution whose weights depend on the images has no rule")
    order, stride, dilation = _picture(op)
    held = g.ordered(x, order)
    channels = x.shape[order[1]]
    assert isinstance(channels, int)
    if op.type == "Conv2D":
        weight, groups = kernel.permute(3, 2, 0, 1), channels // kernel.shape[2]
    else:
        weight, groups = kernel.permute(2, 3, 0, 1).reshape(-1, 1, *kernel.shape[:2]), channels
    held, even = _padded(g, op, x, order, held, tuple(weight.shape[2:]), stride, dilation, 0.0)
    out = g.call(F.conv2d, held, weight.contiguous(), None, stride, even, dilation, groups)
    return Value(out, shape_of(op.outputs[0]), order)


@rule("MaxPool", "AvgPool")
def pool(g: Graph, op: Any, x: Value) -> Value:
    order, stride, _ = _picture(op)
    sizes = op.get_attr("ksize")
    kernel = (int(sizes[order[2]]), int(sizes[order[3]]))
    low = torch.finfo(g.dtype).min if op.type == "MaxPool" else 0.0
    held, even = _padded(g, op, x, order, g.ordered(x, order), kernel, stride, (1, 1), low)
    if op.type == "MaxPool":
        out = g.call(F.max_pool2d, held, kernel, stride, even)
    elif held is x.held or op.get_attr("padding") == b"VALID":
        out = g.call(F.avg_pool2d, held, kernel, stride, even, False, False)
    else:  # padded on one side: what is outside does not count
        sides = tuple(n for n in (x.shape[order[2]], x.shape[order[3]]) if isinstance(n, int))
        inside = Graph(g.dtype, (1, sides[0], sides[1]))
        counted, _ = _padded(inside, op, x, order, torch.ones(1, 1, *sides, dtype=g.dtype), kernel, stride, (1, 1), 0.0)
        out = g.call(F.avg_pool2d, held, kernel, stride, even, False, True, 1)
        out = g.call(torch.div, out, F.avg_pool2d(counted, kernel, stride, 0, False, True, 1))
    return Value(out, shape_of(op.outputs[0]), order)


def _picture(op: Any) -> tuple[tuple[int, int, int, int], tuple[int, int], tuple[int, int]]:
    """The order that gives N x C x H x W, strides and dilations of the sides."""
    order = (0, 1, 2, 3) if op.get_attr("data_format") == b"NCHW" else (0, 3, 1, 2)
    strides = op.get_attr("strides")
    try:
        dilations = op.get_attr("dilations")
    except ValueError:  # a pool has none
        dilations = [1, 1, 1, 1]
    (a, b), (c, d) = ((int(values[order[2]]), int(values[order[3]])) for values in (strides, dilations))
    return order, (a, b), (c, d)


def _padded(
    g: Graph, op: Any, x: Value, order: tuple[int, ...], held: Any,
    kernel: tuple[int, ...], stride: tuple[int, int], dilation: tuple[int, int], value: float,
) -> tuple[Any, tuple[int, int]]:  # fmt: skip
    """What SAME and EXPLICIT pad: by hand where the two ends differ, else as numbers for torch."""
    kind = op.get_attr("padding")
    if kind == b"VALID":
        return held, (0, 0)
    ends = []
    if kind == b"EXPLICIT":
        listed = [int(n) for n in op.get_attr("explicit_paddings")]
        ends = [(listed[2 * axis], listed[2 * axis + 1]) for axis in order[2:]]
    else:
        for axis, k, s, d in zip(order[2:], kernel, stride, dilation, strict=True):
            length = x.shape[axis]
            assert isinstance(length, int)
            total = max((math.ceil(length / s) - 1) * s + (k - 1) * d + 1 - length, 0)
            ends.append((total // 2, total - total // 2))
    if all(before == after for before, after in ends):
        return held, (ends[0][0], ends[1][0])
    return padded(g, held, [(0, 0), (0, 0), *ends], value), (0, 0)


@rule("BiasAdd")
def bias_add(g: Graph, op: Any, x: Value, b: Value) -> Value:
    channel = 1 if op.get_attr("data_format") == b"NCHW" else x.ndim - 1
    assert isinstance(b.held, Tensor)
    bias = b.held.reshape([-1 if axis == channel else 1 for axis in x.order])
    return Value(g.call(torch.add, x.held, bias), x.shape, x.order)


@rule("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")
def batch_norm(g: Graph, op: Any, x: Value, scale: Value, offset: Value, mean: Value, var: Value) -> Value:
    if op.get_attr("is_training"):
        raise ImportFailed("the batch norm takes the statistics of the batch: import the network as it predicts")
    order = (0, 1, 2, 3) if op.get_attr("data_format") == b"NCHW" else (0, 3, 1, 2)
    known = [value.held for value in (mean, var, scale, offset)]
    out = g.call(F.batch_norm, g.ordered(x, order), *known, False, 0.0, op.get_attr("epsilon"))
    return Value(out, x.shape, order)


@rule("MatMul", "BatchMatMulV2", "BatchMatMul")
def product(g: Graph, op: Any, a: Value, b: Value) -> Any:
    words = ("transpose_a", "transpose_b") if op.type == "MatMul" else ("adj_x", "adj_y")
    left, right = (
        g.plain(_turned(value) if op.get_attr(word) else value) for value, word in zip((a, b), words, strict=True)
    )
    if a.known or not isinstance(right, Tensor) or right.ndim != 2:
        return g.call(torch.matmul, left, right)
    weight = right.T.contiguous()
    if not isinstance(a, Rows):
        return g.call(F.linear, left, weight, None)
    x = a.of  # a dense layer at each place
    out, order = g.call(F.linear, g.plain(x), weight, None), tuple(range(x.ndim))
    if x.order == (0, 3, 1, 2):  # of a picture, and it stays one
        out, order = g.call(Tensor.permute, out, x.order), x.order
    whole = Value(out, (*x.shape[:-1], len(weight)), order)
    shape = (a.shape[0], len(weight))
    return Rows(g.reshaped(g.plain(whole), shape), shape, (0, 1), whole)


def _turned(x: Value) -> Value:
    last = x.ndim - 1
    swap = {last: last - 1, last - 1: last}
    shape = (*x.shape[:-2], x.shape[-1], x.shape[-2])
    return Value(x.held, shape, tuple(swap.get(axis, axis) for axis in x.order))


@rule("Einsum")
def einsum(g: Graph, op: Any, *values: Value) -> Any:
    return contracted(g, op.get_attr("equation").decode(), values, shape_of(op.outputs[0], needed=True))
