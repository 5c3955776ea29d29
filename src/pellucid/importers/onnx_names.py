"""Names of layers for the nodes of an ONNX graph, as those who exported it left them."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from typing import Any

Scope = tuple[str, ...]
SCOPES = "pkg.torch.onnx.name_scopes"
LAYERS = frozenset(
    [
        "Conv",
        "ConvTranspose",
        "Gemm",
        "MatMul",
        "BatchNormalization",
        "InstanceNormalization",
        "LayerNormalization",
        "GroupNormalization",
        "RMSNormalization",
        "LRN",
        "MaxPool",
        "AveragePool",
        "GlobalAveragePool",
        "GlobalMaxPool",
        "Relu",
        "LeakyRelu",
        "PRelu",
        "Elu",
        "Selu",
        "Celu",
        "Gelu",
        "HardSwish",
        "HardSigmoid",
        "Sigmoid",
        "Tanh",
        "Softplus",
        "Softmax",
        "LogSoftmax",
        "Clip",
        "Mish",
        "Attention",
    ]
)


class Names:
    """Which layer each node is in.

    Torch's newer exporter keeps the scopes beside a node, its older one and TensorFlow in the node's name
    ("/layer1/layer1.0/conv1/Conv"). Else a layer is called as its weights or its node are, and what has none is
    in no layer.

    Args:
        weights: names of the constants of the graph.
    """

    def __init__(self, weights: Iterable[str]) -> None:
        self.weights = set(weights)
        self.number: dict[str, int] = {}
        self.made: dict[str, Scope] = {}  # by whom a value is made, if by a product with weights
        self.operators: dict[Scope, list[str]] = {}

    def of(self, node: Any) -> Scope:
        """The layer of the next node."""
        told = {entry.key: entry.value for entry in node.metadata_props}
        if SCOPES in told:  # a convolution that was joined to its batch norm has the scope of that
            scope = self._by_weights(node) if node.op_type == "Conv" else ()
            scope = scope or _from_list(told[SCOPES])
        elif "/" in node.name:
            scope = _from_path(node.name)
        else:
            scope = self._plain(node)
        self.operators.setdefault(scope, []).append(node.op_type)
        return scope

    def kinds(self) -> dict[Scope, str]:
        """What layers are, where they have one operator that says it, and no layers inside."""
        outer = {scope[:end] for scope in self.operators for end in range(len(scope))}
        found = {scope: {kind for kind in kinds if kind in LAYERS} for scope, kinds in self.operators.items()}
        return {scope: kinds.pop() for scope, kinds in found.items() if len(kinds) == 1 and scope not in outer}

    def _plain(self, node: Any) -> Scope:
        """A layer called as its weights are, or as its node; the bias of a dense layer belongs to it."""
        if node.op_type == "Add":
            makers = [self.made[name] for name in node.input if name in self.made]
            return makers[0] if makers and any(name in self.weights for name in node.input) else ()
        if node.op_type not in LAYERS:
            return ()
        scope = self._by_weights(node)
        if not scope and node.name:
            scope = (node.name,)
        if not scope:
            number = self.number[node.op_type] = self.number.get(node.op_type, -1) + 1
            scope = (f"{node.op_type}_{number}",)
        if node.op_type == "MatMul" and any(name in self.weights for name in node.input):
            self.made[node.output[0]] = scope
        return scope

    def _by_weights(self, node: Any) -> Scope:
        name = next((name for name in node.input[1:2] if name in self.weights), "")
        return tuple(name.split(".")[:-1]) if name.endswith(".weight") else ()


def _from_list(text: str) -> Scope:
    """["", "layer1", "layer1.0", "layer1.0.conv1", "conv2d"]: the layer is the last but one."""
    try:
        names = ast.literal_eval(text)
        return tuple(part for part in str(names[-2]).split(".") if part)
    except (ValueError, SyntaxError, IndexError, TypeError):
        return ()


def _from_path(name: str) -> Scope:
    """/layer1/layer1.0/conv1/Conv: what is in a container begins with the container's name."""
    parts = [part for part in name.split("/")[:-1] if part and not part.endswith("PartitionedCall")]
    scope: list[str] = []
    before = ""
    for part in parts:
        own = part.removeprefix(f"{before}.") if before else part
        scope += own.split(".")
        before = part
    return tuple(part for part in scope if part)
