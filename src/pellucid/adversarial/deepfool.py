"""DeepFool: step after step to the nearest boundary of the network made linear."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from .attack.budgets import broadcast, lengths
from .attack.case import Case
from .attack.decorator import attack
from .attack.losses import of_class


@attack(
    paper="Moosavi-Dezfooli, Fawzi & Frossard 2016, DeepFool: a simple and accurate method to fool deep neural "
    "networks",
    from_images=lambda _: True,
)
def deepfool(
    case: Case,
    *,
    norm: Literal["l2", "linf"] = "l2",
    steps: int = 50,
    candidates: int = 10,
    overshoot: float = 0.02,
) -> Tensor:
    """Step after step to the nearest boundary of the network made linear.

    For each candidate k, f_k = z_k - z_y and w_k its gradient at the image. The nearest boundary is that of the least
    |f_k| / |w_k|_2 (|w_k|_1 in linf), and the step to it is |f_k| w_k / |w_k|_2^2 (|f_k| sign(w_k) / |w_k|_1). The
    steps are added up, lengthened by 1 + overshoot, and added to the image, which leaves when the network is fooled.

    Args:
        model: a network or a `Classifier`.
        images: N x C x H x W in [0, 1].
        labels: the right class by index or label, or one for each image; None is the predicted class.
        target: the class to be taken for, then the only candidate; None for any wrong one.
        norm: in which the boundary is near: "l2" or "linf".
        steps: at the most, 1 or more.
        candidates: classes whose boundaries are looked at, those of the highest outputs at the image and the label
            among them; 2 or more.
        overshoot: 0 or more.
        bounds: of pixels, for a bare network that takes others than [0, 1].
        seed: unused; there is nothing random.
        folder: where to keep what is finished, image by image in chunks: the same call with the same folder goes on
            where it was stopped.

    Returns:
        An `Attack`.

    Raises:
        ValueError: for images outside the bounds, unknown classes, fewer than 1 step or 2 candidates, or an overshoot
            below 0.
        ModelError: if the network has no gradient.
        OtherRun: if the folder holds another run.

    >>> import pellucid
    >>> model, scenes = pellucid.load("shapes"), pellucid.shapes.scenes(4)
    >>> pellucid.deepfool(model, scenes.images, scenes.labels).success
    tensor([True, True, True, True])
    """
    if steps < 1 or candidates < 2 or overshoot < 0:
        raise ValueError(
            f"steps is {steps}, candidates is {candidates}, overshoot is {overshoot:g}; expected 1, 2 and 0 or more"
        )
    found, part, places = case.images.clone(), case, torch.arange(len(case), device=case.images.device)
    total = torch.zeros_like(case.images)
    start, outputs = part.graph(part.images)
    others = part.runners_up(outputs.detach(), candidates - 1)
    for number in case.steps(steps):
        if not len(places):
            continue
        total = total + _nearest(part, start, outputs, others, norm)
        x = (part.images + (1 + overshoot) * total).clamp(case.low, case.high)
        found[places] = x
        # Looked at without a graph: an image that leaves here must not go back once for every candidate.
        stay = ~part.fooled(part.outputs(x))
        places, total, others, x = places[stay], total[stay], others[stay], x[stay]
        if len(places) and number < steps - 1:
            part = part if stay.all() else case.part(places)
            start, outputs = part.graph(x)
    return found


def _nearest(case: Case, start: Tensor, outputs: Tensor, others: Tensor, norm: str) -> Tensor:
    """The step to the nearest boundary among those to the other classes, n x k, by a pass with its graph."""
    chosen = slice(None) if len(start) == len(outputs) else case.places
    nearest, step = torch.full((len(outputs),), torch.inf, device=outputs.device), torch.zeros_like(case.images)
    for k in range(others.shape[1]):
        with torch.enable_grad():
            gap = of_class(outputs, others[:, k]) - of_class(outputs, case.labels)
            slope = case.backward(gap, start, keep=k < others.shape[1] - 1)[chosen]
        size = lengths(slope, "l2" if norm == "l2" else "l1").to(outputs.dtype).clamp(min=1e-12)
        away = gap.detach().abs() / size
        # A little further, so that a step that ends on the boundary does not stay there for ever.
        length = broadcast((gap.detach().abs() + 1e-4) / size, slope).to(slope.dtype)
        direction = slope / broadcast(size, slope).to(slope.dtype) if norm == "l2" else slope.sign()
        closer = away < nearest
        nearest = torch.where(closer, away, nearest)
        step = torch.where(broadcast(closer, step), length * direction, step)
    return step
