"""An untouched forward whose backward is another one.

A function mode sees each function that a pass calls, wherever it is called; those that have a rule get a node of
their own in the autograd graph, and nothing of the network is changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from ...rules import Rule, Schedule
from . import attention, distances, function_kinds, functions, norms, products
from .soft_minimum import soft_min, squared_distances
from .unseen import check as check
from .unseen import reached as reached
from .watch import Watch as Watch

HANDLERS = function_kinds.table(
    {
        function_kinds.CONVOLUTION: products.convolution,
        function_kinds.DENSE: products.dense,
        function_kinds.MATRICES: products.matrices,
        function_kinds.FUSED: products.fused,
        function_kinds.PRODUCT: products.product,
        function_kinds.QUOTIENT: products.quotient,
        function_kinds.SUM: functions.addition,
        function_kinds.AVERAGE: functions.average,
        function_kinds.MAXIMUM: functions.maximum,
        function_kinds.ACTIVATION: functions.activation,
        function_kinds.SOFTMAX: functions.softmax,
        function_kinds.SCALING: norms.scaling,
        function_kinds.RECURRENT: functions.recurrent,
        function_kinds.named("batch_norm"): norms.batch_norm,
        function_kinds.named("layer_norm"): norms.layer_norm,
        function_kinds.named("rms_norm"): norms.rms_norm,
        function_kinds.named("group_norm"): norms.group_norm,
        function_kinds.named("instance_norm"): norms.instance_norm,
        function_kinds.named("glu"): functions.glu,
        frozenset({F.scaled_dot_product_attention}): attention.scaled_dot_product,
        frozenset({F.multi_head_attention_forward}): attention.multi_head,
        frozenset({squared_distances}): distances.distances,
        frozenset({soft_min}): distances.soft_min,
    }
)


def watch(
    rules: Mapping[Any, Rule | Schedule],
    net: nn.Module | None,
    *,
    low: Tensor | None = None,
    high: Tensor | None = None,
    relevance: bool = False,
) -> Watch:
    """Rules at work in one pass; see `Watch`."""
    return Watch(rules, net, HANDLERS, low=low, high=high, relevance=relevance)
