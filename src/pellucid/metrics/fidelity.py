"""Does a map account for what the model does? Infidelity, and the completeness gap."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from ..attribution.ingredients.baselines import Baseline, baseline_images
from ..attribution.ingredients.batched_gradients import scores_over, values_of
from ..attribution.ingredients.noise import mixed, normal_noise
from ..methods.result import Attribution
from ..methods.verb import verb
from ..model.run import Model
from ..objectives import Bound, ObjectiveLike
from .inputs import bind_objective, values_for

Perturbation = Literal["square", "noise"] | Callable[[Tensor, torch.Generator], Tensor]


@verb(
    kind="metric",
    paper=("Yeh, Hsieh, Suggala, Inouye & Ravikumar 2019, On the (in)fidelity and sensitivity of explanations"),
)
def infidelity(
    model: Model,
    images: Tensor,
    attribution: Attribution | Tensor,
    objective: ObjectiveLike = None,
    *,
    reference: Literal["shares", "slopes"] = "shares",
    perturbation: Perturbation = "square",
    samples: int = 50,
    size: int | None = None,
    std: float = 0.2,
    fill: Baseline = "mean",
    scaled: bool = False,
    relative: bool = False,
    seed: int = 0,
) -> Tensor:
    """The mean squared error of what a map says that a change of the image does to the objective.

    mean over changes I of (p(I) - (f(x) - f(x - I)))^2, where the map v says p(I) = sum of v I / (x - b) if its values
    are shares (gradient x input, integrated gradients, LRP, occlusion: what each pixel adds over the baseline b), or
    sum of v I if they are slopes (saliency, SmoothGrad). 0/0 is 0. For the squares, which take x to b, the shares in
    the square are simply added up.

    Paper: Yeh, Hsieh, Suggala, Inouye & Ravikumar 2019, On the (in)fidelity and sensitivity of explanations.

    Args:
        model: a network or a `Classifier`.
        images: N x C x H x W.
        attribution: an `Attribution` of these images, or its values.
        objective: what was explained; None is the predicted class.
        reference: what the values are, "shares" or "slopes".
        perturbation: "square" takes a random square to the fill; "noise" subtracts normal noise; or a function of the
            images and a `torch.Generator` that gives I, of their shape.
        samples: changes of each image, the same for all.
        size: side of the squares in pixels; a quarter of the shorter side by default.
        std: of the noise, in units of the images.
        fill: the baseline b: "mean" color, "black", "white", "blur", "noise", or a tensor.
        scaled: multiply the map of each image by the number that makes its error least (maps without a unit).
        relative: divide by the mean of (f(x) - f(x - I))^2. With `scaled` this is the part of the change that the map
            misses, from 0 to 1. 0/0 is 0.
        seed: of the changes.

    Returns:
        N numbers, 0 or more, in units of the objective squared (without unit if relative); lower is better.

    Raises:
        ValueError: for options out of range, a fill that does not fit, or noise for shares that are one a pixel.

    >>> import pellucid
    >>> model, images = pellucid.load("shapes"), pellucid.shapes.scenes(1).images
    >>> result = infidelity(model, images, pellucid.gradient_x_input(model, images), samples=5)
    >>> bool(result > 0), result.shape
    (True, torch.Size([1]))
    """
    images = images.detach()
    _check(reference, perturbation, samples, size, std, images)
    model, bound = bind_objective(model, images, objective)
    values = values_for(images, attribution)
    if perturbation != "square" and reference == "shares" and values.shape[1] != images.shape[1]:
        raise ValueError(
            f"the values have one channel and the images {images.shape[1]}: what a change of colors does to them is "
            "not defined; take perturbation='square'"
        )
    base = baseline_images(model, images, fill, seed)
    changes = Perturbations(images, base, perturbation, samples, size or max(1, min(images.shape[2:]) // 4), std, seed)
    return changes.missed(values, changes.effects(model, bound), reference=reference, scaled=scaled, relative=relative)


@dataclass(frozen=True, eq=False)
class Perturbations:
    """Random changes of images, the same for each, whose effects are computed once for any number of maps.

    images: N x C x H x W. base: what squares show. perturbation, samples, side, std, seed: as for `infidelity`.
    """

    images: Tensor = field(repr=False)
    base: Tensor = field(repr=False)
    perturbation: Perturbation
    samples: int
    side: int
    std: float
    seed: int

    def of(self, rows: Tensor, number: int) -> Tensor:
        """The change I of some images."""
        images = self.images[rows]
        if callable(self.perturbation):
            given = self.perturbation(images, torch.Generator().manual_seed(mixed(self.seed, number)))
            if not isinstance(given, Tensor) or given.shape != images.shape:
                raise ValueError("the perturbation gave something else than a tensor of the shape of the images")
            return given.to(images)
        if self.perturbation == "noise":
            return (self.std * normal_noise(images, self.seed)(torch.tensor([number]))).expand_as(images)
        return (images - self.base[rows]) * self.square(number)

    def square(self, number: int) -> Tensor:
        """1 in a random square, 0 elsewhere: 1 x H x W."""
        height, width = self.images.shape[2:]
        random = torch.Generator().manual_seed(mixed(self.seed, number))
        top, left = (int(torch.randint(length - self.side + 1, (), generator=random)) for length in (height, width))
        mask = torch.zeros(1, height, width, dtype=self.images.dtype, device=self.images.device)
        mask[:, top : top + self.side, left : left + self.side] = 1
        return mask

    def effects(self, model: Model, objective: Bound) -> Tensor:
        """f(x) - f(x - I) of each image and change: N x samples."""

        def changed(rows: Tensor, numbers: Tensor) -> Tensor:
            batch = self.images[rows]
            for number in numbers.unique().tolist():
                if number:
                    mine = (numbers == number).nonzero().flatten()
                    batch[mine] -= self.of(rows[mine], number - 1)
            return batch

        scores = scores_over(model, self.images, objective, 1 + self.samples, changed, "infidelity").double()
        return scores[:, :1] - scores[:, 1:]

    def said(self, values: Tensor, of: str) -> Tensor:
        """What maps say that each change does: N x samples."""
        found, way = [], self.images - self.base
        for number in range(self.samples):
            if of == "shares" and self.perturbation == "square":
                share = self.square(number)
            else:
                share = self.of(torch.arange(len(values)), number).double()
                if of == "shares":
                    share = torch.where(way == 0, 0, share / _nonzero(way.double()))
            found.append((values.double() * share).flatten(1).sum(1))
        return torch.stack(found, 1)

    def missed(self, values: Tensor, done: Tensor, *, reference: str, scaled: bool, relative: bool) -> Tensor:
        """The mean squared error of maps about the effects, N numbers; options as for `infidelity`."""
        said = self.said(values, reference).to(done)
        if scaled:
            said = said * ((said * done).sum(1) / _nonzero(said.square().sum(1)))[:, None]
        error = (said - done).square().mean(1)
        return (error / _nonzero(done.square().mean(1)) if relative else error).float()


@verb(kind="metric", paper="Sundararajan, Taly & Yan 2017, Axiomatic attribution for deep networks")
def completeness(
    model: Model,
    images: Tensor,
    attribution: Attribution | Tensor,
    objective: ObjectiveLike = None,
    *,
    baseline: Baseline | None = None,
) -> Tensor:
    """By how much the values miss what they should add up to.

    gap = sum of the values - (f(x) - f(b)), or - f(x) without a baseline, as for LRP.

    Paper: Sundararajan, Taly & Yan 2017, Axiomatic attribution for deep networks.

    Args:
        model: a network or a `Classifier`.
        images: N x C x H x W.
        attribution: an `Attribution` of these images, or its values.
        objective: what was explained; None is the predicted class.
        baseline: what the method started from: "mean", "black", "white", "blur", "noise", or a tensor; None for none.

    Returns:
        N numbers in units of the objective; 0 is complete.

    Raises:
        ValueError: for a baseline that does not fit, or values of another shape.

    >>> import pellucid
    >>> model, images = pellucid.load("shapes"), pellucid.shapes.scenes(1).images
    >>> found = pellucid.integrated_gradients(model, images, steps=200)
    >>> bool(completeness(model, images, found, baseline="mean").abs() < 0.2)
    True
    """
    images = images.detach()
    model, bound = bind_objective(model, images, objective)
    total = values_for(images, attribution).double().flatten(1).sum(1)
    change = values_of(model, images, bound).double()
    if baseline is not None:
        change = change - values_of(model, baseline_images(model, images, baseline), bound).double()
    return (total - change).float()


def _nonzero(divisor: Tensor) -> Tensor:
    """A divisor that leaves 0/0 at 0."""
    return torch.where(divisor == 0, 1, divisor)


def _check(of: str, perturbation: Any, samples: int, size: int | None, std: float, images: Tensor) -> None:
    if of not in ("shares", "slopes"):
        raise ValueError(f"of is {of!r}, expected 'shares' or 'slopes'")
    if not callable(perturbation) and perturbation not in ("square", "noise"):
        raise ValueError(f"perturbation is {perturbation!r}, expected 'square', 'noise' or a function")
    if not isinstance(samples, int) or samples < 1:
        raise ValueError(f"samples is {samples!r}, expected a whole number of at least 1")
    if not 0 < std < float("inf"):
        raise ValueError(f"std is {std!r}, expected a number above 0")
    if size is not None and images.ndim == 4 and (not isinstance(size, int) or not 1 <= size <= min(images.shape[2:])):
        raise ValueError(f"size is {size!r}, expected a side in pixels, 1 to {min(images.shape[2:])}")
