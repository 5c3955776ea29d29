"""Projected gradient descent: many small steps, each brought back into the budget."""

from __future__ import annotations

import torch
from torch import Tensor

from .attack.budgets import Norm
from .attack.case import Case
from .attack.decorator import attack
from .attack.losses import BY_NAME, Loss
from .steps.gradient_steps import ascend, mover, random_in


@attack(
    paper="Madry, Makelov, Schmidt, Tsipras & Vladu 2018, Towards deep learning models resistant to adversarial "
    "attacks",
    from_images=lambda options: not options["random_start"],
    transformations=True,
)
def pgd(
    case: Case,
    *,
    eps: float = 8 / 255,
    norm: Norm = "linf",
    steps: int = 40,
    step_size: float | None = None,
    restarts: int = 1,
    random_start: bool = True,
    loss: Loss = "ce",
    momentum: float = 0.0,
    early_stop: bool = False,
) -> Tensor:
    """Many small steps up the loss, each brought back into the budget.

    x <- P(x + a d), with a the step size and d = sign(g) in linf, g / |g|_2 in l2, and in l1 the signs of the hundredth
    of the pixels where the gradient g is steepest and that can move (Tramer & Boneh 2019). P clamps in linf, scales
    and clips in l2, and is the projection onto the part of the ball that is in bounds in l1 (Croce & Hein 2021).

    The last image is returned; where it does not fool the network and an earlier one did, the latest that did.

    Args:
        model: a network or a `Classifier`.
        images: N x C x H x W in [0, 1].
        labels: the right class by index or label, or one for each image; None is the predicted class.
        target: the class to be taken for; None for any wrong one.
        eps: how far an image may move, above 0, in units of pixels.
        norm: of the budget: "linf", "l2" or "l1".
        steps: gradients taken, 1 or more.
        step_size: in the units of eps; 2.5 eps / steps by default.
        restarts: from how many random starts; later ones only for images that are not fooled yet.
        random_start: begin anywhere in the ball, or at the image.
        loss: "ce" (cross-entropy), "margin" or "dlr".
        momentum: in [0, 1]: how much of the former direction is kept (Dong et al. 2018, Boosting adversarial attacks
            with momentum).
        early_stop: images leave as soon as they fool the network; faster, and they move less far.
        transformations: `pellucid.Transformations`, to fool the network through a camera too: each gradient is the mean
            over some views.
        bounds: of pixels, for a bare network that takes others than [0, 1].
        seed: for the random starts.
        folder: where to keep what is finished, image by image in chunks: the same call with the same folder goes on
            where it was stopped.

    Returns:
        An `Attack`.

    Raises:
        ValueError: for images outside the bounds, a budget that is 0 or allows everything, unknown classes, fewer
            than 1 step or restart, or several restarts from one place.
        ModelError: if the network has no gradient.
        OtherRun: if the folder holds another run.

    >>> import pellucid
    >>> model, scenes = pellucid.load("shapes"), pellucid.shapes.scenes(4)
    >>> result = pellucid.pgd(model, scenes.images, scenes.labels, eps=16 / 255, steps=5)
    >>> result.robust_accuracy < result.accuracy
    True
    """
    if steps < 1 or restarts < 1:
        raise ValueError(f"steps is {steps} and restarts is {restarts}, expected at least 1 of each")
    if restarts > 1 and not random_start:
        raise ValueError(f"{restarts} restarts from one place are one: say random_start=True")
    if not 0 <= momentum <= 1:
        raise ValueError(f"momentum is {momentum:g}, expected a share in [0, 1]")
    size = 2.5 * eps / steps if step_size is None else step_size
    if not size > 0:
        raise ValueError(f"step_size is {size:g}, expected a length above 0")
    found, left = case.images, torch.arange(len(case), device=case.images.device)
    for restart in range(restarts):
        part = case if restart == 0 else case.part(left)
        start = random_in(part, eps, norm, restart) if random_start else part.images
        x, fooled = ascend(
            part, start, mover(part, eps, norm, size), BY_NAME[loss], steps,
            momentum=momentum, early_stop=early_stop, share=1 / restarts,
        )  # fmt: skip
        found = x if restart == 0 else found.index_copy(0, left, x)
        left = left[~fooled]
        if not len(left):
            break
    return found
