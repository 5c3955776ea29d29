"""Objectives about classes: a logit, a probability, a contrast."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import index
from typing import Any

import torch
from torch import Tensor

from ..checks import UnknownName
from ..model.classifier import Classifier
from ..model.run import Model, Trace
from .algebra import Objective, Term

Target = int | str | Tensor | Sequence[int] | Sequence[str] | None


def logit(target: Target = None) -> Objective:
    """The output of a class, before any softmax.

    Args:
        target: index or label of a class, or one for each image (LongTensor or list of N); None is the
            class predicted for the original image.

    >>> logit("castle")
    logit("castle")
    """
    return _of_class("logit", target, lambda outputs: outputs)


def probability(target: Target = None) -> Objective:
    """The softmax probability of a class, in [0, 1]; `target` as for `logit`.

    >>> probability(3)
    probability(3)
    """
    return _of_class("probability", target, lambda outputs: outputs.softmax(1))


def log_probability(target: Target = None) -> Objective:
    """The logarithm of the softmax probability of a class; `target` as for `logit`.

    >>> log_probability([3, 4])
    log_probability([3, 4])
    """
    return _of_class("log_probability", target, lambda outputs: outputs.log_softmax(1))


def contrast(target: Target, against: Target) -> Objective:
    """How far the logit of one class lies above that of another.

    >>> contrast("koala", "castle")
    contrast("koala", "castle")
    """
    difference = logit(target) - logit(against)
    text = f"contrast({_text(target)}, {_text(against)})"

    def prepare(model: Model, count: int) -> Term:
        term = difference.prepare(model, count)
        settled = target is not None and against is not None
        return Term(term.evaluate, (lambda: text) if settled else (lambda: f"({term.describe()})"), term.unresolved)

    return Objective(text, prepare, needs_output=True, of_classes=True)


def as_classes(model: Model, target: Target, count: int) -> Tensor:
    """The class of each image as N whole numbers; -1 where it is the predicted one, not yet known."""
    if target is None:
        return torch.full((count,), -1)
    if isinstance(target, Tensor) and (target.is_floating_point() or target.dtype == torch.bool):
        raise TypeError(f"classes are {target.dtype}, expected whole numbers")
    if isinstance(target, Tensor) and target.ndim > 1:
        raise ValueError(f"classes have the shape {tuple(target.shape)}, expected one number for each image")
    many = target.tolist() if isinstance(target, Tensor) else target
    if isinstance(many, (int, str)):
        many = [many] * count
    if len(many) != count:
        raise ValueError(f"got {len(many)} classes for {count} images: give one class, or one for each image")
    indices = [_index(model, item) for item in many]
    if min(indices) < 0:
        raise ValueError(f"class {min(indices)} is below 0: classes are counted from 0")
    return torch.tensor(indices)


def _of_class(kind: str, target: Target, squash: Callable[[Tensor], Tensor]) -> Objective:
    text = f"{kind}({_text(target)})"

    def prepare(model: Model, count: int) -> Term:
        classes = as_classes(model, target, count)

        def of(trace: Trace) -> Tensor:
            outputs = _outputs(trace.output)
            if outputs.shape[1] == 1 and kind != "logit":
                raise ValueError(
                    f"the network has a single output, and the softmax of one number is always 1: use logit(0) "
                    f"instead of {text}"
                )
            mine = classes[trace.rows.to(classes.device)]
            if (mine < 0).any():  # the predicted class: fixed at the first pass, which sees the original images
                mine = torch.where(mine < 0, outputs.detach().argmax(1).to(mine.device), mine)
                classes[trace.rows] = mine
            if int(mine.max()) >= outputs.shape[1]:
                raise ValueError(
                    f"class {int(mine.max())} is out of range: the network has {outputs.shape[1]} classes, "
                    f"0 to {outputs.shape[1] - 1}"
                )
            return squash(outputs).gather(1, mine.to(outputs.device)[:, None])[:, 0]

        def describe() -> str:
            if target is not None or (classes < 0).any():
                return text
            names = [_text(model.label(i)) if isinstance(model, Classifier) and model.labels else str(i)
                     for i in classes[:4].tolist()]  # fmt: skip
            if len(classes) == 1:
                return f"{kind}({names[0]})"
            return f"{kind}([{', '.join(names[:3])}{', ...' if len(classes) > 3 else ''}])"

        return Term(of, describe, lambda: bool((classes < 0).any()))

    return Objective(text, prepare, needs_output=True, of_classes=True)


def _index(model: Model, item: Any) -> int:
    if isinstance(item, str):
        if isinstance(model, Classifier):
            return model.index(item)
        raise UnknownName(f"the label {item!r} needs a model with labels: pellucid.wrap(net, labels=[...])")
    try:
        return index(item)
    except TypeError:
        raise TypeError(f"a class is {item!r}, expected a whole number or a label") from None


def _outputs(output: Any) -> Tensor:
    if isinstance(output, Tensor) and output.ndim == 2:
        return output
    example = "objective=lambda output: output[0][:, 3]"
    if isinstance(output, dict):
        got = f"a dict with {', '.join(map(repr, list(output)[:4]))}"
        example = f"objective=lambda output: output[{next(iter(output), 'key')!r}][:, 3]"
    elif isinstance(output, Tensor):
        got = f"a tensor of shape {' x '.join(map(str, output.shape))}"
        if output.ndim == 4:
            example = "objective=lambda output: output[:, 3, 50, 60] for class 3 at one pixel"
        elif output.ndim == 1:
            example = "objective=lambda output: output"
    else:
        got = f"an object of type {type(output).__name__}"
        named = [n for n in ("logits", "out", "output") if isinstance(getattr(output, n, None), Tensor)]
        example = f"objective=lambda output: output.{named[0]}[:, 3]" if named else example
    raise ValueError(
        f"the network returns {got}, and a class is defined for N x K: say what to explain with a function of the "
        f"output that gives one number per image, as in {example}"
    )


def _text(target: Target) -> str:
    if target is None:
        return "predicted"
    if isinstance(target, Tensor):
        target = target.tolist() if target.ndim else int(target)
    if isinstance(target, (list, tuple)):
        shown = ", ".join(_text(item) for item in target[:3])
        return f"[{shown}{', ...' if len(target) > 3 else ''}]"
    return f'"{target}"' if isinstance(target, str) else str(target)
