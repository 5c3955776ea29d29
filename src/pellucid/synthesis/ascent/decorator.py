"""What the verbs of this family share: checked options, and the record of a call."""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Callable
from dataclasses import replace
from typing import ParamSpec

import torch

from ...checks import check_network
from ...methods.method import CATALOGUE, Method, checked, kinds_of, plain
from ...methods.result import Call
from ...model.classifier import Classifier, classifier, network
from ...model.run import counted
from .result import Synthesis

P = ParamSpec("P")


def verb(*, paper: str) -> Callable[[Callable[P, Synthesis]], Callable[P, Synthesis]]:
    """Make a function `f(model, ..., *, options)` one that checks its options and records how it was called.

    Args:
        paper: authors, year and title.
    """

    def decorate(function: Callable[P, Synthesis]) -> Callable[P, Synthesis]:
        signature = inspect.signature(function)
        defaults = {p.name: p.default for p in signature.parameters.values() if p.kind is p.KEYWORD_ONLY}
        asked = signature.parameters.keys() - defaults  # model, images, objective: in order, or by name
        name, kinds = function.__name__, kinds_of(function)

        @functools.wraps(function)
        def call(*positional: P.args, **given: P.kwargs) -> Synthesis:
            named = {key: value for key, value in given.items() if key in asked}
            options = checked(name, {k: v for k, v in given.items() if k not in asked}, defaults, kinds)
            bound = signature.bind(*positional, **named, **options)
            bound.apply_defaults()
            model = bound.arguments["model"]
            model = bound.arguments["model"] = classifier(model) or model
            net = network(model)
            check_network(net)
            start = time.perf_counter()
            with counted() as passes, torch.inference_mode(False):
                result = function(*bound.args, **bound.kwargs)
            of = tuple(dict.fromkeys(result.titles))
            record = Call(
                method=name,
                options={option: plain(bound.arguments[option]) for option in defaults},
                objective=of[0] if len(of) == 1 else f"{len(of)} objectives: {', '.join(of[:3])}, ...",
                model=model.name if isinstance(model, Classifier) else type(net if net is not None else model).__name__,
                paper=paper,
                seconds=time.perf_counter() - start,
                forward=passes.forward,
                backward=passes.backward,
            )
            return replace(result, call=record)

        summary = (inspect.getdoc(function) or "").partition("\n")[0]
        CATALOGUE[name] = Method(name, "synthesis", summary, paper, call, one_pass=False)
        return call

    return decorate
