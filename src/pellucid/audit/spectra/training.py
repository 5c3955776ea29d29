"""Training of small networks on pixels of files: stopped early, kept as it goes, the same for the same seed."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from ...model.batches import progress
from ...model.training import EVERY, descend, put_back, state_of
from ..image_files.pixels import Pixels, at_once
from .checkpoint import Epoch, Progress, read_training, write_training
from .moments import Moments
from .network import SpectrumNet

KEPT = 512 * 2**20  # bytes of features that are kept; where there are more they are made anew in each epoch
STEPS = 10  # of L-BFGS in an epoch
_BATCH = 64
Keep = Callable[[Mapping[str, Tensor]], None]


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
    checkpoint: Path | None = None,
    made_of: str = "",
) -> tuple[list[Epoch], int]:
    """Fit a network in place; it ends with the weights of the epoch whose validation loss is least.

    Minimizes the cross-entropy; each class counts alike, however many images it has. One layer is fitted by L-BFGS over
    all images at once, convolutions by AdamW over shuffled batches. Stops after `patience` epochs without a lower
    validation loss.

    Args:
        net: in evaluation mode; weights as they are to begin with.
        train, validation: images and their classes.
        checkpoint: a file that the training is kept in, every few seconds and at its end, and goes on from.
        made_of: what tells it from another training.

    Returns:
        The epochs, and the number of the one that was kept.

    Raises:
        ValueError: if the loss is no number any more.
        OtherWork: if the checkpoint is of another training.
        KeyboardInterrupt: when it is interrupted with a checkpoint, or before the end of the first epoch.

    Warns:
        UserWarning: if it was interrupted without one: it ends with the best weights so far.
    """
    net.to(device)
    seen = _normalized(net, train[0], validation[0], device)
    labels, held_out = train[1].to(device), validation[1].to(device)
    counts = torch.bincount(labels, minlength=net.linear.out_features).clamp(min=1)
    balance = len(labels) / (len(counts) * counts.float())
    at = Progress(_copied(net))
    if checkpoint is not None and checkpoint.exists():
        at, weights = read_training(checkpoint, made_of)
        net.load_state_dict(weights)
    written = time.perf_counter()

    def keep(weights: Mapping[str, Tensor], every: float = EVERY) -> None:
        nonlocal written
        if checkpoint is not None and time.perf_counter() - written >= every:
            write_training(checkpoint, made_of, at, weights)
            written = time.perf_counter()

    try:
        with progress(epochs, "train", "epoch") as advance:
            advance(len(at.history))
            while len(at.history) < epochs and len(at.history) - at.best <= patience:
                if net.kind == "linear":
                    loss = _descend(net, seen[0], labels, balance, at, keep, weight_decay)
                else:
                    loss = _shuffled(net, seen[0], labels, balance, at, keep, weight_decay, rate, batch, seed)
                with torch.no_grad():
                    logits = torch.cat([net.head(x) for _, x in seen[1].parts()])
                said = float(F.cross_entropy(logits, held_out, balance))
                if not said < float("inf") or not loss < float("inf"):
                    raise ValueError(f"the loss became NaN in epoch {len(at.history) + 1}: take a smaller rate")
                better = not at.history or said < at.history[at.best].validation_loss
                right = float((logits.argmax(1) == held_out).double().mean())
                at.history.append(Epoch(loss, said, right))
                if better:
                    at.kept, at.best = _copied(net), len(at.history) - 1
                at.place, at.total = 0, 0.0
                advance(1)
            keep(net.state_dict(), 0)
    except KeyboardInterrupt:
        if not at.history or checkpoint is not None:
            raise
        done = len(at.history)
        warnings.warn(f"stopped in epoch {done + 1} of {epochs}; epoch {at.best + 1} is kept", stacklevel=3)
    finally:
        net.load_state_dict(at.kept)
        for parameter in net.parameters():
            parameter.grad = None
    return at.history, at.best


def _descend(
    net: SpectrumNet, seen: _Seen, labels: Tensor, balance: Tensor, at: Progress, keep: Keep, weight_decay: float
) -> float:
    """Some steps of L-BFGS, from where the last epoch ended; the loss of the last pass.

    It begins without memory, so that an epoch is made of the weights alone. The losses and slopes of all its passes are
    kept: a training that was stopped inside an epoch is given them again, and goes on where they end.

    Nocedal 1980, Updating quasi-Newton matrices with limited storage.
    """
    parameters = list(net.parameters())
    start = _copied(net)
    at.inside = at.inside if at.place else {}
    passes = 0
    loss = torch.zeros(())

    def closure() -> Tensor:
        nonlocal passes, loss
        if passes == at.place:
            found = _loss_and_slopes(net, seen, labels, balance, weight_decay)
            at.inside |= {f"{passes}.{number}": value for number, value in enumerate(found)}
            at.place += 1
            keep(start)
        loss, *slopes = (at.inside[f"{passes}.{n}"].to(labels.device, copy=True) for n in range(len(parameters) + 1))
        for parameter, slope in zip(parameters, slopes, strict=True):
            parameter.grad = slope
        passes += 1
        return loss

    # It ends after STEPS, not because steps have become small: validation says when to stop.
    torch.optim.LBFGS(
        parameters, max_iter=STEPS, history_size=STEPS, tolerance_grad=0, tolerance_change=0,
        line_search_fn="strong_wolfe",
    ).step(closure)  # fmt: skip
    return float(loss)


def _loss_and_slopes(
    net: SpectrumNet, seen: _Seen, labels: Tensor, balance: Tensor, weight_decay: float
) -> tuple[Tensor, ...]:
    """The mean loss over all images with its decay, and its slopes."""
    parameters = list(net.parameters())
    total = torch.zeros((), device=labels.device)
    slopes = [torch.zeros_like(parameter) for parameter in parameters]

    def add(loss: Tensor) -> None:
        nonlocal total
        total = total + loss.detach()
        for slope, more in zip(slopes, torch.autograd.grad(loss, parameters, allow_unused=True), strict=True):
            slope += 0 if more is None else more

    for rows, x in seen.parts():
        add(F.cross_entropy(net.head(x), labels[rows], balance, reduction="sum") / len(labels))
    if weight_decay:
        add(weight_decay / 2 * net.linear.weight.square().sum())
    return total, *slopes


def _shuffled(
    net: SpectrumNet, seen: _Seen, labels: Tensor, balance: Tensor, at: Progress, keep: Keep, weight_decay: float,
    rate: float, batch: int, seed: int,
) -> float:  # fmt: skip
    """One pass over shuffled batches with AdamW; their mean loss."""
    optimizer = torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=weight_decay)
    put_back(optimizer, at.inside)
    # The order comes of the epoch's number alone: a training that was stopped goes on in it.
    draw = torch.Generator().manual_seed((seed * 1_000_003 + len(at.history)) % 2**63)
    batches = torch.randperm(len(labels), generator=draw).split(batch)

    def loss_of(number: int) -> Tensor:
        rows = batches[number]
        return F.cross_entropy(net.head(seen.batch(rows)), labels[rows.to(labels.device)], balance)

    def after(done: int, loss: Tensor) -> None:
        at.total += float(loss) * len(batches[done - 1])
        at.place, at.inside = done, state_of(optimizer)
        keep(net.state_dict())

    descend(loss_of, net.parameters(), optimizer, len(batches), done=at.place, after=after)
    return at.total / len(labels)


def _copied(net: SpectrumNet) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in net.state_dict().items()}


def _normalized(net: SpectrumNet, train: Pixels, validation: Pixels, device: torch.device) -> list[_Seen]:
    """What the network sees of both sets; it takes over the moments of the first."""
    moments = Moments()
    sets = [_Seen(net, pixels, device) for pixels in (train, validation)]
    with progress(len(train) + len(validation), "transform") as advance:
        for one in sets:
            for rows in torch.arange(len(one.pixels)).split(one.rows):
                found = one.make(rows)
                if one is sets[0]:
                    moments = moments.add(found)
                advance(len(rows))
    with torch.no_grad():
        net.normalize(moments)
        for one in sets:
            one.normalize()
    return sets


class _Seen:
    """What a network sees of images: made once where it fits into memory."""

    def __init__(self, net: SpectrumNet, pixels: Pixels, device: torch.device) -> None:
        self.net, self.pixels, self.device = net, pixels, device
        self.rows = at_once(torch.Size(net.shape).numel(), _BATCH)
        fits = net.features != "pixels" and 4 * len(pixels) * torch.Size(net.size).numel() <= KEPT
        self.kept = torch.empty((len(pixels), *net.size), device=device) if fits else None

    def make(self, rows: Tensor) -> Tensor:
        """What it sees of some images, not normalized yet."""
        with torch.no_grad():
            found = self.net.seen(self.pixels.images(rows, self.device))
        if self.kept is not None:
            self.kept[rows.to(self.device)] = found
        return found

    def normalize(self) -> None:
        """Once the network knows how."""
        if self.kept is not None:
            self.kept.sub_(self.net.mean).div_(self.net.std)

    def batch(self, rows: Tensor) -> Tensor:
        """Of some images, normalized."""
        if self.kept is not None:
            return self.kept[rows.to(self.device)]
        with torch.no_grad():
            return self.net.normalized(self.net.seen(self.pixels.images(rows, self.device)))

    def parts(self) -> Iterator[tuple[slice, Tensor]]:
        """Of all images, some at a time."""
        size = self.rows if self.kept is None else 8 * _BATCH
        for start in range(0, len(self.pixels), size):
            rows = slice(start, min(start + size, len(self.pixels)))
            yield rows, self.batch(torch.arange(rows.start, rows.stop)) if self.kept is None else self.kept[rows]
