"""Relevance by rules: what flows back through an untouched pass, times what flowed forward."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from .. import rules as sets
from ..checks import UnknownName, nearest
from ..rules import Rule, RuleError, Schedule
from . import backward
from .classifier import Classifier, network, normalized
from .run import Edit, Model, Rules, Score, Trace, count_backward, created_nodes, device_and_dtype, no_gradient, run

RulesLike = str | Rules
"""Rules, or the name of a set of them."""
PRESETS: dict[str, Mapping[Any, Rule | Schedule]] = {
    name: value for name, value in vars(sets).items() if name.isupper() and name not in ("KINDS", "BASE", "DEEPLIFT")
}


def relevance(
    model: Model,
    images: Tensor,
    objective: Score,
    rules: Rules,
    *,
    at: str | None = None,
    rows: Tensor | None = None,
    edit: Mapping[str, Edit] | None = None,
    low: Tensor | None = None,
    high: Tensor | None = None,
    strict: bool = True,
) -> tuple[Tensor, Tensor, Trace]:
    """The relevance of each pixel, or of each neuron of one layer, by rules.

    Args:
        model, images, objective, rows, edit: as for `gradient`.
        rules: as for `run`.
        at: a layer; the relevance of its neurons.
        low, high: bounds of the pixels, of the shape of the images: for z-box.
        strict: functions out of the rules' sight are an error, else a warning.

    Returns:
        The relevance, of the shape of the images or of the activation; the objective of each image; the trace.

    Raises:
        RuleError: if something of the network is out of the rules' sight.
        ModelError: if the objective does not depend on the images (or on the layer) in a differentiable way.

    >>> import torch
    >>> from pellucid.objectives import logit
    >>> from pellucid.rules import epsilon
    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2, bias=False)).eval()
    >>> shares, value, _ = relevance(net, torch.ones(1, 1, 2, 2), logit(1).bind(net, 1), {"linear": epsilon()})
    >>> bool(torch.isclose(shares.sum(), value[0], rtol=1e-3))
    True
    """
    shares, _, values, trace = _back(
        model, images, objective, rules, at=at, rows=rows, edit=edit, low=low, high=high, strict=strict
    )
    return shares, values, trace


def relevances(
    model: Model,
    images: Tensor,
    objective: Score,
    rules: Rules,
    layers: Iterable[str],
    *,
    read: Iterable[str] = (),
    edit: Mapping[str, Edit] | None = None,
    to_output: bool = False,
    low: Tensor | None = None,
    high: Tensor | None = None,
    strict: bool = True,
) -> tuple[Tensor, dict[str, Tensor], Tensor, Trace]:
    """The relevance of the pixels and of the neurons of several layers, by one forward and one backward.

    Args:
        model, images, objective, rules, edit, low, high, strict: as for `relevance`.
        layers: whose neurons' relevance is asked for.
        read: other layers to keep in the trace. to_output: whether the trace needs the output in any case.

    Returns:
        The relevance of the pixels; that of the neurons by layer; the objective of each image; the trace.

    Raises:
        RuleError: if something of the network is out of the rules' sight, or a rule goes past one of the layers.
        ModelError: if the objective does not depend on the images in a differentiable way.

    >>> import torch
    >>> from pellucid.objectives import logit
    >>> from pellucid.rules import EPSILON
    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2))
    >>> net = net.eval().requires_grad_(False)
    >>> pixels, inner, _, _ = relevances(net, torch.rand(5, 1, 2, 2), logit(0).bind(net, 5), EPSILON, ["2"])
    >>> pixels.shape, inner["2"].shape
    (torch.Size([5, 1, 2, 2]), torch.Size([5, 3]))
    """
    return _back(
        model, images, objective, rules, layers=layers, read=read, edit=edit, to_output=to_output, low=low, high=high,
        strict=strict,
    )  # fmt: skip


def _back(
    model: Model,
    images: Tensor,
    objective: Score,
    rules: Rules,
    *,
    at: str | None = None,
    layers: Iterable[str] = (),
    read: Iterable[str] = (),
    to_output: bool = False,
    rows: Tensor | None = None,
    edit: Mapping[str, Edit] | None = None,
    low: Tensor | None = None,
    high: Tensor | None = None,
    strict: bool = True,
) -> tuple[Tensor, dict[str, Tensor], Tensor, Trace]:
    layers = list(layers)
    with torch.inference_mode(False), torch.enable_grad():
        start = images.clone() if images.is_inference() else images.detach()
        start = start if at else start.requires_grad_()
        bounds = [None if b is None else _normalized_as(model, b, images) for b in (low, high)]
        watching = backward.watch(rules, network(model), low=bounds[0], high=bounds[1], relevance=True)
        trace = run(
            model,
            start,
            read={*objective.reads, *layers, *read},
            edit=edit,
            to_output=objective.needs_output or to_output,
            rows=rows,
            leaf=at,
            rules=watching,
        )
        inside = created_nodes(trace)
        values = objective(trace)
        slopes: tuple[Tensor | None, ...] = (None,)
        inner = [trace.activations[name] for name in layers]
        if values.requires_grad and watching.inputs and watching.reaches(values.grad_fn):
            backward.check(watching, values, inside, strict=strict)
            if objective.needs_output:
                watching.all_used()
            slopes = torch.autograd.grad(values.sum(), [*watching.inputs, *inner], allow_unused=True)
    if all(slope is None for slope in slopes[: len(watching.inputs)]):
        raise no_gradient(at)
    for name, slope in zip(layers, slopes[len(watching.inputs) :], strict=True):
        if slope is None:
            raise RuleError(
                f"no relevance arrives at layer {name!r}: a rule joins it to the batch norm behind it, or the "
                "objective does not depend on it. Ask for the layer behind it"
            )
    count_backward(len(start))
    shares = [x.detach() * slope for x, slope in zip(watching.inputs, slopes, strict=False) if slope is not None]
    total = shares[0]
    for share in shares[1:]:
        total = total + share
    found = zip(layers, inner, slopes[len(watching.inputs) :], strict=True)
    return total, {name: x.detach() * slope for name, x, slope in found if slope is not None}, values.detach(), trace


def rules_of(rules: RulesLike) -> Mapping[Any, Rule | Schedule]:
    """A set of rules by its name, or a mapping completed by `pellucid.rules.BASE`.

    Raises:
        UnknownName: for another name.
        TypeError: for what is neither a name nor a mapping.
    """
    if isinstance(rules, str):
        if rules.upper() not in PRESETS:
            raise UnknownName(f"there is no set of rules {rules!r}; {nearest(rules, PRESETS)}")
        return PRESETS[rules.upper()]
    if not isinstance(rules, Mapping):
        raise TypeError(
            f"rules is {rules!r}, expected a mapping such as {{'conv': pellucid.rules.gamma(0.25)}} or a name: "
            f"{', '.join(PRESETS)}"
        )
    return {**sets.BASE, **rules}


def bounds_of(model: Model, images: Tensor, rules: Rules) -> tuple[Tensor | None, Tensor | None]:
    """The bounds of the pixels that the z-box rule among the rules gives, of the shape of the images."""
    boxes = {rule for rule in rules.values() if isinstance(rule, Rule) and rule.name == "z_box"}
    if not boxes:
        return None, None
    if len(boxes) > 1:
        raise ValueError(
            f"there are several z_box rules, and an image has only one range: {', '.join(map(str, boxes))}"
        )
    options = dict(boxes.pop().options)
    ends = []
    for name in ("low", "high"):
        bound = torch.as_tensor(options[name]).to(images)
        bound = bound[:, None, None] if bound.ndim == 1 else bound
        try:
            ends.append(bound.expand_as(images))
        except RuntimeError:
            raise ValueError(
                f"z_box: {name} has shape {tuple(bound.shape)}, expected a number or {images.shape[1]} of them"
            ) from None
    low, high = ends
    outside = ((images < low - 1e-3) | (images > high + 1e-3)).flatten(1).any(1)
    if outside.any():
        image = int(outside.nonzero()[0])
        hint = (
            "" if isinstance(model, Classifier) else ": give them in the units that the network takes, z_box(low, high)"
        )
        raise ValueError(
            f"z_box: image {image} has pixels from {images[image].min():.3g} to {images[image].max():.3g}, outside its "
            f"bounds {options['low']} to {options['high']}{hint}"
        )
    return low, high


def _normalized_as(model: Model, bound: Tensor, images: Tensor) -> Tensor:
    place = device_and_dtype(model)
    bound = bound.to(*place) if place else bound.to(images)
    return normalized(model, bound) if network(model) is not None else bound
