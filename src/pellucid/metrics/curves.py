"""Deletion and insertion: how fast the objective falls, or rises, as pixels go or come by their relevance."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..attribution.ingredients.baselines import Baseline, baseline_images
from ..attribution.ingredients.batched_gradients import scores_over
from ..display.figures import displayable
from ..methods.options import to_record
from ..methods.result import Attribution, Call, Result
from ..methods.verb import verb
from ..model.run import Model
from ..objectives import ObjectiveLike, probability
from .inputs import bind_objective, values_for

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAPER = "Petsiuk, Das & Saenko 2018, RISE: randomized input sampling for explanation of black-box models"
SHOWN, FRAMES = 4, (0.0, 0.1, 0.25, 0.5, 1.0)  # images in the picture, and when they are shown


@dataclass(frozen=True, eq=False)
class Curves(Result):
    """The objective of N images while pixels are exchanged, the most relevant first.

    kind: "deletion" or "insertion". shares: S + 1 numbers from 0 to 1, the share of pixels exchanged.
    values: N x (S + 1), the objective. images: N x C x H x W.
    frames: n x 5 x C x H x W, the first images with 0, 10, 25, 50 and 100 % of their pixels exchanged.
    call: how it was made.
    """

    kind: str
    shares: Tensor
    values: Tensor
    images: Tensor = field(repr=False)
    frames: Tensor = field(repr=False)
    call: Call | None = None

    @property
    def area(self) -> Tensor:
        """N numbers: the area under each curve, by trapezoids. Deletion: lower is better; insertion: higher."""
        return torch.trapezoid(self.values, self.shares.to(self.values), dim=1)

    def figure(self, **options: Any) -> Figure:
        """The curve of each image, thin, and their mean; beside them the first images on the way.

        Args:
            options: of the mean curve, as for matplotlib's `plot`: color, label, ...
        """
        from matplotlib.figure import Figure

        count = len(self.frames)
        figure = Figure(figsize=(5 + 1.3 * len(FRAMES), max(3.2, 1.35 * count)), dpi=130, layout="constrained")
        left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=[5, 1.3 * len(FRAMES)])[0]
        axis = left.subplots()
        x, curves = (100 * self.shares).tolist(), self.values.detach().cpu().double()
        options = {"color": "tab:red", **options}
        for curve in curves[:200]:
            axis.plot(x, curve.tolist(), color="0.7", linewidth=0.6)
        axis.plot(x, curves.mean(0).tolist(), linewidth=2, **options)
        verb = {"deletion": "deleted", "insertion": "inserted"}[self.kind]
        what = self.call.objective if self.call else "objective"
        axis.set(xlabel=f"pixels {verb}, %, the most relevant first", ylabel=what if len(what) < 40 else "objective")
        axis.set_xlim(0, 100)
        axis.spines[["top", "right"]].set_visible(False)
        better = {"deletion": "lower", "insertion": "higher"}[self.kind]
        axis.set_title(f"area {float(self.area.mean()):.3g} ({better} is better)", fontsize=9)
        grid = right.subplots(count, len(FRAMES), squeeze=False)
        for row, frames in zip(grid, self.frames, strict=True):
            for place, (cell, picture) in enumerate(zip(row, displayable(frames.cpu()), strict=True)):
                cell.imshow(picture.permute(1, 2, 0).numpy(), interpolation="nearest")
                cell.set(xticks=[], yticks=[])
                if row is grid[0]:
                    cell.set_title(f"{FRAMES[place]:.0%}", fontsize=8)
        return figure

    def __repr__(self) -> str:
        return f"Curves({self.kind}, {len(self.values)} images, mean area {float(self.area.mean()):.4g}, {self.call})"


@verb(kind="metric", paper=PAPER)
def deletion(
    model: Model,
    images: Tensor,
    attribution: Attribution | Tensor,
    objective: ObjectiveLike = None,
    *,
    steps: int = 50,
    fill: Baseline = "mean",
    seed: int = 0,
) -> Curves:
    """How fast the objective falls as pixels are deleted, the most relevant first.

    value(s) = f(image whose s P most relevant of P pixels show the fill); area = integral over s from 0 to 1. A map
    that points at the evidence has a small area. A pixel's relevance is the sum over its channels; pixels that tie
    come in random order.

    Paper: Petsiuk, Das & Saenko 2018, RISE: randomized input sampling for explanation of black-box models.

    Args:
        model: a network or a `Classifier`.
        images: N x C x H x W.
        attribution: an `Attribution` of these images, or its values.
        objective: what is measured; None is the probability of the predicted class.
        steps: points of the curve after the first.
        fill: what deleted pixels show: "mean" color, "black", "white", "blur", "noise", or a tensor.
        seed: of the order of ties, and of "noise".

    Returns:
        `Curves`: the values at each share, and `area`, N numbers.

    Raises:
        ValueError: for fewer than 1 step, a fill that does not fit, or values of another shape.

    >>> import pellucid
    >>> model, images = pellucid.load("shapes"), pellucid.shapes.scenes(1).images
    >>> result = deletion(model, images, pellucid.saliency(model, images), steps=10)
    >>> result.values.shape, result.area.shape
    (torch.Size([1, 11]), torch.Size([1]))
    """
    return _curves("deletion", model, images, attribution, objective, steps, fill, seed)


@verb(kind="metric", paper=PAPER)
def insertion(
    model: Model,
    images: Tensor,
    attribution: Attribution | Tensor,
    objective: ObjectiveLike = None,
    *,
    steps: int = 50,
    fill: Baseline = "blur",
    seed: int = 0,
) -> Curves:
    """How fast the objective rises as pixels are put into a blurred image, the most relevant first.

    value(s) = f(fill with the s P most relevant of P pixels of the image); a map that points at the evidence has a
    large area. All else is as for `deletion`.

    Paper: Petsiuk, Das & Saenko 2018, RISE: randomized input sampling for explanation of black-box models.

    Args:
        model, images, attribution, objective, steps, seed: as for `deletion`.
        fill: what the image begins as.

    Returns:
        `Curves`: the values at each share, and `area`, N numbers.

    Raises:
        ValueError: as for `deletion`.

    >>> import pellucid
    >>> model, images = pellucid.load("shapes"), pellucid.shapes.scenes(1).images
    >>> insertion(model, images, pellucid.saliency(model, images), steps=10).kind
    'insertion'
    """
    return _curves("insertion", model, images, attribution, objective, steps, fill, seed)


def ranks(values: Tensor, seed: int = 0) -> Tensor:
    """The place of each pixel in the order of relevance, 0 for the highest: N x H x W; ties in random order.

    >>> ranks(torch.tensor([[[[1.0, 3.0, 2.0]]]])).tolist()
    [[[2, 0, 1]]]
    """
    relevance = values.double().sum(1).flatten(1)
    mixed = torch.randperm(relevance.shape[1], generator=torch.Generator().manual_seed(seed)).to(relevance.device)
    order = mixed[relevance[:, mixed].argsort(dim=1, descending=True, stable=True)]
    places = torch.empty_like(order)
    places.scatter_(1, order, torch.arange(order.shape[1], device=order.device).expand_as(order))
    return places.view(len(values), *values.shape[2:])


def _curves(
    kind: str,
    model: Model,
    images: Tensor,
    attribution: Attribution | Tensor,
    objective: ObjectiveLike,
    steps: int,
    fill: Baseline,
    seed: int,
) -> Curves:
    if not isinstance(steps, int) or steps < 1:
        raise ValueError(f"steps is {steps!r}, expected a whole number of at least 1")
    images = images.detach()
    model, bound = bind_objective(model, images, probability(None) if objective is None else objective)
    rank = ranks(values_for(images, attribution), seed)
    cover = baseline_images(model, images, fill, seed)
    pixels = images.shape[2] * images.shape[3]
    counts = (torch.arange(steps + 1) * pixels / steps).round().long()

    def exchanged(rows: Tensor, count: Tensor) -> Tensor:
        gone = rank[rows] < count.to(rank.device)[:, None, None]
        if kind == "insertion":
            gone = ~gone
        return torch.where(gone[:, None], cover[rows], images[rows])

    values = scores_over(model, images, bound, steps + 1, lambda rows, k: exchanged(rows, counts[k]), kind)
    few = torch.arange(min(SHOWN, len(images)))
    frames = [exchanged(few, torch.full((len(few),), round(share * pixels))) for share in FRAMES]
    made = attribution.call if isinstance(attribution, Attribution) else None
    record = Call(
        options={"of": made.method if made else "values", "steps": steps, "fill": to_record(fill), "seed": seed},
        objective=str(bound),
    )
    return Curves(kind, counts.double() / pixels, values, images, torch.stack(frames, 1), record)
