"""@attribution: what every attribution has in common, from the checks before to the record after."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import Tensor

from ...checks import nan_weights
from ...methods.registry import Traits
from ...methods.result import Attribution, Call
from ...methods.verb import made
from ...model.classifier import check_input, network
from ...model.run import Model
from ...objectives import as_objective, resolve


def attribution(
    *,
    paper: str,
    one_pass: bool = False,
    gradient: bool = True,
    objective: bool = True,
    logits_only: bool = False,
    layer_map: bool = False,
) -> Callable[[Callable[..., Attribution]], Callable[..., Attribution]]:
    """Make a plain function an attribution.

    The function is written as `f(model, images, objective, *, options...)` and may rely on images that are valid, a
    network in evaluation mode and an objective that is bound. What users call takes any model and an objective in any
    form, gives errors in their words, and returns the result with the call that made it.

    Args:
        paper: authors, year and title.
        one_pass: the function's first pass sees the images themselves, so that the predicted class is found there and
            needs no pass of its own.
        gradient: it takes gradients of the network.
        objective: it looks at the objective; if not, its map is the same for all classes.
        logits_only: it is defined for sums of logits alone, and refuses all else.
        layer_map: it works on the maps of a layer, and has an option `layer`.
    """

    def decorate(function: Callable[..., Attribution]) -> Callable[..., Attribution]:
        shape = inspect.signature(function)
        parameters = [
            p.replace(default=None, annotation="ObjectiveLike") if p.name == "objective" else p
            for p in shape.parameters.values()
        ]

        def body(model: Model, images: Tensor, target: Any, **options: Any) -> Attribution:
            check_input(model, images)
            bound = as_objective(model, target).bind(model, len(images))
            if not one_pass:
                resolve(model, images, bound)
            result = function(model, images, bound, **options)
            if not result.values.isfinite().all():
                raise ValueError(f"{function.__name__} of {bound} gave NaN or infinity{nan_weights(network(model))}")
            values = result.values.to(images.dtype)
            return replace(result, values=values, images=images.detach(), call=Call(objective=str(bound)))

        return made(
            body,
            of=function,
            kind="attribution",
            paper=paper,
            traits=Traits(one_pass, gradient, objective, logits_only, layer_map),
            signature=shape.replace(parameters=parameters),
        )

    return decorate
