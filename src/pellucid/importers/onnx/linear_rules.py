"""ONNX's operators in torch: convolutions, products of matrices, norms, windows, resizing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..graph import windows
from ..graph.batch_dims import check_batch_axis
from ..graph.elementwise import applied
from ..graph.graph import BatchDim, Graph, ImportFailed, Permuted, Value
from ..graph.products import contracted, count_of, matmul, matrix_transposed
from ..graph.shapes import padded
from .rules import DynamicDim, Node, dims, rule

Pairs = list[tuple[int, int]]


def known(value: Value | None, words: str) -> Tensor | None:
    """Weights; None if there are none."""
    if value is None:
        return None
    if not isinstance(value.held, Tensor):
        raise ImportFailed(f"{words} depend on the images, which has no rule")
    return value.held


def window(node: Node, x: Value, kernel: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...], Pairs]:
    """Strides, dilations and what is padded before and after, of each side."""
    size = len(kernel)
    if x.ndim != size + 2 or not 1 <= size <= 3:
        raise ImportFailed(f"a window of {size} sides over a value with {x.ndim} axes has no rule")
    stride = tuple(node.get("strides", (1,) * size))
    dilation = tuple(node.get("dilations", (1,) * size))
    mode = node.get("auto_pad", "NOTSET")
    if mode in ("NOTSET", ""):
        pads = list(node.get("pads", (0,) * 2 * size))
        return stride, dilation, list(zip(pads[:size], pads[size:], strict=True))
    if mode == "VALID":
        return stride, dilation, [(0, 0)] * size
    pairs = windows.same_pads(x.shape[2:], kernel, stride, dilation)
    return stride, dilation, pairs if mode == "SAME_UPPER" else [(after, before) for before, after in pairs]


def sums(g: Graph, node: Node, x: Value, kernel: Sequence[int]) -> Permuted:
    """A window of ones over many sides, longer than 1 along two, as jax2onnx writes the sums of average pools."""
    size = len(kernel)
    stride, pads = node.get("strides", (1,) * size), node.get("pads", (0,) * 2 * size)
    sides = list(zip(kernel, stride, pads[:size], pads[size:], strict=True))
    long = [side for side in range(size) if sides[side] != (1, 1, 0, 0)]
    if len(long) != 2 or x.ndim != size + 2 or set(node.get("dilations", ())) > {1}:
        raise ImportFailed(f"a window of {size} sides over a value with {x.ndim} axes has no rule")
    order = [*(axis for axis in x.order if axis - 2 not in long), *(side + 2 for side in long)]
    before = [x.shape[axis] for axis in order]
    images = next((place for place, n in enumerate(before) if isinstance(n, BatchDim)), 0) + 1
    held = g.reshaped(g.ordered(x, order), (count_of(before[:images]), count_of(before[images:-2]), *before[-2:]))
    (high, *_), (wide, *_) = parts = [sides[side] for side in long]
    held = windows.sum_pool(g, held, (high, wide), [one[1] for one in parts], [(a, b) for _, _, a, b in parts])
    after = [(n + first + last - k) // s + 1 for n, (k, s, first, last) in zip(before[-2:], parts, strict=True)]
    return Permuted(g.reshaped(held, (*before[:-2], *after)), tuple(order))


@rule("Conv")
def convolution(g: Graph, node: Node, x: Value, w: Value, b: Value | None = None) -> Any:
    weight, bias = known(w, "the weights of a convolution"), known(b, "its biases")
    assert weight is not None
    if weight.ndim > 2 + len(windows.CONVOLUTIONS) and weight.shape[:2] == (1, 1) and bool((weight == 1).all()):
        return sums(g, node, x, weight.shape[2:])
    stride, dilation, pairs = window(node, x, weight.shape[2:])
    return windows.convolution(g, g.plain(x), weight, bias, stride, pairs, dilation, node.get("group", 1))


@rule("ConvTranspose")
def transposed_convolution(g: Graph, node: Node, x: Value, w: Value, b: Value | None = None) -> Any:
    weight, bias = known(w, "the weights of a convolution"), known(b, "its biases")
    assert weight is not None
    if node.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID") or node.get("output_shape") is not None:
        raise ImportFailed("a transposed convolution whose padding follows from its output has no rule")
    stride, dilation, pairs = window(node, x, weight.shape[2:])
    more = tuple(node.get("output_padding", (0,) * len(pairs)))
    even = all(before == after for before, after in pairs)
    held = g.call(
        windows.TRANSPOSED[len(pairs) - 1], g.plain(x), weight, bias, stride,
        tuple(before for before, _ in pairs) if even else (0,) * len(pairs), more, node.get("group", 1), dilation,
    )  # fmt: skip
    return held if even else padded(g, held, [(0, 0), (0, 0), *((-before, -after) for before, after in pairs)])


@rule("Gemm")
def gemm(g: Graph, node: Node, a: Value, b: Value, c: Value | None = None) -> Any:
    """alpha a' b' + beta c; a dense layer where b and c are weights."""
    alpha, beta = float(node.get("alpha", 1.0)), float(node.get("beta", 1.0))
    left = g.plain(matrix_transposed(a) if node.get("transA") else a)
    right = g.plain(matrix_transposed(b) if node.get("transB") else b)
    check_batch_axis(a, [0 if node.get("transA") else 1], node.kind)
    bias = None if c is None else c.held
    if isinstance(right, Tensor) and (
        bias is None or (isinstance(bias, Tensor) and bias.numel() == bias.shape[-1:].numel())
    ):
        shift = None if bias is None else (bias.reshape(-1) * beta).expand(right.shape[1]).contiguous()
        return g.call(F.linear, left, (right.T * alpha).contiguous(), shift)
    held = g.call(torch.matmul, left, right)
    held = held if alpha == 1 else g.call(torch.mul, held, alpha)
    if c is None:
        return held
    return g.call(torch.add, held, g.plain(c) if beta == 1 else g.call(torch.mul, g.plain(c), beta))


@rule("MatMul")
def product(g: Graph, node: Node, a: Value, b: Value) -> Any:
    check_batch_axis(a, [a.ndim - 1], node.kind)
    check_batch_axis(b, [max(0, b.ndim - 2)], node.kind)
    return matmul(g, g.plain(a), g.plain(b))


@rule("Einsum")
def einsum(g: Graph, node: Node, *values: Value) -> Any:
    equation = node.get("equation").replace(" ", "")
    if "->" not in equation or "." in equation:
        return g.call(torch.einsum, equation, *(g.plain(value) for value in values))
    inputs, output = equation.split("->")
    letters = "".join(inputs.split(","))
    length = dict(zip(letters, (n for x in values for n in x.shape), strict=True))
    return contracted(g, equation, values, tuple(length[letter] for letter in output))


@rule("Attention")
def attention(
    g: Graph, node: Node, q: Value, k: Value, v: Value, mask: Value | None = None, *more: Value | None
) -> Any:
    same = [node.get(name) in (None, 0, 0.0) for name in ("softcap", "qk_matmul_output_mode")]
    if any(value is not None for value in more) or not all(same) or not q.ndim == k.ndim == v.ndim == 4:
        raise ImportFailed("it has a rule only for N x heads x length x width without a past")
    options: dict[str, Any] = {} if mask is None else {"attn_mask": g.plain(mask)}
    options |= {"is_causal": True} if node.get("is_causal") else {}
    options |= {"scale": float(node.get("scale"))} if node.get("scale") else {}
    options |= {"enable_gqa": True} if q.shape[1] != k.shape[1] else {}
    return g.call(F.scaled_dot_product_attention, g.plain(q), g.plain(k), g.plain(v), **options)


# Norms.


@rule("BatchNormalization")
def batch_norm(g: Graph, node: Node, x: Value, scale: Value, bias: Value, mean: Value, var: Value) -> Any:
    training = node.get("training_mode", 0) or sum(map(bool, node.outputs)) > 1
    if training or node.get("spatial", 1) == 0:
        raise ImportFailed("the batch norm takes the statistics of the batch: export the network in evaluation mode")
    numbers = [known(value, "the numbers of a batch norm") for value in (mean, var, scale, bias)]
    return g.call(F.batch_norm, g.plain(x), *numbers, False, 0.0, float(node.get("epsilon", 1e-5)))


@rule("LayerNormalization", "RMSNormalization")
def layer_norm(g: Graph, node: Node, x: Value, scale: Value, bias: Value | None = None) -> Any:
    over = [n for n in x.shape[node.get("axis", -1) % x.ndim :] if isinstance(n, int)]
    if len(over) != x.ndim - node.get("axis", -1) % x.ndim or sum(map(bool, node.outputs)) > 1:
        raise ImportFailed(f"{node.kind} over the images of a batch, or with several outputs, has no rule")
    weight, shift = known(scale, "its weights"), known(bias, "its biases")
    assert weight is not None
    eps = float(node.get("epsilon", 1e-5))
    if node.kind == "RMSNormalization":
        return g.call(F.rms_norm, g.plain(x), tuple(over), weight.expand(over), eps)
    return g.call(F.layer_norm, g.plain(x), tuple(over), weight.expand(over),
                  None if shift is None else shift.expand(over), eps)  # fmt: skip


@rule("InstanceNormalization")
def instance_norm(g: Graph, node: Node, x: Value, scale: Value, bias: Value) -> Any:
    """An instance norm is a group norm whose groups are channels."""
    weight, shift = known(scale, "its weights"), known(bias, "its biases")
    return g.call(F.group_norm, g.plain(x), x.shape[1], weight, shift, float(node.get("epsilon", 1e-5)))


@rule("GroupNormalization")
def group_norm(g: Graph, node: Node, x: Value, scale: Value, bias: Value) -> Any:
    weight, shift = known(scale, "its weights"), known(bias, "its biases")
    assert weight is not None and shift is not None and isinstance(x.shape[1], int)
    each = x.shape[1] // len(weight)  # in the older sets of operators they were for groups
    weight, shift = weight.repeat_interleave(each), shift.repeat_interleave(each)
    eps = float(node.get("epsilon", 1e-5))
    return g.call(F.group_norm, g.plain(x), node.get("num_groups"), weight, shift, eps)


@rule("LRN")
def local_response_norm(g: Graph, node: Node, x: Value) -> Any:
    numbers = [float(node.get(name, default)) for name, default in (("alpha", 1e-4), ("beta", 0.75), ("bias", 1.0))]
    return g.call(F.local_response_norm, g.plain(x), int(node.get("size")), *numbers)


@rule("LpNormalization")
def lp_norm(g: Graph, node: Node, x: Value) -> Value:
    axis = node.get("axis", -1) % x.ndim
    check_batch_axis(x, [axis], node.kind)
    return applied(g, F.normalize, x, float(node.get("p", 2)), x.axis(axis))


# Windows.


@rule("MaxPool", "AveragePool")
def pool(g: Graph, node: Node, x: Value) -> Any:
    kernel = tuple(node.get("kernel_shape"))
    stride, dilation, pairs = window(node, x, kernel)
    if sum(map(bool, node.outputs)) > 1:
        raise ImportFailed("the places of the largest numbers have no rule")
    held, ceil = g.plain(x), bool(node.get("ceil_mode", 0))
    if node.kind == "MaxPool":
        return windows.max_pool(g, held, kernel, stride, pairs, dilation, ceil)
    if any(d != 1 for d in dilation):
        raise ImportFailed("an average pool with dilations has no rule")
    return windows.average_pool(
        g, held, kernel, stride, pairs, x.shape[2:], ceil=ceil, padding_counts=bool(node.get("count_include_pad", 0))
    )


@rule("GlobalAveragePool", "GlobalMaxPool")
def global_pool(g: Graph, node: Node, x: Value) -> Any:
    if x.ndim != 4:
        reduction = torch.mean if node.kind == "GlobalAveragePool" else torch.amax
        return g.call(reduction, g.plain(x), tuple(range(2, x.ndim)), keepdim=True)
    return g.call(F.adaptive_avg_pool2d if node.kind == "GlobalAveragePool" else F.adaptive_max_pool2d, g.plain(x), 1)


@rule("Resize", "Upsample")
def resize(g: Graph, node: Node, x: Value, *given: Value | DynamicDim | None) -> Any:
    held = g.plain(x)
    _, scales, shape = (None, *given, None, None)[:3] if node.version < 11 else (*given, None, None, None)[:3]
    if x.ndim != 4 or node.get("axes") is not None:
        raise ImportFailed("a resize has a rule only for N x C x H x W")
    if shape is not None:
        to = dims(shape)
    else:
        factors = known(scales, "the factors") if isinstance(scales, Value) else torch.tensor(node.get("scales", ()))
        if factors is None or factors.numel() != 4 or factors[:2].tolist() != [1, 1]:
            raise ImportFailed("a resize has a rule only for H and W of N x C x H x W")
        to = [*x.shape[:2], *(int(n * f) for n, f in zip(x.shape[2:], factors[2:].tolist(), strict=True))]
    if to[1:2] != [x.shape[1]] or not all(isinstance(n, int) for n in to[2:]):
        raise ImportFailed("a resize has a rule only for H and W of N x C x H x W")
    usual = "half_pixel" if node.version >= 11 else "asymmetric"
    where, mode = node.get("coordinate_transformation_mode", usual), node.get("mode", "nearest")
    return g.call(F.interpolate, held, tuple(to[2:]), **_interpolation(node, where, mode, x, to))


def _interpolation(node: Node, where: str, mode: str, x: Value, to: Sequence[Any]) -> dict[str, Any]:
    """torch's words for how places between pixels are computed; what it has no words for has no rule."""
    rounding = node.get("nearest_mode", "round_prefer_floor" if node.version >= 11 else "floor")
    whole = all(isinstance(n, int) and new % n == 0 for n, new in zip(x.shape[2:], to[2:], strict=True))
    if mode == "nearest":
        if where == "asymmetric" and rounding == "floor":
            return {"mode": "nearest"}
        if where in ("half_pixel", "pytorch_half_pixel") and (whole or rounding == "round_prefer_ceil"):
            return {"mode": "nearest-exact"}
    elif where in ("half_pixel", "pytorch_half_pixel", "align_corners") and not node.get("exclude_outside"):
        smooth = {"antialias": True} if node.get("antialias") else {}
        cubic = mode == "cubic" and math.isclose(node.get("cubic_coeff_a", -0.75), -0.75)
        if mode == "linear" or cubic:
            name = "bilinear" if mode == "linear" else "bicubic"
            return {"mode": name, "align_corners": where == "align_corners", **smooth}
    raise ImportFailed(f"resizing by {mode!r} at {where!r} (rounding {rounding!r}) is not among what torch has")
