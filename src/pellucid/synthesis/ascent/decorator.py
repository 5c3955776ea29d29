"""@synthesis: what every verb that makes images by ascent has in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, ParamSpec

import torch

from ...methods.result import Call
from ...methods.verb import made
from .result import Synthesis

P = ParamSpec("P")


def synthesis(*, paper: str) -> Callable[[Callable[P, Synthesis]], Callable[P, Synthesis]]:
    """Make a function `f(model, ..., *, options)` a verb of this family: gradients are on in it, whatever is set
    outside, and its record says what was ascended.

    Args:
        paper: authors, year and title.
    """

    def decorate(function: Callable[P, Synthesis]) -> Callable[P, Synthesis]:
        def body(*positional: Any, **options: Any) -> Synthesis:
            with torch.inference_mode(False):
                result = function(*positional, **options)
            of = tuple(dict.fromkeys(result.titles))
            objective = of[0] if len(of) == 1 else f"{len(of)} objectives: {', '.join(of[:3])}, ..."
            return replace(result, call=replace(result.call or Call(), objective=objective))

        return made(body, of=function, kind="synthesis", paper=paper)

    return decorate
