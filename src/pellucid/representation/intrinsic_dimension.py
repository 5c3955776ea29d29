"""How many numbers it takes to say where a point lies, estimated over a sweep of neighborhoods."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from ..checks import nearest, warn
from ..display.figures import plain
from ..methods.result import Call, Result
from ..methods.verb import verb
from ..model.batches import progress
from .projections.dimension_estimates import graph, mle, twonn
from .projections.points import Array, directions, distinct, nearest_points, points
from .sweeps.features_result import Features

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Name = Literal["graph", "mle", "twonn"]
Metric = Literal["l2", "cosine"]
SWEEPS: dict[str, tuple[int, ...]] = {"graph": (4, 7, 9, 15), "mle": (5, 10, 15, 20, 30), "twonn": (1, 2, 4, 8, 16)}
PAPERS = {
    "graph": "Gong, Boddeti & Jain 2019, On the Intrinsic Dimensionality of Image Representations; Granata & Carnevale "
    "2016, Accurate Estimation of the Intrinsic Dimension Using Graph Distances",
    "mle": "Levina & Bickel 2004, Maximum Likelihood Estimation of Intrinsic Dimension; MacKay & Ghahramani 2005, "
    "Comments on it",
    "twonn": "Facco, d'Errico, Rodriguez & Laio 2017, Estimating the Intrinsic Dimension of Datasets by a Minimal "
    "Neighborhood Information",
}
LEAST = 20  # points that tell anything
SUBSETS, SUBSET = 20, 2000
JOINED = 0.9  # the share of points in one part of the graph below which the estimate is of that part alone


@dataclass(frozen=True, eq=False)
class IntrinsicDimension(Result):
    """Estimates of intrinsic dimension over a sweep of neighborhoods.

    k: K whole numbers of neighbors. values: K estimates, one for each. errors: K standard errors, NaN where they were
    not looked for. fit: K, root mean square errors of the fit of the graph method. share: K, the share of points in the
    connected part of the graph that the estimate is of; 1 for other methods.
    method: "graph", "mle" or "twonn". count: how many points were looked at. duplicates: how many points were left out
    because they lie on others. level: of the confidence intervals.
    """

    k: Tensor
    values: Tensor
    errors: Tensor = field(repr=False)
    fit: Tensor = field(repr=False)
    share: Tensor = field(repr=False)
    method: str
    count: int
    duplicates: int = 0
    level: float = 0.95
    call: Call | None = None

    @property
    def intervals(self) -> Tensor:
        """K x 2: between what each estimate may lie for other points of the same kind. What the method gets wrong
        for all points alike is not in it: the sweep shows some of that."""
        half = NormalDist().inv_cdf(0.5 + self.level / 2) * self.errors
        return torch.stack([(self.values - half).clamp(min=0), self.values + half], 1)

    @property
    def dimension(self) -> float:
        """The middle of the sweep: its median."""
        return float(self.values.quantile(0.5))

    def figure(self, **options: Any) -> Figure:
        """The estimates over k, with their intervals.

        Args:
            options: of the curve, as for matplotlib's `errorbar`: color, label, ...
        """
        from matplotlib.figure import Figure

        figure = Figure(figsize=(5.2, 3.6), dpi=130, layout="constrained")
        self.draw(figure.subplots(), **options)
        if self.call:
            figure.supxlabel(plain(str(self.call)), fontsize=7, color="0.4", parse_math=False, wrap=True)
        return figure

    def draw(self, axis: Any, **options: Any) -> None:
        """The estimates over k, on an axis of matplotlib's."""
        options = {"color": "tab:blue", "marker": "o", "capsize": 3, **options}
        k, values = self.k.tolist(), self.values.numpy()
        low, high = self.intervals.nan_to_num(nan=float("nan")).numpy().T
        known = self.errors.isfinite().any()
        axis.errorbar(k, values, yerr=np.stack([values - low, high - values]) if known else None, **options)
        axis.axhline(self.dimension, color=options["color"], linewidth=0.8, linestyle=":")
        for at, value, share in zip(k, values, self.share.tolist(), strict=True):
            if share < JOINED:
                said = f"{share:.0%} of the points"
                axis.annotate(said, (at, value), (4, 6), textcoords="offset points", fontsize=7, color="0.4")
        axis.set(xlabel="k, neighbors", ylabel="dimension", xticks=k)
        axis.set_ylim(0, max(1.15 * float(np.nanmax(np.append(high, values))), 1))
        axis.spines[["top", "right"]].set_visible(False)
        told = f"{self.method}, {self.count} points: {self.dimension:.1f}, the middle of the sweep"
        axis.set_title(told, fontsize=9)

    def table(self) -> str:
        """The sweep as a table in Markdown."""
        known = bool(self.errors.isfinite().any())
        head = ["k", "dimension", *([f"{self.level:.0%} interval"] if known else [])]
        head += ["error of the fit", "points joined"] if self.method == "graph" else []
        lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
        for i, (low, high) in enumerate(self.intervals.tolist()):
            cells = [f"{int(self.k[i])}", f"{float(self.values[i]):.2f}"]
            cells += [f"{low:.2f} to {high:.2f}"] if known else []
            if self.method == "graph":
                cells += [f"{float(self.fit[i]):.3f}", f"{float(self.share[i]):.1%}"]
            lines.append(f"| {' | '.join(cells)} |")
        return "\n".join(lines)

    def __str__(self) -> str:
        low, high = float(self.values.min()), float(self.values.max())
        sweep = f"{low:.1f} to {high:.1f} as k goes from {int(self.k[0])} to {int(self.k[-1])}"
        return f"{self.method}: {self.dimension:.1f}; {sweep}; {self.count} points"

    def __repr__(self) -> str:
        return f"IntrinsicDimension({self})"


