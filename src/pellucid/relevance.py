"""Relevance by rules: what flows back through an untouched pass, times what flowed forward."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from . import backward
from .classifier import network, normalised
from .run import Edit, Model, Rules, Score, Trace, count_backward, home, made, no_gradient, run


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
    with torch.inference_mode(False), torch.enable_grad():
        start = images.clone() if images.is_inference() else images.detach()
        start = start if at else start.requires_grad_()
        bounds = [None if b is None else _normalised_as(model, b, images) for b in (low, high)]
        watching = backward.watch(rules, network(model), low=bounds[0], high=bounds[1], relevance=True)
        trace = run(
            model,
            start,
            read=objective.reads,
            edit=edit,
            output=objective.needs_output,
            rows=rows,
            leaf=at,
            rules=watching,
        )
        inside = made(trace)
        values = objective(trace)
        slopes: tuple[Tensor | None, ...] = (None,)
        if values.requires_grad and watching.inputs and watching.reaches(values.grad_fn):
            backward.check(watching, values, inside, strict=strict)
            if objective.needs_output:
                watching.all_used()
            slopes = torch.autograd.grad(values.sum(), watching.inputs, allow_unused=True)
    if all(slope is None for slope in slopes):
        raise no_gradient(at)
    count_backward(len(start))
    shares = [x.detach() * slope for x, slope in zip(watching.inputs, slopes, strict=True) if slope is not None]
    total = shares[0]
    for share in shares[1:]:
        total = total + share
    return total, values.detach(), trace


def _normalised_as(model: Model, bound: Tensor, images: Tensor) -> Tensor:
    place = home(model)
    bound = bound.to(*place) if place else bound.to(images)
    return normalised(model, bound) if network(model) is not None else bound
