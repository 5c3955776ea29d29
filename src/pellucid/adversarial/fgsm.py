"""The fast gradient sign method: one step as long as the budget, along the sign of the gradient."""

from __future__ import annotations

from torch import Tensor

from .attack.budgets import Norm, l1_steepest_step, rounding_margin, unit
from .attack.case import Case
from .attack.decorator import attack
from .attack.losses import BY_NAME, Loss


@attack(
    paper="Goodfellow, Shlens & Szegedy 2015, Explaining and harnessing adversarial examples",
    from_images=lambda _: True,
    transformations=True,
)
def fgsm(case: Case, *, eps: float = 8 / 255, norm: Norm = "linf", loss: Loss = "ce") -> Tensor:
    """One step as long as the budget, along the sign of the gradient.

    x' = clip(x + eps sign(g)), with g the gradient of the loss. In l2 the step is eps g / |g|_2; in l1 the steepest
    pixels go to their bounds, one after the other, until the budget is spent. It takes one pass forward and back, and
    one forward to see whether it worked.

    Args:
        model: a network or a `Classifier`.
        images: N x C x H x W in [0, 1].
        labels: the right class by index or label, or one for each image; None is the predicted class.
        target: the class to be taken for; None for any wrong one.
        eps: how far an image may move, above 0, in units of pixels.
        norm: of the budget: "linf", "l2" or "l1".
        loss: "ce" (cross-entropy), "margin" or "dlr".
        transformations: `pellucid.Transformations`, to fool the network through a camera too: each gradient is the mean
            over some views.
        bounds: of pixels, for a bare network that takes others than [0, 1].
        seed: unused; there is nothing random.
        folder: where to keep what is finished, image by image in chunks: the same call with the same folder goes on
            where it was stopped.

    Returns:
        An `Attack`.

    Raises:
        ValueError: for images outside the bounds, a budget that is 0 or allows everything, unknown classes.
        ModelError: if the network has no gradient.
        OtherRun: if the folder holds another run.

    >>> import pellucid
    >>> model, scenes = pellucid.load("shapes"), pellucid.shapes.scenes(4)
    >>> result = pellucid.fgsm(model, scenes.images, scenes.labels, eps=4 / 255)
    >>> result.images.shape, bool((result.distance("linf") <= 4 / 255).all())
    (torch.Size([4, 3, 96, 96]), True)
    """
    slope, _, _ = case.gradient(case.images, BY_NAME[loss])
    if norm == "l1":
        return case.images + l1_steepest_step(slope, case.images, eps, case.low, case.high)
    size = rounding_margin(eps, case.images.dtype, case.low, case.high)
    return (case.images + size * unit(slope, norm)).clamp(case.low, case.high)