@verb()
def intrinsic_dimension(
    features: Features | Tensor | Array,
    method: Name = "graph",
    k: Iterable[int] | None = None,
    *,
    metric: Metric = "l2",
    subsets: int = SUBSETS,
    level: float = 0.95,
    seed: int = 0,
) -> IntrinsicDimension:
    """How many numbers it takes to say where a point lies among others, over a sweep of neighborhoods.

    - "graph": the m for which log p(r) = log p(r_max) + (m - 1) log sin(pi r / (2 r_max)) fits the density of distances
      along the graph of nearest neighbors best, over r_max - 2 sigma <= r <= r_max.
    - "mle": 1 / m = mean over points of 1 / (k - 1) sum_{j < k} log(T_k / T_j), T_j the distance to the j-th neighbor.
    - "twonn": the slope of -log(1 - F(mu)) over k log mu, mu = T_{k+1} / T_k, without the largest tenth.

    One k misleads: what changes over the sweep is not known. All three take points for evenly spread within their
    neighborhoods. In many dimensions they seldom are, for most points lie near a border, and estimates are too low.

    Standard errors come from subsets without repetition, in which no point is its own neighbor: the spread of the
    estimates of subsets of b among N points, times sqrt(b / (N - b)). They are somewhat too large for "mle" and
    "twonn"; for "graph", whose estimates change with the density of points, they tell the order of size alone.

    Args:
        features: `Features` of one layer, or N x D numbers.
        method: "graph", "mle" or "twonn".
        k: two or more numbers of neighbors, such as range(4, 16); by default 4, 7, 9, 15 for "graph", 5 to 30 for
            "mle" and 1 to 16 for "twonn", as far as there are points.
        metric: between points: "l2", or "cosine" for the angle between them, where lengths say nothing, as in networks
            for faces.
        subsets: how many subsets the errors are taken from; 0 leaves them out, which is quicker.
        level: of the confidence intervals, in (0, 1).
        seed: of the subsets, and of the points from which distances along the graph are taken.

    Returns:
        An `IntrinsicDimension`: estimates, errors and intervals for each k, a curve and a table.

    Raises:
        TypeError, ValueError: for what holds no points, or fewer than 20 different ones, a single k, one that there
            are too few points for, or an unknown method.

    Paper:
        Gong, Boddeti & Jain 2019, On the Intrinsic Dimensionality of Image Representations; Levina & Bickel 2004,
        Maximum Likelihood Estimation of Intrinsic Dimension, with MacKay & Ghahramani 2005; Facco et al. 2017,
        Estimating the Intrinsic Dimension of Datasets by a Minimal Neighborhood Information.

    >>> points = torch.rand(400, 2, generator=torch.Generator().manual_seed(0)) @ torch.ones(2, 5).triu()
    >>> found = intrinsic_dimension(points, "mle", k=(10, 20), subsets=0)
    >>> 1.8 < found.dimension < 2.2
    True
    """
    if method not in get_args(Name):
        raise ValueError(f"there is no method {method!r}; {nearest(str(method), get_args(Name))}")
    if metric not in get_args(Metric):
        raise ValueError(f"metric is {metric!r}, expected 'l2' or 'cosine'")
    if not 0 < level < 1:
        raise ValueError(f"level is {level:g}, expected a share in (0, 1), such as 0.95")
    if isinstance(subsets, bool) or not isinstance(subsets, int) or subsets < 0 or 0 < subsets < 3:
        raise ValueError(f"subsets is {subsets!r}, expected 0 or a whole number from 3")
    given = points(features, least=LEAST)
    angles = metric == "cosine"
    values, duplicates = distinct(directions(given.values) if angles else given.values)
    if len(values) < LEAST:
        raise ValueError(f"{len(values)} of {len(given.values)} points are different: it takes {LEAST} or more")
    if duplicates > len(given.values) // 10:
        warn(f"{duplicates} of {len(given.values)} points lie on others and were left out")
    ks = _sweep(method, k, len(values))
    size = min(len(values) // 2, SUBSET)
    with progress(1 + subsets, f"intrinsic dimension, {method}", unit="subset") as advance:
        found = _estimates(values, method, ks, np.random.default_rng(seed), angles)
        advance(1)
        errors = np.full(len(ks), np.nan)
        usable = [at for at, one in enumerate(ks) if one + 1 < size]
        if subsets and usable:
            spread = []
            with suppress(KeyboardInterrupt):  # the estimates are there
                for number in range(subsets):
                    generator = np.random.default_rng([seed, number])
                    chosen = values[generator.permutation(len(values))[:size]]
                    spread.append(_estimates(chosen, method, [ks[at] for at in usable], generator, angles)[:, 0])
                    advance(1)
            if len(spread) > 2:
                errors[usable] = np.std(spread, axis=0, ddof=1) * (size / (len(values) - size)) ** 0.5
    shares = found[:, 2]
    if shares.min() < JOINED:
        worst = int(shares.argmin())
        warn(
            f"with k = {ks[worst]} the graph falls apart: the estimate is of the largest part, {shares[worst]:.0%} of "
            "the points. Take larger k, or look at each part alone"
        )
    record = Call(
        options={"method": method, "k": tuple(ks), "metric": metric, "subsets": subsets, "level": level, "seed": seed},
        objective=given.layer or "points",
        model=given.model or "an array",
        paper=PAPERS[method],
    )
    columns = [torch.from_numpy(np.ascontiguousarray(column)) for column in (*found.T[:2], shares)]
    return IntrinsicDimension(
        torch.tensor(ks), columns[0], torch.from_numpy(errors), columns[1], columns[2], method, len(values), duplicates,
        level, record,
    )  # fmt: skip


def _sweep(method: str, k: Iterable[int] | None, count: int) -> list[int]:
    """The numbers of neighbors, in order."""
    most = count - (2 if method == "twonn" else 1)
    least = 2 if method == "mle" else 1
    if k is None:
        return [one for one in SWEEPS[method] if one <= most // 2]
    if isinstance(k, (int, float)):
        raise ValueError(f"k is {k}, expected several, such as range(4, 16): a single one misleads")
    chosen: set[Any] = set(k)
    for one in chosen:
        if isinstance(one, bool) or not isinstance(one, (int, np.integer)) or one < least:
            raise ValueError(f"k has {one!r}, expected whole numbers from {least} for {method}")
        if one > most:
            raise ValueError(f"k has {one}, and there are {count} different points: it can be at most {most}")
    if len(chosen) < 2:
        raise ValueError(f"k is {sorted(chosen)}, expected several, such as range(4, 16): a single one misleads")
    return sorted(map(int, chosen))


def _estimates(values: Array, method: str, ks: list[int], generator: np.random.Generator, angles: bool) -> Array:
    """For each k the estimate, the error of its fit and the share of points that it is of: K x 3."""
    distances, neighbors = nearest_points(values, max(ks) + (method == "twonn"))
    if angles:  # between points of length 1
        distances = 2 * np.arcsin((distances / 2).clip(max=1))
    if method == "graph":
        return np.array([graph(distances, neighbors, k, generator) for k in ks])
    one: Callable[[Array, int], float] = mle if method == "mle" else twonn
    return np.array([(one(distances, k), 0.0, 1.0) for k in ks])


def sweeps_figure(sweeps: Sequence[IntrinsicDimension]) -> Figure:
    """Sweeps of several methods side by side, with one range of dimensions."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(0.6 + 3.8 * len(sweeps), 3.4), dpi=130, layout="constrained")
    axes = figure.subplots(1, len(sweeps), squeeze=False, sharey=True)[0]
    for number, (axis, sweep) in enumerate(zip(axes, sweeps, strict=True)):
        sweep.draw(axis)
        if number:
            axis.set_ylabel("")
    axes[0].set_ylim(0, max(axis.dataLim.y1 for axis in axes) * 1.15)
    call = sweeps[0].call
    if call and call.objective != "points":
        figure.supxlabel(plain(f"{call.model}, {call.objective}"), fontsize=7, color="0.4", parse_math=False)
    return figure
