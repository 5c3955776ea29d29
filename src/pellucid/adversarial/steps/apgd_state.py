"""What the steps of auto-PGD have in common in all norms: one row for each image that is still attacked."""

from __future__ import annotations

import torch
from torch import Tensor

from ..attack.budgets import broadcast
from ..attack.case import Case
from ..attack.losses import LossFunction

Rows = dict[str, Tensor]


def step_to(part: Case, new: Tensor, now: Rows, loss: LossFunction, *, last: bool) -> tuple[Tensor, Rows]:
    """Look at the next images: the outputs, and the rows with these, their gradients and losses, and the best so far.

    Args:
        part: the case of the rows. now: with x, slope, value, best, best_slope and top. last: no gradient is needed.
    """
    if last:
        outputs = part.outputs(new)
        value, slope = loss(outputs, part.labels, part.targets), now["slope"]
    else:
        slope, outputs, value = part.gradient(new, loss)
    better = value > now["top"]
    return outputs, now | {
        "x": new, "slope": slope, "was": now["value"], "value": value, "top": torch.where(better, value, now["top"]),
        "best": torch.where(broadcast(better, new), new, now["best"]),
        "best_slope": torch.where(broadcast(better, new), slope, now["best_slope"]),
    }  # fmt: skip


def leave(
    case: Case, part: Case, now: Rows, outputs: Tensor, kept: Tensor, hit: Tensor, early_stop: bool
) -> tuple[Case, Rows]:
    """Keep the images that fool the network; with early stop they leave.

    Args:
        case: of all images. part: of the rows. kept, hit: of all images, changed here.
    """
    fooled = part.fooled(outputs)
    if fooled.any():
        here = now["places"][fooled]
        kept[here], hit[here] = now["x"][fooled], True
        if early_stop:
            now = {name: rows[~fooled] for name, rows in now.items()}
            part = case.part(now["places"])
    return part, now


def back_to_best(now: Rows, chosen: Tensor) -> Rows:
    """The images and gradients to go on from: the best so far where chosen."""
    shape = broadcast(chosen, now["x"])
    return {
        "x": torch.where(shape, now["best"], now["x"]), "slope": torch.where(shape, now["best_slope"], now["slope"])
    }  # fmt: skip
