"""Clusters of relevance maps, and how far each stands apart: from maps to a ranking, with no network in sight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

RESOLUTIONS = (2, 4, 8, 16)  # numbers of clusters that are tried; a sixteenth stands for markers on a few per cent
SMALLEST = 5  # images in a cluster: of fewer it cannot be said how much they vary
CLOUDS = 2  # structureless sets that clusters are compared with
THRESHOLD = 5.5
KEPT = 0.75  # of the way from the mean of the others to its own, which a member of a cluster has to come
OVERLAP = 0.5  # a cluster that shares more with a better one is the same at another resolution


@dataclass(frozen=True, eq=False)
class Group:
    """Some of the N maps of a class.

    members: their numbers, the most typical first. score: standard deviations between them and the others.
    """

    members: Array
    score: float


@dataclass(frozen=True, eq=False)
class Found:
    """What was found among the N maps of a class.

    groups: disjoint, the best separated first. chance: scores of such groups in clouds without clusters.
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
    neighbours: int | None = None,
    resolutions: Sequence[int] = RESOLUTIONS,
    smallest: int = SMALLEST,
    clouds: int = CLOUDS,
    seed: int = 0,
) -> Found:
    """Cut the maps of a class into clusters at several resolutions, and score how far each stands apart.

    1. `unit_maps`. 2. A graph of the nearest neighbours by cosine, a pair being joined if either is near the other.
    3. The eigenvectors of its normalised Laplacian I - D^-1/2 W D^-1/2 with the smallest eigenvalues. 4. K-means on the
    first K of them, for each K of the resolutions; members that come less than three quarters of the way from the mean
    of the others to that of the cluster, along the line between both, are left out. 5. The score of each cluster,
    `separation`; of clusters that overlap the best stays.
    The same is done to clouds: normal samples with the mean and covariance of the maps.

    Args:
        maps: N x h x w.
        neighbours: of each map; by default log2 N, between 3 and 10.
        resolutions: numbers of clusters.
        smallest: maps in a cluster; smaller ones are not looked at, nor those of more than half of the maps.
        clouds: how many.
        seed: of K-means and clouds.

    Returns:
        What was found.

    Raises:
        ValueError: for fewer than 2 x smallest different maps, or more neighbours than there are maps.

    >>> random = np.random.default_rng(0)
    >>> maps = random.normal(size=(60, 8, 8))
    >>> maps[:12, :2, :2] += 9
    >>> found = find_clusters(maps)
    >>> sorted(found.groups[0].members) == list(range(12)), surprises([found])[0][0] > THRESHOLD
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
    near = min(max(3, min(10, round(np.log2(count)))), count - 1) if neighbours is None else neighbours
    if not 1 <= near < count:
        raise ValueError(f"neighbours is {near}, expected 1 to {count - 1}: there are {count} different maps")
    cuts = [k for k in resolutions if k * smallest <= count] or [min(resolutions)]
    if min(cuts) >= count:
        raise ValueError(f"clusters is {min(cuts)}, expected fewer than the {count} different maps")
    scaled = _scaled(_shares(flat[order]))
    unit = _unit(scaled)
    values, vectors = spectrum(_graph(unit, near), max(cuts), seed)
    groups: list[Group] = []
    for inside, score in _clusters(unit, vectors, cuts, smallest, seed):
        typical = _along(unit, inside)
        numbers = np.flatnonzero(inside[copy_of])
        groups.append(Group(numbers[np.argsort(-typical[copy_of[numbers]], kind="stable")], score))
    gaps = np.diff(values)
    gap = 1 + int(gaps[: max(cuts)].argmax())
    chance = _chance(scaled, near, cuts, smallest, clouds, seed)
    return Found(tuple(groups), chance, vectors[copy_of], values, gap, len(flat) - count)


def surprises(found: Sequence[Found]) -> list[list[float]]:
    """How surprising each group of each class is, beside all others.

    surprise = (score - middle) / spread. The middle is the largest of three medians: over the groups of the class,
    over those of all classes, over those of its clouds. The spread is the largest of three: of the scores around the
    median of their class, over all classes; of the clouds' scores; and a tenth of the middle. Each spread is 1.4826 x
    the median absolute deviation. In words: does it stand apart as no other cluster of these data does, and none does
    by chance?

    Args:
        found: of each class.

    Returns:
        For each class a number for each of its groups.
    """
    scores = [np.array([group.score for group in one.groups]) for one in found]
    every = np.concatenate(scores) if scores else np.empty(0)
    own = [float(np.median(mine)) if len(mine) else 0.0 for mine in scores]
    rest = np.concatenate([mine - middle for mine, middle in zip(scores, own, strict=True)]) if scores else every
    shared = _spread(rest, 0.0)
    result = []
    for mine, middle, one in zip(scores, own, found, strict=True):
        by_chance = float(np.median(one.chance)) if len(one.chance) else 0.0
        high = max(middle, float(np.median(every)) if len(every) else 0.0, by_chance)
        wide = max(shared, _spread(one.chance, by_chance), 0.1 * high, 1e-9)
        result.append([float(score - high) / wide for score in mine])
    return result


def _spread(values: Array, middle: float) -> float:
    return 1.4826 * float(np.median(np.abs(values - middle))) if len(values) else 0.0


def unit_maps(maps: Array) -> Array:
    """Maps as points on a sphere, N x (h w), so that places where relevance is rare count as much as others.

    Each map is divided by the sum of its magnitudes; each place is centred on its median over the maps and divided by
    its mean absolute deviation from that, plus a quarter of the mean of those over all places (so that places where
    nothing ever happens stay small); then each map has length 1.
    """
    return _unit(_scaled(_shares(maps.reshape(len(maps), -1).astype(np.float64))))


def separation(points: Array, inside: Array) -> float:
    """How far some points lie from the others, in standard deviations, along the line through both means.

    (mean inside - mean outside) / sqrt((variance inside + variance outside) / 2) of the projections, each point inside
    being projected on the line that the others inside give, so that a few points cannot make a line of their own.
    A cloud without clusters gives about 3 for the clusters that K-means cuts out of it.

    Args:
        points: N x D. inside: N booleans.
    """
    along = _along(points, inside)
    mine, others = along[inside], along[~inside]
    spread = np.sqrt((mine.var() + others.var()) / 2)
    return float((mine.mean() - others.mean()) / spread) if spread > 0 else 0.0


def spectrum(graph: Any, count: int, seed: int = 0) -> tuple[Array, Array]:
    """The eigenvalues and eigenvectors of a graph's normalised Laplacian with the smallest values: `count` vectors.

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


