"""Linear maps and products: convolutions, dense layers, matrix products, elementwise products and quotients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ...rules import Rule
from ...rules.linear_maps import Bilinear, Convolution, Dense, Map
from . import function_kinds
from .nodes import Instead, Kept, LinearCall
from .origin import is_gate, is_nonnegative, is_stopped
from .watch import Watch


def convolution(watch: Watch, func: Any, args: Any, kwargs: Any) -> Any:
    read = _transposed if "transpose" in function_kinds.plain_name(func) else _plain
    x, w, b, how = read(*args, **kwargs)
    if how is not None:
        return linear(watch, "conv", func, args, kwargs, how, x, w, b)
    # padding="same": what is padded in front may be one less than behind
    b = None if b is None else b.view(-1, *(1,) * (w.ndim - 2))
    return linear(watch, "conv", func, args, kwargs, Bilinear(_same(func, args, kwargs)), x, w, b)


def dense(watch: Watch, func: Any, args: Any, kwargs: Any) -> Any:
    def named(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor | None]:
        return input, weight, bias

    x, w, b = named(*args, **kwargs)
    how = Dense() if w.ndim == 2 else Bilinear(F.linear)
    return linear(watch, "linear", func, args, kwargs, how, x, w, b)


def matrices(watch: Watch, func: Any, args: Any, kwargs: Any) -> Any:
    """A product of tensors: with weights it is a linear map, else a product."""
    factors = function_kinds.tensors((*args, *kwargs.values()))
    moving = [factor for factor in factors if watch.depends(factor)]
    if len(moving) != 1 or len(factors) != 2:
        return multiplied(watch, func, args, kwargs, len(moving))
    x = moving[0]
    w = factors[1] if factors[0] is x else factors[0]

    if is_stopped(w):
        return watch.acknowledge(func(*args, **kwargs))  # w is no weight: its sums say nothing of what it should add

    def bilinear(new_x: Tensor, new_w: Tensor) -> Tensor:
        def put(value: Any) -> Any:
            if isinstance(value, Tensor):
                return new_x if value is x else new_w
            return type(value)(map(put, value)) if type(value) in (tuple, list) else value

        out: Tensor = func(*map(put, args), **{key: put(value) for key, value in kwargs.items()})
        return out

    return linear(watch, "linear", func, args, kwargs, Bilinear(bilinear), x, w, None)


def fused(watch: Watch, func: Any, args: Any, kwargs: Any) -> Any:
    """beta * input + alpha * (a @ b): a dense layer with its bias, or in sight as what it is."""
    names = (("input",), ("mat1", "batch1", "mat"), ("mat2", "batch2", "vec"))
    start, a, b = (
        args[place] if place < len(args) else next(kwargs[name] for name in among if name in kwargs)
        for place, among in enumerate(names)
    )
    numbers = {key: kwargs[key] for key in ("beta", "alpha") if key in kwargs}
    if not any(map(watch.depends, (start, a, b))):
        return func(*args, **kwargs)
    sums = function_kinds.plain_name(func) == "addbmm"
    if not sums and {*numbers.values()} <= {1} and not watch.depends(start) and watch.depends(a) != watch.depends(b):
        if watch.depends(a):
            return linear(watch, "linear", func, args, kwargs, Bilinear(torch.matmul), a, b, start)
        return linear(watch, "linear", func, args, kwargs, Bilinear(lambda x, w: torch.matmul(w, x)), b, a, start)
    with watch:
        product = torch.matmul(a, b)
        product = product.sum(0) if sums else product
        straight = start * numbers.get("beta", 1) + product * numbers.get("alpha", 1)
    return watch.acknowledge(Instead.apply(straight, lambda: func(*args, **kwargs)))


def product(watch: Watch, func: Any, args: Any, kwargs: Any) -> Any:
    """a * b, elementwise."""
    a, b = pair(args, kwargs)
    if not (watch.depends(a) and watch.depends(b)):
        return watch.acknowledge(func(*args, **kwargs))
    rule = watch.rule_of("product", func)
    if rule is None:
        return watch.acknowledge(func(*args, **kwargs))
    if rule.name == "rescale_product":
        if function_kinds.writes(func):
            return watch.acknowledge(a.copy_(averaged(a.clone(), b, torch.mul, torch.mul(a, b))))
        return watch.acknowledge(averaged(a, b, torch.mul, func(*args, **kwargs)))
    gates = is_gate(a), is_gate(b)
    if gates[0] == gates[1]:
        return watch.modify(func(*args, **kwargs), rule)
    gate: float = dict(rule.options).get("gate", 0.5)
    first, second = (gate, 1 - gate) if gates[0] else (1 - gate, gate)
    if function_kinds.writes(func):
        return watch.acknowledge(a.copy_(weighted(a.clone(), first) * weighted(b, second)))
    return watch.acknowledge(weighted(a, first) * weighted(b, second))


def quotient(watch: Watch, func: Any, args: Any, kwargs: Any) -> Any:
    """a / b, b taken as fixed where both depend on the image."""
    a, b = pair(args, kwargs)
    if not (watch.depends(a) and watch.depends(b)) or watch.rule_of("product", func) is None:
        return watch.acknowledge(func(*args, **kwargs))
    rest = {key: value for key, value in kwargs.items() if key not in ("input", "other")}
    return watch.acknowledge(func(a, b.detach(), **rest))


def linear(
    watch: Watch, kind: str, func: Any, args: Any, kwargs: Any, how: Map, x: Tensor, w: Tensor, b: Tensor | None
) -> Any:
    """A linear map y = how(x; w) + b, computed by the call itself."""
    place = watch.place(kind, func, w, x)
    rule = watch.entry(place)
    if watch.depends(w):
        return multiplied(watch, func, args, kwargs, 1 + watch.depends(x))
    if not watch.depends(x):
        return func(*args, **kwargs)
    if rule is None or (isinstance(rule, Rule) and rule.on == "nothing"):
        return watch.acknowledge(func(*args, **kwargs))
    fixed = w.detach(), None if b is None else b.detach()
    call = LinearCall(
        how, lambda _x: fixed, place, watch.rule, x, Kept(x, output=False), is_nonnegative(x), watch.shadows_of(x)
    )
    return watch.linear(call, lambda: func(*args, **kwargs))


def multiplied(watch: Watch, func: Any, args: Any, kwargs: Any, moving: int) -> Any:
    """A product of matrices of which so many depend on the image."""
    out = watch.acknowledge(func(*args, **kwargs))
    if moving > 1 and (rule := watch.rule_of("product", func)) is not None:
        if rule.name == "rescale_product" and moving == 2 and not isinstance(args[0], str):
            return watch.acknowledge(averaged(*pair(args, kwargs), func, out))
        out.register_hook(lambda g: g / moving)
    return out


def averaged(a: Tensor, b: Tensor, multiply: Callable[[Tensor, Tensor], Tensor], out: Tensor) -> Tensor:
    """A product for DeepLIFT: each factor times the mean of the other over image and baseline, which adds up."""

    def mean(t: Tensor) -> Tensor:
        t = t.detach()
        return (t + t.roll(len(t) // 2, 0)) / 2 if t.ndim and len(t) > 1 else t

    with torch.enable_grad():
        straight = multiply(a, mean(b)) + multiply(mean(a), b)
    result: Tensor = Instead.apply(straight, out.detach)
    return result


def weighted(t: Tensor, part: float) -> Tensor:
    """t, with so much of its gradient."""
    if part == 0:
        return t.detach()
    if part != 1:
        t = t.view_as(t)
        t.register_hook(lambda g: g * part)
    return t


def pair(args: Any, kwargs: Any) -> tuple[Any, Any]:
    """The two operands of a call."""
    a = args[0] if args else kwargs.get("input")
    b = args[1] if len(args) > 1 else kwargs.get("other", kwargs.get("mat2", kwargs.get("tensor2")))
    return a, b


def _plain(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> tuple[Tensor, Tensor, Tensor | None, Convolution | None]:
    size = weight.ndim - 2
    if isinstance(padding, str):
        if padding == "same":
            reach = [d * (k - 1) for d, k in zip(_each(dilation, size), weight.shape[2:], strict=True)]
            if any(total % 2 for total in reach):
                return input, weight, bias, None
            padding = [total // 2 for total in reach]
        else:
            padding = 0
    how = Convolution(_each(stride, size), _each(padding, size), _each(dilation, size), groups, False, (0,) * size)
    return input, weight, bias, how


def _transposed(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> tuple[Tensor, Tensor, Tensor | None, Convolution | None]:
    size = weight.ndim - 2
    stride, padding, dilation, more = (_each(v, size) for v in (stride, padding, dilation, output_padding))
    return input, weight, bias, Convolution(stride, padding, dilation, groups, True, more)


def _each(value: Any, size: int) -> tuple[int, ...]:
    values = (value,) if isinstance(value, int) else tuple(value)
    return values * size if len(values) == 1 else values


def _same(func: Any, args: Any, kwargs: Any) -> Callable[[Tensor, Tensor], Tensor]:
    """A convolution without its bias, as a function of image and weight."""
    rest = {key: value for key, value in kwargs.items() if key not in ("input", "weight", "bias")}

    def convolve(x: Tensor, w: Tensor) -> Tensor:
        out: Tensor = func(x, w, None, *args[3:], **rest)
        return out

    return convolve
