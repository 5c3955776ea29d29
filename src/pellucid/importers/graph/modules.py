"""A flat row of steps as torch modules: one for each layer of the source network, each with its own readable code."""

from __future__ import annotations

import itertools
import keyword
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from .graph import Graph, Step

Scope = tuple[str, ...]
LINEAR = (F.conv1d, F.conv2d, F.conv3d, F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d, F.linear)
NAMES: dict[Callable[..., Any], dict[int, str]] = {
    F.batch_norm: {1: "running_mean", 2: "running_var", 3: "weight", 4: "bias"},
    F.layer_norm: {2: "weight", 3: "bias"},
    F.group_norm: {2: "weight", 3: "bias"},
    F.rms_norm: {2: "weight"},
    F.prelu: {1: "weight"},
    **{function: {1: "weight", 2: "bias"} for function in LINEAR},
}


def modules(g: Graph, kinds: Mapping[Scope, str] | None = None) -> fx.GraphModule:
    """The network of a graph.

    Args:
        g: the steps, each with the layer that it is called in.
        kinds: names of the classes of layers, where they are known.
    """
    root = common([step.scope for step in g.steps if step.scope])
    scopes = {step: step.scope[len(root) :] for step in g.steps}
    if not any(scopes.values()):
        scopes = {step: step.scope for step in g.steps}
    builder = _Builder(
        scopes,
        g.users(),
        containers(list(scopes.values())),
        {scope[len(root) :]: kind for scope, kind in (kinds or {}).items()},
    )
    return builder.build(g.steps[1:], (), [g.images], [g.output]).module


