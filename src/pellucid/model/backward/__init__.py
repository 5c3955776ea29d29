"""An untouched forward whose backward is another one: relevance propagation as pellucid sees it.

1. What flows backward is relevance divided by activation, g = R / a; it starts as the derivative of the objective.
2. Relevance is then input x g, at any layer. So ReLU, max pooling, reshaping, joining and all that is linear without a
   constant do the right thing with their ordinary gradient, and need no rule.
3. A rule for a linear map z = L(x; w) + b is one or two such maps with frozen coefficients: g is scaled by z over a
   stabilized sum, and goes back through w, w+ or |w|. Such rules are values, in `pellucid.rules`.
4. `Watch`, a function mode, sees each torch function that a pass calls, wherever it is called. Those with a handler
   (`HANDLERS`) are re-linked: they get a node of their own in the autograd graph, whose backward is the rule. Nothing
   of the network is changed.
5. Which function is what stands in `tables`, which rule a call has in `assign`, the nodes in `nodes`; handlers are in
   `products`, `norms`, `attention`, `functions` and `distances`. `unseen` looks for what no rule reached.

The same in more words, with what to do to add a rule: docs/relevance.md.
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
