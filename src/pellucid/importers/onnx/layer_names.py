"""Names of layers for the nodes of an ONNX graph, as those who exported it left them."""

from __future__ import annotations

import ast
import re
from collections import Counter
from typing import Any

from ..graph.modules import common

Scope = tuple[str, ...]
SCOPES, CLASSES = "pkg.torch.onnx.name_scopes", "pkg.torch.onnx.class_hierarchy"
WEIGHTED = frozenset({
    "Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization", "InstanceNormalization", "LayerNormalization",
    "GroupNormalization", "RMSNormalization", "Attention",
})  # fmt: skip
ACTIVE = frozenset({
    "LRN", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Relu", "LeakyRelu", "PRelu", "Elu", "Selu",
    "Celu", "Gelu", "HardSwish", "HardSigmoid", "Sigmoid", "Tanh", "Softplus", "Softmax", "LogSoftmax", "Clip", "Mish",
})  # fmt: skip
NEVER = frozenset({"MatMul", "Softmax"})  # layers only where they have weights, or a name
TAILS = frozenset({"Add", "Sub", "Mul", "Div"})
RESHAPES = frozenset({"Transpose", "Reshape", "Squeeze", "Unsqueeze", "Cast"})
BESIDE = RESHAPES | {"Add", "Mul", "Div", "Pad", "Identity", "Constant", "Shape", "Gather", "Slice", "Concat",
                  "QuantizeLinear", "DequantizeLinear"}  # fmt: skip
CURVES = frozenset({
    "Add", "Sub", "Mul", "Div", "Pow", "Exp", "Log", "Erf", "Reciprocal", "Neg", "Cast", "Min", "Max", "Softplus",
    "Sigmoid", "Tanh", "Clip", "Relu", "HardSigmoid",
})  # fmt: skip
LONGEST = 12
INSIDE = re.compile(  # what TensorFlow's own functions call their parts
    "(batchnorm|moments|Tensordot|Gelu|convolution|separable_conv2d|depthwise|conv2d_transpose|einsum|MatMul|Repeat|Cast)"
    r"(_\d+)?"
)


