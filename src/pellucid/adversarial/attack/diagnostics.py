"""Signs of gradient masking and other doubts about a robustness figure, collected and reported as warnings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...checks import warn
from ...model.run import Model, run
from .case import DIAGNOSTICS, Case, as_outputs
from .losses import margin

MANY = 100  # passes
QUERY = "pellucid.square and pellucid.hop_skip_jump need no gradient"


def random_states(device: torch.device) -> list[Any]:
    """The states of the sources that a network may draw from: another state after a pass tells that it has drawn."""
    legacy: Any = np.random.get_state()  # noqa: NPY002 - what a network may draw from
    states = [torch.get_rng_state(), torch.from_numpy(legacy[1].copy()), *legacy[2:]]
    return [*states, torch.cuda.get_rng_state(device)] if device.type == "cuda" else states


def same_states(one: list[Any], other: list[Any]) -> bool:
    """Whether nothing was drawn in between."""
    pairs = zip(one, other, strict=True)
    return all(torch.equal(a, b) if isinstance(a, Tensor) else a == b for a, b in pairs)


def check_random(model: Model, images: Tensor, outputs: Tensor) -> None:
    """Ask about an image again, and warn where the answer is another one.

    Args:
        images: 1 x C x H x W. outputs: 1 x K, what the network has said of it.
    """
    with torch.no_grad():
        again = as_outputs(run(model, images).output)
    spread = float(outputs.max() - outputs.min()) + 1e-6
    if not bool((again - outputs).abs().max() < 1e-2 * spread):
        warn(
            "the network gives other outputs for the same image when asked again: it is random, and what is found here "
            "says little. Fix its draws, or wrap it so that it averages over many"
        )


def check_probabilities(outputs: Tensor) -> None:
    """Warn of outputs of a softmax or a sigmoid where logits are expected."""
    sums = (outputs.sum(1) - 1).abs().max() < 1e-3
    if outputs.min() >= 0 and outputs.max() <= 1 and (sums or outputs.max() > 0.99):
        warn(
            f"the network seems to return {'probabilities' if sums else 'values of a sigmoid'}: all outputs lie in "
            "[0, 1]. Where it is sure, their gradients vanish and it only seems robust: give the network up to its "
            "logits"
        )


def note_no_progress(case: Case, found: Tensor, before: Tensor, after: Tensor, fooled: Tensor) -> None:
    """Note the images that a gradient attack has moved without progress: the network only became more confident.

    Args:
        found: n x C x H x W. before, after: n x K outputs. fooled: n booleans.
    """
    if not case.looked or fooled.all():
        return
    worse = margin(after, case.labels, case.targets) < margin(before, case.labels, case.targets)
    worse &= ~fooled
    if worse.any():
        case.note("no_progress", worse & (found != case.images).flatten(1).any(1))


def emit_warnings(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Warn of what an attack has come across; its fields without the signs."""
    count, already = len(fields["images"]), int(fields["misclassified"].sum())
    aimed = fields["targets"] is not None
    if already == count:
        seen, remedy = ("seen as the target", "say another target") if aimed else ("misclassified", "check the labels")
        warn(f"all of {count} images are {seen} before any attack: nothing was done; {remedy}")
    elif aimed and already:
        warn(f"{already} of {count} images are seen as the target already: they stay as they are")
    zero_gradient, no_progress, gradient_masked = (int(fields["signs"][:, i].sum()) for i in range(len(DIAGNOSTICS)))
    if zero_gradient:
        warn(
            f"the gradient is exactly zero for {zero_gradient} of {count} images: saturated outputs or rounding hide "
            f"the way, and the network is less robust than it seems. {QUERY}"
        )
    if 2 * no_progress > count - already and no_progress > 1:
        warn(
            f"the attack has left the network more confident about {no_progress} of {count - already} images than "
            f"before: its steps are too large, or the gradients of the network are masked, and it is "
            f"less robust than it seems. {QUERY}"
        )
    if gradient_masked:
        warn(
            f"squares fool {gradient_masked} images that gradients do not: the gradients of this network seem masked, "
            "and it is less robust than they say"
        )
    return {name: value for name, value in fields.items() if name != "signs"}
