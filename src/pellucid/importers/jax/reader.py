"""A traced JAX function read into a graph: calls inlined, loops unrolled, what is known computed at once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from ..graph.graph import BatchDim, Graph, ImagesMixed, ImportFailed, Permuted, Shape, Step, Unknown, Value, tensor
from ..graph.rules import BRIDGE, location, remedy
from ..graph.shapes import stacked
from . import linear_rules as linear_rules
from . import reduction_rules as reduction_rules
from .jaxpr import Equation, Known, Program, computed
from .rules import RULES

MOST_STEPS = 20000
RANDOM = ("random_", "threefry2x32", "rng_")
CALLS = ("jaxpr", "call_jaxpr", "fun_jaxpr")
NAMED = {"relu": F.relu}


def read(
    g: Graph, program: Program, inputs: list[Any], scope: tuple[str, ...] = (), path: tuple[int, ...] | None = ()
) -> list[Any]:
    """Put a program into a graph.

    Args:
        g: takes the steps.
        program: what to read.
        inputs: a `Value` for each of its inputs.
        scope: the layer that it is called in.
        path: the places of the calls that it is inside of; None for the body of a loop, which has many values.

    Returns:
        A `Value` for each output, or a `Unknown`.
    """
    values: dict[Any, Any] = dict(zip(program.inputs, inputs, strict=True))
    values |= {name: _known(g, constant) for name, constant in program.constants.items()}
    for place, equation in enumerate(program.equations):
        taken = [_taken(g, values, name) for name in equation.inputs]
        g.scope = (*scope, *equation.scope)
        if len(g.steps) > MOST_STEPS:
            raise ImportFailed(f"the function has more than {MOST_STEPS} steps, with its loops unrolled")
        made = _call(g, equation, taken, g.scope, None if path is None else (*path, place))
        for name, value in zip(equation.outputs, made, strict=True):
            values[name] = value
            if path is not None and isinstance(value, Value) and isinstance(value.held, Step):
                value.held.origin = ((path, name), value.order)
    return [_taken(g, values, name) for name in program.outputs]


def _call(g: Graph, e: Equation, taken: list[Any], scope: tuple[str, ...], path: tuple[int, ...] | None) -> list[Any]:
    """The outputs of an equation."""
    count = len(e.outputs)
    if e.name in CONTROL:
        try:
            return CONTROL[e.name](g, e, taken, scope)
        except ImportFailed as error:
            return [Unknown(str(error))] * count
    inner = next((e.params[key] for key in CALLS if isinstance(e.params.get(key), Program)), None)
    if inner is not None and e.name not in RULES:
        if e.params.get("name") in NAMED and [q.name for q in inner.equations] == ["max"] and len(taken) == 1:
            function = NAMED[e.params["name"]]
            x = taken[0]
            return [x] if isinstance(x, Unknown) else [Value(g.call(function, x.held), x.shape, x.order)]
        return read(g, inner, taken, scope, path)
    lost = next((value for value in taken if isinstance(value, Unknown)), None)
    if lost is not None:
        return [lost] * count
    where = location(scope)
    if e.name.startswith(RANDOM):
        return [Unknown(
            f"the function draws random numbers {where} (dropout?): import the network as it predicts "
            "(deterministic=True, train=False, model.eval())"
        )] * count  # fmt: skip
    rule = RULES.get(e.name)
    try:
        if rule is None:
            raise ImportFailed(f"{e.name!r} has no rule")
        made = rule(g, e, *taken)
    except ImportFailed as error:
        if all(value.known for value in taken) and not any(isinstance(n, BatchDim) for s in e.shapes for n in s):
            return _by_jax(g, e, taken)
        if isinstance(error, ImagesMixed):
            return [Unknown(f"the JAX primitive {e.name!r} {where} cannot be imported: {error}")] * count
        return [Unknown(
            f"the JAX primitive {e.name!r} {where} cannot be imported: {error}. {remedy('jax', BRIDGE)}"
        )] * count  # fmt: skip
    return [_value(one, shape) for one, shape in zip(made if isinstance(made, list) else [made], e.shapes, strict=True)]


def _value(made: Any, shape: Shape) -> Value:
    """What a rule gave, with the shape that JAX says it has."""
    if isinstance(made, Value):
        return replace(made, shape=shape) if made.ndim == len(shape) else made
    return Value(made.held, shape, made.order) if isinstance(made, Permuted) else Value.of(made, shape)


def _by_jax(g: Graph, e: Equation, taken: list[Value]) -> list[Value]:
    """An equation whose inputs are all known, computed by JAX itself."""
    arrays = [np.asarray(g.plain(value), dtype=dtype) for value, dtype in zip(taken, e.takes, strict=True)]
    listed = computed(e.source, arrays)
    return [Value.of(g.constant(tensor(array)), shape) for array, shape in zip(listed, e.shapes, strict=True)]


def _scan(g: Graph, e: Equation, taken: list[Any], scope: tuple[str, ...]) -> list[Any]:
    """A loop over the first axis of some arrays, unrolled; its layers are numbered."""
    p = e.params
    if isinstance(p["length"], BatchDim):
        raise ImportFailed(
            "the function goes through the images of a batch one by one (scan, lax.map): write it with jax.vmap"
        )
    fixed, carry, rows = (
        taken[: p["num_consts"]],
        taken[p["num_consts"] : p["num_consts"] + p["num_carry"]],
        taken[p["num_consts"] + p["num_carry"] :],
    )
    collected: list[list[Any]] = []
    iterations = range(p["length"])
    for iteration in reversed(iterations) if p["reverse"] else iterations:
        inside = (*scope, str(iteration)) if len(iterations) > 1 else scope
        out = read(g, p["jaxpr"], [*fixed, *carry, *(_row(g, value, iteration) for value in rows)], inside, None)
        carry = out[: p["num_carry"]]
        collected.append(out[p["num_carry"] :])
    g.scope = scope
    collected = collected[::-1] if p["reverse"] else collected
    stacked = [_stack(g, list(parts), shape) for parts, shape in zip(
        zip(*collected, strict=True), e.shapes[p["num_carry"] :], strict=True)]  # fmt: skip
    return [*carry, *stacked]


def _row(g: Graph, value: Any, iteration: int) -> Any:
    if isinstance(value, Unknown):
        return value
    order = tuple(axis - 1 for axis in value.order if axis)
    return Value(g.call(torch.select, value.held, value.axis(0), iteration), value.shape[1:], order)


def _stack(g: Graph, parts: list[Any], shape: Any) -> Any:
    lost = next((part for part in parts if isinstance(part, Unknown)), None)
    if lost is not None:
        return lost
    return Value.of(stacked(g, parts), shape)


def _while(g: Graph, e: Equation, taken: list[Any], scope: tuple[str, ...]) -> list[Any]:
    """A loop, unrolled as long as its condition is known."""
    p = e.params
    first, second = p["cond_nconsts"], p["cond_nconsts"] + p["body_nconsts"]
    of_condition, of_body, carry = taken[:first], taken[first:second], taken[second:]
    while _decided(read(g, p["cond_jaxpr"], [*of_condition, *carry], scope, None)[0], "while", scope):
        carry = read(g, p["body_jaxpr"], [*of_body, *carry], scope, None)
    return carry


def _cond(g: Graph, e: Equation, taken: list[Any], scope: tuple[str, ...]) -> list[Any]:
    """The branch that is taken, if that is known."""
    branches = e.params["branches"]
    chosen = int(_decided(taken[0], "cond", scope))
    return read(g, branches[min(max(chosen, 0), len(branches) - 1)], taken[1:], scope, None)


def _decided(value: Any, name: str, scope: tuple[str, ...]) -> float | int | bool:
    if isinstance(value, Unknown):
        raise ImportFailed(value.reason)
    number: float | int | bool | None = value.number()
    if number is None:
        raise ImportFailed(
            f"the JAX primitive {name!r} {location(scope)} decides by the images what is computed, "
            "and torch functions in a row cannot: write it with jnp.where, or take bridge=True"
        )
    return number


CONTROL = {"scan": _scan, "while": _while, "cond": _cond}


def _taken(g: Graph, values: dict[Any, Any], name: Any) -> Any:
    return _known(g, name) if isinstance(name, (Known, Unknown)) else values[name]


def _known(g: Graph, constant: Known | Unknown) -> Value | Unknown:
    if isinstance(constant, Unknown):
        return constant
    return Value.of(g.constant(constant.array), constant.shape)