class Names:
    """Which layer each node is in.

    Torch's newer exporter keeps the scopes beside a node, its older one and TensorFlow in the node's name
    ("/layer1/layer1.0/conv1/Conv"); what a converter put between such nodes is in the layer of its weights, or of what
    it takes. In a file without scopes a layer is called as its weights or its node are, and what has none is in no
    layer.

    Args:
        graph: of ONNX.
    """

    def __init__(self, graph: Any) -> None:
        self.constant = {weight.name: weight.name for weight in graph.initializer}  # and what each is made of
        self.windows = {weight.name for weight in graph.initializer if len(weight.dims) > 5}
        for node in graph.node:
            if all(name in self.constant for name in node.input if name):
                first = next((self.constant[name] for name in node.input if name), "")
                self.constant |= {name: first or name for name in node.output}
        self.nodes = {node.name for node in graph.node}
        paths = [self._path(node.name) for node in graph.node if "/" in node.name]
        self.scoped = any(paths) or any(entry.key == SCOPES for node in graph.node for entry in node.metadata_props)
        self.again = _again(paths) if not any(node.name.startswith("/") for node in graph.node) else set()
        self.users = self._users(graph)
        self.gates = {} if self.scoped else self._gates(graph)
        self.number: dict[str, int] = {}
        self.owned: dict[str, Scope] = {}  # what is called after the node that makes a value
        self.made: dict[str, Scope] = {}  # what values are in which layer
        self.linear: dict[str, Scope] = {}  # what is made by a product with weights
        self.operators: dict[Scope, list[str]] = {}
        self.classes: dict[Scope, str] = {}

    def of(self, node: Any) -> Scope:
        """The layer of the next node."""
        metadata = {entry.key: entry.value for entry in node.metadata_props}
        if SCOPES in metadata:  # a convolution that was joined to its batch norm has the scope of that
            scope = self._by_weights(node) if node.op_type == "Conv" else ()
            scope = scope or _from_list(metadata[SCOPES])
            self._classes(metadata)
        elif not self.scoped:
            scope = self._plain(node)
        elif "/" in node.name:
            scope = self._once(self._path(node.name))
        else:
            scope = self._between(node)
        self.operators.setdefault(scope, []).append(node.op_type)
        self.made |= dict.fromkeys(node.output, scope)
        return scope

    def kinds(self) -> dict[Scope, str]:
        """What layers are, where their exporter or their operators say it."""
        outer = {scope[:end] for scope in self.operators for end in range(len(scope))}
        found = {scope: _kind(kinds) for scope, kinds in self.operators.items() if scope not in outer}
        return {scope: kind for scope, kind in (found | self.classes).items() if scope and kind.isidentifier()}

    def _plain(self, node: Any) -> Scope:
        """A layer called as its weights are, or as its node; the bias of a dense layer belongs to it."""
        kind = node.op_type
        if node.output[0] in self.gates:
            named = self.gates[node.output[0]]
            return self._own(named)
        before = next((self.linear[name] for name in node.input if name in self.linear), None)
        known = [name for name in node.input if name in self.constant]
        if before is not None and (kind in RESHAPES or (kind in TAILS and known)):
            self.linear[node.output[0]] = before
            return before if kind in TAILS else ()
        weighted = any(name in self.constant for name in node.input[1:])
        if kind not in WEIGHTED | ACTIVE or (kind in NEVER and not weighted) or self.windows & set(node.input):
            return ()
        scope = self._by_weights(node) or self._own(node)
        if kind in WEIGHTED and weighted:
            self.linear[node.output[0]] = scope
        return scope

    def _between(self, node: Any) -> Scope:
        """The layer of a node that a converter put among those of others."""
        before = [self.made[name] for name in node.input if name in self.made and name not in self.constant]
        outer = common(before + [scope for name in node.output for scope in self.users.get(name, [])])
        if node.op_type in WEIGHTED and any(name in self.constant for name in node.input[1:]):
            return self._by_weights(node) or (*outer, *self._own(node))
        return outer

    def _users(self, graph: Any) -> dict[str, list[Scope]]:
        """The layers that take each value."""
        found: dict[str, list[Scope]] = {}
        for node in reversed(graph.node):
            scopes = [scope for name in node.output for scope in found.get(name, [])]
            scopes = [self._once(self._path(node.name))] if "/" in node.name else scopes
            for name in node.input if scopes else ():
                found.setdefault(name, []).append(common(scopes))
        return found

    def _own(self, node: Any) -> Scope:
        """The name of a node for its layer, or its number among those of its kind."""
        if node.name:
            return (node.name.removeprefix("node_").strip("/"),)
        if node.output[0] not in self.owned:
            number = self.number[node.op_type] = self.number.get(node.op_type, -1) + 1
            self.owned[node.output[0]] = (f"{node.op_type}_{number}",)
        return self.owned[node.output[0]]

    def _by_weights(self, node: Any) -> Scope:
        """The layer that the weights of a node are called after."""
        name = next((self.constant[name] for name in node.input[1:2] if name in self.constant), "")
        name = name.removesuffix("_quantized")
        if name.endswith(".weight"):
            return tuple(name.split(".")[:-1])
        return self._once(self._path(name)) if "/" in name else ()

    def _gates(self, graph: Any) -> dict[str, Any]:
        """What x f(x) is computed by, as silu and hard swish are, with the node that the layer is called after."""
        makers = {name: (place, node) for place, node in enumerate(graph.node) for name in node.output}
        users = Counter(name for node in graph.node for name in node.input)
        users.update(value.name for value in graph.output)
        found: dict[str, Any] = {}
        for place, node in enumerate(graph.node):
            open_ = {name for name in node.input if name not in self.constant}
            parts = {place: node}
            if node.op_type in TAILS and len(open_) == 1 and open_ & found.keys() and users[max(open_)] == 1:
                found[node.output[0]] = found[max(open_)]  # half of it
            if node.op_type != "Mul" or len(open_) != 2:
                continue
            while len(open_) > 1 and len(parts) <= LONGEST:
                at, last = max((makers[name] for name in open_ if name in makers), key=lambda one: one[0])
                if last.op_type not in CURVES:
                    break
                parts[at] = last
                open_ = (open_ - set(last.output)) | {name for name in last.input if name not in self.constant}
            if len(open_) == 1:
                first = [parts[at] for at in sorted(parts)]
                named = next((one for one in first if one.op_type in ACTIVE | {"Erf"}), node)
                found |= {name: named for one in first for name in one.output}
        return found

    def _path(self, name: str) -> Scope:
        """The layers that a path names; in TensorFlow's an operation is none, though its parts are called after it."""
        if name.startswith("/"):
            return _from_path(name)
        parts = name.split("/")
        scopes = [part for end, part in enumerate(parts[:-1], 1) if "/".join(parts[:end]) not in self.nodes]
        return _from_path("/".join([part for part in scopes if not INSIDE.fullmatch(part)] + parts[-1:]))

    def _once(self, scope: Scope) -> Scope:
        """A scope without the number that TensorFlow puts behind all names of a model that is traced again."""
        return tuple(re.sub(r"_\d+$", "", part) if depth in self.again else part for depth, part in enumerate(scope))

    def _classes(self, metadata: dict[str, str]) -> None:
        """Note the classes of the layers that a node is in."""
        try:
            names, classes = (ast.literal_eval(metadata.get(key, "[]")) for key in (SCOPES, CLASSES))
            for name, kind in zip(names[:-1], classes[:-1], strict=True):
                self.classes[_parts(name)] = kind.rpartition(".")[2]
        except (ValueError, SyntaxError, TypeError, AttributeError):
            return


def _kind(operators: list[str]) -> str:
    """The one operator that says what a layer is; what has weights says more than what follows it."""
    count = Counter(operators)
    if count["MatMul"] > 1 and count["Softmax"]:
        return "Attention"
    if count["InstanceNormalization"] and count["Reshape"]:  # as groups are written in older sets of operators
        return "GroupNormalization"
    found = WEIGHTED & count.keys()
    if not found and len(count.keys() - BESIDE) == 1:
        found = ACTIVE & count.keys()
    return next(iter(found)) if len(found) == 1 else ""


def _from_list(text: str) -> Scope:
    """["", "layer1", "layer1.0", "layer1.0.conv1", "conv2d"]: the layer is the last but one."""
    try:
        return _parts(str(ast.literal_eval(text)[-2]))
    except (ValueError, SyntaxError, IndexError, TypeError):
        return ()


def _parts(name: str) -> Scope:
    return tuple(part for part in name.split(".") if part)


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


def _again(scopes: list[Scope]) -> set[int]:
    """The depths, from the outermost, at which all names end in a number, most in the same, and are others without."""
    found = set()
    for depth in range(max(map(len, scopes), default=0)):
        parts = {scope[depth] for scope in scopes if len(scope) > depth}
        ends = Counter(re.sub(r"^.*?(_\d+)?$", r"\1", part) for part in parts)
        plain = {re.sub(r"_\d+$", "", part) for part in parts}
        if "" in ends or len(plain) < len(parts) or 2 * max(ends.values()) <= len(parts):
            break
        found.add(depth)
    return found
