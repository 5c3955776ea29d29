"""@projection: what every projection to few dimensions has in common, from the checks before to the record after."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from torch import Tensor

from ...methods.options import option_types, to_record
from ...methods.result import Call
from ...methods.verb import made
from ..sweeps.features_result import Features
from .embedding import Embedding, check_dimensions
from .points import Array, Labels, points

KEYWORD, PLACE = inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD
KNOWN: dict[str, Any] = {"labels": Labels, "names": Sequence[str], "images": Tensor | None}
FIRST = [
    inspect.Parameter("features", PLACE, annotation="Features | Tensor | Array"),
    inspect.Parameter("dimensions", PLACE, default=2, annotation="int"),
]
LAST = [
    inspect.Parameter(option, KEYWORD, default=() if option == "names" else None, annotation=kind)
    for option, kind in KNOWN.items()
]


def projection(
    *, paper: str, fitted: Mapping[str, Callable[[Any, int], Any]] = MappingProxyType({})
) -> Callable[[Callable[..., Embedding]], Callable[..., Embedding]]:
    """Make a function `f(points, dimensions, *, options)` of `Points` a projection.

    What users call is `f(features, dimensions=2, *, options..., labels=None, names=(), images=None)`: it takes
    `Features`, a tensor or an array, refuses in words what has no embedding, and records the call.

    Args:
        paper: authors, year and title.
        fitted: by option, what becomes of it with so many points; it refuses what cannot be.
    """

    def decorate(function: Callable[..., Embedding]) -> Callable[..., Embedding]:
        own = [p for p in inspect.signature(function).parameters.values() if p.kind is KEYWORD]

        def body(features: Features | Tensor | Array, dimensions: int, **options: Any) -> Embedding:
            found = points(features, **{option: options.pop(option) for option in KNOWN})
            check_dimensions(dimensions, found, function.__name__)
            options |= {option: fit(options[option], len(found.values)) for option, fit in fitted.items()}
            recorded = {"dimensions": dimensions, **{option: to_record(value) for option, value in options.items()}}
            call = Call(options=recorded, objective=found.layer or "points", model=found.model or "an array")
            return replace(function(found, dimensions, **options), call=call)

        returns = inspect.signature(function).return_annotation
        return made(
            body,
            of=function,
            kind="projection",
            paper=paper,
            signature=inspect.Signature([*FIRST, *own, *LAST], return_annotation=returns),
            types=KNOWN | option_types(function),
        )

    return decorate
