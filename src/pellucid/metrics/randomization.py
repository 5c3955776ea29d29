"""Sanity checks: does a map change when the model forgets what it has learned?"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from ..attribution.ingredients.noise import mixed
from ..checks import UnknownName, nearest
from ..display.colors import colorize
from ..display.figures import displayable
from ..methods.options import to_record
from ..methods.result import Attribution, Call, Result
from ..methods.verb import verb
from ..model.batches import progress
from ..model.classifier import network
from ..model.run import Model
from ..objectives import ObjectiveLike
from .inputs import resolve_target
from .sensitivity import Explains, explainer
from .similarity import Similarity, similarity_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAPER = "Adebayo, Gilmer, Muelly, Goodfellow, Hardt & Kim 2018, Sanity checks for saliency maps"
SHOWN, STAGES = 3, 6  # images and stages in the picture


@dataclass(frozen=True, eq=False)
class Randomization(Result):
    """How alike the maps of a model are to those of its randomized copies.

    layers: L names in the order in which they were randomized. values: N x L, similarity to the model's own map.
    order: "cascading" or "independent". similarity: "spearman" or "ssim".
    maps: n x (L + 1) x 1 x H x W, the maps of the first images, the model's own first. images: N x C x H x W.
    call: how it was made.
    """

    layers: tuple[str, ...]
    values: Tensor
    order: str
    similarity: str
    maps: Tensor = field(repr=False)
    images: Tensor = field(repr=False)
    call: Call | None = None

    def figure(self, **options: Any) -> Figure:
        """The similarity after each layer, mean and spread over the images; below it the first maps on the way.

        Args:
            options: of the curve, as for matplotlib's `plot`: color, label, ...
        """
        from matplotlib.figure import Figure

        count = len(self.maps)
        steps = sorted({round(i * len(self.layers) / (STAGES - 1)) for i in range(STAGES)})
        figure = Figure(figsize=(1.45 * (len(steps) + 1), 3.4 + 1.5 * count), dpi=130, layout="constrained")
        top, bottom = figure.subfigures(2, 1, squeeze=False, height_ratios=[3.4, 1.5 * count])[:, 0]
        axis, x = top.subplots(), range(len(self.layers))
        options = {"color": "tab:red", "marker": "o", "markersize": 3, **options}
        mean, spread = self.values.double().mean(0), self.values.double().std(0, unbiased=False)
        axis.plot(x, mean.tolist(), **options)
        axis.fill_between(x, (mean - spread).tolist(), (mean + spread).tolist(), color=options["color"], alpha=0.15)
        axis.axhline(0, color="0.6", linewidth=0.6)
        axis.set(ylim=(-0.4 if bool((mean - spread < 0).any()) else -0.02, 1.02),
                 ylabel=f"similarity to its own map ({self.similarity})")  # fmt: skip
        axis.set_xticks(list(x), self.layers, rotation=60, ha="right", fontsize=6, parse_math=False)
        axis.set_title(f"randomized, {self.order}: low is sensible", fontsize=9)
        axis.spines[["top", "right"]].set_visible(False)
        grid = bottom.subplots(count, len(steps) + 1, squeeze=False)
        names = ["its own", *self.layers]
        for row, image, maps in zip(grid, displayable(self.images[:count].cpu()), self.maps, strict=True):
            row[0].imshow(image.permute(1, 2, 0).numpy())
            signed = bool((maps < 0).any())
            for cell, picture in zip(row[1:], colorize(maps[steps], signed=signed), strict=True):
                cell.imshow(picture.permute(1, 2, 0).cpu().numpy())
        for cell in grid.flat:
            cell.set(xticks=[], yticks=[])
        for cell, step in zip(grid[0][1:], steps, strict=True):
            cell.set_title(names[step][-16:], fontsize=6, parse_math=False)
        if self.call:
            figure.supxlabel(str(self.call), fontsize=6, color="0.4", parse_math=False, wrap=True)
        return figure

    def __repr__(self) -> str:
        last = float(self.values[:, -1].mean())
        return f"Randomization({len(self.layers)} layers, {self.order}, {self.similarity} {last:.2f} at the end)"


@verb(kind="metric", paper=PAPER)
def randomization(
    model: Model,
    images: Tensor,
    method: str | Explains,
    objective: ObjectiveLike = None,
    *,
    order: Literal["cascading", "independent"] = "cascading",
    layers: Sequence[str] | None = None,
    similarity: Similarity = "spearman",
    absolute: bool = True,
    seed: int = 0,
    **options: Any,
) -> Randomization:
    """How much of a map is left as the layers of a copy of the model get new random weights, from the output backwards.

    A method that explains the model must lose its map; one whose map stays the same, such as an edge detector, does not
    look at what the model has learned. Layers with weights of two axes or more get new values as they had at their
    creation (`reset_parameters`, or else normal numbers of the same mean and spread), biases too; what batch norms
    have gathered stays.

    Paper: Adebayo, Gilmer, Muelly, Goodfellow, Hardt & Kim 2018, Sanity checks for saliency maps.

    Args:
        model: a network or a `Classifier`. It is copied; nothing of it changes.
        images: N x C x H x W.
        method: a name in the catalogue, or a function of model, images and objective.
        objective: what is explained; None is the class that the model itself predicts, also for the copies.
        order: "cascading" randomizes the last layer, then the last two, and so on; "independent" one layer at a time.
        layers: which; by default all with weights of two axes or more, the last of `named_modules` first.
        similarity: "spearman" or "ssim".
        absolute: compare magnitudes, since a random model turns signs at will.
        seed: of the weights, and of methods that are random.
        options: of the method.

    Returns:
        A `Randomization`: N x L similarities.

    Raises:
        TypeError: for a model that is no torch module.
        UnknownName: for a method or layer that does not exist.
        ValueError: for a layer without weights, or an unknown order or similarity.

    >>> import pellucid
    >>> model, images = pellucid.load("shapes"), pellucid.shapes.scenes(2).images
    >>> result = randomization(model, images, "saliency", layers=["classifier", "features.7.conv"])
    >>> result.values.shape
    torch.Size([2, 2])
    """
    if order not in ("cascading", "independent"):
        raise ValueError(f"order is {order!r}, expected 'cascading' or 'independent'")
    net = network(model)
    if net is None or not isinstance(model, nn.Module):
        raise TypeError(f"a {type(model).__name__} has no weights to randomize: wrap it in a torch.nn.Module")
    explain = explainer(method, seed, options)
    chosen = _layers(net, layers)
    target = resolve_target(model, images, objective)
    own = _values(explain(model, images, target))
    similarity_of(own, own, similarity, absolute)
    scores, maps = [], [own[:SHOWN].sum(1, keepdim=True)]
    with progress(len(chosen), "randomization", unit="layer") as advance:
        for changed in _changed(model, chosen, order, seed):
            found = _values(_explained(explain, changed, images, target, own))
            scores.append(similarity_of(own, found, similarity, absolute))
            maps.append(found[:SHOWN].sum(1, keepdim=True))
            advance(1)
    record = Call(
        method=f"randomization of {method if isinstance(method, str) else getattr(method, '__name__', 'a function')}",
        options={"order": order, "similarity": similarity, "absolute": absolute, "seed": seed}
        | {name: to_record(value) for name, value in options.items()},
        objective=str(target),
    )
    return Randomization(
        tuple(chosen), torch.stack(scores, 1), order, similarity, torch.stack(maps, 1), images.detach(), record
    )


@verb(kind="metric", paper=PAPER)
def label_randomization(
    model: Model,
    other: Model,
    images: Tensor,
    method: str | Explains,
    objective: ObjectiveLike = None,
    *,
    similarity: Similarity = "spearman",
    absolute: bool = True,
    seed: int = 0,
    **options: Any,
) -> Tensor:
    """How alike the maps of a model are to those of one that was trained on labels in random order.

    The other model has learned its images by heart, and nothing about classes: a method that explains classes must give
    other maps. Train it as the model itself, on `labels[torch.randperm(len(labels))]`, until it knows them.

    Paper: Adebayo, Gilmer, Muelly, Goodfellow, Hardt & Kim 2018, Sanity checks for saliency maps.

    Args:
        model: trained on the right labels. other: on random ones.
        images: N x C x H x W.
        method, similarity, absolute, seed, options: as for `randomization`.
        objective: what is explained of both; None is the class that `model` predicts.

    Returns:
        N similarities; low is sensible.

    >>> import pellucid
    >>> from pellucid.shapes import MEAN, STD, ShapesNet
    >>> model, images = pellucid.load("shapes"), pellucid.shapes.scenes(1).images
    >>> other = pellucid.wrap(ShapesNet().eval(), mean=MEAN, std=STD, size=96)
    >>> label_randomization(model, other, images, "saliency").shape
    torch.Size([1])
    """
    explain = explainer(method, seed, options)
    target = resolve_target(model, images, objective)
    own = _values(explain(model, images, target))
    found = _values(_explained(explain, other, images, target, own))
    return similarity_of(own, found, similarity, absolute)


def _values(found: Attribution | Tensor) -> Tensor:
    return found.values if isinstance(found, Attribution) else found


def _explained(explain: Explains, model: Model, images: Tensor, target: Any, own: Tensor) -> Attribution | Tensor:
    """The map of a randomized model; of zeros where its objective is 0, so that there is nothing to explain."""
    try:
        return explain(model, images, target)
    except ValueError as error:
        if "is 0 for every image" in str(error):
            return torch.zeros_like(own)
        raise


def _layers(net: nn.Module, layers: Sequence[str] | None) -> list[str]:
    """Names of the layers that hold weights themselves, the last first."""
    known = [
        name for name, module in net.named_modules()
        if name and any(p.ndim >= 2 for p in module.parameters(recurse=False))
    ]  # fmt: skip
    if layers is None:
        if not known:
            raise ValueError("the network has no layer with weights of two axes or more: there is nothing to randomize")
        return known[::-1]
    for name in layers:
        if name not in known:
            raise UnknownName(f"there is no layer {name!r} with weights; {nearest(name, known)}")
    return list(layers)


def _changed(model: nn.Module, layers: Sequence[str], order: str, seed: int) -> Iterator[nn.Module]:
    """Copies of a model in which one layer after the other has new weights."""
    copied = copy.deepcopy(model)
    for place, name in enumerate(layers):
        if order == "independent" and place:
            copied = copy.deepcopy(model)
        net = network(copied)
        assert net is not None
        _reset(net.get_submodule(name), mixed(seed, place))
        yield copied


def _reset(module: nn.Module, seed: int) -> None:
    reset = getattr(module, "reset_parameters", None)
    with torch.no_grad():
        if callable(reset):
            devices = {p.device for p in module.parameters() if p.device.type == "cuda"}
            with torch.random.fork_rng(devices=list(devices)):
                torch.manual_seed(seed)
                reset()
            return
        random = torch.Generator().manual_seed(seed)
        for parameter in module.parameters(recurse=False):
            spread = float(parameter.std()) if parameter.numel() > 1 else abs(float(parameter))
            drawn = torch.randn(parameter.shape, generator=random).to(parameter)
            parameter.copy_(float(parameter.mean()) + spread * drawn)
