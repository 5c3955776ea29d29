"""Training of small networks on pixels of files: shuffled, stopped early, the same for the same seed."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..batches import progress
from .moments import Moments
from .pixels import Pixels
from .spectrum_net import SpectrumNet

KEPT = 512 * 2**20  # bytes of features that are kept; where there are more they are made anew in each epoch
_BATCH = 64


@dataclass(frozen=True)
class Epoch:
    """What one pass over the training images came to: mean losses, and the share of validation images seen rightly."""

    loss: float
    validation_loss: float
    accuracy: float


def train(
    net: SpectrumNet,
    train: tuple[Pixels, Tensor],
    validation: tuple[Pixels, Tensor],
    *,
    epochs: int,
    patience: int,
    rate: float,
    weight_decay: float,
    batch: int,
    seed: int,
    device: torch.device,
) -> tuple[list[Epoch], int]:
    """Fit a network in place; it ends with the weights of the epoch whose validation loss is least.

    Minimises the cross-entropy with AdamW; each class counts alike, however many images it has. Stops after `patience`
    epochs without a lower validation loss.

    Args:
        net: in evaluation mode; weights as they are to begin with.
        train, validation: images and their classes.

    Returns:
        The epochs, and the number of the one that was kept.

    Raises:
        ValueError: if the loss is no number any more.

    Warns:
        UserWarning: if it was interrupted after the first epoch.
    """
    net.to(device)
    moments = Moments()
    seen = [_Seen(net, pixels, device) for pixels, _ in (train, validation)]
    with progress(len(train[0]), "normalise") as advance:
        for rows in torch.arange(len(train[0])).split(_BATCH):
            moments = moments.add(seen[0].batch(rows))
            advance(len(rows))
    with torch.no_grad():
        net.normalise(moments)
    labels, held_out = train[1].to(device), validation[1].to(device)
    counts = torch.bincount(labels, minlength=net.linear.out_features).clamp(min=1)
    balance = len(labels) / (len(counts) * counts.float())
    parameters = dict(net.named_parameters())
    optimiser = torch.optim.AdamW(parameters.values(), lr=rate, weight_decay=weight_decay)
    order = torch.Generator().manual_seed(seed)
    history: list[Epoch] = []
    best, kept = 0, copy.deepcopy(net.state_dict())
    try:
        with progress(epochs, "train", "epoch") as advance:
            for epoch in range(epochs):
                total = 0.0
                for rows in torch.randperm(len(labels), generator=order).split(batch):
                    some = rows.to(device)
                    loss = F.cross_entropy(net.head(seen[0].batch(rows)), labels[some], balance)
                    slopes = torch.autograd.grad(loss, list(parameters.values()))
                    for parameter, slope in zip(parameters.values(), slopes, strict=True):
                        parameter.grad = slope
                    optimiser.step()
                    total += float(loss.detach()) * len(rows)
                logits = torch.cat(seen[1].each(net.head))
                said = float(F.cross_entropy(logits, held_out, balance))
                right = float((logits.argmax(1) == held_out).double().mean())
                history.append(Epoch(total / len(labels), said, right))
                if not said < float("inf") or not total < float("inf"):
                    raise ValueError(f"the loss became NaN in epoch {epoch + 1}: take a smaller rate than {rate:g}")
                if said < history[best].validation_loss or epoch == 0:
                    best, kept = epoch, copy.deepcopy(net.state_dict())
                advance(1)
                if epoch - best >= patience:
                    break
    except KeyboardInterrupt:
        if not history:
            raise
        warnings.warn(f"stopped in epoch {len(history) + 1} of {epochs}; epoch {best + 1} is kept", stacklevel=3)
    finally:
        net.load_state_dict(kept)
        for parameter in parameters.values():
            parameter.grad = None
    return history, best


class _Seen:
    """What a network sees of images: made once where it fits into memory."""

    def __init__(self, net: SpectrumNet, pixels: Pixels, device: torch.device) -> None:
        self.net, self.pixels, self.device = net, pixels, device
        numbers = len(pixels)
        for side in net.size:
            numbers *= side
        self.kept: Tensor | None = None
        if net.features != "pixels" and 4 * numbers <= KEPT:
            parts = [self._make(rows) for rows in torch.arange(len(pixels)).split(_BATCH)]
            self.kept = torch.cat(parts)

    def _make(self, rows: Tensor) -> Tensor:
        with torch.no_grad():
            return self.net.seen(self.pixels.images(rows, self.device))

    def batch(self, rows: Tensor) -> Tensor:
        return self._make(rows) if self.kept is None else self.kept[rows.to(self.device)]

    def each(self, head: Callable[[Tensor], Tensor]) -> list[Tensor]:
        with torch.no_grad():
            return [head(self.batch(rows)) for rows in torch.arange(len(self.pixels)).split(_BATCH)]
