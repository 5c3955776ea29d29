"""A TensorFlow function frozen to a graph of operations, and that as steps of a network."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

import numpy as np

from ..graph.batch_dims import ShapeInference
from ..graph.graph import Graph, ImagesMixed, ImportFailed, Permuted, Step, Value, first_line, tensor
from ..graph.optional_imports import library
from ..graph.rules import BRIDGE, location, remedy
from . import linear_rules  # noqa: F401 - it adds its rules
from .rules import RULES, Rows

Scope = tuple[str, ...]
LONGEST = 1000  # rounds of a loop
RANDOM = re.compile("Random|Multinomial|Dropout|Shuffle")
TEXT = "text"  # in the place of a constant that is no number
OWN = re.compile(r"(Tensordot|einsum|moments|batchnorm|Gelu)(_\d+)?")  # scopes of TensorFlow's functions, in layers
WRITES = re.compile("^(Resource)?(Assign|Scatter|Apply)")


def frozen(function: Callable[[Any], Any], example: np.ndarray[Any, Any]) -> Any:
    """A function of a batch of images as a graph in which its variables are constants; N is open.

    Raises:
        ImportFailed: if it fails on such a batch, or does not return N x K.
    """
    tf = library("tensorflow", "tensorflow")
    freeze = library("tensorflow.python.framework.convert_to_constants", "tensorflow").convert_variables_to_constants_v2
    spec = tf.TensorSpec((None, *example.shape[1:]), tf.as_dtype(example.dtype))
    lengths = " x ".join(map(str, example.shape[1:]))
    try:
        concrete = tf.function(function).get_concrete_function(spec)
    except Exception as error:  # the user's own function failed
        decided = "symbolic `tf.Tensor` as a Python `bool`" in str(error) or "Tensor.numpy" in str(error)
        why = first_line(error)
        if decided:
            why = "Python code in it looks at the values of the images (if, while, float(), numpy on them)"
        said = f"the function failed on a batch of shape N x {lengths} of {example.dtype}: {why}"
        raise ImportFailed(said) from error
    made = freeze(concrete, lower_control_flow=False)
    if len(made.outputs) != 1:
        raise ImportFailed(f"the function has {len(made.outputs)} outputs, expected one array N x K")
    shape = made.outputs[0].shape
    if shape.rank != 2 or shape[0] is not None:
        raise ImportFailed(f"the function returns {shape}, expected N x K, one row for each image")
    return made


def read(g: Graph, made: Any, axes: tuple[int, ...], layers: Collection[str]) -> None:
    """Put a frozen function into a graph.

    Args:
        g: with its images only.
        made: the function.
        axes: those of N, C, H, W among its images' own.
        layers: which of its name scopes are layers; all if there are none.
    """
    reader = _Reader(g, layers)
    known = {made.inputs[0].name: g.batch(axes)}
    reader.operations(made.graph, known)
    _once(g)
    result = known[made.outputs[0].name]
    if isinstance(result, str):
        raise ImportFailed(result)
    g.end(result)


def _once(g: Graph) -> None:
    """Drop the number that TensorFlow puts behind all names of a model that is traced again."""
    parts = {part for step in g.steps for part in step.scope}
    ends = {match.group() if (match := re.search(r"_\d+$", part)) else "" for part in parts}
    if len(ends) == 1:
        for step in g.steps:
            step.scope = tuple(part.removesuffix(*ends) for part in step.scope)


class _Reader:
    """Puts operations into a graph, those of inner functions too."""

    def __init__(self, g: Graph, layers: Collection[str]) -> None:
        self.g = g
        self.layers = layers
        self.shapes = ShapeInference(g)

    def operations(self, graph: Any, known: dict[str, Any], outer: Scope | None = None) -> None:
        """Read a graph; `known` has its inputs, and its values afterwards: why there is none where there is none."""
        g, make = self.g, library("tensorflow", "tensorflow").make_ndarray
        for op in graph.get_operations():
            if op.type in ("Placeholder", "NoOp"):
                continue
            if op.type == "Const":
                read = make(op.get_attr("value"))
                if read.dtype == object:
                    known[op.outputs[0].name] = TEXT
                    continue
                known[op.outputs[0].name] = Value.of(g.constant(tensor(read)))
                continue
            g.scope = scope_of(op.name, self.layers) if outer is None else outer
            taken = [known[x.name] for x in op.inputs]
            made = self.call(graph, op, taken)
            listed = [made] * len(op.outputs) if isinstance(made, str) else made
            for out, value in zip(op.outputs, listed, strict=False):
                known[out.name] = value
                if isinstance(value, Value) and isinstance(value.held, Step) and outer is None:
                    value.held.origin = (out.name, value.order)

    def call(self, graph: Any, op: Any, taken: list[Value]) -> Any:
        """The outputs of an operation, or why there are none."""
        rule, where = RULES.get(op.type), location(self.g.scope)
        try:
            lost = next((value for value in taken if isinstance(value, str)), None)
            if lost not in (None, TEXT):
                return lost
            if RANDOM.search(op.type) or WRITES.search(op.type):
                what = "takes random numbers" if RANDOM.search(op.type) else "changes the network's own state"
                raise ImportFailed(f"it {what}, as in training: import the network as it predicts (training=False)")
            if rule is None and op.type not in CALLS:
                raise ImportFailed("it has no rule")
            if lost == TEXT:
                raise ImportFailed("it takes text")
            if rule is None:
                return CALLS[op.type](self, graph, op, taken)
            made = rule(self.g, op, *taken)
            return [self.measured(value) for value in (made if isinstance(made, list) else [made])]
        except ImportFailed as error:
            if str(error).startswith("the TensorFlow operation"):  # said further inside
                return str(error)
            said = f"the TensorFlow operation {op.type!r} {where} cannot be imported: {error}"
            if isinstance(error, ImagesMixed) or "as it predicts" in said:
                return said  # neither a rule nor a bridge would help
            return f"{said}. {remedy('tensorflow', BRIDGE) if 'rule' in str(error) else BRIDGE}"

    def inner(self, graph: Any, name: str, taken: list[Any]) -> list[Any]:
        """What an inner function gives; an error where it has no value."""
        build = library("tensorflow.python.framework.function_def_to_graph", "tensorflow").function_def_to_graph
        found = graph._get_function(name)
        definition = getattr(found, "function_def", None) or found.definition
        function = build(definition)
        known = dict(zip((x.name for x in function.inputs), taken, strict=True))
        scope = self.g.scope
        self.operations(function, known, scope)
        self.g.scope = scope
        values = [known[x.name] for x in function.outputs]
        for value in values:
            if isinstance(value, str):
                raise ImportFailed(value)
        return values

    def measured(self, value: Any) -> Value:
        """What a rule gave, with its true shape: TensorFlow forgets some where N is open."""
        order = value.order if isinstance(value, (Value, Permuted)) else None
        held = value.held if isinstance(value, (Value, Permuted)) else value
        if isinstance(held, Step):
            measured = self.shapes.value(held, order)
            return replace(value, shape=measured.shape) if isinstance(value, Rows) else measured
        if isinstance(value, Value) and value.ndim == held.ndim:
            return value
        plain = Value.of(held)
        return plain if order is None else replace(
            plain, shape=tuple(held.shape[order.index(axis)] for axis in range(held.ndim)), order=order
        )  # fmt: skip


def _function(reader: _Reader, graph: Any, op: Any, taken: list[Value]) -> Any:
    return reader.inner(graph, op.get_attr("f").name, taken)


def _choice(reader: _Reader, graph: Any, op: Any, taken: list[Value]) -> Any:
    condition, *rest = taken
    if condition.number() is None:
        raise ImportFailed("what it computes depends on the values of the images")
    return reader.inner(graph, op.get_attr("then_branch" if condition.number() else "else_branch").name, rest)


def _loop(reader: _Reader, graph: Any, op: Any, taken: list[Value]) -> Any:
    values: list[Any] = taken
    for _ in range(LONGEST):
        (again,) = reader.inner(graph, op.get_attr("cond").name, values)
        if again.number() is None:
            raise ImportFailed("how often it runs depends on the values of the images")
        if not again.number():
            return values
        values = reader.inner(graph, op.get_attr("body").name, values)
    raise ImportFailed(f"it runs more than {LONGEST} times")


CALLS: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(("PartitionedCall", "StatefulPartitionedCall"), _function),
    **dict.fromkeys(("If", "StatelessIf"), _choice),
    **dict.fromkeys(("While", "StatelessWhile"), _loop),
}


def scope_of(name: str, layers: Collection[str]) -> Scope:
    """The layers that an operation is in, by its name. TensorFlow numbers a name that it has used before."""
    parts = [part for part in name.split("/")[:-1] if not part.endswith("PartitionedCall")]
    parts = [part for part in parts if part in layers or not OWN.fullmatch(part)]
    if not layers:
        return tuple(parts)
    plain = [part if part in layers else re.sub(r"_\d+$", "", part) for part in parts]
    return tuple(part for part in plain if part in layers)
