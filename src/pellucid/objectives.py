"""The number that a question is about: a logit, a probability, a neuron, or any sum of such.

Objectives are values. They are written without a model, combine with + - * /, print as what they are, and
are bound to a model and a batch when a method runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import index
from typing import Any

import torch
from torch import Tensor

from .algebra import Bound, Objective, Term, Values
from .checks import UnknownName
from .classifier import Classifier
from .maps import as_maps
from .run import Model, Score, Trace

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
        return Term(term.of, (lambda: text) if settled else (lambda: f"({term.describe()})"), term.open)

    return Objective(text, prepare, needs_output=True, of_classes=True)


def neuron(layer: str, channel: int, y: int | None = None, x: int | None = None) -> Objective:
    """One neuron: a channel of a layer at one place.

    Args:
        layer: a layer's name.
        channel: its channel.
        y, x: place on the layer's grid, row and column from the top left; the centre by default.
            A layer without places (N x K) takes none.

    >>> neuron("layer3", 7, 4, 4)
    neuron("layer3", 7, 4, 4)
    """
    place = "".join(f", {v}" for v in (y, x) if v is not None)
    if y is None and x is not None:
        place = f", x={x}"

    def of(trace: Trace) -> Tensor:
        values = _channels(trace, layer, channel)
        if values.ndim == 2:
            if y is not None or x is not None:
                raise ValueError(f'neuron("{layer}", {channel}{place}): the layer has no places, leave out y and x')
            return values[:, channel]
        row = values.shape[2] // 2 if y is None else y
        column = values.shape[3] // 2 if x is None else x
        for name, value, size in (("y", row, values.shape[2]), ("x", column, values.shape[3])):
            if not 0 <= value < size:
                raise ValueError(f"layer {layer!r} has a grid of {size} along {name}, asked for {name}={value}")
        return values[:, channel, row, column]

    return _of_layer(f'neuron("{layer}", {channel}{place})', layer, of)


def channel(layer: str, index: int) -> Objective:
    """The mean of a channel over all places; for a layer without places the same as `neuron`.

    >>> channel("layer3", 7)
    channel("layer3", 7)
    """

    def of(trace: Trace) -> Tensor:
        return _channels(trace, layer, index)[:, index].reshape(len(trace.rows), -1).mean(1)

    return _of_layer(f'channel("{layer}", {index})', layer, of)


def layer(name: str) -> Objective:
    """The mean square of all activations of a layer: DeepDream's objective (Mordvintsev, Olah & Tyka 2015).

    >>> layer("layer3")
    layer("layer3")
    """
    return _of_layer(f'layer("{name}")', name, lambda trace: trace.activations[name].flatten(1).square().mean(1))


def direction(layer: str, vector: Tensor | Sequence[float]) -> Objective:
    """The mean over all places of the activation's scalar product with a vector over channels.

    Args:
        layer: a layer's name.
        vector: one number per channel.

    >>> direction("layer3", [1.0, -1.0])
    direction("layer3", <2 numbers>)
    """
    weights = torch.as_tensor(vector)
    if weights.ndim != 1:
        raise ValueError(f"a direction is a vector over channels, got the shape {tuple(weights.shape)}")

    def of(trace: Trace) -> Tensor:
        values = _channels(trace, layer)
        if values.shape[1] != len(weights):
            raise ValueError(f"layer {layer!r} has {values.shape[1]} channels, the direction has {len(weights)}")
        return torch.einsum("nc...,c->n...", values, weights.to(values)).reshape(len(values), -1).mean(1)

    return _of_layer(f'direction("{layer}", <{len(weights)} numbers>)', layer, of)


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


def _of_layer(text: str, name: str, of: Values) -> Objective:
    return Objective(text, lambda _model, _count: Term(of, lambda: text), reads=frozenset([name]))


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


def _channels(trace: Trace, name: str, index: int | None = None) -> Tensor:
    """The activation as N x C x h x w, or N x C for a layer without places."""
    values = trace.activations[name]
    maps = as_maps(values, trace.images.shape[2:])
    if maps is None:
        maps = values if values.ndim == 2 else values.movedim(-1, 1) if values.ndim == 3 else values
        if maps.ndim > 2:
            maps = maps.flatten(2)[..., None]
    if index is not None and not 0 <= index < maps.shape[1]:
        raise ValueError(f"layer {name!r} has {maps.shape[1]} channels, asked for channel {index}")
    return maps


def _text(target: Target) -> str:
    if target is None:
        return "predicted"
    if isinstance(target, Tensor):
        target = target.tolist() if target.ndim else int(target)
    if isinstance(target, (list, tuple)):
        shown = ", ".join(_text(item) for item in target[:3])
        return f"[{shown}{', ...' if len(target) > 3 else ''}]"
    return f'"{target}"' if isinstance(target, str) else str(target)


__all__ = [
    "Bound", "Objective", "Score", "as_objective", "channel", "contrast", "direction", "layer", "log_probability",
    "logit", "neuron", "probability",
]  # fmt: skip
