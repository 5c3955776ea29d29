"""An ONNX graph read into a graph of torch functions: what does not depend on the images computed at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..graph.batch_dims import BATCH_SIZES, ShapeInference, shape_of_both
from ..graph.graph import BatchDim, Graph, ImportFailed, Permuted, Step, Unknown, Value, first_line, tensor
from ..graph.optional_imports import library
from ..graph.rules import location, remedy
from . import (
    shape_rules,
)
from .layer_names import Names
from .rules import RULES, DynamicDim, Node

PAIRS = (
    "Export quantized networks in the QDQ format: pairs of QuantizeLinear and DequantizeLinear around the operators of "
    "the float network"
)
HINTS = {  # by how operators begin
    "com.microsoft.": "Such operators are onnxruntime's own: import the file from before it was optimized",
    **dict.fromkeys(("Loop", "Scan"), "Loops come from torch.jit.script: export the module itself, which unrolls them"),
    **dict.fromkeys(("QLinear", "ConvInteger", "MatMulInteger", "DynamicQuantize"), PAIRS),
}
SIMPLIFY = (
    "Simplify the export so that the operator does not appear (onnxsim, another opset_version or exporter), import the "
    "original model (from_jax, from_keras, from_tensorflow)"
)
RANDOM = ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial")


@dataclass(eq=False)
class Reader:
    """Puts the nodes of an ONNX graph into a graph.

    version: of the set of operators. batch_size: of the images that the model takes, where it is fixed.
    """

    g: Graph
    version: int
    batch_size: int | None
    names: Names

    def __post_init__(self) -> None:
        self.shapes = ShapeInference(self.g)

    def read(self, graph: Any, known: dict[str, Any]) -> None:
        """Add to `known` what each name of a graph of ONNX stands for: a `Value`, `DynamicDim` or `Unknown`."""
        arrays = library("onnx.numpy_helper", "onnx")
        for weight in graph.initializer:
            try:
                array = arrays.to_array(weight)
            except Exception as error:  # numpy's for too few bytes, onnx's for a type that there is not
                raise ImportFailed(f"the weights {weight.name!r} are damaged: {first_line(error)}") from error
            known[weight.name] = _constant(self.g, tensor(array))
        for weight in graph.sparse_initializer:
            known[weight.values.name] = Unknown(f"the weights {weight.values.name!r} are sparse, which has no rule")
        for proto in graph.node:
            node = _node(self, proto)
            taken = [known.get(name) if name else None for name in proto.input]
            self.g.scope = self.names.of(proto)
            made = self.made(node, proto, taken, known)
            for name, value in zip(proto.output, made, strict=False):
                known[name] = value
                if isinstance(value, Value) and isinstance(value.held, Step):
                    value.held.origin = (name, value.order)

    def made(self, node: Node, proto: Any, taken: list[Any], known: dict[str, Any]) -> list[Any]:
        """The outputs of a node."""
        lost = next((value for value in taken if isinstance(value, Unknown)), None)
        if lost is not None:
            return [lost] * len(node.outputs)
        try:
            if node.kind == "If":
                return self.branch(node, taken, known)
            if node.kind in RANDOM:
                raise ImportFailed("it draws random numbers: export the network in evaluation mode")
            if not any(isinstance(value, Value) and not value.known for value in taken):
                return self.folded(node, proto, taken)
            if node.kind not in RULES:
                raise ImportFailed("it has no rule")
            if node.kind not in shape_rules.DYNAMIC and any(isinstance(value, DynamicDim) for value in taken):
                raise ImportFailed("it computes with the batch size")
            listed = _listed(RULES[node.kind](self.g, node, *taken))
            return [self.measured(value) for value in listed]
        except Exception as error:  # a node without what its operator needs makes torch or Python complain
            return [Unknown(self.refusal(node, error))] * len(node.outputs)

    def refusal(self, node: Node, error: Exception) -> str:
        """What cannot be imported, where it is and what to do."""
        name = f" (node {node.name!r})" if node.name else ""
        said = first_line(error)
        words = f"the ONNX operator {node.kind!r}{name} {location(self.g.scope)} cannot be imported: {said}"
        if isinstance(error, ImportFailed) and "rule" not in said:
            return words
        hint = next((hint for start, hint in HINTS.items() if node.kind.startswith(start)), None)
        return f"{words}. {hint or remedy('onnx', SIMPLIFY)}"

    def measured(self, made: Any) -> Any:
        """What a rule gave, as a value with its lengths."""
        if isinstance(made, DynamicDim):
            return made
        order = made.order if isinstance(made, (Permuted, Value)) else None
        held = made.held if isinstance(made, (Permuted, Value)) else made
        if isinstance(held, Tensor):
            return _constant(self.g, _plain(made))
        if held.function is Tensor.to and isinstance(held.args[0], Step):
            self.shapes.shape(held)
            kinds = {self.shapes.known[0][step].dtype for step in (held, held.args[0])}
            held = held.args[0] if len(kinds) == 1 else held  # numbers that are of this kind already
        return self.shapes.value(held, order)

    def branch(self, node: Node, taken: list[Any], known: dict[str, Any]) -> list[Any]:
        """The outputs of the branch that is taken, if that is known."""
        (which,) = taken
        number = which.number() if isinstance(which, Value) else None
        if number is None:
            raise ImportFailed("the images decide what is computed, and torch functions in a row cannot")
        chosen = node.attributes["then_branch" if number else "else_branch"]
        inside = dict(known)
        self.read(chosen, inside)
        return [inside[out.name] for out in chosen.output]

    # What does not depend on the images.

    def folded(self, node: Node, proto: Any, taken: list[Any]) -> list[Any]:
        """The outputs of a node that takes nothing that depends on the images, though perhaps on how many there are."""
        if not any(_open(value) for value in taken):
            return [_constant(self.g, t) for t in self.computed(node, proto, [_at(value, 0) for value in taken])]
        pairs = [
            self.computed(node, proto, [_at(value, place) for value in taken]) for place in range(len(BATCH_SIZES))
        ]
        return [_common(self.g, *pair) for pair in zip(*pairs, strict=True)]

    def computed(self, node: Node, proto: Any, taken: list[Tensor | None]) -> list[Tensor]:
        """The outputs of a node for known tensors: by its rule, or by onnx itself where there is none."""
        values = [None if t is None else _constant(self.g, t) for t in taken]
        try:
            if node.kind not in RULES:
                raise ImportFailed("it has no rule")
            return [_plain(made) for made in _listed(RULES[node.kind](self.g, node, *values))]
        except (ImportFailed, RuntimeError) as error:
            try:
                return _by_onnx(proto, taken, self.version)
            except Exception:  # of many kinds; what the rule said is plainer
                raise error from None


def _node(reader: Reader, proto: Any) -> Node:
    onnx = library("onnx", "onnx")
    attributes: dict[str, Any] = {}
    for attribute in proto.attribute:
        value = onnx.helper.get_attribute_value(attribute)
        if isinstance(value, onnx.TensorProto):
            value = reader.g.constant(tensor(onnx.numpy_helper.to_array(value)))
        if isinstance(value, bytes):
            value = value.decode(errors="replace")
        attributes[attribute.name] = value
    domain = "" if proto.domain == "ai.onnx" else proto.domain
    kind = proto.op_type if not domain else f"{domain}.{proto.op_type}"
    return Node(kind, proto.name, attributes, list(proto.output), reader.version, reader.batch_size)


def _constant(g: Graph, array: Tensor) -> Value:
    return Value.of(g.constant(array))


def _listed(made: Any) -> Sequence[Any]:
    return made if isinstance(made, list) else [made]


def _plain(made: Any) -> Tensor:
    """What a rule gave for known tensors, with its axes as in ONNX."""
    if not isinstance(made, (Permuted, Value)):
        assert isinstance(made, Tensor)
        return made
    assert isinstance(made.held, Tensor)
    return made.held.permute([made.order.index(axis) for axis in range(len(made.order))])


def _open(value: Any) -> bool:
    return isinstance(value, DynamicDim) or (value is not None and any(isinstance(n, BatchDim) for n in value.shape))


def _at(value: Any, place: int) -> Tensor | None:
    """What is known, for one of BATCH_SIZES."""
    if value is None:
        return None
    if isinstance(value, DynamicDim):
        return value.tensors[place]
    held: Tensor = value.held
    lengths = [n.at(BATCH_SIZES[place]) if isinstance(n, BatchDim) else n for n in value.shape]
    return held.expand(lengths)


def _common(g: Graph, a: Tensor, b: Tensor) -> Any:
    """What is a and b for BATCH_SIZES images."""
    if a.shape == b.shape:
        return _constant(g, a) if _equal(a, b) else DynamicDim((a, b))
    shape = shape_of_both(a.shape, b.shape)
    for axis, one in enumerate(shape):
        if isinstance(one, BatchDim):
            rows = [t.narrow(axis, 0, 1) for t in (a, b)]
            if not all(_equal(row.expand_as(t), t) for row, t in zip(rows, (a, b), strict=True)):
                return Unknown("the model numbers the images of a batch: each must be computed by itself")
            a, b = rows
    if not _equal(a, b):
        return Unknown("a constant of the model depends on the batch size")
    return Value.of(g.constant(a), shape)


def _equal(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors hold the same, NaN at the same places too."""
    return torch.equal(a, b) or bool(((a == b) | ((a != a) & (b != b))).all())


def _by_onnx(proto: Any, taken: list[Tensor | None], version: int) -> list[Tensor]:
    """The outputs of one node, computed by onnx's own reference."""
    onnx = library("onnx", "onnx")
    arrays = {name: t.numpy() for name, t in zip(proto.input, taken, strict=True) if t is not None}
    inputs = [
        onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in arrays.items()
    ]
    outputs = [onnx.ValueInfoProto(name=name) for name in proto.output if name]
    graph = onnx.helper.make_graph([proto], "one", inputs, outputs)
    opset = [onnx.helper.make_opsetid(proto.domain, version if not proto.domain else 1)]
    model = onnx.helper.make_model(graph, opset_imports=opset)
    made = library("onnx.reference", "onnx").ReferenceEvaluator(model).run(None, arrays)
    return [tensor(array) for array in made]
