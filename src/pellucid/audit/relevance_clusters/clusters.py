"""Clusters of relevance maps, and how far each stands apart: from maps to a ranking, with no network in sight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

RESOLUTIONS = (2, 4, 8, 16)  # numbers of clusters that are tried; a sixteenth stands for markers on a few per cent
SMALLEST = 5  # images in a cluster: of fewer it cannot be said how much they vary
BY_CHANCE = 60  # clusters of structureless sets that those of a class are compared with, about
THRESHOLD = 5.5
NARROWEST = 0.3  # spread of scores that is believed
PENALTY = 1.0  # of the ridge regression, on maps of length 1
KEPT = 0.75  # of the way from the mean of the others to its own, which a member of a cluster has to come
OVERLAP = 0.5  # a cluster that shares more with a better one is the same at another resolution


@dataclass(frozen=True, eq=False)
class Group:
    """Some of the N maps of a class.

    members: their numbers, the most typical first. score: the gap between them and the others; see `separation`.
    """

    members: Array
    score: float


@dataclass(frozen=True, eq=False)
class Found:
    """What was found among the N maps of a class.

    groups: disjoint, those that stand apart most first. chance: scores of such groups in clouds without clusters.
    coordinates: N x d, the spectral embedding. eigenvalues: d + 1, of the Laplacian, from 0 upwards. gap: the number of
    clusters that the largest gap among these speaks for. copies: how many maps are copies of others, which count once.
    """

    groups: tuple[Group, ...]
    chance: Array = field(repr=False)
    coordinates: Array = field(repr=False)
    eigenvalues: Array = field(repr=False)
    gap: int
    copies: int


def find_clusters(
    maps: Array,
    *,
    neighbors: int | None = None,
    resolutions: Sequence[int] = RESOLUTIONS,
    smallest: int = SMALLEST,
    clouds: int | None = None,
    seed: int = 0,
) -> Found:
    """Cut the maps of a class into clusters at several resolutions, and score how far each stands apart.

    1. `unit_maps`. 2. A graph of the nearest neighbors by cosine, a pair being joined if either is near the other.
    3. The eigenvectors of its normalized Laplacian I - D^-1/2 W D^-1/2 with the smallest eigenvalues. 4. K-means on the
    first K of them, for each K of the resolutions; members that come less than three quarters of the way from the mean
    of the others to that of the cluster, along the line between both, are left out. 5. The score of each cluster,
    `separation`; of clusters that overlap the highest stays.
    The same is done to clouds: normal samples with the mean and covariance of the maps.

    Args:
        maps: N x h x w.
        neighbors: of each map; by default log2 N, between 3 and 10.
        resolutions: numbers of clusters.
        smallest: maps in a cluster; smaller ones are not looked at, nor those of more than half of the maps.
        clouds: how many; by default as many as give about 60 clusters, and two at least.
        seed: of K-means and clouds.

    Returns:
        What was found.

    Raises:
        ValueError: for fewer than 2 x smallest different maps, or more neighbors than there are maps.

    >>> random = np.random.default_rng(0)
    >>> maps = random.normal(size=(60, 8, 8))
    >>> maps[:12, :2, :2] += 9
    >>> found = find_clusters(maps)
    >>> sorted(found.groups[0].members) == list(range(12)), outlier_scores([found])[0][0] > THRESHOLD
    (True, True)
    """
    flat = maps.reshape(len(maps), -1).astype(np.float64)
    _, first, copy_of = np.unique(np.round(_shares(flat), 9), axis=0, return_index=True, return_inverse=True)
    order = np.sort(first)  # different maps, in the order in which they came
    place = {int(old): new for new, old in enumerate(order)}
    copy_of = np.array([place[int(first[group])] for group in np.ravel(copy_of)])
    count = len(order)
    if count < 2 * smallest:
        copies = f" ({len(flat) - count} more are copies)" if len(flat) > count else ""
        raise ValueError(
            f"there are {count} different maps{copies}: clusters of at least {smallest} need {2 * smallest} or more"
        )
    near = min(max(3, min(10, round(np.log2(count)))), count - 1) if neighbors is None else neighbors
    if not 1 <= near < count:
        raise ValueError(f"neighbors is {near}, expected 1 to {count - 1}: there are {count} different maps")
    cuts = [k for k in resolutions if k * smallest <= count] or [min(resolutions)]
    if min(cuts) >= count:
        raise ValueError(f"clusters is {min(cuts)}, expected fewer than the {count} different maps")
    unit = _unit(_scaled(_shares(flat[order])))
    values, vectors = spectrum(_graph(unit, near), max(cuts), seed)
    groups: list[Group] = []
    for inside, score in _clusters(unit, vectors, cuts, smallest, seed):
        typical = _along(unit, inside)
        numbers = np.flatnonzero(inside[copy_of])
        groups.append(Group(numbers[np.argsort(-typical[copy_of[numbers]], kind="stable")], score))
    gaps = np.diff(values)
    gap = 1 + int(gaps[: max(cuts)].argmax())
    many = max(2, -(-BY_CHANCE // sum(cuts))) if clouds is None else clouds
    chance = _chance(unit, near, cuts, smallest, many, seed)
    return Found(tuple(groups), chance, vectors[copy_of], values, gap, len(flat) - count)


def outlier_scores(found: Sequence[Found]) -> list[list[float]]:
    """How far each group of each class stands apart, beside all others and beside chance.

    outlier score = (score - middle) / spread. The middle is the largest of three medians: of the other groups of its
    class, of all other groups, of the groups in clouds. The spread is the larger of two, of all other groups and of
    those in
    clouds: (90 % quantile - median) / 1.28, which is the standard deviation if they are normal, and more if some reach
    far; at least `NARROWEST`. In words: does it stand apart as no other group of these data does, and none by chance?

    Args:
        found: of each class.

    Returns:
        For each class a number for each of its groups.
    """
    scores = [np.array([group.score for group in one.groups]) for one in found]
    every = np.concatenate([np.empty(0), *scores])
    result: list[list[float]] = []
    before = 0  # groups of the classes before this one
    for mine, one in zip(scores, found, strict=True):
        result.append([])
        for number, score in enumerate(mine):
            own, others = np.delete(mine, number), np.delete(every, before + number)
            crowds = [crowd for crowd in (own, others, one.chance) if len(crowd)]
            middle = max((float(np.median(crowd)) for crowd in crowds), default=0.0)
            spread = max(NARROWEST, _spread(others), _spread(one.chance))
            result[-1].append((float(score) - middle) / spread)
        before += len(mine)
    return result


def _spread(scores: Array) -> float:
    return float(np.quantile(scores, 0.9) - np.median(scores)) / 1.2816 if len(scores) else 0.0


def unit_maps(maps: Array) -> Array:
    """Maps as points on a sphere, N x (h w), so that places where relevance is rare count as much as others.

    Each map is divided by the sum of its magnitudes; each place is centered on its median over the maps and divided by
    its mean absolute deviation from that, plus a quarter of the mean of those over all places (so that places where
    nothing ever happens stay small); then each map has length 1.
    """
    return _unit(_scaled(_shares(maps.reshape(len(maps), -1).astype(np.float64))))


def separation(points: Array, inside: Array) -> float:
    """How far some points stand apart from the others: the gap between them, in standard deviations of the others.

    A ridge regression predicts from each point whether it is inside (1) or not (0), with a penalty of 1, fitted to all
    points but itself. Of these numbers, (lower quartile inside - 95 % quantile outside) / standard deviation outside.
    The end of a continuum goes over into the rest without a gap: there this is about 0, however far it reaches.

    Args:
        points: N x D, of length 1. inside: N booleans.
    """
    return _gap(_cross_validated(_axes(points), inside), inside)


def spectrum(graph: Any, count: int, seed: int = 0) -> tuple[Array, Array]:
    """The eigenvalues and eigenvectors of a graph's normalized Laplacian with the smallest values: `count` vectors.

    Returns:
        count + 1 values (or fewer, of small graphs), and N x count vectors.
    """
    import scipy.linalg
    import scipy.sparse
    from scipy.sparse.linalg import ArpackNoConvergence, eigsh

    nodes = graph.shape[0]
    wanted = min(count + 1, nodes)
    degrees = np.asarray(graph.sum(1)).ravel()
    scale = scipy.sparse.diags(1 / np.sqrt(np.maximum(degrees, 1e-12)))
    similar = scale @ graph @ scale  # its largest eigenvalues are the Laplacian's smallest
    if nodes > 1500:
        try:
            start = np.random.default_rng(seed).normal(size=nodes)
            values, vectors = eigsh(similar, wanted, which="LA", v0=start, tol=1e-6, maxiter=50 * nodes)
            order = np.argsort(-values)
            return 1 - values[order], vectors[:, order][:, :count]
        except ArpackNoConvergence:
            pass  # several parts of the same weight, which the slow way keeps apart
    values, vectors = scipy.linalg.eigh(similar.toarray(), subset_by_index=[nodes - wanted, nodes - 1])
    return 1 - values[::-1], vectors[:, ::-1][:, :count]


def _axes(points: Array) -> Array:
    """B of the ridge regression on these points, whose hat matrix is B B' + 1/N: N x min(N, D)."""
    left, values, _ = np.linalg.svd(points - points.mean(0), full_matrices=False)
    axes: Array = left * (values / np.sqrt(values**2 + PENALTY))
    return axes