def _graph(unit: Array, near: int) -> Any:
    from sklearn.neighbors import kneighbors_graph

    graph = kneighbors_graph(unit, near, metric="cosine", include_self=False)
    return graph.maximum(graph.T)


def _clusters(unit: Array, vectors: Array, cuts: Sequence[int], smallest: int, seed: int) -> list[tuple[Array, float]]:
    """Clusters of all resolutions that hardly overlap, the best separated first: members as booleans, and scores."""
    from sklearn.cluster import KMeans

    found: list[tuple[Array, float]] = []
    for cut in cuts:
        part = vectors[:, :cut]
        different = len(np.unique(part.round(12), axis=0))
        numbers = KMeans(min(cut, different), n_init=3, random_state=seed).fit_predict(part)
        for number in range(cut):
            inside = _pruned(unit, numbers == number, smallest)
            if smallest <= inside.sum() <= len(inside) / 2:
                found.append((inside, separation(unit, inside)))
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


def _chance(scaled: Array, near: int, cuts: Sequence[int], smallest: int, clouds: int, seed: int) -> Array:
    """Scores of the clusters of normal samples with the mean and covariance of the maps."""
    random, middle, count = np.random.default_rng(seed), scaled.mean(0), len(scaled)
    scores: list[float] = []
    for _ in range(clouds):
        cloud = _unit(middle + random.normal(size=(count, count)) @ (scaled - middle) / np.sqrt(count))
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
