"""What an attack raises: how wrong the network is, or how much it sees the target.

Each is a function of the outputs (N x K) and the classes (N) that gives N numbers; higher is more wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor

Loss = Literal["ce", "margin", "dlr"]
LossFunction = Callable[[Tensor, Tensor, Tensor | None], Tensor]
LOSSES: tuple[Loss, ...] = get_args(Loss)


def cross_entropy(outputs: Tensor, labels: Tensor, targets: Tensor | None = None) -> Tensor:
    """log((1 - p) / p) of the label's probability p, or log(p / (1 - p)) of the target's.

    Its gradient is that of the cross-entropy, divided by 1 - p: the same direction, which is all that attacks use,
    but one that does not vanish where the network is sure (from 1 - p < 1e-45 on the gradient of -log p is zero in
    float32: trained networks with logits in the hundreds seem robust by that alone). It grows with the cross-entropy.

    >>> cross_entropy(torch.tensor([[1.0, 1.0, 1.0]]), torch.tensor([0]))
    tensor([0.6931])
    """
    mine = labels if targets is None else targets
    chosen = of_class(outputs, mine)
    rest = without_class(outputs, mine).logsumexp(1)
    return rest - chosen if targets is None else chosen - rest


def margin(outputs: Tensor, labels: Tensor, targets: Tensor | None = None) -> Tensor:
    """max over j != y of z_j, less z_y; for a target t: z_t less max over j != t of z_j. Above 0 where fooled.

    >>> margin(torch.tensor([[-5.0, -2.0]]), torch.tensor([1]))
    tensor([-3.])
    """
    mine = labels if targets is None else targets
    gap = without_class(outputs, mine).amax(1) - of_class(outputs, mine)
    return gap if targets is None else -gap


def dlr(outputs: Tensor, labels: Tensor, targets: Tensor | None = None) -> Tensor:
    """The difference of logits ratio (Croce & Hein 2020), which no scaling or shift of the outputs changes.

    -(z_y - max over i != y of z_i) / (z_(1) - z_(3)) with z_(i) the outputs in falling order; for a target t:
    -(z_y - z_t) / (z_(1) - (z_(3) + z_(4)) / 2).

    Raises:
        ValueError: for fewer than 3 classes, or 4 with a target.

    >>> dlr(torch.tensor([[4.0, 2.0, 0.0]]), torch.tensor([0]))
    tensor([-0.5000])
    """
    classes, needed = outputs.shape[1], 3 if targets is None else 4
    if classes < needed:
        raise ValueError(
            f"loss='dlr' needs {needed} classes{'' if targets is None else ' with a target'}, the network has "
            f"{classes}: take 'ce' or 'margin'"
        )
    top = outputs.topk(needed, 1).values
    if targets is None:
        above, spread = margin(outputs, labels), top[:, 0] - top[:, 2]
    else:
        above = of_class(outputs, targets) - of_class(outputs, labels)
        spread = top[:, 0] - (top[:, 2] + top[:, 3]) / 2
    return above / (spread + 1e-12)


BY_NAME: dict[str, LossFunction] = {"ce": cross_entropy, "margin": margin, "dlr": dlr}


def of_class(outputs: Tensor, classes: Tensor) -> Tensor:
    """The output of one class for each image."""
    return outputs.gather(1, classes[:, None])[:, 0]


def without_class(outputs: Tensor, classes: Tensor) -> Tensor:
    """The outputs with that of one class at minus infinity: no number that a network gives is lower."""
    return outputs.scatter(1, classes[:, None], -torch.inf)
