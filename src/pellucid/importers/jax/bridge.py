"""A JAX function behind autograd functions: for what cannot be re-expressed in torch.

The function is one compiled call where nobody looks into it. Else it is cut at the layers that somebody looks at: what
lies between two cuts is compiled by itself, and nothing is computed twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.utils.dlpack
from torch import Tensor, nn

from ..graph.bridge import add_layers, watched
from ..graph.optional_imports import library
from .calls import Name, flattened, float64
from .jaxpr import BATCH_SIZES
from .layer_cuts import END, Cut, Row, again, cuts, piece


class Bridge(nn.Module):
    """A JAX function as a torch module. JAX computes the outputs and the gradients.

    Its layers are modules without weights: they can be read and edited, and gradients taken at them. Pictures are
    N x C x H x W there. Batches are padded to powers of two, so that JAX compiles few programs.

    Args:
        function: of a batch of images, as `axes` says.
        traced: its jaxpr for so many images, with the names of its layers.
        axes: where N, C, H, W are among its axes.
        dtype: of its images, in JAX.
    """

    def __init__(
        self, function: Callable[[Any], Any], traced: Callable[[int], Any], axes: tuple[int, ...], dtype: torch.dtype
    ) -> None:
        super().__init__()
        self.axes, self.dtype, self.traced = axes, dtype, traced
        self.device = torch.device("cpu") if library("jax", "jax").default_backend() == "cpu" else None
        self.wide = bool(library("jax", "jax").config.jax_enable_x64)
        self.whole = Piece(lambda values: [function(values[0])], self.wide)
        self.rows: dict[int, Row] = {}
        self.cuts = {BATCH_SIZES[0]: cuts(self.row(BATCH_SIZES[0]), self.row(BATCH_SIZES[1]))}
        self.pieces: dict[Any, tuple[Piece, list[Name], list[Name]]] = {}
        add_layers(self, (cut.layer for cut in self.cuts[BATCH_SIZES[0]]))

    def forward(self, images: Tensor) -> Tensor:
        x = images.permute(_inverse(self.axes)).to(self.device or images.device, self.dtype)
        with float64(self.wide):
            looked_at = [n for n, cut in enumerate(self.cuts[BATCH_SIZES[0]]) if watched(self.get_submodule(cut.layer))]
            if looked_at:
                return self.in_parts(x, looked_at).to(images)
            out: Tensor = self.whole([_padded(x, _size(len(x)))])[0]
        return out[: len(x)].to(images)

    def in_parts(self, x: Tensor, looked_at: list[int]) -> Tensor:
        """The outputs, with what hooks of some layers (numbers of cuts) make of theirs."""
        count, at, size = len(x), -1, self.fitting(len(x))
        values: dict[Name, Any] = {self.row(size).images: _padded(x, size)}
        while looked_at:
            # A hook may change what lies behind it, or begin to record gradients. Where none are recorded it is first
            # taken to look only, and the values of all layers are computed in one go.
            ahead = looked_at[:1] if torch.is_grad_enabled() else looked_at
            found = self.between(size, at, ahead[-1], values, ahead)
            for done, number in enumerate(ahead, start=1):
                cut = self.layers(size)[number]
                before = found[cut.value][:count]
                after = self.shown(cut, before if done == len(ahead) else before.clone())
                looked = before.shape == after.shape and not torch.is_grad_enabled() and torch.equal(before, after)
                if done < len(ahead) and not looked:
                    found = self.between(size, at, number, values, [number])
                    break
            at, values, looked_at = cut.place, found, looked_at[done:]
            if len(after) != count:
                self.check_alone(size, cut, values, len(after), count)
                count, size, values = len(after), self.fitting(len(after)), {}
                cut = self.layers(size)[number]
                at = cut.place
            values[cut.value] = _padded(after, size)
        output = self.row(size).output
        out: Tensor = self.between(size, at, END, values, [])[output]
        return out[:count]

    def shown(self, cut: Cut, value: Tensor) -> Tensor:
        """What the hooks of a layer make of its value."""
        made: Tensor = self.get_submodule(cut.layer)(value.permute(cut.order))
        return made.permute(_inverse(cut.order)).to(value)

    def between(
        self, size: int, start: int, stop: int, values: Mapping[Name, Any], wanted: Sequence[int]
    ) -> dict[Name, Any]:
        """The values that are needed behind a cut (its number, or END), from those before; also those of other cuts."""
        row, all_cuts = self.row(size), self.layers(size)
        place = len(row.calls) if stop == END else all_cuts[stop].place
        names = dict.fromkeys(all_cuts[number].value for number in wanted)
        names |= dict.fromkeys([row.output] if stop == END else [])
        new = tuple(name for name in names if name not in values)
        key = (size, start, place, new)
        if key not in self.pieces:
            calls, taken, given = row.between(start, place, new)
            self.pieces[key] = (Piece(piece(calls, taken, given), self.wide), taken, given)
        compute, taken, given = self.pieces[key]
        kept = {name: value for name, value in values.items() if name in names or row.last.get(name, -1) > place}
        return kept | dict(zip(given, compute([values[name] for name in taken]) if given else [], strict=True))

    def check_alone(self, size: int, cut: Cut, values: Mapping[Name, Any], rows: int, count: int) -> None:
        """Refuse another number of rows where more than the layer's own values is needed behind it."""
        if any(name != cut.value and self.row(size).last.get(name, -1) > cut.place for name in values):
            raise ValueError(
                f"an edit of layer {cut.layer!r} gave {rows} rows for {count} images, and what comes behind it "
                "also needs values from before, a row for each image: send as many images as rows"
            )

    def row(self, count: int) -> Row:
        """The calls of the function of so many images."""
        if count not in self.rows:
            self.rows[count] = Row(flattened(self.traced(count), own_gradients=True), self.axes)
        return self.rows[count]

    def layers(self, count: int) -> list[Cut]:
        """Where layers end in these calls; none where they are not found in them."""
        if count not in self.cuts:
            self.cuts[count] = again(self.cuts[BATCH_SIZES[0]], self.row(BATCH_SIZES[0]), self.row(count), count)
        return self.cuts[count]

    def fitting(self, count: int) -> int:
        """A size for batches of so many that the layers are found for.

        What JAX kept from an earlier call of a part of the function has no names of layers.
        """
        size = next((s for s in (_size(count) << more for more in range(4)) if self.layers(s)), None)
        if size is None:
            raise ValueError(f"the function computes something else for {count} images than for {BATCH_SIZES[0]}")
        return size


