"""One change that fools the network for most images at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..display.figures import grid
from ..methods.result import Call
from ..methods.verb import verb
from ..model.batches import batched, progress
from ..model.classifier import Classifier
from ..model.run import Model, device_of
from ..objectives import Target
from .attack.batches import over_batches
from .attack.budgets import Norm, project, project_exactly, unit
from .attack.case import Case
from .attack.decorator import check_budget, check_classes, check_pixels
from .attack.diagnostics import emit_warnings
from .attack.losses import BY_NAME, Loss
from .attack.result import Attack


@dataclass(frozen=True, eq=False, repr=False)
class Universal(Attack):
    """An `Attack` with one change for all images: `perturbation`, 1 x C x H x W, before clipping to the bounds."""

    perturbation: Tensor = field(repr=False, default_factory=lambda: torch.empty(0))

    def picture(self) -> Any:
        """The change alone, around mid-gray and stretched to the whole range."""
        change = self.perturbation.float()
        return grid([0.5 + 0.5 * change[0] / change.abs().max().clamp(min=1e-12)], ["one change for all"], columns=1)


@verb(paper="Moosavi-Dezfooli, Fawzi, Fawzi & Frossard 2017, Universal adversarial perturbations")
def universal(
    model: Model,
    images: Tensor,
    labels: Target = None,
    *,
    target: Target = None,
    eps: float = 10 / 255,
    norm: Norm = "linf",
    epochs: int = 10,
    step_size: float | None = None,
    loss: Loss = "margin",
    most: float = 2.0,
    bounds: tuple[float, float] | None = None,
    seed: int = 0,
) -> Universal:
    """One change that fools the network for most images at once, also for images that it was not made from.

    Maximizes the mean over images of min(loss, most) at clip(x + d) over changes d with |d| <= eps, by steps along the
    gradient summed over all images (sign in linf): d <- P(d + a g / |g|). The bound keeps images that are fooled
    already from outweighing the others (Shafahi et al. 2020, Universal adversarial training).

    Args:
        model: a network or a `Classifier`.
        images: N x C x H x W in [0, 1].
        labels: the right class by index or label, or one for each image; None is the predicted class.
        target: the class to be taken for; None for any wrong one.
        eps: how far an image may move, above 0, in units of pixels.
        norm: of the budget: "linf", "l2" or "l1".
        epochs: steps, each over all images.
        step_size: in the units of eps; 2.5 eps / epochs by default.
        loss: "margin", "ce" (cross-entropy) or "dlr".
        most: where the loss of an image is cut off.
        bounds: of pixels, for a bare network that takes others than [0, 1].
        seed: unused; there is nothing random.

    Returns:
        A `Universal`: an `Attack` with the change as `perturbation`; try it on others as (x + d).clamp(0, 1).

    Raises:
        ValueError: for images outside the bounds, a budget that is 0 or allows everything, unknown classes, or fewer
            than 1 epoch.
        ModelError: if the network has no gradient.

    Moosavi-Dezfooli, Fawzi, Fawzi & Frossard 2017, Universal adversarial perturbations.

    >>> import pellucid
    >>> model, scenes = pellucid.load("shapes"), pellucid.shapes.scenes(4)
    >>> result = pellucid.universal(model, scenes.images, scenes.labels, eps=16 / 255, epochs=2)
    >>> result.perturbation.shape
    torch.Size([1, 3, 96, 96])
    """
    low, high = check_pixels(model, images, bounds)
    check_budget(eps, norm, (low, high), images[0].numel())
    if epochs < 1:
        raise ValueError(f"epochs is {epochs}, expected at least 1")
    right, goal = check_classes(model, labels, target, len(images))
    size = 2.5 * eps / epochs if step_size is None else step_size
    device = device_of(model) or images.device
    change = torch.zeros_like(images[:1], device=device)
    raised = BY_NAME[loss]

    def capped(outputs: Tensor, classes: Tensor, targets: Tensor | None) -> Tensor:
        return raised(outputs, classes, targets).clamp(max=most)

    def case(part: slice) -> Case:
        x = images[part].detach().to(device)
        places = torch.arange(len(x), device=device)
        aims = None if goal is None else goal[part].to(device)
        return Case(model, x, right[part].to(device), aims, low, high, seed, 0 * places, places, lambda _: None)

    with progress(epochs + 1, "universal", unit="epoch") as advance:
        if (right < 0).any():
            _predict(case, right, images, device)
        for _ in range(epochs):
            total = torch.zeros_like(change)

            def step(part: slice, total: Tensor = total, change: Tensor = change) -> None:
                one = case(part)
                slope, _, _ = one.gradient((one.images + change).clamp(low, high), capped)
                total += slope.sum(0, keepdim=True)

            batched(step, len(images), like=images, device=device)
            change = project(change + size * unit(total, "linf" if norm == "linf" else "l2"), eps, norm)
            advance(1)
        change = project_exactly(torch.zeros_like(change), change, eps, norm, low - high, high - low)
        fields = emit_warnings(over_batches(
            lambda one: one.images + change, model, images.detach(), right, goal,
            budget=(eps, norm), bounds=(low, high), seed=seed, keep=False, name="universal",
        ))  # fmt: skip
        advance(1)
    record = Call(
        options={
            "eps": eps,
            "norm": norm,
            "epochs": epochs,
            "step_size": size,
            "loss": loss,
            "most": most,
            "seed": seed,
        },
        objective="away from the label" if goal is None else "to the target",
    )
    names = model.labels if isinstance(model, Classifier) else ()
    return Universal(
        originals=images.detach(), names=names, call=record, perturbation=change.to(images.device), **fields
    )


def _predict(case: Any, right: Tensor, images: Tensor, device: torch.device) -> None:
    def step(part: slice) -> None:
        one = case(part)
        right[part] = one.outputs(one.images).argmax(1).cpu()

    batched(step, len(images), like=images, device=device)
