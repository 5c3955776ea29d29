"""One pass through a network, seen from inside: the one place with hooks.

A layer is named as in `named_modules()`. A module that is called several times in one pass (a reused ReLU)
gives its first call; `"relu#2"` is the second.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, is_dataclass
from threading import get_ident
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..checks import UnknownName, nearest, wrong_channels
from ..rules import Rule, RuleError, Schedule
from . import backward
from .classifier import first_channels, network, normalized

Model = Callable[[Tensor], Any]
Edit = Callable[[Tensor], Tensor] | Tensor
Rules = Mapping[Any, Rule | Schedule]


@dataclass(frozen=True, eq=False)
class Trace:
    """What one pass computed.

    images: N x C x H x W, as they went in.
    output: what the network returned, usually N x K; None if the pass stopped at the last layer read.
    activations: by layer name, first axis N.
    rows: N whole numbers; which of the caller's images each row is (or is a variant of).
    """

    images: Tensor = field(repr=False)
    output: Any = field(repr=False)
    activations: Mapping[str, Tensor] = field(repr=False)
    rows: Tensor = field(repr=False)


class Score(Protocol):
    """One number per image, computed from a trace: what `pellucid.objectives` makes."""

    @property
    def reads(self) -> frozenset[str]: ...
    @property
    def needs_output(self) -> bool: ...
    def __call__(self, trace: Trace) -> Tensor: ...


@dataclass
class Passes:
    """Images sent forward and backward through a network."""

    forward: int = 0
    backward: int = 0


_tallies: ContextVar[tuple[Passes, ...]] = ContextVar("pellucid_passes", default=())


@contextmanager
def counted() -> Iterator[Passes]:
    """Count the passes made inside the block.

    >>> import torch
    >>> with counted() as passes:
    ...     _ = run(torch.nn.Flatten(), torch.zeros(2, 1, 2, 2))
    >>> passes
    Passes(forward=2, backward=0)
    """
    passes = Passes()
    token = _tallies.set((*_tallies.get(), passes))
    try:
        yield passes
    finally:
        _tallies.reset(token)


def count_backward(images: int) -> None:
    """Note that so many images went backward."""
    for passes in _tallies.get():
        passes.backward += images


class _Enough(BaseException):
    """Raised at the last layer read to end the pass; not an Exception, so that no network swallows it."""


class ModelError(RuntimeError):
    """The network itself failed; the message has its words and the shape that it was given."""


def layer(model: Model, name: str) -> nn.Module:
    """The module that `name` stands for.

    Raises:
        UnknownName: if there is none; the message offers the nearest names.
    """
    net = network(model)
    if net is None:
        raise UnknownName(f"layer {name!r}: a {type(model).__name__} has no named layers; wrap it in a torch.nn.Module")
    if isinstance(net, torch.jit.ScriptModule):
        raise UnknownName(f"layer {name!r}: a TorchScript network hides its layers; give the one it was made from")
    path = name.partition("#")[0]
    try:
        if path:
            return net.get_submodule(path)
    except AttributeError:
        pass
    names = [n for n, _ in net.named_modules() if n]
    raise UnknownName(f"there is no layer {name!r}; {nearest(name, names)}. pellucid.layers(model) lists all")


def run(
    model: Model,
    images: Tensor,
    *,
    read: str | Iterable[str] = (),
    edit: Mapping[str, Edit] | None = None,
    to_output: bool = True,
    rows: Tensor | None = None,
    leaf: str | None = None,
    rules: Rules | backward.Watch | None = None,
) -> Trace:
    """Send images through a network, keeping and changing activations on the way.

    The network is as it was afterwards, whatever happens. Gradients are recorded if they are where this
    is called; a kept activation is the value at that layer, even if the network overwrites it later.

    Args:
        model: a network or a `Classifier`.
        images: N x C x H x W, moved to the network's device and type.
        read: names of the layers to keep, or one name.
        edit: by layer name, a tensor to put there or a function of the activation that gives one. It may
            have another number of rows than the images: the rest of the network then runs on those.
        to_output: False ends the pass at the last of the layers read.
        rows: which of the caller's images each row is; 0 ... N-1 by default.
        leaf: a layer to begin differentiation at: what comes before records no graph.
        rules: by kind of function, layer or function, what replaces its backward (`pellucid.rules`). The forward
            is untouched. Gradients that are taken of the trace then go back by the rules: of the images, which
            must require a gradient, they are relevance / value. `relevance` does all of it.

    Returns:
        The trace.

    Raises:
        UnknownName: for a layer that does not exist, or that the pass never reached.
        ModelError: if the network fails on the images.
        RuleError: if the network does what rules cannot follow.

    >>> import torch
    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2), torch.nn.ReLU()).eval()
    >>> run(net, torch.ones(1, 1, 2, 2), read=["1"]).activations["1"].shape
    torch.Size([1, 2])
    """
    edit = dict(edit or {})
    keep = {read} if isinstance(read, str) else set(read)
    keep |= {leaf} if leaf else set()
    kept: dict[str, Tensor] = {}
    net = network(model)
    watching = backward.watch(rules, net) if isinstance(rules, Mapping) else rules
    with ExitStack() as stack:
        stack.enter_context(torch.set_grad_enabled(torch.is_grad_enabled() and not leaf))
        waiting = {_canonical(name) for name in keep | set(edit)}
        by_module: dict[nn.Module, set[str]] = {}
        for name in keep | set(edit):
            by_module.setdefault(layer(model, name), set()).add(name)
        reused: set[str] = set()
        mistakes: list[Exception] = []  # of an edit, not of the network
        thread = get_ident()

        def changed(change: Edit, value: Tensor) -> Tensor:
            try:
                return change(value) if callable(change) else change.to(value)
            except Exception as error:
                mistakes.append(error)
                raise

        def watch(names: set[str]) -> Callable[..., Any]:
            calls = 0

            def hook(_module: nn.Module, _inputs: Any, out: Any) -> Any:
                nonlocal calls
                if get_ident() != thread:
                    return None  # another thread's pass through the same network
                calls += 1
                mine = [name for name in names if _call_number(name) == calls]
                mine.sort(key=lambda name: (name not in edit, name != leaf))  # edited, then the leaf, then what is read
                if calls > 1 and not mine:
                    reused.update(name for name in names if "#" not in name)
                for name in mine:
                    value = _tensor_of(out, name)
                    if name in edit:
                        value = changed(edit[name], value)
                    if name == leaf:
                        value = value.detach().requires_grad_()
                        torch.set_grad_enabled(True)
                        if watching is not None:
                            watching.leaf(value)
                    waiting.discard(_canonical(name))
                    if name in keep:
                        if name != leaf:
                            value = value.view_as(value)  # a use inside the module is no use of its output
                        kept[name] = value
                        if to_output or waiting:
                            value = value.clone()  # an in-place ReLU behind this layer must not change what was read
                    out = _with_first(out, value)
                if mine and not to_output and not waiting:
                    raise _Enough
                return out

            return hook

        for module, names in by_module.items():
            stack.callback(module.register_forward_hook(watch(names)).remove)
        if watching is not None and net is not None:
            for handle in _named_passes(net, watching, thread):
                stack.callback(handle.remove)
        for passes in _tallies.get():
            passes.forward += len(images)
        result = None
        try:
            result = _call(model, net, images, watching)
        except _Enough:
            pass
        except RuleError:
            raise
        except (RuntimeError, ValueError, TypeError, IndexError, AttributeError, AssertionError) as error:
            if isinstance(error, torch.OutOfMemoryError) or any(error is mistake for mistake in mistakes):
                raise
            raise ModelError(_failure(net, images, error)) from error
    if waiting:
        name = sorted(waiting)[0]
        raise UnknownName(
            f"layer {name!r} exists but this pass did not call it: it is unused, or called fewer times than asked, "
            "or called out of sight (TorchScript, a fused fast path)"
        )
    if reused:
        _warn_reused(sorted(reused))
    if rows is None:
        rows = torch.arange(len(images))
    return Trace(images, result, kept, rows)


def gradient(
    model: Model,
    images: Tensor,
    objective: Score,
    *,
    at: str | None = None,
    rows: Tensor | None = None,
    edit: Mapping[str, Edit] | None = None,
    rules: Rules | None = None,
    strict: bool = True,
    only: int | None = None,
) -> tuple[Tensor, Trace]:
    """The gradient of an objective with respect to the images, or to the activation of one layer.

    No gradient of a parameter is computed. The pass stops at the last layer that the objective reads.

    Args:
        model: a network or a `Classifier`.
        images: N x C x H x W.
        objective: one number per image from a trace.
        at: a layer; only what lies between it and the objective is differentiated.
        rows: which of the caller's images each row is.
        edit, rules: as for `run`.
        strict: as for `relevance`.
        only: the gradient of the objective of so many of the first rows; of all by default.

    Returns:
        The gradient, of the shape of the images or of the activation, and the trace.

    Raises:
        ModelError: if the objective does not depend on the images (or on the layer) in a differentiable way.

    >>> import torch
    >>> from pellucid.objectives import logit
    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2, bias=False)).eval()
    >>> slope, _ = gradient(net, torch.ones(1, 1, 2, 2), logit(1).bind(net, 1))
    >>> bool(torch.allclose(slope.flatten(), net[1].weight[1]))
    True
    """
    with torch.inference_mode(False), torch.enable_grad():
        if images.is_inference():
            images = images.clone()
        start = images.detach() if at else images.detach().requires_grad_()
        watching = backward.watch(rules, network(model)) if rules else None
        trace = run(
            model,
            start,
            read=objective.reads,
            edit=edit,
            to_output=objective.needs_output,
            rows=rows,
            leaf=at,
            rules=watching,
        )
        inside = created_nodes(trace) if watching is not None else set()
        values = objective(trace)
        if watching is not None and values.requires_grad and watching.reaches(values.grad_fn):
            backward.check(watching, values, inside, strict=strict)
            if not watching.matched:
                warnings.warn("no function of the network has a rule: this is the ordinary gradient", stacklevel=2)
        values = values[:only]
        source = trace.activations[at] if at else start
        slope = None
        if values.requires_grad:
            (slope,) = torch.autograd.grad(values.sum(), source, allow_unused=True)
    if slope is None:
        raise no_gradient(at)
    count_backward(len(start))
    return slope, trace


def created_nodes(trace: Trace) -> set[Any]:
    """The nodes of the graph that a network made in a pass."""
    found: list[Tensor] = []
    waiting: list[Any] = [trace.output, *trace.activations.values()]
    while waiting:
        value = waiting.pop()
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, Mapping):
            waiting += value.values()
        elif isinstance(value, (tuple, list)):
            waiting += value
        elif is_dataclass(value):
            waiting += vars(value).values()
    return backward.reached(found)


def no_gradient(at: str | None) -> ModelError:
    return ModelError(
        f"there is no gradient from the objective back to {f'layer {at!r}' if at else 'the images'}: the network "
        "cuts it (detach, argmax, no_grad, rounding), or the objective lies before the layer"
    )


def device_and_dtype(model: Model) -> tuple[torch.device, torch.dtype] | None:
    """Device and floating type of a network, by its first floating parameter or buffer; None if it has none."""
    net = network(model)
    if net is not None:
        for tensors in (net.parameters(), net.buffers()):
            for tensor in tensors:
                if tensor.is_floating_point():
                    return tensor.device, tensor.dtype
    return None


def device_of(model: Model) -> torch.device | None:
    """Where a network computes; None if it has no weights."""
    place = device_and_dtype(model)
    return place[0] if place else None


def _call(model: Model, net: nn.Module | None, images: Tensor, watching: backward.Watch | None) -> Any:
    place = device_and_dtype(model)
    # A copy, also where nothing moves: a network that works in place must not write into the caller's images.
    x = images.to(*place, copy=True) if place else images.clone()
    x, inner = (x, model) if net is None else (normalized(model, x), net)
    if watching is None:
        return inner(x)
    with watching:
        return inner(watching.begin(x))


def _named_passes(net: nn.Module, watching: backward.Watch, thread: int) -> Iterator[Any]:
    """Hooks that tell the rules which module a function is called from."""
    for name, module in net.named_modules(remove_duplicate=True):
        if isinstance(module, torch.jit.ScriptModule):
            continue

        def enter(_module: nn.Module, _inputs: Any, name: str = name) -> None:
            if get_ident() == thread:
                watching.enter_module(name)

        def leave(_module: nn.Module, _inputs: Any, _out: Any, name: str = name) -> None:
            if get_ident() == thread:
                watching.leave_module(name)

        yield module.register_forward_pre_hook(enter)
        yield module.register_forward_hook(leave)


def _call_number(name: str) -> int:
    _, mark, number = name.partition("#")
    if mark and not (number.isdigit() and int(number)):
        raise UnknownName(f"layer {name!r}: '#' is followed by the number of the call, 1 for the first, as in 'relu#2'")
    return int(number) if mark else 1


def _canonical(name: str) -> str:
    return f"{name.partition('#')[0]}#{_call_number(name)}"


def _tensor_of(out: Any, name: str) -> Tensor:
    if isinstance(out, (tuple, list)) and out and isinstance(out[0], Tensor):
        out = out[0]
    if not isinstance(out, Tensor):
        raise UnknownName(f"layer {name!r} returns a {type(out).__name__}, not a tensor: choose a layer inside it")
    return out


def _with_first(out: Any, value: Tensor) -> Any:
    if isinstance(out, Tensor):
        return value
    return out._replace(**{out._fields[0]: value}) if hasattr(out, "_replace") else type(out)((value, *out[1:]))


def _warn_reused(names: list[str]) -> None:
    warnings.warn(
        f"layer {names[0]!r} is called more than once in a pass; its first call was used. "
        f"Say {names[0] + '#2'!r} for the second (pellucid.layers lists all)",
        stacklevel=3,
    )


def _failure(net: nn.Module | None, images: Tensor, error: Exception) -> str:
    shape = " x ".join(map(str, images.shape))
    said = " ".join(str(error).split()) or type(error).__name__
    channels = first_channels(net) if net is not None else None
    if channels and images.ndim == 4 and images.shape[1] != channels:
        return f"{wrong_channels(images, channels)} (the network said: {said})"
    return f"the network failed on images of shape {shape}: {said}"
