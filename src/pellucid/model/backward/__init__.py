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
from . import attention, distances, functions, norms, products, tables
from .soft_minimum import soft_min, squared_distances
from .unseen import check as check
from .unseen import reached as reached
from .watch import Watch as Watch

HANDLERS = tables.table(
    {
        tables.CONVOLUTION: products.convolution,
        tables.DENSE: products.dense,
        tables.MATRICES: products.matrices,
        tables.FUSED: products.fused,
        tables.PRODUCT: products.product,
        tables.QUOTIENT: products.quotient,
        tables.SUM: functions.addition,
        tables.AVERAGE: functions.average,
        tables.MAXIMUM: functions.maximum,
        tables.ACTIVATION: functions.activation,
        tables.SOFTMAX: functions.softmax,
        tables.SCALING: norms.scaling,
        tables.RECURRENT: functions.recurrent,
        tables.named("batch_norm"): norms.batch_norm,
        tables.named("layer_norm"): norms.layer_norm,
        tables.named("rms_norm"): norms.rms_norm,
        tables.named("group_norm"): norms.group_norm,
        tables.named("instance_norm"): norms.instance_norm,
        tables.named("glu"): functions.glu,
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
