"""Functions known by what they compute: gelu, softmax, layer norm, however they were written.

Subgraphs with one input and one output are evaluated on sample values, and replaced by one call of torch where the two
agree to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .graph import Graph, Step, compute, flat

POINTWISE = frozenset({
    torch.add, torch.sub, torch.mul, torch.div, torch.neg, torch.exp, torch.log, torch.log1p, torch.expm1, torch.tanh,
    torch.sigmoid, torch.erf, torch.erfc, torch.sqrt, torch.rsqrt, torch.reciprocal, torch.square, torch.pow, torch.abs,
    torch.clamp, torch.maximum, torch.minimum, torch.where, torch.gt, torch.ge, torch.lt, torch.le, torch.eq, torch.ne,
    torch.sign, torch.isfinite, torch.bitwise_and, torch.bitwise_or, torch.bitwise_not, Tensor.detach, F.relu, F.relu6,
    F.softplus, F.hardsigmoid,
})  # fmt: skip
REDUCING = frozenset({torch.sum, torch.mean, torch.amax, torch.amin})
NORMS = frozenset({F.group_norm})  # what a norm may be made of
SHAPING = frozenset({Tensor.reshape, Tensor.expand, Tensor.permute})
PARTS = POINTWISE | REDUCING | NORMS | SHAPING
LONGEST = 40
ROWS = 6
EXACT = 2e-6  # constants of the source are rounded to float32

ACTIVATIONS: list[tuple[Callable[..., Tensor], dict[str, Any]]] = [
    (F.gelu, {}), (F.gelu, {"approximate": "tanh"}), (F.silu, {}), (F.relu6, {}), (F.hardswish, {}),
    (F.hardsigmoid, {}), (F.softplus, {}), (F.elu, {}), (F.selu, {}), (F.mish, {}), (torch.sigmoid, {}),
    (F.leaky_relu, {"negative_slope": 0.01}), (F.leaky_relu, {"negative_slope": 0.2}),
    (F.leaky_relu, {"negative_slope": 0.3}), (F.leaky_relu, {"negative_slope": 0.1}), (F.softsign, {}),
    (F.hardtanh, {}),
]  # fmt: skip


def recognize(g: Graph) -> None:
    """Replace subgraphs by one call each, in place."""
    g.prune()
    g.infer_shapes()
    done: set[Step] = set()
    again = True
    while again:
        again = False
        users, places = g.users(), {step: place for place, step in enumerate(g.steps)}
        for entry in g.steps:
            if entry in done:
                continue
            done.add(entry)
            found = _known(g, entry, users, places[entry])
            if found is not None:
                end, calls = found
                _put(g, end, calls)
                done.discard(entry)  # a second branch may begin here
                again = True
                break


def _put(g: Graph, end: Step, calls: list[Step]) -> None:
    place = g.steps.index(end)
    for call in calls:
        call.scope = end.scope
        call.args = tuple(v.to(g.dtype) if isinstance(v, Tensor) else v for v in call.args)
    g.steps[place:place] = calls[:-1]
    for call in calls[:-1]:
        call.shape = tuple(compute(call, {step: torch.zeros(step.shape, dtype=g.dtype) for step in call.inputs}).shape)
    calls[-1].shape = end.shape
    g.replace(end, calls[-1])
    g.prune()


def _known(g: Graph, entry: Step, users: dict[Step, list[Step]], place: int) -> tuple[Step, list[Step]] | None:
    """The last step of a stretch behind an entry, and the calls that do the same."""
    if not entry.shape or not any(user.function in PARTS for user in users[entry]):
        return None
    for end, steps in _stretches(g, entry, users, place):
        functions = {step.function for step in steps}
        if functions <= POINTWISE and not any(
            isinstance(value, Tensor) for step in steps for value in flat((step.args, tuple(step.kwargs.values())))
        ):
            calls = _activation(entry, end, steps)
        elif functions & (REDUCING | NORMS):
            calls = _softmax(entry, end, steps) or _norm(entry, end, steps)
        else:
            calls = None
        if calls is not None:
            return end, calls
    return None


def _stretches(g: Graph, entry: Step, users: dict[Step, list[Step]], place: int) -> Iterator[tuple[Step, list[Step]]]:
    """Ends of stretches in one layer, with no other way in than `entry` and no other way out, the longest first."""
    inside: dict[Step, None] = {}
    for step in g.steps[place + 1 : place + 1 + 3 * LONGEST]:
        inputs = step.inputs
        if (
            inputs
            and (not inside or step.scope == next(iter(inside)).scope)
            and step.function in PARTS
            and all(before is entry or before in inside for before in inputs)
        ):
            inside[step] = None
            if len(inside) == LONGEST:
                break
    for end in reversed(inside):
        if len(end.shape) != len(entry.shape) or end.shape != entry.shape:
            continue
        behind = {end}
        for step in reversed(inside):
            if step in behind:
                behind.update(before for before in step.inputs if before is not entry)
        steps = [step for step in inside if step in behind]
        closed = all(user in behind for step in steps if step is not end for user in users[step])
        if closed and len(steps) > 1:
            yield end, steps


def _run(entry: Step, steps: list[Step], x: Tensor) -> Tensor:
    known: dict[Step, Any] = {entry: x}
    for step in steps:
        known[step] = compute(step, known, lambda t: t.double() if t.is_floating_point() else t)
    out: Tensor = known[steps[-1]]
    return out


def _same(a: Tensor, b: Tensor) -> bool:
    if a.shape != b.shape or not bool(a.isfinite().all()):
        return False
    return bool((a - b).abs().max() <= EXACT * b.abs().max().clamp(min=1e-3))


def _activation(entry: Step, end: Step, steps: list[Step]) -> list[Step] | None:
    x = torch.linspace(-8, 8, 1601, dtype=torch.float64).reshape((-1,) + (1,) * (len(entry.shape) - 1))
    try:
        y = _run(entry, steps, x)
    except RuntimeError:
        return None
    if y.dtype != torch.float64:
        return None
    for function, options in ACTIVATIONS:
        if _same(y, function(x, **options)):
            return [Step(function, (entry,), options, shape=end.shape)]
    return None


def _samples(entry: Step, scaled: bool) -> Tensor:
    """Random rows, some of them with little variance, so that an epsilon counts."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(ROWS, *entry.shape[1:], dtype=torch.float64, generator=generator)
    if scaled:
        x = x * torch.logspace(-2.5, 0.5, ROWS, dtype=torch.float64).view(-1, *(1,) * (x.ndim - 1)) + 0.1
    return x


