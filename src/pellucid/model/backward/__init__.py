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
