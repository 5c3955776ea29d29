"""Layer-wise relevance propagation: the objective handed back layer by layer, by rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from ..checks import warn
from ..methods.result import Attribution
from ..model.batches import batched
from ..model.relevance import PRESETS as PRESETS
from ..model.relevance import RulesLike, bounds_of, relevance, rules_of
from ..model.run import Model, device_of
from ..objectives import Bound
from .ingredients.decorator import attribution


@attribution(
    paper="Bach, Binder, Montavon, Klauschen, Müller & Samek 2015, On pixel-wise explanations for non-linear "
    "classifier decisions by layer-wise relevance propagation",
    one_pass=True,
)
def lrp(
    model: Model,
    images: Tensor,
    objective: Bound,
    *,
    rules: RulesLike = "EPSILON_PLUS_FLAT",
    layer: str | None = None,
    channels: Mapping[str, int | Sequence[int]] | None = None,
    strict: bool = True,
) -> Attribution:
    """What each pixel adds to the objective: each layer shares the relevance of its outputs among its inputs.

    The network runs as it is; only what flows back is changed. Rules are a mapping, later entries winning, from
    - a kind of function: "conv", "linear", "norm", "activation", "softmax", "product", "sum", "average", "max"
      (`pellucid.rules.KINDS` says what they are), or calls of a kind by number: "conv#2", "conv#3-5";
    - "first": the layers that see the image;
    - a layer, or a pattern: "features.0", "features.[02]", "layer1" with all that is in it;
    - a function, such as torch.nn.functional.conv2d,
    to a rule such as `pellucid.rules.gamma(0.25)`. What is not mentioned is as in `pellucid.rules.BASE`; linear maps
    without a rule have LRP-0. A Classifier's mean color is the pixel that has no relevance (except under flat,
    w_square and z_box, which do not look at values alone).

    Args:
        model: a network or a `Classifier`.
        images: N x C x H x W.
        objective: what to explain; None is the predicted class. Relevance starts as output x derivative of the
            objective, which for sums of logits or neurons is the objective itself.
        rules: a mapping as above, or the name of a set: "EPSILON_PLUS_FLAT", "EPSILON_GAMMA_BOX", "ATTNLRP", ...
        layer: give the relevance of this layer's neurons instead of that of the pixels.
        channels: only the relevance that passes these channels of these layers: {"layer3": [7, 12]} (concept
            relevance propagation, Achtibat et al. 2023, From attribution maps to human-understandable explanations
            through concept relevance propagation).
        strict: functions that the rules cannot see (TorchScript, custom autograd functions) are an error; False
            takes their ordinary gradient, with a warning.

    Returns:
        An `Attribution`: values as the images, or as the layer's activation, in units of the objective; gap, N
        numbers, what biases and stabilizers took or gave: the sum of the values less the objective.

    Raises:
        UnknownName: for a set of rules or a layer that does not exist.
        ValueError: for a rule that does not go with its key, bounds that do not hold the pixels, a channel that does
            not exist, or an objective that is 0 for all images, so that there is no relevance to share.
        RuleError: for what rules cannot follow: recurrent layers, functions out of sight.

    >>> import pellucid
    >>> from pellucid.rules import EPSILON_GAMMA_BOX
    >>> model = pellucid.load("shapes")
    >>> pellucid.lrp(model, pellucid.shapes.scenes(1).images, "star", rules=EPSILON_GAMMA_BOX).values.shape
    torch.Size([1, 3, 96, 96])
    """
    chosen = rules_of(rules)
    low, high = bounds_of(model, images, chosen)
    edit = {name: _only(name, channels) for name, channels in (channels or {}).items()}
    values: list[Tensor] = []
    totals: list[Tensor] = []

    def step(part: slice) -> None:
        bounds = {"low": None if low is None else low[part], "high": None if high is None else high[part]}
        rows = torch.arange(part.start, part.stop)
        shares, total, _ = relevance(
            model, images[part], objective, chosen, at=layer, rows=rows, edit=edit, strict=strict, **bounds
        )
        values.append(shares.to(images))
        totals.append(total.to(images))

    batched(step, len(images), like=images, label="relevance", device=device_of(model))
    total = torch.cat(totals)
    _check_zero(total, objective)
    found = torch.cat(values)
    return Attribution(found, convergence_delta=found.flatten(1).double().sum(1).to(total) - total)


def _only(layer: str, channels: int | Sequence[int]) -> Callable[[Tensor], Tensor]:
    """An edit of an activation that changes no value, and lets gradients through some channels alone."""
    wanted = [channels] if isinstance(channels, int) else list(channels)

    def edit(activation: Tensor) -> Tensor:
        axis = 1 if activation.ndim in (2, 4) else activation.ndim - 1
        count = activation.shape[axis]
        if not wanted or any(not 0 <= channel < count for channel in wanted):
            raise ValueError(f"through: layer {layer!r} has channels 0 to {count - 1}, got {channels}")
        mask = torch.zeros(count, dtype=activation.dtype, device=activation.device)
        mask[wanted] = 1
        mask = mask.view([-1 if place == axis else 1 for place in range(activation.ndim)])
        return activation * mask + (activation * (1 - mask)).detach()

    return edit


def _check_zero(total: Tensor, objective: Bound) -> None:
    zero = total == 0
    if zero.all():
        raise ValueError(
            f"the objective {objective} is 0 for every image: there is no relevance to share. Explain a neuron "
            "that is active, or a class whose logit is not 0"
        )
    if zero.any():
        warn(f"the objective {objective} is 0 for image {int(zero.nonzero()[0])} of the batch: it has no relevance")
