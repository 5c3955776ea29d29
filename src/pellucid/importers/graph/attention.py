"""Attention known by its form: softmax(scale q k' + mask) v as one call."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .fuse import affine
from .graph import Graph, Step


def drop_unit_axes(g: Graph) -> None:
    """Drop axes of length 1 that are put in and taken out again around a softmax, as for groups of heads; in place."""
    for step in list(g.steps):
        axes = _dropped(step)
        chain = _to_reshape(step, g.users()) if axes and step in g.steps else []
        if not chain:
            continue
        *between, first = chain
        dropped = []  # each step between, and the axes that it no longer has
        for one in between:
            dropped.append((one, axes))
            axes = {one.args[1][axis] for axis in axes} if one.function is Tensor.permute else axes
        shape = tuple(n for axis, n in enumerate(first.args[1]) if axis not in axes)
        new = [Step(Tensor.reshape, (first.args[0], shape), scope=step.scope)]
        for one, gone in reversed(dropped):
            new.append(_without(one, gone, new[-1]))
        place = g.steps.index(step)
        g.steps[place:place] = new[:-1]
        g.replace(step, new[-1])
        g.prune()
        g.infer_shapes()


def _without(step: Step, gone: set[int], x: Step) -> Step:
    """A step without some axes of length 1, of another x."""
    kept = [axis for axis in range(len(step.shape)) if axis not in gone]
    args: tuple[Any, ...] = tuple(x if value is step.inputs[0] else value for value in step.args)
    if step.function is Tensor.permute:
        moves = [step.args[1][axis] for axis in kept]
        args = (x, tuple(sorted(moves).index(move) for move in moves))
    elif step.function is F.softmax:
        args = (x, kept.index(step.args[1] % len(step.shape)))
    return Step(step.function, args, step.kwargs, step.scope)


def _dropped(step: Step) -> set[int]:
    """The axes of length 1 that a reshape drops, if that is all it does."""
    if step.function is not Tensor.reshape:
        return set()
    before, after = step.args[0].shape, list(step.shape)
    gone = set()
    for axis, length in enumerate(before):
        if after and after[0] == length:
            after.pop(0)
        elif length == 1:
            gone.add(axis)
        else:
            return set()
    return gone if not after else set()


def _to_reshape(step: Step, users: dict[Step, list[Step]]) -> list[Step]:
    """What comes before a step, back to the reshape that may have put axes in; nothing if something else does."""
    chain: list[Step] = []
    after = step
    while len(after.inputs) == 1:
        (before,) = after.inputs
        if users[before] != [after] or before.scope != step.scope:
            break
        chain.append(before)
        if before.function is Tensor.reshape:
            return chain
        scaled = affine(before)
        numbers = scaled is not None and not isinstance(scaled.scale, Tensor) and not isinstance(scaled.shift, Tensor)
        long = before.function is F.softmax and before.shape[before.args[1]] != 1
        if before.function is not Tensor.permute and not long and not numbers:
            break
        after = before
    return []


def attention(g: Graph) -> None:
    """Put scaled_dot_product_attention in the place of its parts, where they are in one layer; in place."""
    for softmax in [step for step in g.steps if step.function is F.softmax]:
        users = g.users()
        ends = _end(softmax, users)
        scores = _scores(softmax, users)
        if ends is None or scores is None:
            continue
        (end, v, transposed), (q, k, scale, mask) = ends, scores
        if not end.scope == softmax.scope == q[1].scope:
            continue
        new: list[Step] = []
        key = _swapped(k, new) if isinstance(k, Step) else k.mT
        value = _swapped(v, new) if transposed else v
        options: dict[str, Any] = {"scale": scale} if mask is None else {"attn_mask": mask, "scale": scale}
        new.append(Step(F.scaled_dot_product_attention, (q[0], key, value), options))
        if transposed:
            _swapped(new[-1], new)
        for step in new:
            step.scope = end.scope
        place = g.steps.index(end)
        g.steps[place:place] = new[:-1]
        g.replace(end, new[-1])
        g.prune()


def _end(softmax: Step, users: dict[Step, list[Step]]) -> tuple[Step, Any, bool] | None:
    """The product of the weights with the values, those, and whether it is transposed: (weights v)' = v' weights'."""
    if softmax.args[1] not in (-1, len(softmax.shape) - 1) or len(users[softmax]) != 1:
        return None
    (user,) = users[softmax]
    if user.function is torch.matmul and user.args[0] is softmax and user.args[1] is not softmax:
        return user, user.args[1], False
    if _swaps(user) and len(users[user]) == 1:
        (product,) = users[user]
        if product.function is torch.matmul and product.args[1] is user and isinstance(product.args[0], Step):
            return product, product.args[0], True
    return None


def _scores(softmax: Step, users: dict[Step, list[Step]]) -> tuple[tuple[Any, Step], Any, float, Tensor | None] | None:
    """(q, the product), k', the scale and the mask of what a softmax takes."""
    step, after, scale = softmax.args[0], softmax, 1.0
    mask: Tensor | None = None
    while users[step] == [after]:
        if step.function is torch.matmul:
            q, k = step.args
            return ((q, step), k, scale, mask) if isinstance(q, Step) else None
        found = affine(step)
        if found is None:
            return None
        if isinstance(found.shift, Tensor) or found.shift != 0.0:
            shift = found.shift if isinstance(found.shift, Tensor) else torch.tensor(found.shift)
            mask = shift * scale if mask is None else mask + shift * scale
        if isinstance(found.scale, Tensor):
            return None
        scale *= found.scale
        after, step = step, found.x
    return None


def _swaps(step: Step) -> bool:
    """Whether a step swaps the last two axes."""
    if step.function is not Tensor.permute:
        return False
    axes = list(range(len(step.shape)))
    return list(step.args[1]) == [*axes[:-2], axes[-1], axes[-2]]


def _swapped(step: Step, new: list[Step]) -> Step:
    """A value with its last two axes swapped; a permute before it is joined with that."""
    x: Step = step
    axes = list(range(len(step.shape) or len(step.args[0].shape)))
    axes = [*axes[:-2], axes[-1], axes[-2]]
    if step.function is Tensor.permute:
        x, axes = step.args[0], [step.args[1][axis] for axis in axes]
        if axes == sorted(axes):
            return x
    new.append(Step(Tensor.permute, (x, tuple(axes))))
    return new[-1]
