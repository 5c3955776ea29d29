"""Auto-PGD: projected gradient descent that halves its steps by itself when it no longer gets on."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from .balls import column, lengths, project, step_bounds, unit
from .call import attack
from .case import Case
from .losses import BY_NAME, Loss, LossFunction

ALPHA = 0.75  # the share of the new direction
RISING = 0.75  # the share of steps that must raise the loss for the step size to stay


@attack(
    paper="Croce & Hein 2020, Reliable evaluation of adversarial robustness with an ensemble of diverse "
    "parameter-free attacks",
    from_images=lambda options: not options["random_start"],
)
def apgd(
    case: Case,
    *,
    eps: float = 8 / 255,
    norm: Literal["linf", "l2"] = "linf",
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

    Args:
        model: a network or a `Classifier`.
        images: N x C x H x W in [0, 1].
        labels: the right class by index or label, or one for each image; None is the predicted class.
        target: the class to be taken for; None for any wrong one.
        eps: how far an image may move, above 0, in units of pixels.
        norm: of the budget: "linf" or "l2".
        steps: at the most, 1 or more.
        restarts: from how many random starts; later ones only for images that are not fooled yet.
        random_start: begin on the boundary of the ball, or at the image.
        loss: "ce" (cross-entropy), "dlr" (difference of logits ratio) or "margin".
        early_stop: images leave as soon as they fool the network.
        bounds: of pixels, for a bare network that takes others than [0, 1].
        seed: for the random starts.

    Returns:
        An `Attack`.

    Raises:
        ValueError: for images outside the bounds, a budget that is 0 or allows everything, unknown classes, fewer
            than 1 step or restart, several restarts from one place, or "dlr" with fewer than 3 classes (4 with a
            target).
        ModelError: if the network has no gradient.

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
        start = on_boundary(part, eps, norm, restart) if random_start else part.images
        x, fooled = climb(
            part, start, eps, norm, BY_NAME[loss], steps, early_stop=early_stop, share=1 / restarts
        )  # fmt: skip
        found = x if restart == 0 else found.index_copy(0, left, x)
        left = left[~fooled]
        if not len(left):
            break
    return found


def climb(
    case: Case,
    start: Tensor,
    eps: float,
    norm: Literal["linf", "l2"],
    loss: LossFunction,
    steps: int,
    *,
    early_stop: bool,
    share: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Auto-PGD from one start: the images found, and whether each fools the network."""
    n, device = len(case), case.images.device
    kept, hit = start.clone(), torch.zeros(n, dtype=torch.bool, device=device)
    lowest, highest = step_bounds(case.images, eps, case.low, case.high)

    def into_ball(x: Tensor, places: Tensor) -> Tensor:
        if norm == "linf":
            return torch.minimum(torch.maximum(x, lowest[places]), highest[places])
        near = case.images[places]
        return (near + project(x - near, eps, "l2")).clamp(case.low, case.high)

    slope, outputs, value = case.slope(start, loss)
    # One row for each image that is still attacked; whatever is in here shrinks as images leave.
    now = {
        "places": torch.arange(n, device=device), "x": start, "former": start, "slope": slope, "value": value,
        "best": start, "best_slope": slope, "top": value, "size": torch.full_like(value, 2 * eps),
        "rises": torch.zeros(n, device=device), "checked": value, "halved": torch.ones(n, dtype=torch.bool).to(device),
    }  # fmt: skip
    part, wait, since = case, max(int(0.22 * steps), 1), 0
    for k in case.steps(steps, share):
        if not len(now["x"]):
            continue
        fooled = part.fooled(outputs)
        if fooled.any():
            here = now["places"][fooled]
            kept[here], hit[here] = now["x"][fooled], True
            if early_stop:
                now = {name: rows[~fooled] for name, rows in now.items()}
                part = case.part(now["places"])
                if not len(now["x"]):
                    continue
        x, places, alpha = now["x"], now["places"], ALPHA if k else 1.0
        z = into_ball(x + column(now["size"], x).to(x) * unit(now["slope"], norm), places)
        new = into_ball(x + alpha * (z - x) + (1 - alpha) * (x - now["former"]), places)
        if k == steps - 1:
            outputs = part.outputs(new)
            value, slope = loss(outputs, part.labels, part.targets), now["slope"]
        else:
            slope, outputs, value = part.slope(new, loss)
        now |= {"former": x, "x": new, "slope": slope, "rises": now["rises"] + (value > now["value"]), "value": value}
        better = value > now["top"]
        now["best"] = torch.where(column(better, new), new, now["best"])
        now["best_slope"] = torch.where(column(better, new), slope, now["best_slope"])
        now["top"] = torch.where(better, value, now["top"])
        since += 1
        if since == wait:
            halve = (now["rises"] <= RISING * wait) | (~now["halved"] & (now["checked"] >= now["top"]))
            now |= {
                "halved": halve, "checked": now["top"], "rises": torch.zeros_like(now["rises"]),
                "size": torch.where(halve, now["size"] / 2, now["size"]),
                "x": torch.where(column(halve, new), now["best"], new),
                "slope": torch.where(column(halve, new), now["best_slope"], slope),
            }  # fmt: skip
            wait, since = max(wait - max(int(0.03 * steps), 1), max(int(0.06 * steps), 1)), 0
    if len(now["x"]):
        fooled, places = part.fooled(outputs), now["places"]
        # The outputs are those of the step's own image, also where a checkpoint has just gone back to the best.
        kept[places] = torch.where(column(hit[places], kept), kept[places], now["best"])
        kept[places[fooled]], hit[places] = new[fooled], hit[places] | fooled
    return kept, hit


def on_boundary(case: Case, eps: float, norm: Literal["linf", "l2"], stream: int) -> Tensor:
    """Images on the boundary of the ball in a random direction, clipped to the bounds."""
    source, shape = case.generator(stream), case.images.shape[1:]
    if norm == "linf":
        change = 2 * torch.rand(shape, generator=source, dtype=torch.float64) - 1
    else:
        change = torch.randn(shape, generator=source, dtype=torch.float64)
    change *= eps / float(lengths(change.flatten()[None], norm))
    return (case.images + change.to(case.images)).clamp(case.low, case.high)
