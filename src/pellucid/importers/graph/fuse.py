"""Steps joined to the calls that torch code would make: biases to their layers, batch norms, averages."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .graph import Graph, Step

CONVOLUTIONS = (F.conv1d, F.conv2d, F.conv3d)
LINEAR = (*CONVOLUTIONS, F.linear)
AFFINE = (torch.add, torch.sub, torch.mul, torch.div)
RESHAPES = (Tensor.permute, Tensor.reshape)


@dataclass(frozen=True)
class Affine:
    """x * scale + shift with known numbers: one step of the network."""

    x: Step
    scale: Tensor | float
    shift: Tensor | float


def simplify_reshapes(g: Graph) -> None:
    """Reshapes and permutes that follow each other as one, or none; in place."""
    g.prune()
    g.infer_shapes()
    for step in list(g.steps):
        if step.function not in RESHAPES:
            continue
        x = step.args[0]
        if x.function is step.function and x.scope == step.scope:  # what a layer ends with stays
            moves = step.args[1]
            if step.function is Tensor.permute:
                moves = tuple(x.args[1][axis] for axis in moves)
            step.args = (x.args[0], moves)
        x = step.args[0]
        same = tuple(range(len(x.shape))) == step.args[1] if step.function is Tensor.permute else x.shape == step.shape
        if same:
            g.replace(step, x)
    g.prune()


def fuse(g: Graph) -> None:
    """Join steps in place. Layers of their own stay: a batch norm is joined only to what its own layer computes."""
    g.prune()
    g.infer_shapes()
    averages(g)
    while biases(g):
        pass
    norms(g)
    g.prune()


def affine(step: Step) -> Affine | None:
    """A step as an affine map of its one input; None if it is none."""
    if step.function not in AFFINE or len(step.args) != 2 or step.kwargs:
        return None
    a, b = step.args
    if isinstance(a, Step) == isinstance(b, Step):
        return None
    x, known = (a, b) if isinstance(a, Step) else (b, a)
    first = x is a
    if isinstance(known, Tensor) and not known.is_floating_point():
        return None
    if step.function is torch.mul:
        return Affine(x, known, 0.0)
    if step.function is torch.add:
        return Affine(x, 1.0, known)
    if step.function is torch.sub:
        return Affine(x, 1.0, -known) if first else Affine(x, -1.0, known)
    return Affine(x, 1 / known, 0.0) if first else None


def biases(g: Graph) -> bool:
    """Join an affine step to the convolution or dense layer before it; whether there was one."""
    users = g.users()
    for step in g.steps:
        found = affine(step)
        if found is None:
            continue
        reshapes: list[Step] = []
        base = found.x
        while base.function in RESHAPES and users[base] == [reshapes[-1] if reshapes else step]:
            reshapes.append(base)
            base = base.args[0]
        if (
            base.function not in LINEAR
            or base.scope != step.scope
            or users[base] != [reshapes[-1] if reshapes else step]
        ):
            continue
        parts = [_of_channels(base, reshapes, value, step) for value in (found.scale, found.shift)]
        if parts[0] is None or parts[1] is None:
            continue
        scale, shift = parts
        weight, bias = base.args[1], base.args[2]
        if not _is(found.scale, 1.0):
            weight = weight * scale.view(-1, *(1,) * (weight.ndim - 1))
            bias = None if bias is None else bias * scale
        if not _is(found.shift, 0.0):
            bias = shift if bias is None else bias + shift
        new = Step(base.function, (base.args[0], weight, bias, *base.args[3:]), base.kwargs, base.scope, base.shape)
        if reshapes:
            g.replace(base, new)
            new.origin, reshapes[0].origin = None, step.origin
            g.replace(step, reshapes[0])
        else:
            g.replace(step, new)
        g.prune()
        return True
    return False


def _of_channels(base: Step, reshapes: list[Step], value: Tensor | float, step: Step) -> Any:
    """A constant of a step as one number for each output channel of the layer before it; None if it is none."""
    channels = len(base.args[1])
    like = base.args[1]
    if not isinstance(value, Tensor) or value.numel() == 1:
        number = value.item() if isinstance(value, Tensor) else value
        return torch.full((channels,), number, dtype=like.dtype, device=like.device)
    if value.ndim > len(step.shape):
        return None
    wide = value.reshape((1,) * (len(step.shape) - value.ndim) + tuple(value.shape))
    if any(a not in (1, b) for a, b in zip(wide.shape, step.shape, strict=True)):
        return None
    if wide.shape[0] != 1:
        return None
    whole = wide.expand(1, *step.shape[1:])
    for reshape in reshapes:
        before = reshape.args[0]
        if reshape.function is Tensor.permute:
            whole = whole.permute([reshape.args[1].index(i) for i in range(whole.ndim)])
        elif before.shape[0] == reshape.shape[0]:
            whole = whole.reshape(1, *before.shape[1:])
        else:
            return None
        if whole.shape[0] != 1:
            return None
    return _along(whole, len(base.shape) - 1 if base.function is F.linear else 1)


def _along(value: Tensor, axis: int) -> Tensor | None:
    """The numbers of a tensor along one axis; None if they are not the same at all places of the others."""
    rows = value.movedim(axis, -1).reshape(-1, value.shape[axis])
    return rows[0].clone() if bool((rows == rows[0]).all()) else None


def norms(g: Graph) -> None:
    """A chain of affine steps with a number for each channel is what a batch norm does as it predicts."""
    users = g.users()
    seen: set[Step] = set()
    behind: set[Step] = set()  # what has a layer with weights before it
    for step in list(g.steps):
        if step.function in LINEAR or any(before in behind for before in step.inputs):
            behind.add(step)
        if step in seen or affine(step) is None:
            continue
        chain = [step]
        while len(users[chain[-1]]) == 1 and users[chain[-1]][0] is not chain[-1]:
            after = users[chain[-1]][0]
            if affine(after) is None or after.scope != step.scope:
                break
            chain.append(after)
        seen.update(chain)
        made = _batch_norm(chain)
        if made is not None and made.args[0] in behind:
            g.replace(chain[-1], made)
            behind.add(made)


def _batch_norm(chain: list[Step]) -> Step | None:
    maps = [affine(step) for step in chain]
    start = maps[0]
    assert start is not None
    shape = chain[0].shape
    if not 2 <= len(shape) <= 5:
        return None
    like = next((t for m in maps if m for t in (m.scale, m.shift) if isinstance(t, Tensor)), None)
    if like is None:
        return None
    channels = shape[1]
    scale, shift = torch.ones(channels, dtype=like.dtype), torch.zeros(channels, dtype=like.dtype)
    mean = torch.zeros_like(scale)
    for number, found in enumerate(maps):
        assert found is not None
        k, c = (_per_channel(value, shape, like) for value in (found.scale, found.shift))
        if k is None or c is None:
            return None
        if number == 0 and _is(found.scale, 1.0):
            mean = -c
        else:
            scale, shift = scale * k, shift * k + c
    if len(chain) == 1 or bool((scale == 1).all()):
        return None
    args = (start.x, mean, torch.ones_like(mean), scale, shift, False, 0.0, 0.0)
    return Step(F.batch_norm, args, {}, chain[-1].scope, shape)


def _per_channel(value: Tensor | float, shape: tuple[int, ...], like: Tensor) -> Tensor | None:
    if not isinstance(value, Tensor) or value.numel() == 1:
        return torch.full((shape[1],), float(value), dtype=like.dtype)
    wide = value.reshape((1,) * (len(shape) - value.ndim) + tuple(value.shape))
    return _along(wide, 1) if wide.shape[:2] == (1, shape[1]) else None


def averages(g: Graph) -> None:
    """Sums that are divided are averages."""
    users = g.users()
    for step in list(g.steps):
        found = affine(step)
        if found is None or not _is(found.shift, 0.0) or users.get(found.x) != [step]:
            continue
        x = found.x
        if x.function is F.avg_pool2d and x.args[6:] == (1,):
            new = _average_pool(x, found.scale)
        elif x.function is torch.sum and len(x.args) == 2 and not isinstance(found.scale, Tensor):
            count = math.prod(x.args[0].shape[axis] for axis in x.args[1])
            new = Step(torch.mean, x.args) if math.isclose(found.scale * count, 1, rel_tol=1e-6) else None
        else:
            new = None
        if new is not None:
            new.scope, new.shape = step.scope, step.shape
            g.replace(step, new)
    g.prune()


def _average_pool(x: Step, scale: Tensor | float) -> Step | None:
    source, kernel, stride, padding = x.args[:4]
    if not isinstance(scale, Tensor):
        divisor = round(1 / scale)
        if not math.isclose(divisor * scale, 1, rel_tol=1e-6):
            return None
        args = x.args[:4] if divisor == math.prod(kernel) else (*x.args[:6], divisor)
        return Step(F.avg_pool2d, args)
    inside = F.avg_pool2d(torch.ones(1, 1, *source.shape[2:]), kernel, stride, padding, False, True, 1)
    if scale.ndim == 4 and scale.shape[2:] == inside.shape[2:] and torch.allclose((1 / scale).to(inside), inside):
        return Step(F.avg_pool2d, (source, kernel, stride, padding, False, False))
    return None


def _is(value: Tensor | float, number: float) -> bool:
    return not isinstance(value, Tensor) and value == number
