"""Functions without weights: activations, softmax, sums, averages, pooling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from ...rules import RuleError
from . import function_kinds
from .nodes import stopped
from .products import pair
from .watch import Marks, Watch


def activation(watch: Watch, func: Any, args: Any, kwargs: Any) -> Any:
    function = function_kinds.known(func)
    x, f = _of_first(func, args, kwargs)
    rule = watch.rule_of("activation", func)
    if rule is None or not watch.depends(x):
        return watch.acknowledge(func(*args, **kwargs))
    if rule.on == "stop":
        return stopped(func(*args, **kwargs))
    rectifies = function in function_kinds.RECTIFYING or _bounds(function, args, kwargs)[0] == 0
    if rule.name in ("guided", "deconv") and not rectifies:
        return watch.acknowledge(func(*args, **kwargs))
    if rule.name == "guided" and function in function_kinds.RECTIFIER:
        # The slope is 0 or 1: what comes out of the ordinary backward may be clipped where it lies.
        out = watch.acknowledge(func(*args, **kwargs))
        out.grad_fn.register_hook(lambda before, _after: (before[0].clamp_(min=0), *before[1:]))
        return out
    if rule.on != "function":
        return watch.modify(func(*args, **kwargs), rule)
    if rule.name == "pass_through" and _homogeneous(function, args, kwargs):
        return watch.acknowledge(func(*args, **kwargs))
    nonnegative = function in function_kinds.NONNEGATIVE or (_bounds(function, args, kwargs)[0] or -1) >= 0
    in_place = (
        function_kinds.writes(func) or bool(kwargs.get("inplace")) or function_kinds.told_in_place(function, args)
    )
    return watch.replace(x, f, in_place, rule, Marks(nonnegative, function in function_kinds.GATES))


def softmax(watch: Watch, func: Any, args: Any, kwargs: Any) -> Any:
    rule = watch.rule_of("softmax", func)
    out = func(*args, **kwargs)
    return stopped(out) if rule is not None and rule.on == "stop" else watch.acknowledge(out)


def addition(watch: Watch, func: Any, args: Any, kwargs: Any) -> Any:
    a, b = pair(args, kwargs)
    both = watch.depends(a) and watch.depends(b)
    rule = watch.rule_of("sum", func) if both else None
    out = func(*args, **kwargs)
    return watch.acknowledge(out) if rule is None else watch.modify(out, rule)


def average(watch: Watch, func: Any, args: Any, kwargs: Any) -> Any:
    moving = any(map(watch.depends, function_kinds.tensors((*args, *kwargs.values()))))
    rule = watch.rule_of("average", func) if moving else None
    out = func(*args, **kwargs)
    return watch.acknowledge(out) if rule is None else watch.modify(out, rule)


def maximum(watch: Watch, func: Any, args: Any, kwargs: Any) -> Any:
    x, f = _of_first(func, args, kwargs)
    rule = watch.rule_of("max", func)
    if rule is None or not watch.depends(x):
        return watch.acknowledge(func(*args, **kwargs))

    def first(t: Tensor) -> Tensor:
        out = f(t)
        return out if isinstance(out, Tensor) else out[0]

    if isinstance(out := func(*args, **kwargs), tuple):
        return (watch.replace(x, first, False, rule), *out[1:])
    return watch.replace(x, first, False, rule)


def glu(watch: Watch, func: Any, args: Any, kwargs: Any) -> Any:
    """a sigmoid(b), in sight as a product with a gate."""

    def named(input: Tensor, dim: int = -1) -> tuple[Tensor, int]:
        return input, dim

    x, dim = named(*args, **kwargs)
    if not watch.depends(x):
        return func(*args, **kwargs)
    with watch:
        a, b = x.chunk(2, dim)
        return a * b.sigmoid()


def recurrent(watch: Watch, func: Any, args: Any, kwargs: Any) -> Any:
    if any(map(watch.depends, function_kinds.tensors((*args, *kwargs.values())))) and watch.entries:
        raise RuleError(
            f"{watch.where()} calls {function_kinds.plain_name(func)}, a recurrent layer, whose products are "
            "out of sight "
            "of rules: write it with torch.nn.functional.linear, sigmoid and tanh step by step, or use a method that "
            "takes gradients alone"
        )
    return func(*args, **kwargs)


def _of_first(func: Any, args: Any, kwargs: Any) -> tuple[Any, Callable[[Tensor], Tensor]]:
    """The first argument, and the call as a function of it."""
    if args:
        others = args[1:]  # in place, args[0] becomes the output, which must not be held by its own node
        return args[0], lambda t: func(t, *others, **kwargs)
    rest = {key: value for key, value in kwargs.items() if key != "input"}
    return kwargs.get("input"), lambda t: func(t, **rest)


def _bounds(function: Any, args: Any, kwargs: Any) -> tuple[Any, Any]:
    """Numbers that clamp and its like cut at; (None, None) for other functions."""
    name = function_kinds.plain_name(function).rstrip("_")
    if name not in ("clamp", "clip", "clamp_min", "hardtanh"):
        return None, None
    ends = ("min_val", "max_val") if name == "hardtanh" else ("min", "max")
    start = (-1.0, 1.0) if name == "hardtanh" else (None, None)
    given = [args[place] if len(args) > place else kwargs.get(end) for place, end in ((1, ends[0]), (2, ends[1]))]
    low, high = (value if value is not None else default for value, default in zip(given, start, strict=True))
    number = isinstance(low, (int, float)) and not isinstance(high, Tensor)
    return (low, high) if number else (None, high if high is not None else 1)


def _homogeneous(function: Any, args: Any, kwargs: Any) -> bool:
    """Whether f(c x) = c f(x) for c > 0, so that the ordinary gradient passes relevance on."""
    if function_kinds.plain_name(function).rstrip("_") in ("clamp", "clip", "clamp_min"):
        return _bounds(function, args, kwargs) == (0, None)
    return function in function_kinds.HOMOGENEOUS
