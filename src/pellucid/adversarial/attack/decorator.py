"""@attack: what every attack has in common, from the checks before to the record after."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ...checks import check_images, warn
from ...methods.options import option_types, to_record
from ...methods.registry import Traits
from ...methods.result import Call
from ...methods.verb import made
from ...model.classifier import Classifier
from ...model.run import Model
from ...objectives import Target, as_classes
from .batches import over_batches
from .diagnostics import emit_warnings
from .result import Attack
from .resumable import in_folder
from .transformations import Transformations

KEYWORD, PLACE = inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD
FIRST = [
    inspect.Parameter("model", PLACE, annotation="Model"),
    inspect.Parameter("images", PLACE, annotation="Tensor"),
    inspect.Parameter("labels", PLACE, default=None, annotation="Target"),
]
COMMON: dict[str, Any] = {
    "target": Target, "bounds": None | tuple[float, float], "seed": int, "folder": str | Path | None,
    "transformations": Transformations | None,
}  # fmt: skip
TARGET = inspect.Parameter("target", KEYWORD, default=None, annotation="Target")
BOUNDS = inspect.Parameter("bounds", KEYWORD, default=None, annotation="tuple[float, float] | None")
TRANSFORMATIONS = inspect.Parameter("transformations", KEYWORD, default=None, annotation="Transformations | None")
FOLDER = inspect.Parameter("folder", KEYWORD, default=None, annotation="str | Path | None")
SEED = inspect.Parameter("seed", KEYWORD, default=0, annotation="int")


def attack(
    *,
    paper: str,
    target: Literal["optional", "required", "never"] = "optional",
    from_images: Callable[[Mapping[str, Any]], bool] = lambda _: False,
    transformations: bool = False,
    gradient: bool = True,
    steps_in_pixels: bool = False,
) -> Callable[[Callable[..., Tensor]], Callable[..., Attack]]:
    """Make a plain function an attack.

    The function is written as `f(case, *, options...)` and returns n x C x H x W images for those of the case, all
    of which are correctly classified before. It need not round, count or report. What users call is
    `f(model, images, labels=None, *, target=None, options..., bounds=None, seed=0, folder=None)`: it checks, cuts the
    images into batches, leaves out what is misclassified, holds the budget exactly where there is an option `eps`,
    looks at what the network makes of the images found, keeps that if there is a folder, and records the call in an
    `Attack`.

    Args:
        paper: authors, year and title.
        target: "optional", "required" or "never".
        from_images: tells from the options whether the attack begins with a gradient at the images themselves;
            the pass that predicts their classes then serves for it.
        transformations: whether there is an option `transformations`: all passes of the attack then are through these.
        gradient: it takes gradients of the network.
        steps_in_pixels: the lengths of its steps are in pixels: it depends on the scale of the images.
    """

    def decorate(function: Callable[..., Tensor]) -> Callable[..., Attack]:
        name = function.__name__
        own = [p for p in inspect.signature(function).parameters.values() if p.kind is KEYWORD]
        extra = [
            *([] if target == "never" else [TARGET]),
            *own,
            *([TRANSFORMATIONS] if transformations else []),
            BOUNDS,
            SEED,
            FOLDER,
        ]
        known = COMMON | option_types(function)
        types = {p.name: known[p.name] for p in extra}

        def body(model: Model, images: Tensor, labels: Target, **options: Any) -> Attack:
            if target == "required" and options["target"] is None:
                raise TypeError(f"{name} needs a target: the class, by index or label, to be taken for")
            bounds = check_pixels(model, images, options["bounds"])
            if "eps" in options:
                check_budget(options["eps"], options.get("norm", "linf"), bounds, images[0].numel())
            right, goal = check_classes(model, labels, options.get("target"), len(images))
            chosen, seen = {p.name: options[p.name] for p in own}, options.get("transformations")

            def over(part: slice) -> dict[str, Any]:
                return over_batches(
                    lambda case: function(case, **chosen), model, images[part].detach(), right[part],
                    None if goal is None else goal[part],
                    budget=(options.get("eps"), options.get("norm", "linf")), bounds=bounds, seed=options["seed"],
                    keep=from_images(options) and seen is None, name=name.replace("_", " "), transformations=seen,
                )  # fmt: skip

            passes = None
            if options["folder"] is None:
                fields = over(slice(None))
            else:
                kept = {**chosen, "bounds": list(bounds), **({"transformations": asdict(seen)} if seen else {})}
                fields, passes = in_folder(
                    options["folder"], over, model, images, right, goal, verb=name, options=kept, seed=options["seed"]
                )
            fields = emit_warnings(fields)
            record = Call(
                options={option: to_record(value) for option, value in options.items() if _recorded(option, value)},
                objective=_aim(model, labels, fields["targets"]),
            )
            if passes is not None:  # of the former runs in the folder too
                record = replace(record, forward=passes.forward, backward=passes.backward)
            names = model.labels if isinstance(model, Classifier) else ()
            return Attack(originals=images.detach(), names=names, call=record, **fields)

        defaults = {p.name: p.default for p in extra}
        call = made(
            body,
            of=function,
            kind="attack",
            paper=paper,
            traits=Traits(
                gradient=gradient, target=target, from_images=from_images(defaults), steps_in_pixels=steps_in_pixels
            ),
            signature=inspect.Signature([*FIRST, *extra], return_annotation="Attack"),
            types=types,
        )
        # The options that all attacks share are nowhere in the function itself.
        call.__annotations__ = {**types, "return": Attack}
        del call.__wrapped__  # type: ignore[attr-defined]
        return call

    return decorate


def check_pixels(model: Model, images: Tensor, bounds: tuple[float, float] | None) -> tuple[float, float]:
    """Refuse images outside the bounds; the bounds."""
    if isinstance(model, Classifier):
        if bounds is not None and tuple(bounds) != (0, 1):
            raise ValueError(f"bounds is {bounds!r}, and a Classifier takes pixels in [0, 1]: leave it out")
        with warnings.catch_warnings():  # of what lies a little outside, which is refused below
            warnings.simplefilter("ignore")
            check_images(images, channels=model.preprocessing.channels, pixels=True)
    else:
        check_images(images)
    low, high = (0.0, 1.0) if bounds is None else (float(bounds[0]), float(bounds[1]))
    if not low < high:
        raise ValueError(f"bounds is {bounds!r}, expected the lowest and the highest value of a pixel")
    least, most = (value.item() for value in torch.aminmax(images.detach()))
    if least < low or most > high:
        remedy = ""
        if not isinstance(model, Classifier) and bounds is None:
            remedy = ": give pixels, wrap the network with its mean and std (pellucid.wrap), or say bounds=(low, high)"
        raise ValueError(f"images have values from {least:.4g} to {most:.4g}, expected [{low:g}, {high:g}]{remedy}")
    if 0 < most - low <= 1.5 * (high - low) / 255:
        warn(
            f"images have values from {least:.4g} to {most:.4g}, nearly black in [{low:g}, {high:g}]: were they "
            "divided by 255 twice?"
        )
    return low, high


def check_budget(eps: float, norm: str, bounds: tuple[float, float], size: int) -> None:
    """Refuse a budget that allows nothing, or everything."""
    if not eps > 0:
        raise ValueError(f"eps is {eps:g}, expected a budget above 0, such as {'8/255' if norm == 'linf' else '0.5'}")
    most = (bounds[1] - bounds[0]) * {"linf": 1.0, "l2": size**0.5, "l1": float(size)}[norm]
    if eps >= most:
        hint = f": for {eps:g} steps of 255 say {eps:g}/255" if norm == "linf" and eps <= 255 and most <= 1 else ""
        raise ValueError(f"eps is {eps:g}: in {norm} any image lies within {most:.4g} of any other{hint}")


def check_classes(model: Model, labels: Target, target: Target, count: int) -> tuple[Tensor, Tensor | None]:
    """Labels and targets as N classes each; -1 where the label is the predicted class."""
    right = as_classes(model, labels, count)
    goal = None if target is None else as_classes(model, target, count)
    if goal is not None and (goal == right).all():
        raise ValueError("the target is the label of every image: say another class to be taken for")
    return right, goal


def _recorded(option: str, value: Any) -> bool:
    """Whether an option belongs into the record of a call."""
    return option not in ("target", "folder") and not (value is None and option in ("transformations", "bounds"))


def _aim(model: Model, labels: Target, targets: Tensor | None) -> str:
    if targets is None:
        return "away from the predicted class" if labels is None else "away from the label"
    found = targets.unique().tolist()
    names = [model.label(i).partition(", ")[0] if isinstance(model, Classifier) else str(i) for i in found[:3]]
    return f"to {', '.join(names)}{', ...' if len(found) > 3 else ''}"
