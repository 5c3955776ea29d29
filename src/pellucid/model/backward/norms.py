"""Normalizations: batch norm joined to the linear map before it, and those whose statistics are taken as fixed."""

# ruff: noqa: ARG001 - the signatures are those of torch

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ...rules import Rule, Schedule
from ...rules.functions import pass_through
from ...rules.linear_maps import Convolution, Dense, Map, Scale, Standardized
from . import function_kinds
from .assign import Place
from .nodes import Kept, LinearCall, stopped
from .origin import linear_call, source_of
from .watch import Watch

Weights = Callable[[Tensor], tuple[Tensor, Tensor | None]]


def batch_norm(watch: Watch, func: Any, args: Any, kwargs: Any) -> Any:
    """A batch norm with running statistics is an affine map of each channel.

    Behind a convolution or dense layer the two are one map, whose weights are the products: the node of that
    layer is left, and one for both put in its place.
    """
    read = _functional if function_kinds.known(func) is F.batch_norm else _torch
    x, mean, var, weight, bias, training, eps = read(*args, **kwargs)
    place = watch.place("norm", func, weight, x)
    rule = watch.entry(place)
    if training or mean is None or not watch.depends(x):
        return watch.acknowledge(func(*args, **kwargs))

    def affine() -> tuple[Tensor, Tensor]:
        scale = (var + eps).rsqrt()
        scale = scale if weight is None else scale * weight.detach()
        return scale, -mean * scale if bias is None else bias.detach() - mean * scale

    node = source_of(x)
    before = linear_call(node)
    if before is not None and before.free and _over_channels(before, x) and before.unchanged():
        inner = before

        def joined(values: Tensor) -> tuple[Tensor, Tensor | None]:
            w, b = inner.weights(values)
            scale, shift = affine()
            return inner.map.scaled(w, scale), shift if b is None else shift + b * scale

        return watch.linear(replace(before, weights=joined, free=False), lambda: func(*args, **kwargs))
    if node in watch.known and "Convolution" in node.name():
        return watch.acknowledge(func(*args, **kwargs))  # the convolution has its ordinary gradient, so have both

    def weights(values: Tensor) -> tuple[Tensor, Tensor | None]:
        scale, shift = affine()
        shape = (1, -1, *(1,) * (values.ndim - 2))
        return scale.view(shape), shift.view(shape)

    return _normalized(watch, func, args, kwargs, rule, place, x, Scale(), weights)


def layer_norm(watch: Watch, func: Any, args: Any, kwargs: Any) -> Any:
    def named(
        input: Tensor,
        normalized_shape: Any,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        eps: float = 1e-5,
        cudnn_enable: bool = True,
    ) -> Any:
        return input, normalized_shape, weight, bias, eps

    x, shape, weight, bias, eps = named(*args, **kwargs)
    how = Standardized(tuple(x.shape), tuple(range(x.ndim - len(shape), x.ndim)))
    return _standardized(watch, func, args, kwargs, x, how, weight, bias, eps, tuple(shape))


def rms_norm(watch: Watch, func: Any, args: Any, kwargs: Any) -> Any:
    def named(input: Tensor, normalized_shape: Any, weight: Tensor | None = None, eps: float | None = None) -> Any:
        return input, normalized_shape, weight, eps

    x, shape, weight, eps = named(*args, **kwargs)
    how = Standardized(tuple(x.shape), tuple(range(x.ndim - len(shape), x.ndim)), centered=False)
    eps = torch.finfo(x.dtype).eps if eps is None else eps
    return _standardized(watch, func, args, kwargs, x, how, weight, None, eps, tuple(shape))


def group_norm(watch: Watch, func: Any, args: Any, kwargs: Any) -> Any:
    def named(
        input: Tensor,
        num_groups: int,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        eps: float = 1e-5,
        cudnn_enabled: bool = True,
    ) -> Any:
        return input, num_groups, weight, bias, eps

    x, groups, weight, bias, eps = named(*args, **kwargs)
    how = Standardized((len(x), groups, x[0].numel() // groups), (2,))
    return _standardized(watch, func, args, kwargs, x, how, weight, bias, eps, (1, -1, *(1,) * (x.ndim - 2)))


def instance_norm(watch: Watch, func: Any, args: Any, kwargs: Any) -> Any:
    def named(
        input: Tensor,
        running_mean: Tensor | None = None,
        running_var: Tensor | None = None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        use_input_stats: bool = True,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Any:
        return input, running_mean, running_var, weight, bias, use_input_stats, eps

    read = named if function_kinds.known(func) is F.instance_norm else _torch
    x, mean, var, weight, bias, own, eps = read(*args, **kwargs)
    if not own and mean is not None:
        return batch_norm(watch, F.batch_norm, (x, mean, var, weight, bias, False, 0.0, eps), {})
    how = Standardized((*x.shape[:2], x[0, 0].numel()), (2,))
    return _standardized(watch, func, args, kwargs, x, how, weight, bias, eps, (1, -1, *(1,) * (x.ndim - 2)))


def scaling(watch: Watch, func: Any, args: Any, kwargs: Any) -> Any:
    """x times a number that is taken as fixed, as in local response normalization: relevance passes."""
    x = args[0] if args else kwargs["input"]
    rule = watch.rule_of("norm", func)
    if rule is None or not watch.depends(x):
        return watch.acknowledge(func(*args, **kwargs))
    if rule.on == "stop":
        return stopped(func(*args, **kwargs))
    return watch.replace(x, lambda t: func(t, *args[1:], **kwargs), False, pass_through())


def _standardized(
    watch: Watch,
    func: Any,
    args: Any,
    kwargs: Any,
    x: Tensor,
    how: Standardized,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    shape: tuple[int, ...],
) -> Any:
    place = watch.place("norm", func, weight, x)

    def weights(values: Tensor) -> tuple[Tensor, Tensor | None]:
        scale = how.deviations(values, eps)
        scale = scale if weight is None else scale * weight.detach().view(shape)
        return scale, None if bias is None else bias.detach().view(shape)

    return _normalized(watch, func, args, kwargs, watch.entry(place), place, x, how, weights)


def _normalized(
    watch: Watch,
    func: Any,
    args: Any,
    kwargs: Any,
    rule: Rule | Schedule | None,
    place: Place,
    x: Tensor,
    how: Map,
    weights: Weights,
) -> Any:
    if not watch.depends(x) or not isinstance(rule, Rule) or rule.on == "nothing":
        return watch.acknowledge(func(*args, **kwargs))
    if rule.on == "stop":
        return stopped(func(*args, **kwargs))
    if rule.on == "function":
        rest = {key: value for key, value in kwargs.items() if key != "input"}
        return watch.replace(x, lambda t: func(t, *args[1:], **rest), False, rule)
    call = LinearCall(how, weights, place, watch.rule, x, Kept(x, output=False), False, (None, None, None), free=False)
    return watch.linear(call, lambda: func(*args, **kwargs))


def _over_channels(before: LinearCall, y: Tensor) -> bool:
    """Whether a batch norm of y normalizes the output channels of the map that made y."""
    how = before.map
    if before.y is None or before.y.value.shape != y.shape:
        return False  # it was reshaped in between
    if isinstance(how, Convolution):
        return y.ndim == len(how.stride) + 2
    return isinstance(how, Dense) and y.ndim == 2


def _functional(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    return input, running_mean, running_var, weight, bias, training, eps


def _torch(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool = True,
) -> Any:
    return input, running_mean, running_var, weight, bias, training, eps
