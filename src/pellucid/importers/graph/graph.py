"""A network while it is being imported: torch functions, the layer each belongs to, and what is known of their values.

A rule of an importer calls `graph.call(F.conv2d, x, w)`. If all that goes in is known, the result is computed at once,
so that everything that does not depend on the images is folded; else it becomes a step of the network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

TWO = 2


class ImportFailed(ValueError):
    """A network that cannot be re-expressed in torch; the message says what, where, and what to do."""


class ImagesMixed(ImportFailed):
    """A network in which the result of one image depends on the others; no rule would help."""


@dataclass(frozen=True)
class BatchDim:
    """A dimension that depends on the batch size N: per * N + rest."""

    per: int
    rest: int = 0

    def at(self, count: int) -> int:
        return self.per * count + self.rest

    def __add__(self, other: Dim) -> BatchDim:
        if isinstance(other, BatchDim):
            return BatchDim(self.per + other.per, self.rest + other.rest)
        return BatchDim(self.per, self.rest + other)

    __radd__ = __add__


Dim = int | BatchDim
Shape = tuple[Dim, ...]


@dataclass(eq=False)
class Step:
    """One call of a torch function in the network.

    function: None for the images themselves. args, kwargs: steps, tensors, numbers. scope: the layer that calls it.
    shape: of what it returns for TWO images, once `infer_shapes` was called. origin: what it is in the source
    framework, to be compared with.
    """

    function: Callable[..., Any] | None
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    scope: tuple[str, ...] = ()
    shape: tuple[int, ...] = ()
    origin: Any = None

    @property
    def inputs(self) -> list[Step]:
        """The steps among its arguments."""
        return [value for value in flat((self.args, tuple(self.kwargs.values()))) if isinstance(value, Step)]


Held = Step | Tensor


@dataclass(frozen=True)
class Unknown:
    """A value that cannot be had; an error only if the output needs it."""

    reason: str


@dataclass(frozen=True, eq=False)
class Value:
    """A value of the source framework, and how torch holds it.

    shape: in the source framework. order: axis i of what is held is axis order[i] of the source. A feature map stays
    N x C x H x W while its source has its channels last, and a transposition costs nothing. A known value that is
    the same for each image is held with length 1 where its shape has N.
    """

    held: Held
    shape: Shape
    order: tuple[int, ...]

    @property
    def known(self) -> bool:
        return isinstance(self.held, Tensor)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @classmethod
    def of(cls, held: Held, shape: Shape | None = None) -> Value:
        """A value whose axes torch has in the same order; the shape of a known one is its own by default."""
        if shape is None:
            assert isinstance(held, Tensor)
            shape = tuple(held.shape)
        return cls(held, shape, tuple(range(len(shape))))

    def axis(self, source: int) -> int:
        """Where an axis of the source is in what is held."""
        return self.order.index(source)

    def transposed(self, axes: Sequence[int]) -> Value:
        """The value whose axis i is axis axes[i] of this one; what torch holds stays as it is."""
        shape = tuple(self.shape[axis] for axis in axes)
        return Value(self.held, shape, tuple(list(axes).index(axis) for axis in self.order))

    def number(self) -> float | int | bool | None:
        """The number that it is; None if it is more than one, or not known."""
        number = self.held.item() if isinstance(self.held, Tensor) and self.held.numel() == 1 else None
        assert number is None or isinstance(number, (float, int, bool))
        return number


class Permuted(NamedTuple):
    """What a rule may give: what torch holds, whose axis i is axis order[i] in the source framework."""

    held: Held
    order: tuple[int, ...]


class Graph:
    """The steps of a network in the making.

    Args:
        dtype: what all floating-point numbers are computed in.
        shape: of the images, C x H x W.
    """

    def __init__(self, dtype: torch.dtype, shape: tuple[int, int, int]) -> None:
        self.dtype = dtype
        self.shape = shape
        self.images = Step(None)
        self.steps: list[Step] = [self.images]
        self.output = self.images
        self.scope: tuple[str, ...] = ()
        self.inferred: dict[Step, Any] = {}  # what steps return, without numbers

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a torch function, now if all is known, else when the network runs."""
        if not any(isinstance(value, Step) for value in flat((args, tuple(kwargs.values())))):
            with torch.no_grad():
                return function(*args, **kwargs)
        plain = tuple(map(_number, args))
        step = Step(function, plain, {key: _number(value) for key, value in kwargs.items()}, self.scope)
        self.steps.append(step)
        return step

    def batch(self, axes: Sequence[int]) -> Value:
        """The images as the source takes them; `axes` are those of N, C, H, W there."""
        shape: list[Dim] = [0] * 4
        for place, axis in enumerate(axes):
            shape[axis] = self.shape[place - 1] if place else BatchDim(1)
        return Value(self.images, tuple(shape), tuple(axes))

    def end(self, value: Value) -> None:
        """Take a value for the output."""
        self.scope = ()
        held = self.plain(value)
        if not isinstance(held, Step):
            raise ImportFailed("the function does not look at the images: it returns a constant")
        self.output = held

    def constant(self, array: Tensor) -> Tensor:
        """A known tensor in the numbers of this network."""
        return array.to(self.dtype) if array.is_floating_point() else array

    def plain(self, value: Value) -> Held:
        """What is held, with its axes as in the source."""
        return self.ordered(value, tuple(range(value.ndim)))

    def ordered(self, value: Value, order: Sequence[int]) -> Held:
        """What is held, with axis i being axis order[i] of the source."""
        moves = tuple(value.order.index(axis) for axis in order)
        if moves == tuple(range(len(moves))):
            return value.held
        held = value.held
        if isinstance(held, Step) and held.function is Tensor.permute and held.scope == self.scope:
            held, first = held.args  # two permutes are one
            moves = tuple(first[move] for move in moves)
            if moves == tuple(range(len(moves))):
                return held  # type: ignore[no-any-return]
        out: Held = self.call(Tensor.permute, held, moves)
        return out

    def aligned(self, values: Sequence[Value]) -> tuple[list[Held], tuple[int, ...]]:
        """Several values with their axes in one order, and that order; numbers are left as they are."""
        rank = max(value.ndim for value in values)
        full = [value for value in values if value.ndim == rank]
        moving = [value.order for value in full if not value.known] or [full[0].order]
        order = next((order for order in moving if order != tuple(range(rank))), moving[0])  # a feature map stays one
        shapes = [value.shape for value in full if not value.known]
        return [
            self.ordered(value, order) if value.ndim == rank and not _uniform(value, shapes) else _one(value)
            for value in values
        ], order

    def expanded(self, value: Value) -> Value:
        """A known value that is the same for each image, once for each of them."""
        if not value.known or not any(isinstance(length, BatchDim) for length in value.shape):
            return value
        lengths = [self.length(value.shape[axis]) for axis in value.order]
        held = self.call(Tensor.expand, value.held, tuple(lengths))
        return Value(held, value.shape, value.order)

    def length(self, length: Dim) -> Any:
        """A number, or a step that computes it from the batch size."""
        if isinstance(length, int):
            return length
        out = self.call(Tensor.size, self.images, 0)
        out = out if length.per == 1 else self.call(_times, out, length.per)
        return out if length.rest == 0 else self.call(_plus, out, length.rest)

    def reshaped(self, held: Held, shape: Shape) -> Held:
        """Another shape of the same numbers in the same order."""
        open_axes = [i for i, length in enumerate(shape) if isinstance(length, BatchDim)]
        if isinstance(held, Tensor):
            to: list[Any] = [1 if isinstance(length, BatchDim) else length for length in shape]
        elif len(open_axes) == 1:
            to = [-1 if isinstance(length, BatchDim) else length for length in shape]
        else:
            to = [self.length(length) for length in shape]
        out: Held = self.call(Tensor.reshape, held, tuple(to))
        return out

    def users(self) -> dict[Step, list[Step]]:
        """Who takes each step; the last entry of the output's is the output itself."""
        found: dict[Step, list[Step]] = {step: [] for step in self.steps}
        for step in self.steps:
            for before in step.inputs:
                found[before].append(step)
        found[self.output].append(self.output)
        return found

    def replace(self, old: Step, new: Step) -> None:
        """Put a new step at the place of another, for all who take that."""
        new.origin = new.origin if new.origin is not None else old.origin
        place = self.steps.index(old)
        for step in self.steps[place:]:
            if old in step.inputs:
                step.args = swapped(step.args, old, new)
                step.kwargs = {key: swapped(value, old, new) for key, value in step.kwargs.items()}
        if self.output is old:
            self.output = new
        if new not in self.steps[:place]:
            self.steps[place] = new

    def values(self, images: Tensor, change: Callable[[Tensor], Tensor] = lambda t: t) -> dict[Step, Any]:
        """What each step returns for some images."""
        known: dict[Step, Any] = {self.images: images}
        with torch.no_grad():
            for step in self.steps[1:]:
                known[step] = compute(step, known, change)
        return known

    def infer_shapes(self) -> None:
        """Note the shapes of all values, for TWO images; nothing is computed for it, and no step is looked at twice."""
        known = {step: self.inferred[step] for step in self.steps if step in self.inferred}
        known[self.images] = torch.empty(TWO, *self.shape, dtype=self.dtype, device="meta")
        for step in self.steps[1:]:
            if step not in known:
                with torch.no_grad():
                    known[step] = compute(step, known, without_numbers)
            step.shape = tuple(known[step].shape) if isinstance(known[step], Tensor) else ()
        self.images.shape = tuple(known[self.images].shape)
        self.inferred = known

    def prune(self) -> None:
        """Drop what does not lead to the output."""
        live = {self.output, self.images}
        for step in reversed(self.steps):
            if step in live:
                live.update(step.inputs)
        self.steps = [step for step in self.steps if step in live]


