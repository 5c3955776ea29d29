"""Auto-PGD in l1: sparse steps within ball and bounds, from a larger ball to the one that is allowed.

Croce & Hein 2021, Mind the box: l1-APGD for sparse adversarial attacks on image classifiers.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..attack.budgets import broadcast, lengths, project_l1_box
from ..attack.case import Case
from ..attack.losses import LossFunction
from .apgd_state import back_to_best, leave, step_to

RADII = ((3.0, 0.3), (2.0, 0.3), (1.0, 0.4))  # of the budget, and the share of the steps there
SPARSE = 0.2  # the share of the values that a first step from a dense start moves
FEWER = 1.5  # a step moves so many times fewer values than the best change so far has
STILL = 0.95  # a best change of fewer values than this share of those before: large steps pay again
SLOWER, LEAST = 1.5, 0.1  # the step is divided by the first, down to this share of the budget
CHECKS = 0.04  # after this share of the steps


def start_l1(case: Case, eps: float, stream: int) -> Tensor:
    """Images at random on the largest ball; the same draw for every image."""
    change = torch.randn(case.images.shape[1:], generator=case.generator(stream), dtype=torch.float64)
    return _into(case.images + change.to(case.images), case, RADII[0][0] * eps)


def climb_l1(
    case: Case, start: Tensor, eps: float, loss: LossFunction, steps: int, *, early_stop: bool, share: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Auto-PGD in l1 from one start: the images found, and whether each fools the network."""
    counts = [math.ceil(part * steps) for _, part in RADII[:-1]]
    counts.append(steps - sum(counts))
    # Too few steps to be shared out: all are taken within the budget itself.
    stages = [(1.0, steps)] if counts[-1] < 1 else list(zip((far for far, _ in RADII), counts, strict=True))
    x, kept, hit = start, start, torch.zeros(len(case), dtype=torch.bool, device=start.device)
    for far, count in stages:
        last = far == 1.0
        x, kept, hit = _stage(
            case, _into(x, case, far * eps), far * eps, loss, count,
            early_stop=early_stop and last, share=share * count / steps,
        )  # fmt: skip
    return kept, hit


def _stage(
    case: Case, start: Tensor, radius: float, loss: LossFunction, steps: int, *, early_stop: bool, share: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Steps within one ball: the images of the highest loss, those to return, and which of these fool the network."""
    n, device, size = len(case), start.device, start[0].numel()
    tops, kept, hit = start.clone(), start.clone(), torch.zeros(n, dtype=torch.bool, device=device)
    slope, outputs, value = case.gradient(start, loss)
    moved = lengths(start - case.images, "l0").float()
    # One row for each image that is still attacked.
    now = {
        "places": torch.arange(n, device=device), "x": start, "slope": slope, "value": value,
        "best": start, "best_slope": slope, "top": value, "step": torch.full_like(value, radius),
        "before": torch.where(moved > 0, moved, size), "wide": torch.where(moved > 0, moved / FEWER, SPARSE * size),
    }  # fmt: skip
    part, now = leave(case, case, now, outputs, kept, hit, early_stop)
    wait = max(int(CHECKS * steps), 1)
    for k in case.steps(steps, share):
        if not len(now["x"]):
            continue
        x = now["x"]
        # What stands at its bound and is drawn further would take part in the step, and not move.
        stuck = ((x <= case.low) & (now["slope"] < 0)) | ((x >= case.high) & (now["slope"] > 0))
        step = steepest(now["slope"].masked_fill(stuck, 0), now["wide"])
        new = _into(x + broadcast(now["step"], x).to(x) * step, part, radius)
        outputs, now = step_to(part, new, now, loss, last=k == steps - 1)
        tops[now["places"]] = now["best"]
        part, now = leave(case, part, now, outputs, kept, hit, early_stop)
        if (k + 1) % wait == 0:
            moved = lengths(now["best"] - part.images, "l0").float()
            sparser = moved / now["before"].clamp(min=1) < STILL
            slower = (now["step"] / SLOWER).clamp(min=LEAST * radius)
            now |= {
                "before": moved, "wide": moved / FEWER,
                "step": torch.where(sparser, torch.full_like(slower, radius), slower), **back_to_best(now, sparser),
            }  # fmt: skip
    places = now["places"]
    kept[places] = torch.where(broadcast(hit[places], kept), kept[places], now["best"])
    return tops, kept, hit


def steepest(slope: Tensor, wide: Tensor) -> Tensor:
    """The signs of so many of the steepest values of each image, scaled to sizes that sum to 1.

    >>> steepest(torch.tensor([[3.0, -2.0, 1.0]]), torch.tensor([2.0]))
    tensor([[ 0.5000, -0.5000,  0.0000]])
    """
    sizes = slope.abs().flatten(1)
    count = wide.round().long().clamp(1, sizes.shape[1])
    ranked = sizes.topk(int(count.max()), 1).values
    least = ranked.gather(1, count[:, None] - 1)
    chosen = (slope.sign().flatten(1) * (sizes >= least)).view_as(slope)
    return chosen / broadcast(lengths(chosen, "l1").clamp(min=1), chosen)


def _into(x: Tensor, case: Case, radius: float) -> Tensor:
    return case.images + project_l1_box(x - case.images, case.images, radius, case.low, case.high)
