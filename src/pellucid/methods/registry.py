"""The catalogue: every verb, what is special about it, and its options."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from ..names import UnknownName, nearest
from .options import option_types

Kind: TypeAlias = Literal["attribution", "attack", "synthesis", "projection", "metric", "other"]


@dataclass(frozen=True)
class Traits:
    """What is special about a method, for whoever runs all of them: pages, tests, benchmarks.

    one_pass: it takes one pass over each image, so that it is quick.
    gradient: it takes gradients of the network.
    objective: it looks at the objective; if not, its map is the same for all classes.
    logits_only: it is defined for sums of logits alone.
    layer_map: it works on the maps of a layer, as class activation maps do, and has an option `layer`.
    target: whether an attack takes a class to be taken for: "optional", "required" or "never".
    from_images: by its default options, an attack begins with a gradient at the images themselves.
    steps_in_pixels: the lengths of its steps are in pixels, so that it depends on the scale of the images.
    """

    one_pass: bool = False
    gradient: bool = True
    objective: bool = True
    logits_only: bool = False
    layer_map: bool = False
    target: Literal["optional", "required", "never"] = "optional"
    from_images: bool = False
    steps_in_pixels: bool = False


@dataclass(frozen=True)
class Method:
    """An entry of the catalogue.

    name: of the function. family: the folder that it is in. summary: its first line.
    paper: authors, year and title; empty where there is none. function: what users call.
    kind: how it is called: an "attribution" as (model, images, objective, **options), an "attack" as (model, images,
        labels, **options), a "synthesis" as (model, ..., **options), a "projection" as (features, dimensions,
        **options), a "metric" and any "other" by their own signature.
    """

    name: str
    family: str
    summary: str
    paper: str
    function: Callable[..., Any]
    kind: Kind = "other"
    traits: Traits = field(default_factory=Traits)

    @property
    def options(self) -> dict[str, Any]:
        """Names and defaults of its options."""
        parameters = inspect.signature(self.function).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is not p.empty}

    @property
    def option_types(self) -> Mapping[str, Any]:
        """Of what type its options are, by name, as far as its annotations say."""
        given = inspect.signature(self.function).parameters.values()
        added = {p.name: p.annotation for p in given if p.kind is p.KEYWORD_ONLY and not isinstance(p.annotation, str)}
        return added | option_types(inspect.unwrap(self.function))


CATALOGUE: dict[str, Method] = {}


def register(
    function: Callable[..., Any], of: Callable[..., Any], *, kind: Kind, paper: str, traits: Traits | None = None
) -> None:
    """Put into the catalogue what users call, by the name, folder and docstring of the function that it is made of."""
    family = of.__module__.split(".")[1]
    summary = (inspect.getdoc(of) or "").partition("\n")[0]
    CATALOGUE[of.__name__] = Method(of.__name__, family, summary, paper, function, kind, traits or Traits())


def of_kind(kind: Kind) -> dict[str, Method]:
    """The methods of a kind, by name.

    >>> "saliency" in of_kind("attribution"), "saliency" in of_kind("attack")
    (True, False)
    """
    return {name: entry for name, entry in CATALOGUE.items() if entry.kind == kind}


def find(kind: Kind, name: str) -> Method:
    """A method by its kind and name.

    Raises:
        UnknownName: if there is none.
    """
    known = of_kind(kind)
    if name not in known:
        what = "attack" if kind == "attack" else "method"
        raise UnknownName(f"there is no {what} {name!r}; {nearest(str(name), known)}")
    return known[name]