def tensor(array: Any) -> Tensor:
    """An array of numpy, or of what numpy takes for one, as a tensor of its own."""
    array = np.asarray(array)
    if array.dtype.kind == "V" or array.dtype.name in ("bfloat16", "float16") or "float8" in array.dtype.name:
        array = array.astype(np.float32)
    if array.dtype.kind == "u" and array.dtype.itemsize > 1:
        array = array.astype(np.int64)
    return torch.from_numpy(np.array(array))


def compute(step: Step, known: Mapping[Step, Any], change: Callable[[Tensor], Tensor] = lambda t: t) -> Any:
    """What a step returns, given what it takes; `change` is applied to tensors that are constants."""

    def value(item: Any) -> Any:
        if isinstance(item, Step):
            return known[item]
        if isinstance(item, Tensor):
            return change(item)
        return type(item)(map(value, item)) if type(item) in (tuple, list) else item

    assert step.function is not None
    return step.function(*map(value, step.args), **{key: value(item) for key, item in step.kwargs.items()})


def first_line(error: Exception) -> str:
    """What an error says first; its kind where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def without_numbers(constant: Tensor) -> Tensor:
    """A tensor that has a shape only."""
    return constant.to("meta")


def flat(values: Any) -> Iterable[Any]:
    """The items of nested tuples and lists."""
    for value in values:
        if isinstance(value, (tuple, list)):
            yield from flat(value)
        else:
            yield value


def swapped(value: Any, old: Step, new: Any) -> Any:
    """Nested arguments with one step in place of another."""
    if isinstance(value, (tuple, list)):
        return type(value)(swapped(item, old, new) for item in value)
    return new if value is old else value


def _uniform(value: Value, shapes: list[Shape]) -> bool:
    """Whether a value is one number, expanded to a shape that others have without it."""
    held = value.held
    if not isinstance(held, Tensor) or not held.numel():
        return False
    if any(step for step, length in zip(held.stride(), held.shape, strict=True) if length != 1):
        return False
    return any(all(a in (1, b) for a, b in zip(value.shape, shape, strict=True)) for shape in shapes)


def _one(value: Value) -> Held:
    held = value.held
    return held.as_strided((), ()) if isinstance(held, Tensor) and held.ndim else held


def _number(value: Any) -> Any:
    return value.item() if isinstance(value, Tensor) and value.ndim == 0 else value


def _times(a: int, b: int) -> int:
    return a * b


def _plus(a: int, b: int) -> int:
    return a + b
