"""A stand-in for a network of which only the predicted class can be asked: train it, attack it, try what it gave."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..methods.result import Call
from ..methods.verb import verb
from ..model.batches import batched, progress
from ..model.classifier import Classifier
from ..model.run import Model, Passes, counted, device_of, run
from ..model.training import descend
from ..objectives import Target
from .attack.batches import over_batches
from .attack.budgets import Norm
from .attack.case import Case, as_outputs
from .attack.decorator import check_budget, check_classes, check_pixels
from .attack.diagnostics import emit_warnings
from .attack.losses import cross_entropy, of_class
from .attack.result import Attack
from .steps.gradient_steps import ascend, mover


@dataclass(frozen=True, eq=False, repr=False)
class Substitute(Attack):
    """An `Attack` on a network by way of a stand-in.

    Its `success`, `before` and `after` are those of the network itself, its passes those that the network made: what
    it was asked. network: the stand-in. agreement: the share of the images that both see as the same class.
    fooled_itself: N booleans, whether the images fool the stand-in.
    """

    network: nn.Module = field(repr=False, default_factory=nn.Identity)
    agreement: float = 0.0
    fooled_itself: Tensor = field(repr=False, default_factory=lambda: torch.empty(0))

    @property
    def transfer(self) -> float:
        """Of the attacked images that fool the stand-in, the share that fools the network too."""
        mine = self.fooled_itself & ~self.misclassified
        return float(self.success[mine].double().mean()) if mine.any() else float("nan")


@verb(paper="Papernot et al. 2017, Practical black-box attacks against machine learning")
def substitute(
    model: Model,
    images: Tensor,
    labels: Target = None,
    *,
    seeds: Tensor,
    network: nn.Module | None = None,
    rounds: int = 5,
    spread: float = 0.1,
    epochs: int = 10,
    rate: float = 1e-3,
    eps: float = 0.3,
    norm: Norm = "linf",
    steps: int = 20,
    seed: int = 0,
) -> Substitute:
    """Train a stand-in on the classes that a network predicts, attack it, and try the images on the network.

    The network is only asked for the class of images; it needs no gradient and shows no outputs. In each round the
    stand-in learns from all images so far, and each of these is joined by x + l sign(dF_y/dx), with F the stand-in
    and y the class that the network sees: images in directions in which the classes change.

    Args:
        model: the network to be fooled; any function from images to N x K outputs.
        images: N x C x H x W in [0, 1], to be changed.
        labels: the right class by index or label, or one for each image; None is the predicted class.
        seeds: M x C x H x W in [0, 1], a few images like those that the network is for, to begin to ask with.
        network: the stand-in, in evaluation mode; a copy is trained. A small network of two convolutions by default.
        rounds: of asking; M x 2^(rounds - 1) images are asked for.
        spread: l, how far a new image lies from its parent in linf.
        epochs: over all images so far, in each round.
        rate: the learning rate of Adam.
        eps, norm, steps: of the attack on the stand-in, projected gradient descent.
        seed: for first weights and the order of images.

    Returns:
        A `Substitute`: an `Attack` with the stand-in, its agreement with the network, and how well images transfer.

    Raises:
        ValueError: for images outside [0, 1], seeds of another shape, a budget that is 0 or allows everything, or fewer
            than 1 round or epoch.

    Papernot, McDaniel, Goodfellow, Jha, Celik & Swami 2017, Practical black-box attacks against machine learning.

    >>> import pellucid
    >>> model, scenes = pellucid.load("shapes"), pellucid.shapes.scenes(8)
    >>> result = pellucid.substitute(model, scenes.images[:2], seeds=scenes.images[2:], rounds=2, epochs=1)
    >>> result.backward, result.network.training
    (0, False)
    """
    bounds = check_pixels(model, images, None)
    check_pixels(model, seeds, None)
    check_budget(eps, norm, bounds, images[0].numel())
    if seeds.shape[1:] != images.shape[1:]:
        raise ValueError(f"seeds have the shape {tuple(seeds.shape)}, the images {tuple(images.shape)}: expected alike")
    if rounds < 1 or epochs < 1 or steps < 1:
        raise ValueError(f"rounds is {rounds}, epochs is {epochs}, steps is {steps}; expected at least 1 of each")
    right, _ = check_classes(model, labels, None, len(images))
    device = device_of(model) or images.device
    with counted() as passes, progress(rounds + 1, "substitute", unit="round") as advance:
        asked = seeds.detach().float()
        classes, count = _classes(model, asked)
        stand_in = _stand_in(network, images, count, seed).to(device)
        for number in range(rounds):
            _learn(stand_in, asked, classes, epochs, rate, seed + number)
            if number < rounds - 1:
                new = _further(stand_in, asked, classes, spread)
                asked, classes = torch.cat([asked, new]), torch.cat([classes, _classes(model, new)[0]])
            advance(1)
        own: list[Passes] = []  # of the stand-in, which are no questions to the network
        agreement = float((_classes_of(stand_in, images) == _classes(model, images)[0]).double().mean())

        def work(case: Case) -> Tensor:
            inner = Case(stand_in, case.images, case.labels, None, *bounds, seed, torch.zeros_like(case.places),
                         torch.arange(len(case), device=case.images.device), case.advance)  # fmt: skip
            move = mover(inner, eps, norm, 2.5 * eps / steps)
            with counted() as passes:
                found = ascend(inner, inner.images, move, cross_entropy, steps)[0]
            own.append(passes)
            return found

        fields = emit_warnings(over_batches(
            work, model, images.detach(), right, None,
            budget=(eps, norm), bounds=bounds, seed=seed, keep=False, name="substitute",
        ))  # fmt: skip
        advance(1)
    record = Call(
        options={
            "rounds": rounds,
            "spread": spread,
            "epochs": epochs,
            "eps": eps,
            "norm": norm,
            "steps": steps,
            "seed": seed,
        },
        objective="away from the predicted class" if labels is None else "away from the label",
        forward=passes.forward - sum(one.forward for one in own),
        backward=passes.backward - sum(one.backward for one in own),
    )
    fooled_itself = _classes_of(stand_in, fields["images"]) != fields["labels"]
    return Substitute(
        originals=images.detach(), names=model.labels if isinstance(model, Classifier) else (), call=record,
        network=stand_in, agreement=agreement, fooled_itself=fooled_itself, **fields,
    )  # fmt: skip


def _classes(model: Model, images: Tensor) -> tuple[Tensor, int]:
    """What the network sees in images, and how many classes it has."""
    found, counts = torch.zeros(len(images), dtype=torch.long), [0]

    def step(part: slice) -> None:
        outputs = as_outputs(run(model, images[part]).output)
        found[part], counts[0] = outputs.argmax(1).cpu(), outputs.shape[1]

    with torch.no_grad():
        batched(step, len(images), like=images, label="ask", device=device_of(model))
    return found, counts[0]


def _classes_of(stand_in: nn.Module, images: Tensor) -> Tensor:
    device = next(stand_in.parameters()).device
    with torch.no_grad():
        return torch.cat([stand_in(part.float().to(device)).argmax(1).cpu() for part in images.split(64)])


def _stand_in(network: nn.Module | None, images: Tensor, count: int, seed: int) -> nn.Module:
    if network is not None:
        return copy.deepcopy(network)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(images.shape[1], 32, 3, stride=2, padding=1), nn.ReLU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1), nn.ReLU(),
            nn.AdaptiveAvgPool2d(6), nn.Flatten(), nn.Linear(64 * 36, 128), nn.ReLU(), nn.Linear(128, count),
        ).eval()  # fmt: skip


def _learn(stand_in: nn.Module, images: Tensor, classes: Tensor, epochs: int, rate: float, seed: int) -> None:
    device, source = next(stand_in.parameters()).device, torch.Generator().manual_seed(seed)
    weights = [weight for weight in stand_in.parameters() if weight.requires_grad]
    orders = [torch.randperm(len(images), generator=source).split(64) for _ in range(epochs)]
    batches = [rows for order in orders for rows in order]

    def loss_of(number: int) -> Tensor:
        rows = batches[number]
        return F.cross_entropy(stand_in(images[rows].to(device)), classes[rows].to(device))

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        stand_in.train()
        try:
            descend(loss_of, weights, torch.optim.Adam(weights, rate), len(batches))
        finally:
            stand_in.eval()


def _further(stand_in: nn.Module, images: Tensor, classes: Tensor, spread: float) -> Tensor:
    """Each image moved in the direction in which the stand-in's output of its class changes most."""
    device, new = next(stand_in.parameters()).device, []
    for x, y in zip(images.split(64), classes.split(64), strict=True):
        with torch.enable_grad():
            start = x.to(device, copy=True).requires_grad_()
            value = of_class(stand_in(start), y.to(device)).sum()
            (slope,) = torch.autograd.grad(value, start)
        new.append((x + spread * slope.sign().cpu()).clamp(0, 1))
    return torch.cat(new)
