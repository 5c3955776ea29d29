"""Which rule a call has: by its kind, its number, its layer, its function, or because it sees the image."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from ...checks import UnknownName, nearest
from ...rules import KINDS, Rule, Schedule


@dataclass(frozen=True)
class Place:
    """Where a call is made.

    kind: of `KINDS`. number: of its kind, from 1. function: that is called. layers: the module that calls it, and
    those that own its weight. call: the number of that module's call, from 1. first: it sees the image.
    """

    kind: str
    number: int
    function: Any
    layers: tuple[str, ...]
    call: int
    first: bool

    def __str__(self) -> str:
        where = f" of layer {self.layers[0]!r}" if self.layers and self.layers[0] else ""
        return f"{getattr(self.function, '__name__', self.kind)}{where}"


@dataclass(frozen=True)
class Entry:
    """One line of a set of rules."""

    key: Any
    rule: Rule | Schedule
    kinds: frozenset[str]
    matches: Callable[[Place], bool]
    must: bool  # it names something that has to be there


def entries(rules: Mapping[Any, Rule | Schedule], net: nn.Module | None) -> list[Entry]:
    """Rules as they are looked up, later ones winning.

    Raises:
        TypeError: for a value that is no rule, or a key that is neither a word nor a function.
        ValueError: for a kind with a rule that is not for it.
        UnknownName: for a layer that does not exist.
    """
    if not isinstance(rules, Mapping):
        raise TypeError(f"rules are a {type(rules).__name__}, expected a mapping such as {{'conv': rules.gamma(0.25)}}")
    return [_entry(key, rule, net) for key, rule in rules.items()]


def _entry(key: Any, rule: Any, net: nn.Module | None) -> Entry:
    if not isinstance(rule, (Rule, Schedule)):
        hint = ": call it, as in gamma(0.25)" if callable(rule) else ""
        raise TypeError(f"rules[{key!r}] is {rule!r}, expected a rule such as pellucid.rules.epsilon(){hint}")
    kinds = rule.kinds if isinstance(rule, Rule) else rule.rules[0].kinds
    if isinstance(rule, Schedule) and not kinds & {"conv", "linear"}:
        raise ValueError(f"rules[{key!r}]: {rule!r} is by depth, which is for convolutions and dense layers alone")
    if not isinstance(key, str):
        if not callable(key):
            raise TypeError(f"rules have the key {key!r}, expected a kind, a layer, or a function such as F.conv2d")
        return Entry(key, rule, kinds, lambda place: place.function is key, False)
    name, mark, numbers = key.partition("#")
    low, high = _numbers(key, numbers) if mark else (1, 10**9)
    if name == "first":
        if not kinds & {"conv", "linear"}:
            raise ValueError(f"rules['first'] is {rule!r}, which is for {_and(kinds)}, not for convolutions")
        return Entry(key, rule, kinds & {"conv", "linear"}, lambda place: place.first, False)
    if name in KINDS:
        if name not in kinds:
            raise ValueError(f"rules[{key!r}] is {rule!r}, which is for {_and(kinds)}")
        return Entry(key, rule, kinds, lambda place: place.kind == name and low <= place.number <= high, bool(mark))
    names = [known for known, _ in net.named_modules() if known] if net is not None else []
    if not any(_covers(name, known) for known in names):
        raise UnknownName(
            f"rules[{key!r}]: there is no such layer, nor such a kind of function; {nearest(name, [*KINDS, *names])}. "
            "pellucid.layers(model) lists all layers"
        )

    def inside(place: Place) -> bool:
        return low <= place.call <= high and any(_covers(name, layer) for layer in place.layers)

    return Entry(key, rule, kinds, inside, True)


def _covers(pattern: str, layer: str) -> bool:
    """Whether a pattern is a layer's name, or that of a module around it."""
    if not layer:
        return False
    parts = layer.split(".")
    return any(fnmatchcase(".".join(parts[:count]), pattern) for count in range(len(parts), 0, -1))


def _numbers(key: str, text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)(?:-(\d+))?", text)
    if not found or int(found[1]) < 1:
        raise ValueError(f"rules[{key!r}]: '#' is followed by a number from 1, or two, as in 'conv#2' or 'conv#3-5'")
    return int(found[1]), int(found[2] or found[1])


def _and(kinds: frozenset[str]) -> str:
    return ", ".join(kind for kind in KINDS if kind in kinds)
