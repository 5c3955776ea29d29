"""DeepMDS: a network that maps features to few dimensions and keeps their distances."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from ..model.batches import memory_budget, progress
from ..model.settings import current
from ..model.training import descend
from .projections.decorator import projection
from .projections.deep_mds_network import Stages, axes_of, halving
from .projections.embedding import Embedding, embedding_of
from .projections.points import Array, Points, directions

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EARLIER = 0.1  # how much the loss of each earlier stage counts while a later one learns
RATE = 1e-3
CHECK = 25  # steps between looks at the points that are not trained on
HELD, MOST_HELD, MOST_PAIRS = 0.1, 500, 2000
ROWS = 4096


@dataclass(frozen=True, eq=False, repr=False)
class DeepMDS(Embedding):
    """An embedding by a network, stage by stage.

    module: maps features, M x D, to places, M x d; a torch module in evaluation mode, to be kept or used further.
    widths: L dimensions, one for each stage. stress: L, sqrt(sum (d - d')^2 / sum d^2) over pairs of points that were
    not trained on, with d their distance and d' that after the stage. correlation: L, of d and d' over those pairs.
    linear_stress: L, the stress of as many principal components. held: how many points were not trained on; where
    that is 0 there were too few, and the numbers are of all points.
    steps: made in each stage. If it was stopped by hand, it is the best so far, and stages that had not begun are
    principal components of those before.
    """

    module: nn.Module | None = field(repr=False, default=None)
    widths: tuple[int, ...] = ()
    stress: Tensor = field(repr=False, default_factory=lambda: torch.empty(0))
    correlation: Tensor = field(repr=False, default_factory=lambda: torch.empty(0))
    linear_stress: Tensor = field(repr=False, default_factory=lambda: torch.empty(0))
    held: int = 0
    steps: tuple[int, ...] = ()

    def figure(self, *, stages: bool = False, **options: Any) -> Figure:
        """The points as a map, or the stress of each stage.

        Args:
            stages: draw the stress instead, beside that of as many principal components.
            options: those of `Embedding.figure`.
        """
        if not stages:
            return super().figure(**options)
        from matplotlib.figure import Figure

        figure = Figure(figsize=(5.2, 3.6), dpi=130, layout="constrained")
        axis = figure.subplots()
        places, names = range(len(self.widths)), [str(width) for width in self.widths]
        axis.plot(places, self.linear_stress.numpy(), "s--", color="0.5", label="principal components")
        axis.plot(places, self.stress.numpy(), "o-", color="tab:blue", label="DeepMDS")
        axis.set_xticks(places, names)
        axis.set(xlabel="dimensions after the stage", ylabel="stress", ylim=(0, None))
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(frameon=False, fontsize=8)
        return figure

    def table(self) -> str:
        """Stages with their stress and correlation, as a table in Markdown."""
        lines = ["| dimensions | stress | of principal components | correlation of distances |", "|---|---|---|---|"]
        rows = zip(
            self.widths, self.stress.tolist(), self.linear_stress.tolist(), self.correlation.tolist(), strict=True
        )
        lines += [f"| {width} | {own:.3f} | {linear:.3f} | {near:.3f} |" for width, own, linear, near in rows]
        return "\n".join(lines)


@projection(paper="Gong, Boddeti & Jain 2019, On the Intrinsic Dimensionality of Image Representations")
def deep_mds(
    given: Points,
    dimensions: int = 2,
    *,
    stages: Sequence[int] | None = None,
    steps: int = 600,
    hard_pair_fraction: float = 0.75,
    batch: int = 256,
    metric: Literal["l2", "cosine"] = "l2",
    seconds: float | None = None,
    seed: int = 0,
) -> Embedding:
    """A network that maps features to few dimensions and keeps their distances.

    It halves the dimensions stage by stage, and each stage is trained with those before it:

        min sum_l a_l sum_ij w_ij (|x_i - x_j| - |y_i^l - y_j^l|)^2

    with y^l what comes out of stage l, a_l = 1 for the newest and 0.1 for earlier ones, and w_ij = 1 for the pairs of a
    batch whose error is largest, 0 for others. A stage is a linear map beside a small network; it begins as principal
    components, so that training starts from the best linear reduction. A tenth of the points is not trained on, and
    what fits their distances best is kept. On a Swiss roll this keeps distances through space, not along the roll: what
    unrolls is an embedding of neighbors.

    The paper halves the dimensions alike, and takes either distance. Its published network has residual blocks with
    batch norm, of which there is none here: where a point lies does not depend on the others of its batch. Its weights
    a_l are 1, each stage looks back at the one before, and all are trained together at the end; here all stages look
    back at the features.

    Args:
        features: `Features` of one layer, or N x D numbers.
        dimensions: of the embedding, below D; `intrinsic_dimension` says how many may be enough.
        stages: dimensions after each stage, falling, the last of them `dimensions`; by default powers of two from D
            downwards, 512 at most.
        steps: of each stage.
        hard_pair_fraction: the share of the pairs of a batch that count, the worst first, in (0, 1].
        batch: points in a batch, whose pairs are all looked at; less where memory is short.
        metric: what is kept of each pair: "l2", the Euclidean distance, or "cosine", 1 - cosine, where the lengths of
            vectors say nothing, as in networks for faces; places are then to be compared by the cosine too.
        seconds: how long training may take at most, shared among the stages. Results then depend on the machine.
        seed: of weights, batches and the points that are not trained on.
        labels: N classes; those of the features by default. names: N texts. images: N x C x H x W, for thumbnails.

    Returns:
        A `DeepMDS`: the places, the network as `module`, and the stress of each stage. `place` maps other points.

    Raises:
        TypeError, ValueError: for what holds no points, NaN, points that are all the same, as many dimensions as
            there are, or stages that do not fall to the last.

    Paper:
        Gong, Boddeti & Jain 2019, On the Intrinsic Dimensionality of Image Representations.

    >>> points = torch.randn(200, 6, generator=torch.Generator().manual_seed(0))
    >>> found = deep_mds(points, 2, steps=20)
    >>> found.widths, bool(found.stress[-1] <= found.linear_stress[-1]), tuple(found.module(points[:3]).shape)
    ((4, 2), True, (3, 2))
    """
    count, wide = given.values.shape
    widths = _widths(stages, wide, dimensions)
    if steps < 1 or batch < 4:
        raise ValueError(f"steps is {steps} and batch {batch}, expected at least 1 and 4")
    if not 0 < hard_pair_fraction <= 1:
        raise ValueError(f"hard is {hard_pair_fraction:g}, expected a share of the pairs in (0, 1]")
    if metric == "cosine" and dimensions == 1:
        raise ValueError("in one dimension all cosines are 1 or -1: ask for 2 or more, or for the metric l2")
    if seconds is not None and not seconds > 0:
        raise ValueError(f"seconds is {seconds:g}, expected a time above 0, or None")
    device = torch.device(current().device)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(count, generator=generator)
    held = min(int(HELD * count), MOST_HELD) if count >= 50 else 0
    with torch.inference_mode(False), torch.enable_grad():
        cosine = metric == "cosine"
        values = directions(given.values) if cosine else given.values
        features = torch.from_numpy(np.ascontiguousarray(values)).float()
        net = Stages(features[order[held:]], widths, generator, cosine).to(device)
        points = net.scaled(features.to(device))
        judged = points[order[: held or MOST_PAIRS]]
        batch = min(batch, count - held, max(4, math.isqrt(memory_budget(device) // 64)))
        done, interrupted = _train(
            net, points[order[held:]], judged, steps, hard_pair_fraction, batch, seconds, generator
        )
    net.eval().requires_grad_(False).cpu()

    def place(others: Array) -> Array:
        if others.shape[1] != wide:
            raise ValueError(f"got points of {others.shape[1]} numbers, this embedding is of {wide}")
        with torch.inference_mode():
            parts = torch.from_numpy(np.ascontiguousarray(others)).float().split(ROWS)
            return np.concatenate([net(part).numpy() for part in parts])

    how_far = f"after {sum(done)} of {len(widths) * steps} steps" if interrupted else ""
    judged = judged.cpu()
    distances = net.distances(judged)
    with torch.no_grad():
        after = [net.distances(y) for y in net.through(judged)]
    linear = [net.distances(y) for y in _components(points[order[held:]].cpu(), judged, widths, cosine)]
    return DeepMDS(
        **vars(embedding_of(given, place(given.values), mapping=place, interrupted=how_far)),
        module=net,
        widths=tuple(widths),
        stress=torch.stack([_stress(distances, one) for one in after]),
        correlation=torch.stack([torch.corrcoef(torch.stack([distances, one]))[0, 1] for one in after]),
        linear_stress=torch.stack([_stress(distances, one) for one in linear]),
        held=held,
        steps=done,
    )


def _train(
    net: Stages, points: Tensor, judged: Tensor, steps: int, hard: float, batch: int, seconds: float | None,
    generator: torch.Generator,
) -> tuple[tuple[int, ...], bool]:  # fmt: skip
    """Train stage after stage; the steps made in each, and whether it was interrupted. The net is the best then."""
    stages, start, distances = len(net.stages), time.perf_counter(), net.distances(judged)
    done, interrupted = [0] * stages, False
    with progress(stages * steps, "DeepMDS", unit="step") as advance:
        for last in range(stages):
            with torch.no_grad():
                before = net.through(points, last - 1)[-1] if last else points
                net.start(last, before)
                del before
            if interrupted:
                continue  # the stages that are left have to be there
            end = math.inf if seconds is None else start + seconds * (last + 1) / stages
            found = _learn(net, points, judged, distances, last, steps, hard, batch, end, generator, advance)
            done[last], interrupted = found
            advance(steps - done[last])
    return tuple(done), interrupted


def _learn(
    net: Stages, points: Tensor, judged: Tensor, distances: Tensor, last: int, steps: int, hard: float, batch: int,
    end: float, generator: torch.Generator, advance: Callable[[int], object],
) -> tuple[int, bool]:  # fmt: skip
    """Train a stage with those before it until the clock says `end`; the steps, and whether it was interrupted."""
    best, kept, made, interrupted = _judge(net, judged, distances, last), copy.deepcopy(net.state_dict()), 0, False
    weights = [w for one in net.stages[: last + 1] for w in one.parameters()]
    optimizer = torch.optim.Adam(weights, RATE)
    slower = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, RATE / 100)

    def loss_of(_: int) -> Tensor:
        chosen = torch.randperm(len(points), generator=generator)[:batch].to(points.device)
        x = points[chosen]
        true, loss = net.distances(x), x.new_zeros(())
        for at, y in enumerate(net.through(x, last)):
            errors = (net.distances(y) - true).square()
            worst = errors.topk(max(1, round(hard * len(errors))), sorted=False).values
            loss = loss + (1.0 if at == last else EARLIER) * worst.mean()
        return loss

    def after(done: int, _: Tensor) -> None:
        nonlocal best, kept, made
        slower.step()
        made = done
        advance(1)
        if done % CHECK == 0 or done == steps:
            found = _judge(net, judged, distances, last)
            if found < best:
                best, kept = found, copy.deepcopy(net.state_dict())

    try:
        descend(loss_of, weights, optimizer, steps, go_on=lambda: time.perf_counter() <= end, after=after)
    except KeyboardInterrupt:
        interrupted = True
    net.load_state_dict(kept)
    return made, interrupted


def _judge(net: Stages, judged: Tensor, distances: Tensor, last: int) -> float:
    """The stress after a stage, of points that are not trained on."""
    with torch.no_grad():
        return float(_stress(distances, net.distances(net.through(judged, last)[-1])))


def _stress(distances: Tensor, after: Tensor) -> Tensor:
    """sqrt(sum (d - d')^2 / sum d^2), Kruskal's first."""
    return ((distances - after).square().sum() / distances.square().sum()).sqrt()


def _components(trained: Tensor, judged: Tensor, widths: Sequence[int], cosine: bool) -> list[Tensor]:
    """The judged points by as many principal components of the trained ones as each stage has dimensions."""
    origin = torch.zeros_like(trained[0]) if cosine else trained.mean(0)
    axes = axes_of(trained, origin).to(judged)
    return [(judged - origin) @ axes[:, :width] for width in widths]


def _widths(stages: Sequence[int] | None, wide: int, dimensions: int) -> list[int]:
    if dimensions >= wide:
        raise ValueError(f"the points have {wide} dimensions already: ask for fewer, not {dimensions}")
    if stages is None:
        return halving(wide, dimensions)
    widths = [int(width) for width in stages]
    falling = all(a > b for a, b in zip([wide, *widths], widths, strict=False))
    if not widths or not falling or widths[-1] != dimensions:
        raise ValueError(
            f"stages is {list(stages)}, expected numbers that fall from below {wide} to {dimensions}, such as "
            f"{halving(wide, dimensions)}"
        )
    return widths
