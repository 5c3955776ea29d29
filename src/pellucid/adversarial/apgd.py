"""Auto-PGD: projected gradient descent that halves its steps by itself when it no longer gets on."""

from __future__ import annotations

import torch
from torch import Tensor

from .attack.budgets import Norm, broadcast, lengths, project, step_bounds, unit
from .attack.case import Case
from .attack.decorator import attack
from .attack.losses import BY_NAME, Loss, LossFunction
from .steps.apgd_l1 import climb_l1, start_l1
from .steps.apgd_state import back_to_best, leave, step_to

ALPHA = 0.75  # the share of the new direction
RISING = 0.75  # the share of steps that must raise the loss for the step size to stay


@attack(
    paper="Croce & Hein 2020, Reliable evaluation of adversarial robustness with an ensemble of diverse "
    "parameter-free attacks",
    from_images=lambda options: not options["random_start"],
    transformations=True,
)
def apgd(
    case: Case,
    *,
    eps: float = 8 / 255,
    norm: Norm = "linf",
    steps: int = 100,
    restarts: int = 1,
    random_start: bool = True,
    loss: Loss = "ce",
    early_stop: bool = False,
) -> Tensor:
    """Projected gradient descent that halves its steps by itself when it no longer gets on.

    z = P(x_k + a g / |g|), x_(k+1) = P(x_k + 3/4 (z - x_k) + 1/4 (x_k - x_(k-1))), with P the projection, the step a
    at first 2 eps (sign(g) in linf). At checkpoints further and further apart, where the loss rose in fewer than 3/4
    of the steps, or where neither it nor the step size changed, a is halved and the search goes on from the best
    image. The image of the highest loss is returned, or the last one that fooled the network.

    In l1 a step moves the k steepest values that can move alike, and P is the projection onto the part of the ball that
    is in bounds; k follows the number of values that the best change so far has moved, and the first steps are taken
    within three and two times the budget (Croce & Hein 2021, Mind the box: l1-APGD for sparse adversarial attacks on
    image classifiers; the published code lets values at their bounds take part in a step).

    Args:
        model: a network or a `Classifier`.
        images: N x C x H x W in [0, 1].
        labels: the right class by index or label, or one for each image; None is the predicted class.
        target: the class to be taken for; None for any wrong one.
        eps: how far an image may move, above 0, in units of pixels.
        norm: of the budget: "linf", "l2" or "l1".
        steps: at the most, 1 or more.
        restarts: from how many random starts; later ones only for images that are not fooled yet.
        random_start: begin on the boundary of the ball, or at the image.
        loss: "ce" (cross-entropy), "dlr" (difference of logits ratio) or "margin".
        early_stop: images leave as soon as they fool the network.
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
            than 1 step or restart, several restarts from one place, or "dlr" with fewer than 3 classes (4 with a
            target).
        ModelError: if the network has no gradient.
        OtherRun: if the folder holds another run.

    >>> import pellucid
    >>> model, scenes = pellucid.load("shapes"), pellucid.shapes.scenes(4)
    >>> result = pellucid.apgd(model, scenes.images, scenes.labels, eps=8 / 255, steps=10)
    >>> bool(result.success.any())
    True
    """
    if steps < 1 or restarts < 1:
        raise ValueError(f"steps is {steps} and restarts is {restarts}, expected at least 1 of each")
    if restarts > 1 and not random_start:
        raise ValueError(f"{restarts} restarts from one place are one: say random_start=True")
    found, left = case.images, torch.arange(len(case), device=case.images.device)
    for restart in range(restarts):
        part = case if restart == 0 else case.part(left)
        x, fooled = climb(
            part, eps, norm, BY_NAME[loss], steps,
            stream=restart if random_start else None, early_stop=early_stop, share=1 / restarts,
        )  # fmt: skip
        found = x if restart == 0 else found.index_copy(0, left, x)
        left = left[~fooled]
        if not len(left):
            break
    return found


def climb(
    case: Case,
    eps: float,
    norm: Norm,
    loss: LossFunction,
    steps: int,
    *,
    stream: int | None,
    early_stop: bool,
    share: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Auto-PGD from one start: the images found, and whether each fools the network.

    Args:
        stream: of the draws of the start; None begins at the images themselves.
        share: of the attack's work, for the progress bar.
    """
    if norm == "l1":
        start = case.images if stream is None else start_l1(case, eps, stream)
        return climb_l1(case, start, eps, loss, steps, early_stop=early_stop, share=share)
    start = case.images if stream is None else on_boundary(case, eps, norm, stream)
    n, device = len(case), case.images.device
    kept, hit = start.clone(), torch.zeros(n, dtype=torch.bool, device=device)
    lowest, highest = step_bounds(case.images, eps, case.low, case.high)

    def into_ball(x: Tensor, places: Tensor) -> Tensor:
        if norm == "linf":
            return torch.minimum(torch.maximum(x, lowest[places]), highest[places])
        near = case.images[places]
        return (near + project(x - near, eps, "l2")).clamp(case.low, case.high)

    slope, outputs, value = case.gradient(start, loss)
    # One row for each image that is still attacked; whatever is in here shrinks as images leave.
    now = {
        "places": torch.arange(n, device=device), "x": start, "former": start, "slope": slope, "value": value,
        "best": start, "best_slope": slope, "top": value, "size": torch.full_like(value, 2 * eps),
        "rises": torch.zeros(n, device=device), "checked": value, "halved": torch.ones(n, dtype=torch.bool).to(device),
    }  # fmt: skip
    part, now = leave(case, case, now, outputs, kept, hit, early_stop)
    wait, since = max(int(0.22 * steps), 1), 0
    for k in case.steps(steps, share):
        if not len(now["x"]):
            continue
        x, places, alpha = now["x"], now["places"], ALPHA if k else 1.0
        z = into_ball(x + broadcast(now["size"], x).to(x) * unit(now["slope"], norm), places)
        new = into_ball(x + alpha * (z - x) + (1 - alpha) * (x - now["former"]), places)
        outputs, now = step_to(part, new, now | {"former": x}, loss, last=k == steps - 1)
        now["rises"] = now["rises"] + (now["value"] > now["was"])
        part, now = leave(case, part, now, outputs, kept, hit, early_stop)
        since += 1
        if since == wait:
            halve = (now["rises"] <= RISING * wait) | (~now["halved"] & (now["checked"] >= now["top"]))
            now |= {
                "halved": halve, "checked": now["top"], "rises": torch.zeros_like(now["rises"]),
                "size": torch.where(halve, now["size"] / 2, now["size"]),
                **back_to_best(now, halve),
            }  # fmt: skip
            wait, since = max(wait - max(int(0.03 * steps), 1), max(int(0.06 * steps), 1)), 0
    places = now["places"]
    kept[places] = torch.where(broadcast(hit[places], kept), kept[places], now["best"])
    return kept, hit


def on_boundary(case: Case, eps: float, norm: str, stream: int) -> Tensor:
    """Images on the boundary of the ball in a random direction, clipped to the bounds."""
    source, shape = case.generator(stream), case.images.shape[1:]
    if norm == "linf":
        change = 2 * torch.rand(shape, generator=source, dtype=torch.float64) - 1
    else:
        change = torch.randn(shape, generator=source, dtype=torch.float64)
    change *= eps / float(lengths(change.flatten()[None], norm))
    return (case.images + change.to(case.images)).clamp(case.low, case.high)
