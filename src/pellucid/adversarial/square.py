"""The square attack: random squares, kept if they help. It sees outputs only."""

from __future__ import annotations

import torch
from torch import Tensor

from .attack.budgets import Norm, broadcast, lengths, project_l1_box
from .attack.case import Case
from .attack.decorator import attack
from .attack.losses import BY_NAME, Loss

# At which of 10 000 queries the share of the image that a square covers is halved.
HALVED = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)


@attack(
    paper="Andriushchenko, Croce, Flammarion & Hein 2020, Square attack: a query-efficient black-box adversarial "
    "attack via random search",
    gradient=False,
)
def square(
    case: Case,
    *,
    eps: float = 8 / 255,
    norm: Norm = "linf",
    queries: int = 5000,
    share: float = 0.8,
    loss: Loss = "margin",
) -> Tensor:
    """Random squares, kept if they help; it needs no gradient, only the network's outputs.

    In linf the image begins with vertical stripes of +eps and -eps in each channel. Then, query by query, a square at
    a random place is moved by +2 eps or -2 eps in each channel, brought back into the budget, and kept if the loss
    rises. In l2 the change is made of windows that fall off from two centers of opposite signs, and a window takes
    over the budget of another; so in l1, where sizes are summed, and the whole is brought back into ball and bounds
    (Croce & Hein 2021, Mind the box). The squares shrink as the queries go on. Images leave when they fool the network.

    Args:
        model: a network or a `Classifier`; any function from images to N x K outputs.
        images: N x C x H x W in [0, 1].
        labels: the right class by index or label, or one for each image; None is the predicted class.
        target: the class to be taken for; None for any wrong one.
        eps: how far an image may move, above 0, in units of pixels.
        norm: of the budget: "linf", "l2" or "l1".
        queries: how often the network may be asked about an image, 1 or more.
        share: of the image that the first square covers, in (0, 1].
        loss: "margin", "ce" (cross-entropy) or "dlr".
        bounds: of pixels, for a bare network that takes others than [0, 1].
        seed: for the squares.
        folder: where to keep what is finished, image by image in chunks: the same call with the same folder goes on
            where it was stopped.

    Returns:
        An `Attack`.

    Raises:
        ValueError: for images outside the bounds, a budget that is 0 or allows everything, unknown classes, fewer
            than 1 query, or a share outside (0, 1].
        OtherRun: if the folder holds another run.

    >>> import pellucid
    >>> model, scenes = pellucid.load("shapes"), pellucid.shapes.scenes(2)
    >>> result = pellucid.square(model, scenes.images, scenes.labels, eps=16 / 255, queries=20)
    >>> bool((result.queries <= 1 + 20).all()), result.backward
    (True, 0)
    """
    if queries < 1 or not 0 < share <= 1:
        raise ValueError(f"queries is {queries} and share is {share:g}, expected 1 or more, and a share in (0, 1]")
    return squares(case, eps, norm, queries, share, loss)[0]


