"""Which axis of a JAX function's images is what: found from its first convolutions."""

from __future__ import annotations

from typing import Any

from ..graph.layout import LAYOUTS, by_channels
from .jaxpr import Program

KEEPS = frozenset({
    "add", "sub", "mul", "div", "pad", "convert_element_type", "max", "min", "clamp",
    "copy", "rev", "neg", "stop_gradient", "reduce_precision", "select_n", "integer_pow", "square", "pow",
})  # fmt: skip


def layout_of(program: Program, shape: tuple[int, ...], wanted: str | None) -> tuple[int, ...]:
    """The axes of N, C, H, W among those that the function takes.

    Args:
        program: the function.
        shape: of the example.
        wanted: "NHWC" or "NCHW" where it was said.

    Raises:
        ValueError: if it is neither, does not fit the first convolution, or cannot be found.
    """
    if wanted is not None and wanted not in LAYOUTS:
        raise ValueError(f"layout is {wanted!r}, expected 'NHWC' or 'NCHW'")
    channel = _channel(program, {program.inputs[0]: (0, 1, 2, 3)})
    if channel is None:
        return by_channels(shape, wanted)
    found = {3: "NHWC", 1: "NCHW"}.get(channel)
    if found is None:
        raise ValueError(f"the function takes channels on axis {channel} of its images: expected NHWC or NCHW")
    if wanted not in (None, found):
        raise ValueError(f"layout is {wanted!r}, but the first convolution takes {found}")
    return LAYOUTS[found]


def _channel(program: Program, places: dict[Any, tuple[int | None, ...]]) -> int | None:
    """The axis of the images that the first convolution sees as channels; `places` says where axes went."""
    for e in program.equations:
        at = [places[name] for name in e.inputs if name in places] if _hashable(e.inputs) else []
        if not at:
            continue
        first = at[0]
        inner = next((p for p in e.params.values() if isinstance(p, Program)), None)
        if inner is not None and len(inner.inputs) == len(e.inputs):
            inside = {
                name: places[outer] for name, outer in zip(inner.inputs, e.inputs, strict=True) if outer in places
            }
            found = _channel(inner, inside)
            if found is not None:
                return found
            places |= {name: first for name, shape in zip(e.outputs, e.shapes, strict=True) if len(shape) == len(first)}
        elif e.name == "conv_general_dilated":
            channel: int = e.params["dimension_numbers"].lhs_spec[1]
            return first[channel]
        elif e.name == "transpose":
            places[e.outputs[0]] = tuple(first[axis] for axis in e.params["permutation"])
        elif e.name == "broadcast_in_dim":
            axes = [int(axis) for axis in e.params["broadcast_dimensions"]]
            places[e.outputs[0]] = tuple(first[axes.index(i)] if i in axes else None for i in range(len(e.shapes[0])))
        elif e.name in ("reshape", "squeeze"):
            kept = [axis for axis, length in zip(first, _before(e, program), strict=False) if length != 1]
            wide = [length for length in e.shapes[0] if length != 1]
            if len(kept) == len(wide):
                rest = iter(kept)
                places[e.outputs[0]] = tuple(None if length == 1 else next(rest) for length in e.shapes[0])
        elif e.name in KEEPS:
            places[e.outputs[0]] = first
    return None


def _before(e: Any, program: Program) -> Any:
    shapes = {name: shape for q in program.equations for name, shape in zip(q.outputs, q.shapes, strict=True)}
    return shapes.get(e.inputs[0], getattr(getattr(e.inputs[0], "aval", None), "shape", ()))


def _hashable(names: list[Any]) -> bool:
    return all(getattr(name, "__hash__", None) is not None for name in names)
