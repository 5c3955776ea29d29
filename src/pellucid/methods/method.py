"""@method: what every method has in common, and the catalogue of all of them."""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, TypeVar, get_type_hints

import numpy as np
import torch
from torch import Tensor

from ..checks import check_images, check_network, fits, in_words, nan_weights, nearest, of_kind
from ..model.batches import batched
from ..model.classifier import Classifier, classifier, network
from ..model.run import Model, counted, device_of, run
from ..objectives import Bound, as_objective
from ..rules import Rule, Schedule
from ..rules.presets import written
from .result import Attribution, Call

R = TypeVar("R", bound=Attribution)
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Method:
    """An entry of the catalogue.

    name: of the function in `pellucid`. family: the folder that it is in. summary: its first line.
    paper: authors, year and title. function: to be called as (model, images, objective, **options).
    one_pass: it takes one pass over each image, so that it is quick.
    """

    name: str
    family: str
    summary: str
    paper: str
    function: Callable[..., Any]
    one_pass: bool

    @property
    def options(self) -> dict[str, Any]:
        """Names and defaults of its options."""
        parameters = inspect.signature(self.function).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}

    @property
    def kinds(self) -> Mapping[str, Any]:
        """Of what type its options are, by name, as far as its annotations say."""
        given = inspect.signature(self.function).parameters.values()
        added = {p.name: p.annotation for p in given if p.kind is p.KEYWORD_ONLY and not isinstance(p.annotation, str)}
        return added | kinds_of(inspect.unwrap(self.function))


CATALOGUE: dict[str, Method] = {}


def method(*, paper: str, one_pass: bool = False) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """Make a plain function a method of pellucid.

    The function is written as `f(model, images, objective, *, options...)` and may rely on images that are
    valid, a network in evaluation mode and an objective that is bound. What users call takes any model,
    an objective in any form, gives errors in their words, and returns the result with the call that made it.

    Args:
        paper: authors, year and title.
        one_pass: the function's first pass sees the images themselves, so that the predicted class is
            found there and needs no pass of its own.
    """

    def register(function: Callable[..., R]) -> Callable[..., R]:
        signature = inspect.signature(function)
        defaults = {p.name: p.default for p in signature.parameters.values() if p.kind is p.KEYWORD_ONLY}
        name = function.__name__

        @functools.wraps(function)
        def call(model: Model, images: Tensor, objective: Any = None, **given: Any) -> R:
            given = checked(name, given, defaults, kinds_of(function))
            model = classifier(model) or model
            net = network(model)
            check_network(net)
            if isinstance(model, Classifier):
                check_images(images, channels=model.preprocessing.channels, pixels=True)
            else:
                check_images(images)
            start = time.perf_counter()
            with counted() as passes:
                bound = as_objective(model, objective).bind(model, len(images))
                if not one_pass:
                    resolve(model, images, bound)
                result = function(model, images, bound, **given)
            if not result.values.isfinite().all():
                raise ValueError(f"{name} of {bound} gave NaN or infinity{nan_weights(net)}")
            arguments = signature.bind(model, images, bound, **given)
            arguments.apply_defaults()
            record = Call(
                method=name,
                options={option: plain(arguments.arguments[option]) for option in defaults},
                objective=str(bound),
                model=model.name if isinstance(model, Classifier) else type(net if net is not None else model).__name__,
                paper=paper,
                seconds=time.perf_counter() - start,
                forward=passes.forward,
                backward=passes.backward,
            )
            return replace(result, values=result.values.to(images.dtype), images=images.detach(), call=record)

        parameters = [
            p.replace(default=None, annotation=Any) if p.name == "objective" else p
            for p in signature.parameters.values()
        ]
        call.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        family = function.__module__.split(".")[1]
        summary = (inspect.getdoc(function) or "").partition("\n")[0]
        CATALOGUE[name] = Method(name, family, summary, paper, call, one_pass)
        return call

    return register


def checked(
    name: str, given: Mapping[str, Any], defaults: Mapping[str, Any], kinds: Mapping[str, Any]
) -> dict[str, Any]:
    """The options of a call, numbers of numpy as Python's.

    Args:
        name: of the function. given: by the caller. defaults: all options that there are. kinds: their types.

    Raises:
        TypeError: for an option that there is not, or a value that is not of its type.
    """
    for option in given:
        if option not in defaults:
            known = nearest(option, defaults) if defaults else "it has no options"
            raise TypeError(f"{name} has no option {option!r}; {known}")
    given = {k: v.item() if isinstance(v, np.generic) else v for k, v in given.items()}
    for option, value in given.items():
        kind = kinds.get(option, Any)
        if value is not defaults[option] and not fits(value, kind):
            raise TypeError(f"{name}: {option} is {of_kind(value)}, expected {in_words(kind)}")
    return given


def options_checked(function: F) -> F:
    """A function whose options are refused in words if there are none of that name, or of another type."""
    parameters = inspect.signature(function).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    places = {p.name for p in parameters if p.kind is not p.KEYWORD_ONLY}  # which may be given by name, too

    @functools.wraps(function)
    def call(*args: Any, **given: Any) -> Any:
        options = {name: value for name, value in given.items() if name not in places}
        return function(*args, **given | checked(function.__name__, options, defaults, kinds_of(function)))

    return call  # type: ignore[return-value]


@functools.cache
def kinds_of(function: Callable[..., Any]) -> dict[str, Any]:
    """The annotations of a function that can be understood, each on its own: one may name what is not imported."""
    kinds = {}
    for name, annotation in inspect.get_annotations(function).items():
        with suppress(Exception):
            alone = SimpleNamespace(__annotations__={name: annotation})
            kinds[name] = get_type_hints(alone, getattr(function, "__globals__", {}))[name]
    return kinds


def resolve(model: Model, images: Tensor, objective: Bound) -> None:
    """Fix the predicted classes of an objective by a pass over the original images, if it has any open."""
    if not objective.open():
        return

    def step(part: slice) -> None:
        objective(run(model, images[part], read=objective.reads, rows=torch.arange(part.start, part.stop)))

    with torch.no_grad():
        batched(step, len(images), like=images, label="predict", device=device_of(model))


def plain(value: Any) -> Any:
    """An option as it is kept in the record: numbers and words as they are, tensors by their shape."""
    if isinstance(value, Tensor):
        return f"<tensor {' x '.join(map(str, value.shape))}>"
    if isinstance(value, Mapping) and all(isinstance(item, (Rule, Schedule)) for item in value.values()):
        return written(value)
    if isinstance(value, (list, tuple)):
        return tuple(map(plain, value))
    if hasattr(value, "__name__"):
        return value.__name__
    return value if isinstance(value, (int, float, str, bool, tuple, type(None))) else str(value)