def common(scopes: Sequence[Scope]) -> Scope:
    """The scope that all have in common, without the last part where one has no more."""
    if not scopes:
        return ()
    shared = []
    for parts in zip(*scopes, strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    return tuple(shared)


@dataclass(eq=False)
class _Built:
    """A module, with what tells whether another call is of the same one."""

    module: fx.GraphModule
    signature: list[Any]
    inputs: list[Step]
    outputs: list[Step]


@dataclass(eq=False)
class _Builder:
    scopes: dict[Step, Scope]
    users: dict[Step, list[Step]]
    containers: set[Scope]
    kinds: dict[Scope, str]
    shared: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def build(self, steps: list[Step], scope: Scope, inputs: list[Step], outputs: list[Step]) -> _Built:
        """The module of some steps that follow each other in one layer."""
        graph, holder = fx.Graph(), nn.Module()
        names = ("x",) if len(inputs) == 1 else tuple(f"x{number}" for number in range(1, len(inputs) + 1))
        names = names if scope else ("images",)
        nodes = {step: graph.placeholder(name) for name, step in zip(names, inputs, strict=True)}
        signature: list[Any] = []
        children: dict[Scope, list[tuple[str, _Built]]] = {}
        order = {step: number for number, step in enumerate([*inputs, *steps])}
        depth = len(scope)
        taken = {".".join(self.scopes[step][depth:]) for step in steps}
        for path, among in itertools.groupby(steps, lambda step: self.path(step, depth)):
            group = list(among)
            if not path:
                for step in group:
                    nodes[step] = self.call(graph, holder, step, nodes)
                    signature.append(_signature(step, order))
                continue
            inner = self.child(group, (*scope, *path), outputs)
            called = self.placed(children, holder, path, inner, taken)
            out = graph.call_module(called, tuple(nodes[step] for step in inner.inputs))
            signature.append((called, tuple(order[step] for step in inner.inputs)))
            for number, step in enumerate(inner.outputs):
                nodes[step] = out if len(inner.outputs) == 1 else graph.call_function(_item, (out, number))
        results = tuple(nodes[step] for step in outputs)
        graph.output(results[0] if len(results) == 1 else results)
        kind = self.kinds.get(scope) or _kind(scope[-1] if scope else "Imported")
        module = fx.GraphModule(holder, graph, class_name=kind)
        return _Built(module, signature, inputs, outputs)

    def path(self, step: Step, depth: int) -> Scope:
        """The way from a layer to the one in it that calls a step, through containers, which are not called."""
        return way(self.scopes[step], depth, self.containers)

    def child(self, group: list[Step], scope: Scope, outputs: list[Step]) -> _Built:
        """The module of a layer that is called in another."""
        inside = set(group)
        inputs = list(dict.fromkeys(before for step in group for before in step.inputs if before not in inside))
        ends = set(outputs)
        left = [s for s in group if s in ends or any(user not in inside for user in self.users[s])]
        return self.build(group, scope, inputs, left[::-1])  # what it ends with is its activation

    def placed(
        self,
        children: dict[Scope, list[tuple[str, _Built]]],
        holder: nn.Module,
        path: Scope,
        inner: _Built,
        taken: set[str],
    ) -> str:
        """The dotted name that a child is called by; a layer that is called again is the same module."""
        plain = ".".join(map(attribute, path))
        calls = children.setdefault(path, [])
        for called, before in calls:
            if _equal(before.signature, inner.signature) and _equal_states(before.module, inner.module):
                return called
        numbers = (f"{plain}_call{number}" for number in itertools.count(2))
        used = {name for name, _ in calls}
        called = plain if not calls else next(n for n in numbers if n not in taken | used)
        *containers, name = called.split(".")
        for container in containers:
            if container not in holder._modules:
                holder.add_module(container, nn.Module())
            holder = holder.get_submodule(container)
        holder.add_module(name, inner.module)
        calls.append((called, inner))
        return called

    def call(self, graph: fx.Graph, holder: nn.Module, step: Step, nodes: dict[Step, fx.Node]) -> fx.Node:
        """One step as a node of the graph of its module; its constants are registered there."""
        names = NAMES.get(step.function, {}) if step.function else {}

        def argument(value: Any, name: str) -> Any:
            if isinstance(value, Step):
                return nodes[value]
            if isinstance(value, Tensor):
                return graph.get_attr(self.register(holder, value, name))
            if type(value) in (tuple, list):
                return type(value)(argument(item, name) for item in value)
            return value

        assert step.function is not None
        function, word = step.function, getattr(step.function, "__name__", "")
        args = tuple(argument(value, names.get(place, "constant")) for place, value in enumerate(step.args))
        kwargs = {key: argument(value, key) for key, value in step.kwargs.items()}
        if getattr(Tensor, word, None) is function:
            return graph.call_method(word, args, kwargs)
        return graph.call_function(function, args, kwargs)

    def register(self, holder: nn.Module, tensor: Tensor, name: str) -> str:
        """Weights are parameters that want no gradient, all else are buffers; both go where the module goes."""
        weight = tensor.is_floating_point() and name != "constant" and not name.startswith("running")
        if id(tensor) not in self.shared:  # the tensor is held so that its id stays its own
            held = tensor.contiguous()
            self.shared[id(tensor)] = (tensor, nn.Parameter(held, requires_grad=False) if weight else held)
        value = self.shared[id(tensor)][1]
        here = dict([*holder.named_parameters(recurse=False), *holder.named_buffers(recurse=False)])
        for key, other in here.items():
            if other is value:
                return key
        names = itertools.chain([name], (f"{name}_{number}" for number in itertools.count(2)))
        unique = next(word for word in names if not hasattr(holder, word))
        if isinstance(value, nn.Parameter):
            holder.register_parameter(unique, value)
        else:
            holder.register_buffer(unique, value)
        return unique


def containers(scopes: Sequence[Scope]) -> set[Scope]:
    """Scopes that compute nothing themselves and whose layers are called one by one: lists, and what is interrupted."""
    own = set(scopes)
    runs: dict[Scope, int] = {}
    inner: dict[Scope, set[str]] = {}
    before: Scope = ()
    for scope in scopes:
        for end in range(1, len(scope)):
            part = scope[:end]
            runs[part] = runs.get(part, 0) + (before[:end] != part)
            inner.setdefault(part, set()).add(scope[end])
        before = scope
    return {
        part for part, count in runs.items() if part not in own and (count > 1 or all(n.isdigit() for n in inner[part]))
    }


def way(scope: Scope, depth: int, holders: set[Scope]) -> Scope:
    """The part of a scope behind `depth` that leads to a layer, through containers."""
    end = depth + 1
    while end < len(scope) and scope[:end] in holders:
        end += 1
    return scope[depth:end]


def attribute(name: str) -> str:
    """A name as an attribute of a module."""
    plain = re.sub(r"\W", "_", name) or "layer"
    return f"{plain}_" if hasattr(nn.Module, plain) or keyword.iskeyword(plain) else plain


def _signature(step: Step, order: dict[Step, int]) -> Any:
    def plain(value: Any) -> Any:
        if isinstance(value, Step):
            return ("step", order.get(value))
        return tuple(map(plain, value)) if isinstance(value, (tuple, list)) else value

    return (step.function, plain(step.args), plain(tuple(sorted(step.kwargs.items()))))


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, (tuple, list)) and isinstance(b, (tuple, list)):
        return len(a) == len(b) and all(_equal(*pair) for pair in zip(a, b, strict=True))
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a is b or (a.shape == b.shape and bool(torch.equal(a, b)))
    return type(a) is type(b) and bool(a == b)


def _equal_states(a: nn.Module, b: nn.Module) -> bool:
    one, other = a.state_dict(), b.state_dict()
    return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)


def _item(values: Any, number: int) -> Any:
    return values[number]


def _kind(name: str) -> str:
    plain = re.sub(r"\W|[_\d]+$", "", name)
    return plain if plain.isidentifier() else "Layer"
