"""What escaped: a walk over the finished graph for functions that no rule saw."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

from torch import Tensor
from torch.autograd.function import BackwardCFunction

from ...rules import RuleError
from .nodes import FunctionNode, Instead, LinearNode
from .watch import Watch

KINDS = {
    ("conv", "linear"): ("Convolution", "Addmm", "MmBackward", "Bmm", "Baddbmm", "MvBackward", "LinearBackward"),
    ("norm",): ("BatchNorm", "LayerNorm", "GroupNorm", "RmsNorm"),
    ("product",): ("ScaledDotProduct", "FlashAttention", "EfficientAttention", "MulBackward", "DivBackward"),
    ("activation",): ("ReluBackward", "GeluBackward", "SiluBackward", "HardtanhBackward", "HardswishBackward",
                      "EluBackward", "CeluBackward", "MishBackward", "SigmoidBackward", "TanhBackward", "PowBackward",
                      "SoftplusBackward", "PreluBackward", "ClampBackward", "ClampMinBackward", "SqrtBackward"),
    ("softmax",): ("SoftmaxBackward",),
}  # fmt: skip
ALWAYS = ("jit::", "Rnn", "Lstm", "Gru")
OURS = tuple(node._backward_cls for node in (LinearNode, FunctionNode, Instead))


def reached(values: Iterable[Tensor]) -> set[Any]:
    """All nodes of the graph behind some values."""
    found: set[Any] = set()
    waiting: list[Any] = [value.grad_fn for value in values]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in found:
            found.add(node)
            waiting += [before for before, _ in node.next_functions]
    return found


def check(watch: Watch, values: Tensor, inside: set[Any], *, strict: bool) -> None:
    """Look for what the rules did not reach between an objective and the image.

    Args:
        watch: of the pass.
        values: the objective.
        inside: the nodes that the network made; what the objective computes by itself needs no rule.
        strict: as below.

    Raises:
        RuleError: if strict, for a function that should have had a rule; else a warning.
    """
    kinds = {kind for entry in watch.entries for kind in entry.kinds if _at_work(entry.rule)}
    if not kinds:
        return
    names = ALWAYS + tuple(name for among, found in KINDS.items() if kinds & set(among) for name in found)
    escaped: dict[str, None] = {}
    strange: dict[tuple[str, str], None] = {}
    for node in reached([values]) & inside:
        if not watch.reaches(node):
            continue
        if node in watch.strange:
            strange[watch.strange[node]] = None
        elif node in watch.known or isinstance(node, OURS):
            continue
        elif isinstance(node, BackwardCFunction):
            escaped[f"{type(node).__name__} (a custom autograd function)"] = None
        elif any(word in node.name() for word in names):
            escaped[node.name()] = None
    if escaped:
        said = (
            f"rules did not reach {', '.join(escaped)}: the network runs it out of sight (TorchScript, another thread, "
            "reentrant checkpointing, a custom autograd function), so that its part of the explanation would be wrong"
        )
        if strict:
            raise RuleError(f"{said}. Give the network without it, or strict=False to take its ordinary gradient")
        warnings.warn(f"{said}: its ordinary gradient was taken", stacklevel=3)
    if strange and kinds & {"conv", "linear"}:
        listed = ", ".join(f"{name} in {where}" for name, where in strange)
        warnings.warn(
            f"there is no rule for {listed}: the ordinary gradient was taken, which need not keep relevance",
            stacklevel=3,
        )


def _at_work(rule: Any) -> bool:
    return getattr(rule, "on", "map") != "nothing"
