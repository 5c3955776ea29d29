"""Carlini and Wagner's attack: the smallest change in l2 that fools the network, by descent on both."""

from __future__ import annotations

import torch
from torch import Tensor

from .attack.budgets import broadcast, lengths
from .attack.case import Case
from .attack.decorator import attack
from .attack.losses import margin

BETA1, BETA2 = 0.9, 0.999  # of Adam


@attack(paper="Carlini & Wagner 2017, Towards evaluating the robustness of neural networks", steps_in_pixels=True)
def carlini_wagner(
    case: Case,
    *,
    steps: int = 300,
    searches: int = 6,
    constant: float = 1.0,
    step_size: float = 0.01,
    confidence: float = 0.0,
) -> Tensor:
    """The smallest change in l2 that fools the network, by descent on the change and the network's margin.

    Minimizes |d|_2^2 + c max(z_y - max over j != y of z_j + k, 0) over changes d that leave x + d in bounds, with k
    the confidence; with a target t, z_t takes the place of the maximum and max over j != t of z_j that of z_y. c is
    searched for each image: up by tens until it is fooled or down by tens until it is not, then at the geometric mean
    of the largest c that failed and the least that worked.

    Pixels are clipped after each step of Adam (the paper's projected descent). The paper's other way, x = (tanh(w) +
    1) / 2, has no gradient at pixels that are exactly 0 or 1, which then hardly move: in MNIST that is four of five.

    Args:
        model: a network or a `Classifier`.
        images: N x C x H x W in [0, 1].
        labels: the right class by index or label, or one for each image; None is the predicted class.
        target: the class to be taken for; None for any wrong one.
        steps: of Adam for each c, 1 or more.
        searches: how many c are tried, 1 or more.
        constant: the first c, above 0, times 1 / the margin of the image itself.
        step_size: of Adam, in units of pixels; it falls to a tenth along a cosine.
        confidence: k, by how much the wrong class must lie above the right one, in units of the logits.
        bounds: of pixels, for a bare network that takes others than [0, 1].
        seed: unused; there is nothing random.
        folder: where to keep what is finished, image by image in chunks: the same call with the same folder goes on
            where it was stopped.

    Returns:
        An `Attack`.

    Raises:
        ValueError: for images outside the bounds, unknown classes, or options that are too small.
        ModelError: if the network has no gradient.
        OtherRun: if the folder holds another run.

    >>> import pellucid
    >>> model, scenes = pellucid.load("shapes"), pellucid.shapes.scenes(2)
    >>> pellucid.carlini_wagner(model, scenes.images, scenes.labels, steps=20, searches=2).success
    tensor([True, True])
    """
    if steps < 1 or searches < 1 or not constant > 0 or not step_size > 0 or confidence < 0:
        raise ValueError(
            f"steps is {steps}, searches is {searches}, constant is {constant:g}, step_size is {step_size:g}, "
            f"confidence is {confidence:g}; expected the first two 1 or more, the next two above 0, the last 0 or more"
        )
    n, device, exact = len(case), case.images.device, torch.promote_types(case.images.dtype, torch.float32)
    found, least = case.images.clone(), torch.full((n,), torch.inf, device=device)
    # In units of the margin at the image: a network whose outputs are all a hundred times larger is the same network.
    c = constant / margin(case.outputs(case.images), case.labels, case.targets).abs().clamp(min=1e-6).float()
    failed, worked = torch.zeros_like(c), torch.full_like(c, torch.inf)

    def cost(outputs: Tensor, labels: Tensor, targets: Tensor | None) -> Tensor:
        return -c.to(outputs.dtype) * (confidence - margin(outputs, labels, targets)).clamp(min=0)

    for _ in range(searches):
        x, change = case.images, torch.zeros_like(case.images, dtype=exact)
        first, second = torch.zeros_like(change), torch.zeros_like(change)
        success = torch.zeros(n, dtype=torch.bool, device=device)
        for k in case.steps(steps + 1, 1 / searches):
            if k == steps:
                outputs = case.outputs(x)
            else:
                slope, outputs, _ = case.gradient(x, cost)
            far = lengths(x.to(exact) - case.images.to(exact), "l2").float()
            enough = case.fooled(outputs) & (margin(outputs, case.labels, case.targets) >= confidence)
            success |= enough
            better = enough & (far < least)
            least = torch.where(better, far, least)
            found = torch.where(broadcast(better, x), x, found)
            if k == steps:
                break
            slope = 2 * change - slope
            first = BETA1 * first + (1 - BETA1) * slope
            second = BETA2 * second + (1 - BETA2) * slope.square()
            rate = step_size * (0.55 + 0.45 * float(torch.tensor(torch.pi * k / steps).cos()))
            size = (second / (1 - BETA2 ** (k + 1))).sqrt() + 1e-8
            change = change - rate * first / (1 - BETA1 ** (k + 1)) / size
            # In the type of the images: what is looked at is what will be returned.
            x = (case.images + change).clamp(case.low, case.high).to(case.images.dtype)
            change = change.clamp(case.low - case.images.to(exact), case.high - case.images.to(exact))
        worked = torch.where(success, torch.minimum(worked, c), worked)
        failed = torch.where(success, failed, torch.maximum(failed, c))
        c = torch.where(worked.isinf(), 10 * c, torch.where(failed == 0, worked / 10, (failed * worked).sqrt()))
    return found