def _cross_validated(axes: Array, inside: Array) -> Array:
    """For each point whether it is inside, as the regression on all others says: its residual over 1 - leverage."""
    wanted = inside.astype(np.float64)
    fitted = wanted.mean() + axes @ (axes.T @ wanted)
    leverage = (axes**2).sum(1) + 1 / len(wanted)
    foretold: Array = wanted - (wanted - fitted) / (1 - leverage)
    return foretold


def _gap(foretold: Array, inside: Array) -> float:
    mine, others = foretold[inside], foretold[~inside]
    spread = others.std()
    return float((np.quantile(mine, 0.25) - np.quantile(others, 0.95)) / spread) if spread > 0 else 0.0


def _graph(unit: Array, near: int) -> Any:
    from sklearn.neighbors import kneighbors_graph

    graph = kneighbors_graph(unit, near, metric="cosine", include_self=False)
    return graph.maximum(graph.T)


def _clusters(unit: Array, vectors: Array, cuts: Sequence[int], smallest: int, seed: int) -> list[tuple[Array, float]]:
    """Clusters of all resolutions that hardly overlap, the highest scores first: members as booleans, and scores."""
    from sklearn.cluster import KMeans

    found: list[tuple[Array, float]] = []
    axes = _axes(unit)
    for cut in cuts:
        part = vectors[:, :cut]
        different = len(np.unique(part.round(12), axis=0))
        numbers = KMeans(min(cut, different), n_init=3, random_state=seed).fit_predict(part)
        for number in range(cut):
            inside = _pruned(unit, numbers == number, smallest)
            if smallest <= inside.sum() <= len(inside) / 2:
                found.append((inside, _gap(_cross_validated(axes, inside), inside)))
    found.sort(key=lambda one: -one[1])
    taken, kept = np.zeros(len(unit), bool), []
    for inside, score in found:
        if taken[inside].mean() <= OVERLAP:
            kept.append((inside & ~taken, score))
            taken |= inside
    return kept


