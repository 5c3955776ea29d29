"""@projection: what every embedding has in common, from the checks before to the record after."""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from torch import Tensor

from ...methods.method import CATALOGUE, Method, checked, kinds_of, plain
from ...methods.result import Call
from ..features import Features
from .embedding import Embedding, check_dimensions
from .points import Array, Labels, points

PROJECTIONS: list[str] = []
"""The names of all embeddings."""
KEYWORD = inspect.Parameter.KEYWORD_ONLY
KNOWN: dict[str, Any] = {"labels": Labels, "names": Sequence[str], "images": Tensor | None}


def projection(
    *, paper: str, fitted: Mapping[str, Callable[[Any, int], Any]] = MappingProxyType({})
) -> Callable[[Callable[..., Embedding]], Callable[..., Embedding]]:
    """Make a function `f(points, dimensions, *, options)` of `Points` an embedding.

    What users call is `f(features, dimensions=2, *, options..., labels=None, names=(), images=None)`: it takes
    `Features`, a tensor or an array, refuses in words what has no embedding, and records the call.

    Args:
        paper: authors, year and title.
        fitted: by option, what becomes of it with so many points; it refuses what cannot be.
    """

    def register(function: Callable[..., Embedding]) -> Callable[..., Embedding]:
        name, kinds = function.__name__, KNOWN | kinds_of(function)
        own = [p for p in inspect.signature(function).parameters.values() if p.kind is KEYWORD]
        defaults = {p.name: p.default for p in own} | {"labels": None, "names": (), "images": None}

        @functools.wraps(function)
        def call(features: Features | Tensor | Array, dimensions: int = 2, **given: Any) -> Embedding:
            options = checked(name, given, defaults, kinds)
            about = {key: options.pop(key) for key in KNOWN if key in options}
            found = points(features, **about)
            check_dimensions(dimensions, found, name)
            options = {p.name: options.get(p.name, p.default) for p in own}
            options |= {key: fit(options[key], len(found.values)) for key, fit in fitted.items()}
            start = time.perf_counter()
            result = function(found, dimensions, **options)
            record = Call(
                method=name,
                options={"dimensions": dimensions, **{key: plain(value) for key, value in options.items()}},
                objective=found.layer or "points",
                model=found.model or "an array",
                paper=paper,
                seconds=time.perf_counter() - start,
                forward=0,
                backward=0,
            )
            return replace(result, call=record)

        first = [
            inspect.Parameter(
                "features", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation="Features | Tensor | Array"
            ),
            inspect.Parameter("dimensions", inspect.Parameter.POSITIONAL_OR_KEYWORD, default=2, annotation="int"),
        ]
        last = [inspect.Parameter(key, KEYWORD, default=defaults[key], annotation=kind) for key, kind in KNOWN.items()]
        returns = inspect.signature(function).return_annotation
        call.__signature__ = inspect.Signature([*first, *own, *last], return_annotation=returns)  # type: ignore[attr-defined]
        summary = (inspect.getdoc(function) or "").partition("\n")[0]
        PROJECTIONS.append(name)
        CATALOGUE[name] = Method(name, "representation", summary, paper, call, one_pass=False)
        return call

    return register