def _softmax(entry: Step, end: Step, steps: list[Step]) -> list[Step] | None:
    if not any(step.function is torch.exp for step in steps):
        return None
    over = _reduced(entry, steps)
    if over is None or len(over) != 1:
        return None
    (axis,) = over
    x = _samples(entry, False)
    y = _run(entry, steps, x)
    for function in (F.softmax, F.log_softmax):
        if _same(y, function(x, axis)):
            return [Step(function, (entry, axis), shape=end.shape)]
    return None


def _reduced(entry: Step, steps: list[Step]) -> list[int] | None:
    """The axes of the entry that all reductions of a stretch run over; None if they differ, or it was reshaped."""
    found = {tuple(sorted(step.args[1])) for step in steps if step.function in REDUCING}
    ranks = {len(step.args[0].shape) for step in steps if step.function in REDUCING}
    return list(found.pop()) if len(found) == 1 and ranks == {len(entry.shape)} else None


def _norm(entry: Step, end: Step, steps: list[Step]) -> list[Step] | None:
    """Layer norm, RMS norm or group norm, with weights found by fitting the stretch."""
    roots = NORMS | {torch.rsqrt, torch.sqrt, torch.pow}
    if len(entry.shape) < 2 or not any(step.function in roots for step in steps):
        return None
    numbers = {v for step in steps for v in flat(step.args) if isinstance(v, float) and 0 < v < 0.1}
    x = _samples(entry, True)
    y = _run(entry, steps, x)
    if y.shape != x.shape or not bool(y.isfinite().all()):
        return None
    for eps in [*sorted(numbers, reverse=True), 0.0]:
        for make in (_layer_norm, _group_norm):
            calls = make(entry, end, steps, x, y, eps)
            if calls is not None:
                return calls
    return None


def _layer_norm(entry: Step, end: Step, steps: list[Step], x: Tensor, y: Tensor, eps: float) -> list[Step] | None:
    over = _reduced(entry, steps)
    if over is None or 0 in over:
        return None
    rest = [axis for axis in range(x.ndim) if axis not in over]
    order = tuple(rest + over)
    shape = tuple(x.shape[axis] for axis in over)
    x, y = x.permute(order), y.permute(order)
    for kind in (F.layer_norm, F.rms_norm):
        z = F.layer_norm(x, shape, None, None, eps) if kind is F.layer_norm else F.rms_norm(x, shape, None, eps)
        fitted = _fit(y.reshape(-1, *shape), z.reshape(-1, *shape))
        if fitted is None:
            continue
        weight, bias = fitted
        if kind is F.rms_norm and bias is not None:
            continue
        args = (shape, weight, bias, eps) if kind is F.layer_norm else (shape, weight, eps)
        if order == tuple(range(x.ndim)):
            return [Step(kind, (entry, *args), shape=end.shape)]
        before = Step(Tensor.permute, (entry, order))
        norm = Step(kind, (before, *args))
        return [before, norm, Step(Tensor.permute, (norm, tuple(order.index(i) for i in range(x.ndim))))]
    return None


def _group_norm(entry: Step, end: Step, steps: list[Step], x: Tensor, y: Tensor, eps: float) -> list[Step] | None:
    channels = x.shape[1]
    shapes = [step.shape for step in steps if step.function is Tensor.reshape]
    groups = {n for shape in shapes for n in shape[1:] if channels % n == 0}
    groups |= {channels} if any(step.function in REDUCING for step in steps) and x.ndim > 2 else set()
    for count in sorted(groups):
        z = F.group_norm(x, count, None, None, eps)
        rows = [t.movedim(1, -1).reshape(-1, channels) for t in (y, z)]
        fitted = _fit(*rows)
        if fitted is not None:
            weight, bias = fitted
            return [Step(F.group_norm, (entry, count, weight, bias, eps), shape=end.shape)]
    return None


def _fit(y: Tensor, z: Tensor) -> tuple[Tensor | None, Tensor | None] | None:
    """weight and bias, over the first axis, with which y = z * weight + bias; None if there are none."""
    if len(z) < 3:
        return None
    dz, dy = z - z.mean(0), y - y.mean(0)
    weight = (dz * dy).sum(0) / dz.square().sum(0).clamp(min=1e-30)
    bias = y.mean(0) - weight * z.mean(0)
    if not _same(y, z * weight + bias):
        return None
    no_weight, no_bias = (weight - 1).abs().max() < EXACT, bias.abs().max() < EXACT * y.abs().max()
    return None if bool(no_weight) else weight, None if bool(no_bias) else bias
