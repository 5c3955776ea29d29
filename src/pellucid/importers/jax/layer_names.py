"""Names of layers for JAX's module libraries that do not put them into what they trace (Flax nnx, Equinox)."""

from __future__ import annotations

import contextlib
import functools
import inspect
import sys
from collections.abc import Callable, Iterator
from typing import Any

from ..graph.optional_imports import library

Scope = tuple[str, ...]


def modules(function: Callable[..., Any]) -> dict[int, tuple[Any, Scope]]:
    """The modules that a function is or refers to, by identity, each with its path from the outermost."""
    found: dict[int, tuple[Any, Scope]] = {}
    waiting: list[Any] = [function]
    seen: set[int] = set()
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if _is_module(value):
            for path, module in _inside(value):
                found.setdefault(id(module), (module, path))
        elif isinstance(value, functools.partial):
            waiting += [value.func, *value.args, *value.keywords.values()]
        elif inspect.ismethod(value):
            waiting += [value.__self__]
        elif inspect.isfunction(value):
            refers = inspect.getclosurevars(value)
            waiting += [
                *refers.nonlocals.values(),
                *(v for v in refers.globals.values() if _is_module(v) or inspect.isfunction(v)),
            ]
        elif hasattr(value, "__wrapped__"):  # jax.jit, jax.vmap, equinox.filter_jit
            waiting.append(value.__wrapped__)
    return found


@contextlib.contextmanager
def scoped(found: dict[int, tuple[Any, Scope]]) -> Iterator[None]:
    """While open, what these modules compute is traced under their names. Only they are changed, and changed back."""
    jax = library("jax", "jax")
    before = [(module, type(module)) for module, path in found.values() if path]
    try:
        for module, path in found.values():
            if path and callable(module):
                object.__setattr__(module, "__class__", _named(jax.named_scope, type(module), "/".join(path)))
        yield
    finally:
        for module, kind in before:
            object.__setattr__(module, "__class__", kind)


def _named(scope: Any, kind: type, path: str) -> type:
    """A class whose calls are traced under a name."""

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        with scope(f"{MARK}{path}"):
            return kind.__call__(self, *args, **kwargs)

    return type(kind)(kind.__name__, (kind,), {"__call__": call, "__module__": kind.__module__})


MARK = "pellucid:"


def cleaned(scope: Scope) -> Scope:
    """The path of the innermost named module; for others the scopes as they are, without those of libraries."""
    marked = [name for name in scope if name.startswith(MARK)]
    if marked:
        numbers = [name for name in scope if name.isdigit()]  # of unrolled loops
        return (*numbers, *marked[-1].removeprefix(MARK).split("/"))
    own = [name for name in scope if "->" not in name]  # an einsum is no layer
    return tuple(part.removeprefix("eqx.nn.") for name in own for part in name.split("/") if part not in ("", "~"))


def _is_module(value: Any) -> bool:
    nnx, equinox = (_class(name, "Module") for name in ("flax.nnx", "equinox"))
    return isinstance(value, tuple(kind for kind in (nnx, equinox) if kind is not None))


def _class(library: str, name: str) -> Any:
    """A class of a library that the user has imported."""
    return getattr(sys.modules.get(library), name, None)


def _inside(module: Any) -> list[tuple[Scope, Any]]:
    """A module and those in it, each with its path."""
    kinds = tuple(k for k in (_class("flax.nnx", "Module"), _class("equinox", "Module")) if k is not None)
    found: list[tuple[Scope, Any]] = []
    waiting: list[tuple[Scope, Any]] = [((), module)]
    seen: set[int] = set()
    while waiting:
        path, value = waiting.pop(0)
        if id(value) in seen:
            continue
        if isinstance(value, kinds):
            seen.add(id(value))
            found.append((path, value))
            waiting += [((*path, name), item) for name, item in _fields(value)]
        elif isinstance(value, dict):
            waiting += [((*path, str(name)), item) for name, item in value.items()]
        elif isinstance(value, (tuple, list)) or type(value).__module__.startswith("flax.nnx"):
            with contextlib.suppress(TypeError):
                waiting += [((*path, str(place)), item) for place, item in enumerate(value)]
    return found


def _fields(module: Any) -> list[tuple[str, Any]]:
    held = getattr(module, "__dict__", {})
    return [(name, value) for name, value in held.items() if not name.startswith("_")]
