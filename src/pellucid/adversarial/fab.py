"""FAB: the fast adaptive boundary attack, which looks for the least change."""

from __future__ import annotations

import torch
from torch import Tensor

from .attack.budgets import Norm, broadcast, lengths
from .attack.case import Case
from .attack.decorator import attack
from .attack.losses import of_class
from .steps.gradient_steps import random_in
from .steps.hyperplanes import to_plane

ALPHA = 0.1  # the most weight that the projection of the original image gets
FURTHER = 1.05  # steps go a little beyond the boundary
BACK = 0.9  # from an image that fools, on the way back to the original


@attack(paper="Croce & Hein 2020, Minimally distorted adversarial examples with a fast adaptive boundary attack")
def fab(
    case: Case, *, norm: Norm = "linf", steps: int = 100, restarts: int = 1, candidates: int = 9, within: float = 0.3
) -> Tensor:
    """The least change that fools the network, by projections onto its boundary made linear.

    For each of the classes nearest to the label, one after the other: p and q are the smallest changes within bounds
    that bring x and the original x_0 onto the boundary, linear at x; a = min(|p| / (|p| + |q|), 0.1), and
    x <- clip((1 - a) (x + 1.05 p) + a (x_0 + 1.05 q)). Where that fools the network, it is kept if it is the nearest
    so far, and x goes back to x_0 + 0.9 (x - x_0). (The targeted form, FAB-T.)

    Args:
        model: a network or a `Classifier`.
        images: N x C x H x W in [0, 1].
        labels: the right class by index or label, or one for each image; None is the predicted class.
        target: the class to be taken for; None for any wrong one.
        norm: in which the change is small: "linf", "l2" or "l1".
        steps: gradients for each class.
        restarts: from how many starts: first the image, then random ones near it.
        candidates: to how many classes the way is sought, the most likely first.
        within: how far random starts lie from images that are not fooled yet, in the units of the norm.
        bounds: of pixels, for a bare network that takes others than [0, 1].
        seed: for the random starts.
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
    >>> pellucid.fab(model, scenes.images, scenes.labels, steps=5, candidates=2).success
    tensor([True, True])
    """
    if steps < 1 or restarts < 1 or candidates < 1 or not within > 0:
        raise ValueError(
            f"steps is {steps}, restarts is {restarts}, candidates is {candidates}, within is {within:g}; expected 1 "
            "or more, and a distance above 0"
        )
    others = case.runners_up(case.outputs(case.images), candidates)
    found, least = case.images.clone(), torch.full((len(case),), torch.inf, device=case.images.device)
    shares = 1 / (others.shape[1] * restarts)
    for restart in range(restarts):
        for k in range(others.shape[1]):
            found, least = towards(case, others[:, k], norm, steps, found, least, restart, within, shares)
    return found


def towards(
    case: Case,
    others: Tensor,
    norm: Norm,
    steps: int,
    found: Tensor,
    least: Tensor,
    restart: int,
    within: float,
    share: float,
    enough: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """The way to one class for each image: the images found, and how near they are (infinite where there are none).

    Args:
        others: n classes. found, least: the best so far. restart: 0 begins at the image, others at random near it.
        enough: images leave once they fool the network nearer than this.
    """
    found, least = found.clone(), least.clone()
    places = (least > enough).nonzero().flatten()
    part, origin = case.part(places), case.images[places]
    x = origin
    if restart:
        radius = torch.minimum(least[places], torch.full_like(least[places], within)) / 2
        x = origin + (random_in(part, 1.0, norm, restart) - origin) * broadcast(radius, origin).to(origin)
        x = x.clamp(case.low, case.high)
    aims = others[places]
    for number in case.steps(steps, share):
        if not len(places):
            continue
        start, outputs = part.graph(x)
        fooled = part.fooled(outputs)
        if fooled.any():
            far = lengths(x - origin, norm).to(least)
            better = fooled & (far < least[places])
            found[places[better]], least[places[better]] = x[better], far[better]
            x = torch.where(broadcast(fooled, x), origin + BACK * (x - origin), x)
        with torch.enable_grad():
            gap = of_class(outputs, aims) - of_class(outputs, part.labels)
            slope = part.backward(gap, start)
        # The boundary as seen from where the gradient was taken: gap + slope . (x - start) = 0.
        at = gap.detach().to(x.dtype)
        p = to_plane(x, slope, -(at + _dot(slope, x - start.detach())), norm, case.low, case.high)
        q = to_plane(origin, slope, -(at + _dot(slope, origin - start.detach())), norm, case.low, case.high)
        p_size, q_size = (lengths(change, norm).clamp(min=1e-8) for change in (p, q))
        alpha = broadcast((p_size / (p_size + q_size)).clamp(max=ALPHA), x)
        x = ((1 - alpha) * (x + FURTHER * p) + alpha * (origin + FURTHER * q)).clamp(case.low, case.high)
        if number == steps - 1:
            fooled, far = part.fooled(part.outputs(x)), lengths(x - origin, norm).to(least)
            better = fooled & (far < least[places])
            found[places[better]], least[places[better]] = x[better], far[better]
        if enough and (stay := least[places] > enough).logical_not().any():
            places, origin, x, aims = places[stay], origin[stay], x[stay], aims[stay]
            part = case.part(places)
    return found, least


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).flatten(1).sum(1)
