"""AutoAttack: four attacks without settings, one after the other, each on the images that still stand."""

from __future__ import annotations

import torch
from torch import Tensor

from .apgd import climb
from .attack.budgets import Norm, lengths
from .attack.case import Case
from .attack.decorator import attack
from .attack.losses import cross_entropy, dlr, margin
from .fab import towards
from .square import squares

STEPS, TARGETS, QUERIES = 100, 9, 5000  # of the published standard
SHARES = (0.1, 0.45, 0.25, 0.2)  # of the work, for the progress bar


@attack(
    paper="Croce & Hein 2020, Reliable evaluation of adversarial robustness with an ensemble of diverse "
    "parameter-free attacks",
    target="never",
)
def auto_attack(case: Case, *, eps: float = 8 / 255, norm: Norm = "linf", budget: float = 1.0) -> Tensor:
    """Four attacks without settings, one after the other, each on the images that still stand.

    The published standard: auto-PGD on the cross-entropy (100 steps), auto-PGD on the targeted difference of logits
    ratio for each of the 9 nearest classes (100 steps each), targeted FAB for these (100 steps each), and the square
    attack (5000 queries). In l1 the first has 5 restarts, the second 5 classes. An image leaves at the pass that
    shows it fooled. Networks of fewer than 4 classes, for which the targeted ratio is not defined, get the margin
    instead.

    Args:
        model: a network or a `Classifier`.
        images: N x C x H x W in [0, 1].
        labels: the right class by index or label, or one for each image; None is the predicted class.
        eps: how far an image may move, above 0, in units of pixels.
        norm: of the budget: "linf", "l2" or "l1".
        budget: 1 is the standard; 0.1 takes a tenth of all steps and queries, for a first look.
        bounds: of pixels, for a bare network that takes others than [0, 1].
        seed: for random starts and squares.
        folder: where to keep what is finished, image by image in chunks: the same call with the same folder goes on
            where it was stopped.

    Returns:
        An `Attack`.

    Raises:
        ValueError: for images outside the bounds, a budget that is 0 or allows everything, unknown classes.
        ModelError: if the network has no gradient.
        OtherRun: if the folder holds another run.

    Warns:
        UserWarning: where the network seems random, or squares fool it where gradients do not (a sign that its
            gradients are masked, so that it is less robust than gradients say).

    >>> import pellucid
    >>> model, scenes = pellucid.load("shapes"), pellucid.shapes.scenes(2)
    >>> result = pellucid.auto_attack(model, scenes.images, scenes.labels, eps=16 / 255, budget=0.05)
    >>> bool((result.distance("linf") <= 16 / 255).all())
    True
    """
    if not 0 < budget <= 1:
        raise ValueError(f"budget is {budget:g}, expected a share of the standard, in (0, 1]")
    steps, queries = max(1, round(STEPS * budget)), max(1, round(QUERIES * budget))
    outputs = case.outputs(case.images)
    aims = case.runners_up(outputs, TARGETS)
    aimed = dlr if outputs.shape[1] >= 4 else margin
    found, left = case.images.clone(), torch.arange(len(case), device=case.images.device)
    restarts, classes = (5, min(5, aims.shape[1])) if norm == "l1" else (1, aims.shape[1])
    for k in range(restarts):
        if len(left):
            x, hit = climb(
                case.part(left), eps, norm, cross_entropy, steps, stream=k, early_stop=True,
                share=SHARES[0] / restarts,
            )  # fmt: skip
            found[left], left = x, left[~hit]
    for k in range(classes):
        if len(left):
            part = case.part(left).aimed(aims[left, k])
            x, hit = climb(
                part, eps, norm, aimed, steps, stream=restarts + k, early_stop=True, share=SHARES[1] / classes
            )  # fmt: skip
            found[left[hit]], left = x[hit], left[~hit]
    for k in range(aims.shape[1]):
        if len(left):
            part = case.part(left)
            least = torch.full((len(left),), torch.inf, device=left.device)
            x, _ = towards(
                part, aims[left, k], norm, steps, part.images, least, 0, eps, SHARES[2] / aims.shape[1], enough=eps
            )  # fmt: skip
            moved = lengths(x - part.images, norm)
            hit = (moved > 0) & (moved <= eps)
            found[left[hit]], left = x[hit], left[~hit]
    if len(left):
        part = case.part(left)
        x, hit = squares(part, eps, norm, queries, 0.8, part_of_work=SHARES[3], stream=100)
        found[left[hit]] = x[hit]
        part.note("gradient_masked", hit)
    return found