def squares(
    case: Case,
    eps: float,
    norm: str,
    queries: int,
    share: float,
    loss: Loss = "margin",
    part_of_work: float = 1.0,
    stream: int = 0,
) -> tuple[Tensor, Tensor]:
    """The images found, and whether each fools the network."""
    source, raised = case.generator(stream), BY_NAME[loss]
    best = _stripes(case, eps, source) if norm == "linf" else _windows(case, eps, norm, source)
    outputs = case.outputs(best)
    value, hit = raised(outputs, case.labels, case.targets), case.fooled(outputs)
    left = (~hit).nonzero().flatten()
    part = case.part(left)
    for k in case.steps(queries - 1, part_of_work):
        if not len(left):
            continue
        covered = share / 2 ** sum(k * 10_000 // queries > at for at in HALVED)
        if norm == "linf":
            tried = _moved(part, best[left], eps, covered, source)
        else:
            tried = _exchanged(part, best[left], eps, norm, covered, source)
        outputs = part.outputs(tried)
        now, fooled = raised(outputs, part.labels, part.targets), part.fooled(outputs)
        better = fooled | (now > value[left])
        best[left[better]], value[left[better]] = tried[better], now[better]
        if fooled.any():
            hit[left[fooled]] = True
            left = left[~fooled]
            part = case.part(left)
    return best, hit


def _signs(shape: tuple[int, ...], source: torch.Generator, like: Tensor) -> Tensor:
    return (2.0 * torch.randint(2, shape, generator=source) - 1).to(like)


def _corner(side: int, shape: torch.Size, source: torch.Generator) -> tuple[slice, slice]:
    """A random place of a square in an image."""
    y, x = (int(torch.randint(size - side + 1, (), generator=source)) for size in shape[2:])
    return slice(y, y + side), slice(x, x + side)


def _stripes(case: Case, eps: float, source: torch.Generator) -> Tensor:
    _, channels, _, width = case.images.shape
    return (case.images + eps * _signs((1, channels, 1, width), source, case.images)).clamp(case.low, case.high)


def _moved(case: Case, best: Tensor, eps: float, covered: float, source: torch.Generator) -> Tensor:
    _, channels, height, width = best.shape
    side = min(max(1, round((covered * height * width) ** 0.5)), height, width)
    y, x = _corner(side, best.shape, source)
    step = 2 * eps * _signs((1, channels, 1, 1), source, best)
    near, tried = case.images[:, :, y, x], best.clone()
    tried[:, :, y, x] = torch.minimum(torch.maximum(best[:, :, y, x] + step, near - eps), near + eps)
    return tried.clamp(case.low, case.high)


def _windows(case: Case, eps: float, norm: str, source: torch.Generator) -> Tensor:
    """A grid of windows, of random signs, scaled to the budget."""
    _, channels, height, width = case.images.shape
    side = max(1, min(height, width) // 5)
    change = torch.zeros_like(case.images[:1])
    for top in range(0, height - side + 1, side):
        for left in range(0, width - side + 1, side):
            window = _window(side, norm, source).to(change)
            change[:, :, top : top + side, left : left + side] = window * _signs((1, channels, 1, 1), source, change)
    return _held(case, eps * change / broadcast(lengths(change, norm), change), eps, norm)


def _held(case: Case, change: Tensor, eps: float, norm: str) -> Tensor:
    """The images changed, within bounds and, in l1, the budget."""
    if norm == "l1":
        return case.images + project_l1_box(change.expand_as(case.images), case.images, eps, case.low, case.high)
    return (case.images + change).clamp(case.low, case.high)


def _exchanged(case: Case, best: Tensor, eps: float, norm: str, covered: float, source: torch.Generator) -> Tensor:
    """A window takes over the budget of another, together with what is left of it (Algorithm 3 of the paper)."""
    power = 2 if norm == "l2" else 1  # of which the sum is the budget

    def size(values: Tensor) -> Tensor:
        return values.abs().pow(power).sum((2, 3), keepdim=True)

    _, channels, height, width = best.shape
    side = min(max(3, round((covered * height * width) ** 0.5)) | 1, height, width)
    change = best - case.images
    here, there = (_corner(side, best.shape, source) for _ in range(2))
    both = torch.zeros_like(change[:1, :1])
    both[:, :, here[0], here[1]] = both[:, :, there[0], there[1]] = 1
    unspent = (eps**power - size(change).sum(1, keepdim=True)).clamp(min=0) / channels
    old = change[:, :, here[0], here[1]]
    old = old / size(old).pow(1 / power).clamp(min=1e-12)
    window = _window(side, norm, source).to(change) * _signs((1, channels, 1, 1), source, change) + old
    window = window / size(window).pow(1 / power).clamp(min=1e-12)
    budget = (size(change * both) + unspent).pow(1 / power)
    change[:, :, there[0], there[1]] = 0
    change[:, :, here[0], here[1]] = window * budget
    change = eps * change / broadcast(lengths(change, norm).clamp(min=1e-12), change)
    return _held(case, change, eps, norm)


def _window(side: int, norm: str, source: torch.Generator) -> Tensor:
    """A square of length 1 that falls off from two centers, one above 0 and one below, side by side."""
    half = side // 2
    shape = torch.cat([_fall(half, side, norm), -_fall(side - half, side, norm)])
    shape /= lengths(shape[None], norm).clamp(min=1e-12)
    return shape.T if torch.rand((), generator=source) > 0.5 else shape


def _fall(height: int, width: int, norm: str) -> Tensor:
    """Rectangle upon rectangle around the center, the k-th adding 1 / k^2; 1 / k^4 in l1."""
    shape, power = torch.zeros(height, width), 2 if norm == "l2" else 4
    y, x = height // 2, width // 2
    for k in range(max(y, x) + 1):
        top, left = max(y - k, 0), max(x - k, 0)
        shape[top : max(y + k + 1, 0), left : max(x + k + 1, 0)] += 1 / (k + 1) ** power
    return shape.div_(lengths(shape[None], norm).clamp(min=1e-12))
