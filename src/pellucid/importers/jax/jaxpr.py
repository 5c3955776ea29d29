"""A JAX function as a program: its jaxpr at two batch sizes, whose lengths tell what depends on the batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..graph.batch_dims import dim, shape_of_both
from ..graph.graph import BatchDim, ImportFailed, Shape, Unknown, tensor
from ..graph.optional_imports import library

BATCH_SIZES = (3, 4)


@dataclass(frozen=True, eq=False)
class Known:
    """A constant, and its shape; where the shape has N, the array has length 1."""

    array: Tensor
    shape: Shape


@dataclass(frozen=True, eq=False)
class Equation:
    """One call of a primitive.

    name, params: as in JAX; lengths that depend on the batch are `BatchDim`, inner jaxprs are `Program`.
    inputs: names of values, or constants; takes: their types. outputs: names of values; shapes, dtypes: of those.
    scope: names of the modules. source: JAX's own equation.
    """

    name: str
    params: dict[str, Any]
    inputs: list[Any]
    takes: list[Any]
    outputs: list[Any]
    shapes: list[Shape]
    dtypes: list[Any]
    scope: tuple[str, ...]
    source: Any


@dataclass(frozen=True, eq=False)
class Program:
    """Equations in order, with the names of what goes in and comes out."""

    inputs: list[Any]
    constants: dict[Any, Known | Unknown]
    equations: list[Equation]
    outputs: list[Any]
    shapes: list[Shape]


def traced(function: Callable[[Any], Any], shape: tuple[int, ...], dtype: Any) -> tuple[Program, list[Any]]:
    """The program of a function of arrays N x shape, and its jaxprs for BATCH_SIZES of them."""
    closed = [jaxpr(function, (count, *shape), dtype) for count in BATCH_SIZES]
    return _program(*closed), closed


def jaxpr(function: Callable[[Any], Any], shape: tuple[int, ...], dtype: Any) -> Any:
    """The jaxpr of a function of an array."""
    jax = library("jax", "jax")
    return jax.make_jaxpr(function)(jax.ShapeDtypeStruct(shape, dtype))


def computed(equation: Any, arrays: list[Any]) -> list[Any]:
    """The outputs of one of JAX's equations, computed by JAX."""
    primitive = equation.primitive
    bound = primitive.get_bind_params(equation.params)
    functions, params = bound if isinstance(bound, tuple) else ((), bound)  # older versions give functions apart
    made = primitive.bind(*functions, *arrays, **params)
    return list(made) if primitive.multiple_results else [made]


def _program(first: Any, second: Any) -> Program:
    """Two jaxprs of one function, for BATCH_SIZES images, as one."""
    a, b = getattr(first, "jaxpr", first), getattr(second, "jaxpr", second)
    names = [equation.primitive.name for equation in a.eqns]
    if names != [equation.primitive.name for equation in b.eqns]:
        raise ImportFailed(
            f"the function computes something else for {BATCH_SIZES[0]} images than for {BATCH_SIZES[1]}: its steps "
            "must not depend on the size of the batch. Give the function of one image under jax.vmap"
        )
    constants = {
        name: _constant(one, other)
        for name, one, other in zip(
            a.constvars, getattr(first, "consts", ()), getattr(second, "consts", ()), strict=True
        )
    }
    return Program(
        list(a.invars),
        constants,
        [_equation(*pair) for pair in zip(a.eqns, b.eqns, strict=True)],
        [_atom(*pair) for pair in zip(a.outvars, b.outvars, strict=True)],
        [_shape(*pair) for pair in zip(a.outvars, b.outvars, strict=True)],
    )


def _equation(a: Any, b: Any) -> Equation:
    stack = a.source_info.name_stack.stack
    scope = tuple(entry.name for entry in stack if type(entry).__name__ == "Scope")
    return Equation(
        a.primitive.name,
        {key: _common(value, b.params.get(key)) for key, value in a.params.items()},
        [_atom(*pair) for pair in zip(a.invars, b.invars, strict=True)],
        [getattr(taken.aval, "dtype", None) for taken in a.invars],
        list(a.outvars),
        [_shape(*pair) for pair in zip(a.outvars, b.outvars, strict=True)],
        [getattr(out.aval, "dtype", None) for out in a.outvars],
        scope,
        a,
    )


def _common(a: Any, b: Any) -> Any:
    """A parameter that may hold lengths or programs."""
    if isinstance(a, (bool, np.bool_)):
        return bool(a)
    if isinstance(a, (int, np.integer)):
        return dim(int(a), int(b), BATCH_SIZES)
    if hasattr(a, "eqns") or hasattr(a, "jaxpr"):
        return _program(a, b)
    if type(a) in (tuple, list) and type(b) is type(a) and len(a) == len(b):
        return tuple(_common(*pair) for pair in zip(a, b, strict=True))
    return a


def _shape(a: Any, b: Any) -> Shape:
    return shape_of_both(getattr(a.aval, "shape", ()), getattr(b.aval, "shape", ()), BATCH_SIZES)


def _atom(a: Any, b: Any) -> Any:
    return _constant(a.val, b.val) if hasattr(a, "val") else a


RANDOM = "the function draws random numbers: import the network as it predicts (train=False, deterministic=True)"
MIXED = (
    "a constant of the function depends on the batch size, as where a batch norm takes the statistics "
    "of the batch: import the network as it predicts (train=False, use_running_average=True, model.eval())"
)


def _constant(a: Any, b: Any) -> Known | Unknown:
    if not hasattr(a, "dtype") and not isinstance(a, (bool, int, float)):
        return Unknown(RANDOM)
    if "key<" in str(getattr(a, "dtype", "")):
        return Unknown(RANDOM)
    one, other = tensor(a), tensor(a if b is a else b)
    shape = shape_of_both(one.shape, other.shape, BATCH_SIZES)
    for axis, length in enumerate(shape):
        if isinstance(length, BatchDim):
            rows = one.narrow(axis, 0, 1), other.narrow(axis, 0, 1)
            if not torch.equal(rows[0].expand_as(one), one):
                return Unknown("a constant of the function holds other numbers for each image of a batch")
            one, other = rows
    same = a is b or torch.equal(one.nan_to_num(), other.nan_to_num())
    return Known(one, shape) if same else Unknown(MIXED)
