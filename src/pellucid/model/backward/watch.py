"""The function mode: it sees every function of a pass, and gives those that have a rule another backward."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ...rules import Rule, Schedule
from . import function_kinds
from .assign import Entry, Place, entries
from .nodes import FunctionNode, Kept, LinearCall, LinearNode

Handler = Callable[..., Any]
Shadows = tuple[Tensor | None, Tensor | None, Tensor | None]


@dataclass(frozen=True)
class Marks:
    """What is known of the output of a function node."""

    nonnegative: bool
    gate: bool


class Watch(TorchFunctionMode):
    """Rules at work in one pass.

    What flows back is relevance / activation: relevance at the input is input x gradient, summed over `inputs`.

    Args:
        rules: by kind, layer or function; later ones win.
        net: whose layers they name.
        handlers: what is done with each function.
        low, high: bounds of the image, for z-box; of the shape of the images.
        relevance: input x gradient over `inputs` is what is asked for, not the gradient itself.
    """

    def __init__(
        self,
        rules: Mapping[Any, Rule | Schedule],
        net: nn.Module | None,
        handlers: Mapping[Any, Handler],
        *,
        low: Tensor | None = None,
        high: Tensor | None = None,
        relevance: bool = False,
    ) -> None:
        super().__init__()
        self.handlers = handlers
        self.entries: list[Entry] = entries(rules, net)
        self.matched: set[Any] = set()
        self.counts: dict[str, int] = {}
        self.rule = _looked_up(self.entries, self.matched, self.counts)
        self.path: list[tuple[str, int]] = []
        self.calls: dict[str, int] = {}
        self.owners: dict[int, list[str]] = {}
        for name, parameter in net.named_parameters(remove_duplicate=False) if net is not None else ():
            self.owners.setdefault(id(parameter), []).append(name.rpartition(".")[0])
        self.kept: dict[int, list[Kept]] = {}
        self.depending: dict[Any, bool] = {}
        self.leaves: list[Tensor] = []
        self.known: set[Any] = set()
        self.strange: dict[Any, tuple[str, str]] = {}
        self.seeing: dict[int, tuple[Tensor, Shadows]] = {}
        self.bounds = (low, high)
        self.relevance = relevance
        self.inputs: list[Tensor] = []

    # Where the pass begins, and where it is.

    def begin(self, x: Tensor) -> Tensor:
        """Take x as the image that the network sees; the pass goes on with what is returned."""
        if not x.requires_grad:
            return x
        x = x.view_as(x)
        self.depending[x.grad_fn] = True
        self.inputs = [x]
        chosen = [r for e in self.entries for r in (e.rule.rules if isinstance(e.rule, Schedule) else (e.rule,))]
        names = {rule.name for rule in chosen}
        low = high = unit = None
        if "z_box" in names:
            low, high = (torch.zeros_like(x) if b is None else b.to(x).expand_as(x).clone() for b in self.bounds)
            low, high = low.requires_grad_(), high.requires_grad_()
            self.inputs += [low, high]
        if self.relevance or names & {"flat", "w_square"}:
            unit = torch.ones_like(x).requires_grad_()
            self.inputs.append(unit)
        x = x.clone()  # the network may write into it
        self._see(x, (low, high, unit))
        return x

    def leaf(self, value: Tensor) -> None:
        """Take the activation of a layer as what relevance is asked for."""
        self.leaves.append(value)
        self.inputs = [value]

    def enter_module(self, name: str) -> None:
        self.calls[name] = self.calls.get(name, 0) + 1
        self.path.append((name, self.calls[name]))

    def leave_module(self, name: str) -> None:
        while self.path and self.path.pop()[0] != name:
            pass

    # The functions of the pass.

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        hooks = torch._C._autograd._top_saved_tensors_default_hooks(True)
        if hooks is not None and hooks[0].__module__ == "torch.utils.checkpoint":
            # What it would compute again in the backward is out of sight there, and another graph: it is kept.
            torch._C._autograd._pop_saved_tensors_default_hooks()
            try:
                return self.__torch_function__(func, types, args, kwargs)
            finally:
                torch._C._autograd._push_saved_tensors_default_hooks(*hooks)
        function = function_kinds.known(func)
        if (
            function_kinds.writes(func)
            or kwargs.get("inplace")
            or "out" in kwargs
            or function_kinds.told_in_place(function, args)
        ):
            self._protect(function, args, kwargs)
        handler = self.handlers.get(function)
        strange = handler is None and function not in function_kinds.PLAIN
        strange = strange and getattr(function, "__name__", "") not in ("__get__", "__set__")
        if handler is not None or strange:
            for value in function_kinds.tensors((*args, *kwargs.values())):
                self.depends(value)  # so that `acknowledge` stops there
        taken = self._kept_of(function_kinds.tensors((*args, *kwargs.values())))
        out = func(*args, **kwargs) if handler is None else handler(self, func, args, kwargs)
        if isinstance(out, (Tensor, tuple, list)):
            for kept in taken:
                kept.used = True
        if strange:
            self._note_strange(function, out)
        sees = self.seeing and function not in function_kinds.LINEAR and function not in function_kinds.FOURIER
        if sees and (isinstance(out, (Tensor, tuple, list)) or function_kinds.plain_name(func) == "__setitem__"):
            self._follow(func, args, kwargs, out)
        return out

    def place(self, kind: str, function: Any, weight: Any = None, x: Any = None) -> Place:
        """Where a call of a kind is made; it is counted."""
        self.counts[kind] = self.counts.get(kind, 0) + 1
        name, call = self.path[-1] if self.path else ("", 1)
        layers = (name, *self.owners.get(id(weight), ()))
        return Place(kind, self.counts[kind], function, layers, call, id(x) in self.seeing)

    def entry(self, place: Place) -> Rule | Schedule | None:
        """The rule or schedule of a call."""
        return _entry_of(place, self.entries, self.matched)

    def rule_of(self, kind: str, function: Any) -> Rule | None:
        """The rule of this call of a function without weights; None for the ordinary backward."""
        found = self.entry(self.place(kind, function))
        return found if isinstance(found, Rule) and found.on != "nothing" else None

    def where(self) -> str:
        """The layer that the pass is in, for messages."""
        return f"layer {self.path[-1][0]!r}" if self.path and self.path[-1][0] else "the network"

    def all_used(self) -> None:
        """Refuse rules that name what a whole pass did not call.

        Raises:
            ValueError: naming the first.
        """
        for entry in self.entries:
            if entry.must and entry.key not in self.matched:
                raise ValueError(
                    f"rules[{entry.key!r}] is {entry.rule!r}, but the pass called nothing there that it is for "
                    f"({', '.join(sorted(entry.kinds))})"
                )

    # What depends on the image.

    def depends(self, value: Any) -> bool:
        """Whether a value is computed from the image (or the leaf) differentiably."""
        if not isinstance(value, Tensor) or not value.requires_grad or not torch.is_grad_enabled():
            return False
        if value.grad_fn is None:
            return any(value is leaf for leaf in self.leaves)
        return self.reaches(value.grad_fn)

    def reaches(self, node: Any) -> bool:
        """Whether a node of the graph leads back to the image (or the leaf)."""
        known = self.depending
        waiting = [node]
        while waiting:
            at = waiting[-1]
            if at in known:
                waiting.pop()
                continue
            if hasattr(at, "variable"):
                known[at] = any(at.variable is leaf for leaf in self.leaves)
                continue
            before = [n for n, _ in at.next_functions if n is not None]
            if any(known.get(n) for n in before):
                known[at] = True
            elif missing := [n for n in before if n not in known]:
                waiting += missing
            else:
                known[at] = False
        return known[node]

    # Values that rules need later.

    def keep(self, *values: Kept) -> None:
        for value in values:
            self.kept.setdefault(value.value.untyped_storage().data_ptr(), []).append(value)

    def linear(self, call: LinearCall, compute: Callable[[], Tensor]) -> Tensor:
        """Put a linear map into the graph."""
        y: Tensor = LinearNode.apply(call.source, *call.shadows, call, compute)
        assert call.y is not None
        self.keep(call.x, call.y)
        return y

    def replace(
        self, x: Tensor, f: Callable[[Tensor], Tensor], in_place: bool, rule: Rule, marks: Marks | None = None
    ) -> Tensor:
        """Put a function of one tensor into the graph, its backward that of a rule."""
        kept: list[Kept] = []
        y: Tensor = FunctionNode.apply(x, f, in_place, rule, kept, marks)
        for value in kept:  # writing in place is counted only after the node is made
            value.version = value.value._version
        self.keep(*kept)
        return y

    def modify(self, y: Any, rule: Rule) -> Any:
        """Let a rule change the gradient that arrives at y, the output of a call in sight."""
        self.acknowledge(y)
        if not y.requires_grad:
            return y
        if rule.on == "output":
            kept = Kept(y, output=True)
            self.keep(kept)

            def pull(g: Tensor) -> Any:
                return rule.pull(g, kept.get())

            y.register_hook(pull)
        else:
            y.register_hook(rule.pull)
        return y

    def acknowledge(self, y: Any) -> Any:
        """Note that a call was in sight, whatever its backward is."""
        waiting = [value.grad_fn for value in function_kinds.tensors([y])]
        while waiting:  # one function may be several nodes; those of its inputs are looked at before
            node = waiting.pop()
            if node is not None and node not in self.depending and node not in self.known:
                self.known.add(node)
                waiting += [before for before, _ in node.next_functions]
        return y

    def shadows_of(self, x: Tensor) -> Shadows:
        """Bounds and unit of a tensor made of the image by reshaping and the like."""
        found = self.seeing.get(id(x))
        return found[1] if found else (None, None, None)

    def _see(self, x: Tensor, shadows: Shadows) -> None:
        self.seeing[id(x)] = (x, shadows)  # x itself is held, so that its id is not used again

    def _follow(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        """Let bounds and unit go where the image goes, until the first linear map."""
        seen = [t for t in function_kinds.tensors((*args, *kwargs.values())) if id(t) in self.seeing]
        written = bool(args) and function_kinds.writes(func)
        out = args[0] if written else out
        among = function_kinds.tensors((*args[written:], *kwargs.values()))
        if any(id(t) not in self.seeing and self.depends(t) for t in among):
            self.seeing.pop(id(out), None)  # made of the image and of what a layer has made of it
            return
        outs = _listed(out)
        chosen = [n for n, value in enumerate(outs) if value.requires_grad and not _is_linear(value.grad_fn)]
        outs = [outs[n] for n in chosen]  # not the indices of a maximum
        if not seen or not outs or (not written and any(id(value) in self.seeing for value in outs)):
            return

        def at(which: int, zero: bool = False) -> Any:
            def swap(value: Any) -> Any:
                if isinstance(value, Tensor) and id(value) in self.seeing:
                    shadow = self.seeing[id(value)][1][which]
                    return None if shadow is None else torch.zeros_like(shadow) if zero else shadow
                return type(value)(map(swap, value)) if type(value) in (tuple, list) else value

            taken = [swap(value) for value in args]
            if written:
                taken[0] = (taken[0] if id(args[0]) in self.seeing else args[0].detach()).clone()
            made = func(*taken, **{key: swap(value) for key, value in kwargs.items()})
            made = _listed(taken[0] if written else made)
            return [made[n] for n in chosen]

        low: list[Any] = [None] * len(outs)
        high, unit = low, low
        first = self.seeing[id(seen[0])][1]
        with torch.enable_grad():
            if first[0] is not None:
                one, other = at(0), at(1)
                low = [torch.minimum(a, b) for a, b in zip(one, other, strict=True)]
                high = [torch.maximum(a, b) for a, b in zip(one, other, strict=True)]
            if first[2] is not None:
                unit = [a - b.detach() for a, b in zip(at(2), at(2, zero=True), strict=True)]
        for value, *shadows in zip(outs, low, high, unit, strict=True):
            self._see(value, (shadows[0], shadows[1], shadows[2]))

    def _protect(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Before a function writes into a tensor: copies for the rules that need what is there."""
        target = kwargs.get("out", args[0] if args else kwargs.get("input"))
        for kept in self._kept_of([target] if isinstance(target, Tensor) else []):
            # Where a ReLU clips, no gradient arrives, if it alone took the value; elsewhere the value stays.
            if kept.output and not kept.used and function in function_kinds.RECTIFIER and not self.passes_clipped:
                kept.rectified = True
            else:
                kept.copy()

    def _kept_of(self, values: list[Tensor]) -> list[Kept]:
        """What is kept of the memory of some tensors."""
        found: list[Kept] = []
        for value in values if self.kept else ():
            with suppress(RuntimeError, NotImplementedError):  # a tensor without storage
                found += self.kept.get(value.untyped_storage().data_ptr(), ())
        return found

    @property
    def passes_clipped(self) -> bool:
        """Whether some rule lets gradients through a ReLU where it clips."""
        return any(isinstance(entry.rule, Rule) and entry.rule.name == "deconv" for entry in self.entries)

    def _note_strange(self, function: Any, out: Any) -> None:
        for value in function_kinds.tensors([out]):
            if value.requires_grad and value.grad_fn is not None:
                self.acknowledge(value)
                self.strange[value.grad_fn] = (function_kinds.plain_name(function), self.where())


def _entry_of(place: Place, among: list[Entry], matched: set[Any]) -> Rule | Schedule | None:
    found = None
    for entry in among:
        if place.kind in entry.kinds and entry.matches(place):
            matched.add(entry.key)
            found = entry.rule
    return found


def _looked_up(among: list[Entry], matched: set[Any], counts: dict[str, int]) -> Callable[[Place], Rule | None]:
    """The rule of a call, once the pass is over and all calls of its kind are counted.

    The nodes of the graph hold this function: it must not hold the `Watch`, which holds the nodes. Python does not
    find circles through the graph, and every pass would stay in memory.
    """

    def rule(place: Place) -> Rule | None:
        found = _entry_of(place, among, matched)
        return found.at(place.number, counts[place.kind]) if isinstance(found, Schedule) else found

    return rule


def _listed(out: Any) -> list[Tensor]:
    return [out] if isinstance(out, Tensor) else [value for value in out if isinstance(value, Tensor)]


def _is_linear(node: Any) -> bool:
    return isinstance(node, LinearNode._backward_cls)
