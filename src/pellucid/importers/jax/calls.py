"""A jaxpr as one row of calls, with functions in functions inlined: to be computed in parts, or in float64."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..graph.optional_imports import library
from .jaxpr import computed

Path = tuple[int, ...]
Name = tuple[Path, Any]  # where a call was inlined, and JAX's name in it
INNER = ("jaxpr", "call_jaxpr", "fun_jaxpr")
CONTROL = frozenset({"scan", "while", "cond"})
PLAIN = frozenset({
    "jit", "pjit", "closed_call", "core_call", "core_closed_call", "named_call", "checkpoint", "remat", "remat2",
})  # fmt: skip


@dataclass(frozen=True, eq=False)
class Call:
    """One equation. inputs: names, or `Constant`; scope: names of the modules around it."""

    equation: Any
    inputs: list[Any]
    outputs: list[Name]
    scope: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Constant:
    """A value that is known; JAX's names can be compared, arrays cannot."""

    array: Any


@dataclass(frozen=True, eq=False)
class Calls:
    """The equations in order. same: what else the values of inlined functions are called."""

    inputs: list[Name]
    calls: list[Call]
    outputs: list[Any]
    same: dict[Name, Any]


def flattened(closed: Any, *, own_gradients: bool) -> Calls:
    """A jaxpr as one row.

    Args:
        closed: JAX's.
        own_gradients: keep functions that define their own gradient as one call each; else they are inlined too.
    """
    calls: list[Call] = []
    same: dict[Name, Any] = {}

    def inlined(jaxpr: Any, constants: Sequence[Any], taken: Sequence[Any], path: Path, scope: Any) -> list[Any]:
        known = dict(zip(jaxpr.constvars, map(Constant, constants), strict=True))
        known |= dict(zip(jaxpr.invars, taken, strict=True))
        for place, equation in enumerate(jaxpr.eqns):
            inputs = [_value(known, value) for value in equation.invars]
            stack = equation.source_info.name_stack.stack
            inside = (*scope, *(entry.name for entry in stack if type(entry).__name__ == "Scope"))
            inner = _inner(equation, own_gradients)
            if inner is None:
                made: list[Any] = [(path, name) for name in equation.outvars]
                calls.append(Call(equation, inputs, made, inside))
            else:
                body, held = getattr(inner, "jaxpr", inner), getattr(inner, "consts", ())
                made = inlined(body, held, inputs, (*path, place), inside)
                same.update(((path, name), value) for name, value in zip(equation.outvars, made, strict=True))
            known.update(zip(equation.outvars, made, strict=True))
        return [_value(known, value) for value in jaxpr.outvars]

    inputs: list[Name] = [((), name) for name in closed.jaxpr.invars]
    outputs = inlined(closed.jaxpr, closed.consts, inputs, (), ())
    return Calls(inputs, calls, outputs, same)


def _value(known: Mapping[Any, Any], value: Any) -> Any:
    return Constant(value.val) if hasattr(value, "val") else known[value]


def _inner(equation: Any, own_gradients: bool) -> Any:
    name = equation.primitive.name
    if name in CONTROL or (own_gradients and name not in PLAIN):
        return None
    return next((p for key in INNER if hasattr(p := equation.params.get(key), "eqns")), None)


def evaluated(
    calls: Sequence[Call], known: dict[Name, Any], compute: Callable[[Any, list[Any]], list[Any]] = computed
) -> None:
    """Add to what is known what some calls give."""
    for call in calls:
        taken = [value.array if isinstance(value, Constant) else known[value] for value in call.inputs]
        known.update(zip(call.outputs, compute(call.equation, taken), strict=True))


def float64(on: bool) -> Any:
    """A context in which JAX has float64, or has not."""
    jax = library("jax", "jax")
    context = jax if hasattr(jax, "enable_x64") else library("jax.experimental", "jax")
    return context.enable_x64(on)


# In float64, whatever a function was traced in.


def in_float64(closed: Any, arrays: Sequence[Any], known: dict[Name, Any] | None = None) -> list[Any]:
    """The outputs of a jaxpr that computes all its floating-point numbers in float64. Call it where JAX has float64.

    Args:
        closed: JAX's, in any floating-point numbers.
        arrays: its inputs.
        known: takes all values, by name.
    """
    row = flattened(closed, own_gradients=False)
    found: dict[Name, Any] = {} if known is None else known
    found.update(zip(row.inputs, map(_wide, arrays), strict=True))
    evaluated(row.calls, found, _wide_call)

    def value(name: Any) -> Any:
        return _wide(name.array) if isinstance(name, Constant) else found[name]

    outputs = [value(name) for name in row.outputs]
    found.update((name, value(other)) for name, other in row.same.items())
    return outputs


def _wide_call(equation: Any, taken: list[Any]) -> list[Any]:
    lax = library("jax.lax", "jax")
    arrays, p = list(map(_wide, taken)), equation.params
    match equation.primitive.name:
        case "reduce_precision":
            return arrays
        case "scan":
            first, second = p["num_consts"], p["num_consts"] + p["num_carry"]

            def body(carry: list[Any], rows: list[Any]) -> tuple[list[Any], list[Any]]:
                out = in_float64(p["jaxpr"], [*arrays[:first], *carry, *rows])
                return out[: p["num_carry"]], out[p["num_carry"] :]

            carry, rows = lax.scan(body, arrays[first:second], arrays[second:], p["length"], p["reverse"])
            return [*carry, *rows]
        case "while":
            first, second = p["cond_nconsts"], p["cond_nconsts"] + p["body_nconsts"]
            out: list[Any] = lax.while_loop(
                lambda carry: in_float64(p["cond_jaxpr"], [*arrays[:first], *carry])[0],
                lambda carry: in_float64(p["body_jaxpr"], [*arrays[first:second], *carry]),
                arrays[second:],
            )
            return out
        case "cond":
            branches = [lambda *a, b=branch: in_float64(b, a) for branch in p["branches"]]
            chosen: list[Any] = lax.switch(arrays[0], branches, *arrays[1:])
            return chosen
    return computed(equation.replace(params={key: _wide_parameter(key, value) for key, value in p.items()}), arrays)


def _wide(array: Any) -> Any:
    """Floating-point numbers in float64, all else as it is."""
    dtype = getattr(array, "dtype", None)
    if isinstance(array, float) or (dtype is not None and _floating(dtype)):
        return library("jax.numpy", "jax").asarray(array, np.float64)
    return array


def _wide_parameter(key: str, value: Any) -> Any:
    if key == "precision":
        return None
    kind = isinstance(value, np.dtype) or (isinstance(value, type) and issubclass(value, np.generic))
    return np.dtype(np.float64) if kind and _floating(np.dtype(value)) else value


def _floating(dtype: Any) -> bool:
    return bool(library("jax.numpy", "jax").issubdtype(dtype, np.floating))
