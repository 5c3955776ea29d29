"""ONNX's operators for quantized networks, in the format that keeps the float network: pairs of QuantizeLinear and
DequantizeLinear around its values.

Weights are dequantized once. Values are rounded as the file rounds them, and gradients go straight through, where a
value is not cut off at the ends of its range.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..graph.graph import Graph, ImportFailed, Permuted, Value
from .linear_rules import known
from .rules import Node, axis_of, rule

TOLERANCE = 5e-2  # where sums are rounded otherwise, a value falls into the next step now and then
RANGES = {
    torch.uint8: (0, 2**8 - 1), torch.int8: (-(2**7), 2**7 - 1), torch.int64: (0, 2**16 - 1),  # read from uint16
    torch.int16: (-(2**15), 2**15 - 1),
}  # fmt: skip
KINDS = {0: torch.uint8, 2: torch.uint8, 3: torch.int8, 4: torch.int64, 5: torch.int16}  # as TensorProto.DataType
SIGNED = (F.conv1d, F.conv2d, F.conv3d, F.linear, F.batch_norm, torch.add)


def quantized(x: Tensor, scale: float, zero: int, low: int, high: int) -> Tensor:
    """What whole numbers from `low` to `high` stand for, scale (q - zero), that are nearest to x."""
    return x if x.is_meta else torch.fake_quantize_per_tensor_affine(x, scale, zero, low, high)


@rule("QuantizeLinear", "com.microsoft.QuantizeLinear")
def quantize(g: Graph, node: Node, x: Value, scale: Value, zero: Value | None = None) -> Permuted:
    """Numbers that are cut off at zero come from a ReLU that was joined to this."""
    steps, offsets = known(scale, "its scale"), known(zero, "its zero")
    kind = KINDS.get(node.get("output_dtype", 0)) if offsets is None else offsets.dtype
    if kind not in RANGES or steps is None or node.get("block_size"):
        raise ImportFailed("it has a rule for whole numbers of 8 and 16 bits, with a scale for all or for each channel")
    low, high = RANGES[kind]
    if isinstance(x.held, Tensor):
        rounded = torch.round(x.held / along(steps, x, node)) + (0 if offsets is None else along(offsets, x, node))
        return Permuted(rounded.clamp(low, high).to(kind), x.order)
    if steps.numel() > 1:
        raise ImportFailed("it has a rule for one scale for all, where the images go in")
    offset, held = 0 if offsets is None else int(offsets.item()), x.held
    if offset == low and held.function in SIGNED:
        held = g.call(F.relu, held)
    return Permuted(g.call(quantized, held, float(steps.item()), offset, low, high), x.order)


@rule("DequantizeLinear", "com.microsoft.DequantizeLinear")
def dequantize(g: Graph, node: Node, x: Value, scale: Value, zero: Value | None = None) -> Permuted:
    if isinstance(x.held, Tensor):
        steps, offsets = known(scale, "its scale"), known(zero, "its zero")
        if node.get("block_size") or steps is None:
            raise ImportFailed("scales for blocks have no rule")
        whole = x.held.to(g.dtype) - (0 if offsets is None else along(offsets, x, node).to(g.dtype))
        return Permuted(whole * along(steps, x, node), x.order)
    before = x.held
    while before.function is not quantized and len(before.inputs) == 1:
        (before,) = before.inputs
    if before.function is not quantized or before.args[1:3] != (scale.number(), 0 if zero is None else zero.number()):
        raise ImportFailed("it has a rule only behind a QuantizeLinear of the same scale")
    return Permuted(x.held, x.order)


def along(numbers: Tensor, x: Value, node: Node) -> Tensor:
    """One number for all, or one for each place along an axis."""
    shape = [1] * x.ndim
    if numbers.numel() > 1:
        shape[x.axis(axis_of(x, node.get("axis", 1)))] = -1
    return numbers.reshape(shape)
