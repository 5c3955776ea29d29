"""What a network computes in torch, read from the functions that it calls, whatever its modules are.

The network is run twice, on two and on three images, with every call noted; a number that differs between the two
runs depends on the batch size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, resolve_name

from ..graph.batch_dims import BATCH_SIZES, dim, shape_of_both
from ..graph.equivalence import HALF_PRECISION, check_independent
from ..graph.finish import finish, random_like
from ..graph.graph import BatchDim, Graph, ImportFailed, Step, Value, first_line, flat
from ..graph.rules import location, remedy
from .rules import IN_PLACE, LEAVES_TORCH, Call, rule_of

LIMITS = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: HALF_PRECISION, torch.bfloat16: HALF_PRECISION}
ANOTHER_BACKEND = "Load the model on another backend of Keras (KERAS_BACKEND=jax), where it is read in another way"


class Recorder(TorchFunctionMode):
    """Notes the calls of torch functions that depend on the images.

    Args:
        images: what the network is given, N first.
        scope: says which layer is running.
    """

    def __init__(self, images: Tensor, scope: Callable[[], tuple[str, ...]]) -> None:
        super().__init__()
        self.scope = scope
        self.calls: list[Call] = []
        self.known: dict[int, Tensor] = {id(images): images}
        self.stored: dict[int, set[int]] = {_storage(images): {id(images)}}  # which of them share their numbers

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        taken = [v for v in flat((args, tuple(kwargs.values()))) if isinstance(v, Tensor) and id(v) in self.known]
        if not taken:
            return function(*args, **kwargs)
        name = getattr(function, "__name__", "")
        where = location(self.scope())
        if name in LEAVES_TORCH:
            raise ImportFailed(
                f"{where} Python code looks at the values of the images (torch's {name}): what it decides for one "
                "image is not what it would decide for another. Use keras.ops (where, cond), or tensors throughout"
            )
        if (name in IN_PLACE or kwargs.get("inplace")) and (
            id(args[0]) not in self.known or len(self.stored[_storage(args[0])]) > 1
        ):
            raise ImportFailed(f"{where} {name} writes into what other values share: compute a new value instead")
        out = function(*args, **kwargs)
        made = [v for v in flat((out,)) if isinstance(v, Tensor)]
        if made:
            self.calls.append(Call(function, args, kwargs, out, self.scope()))
        for value in made:
            self.known[id(value)] = value
            self.stored.setdefault(_storage(value), set()).add(id(value))
        return out


def network(
    function: Callable[[Tensor], Tensor],
    example: np.ndarray[Any, Any],
    axes: tuple[int, ...],
    *,
    scope: Callable[[], tuple[str, ...]] = tuple,
    kinds: dict[str, str] | None = None,
    limit: float | None,
    logits: bool,
) -> nn.Module:
    """A function of torch tensors as a network of its layers.

    Args:
        function: of a batch of images, to N x K.
        example: a batch of images as it takes them.
        axes: those of N, C, H, W among its own.
        scope: says which layer is running.
        kinds: the classes of layers by their names.
        limit: for the difference of outputs; by default by the coarsest numbers that the function computes with.
        logits: leave out a softmax that comes last.
    """
    images = torch.from_numpy(example).permute(axes)
    back = torch.tensor(axes).argsort().tolist()
    g = Graph(images.dtype, (images.shape[1], images.shape[2], images.shape[3]))

    def run(batch: Tensor) -> tuple[Tensor, Tensor, list[Call]]:
        x = batch.permute(back).contiguous()
        recorder = Recorder(x, scope)
        with torch.no_grad(), recorder:
            try:
                out = function(x)
            except (ImportFailed, KeyboardInterrupt):
                raise
            except Exception as error:  # the user's own function failed
                lengths = " x ".join(map(str, x.shape[1:]))
                said = f"the function failed on a batch of shape N x {lengths}: {first_line(error)}"
                raise ImportFailed(said) from error
        if not isinstance(out, Tensor) or out.ndim != 2 or len(out) != len(x):
            got = f"the shape {tuple(out.shape)}" if isinstance(out, Tensor) else f"a {type(out).__name__}"
            raise ImportFailed(f"for {len(x)} images the function returns {got}, expected N x K, one row for each")
        return x, out, recorder.calls

    def source(batch: Tensor) -> Tensor:
        return run(batch)[1].detach().cpu()

    noise = random_like(images)
    check_independent(source, noise)
    few = run(noise[: BATCH_SIZES[0]])
    _read(g, few, run(noise[: BATCH_SIZES[1]]), axes)
    computed = {tensor.dtype for call in few[2] for tensor in _tensors(call.out) if tensor.is_floating_point()}
    limit = limit or max(LIMITS[kind] for kind in computed)

    def values(few: Tensor) -> dict[Any, Tensor]:
        calls = run(few)[2]
        return {number: call.out.detach().cpu() for number, call in enumerate(calls) if isinstance(call.out, Tensor)}

    named = {step.scope: (kinds or {}).get(step.scope[-1], "") for step in g.steps if step.scope}
    known = {scope: kind for scope, kind in named.items() if kind}
    return finish(g, source, images, values=values, limit=limit, logits=logits, kinds=known)


Run = tuple[Tensor, Tensor, list[Call]]


def _read(g: Graph, few: Run, more: Run, axes: tuple[int, ...]) -> None:
    """Put what two runs called into a graph."""
    known: dict[int, Value] = {id(few[0]): g.batch(axes)}
    if [call.function for call in few[2]] != [call.function for call in more[2]]:
        raise ImportFailed("the network computes something else for three images than for two")

    def joined(a: Any, b: Any) -> Any:
        """An argument of a call, from what it was in both runs."""
        if hasattr(a, "__torch_function__") and isinstance(getattr(a, "value", None), Tensor):  # a keras.Variable
            a, b = a.value, b.value
        if isinstance(a, Tensor):
            return known[id(a)] if id(a) in known else _constant(g, a, b)
        if isinstance(a, (tuple, list)):
            items = [joined(*pair) for pair in zip(a, b, strict=True)]
            return items if isinstance(a, list) else tuple(items)
        if isinstance(a, slice):
            return slice(*(joined(*pair) for pair in zip(*((s.start, s.stop, s.step) for s in (a, b)), strict=True)))
        if isinstance(a, int) and not isinstance(a, bool) and a != b:
            return dim(a, b)
        if a != b and not callable(a):
            raise ImportFailed(f"{a} for two images is {b} for three")
        return a

    for number, (one, other) in enumerate(zip(few[2], more[2], strict=True)):
        g.scope = one.scope
        try:
            args, kwargs = joined(one.args, other.args), _joined(one.kwargs, other.kwargs, joined)
            shapes = [
                shape_of_both(a.shape, b.shape) for a, b in zip(_tensors(one.out), _tensors(other.out), strict=True)
            ]
            kind = getattr(one.args[0], "dtype", None) if one.args else None
            made = rule_of(one.function)(g, Call(one.function, args, kwargs, shapes, one.scope, kind))
        except ImportFailed as error:
            said = f"{resolve_name(one.function)} {location(g.scope)} cannot be imported: {error}"
            said += f". {remedy('torch', ANOTHER_BACKEND)}" if "rule" in str(error) else ""
            raise ImportFailed(said) from error
        for tensor, value in zip(_tensors(one.out), made if isinstance(made, list) else [made], strict=True):
            known[id(tensor)] = value
            if isinstance(value.held, Step) and isinstance(one.out, Tensor):
                value.held.origin = (number, value.order)
    g.end(known[id(few[1])] if id(few[1]) in known else Value.of(few[1]))


def _joined(a: dict[str, Any], b: dict[str, Any], joined: Callable[[Any, Any], Any]) -> dict[str, Any]:
    return {key: joined(value, b[key]) for key, value in a.items()}


def _tensors(out: Any) -> list[Tensor]:
    return [value for value in flat((out,)) if isinstance(value, Tensor)]


def _constant(g: Graph, a: Tensor, b: Tensor) -> Value:
    """What does not depend on the images; it may have a row for each of them."""
    shape = shape_of_both(a.shape, b.shape)
    open_axes = [axis for axis, length in enumerate(shape) if isinstance(length, BatchDim)]
    for axis in open_axes:
        a, b = a[(slice(None),) * axis + (slice(0, 1),)], b[(slice(None),) * axis + (slice(0, 1),)]
    if a is not b and not torch.equal(a, b):
        raise ImportFailed("it takes random numbers, or others for two images than for three")
    held = g.constant(a.detach().cpu())
    return Value.of(held.clone() if held.data_ptr() == a.data_ptr() else held, shape)


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