def _pruned(unit: Array, inside: Array, smallest: int) -> Array:
    """A cluster without what K-means swept up on the way: members that come less than `KEPT` of the way to its mean."""
    while smallest <= inside.sum() <= len(inside) / 2:
        along = _along(unit, inside)
        others, mine = along[~inside].mean(), along[inside].mean()
        nearer = inside & (along > others + KEPT * (mine - others))
        if nearer.sum() == inside.sum() or nearer.sum() < smallest:
            break
        inside = nearer
    return inside


def _chance(unit: Array, near: int, cuts: Sequence[int], smallest: int, clouds: int, seed: int) -> Array:
    """Scores of the clusters of normal samples with the mean and covariance of the maps."""
    random, middle, count = np.random.default_rng(seed), unit.mean(0), len(unit)
    scores: list[float] = []
    for _ in range(clouds):
        cloud = middle + random.normal(size=(count, count)) @ (unit - middle) / np.sqrt(count)
        _, vectors = spectrum(_graph(cloud, near), max(cuts), seed)
        scores += [score for _, score in _clusters(cloud, vectors, cuts, smallest, seed)]
    return np.array(scores)


def _along(points: Array, inside: Array) -> Array:
    """Projections on the line through the means of a group and of the others, each member left out of its own mean."""
    mine, others = points[inside], points[~inside].mean(0)
    total, count = mine.sum(0), len(mine)
    along = np.empty(len(points))
    along[~inside] = points[~inside] @ (total / count - others)
    along[inside] = np.einsum("nd,nd->n", mine, (total - mine) / max(1, count - 1) - others)
    return along


def _shares(flat: Array) -> Array:
    """Each map over the sum of its magnitudes; a map of zeros stays."""
    total = np.abs(flat).sum(1, keepdims=True)
    return flat / np.where(total > 0, total, 1)


def _scaled(shares: Array) -> Array:
    from_median = shares - np.median(shares, 0)
    spread = np.abs(from_median).mean(0)
    floor = 0.25 * spread.mean()
    scaled: Array = from_median / np.where(spread + floor > 0, spread + floor, 1)
    return scaled


def _unit(scaled: Array) -> Array:
    length = np.linalg.norm(scaled, axis=1, keepdims=True)
    return scaled / np.where(length > 0, length, 1)
