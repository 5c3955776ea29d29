"""Adversarial training: a network learns from the images that fool it most, made anew at every step."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..checks import check_network
from ..methods.verb import verb
from ..model.classifier import Classifier, network
from ..model.run import device_of
from ..model.training import Checkpoint, descend, resumed
from ..runfolder import describe_model, hash_of
from ..runfolder.identity import as_json
from .attack.budgets import Norm, project_exactly, step_bounds
from .attack.case import Case, as_outputs
from .attack.decorator import check_budget, check_pixels
from .attack.losses import cross_entropy
from .steps.gradient_steps import mover


@verb(
    paper=(
        "Madry, Makelov, Schmidt, Tsipras & Vladu 2018, Towards deep learning models resistant to adversarial attacks"
    )
)
def adversarial_training(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float = 8 / 255,
    norm: Norm = "linf",
    steps: int = 7,
    step_size: float | None = None,
    epochs: int = 10,
    warm_up: float = 0.3,
    batch: int = 128,
    rate: float = 2e-3,
    weight_decay: float = 1e-4,
    seed: int = 0,
    checkpoint: str | Path | None = None,
    each_epoch: Callable[[int, float, float], None] | None = None,
) -> nn.Module:
    """Train a network on the images that fool it most within a budget.

    Minimizes the mean over images of the maximum over |d| <= eps of the cross-entropy at x + d, where `pgd` from a
    random start stands for the maximum (Madry et al. 2018, Towards deep learning models resistant to adversarial
    attacks). The budget grows linearly over the first epochs: from the start, large ones keep a network from learning
    anything. AdamW; the rate rises and falls over the whole run.

    Args:
        model: a network or a `Classifier` in evaluation mode; a copy of it is trained, from the weights that it has.
        images: N x C x H x W in [0, 1].
        labels: N classes.
        eps: the budget, above 0, in units of pixels.
        norm: of the budget: "linf", "l2" or "l1".
        steps: gradients taken for each batch; 1 with a step size of 1.25 eps is the fast training of Wong, Rice &
            Kolter 2020.
        step_size: in the units of eps; 2.5 eps / steps by default.
        epochs: passes over the images.
        warm_up: the share of the training over which the budget grows.
        batch: images in a step.
        rate: the highest learning rate.
        weight_decay: of AdamW.
        seed: for the order of the images, random starts, and whatever is random in the network.
        checkpoint: a .safetensors file to keep the training in, every few seconds; the same call goes on from there,
            and ends as if it had never been stopped.
        each_epoch: called after each epoch with its number and the mean loss and accuracy on the attacked images.

    Returns:
        The trained copy, in evaluation mode.

    Raises:
        ValueError: for images outside [0, 1], a budget that is 0 or allows everything, labels that do not fit,
            fewer than 1 step or epoch, or a checkpoint of another training.

    >>> import pellucid
    >>> scenes = pellucid.shapes.scenes(8)
    >>> model = pellucid.load("shapes")
    >>> robust = pellucid.adversarial_training(model, scenes.images, scenes.labels, epochs=1, steps=1, batch=4)
    >>> robust is model, robust.training
    (False, False)
    """
    bounds = check_pixels(model, images, None)
    check_budget(eps, norm, bounds, images[0].numel())
    if steps < 1 or epochs < 1 or batch < 1:
        raise ValueError(f"steps is {steps}, epochs is {epochs}, batch is {batch}; expected at least 1 of each")
    if labels.shape != (len(images),) or labels.is_floating_point():
        raise ValueError(f"labels have the shape {tuple(labels.shape)}, expected {len(images)} whole numbers")
    robust = copy.deepcopy(model)
    inner = robust.net if isinstance(robust, Classifier) else robust
    device = device_of(robust) or images.device
    weights = [p for p in robust.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, weight_decay=weight_decay)
    each = -(-len(images) // batch)  # steps in an epoch
    total = epochs * each
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=total + 1)
    source = torch.Generator().manual_seed(seed)
    order, sums = torch.zeros(len(images), dtype=torch.long), torch.zeros(2, dtype=torch.float64)
    kept = None
    if checkpoint is not None:
        recipe = hash_of(
            [describe_model(model), as_json({"images": images, "labels": labels}), eps, norm, steps, step_size, epochs,
             warm_up, batch, rate, weight_decay, seed]
        )  # fmt: skip
        state = {"order": order, "sums": sums}
        generators = [source, torch.default_generator]
        if device.type == "cuda":
            generators.append(torch.cuda.default_generators[device.index or 0])
        kept = Checkpoint(Path(checkpoint), recipe, lambda: {**robust.state_dict(), **state}, generators)

    def loss_of(number: int) -> Tensor:
        place = number % each
        if place == 0:
            order.copy_(torch.randperm(len(images), generator=source))
            sums.zero_()
        rows = order.split(batch)[place]
        x, y = images[rows].to(device), labels[rows].to(device)
        now = eps * min(1.0, (number + 1) / max(1.0, warm_up * total))
        size = (2.5 * now / steps) if step_size is None else step_size * now / eps
        inner.eval()
        hard = _attacked(robust, x, y, now, norm, steps, size, bounds, source)
        inner.train()
        outputs = as_outputs(robust(hard))
        loss = F.cross_entropy(outputs, y)
        sums.add_(torch.tensor([float(loss.detach()) * len(x), int((outputs.argmax(1) == y).sum())], dtype=sums.dtype))
        return loss

    def after(done: int, _: Tensor) -> None:
        schedule.step()
        if each_epoch and done % each == 0:
            inner.eval()
            each_epoch(done // each - 1, *(sums / len(images)).tolist())

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        schedule.last_epoch = done = resumed(kept, optimizer)
        try:
            descend(
                loss_of, weights, optimizer, total, done=done, after=after, kept=kept,
                label="adversarial training", unit="batch",
            )  # fmt: skip
        finally:
            inner.eval()
    check_network(network(robust))
    return robust


def _attacked(
    model: nn.Module, x: Tensor, y: Tensor, eps: float, norm: Norm, steps: int, size: float,
    bounds: tuple[float, float], source: torch.Generator,
) -> Tensor:  # fmt: skip
    """Images after some steps from a random start, another one for each image."""
    places = torch.arange(len(x), device=x.device)
    case = Case(model, x, y, None, *bounds, 0, torch.zeros_like(places), places, lambda _: None)
    noise = torch.rand(x.shape, generator=source).to(x)
    if norm == "linf":
        low, high = step_bounds(x, eps, *bounds)
        now = low + noise * (high - low)
    else:
        now = project_exactly(
            x, x + (2 * noise - 1) * eps / x[0].numel() ** (0.5 if norm == "l2" else 1), eps, norm, *bounds
        )
    move = mover(case, eps, norm, size)
    for _ in range(steps):
        slope, _, _ = case.gradient(now, cross_entropy)
        now = move(now, slope, places)
    return now.detach()
