"""Options of methods: their names and types checked in words, and how they are recorded."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import SimpleNamespace
from typing import Any, get_type_hints

import numpy as np
import torch
from torch import Tensor

from ..checks import WrongWord, in_words, matches_type, nearest, of_kind, warn, words_for
from ..rules import Rule, Schedule
from ..rules.presets import written

# What options of verbs were called before; they are still taken, with a warning.
_OF_ASCENTS = {
    "edits": "transforms", "film": "record_every", "optimiser": "optimizer", "parametrisation": "parametrization",
    "step": "step_size",
}  # fmt: skip
RENAMED: Mapping[str, Mapping[str, str]] = {
    **dict.fromkeys(("dream", "invert", "maximize", "multifaceted", "style_transfer", "texture"), _OF_ASCENTS),
    **{attack: {"views": "transformations"} for attack in ("apgd", "fgsm", "pgd", "targeted")},
    **{projection: {"neighbours": "neighbors"} for projection in ("pacmap", "umap")},
    "clever_hans": {"class_": "classes", "neighbours": "neighbors", "say": "on_message"},
    "compare": {"say": "on_message"},
    "deep_mds": {"hard": "hard_pair_fraction"},
    "features": {"output": "predict", "places": "pooling", "say": "on_message", "truth": "labels"},
    "infidelity": {"of": "reference"},
    "integrated_gradients": {"gap": "convergence_delta", "rule": "quadrature"},
    "lrp": {"through": "channels"},
    "neighbors": {"itself": "include_self"},
    "neuralize": {"normalise": "normalize"},
    "rise": {"centre": "center"},
    "spectrum_audit": {"say": "on_message"},
    "top_patches": {"say": "on_message"},
}


def checked(
    name: str, given: Mapping[str, Any], defaults: Mapping[str, Any], types: Mapping[str, Any]
) -> dict[str, Any]:
    """The options of a call, numbers of numpy as Python's.

    Args:
        name: of the function. given: by the caller. defaults: all options that there are. types: their types.

    Raises:
        TypeError: for an option that there is not, or a value that is not of its type.
        WrongWord: for a text that is none of those that the option takes.
    """
    given = {_present_name(name, option, defaults): value for option, value in given.items()}
    for option in given:
        if option not in defaults:
            known = nearest(option, defaults) if defaults else "it has no options"
            raise TypeError(f"{name} has no option {option!r}; {known}")
    given = {option: value.item() if isinstance(value, np.generic) else value for option, value in given.items()}
    for option, value in given.items():
        expected = types.get(option, Any)
        if isinstance(value, np.ndarray) and not matches_type(value, expected):
            value = given[option] = torch.as_tensor(value)
        if value is not defaults[option] and not matches_type(value, expected):
            if isinstance(value, str) and words_for(expected):
                raise WrongWord(f"{name}: {option} is {value!r}, expected {in_words(expected)}")
            raise TypeError(f"{name}: {option} is {of_kind(value)}, expected {in_words(expected)}")
    return given


def _present_name(name: str, option: str, defaults: Mapping[str, Any]) -> str:
    new = RENAMED.get(name, {}).get(option)
    if option in defaults or new not in defaults:
        return option
    warn(f"{name}: the option {option} is called {new} now", DeprecationWarning)
    return str(new)


@functools.cache
def option_types(function: Callable[..., Any]) -> dict[str, Any]:
    """The annotations of a function that can be understood, each on its own: one may name what is not imported."""
    types = {}
    for name, annotation in inspect.get_annotations(function).items():
        with suppress(Exception):
            alone = SimpleNamespace(__annotations__={name: annotation})
            types[name] = get_type_hints(alone, getattr(function, "__globals__", {}))[name]
    return types


def to_record(value: Any) -> Any:
    """An option as it is kept in the record: numbers and words as they are, tensors by their shape."""
    if isinstance(value, Tensor):
        return f"<tensor {' x '.join(map(str, value.shape))}>"
    if isinstance(value, Mapping) and all(isinstance(item, (Rule, Schedule)) for item in value.values()):
        return written(value)
    if isinstance(value, (list, tuple)):
        return tuple(map(to_record, value))
    if hasattr(value, "__name__"):
        return value.__name__
    return value if isinstance(value, (int, float, str, bool, tuple, type(None))) else str(value)
