"""The layers of a JAX function that is bridged: where its row of calls can be cut, and what crosses a cut."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..graph.modules import Scope, attribute, common, containers, way
from ..graph.optional_imports import library
from .calls import Call, Calls, Constant, Name, evaluated
from .jaxpr import BATCH_SIZES
from .layer_names import cleaned

END = -1  # no cut: the output


@dataclass(frozen=True)
class Cut:
    """A layer as it is called: its name, the place of the call that its output comes from, and what it is.

    order: the axes of N, C, H, W among those of a feature map, else all axes in order. tail: its shape without N.
    """

    layer: str
    place: int
    value: Name
    order: tuple[int, ...]
    tail: tuple[int, ...]


class Row:
    """The calls of a function of so many images, and its layers.

    Args:
        calls: of the function.
        axes: those of N, C, H, W among its images.
    """

    def __init__(self, calls: Calls, axes: tuple[int, ...]) -> None:
        self.images, self.output = calls.inputs[0], calls.outputs[0]
        live, kept = {self.output}, list[Call]()
        for call in reversed(calls.calls):
            if any(name in live for name in call.outputs):
                live.update(name for name in call.inputs if not isinstance(name, Constant))
                kept.append(call)
        self.calls = kept[::-1]
        self.made = {self.images: -1}  # the place of each value that depends on the images
        for place, call in enumerate(self.calls):
            if any(name in self.made for name in call.inputs if not isinstance(name, Constant)):
                self.made.update(dict.fromkeys(call.outputs, place))
        self.fixed = [call for call in self.calls if call.outputs[0] not in self.made]
        self.last: dict[Any, float] = {}  # where each value is taken last
        for place, call in enumerate(self.calls):
            self.last.update((name, place) for name in call.inputs if not isinstance(name, Constant))
        self.last[self.output] = math.inf
        self.order = _feature_maps(self.calls, self.images, axes)

    def layers(self) -> Iterator[tuple[str, list[Name]]]:
        """Each layer as often as it is called, with those of its values that others take, in order."""
        places = [place for place, call in enumerate(self.calls) if call.outputs[0] in self.made]
        scopes = {place: cleaned(self.calls[place].scope) for place in places}
        root = common([scope for scope in scopes.values() if scope])
        if any(len(scope) > len(root) for scope in scopes.values()):
            scopes = {place: scope[len(root) :] for place, scope in scopes.items()}
        holders = containers(list(scopes.values()))

        def inside(among: Sequence[int], scope: Scope) -> Iterator[tuple[str, list[Name]]]:
            for path, group in itertools.groupby(among, lambda place: way(scopes[place], len(scope), holders)):
                if not path:
                    continue
                mine = list(group)
                values = [name for place in mine for name in self.calls[place].outputs]
                yield ".".join(map(attribute, scope + path)), [n for n in values if self.last.get(n, -1) > mine[-1]]
                yield from inside(mine, scope + path)

        return inside(places, ())

    def cut(self, layer: str, value: Name) -> Cut:
        shape = value[1].aval.shape
        return Cut(layer, self.made[value], value, self.order.get(value, tuple(range(len(shape)))), shape[1:])

    def between(self, start: int, stop: int, wanted: Sequence[Name]) -> tuple[list[Call], list[Name], list[Name]]:
        """A piece: what is called after one place up to another, what that takes, and what it gives: what is wanted
        first, then all that is taken behind it."""
        given = list(wanted)
        given += [n for n, at in self.made.items() if start < at <= stop < self.last.get(n, -1) and n not in given]
        needed, called = set(given), list[Call]()
        here = [call for call in self.calls[start + 1 : stop + 1] if call.outputs[0] in self.made]
        for call in reversed(self.fixed + here):
            if any(name in needed for name in call.outputs):
                called.append(call)
                needed.update(name for name in call.inputs if not isinstance(name, Constant))
        taken = [name for name, place in self.made.items() if place <= start and name in needed]
        return called[::-1], taken, given


def cuts(first: Row, second: Row) -> list[Cut]:
    """The layers of a function, in the order in which they end: their last value of floating-point numbers with a row
    for each image. The rows are for BATCH_SIZES."""
    found = []
    for (layer, values), (_, others) in zip(first.layers(), second.layers(), strict=True):
        fitting = [
            a for a, b in zip(values, others, strict=True)
            if a[1].aval.ndim > 1 and (a[1].aval.shape[0], b[1].aval.shape[0]) == BATCH_SIZES and floating(a)
        ]  # fmt: skip
        if fitting:
            found.append(first.cut(layer, fitting[-1]))
    return sorted(found, key=lambda cut: (cut.place, -cut.layer.count(".")))


def again(found: Sequence[Cut], base: Row, row: Row, count: int) -> list[Cut]:
    """The same layers in the calls of the function of another number of images; none if one is not found."""
    if [call.equation.primitive.name for call in row.calls] == [call.equation.primitive.name for call in base.calls]:
        ours, theirs = ([name for call in calls for name in call.outputs] for calls in (base.calls, row.calls))
        places = dict(zip(ours, theirs, strict=True))
        return [row.cut(cut.layer, places[cut.value]) for cut in found]
    listed: dict[str, list[list[Name]]] = {}
    for layer, values in row.layers():
        listed.setdefault(layer, []).append(values)
    here = []
    for cut in found:  # for one image, JAX leaves out the broadcast of constants
        calls = listed.get(cut.layer, [])
        fitting = [n for n in (calls.pop(0) if calls else []) if n[1].aval.shape == (count, *cut.tail) and floating(n)]
        if not fitting:
            return []
        here.append(row.cut(cut.layer, fitting[-1]))
    return here if all(a.place <= b.place for a, b in itertools.pairwise(here)) else []


def floating(name: Name) -> bool:
    return bool(library("jax.numpy", "jax").issubdtype(name[1].aval.dtype, np.floating))


def piece(called: Sequence[Call], taken: Sequence[Name], given: Sequence[Any]) -> Any:
    """A piece of a row as a function of its values by number, which gives a list."""

    def compute(values: Mapping[int, Any]) -> list[Any]:
        known = {name: values[number] for number, name in enumerate(taken)}
        evaluated(called, known)
        return [name.array if isinstance(name, Constant) else known[name] for name in given]

    return compute


def _feature_maps(calls: Sequence[Call], images: Name, axes: tuple[int, ...]) -> dict[Name, tuple[int, ...]]:
    """Where N, C, H, W are among the axes of feature maps: the images, and what keeps their four axes."""
    found = {images: axes}
    for call in calls:
        before = next((found[n] for n in call.inputs if not isinstance(n, Constant) and n in found), None)
        p, name = call.equation.params, call.equation.primitive.name
        for out in call.outputs:
            order = before
            if out[1].aval.ndim != 4:
                continue
            if name == "conv_general_dilated":
                order = tuple(p["dimension_numbers"].out_spec)
            elif name == "transpose" and before is not None:
                order = tuple(map(p["permutation"].index, before))
            elif name == "dot_general" and before is not None:
                order = _dense(call, before)
            elif name == "reshape":
                order = before if before is not None and call.inputs[0][1].aval.shape == out[1].aval.shape else None
            if order is not None:
                found[out] = order
    return found


def _dense(call: Call, before: tuple[int, ...]) -> tuple[int, ...] | None:
    """A dense layer at each place of a feature map: its channels come last."""
    ((left, right), batch), ndims = (
        call.equation.params["dimension_numbers"],
        [v.aval.ndim for v in call.equation.invars],
    )
    if ndims != [4, 2] or batch != ((), ()) or tuple(left) != (before[1],) or len(right) != 1:
        return None
    places = [axis - (axis > before[1]) for axis in before]
    return (places[0], 3, places[2], places[3])
