"""@verb: what all verbs have in common, from the checks before to the record after.

The decorators of the families (`attribution`, `attack`, `synthesis`, `projection`) extend it; any other function that
users call is decorated with it directly.
"""

from __future__ import annotations

import functools
import inspect
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ParamSpec, TypeVar

from ..checks import check_network
from ..model.classifier import classifier, name_of, network
from ..model.run import counted
from .options import checked, option_types, to_record
from .registry import Kind, Traits, register
from .result import Call, Result

P = ParamSpec("P")
R = TypeVar("R")

UNRECORDED = frozenset({"folder", "overwrite", "on_message"})  # options on which no number depends


def verb(
    *, kind: Kind = "other", paper: str = "", traits: Traits | None = None
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Make a plain function `f(..., *, options...)` a verb of pellucid.

    Options of a wrong name or type are refused in words, a `model` may be anything that can be called, the time is
    taken and the passes are counted, and where the result has a field `call` that is filled in: what the function
    leaves out of its `Call` is what was given. The function is put into the catalogue.

    Args:
        kind: see `Method`.
        paper: authors, year and title.
        traits: what is special about it.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        return made(function, of=function, kind=kind, paper=paper, traits=traits)

    return decorate


def made(
    body: Callable[..., R],
    *,
    of: Callable[..., Any],
    kind: Kind,
    paper: str,
    traits: Traits | None = None,
    signature: inspect.Signature | None = None,
    types: Mapping[str, Any] | None = None,
) -> Callable[..., R]:
    """What users call in place of a function, for the decorators of the families.

    Args:
        body: does the work, with all arguments valid and in their places.
        of: the function that was written, for its name, docstring and annotations.
        kind, paper, traits: see `verb`.
        signature: what users give; by default that of `of`.
        types: of the options, by name; by default the annotations of `of`.
    """
    shape = signature or inspect.signature(of)
    name, known = of.__name__, option_types(of) if types is None else types
    parameters = shape.parameters.values()
    free = any(p.kind is p.VAR_KEYWORD for p in parameters)  # options that are handed on
    by_place = {p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD}
    options = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    recorded = [option for option in options if option not in UNRECORDED]

    @functools.wraps(of)
    def call(*positional: Any, **given: Any) -> R:
        asked = {
            option: value for option, value in given.items()
            if option in options or not (free or option in by_place)
        }  # fmt: skip
        passed = {option: value for option, value in given.items() if option not in asked}
        asked = checked(name, asked, options, known)
        try:
            bound = shape.bind(*positional, **passed, **asked)
        except TypeError as error:
            raise TypeError(f"{name}: {error}") from None
        bound.apply_defaults()
        model = bound.arguments.get("model")
        if model is not None:
            model = bound.arguments["model"] = classifier(model) or model
            check_network(network(model))
        start = time.perf_counter()
        with counted() as passes:
            result = body(*bound.args, **bound.kwargs)
        if not isinstance(result, Result) or not hasattr(result, "call"):
            return result
        part: Call = result.call or Call()
        record = Call(
            method=part.method or name,
            options=part.options or {option: to_record(bound.arguments[option]) for option in recorded},
            objective=part.objective,
            model=part.model or ("" if model is None else name_of(model)),
            paper=part.paper or paper,
            seconds=time.perf_counter() - start if math.isnan(part.seconds) else part.seconds,
            forward=passes.forward if part.forward < 0 else part.forward,
            backward=passes.backward if part.backward < 0 else part.backward,
        )
        return replace(result, call=record)  # type: ignore[call-arg]

    call.__signature__ = shape  # type: ignore[attr-defined]
    register(call, of, kind=kind, paper=paper, traits=traits)
    return call
