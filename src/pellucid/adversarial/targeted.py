"""Targeted gradient ascent: from any image, ascend the score of another class until the network is fooled; stop
there."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from .attack.budgets import unit
from .attack.case import Case
from .attack.decorator import attack
from .attack.losses import LossFunction, cross_entropy, margin, of_class
from .steps.gradient_steps import ascend

Score = Literal["logit", "margin", "log_probability"]
SCORES: dict[str, LossFunction] = {
    "logit": lambda outputs, labels, targets: of_class(outputs, labels if targets is None else targets),
    "margin": margin,
    "log_probability": cross_entropy,
}


@attack(
    paper="Szegedy, Zaremba, Sutskever, Bruna, Erhan, Goodfellow & Fergus 2014, Intriguing properties of neural "
    "networks",
    target="required",
    from_images=lambda _: True,
    transformations=True,
)
def targeted(case: Case, *, score: Score = "log_probability", step_size: float = 0.1, steps: int = 500) -> Tensor:
    """Ascend the score of another class, from any image, until the network takes the image for it; stop there.

    x <- clip(x + a g / |g|_2), with g the gradient of the target's score. Each image stops at its first step that
    fools the network, so that it moves little, and no budget is needed.

    Args:
        model: a network or a `Classifier`.
        images: N x C x H x W in [0, 1].
        labels: the right classes; they play no part but in the record. None is the predicted class.
        target: the class to be taken for, by index or label, or one for each image.
        score: "log_probability" of the target, its "logit", or the "margin" by which its logit lies above the next.
        step_size: the length of a step in l2, in units of pixels.
        steps: at the most.
        transformations: `pellucid.Transformations`, to fool the network through a camera too: each gradient is the mean
            over some views.
        bounds: of pixels, for a bare network that takes others than [0, 1].
        seed: unused; there is nothing random.
        folder: where to keep what is finished, image by image in chunks: the same call with the same folder goes on
            where it was stopped.

    Returns:
        An `Attack`.

    Raises:
        ValueError: for images outside the bounds, a target that is the label of every image, fewer than 1 step.
        ModelError: if the network has no gradient.
        OtherRun: if the folder holds another run.

    >>> import pellucid
    >>> model, scenes = pellucid.load("shapes"), pellucid.shapes.scenes(2)
    >>> result = pellucid.targeted(model, scenes.images, target="star")
    >>> [model.label(i) for i in result.after.tolist()]
    ['star', 'star']
    """
    if steps < 1 or not step_size > 0:
        raise ValueError(f"steps is {steps} and step_size is {step_size:g}, expected 1 or more and a length above 0")

    def move(x: Tensor, slope: Tensor, _places: Tensor) -> Tensor:
        return (x + step_size * unit(slope, "l2")).clamp(case.low, case.high)

    return ascend(case, case.images, move, SCORES[score], steps, early_stop=True)[0]
