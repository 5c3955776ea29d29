"""Projected gradient descent: many small steps, each brought back into the budget."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .balls import Norm, column, lengths, project, project_l1_box, step_bounds, unit
from .call import attack
from .case import Case
from .losses import BY_NAME, Loss, LossFunction

SPARSE = 0.01  # the share of an image's values that one l1 step moves


@attack(
    paper="Madry, Makelov, Schmidt, Tsipras & Vladu 2018, Towards deep learning models resistant to adversarial "
    "attacks",
    from_images=lambda options: not options["random_start"],
    views=True,
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
        views: `pellucid.Views`, to fool the network through a camera too: each gradient is the mean over some views.
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


Move = Callable[[Tensor, Tensor, Tensor], Tensor]


def ascend(
    case: Case,
    x: Tensor,
    move: Move,
    loss: LossFunction,
    steps: int,
    *,
    momentum: float = 0.0,
    early_stop: bool = False,
    share: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Steps up a loss: the images found, and whether each fools the network.

    Args:
        case: what is attacked. x: n x C x H x W, where to begin.
        move: from the images, the gradients and the places (which images of the case these are) to the next images.
        share: of the whole attack's work, for the progress bar.
    """
    n = len(case)
    kept, hit = x, torch.zeros(n, dtype=torch.bool, device=x.device)
    places, part, velocity = torch.arange(n, device=x.device), case, torch.zeros(())
    for _ in case.steps(steps, share):
        if not len(places):
            continue
        slope, outputs, _ = part.slope(x, loss)
        fooled = part.fooled(outputs)
        if fooled.any():
            kept = kept.index_copy(0, places[fooled], x[fooled])
            hit[places[fooled]] = True
            if early_stop:
                x, slope, places = x[~fooled], slope[~fooled], places[~fooled]
                velocity = velocity[~fooled] if velocity.ndim else velocity
                part = case.part(places)
                if not len(places):
                    continue
        if momentum:
            velocity = slope = momentum * velocity + slope / column(lengths(slope, "l1").clamp(min=1e-12), slope)
        x = move(x, slope, places)
    if not len(places):
        return kept, hit
    fooled = part.fooled(part.outputs(x))
    new = fooled | ~hit[places]
    if len(places) == n and bool(new.all()):
        return x, fooled
    hit[places] |= fooled
    return kept.index_copy(0, places[new], x[new]), hit


def mover(case: Case, eps: float, norm: Norm, size: float) -> Move:
    """One step of a length along the gradient, brought back into the budget and the bounds."""
    origin, low, high = case.images, case.low, case.high
    if norm == "linf":
        lowest, highest = step_bounds(origin, eps, low, high)

        def linf(x: Tensor, slope: Tensor, places: Tensor) -> Tensor:
            down, up = (lowest, highest) if len(places) == len(origin) else (lowest[places], highest[places])
            return torch.minimum(torch.maximum(x + size * slope.sign(), down), up)

        return linf

    def l2(x: Tensor, slope: Tensor, places: Tensor) -> Tensor:
        near = origin[places]
        return (near + project(x + size * unit(slope, "l2") - near, eps, "l2")).clamp(low, high)

    def l1(x: Tensor, slope: Tensor, places: Tensor) -> Tensor:
        near = origin[places]
        change = x + size * sparse(slope, x, low, high) - near
        return near + project_l1_box(change, near, eps, low, high)

    return l2 if norm == "l2" else l1


def sparse(slope: Tensor, x: Tensor, low: float, high: float) -> Tensor:
    """The signs of the steepest hundredth of the values that can move, scaled to sizes that sum to 1."""
    stuck = ((x <= low) & (slope < 0)) | ((x >= high) & (slope > 0))
    sizes = slope.abs().masked_fill(stuck, 0).flatten(1)
    count = max(1, math.ceil(SPARSE * sizes.shape[1]))
    places = sizes.topk(count, 1).indices
    chosen = torch.zeros_like(sizes).scatter_(1, places, 1.0).view_as(slope) * slope.sign() * ~stuck
    return chosen / column(lengths(chosen, "l1").clamp(min=1), chosen)


def random_in(case: Case, eps: float, norm: Norm, stream: int) -> Tensor:
    """Images drawn from the ball, and clipped to the bounds; the same change for every image.

    Uniform in linf and l2; in l1, a Laplace direction of uniform length.
    """
    source, shape = case.generator(stream), case.images.shape[1:]
    if norm == "linf":
        change = eps * (2 * torch.rand(shape, generator=source, dtype=torch.float64) - 1)
    elif norm == "l2":
        change = torch.randn(shape, generator=source, dtype=torch.float64)
        change *= eps * float(torch.rand((), generator=source, dtype=torch.float64)) ** (1 / change.numel())
        change /= lengths(change.flatten()[None], "l2")
    else:
        change = torch.rand(shape, generator=source, dtype=torch.float64) - 0.5
        change = change.sign() * (1 - 2 * change.abs()).clamp(min=1e-300).log().abs()
        change *= eps * float(torch.rand((), generator=source, dtype=torch.float64)) / lengths(change[None], "l1")
    return (case.images + change.to(case.images)).clamp(case.low, case.high)
