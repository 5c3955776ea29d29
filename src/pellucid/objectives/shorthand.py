"""What people write in place of an objective."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from ..model.classifier import Classifier
from ..model.run import Model
from .algebra import Objective, Term
from .classes import Target, logit
from .layers import channel

ObjectiveLike: TypeAlias = Objective | Target | Callable[[Any], Tensor]
"""What every method takes for an objective: a class by index or label, one for each image, "layer:channel", an
objective, a function of the network's output, or None for the predicted class."""


def as_objective(model: Model, target: Any) -> Objective:
    """An objective from what people write.

    Args:
        model: to tell labels from layers.
        target: an objective; a class index or label, or one for each image; `"layer3:7"` for a channel; None
            for the predicted class; or a function from the network's output (of any kind) to N numbers.

    Raises:
        TypeError: for anything else.

    >>> as_objective(torch.nn.Identity(), 483)
    logit(483)
    """
    if isinstance(target, Objective):
        return target
    if type(target).__module__ == "numpy" and target.ndim > 0:
        target = torch.as_tensor(target)
    if isinstance(target, str):
        name, mark, index = target.rpartition(":")
        labels = model.labels if isinstance(model, Classifier) else ()
        if mark and index.isdigit() and target not in labels:
            return channel(name, int(index))
        return logit(target)
    if callable(target) and not isinstance(target, Tensor):
        name = getattr(target, "__name__", type(target).__name__)
        text = "a function of the output" if name == "<lambda>" else f"{name}(output)"
        return Objective(
            text,
            lambda _model, _count: Term(lambda trace: target(trace.output), lambda: text),
            needs_output=True,
        )
    if target is None or isinstance(target, (int, Tensor, Sequence)):
        return logit(target)
    if hasattr(target, "__index__"):
        return logit(int(target))
    raise TypeError(
        f"the objective is a {type(target).__name__}; expected a class index or label, N of them, 'layer:channel', "
        "an objective such as pellucid.probability('castle'), a function of the network's output, or None"
    )