class Piece:
    """A part of a function, and its gradient, each compiled once for each size of a batch.

    Args:
        compute: gives a list of arrays from arrays by number.
        wide: whether JAX has float64 in it.
    """

    def __init__(self, compute: Callable[[Mapping[int, Any]], list[Any]], wide: bool) -> None:
        jax = library("jax", "jax")

        def split(moving: dict[int, Any], rest: dict[int, Any]) -> tuple[dict[int, Any], dict[int, Any]]:
            made = dict(enumerate(compute(moving | rest)))
            return tuple({n: v for n, v in made.items() if _differentiable(v) is yes} for yes in (True, False))  # type: ignore[return-value]

        self.wide = wide
        self.plain = jax.jit(lambda values: split({}, values))
        self.forwards = jax.jit(lambda moving, rest: jax.vjp(lambda m: split(m, rest), moving, has_aux=True))
        self.backwards = jax.jit(lambda pull, slopes: pull(slopes)[0])

    def __call__(self, values: Sequence[Any]) -> list[Any]:
        """Tensors for tensors. What has no gradient, such as integers, stays an array of JAX."""
        moving = {n: v for n, v in enumerate(values) if isinstance(v, Tensor) and v.requires_grad}
        rest = {n: _jax(v) for n, v in enumerate(values) if n not in moving}
        if moving and torch.is_grad_enabled():
            made: dict[int, Any] = {}
            tensors = JaxFunction.apply(self, rest, tuple(moving), made, *moving.values())
            made |= dict(zip(made.pop(-1), tensors, strict=True))
        else:
            floating, made = self.plain(rest | {n: _jax(v) for n, v in moving.items()})
            made |= {n: _torch(v) for n, v in floating.items()}
        return [made[n] for n in range(len(made))]


class JaxFunction(torch.autograd.Function):
    """The outputs of a JAX function, and its vector-Jacobian product; first derivatives only."""

    @staticmethod
    def forward(
        ctx: Any, part: Piece, rest: dict[int, Any], numbers: tuple[int, ...], made: dict[int, Any], *moving: Tensor
    ) -> tuple[Tensor, ...]:
        given = dict(zip(numbers, map(_jax, moving), strict=True))
        floating, ctx.pull, others = part.forwards(given, rest)
        ctx.part, ctx.numbers, ctx.outputs = part, numbers, tuple(floating)
        made.update({-1: ctx.outputs} | others)
        return tuple(map(_torch, floating.values()))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Any, ...]:
        with float64(ctx.part.wide):
            found = ctx.part.backwards(ctx.pull, dict(zip(ctx.outputs, map(_jax, slopes), strict=True)))
        return (None, None, None, None, *(_torch(found[number]) for number in ctx.numbers))


def _differentiable(array: Any) -> bool:
    numpy = library("jax.numpy", "jax")
    return bool(numpy.issubdtype(array.dtype, numpy.inexact))


def _inverse(axes: Sequence[int]) -> tuple[int, ...]:
    return tuple(map(list(axes).index, range(len(axes))))


def _size(count: int) -> int:
    """A power of two, at least so large."""
    return 1 << (count - 1).bit_length()


def _padded(x: Tensor, size: int) -> Tensor:
    """With its last row again, up to so many rows."""
    missing = size - len(x)
    return torch.cat([x, x[-1:].expand(missing, *x.shape[1:])]) if missing else x


def _jax(value: Any) -> Any:
    if not isinstance(value, Tensor):
        return value
    return library("jax.dlpack", "jax").from_dlpack(value.detach().contiguous())


def _torch(array: Any) -> Tensor:
    return torch.utils.dlpack.from_dlpack(array).clone()  # JAX's own memory must not be written into
