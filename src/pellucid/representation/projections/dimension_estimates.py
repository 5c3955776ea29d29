"""Three estimates of intrinsic dimension, as functions of points or of the distances to their neighbors."""

from __future__ import annotations

import numpy as np

from .points import Array

BINS = 100
SOURCES = 300  # points whose distances to all others are looked at
DISCARDED = 0.1
"""The share of the largest ratios that the fit of Facco et al. leaves out: they lie at outliers and at the border."""


def mle(distances: Array, k: int) -> float:
    """Maximum likelihood of Levina & Bickel, averaged over points as MacKay & Ghahramani correct it.

    1 / m = mean over x of 1 / (k - 1) sum_{j < k} log(T_k(x) / T_j(x))

    Args:
        distances: N x K, of each point x to its nearest others in order: T_1, T_2, ... above 0.
        k: how many of them count, from 2 to K.
    """
    inverse = np.log(distances[:, k - 1 : k] / distances[:, : k - 1]).mean()
    return float(1 / max(inverse, 1e-12))


def twonn(distances: Array, k: int = 1) -> float:
    """Two nearest neighbors of Facco et al.: how fast the next neighbor follows.

    Where points lie evenly, mu = T_{k+1} / T_k has the distribution F(mu) = 1 - mu^(-k m), so that -log(1 - F) over
    k log mu is a line through 0 with slope m. It is fitted to the ratios in order, without the largest tenth. k = 1 is
    the published estimate; larger ones look at larger scales.

    Args:
        distances: N x K, as for `mle`.
        k: which neighbor is first of the two, from 1 to K - 1.
    """
    ratios = np.sort(distances[:, k] / distances[:, k - 1])
    kept = int(len(ratios) * (1 - DISCARDED))
    x, y = k * np.log(ratios[:kept]), -np.log1p(-np.arange(1, kept + 1) / len(ratios))
    return float(x @ y / max(float(x @ x), 1e-12))


def graph(
    distances: Array, neighbors: Array, k: int, generator: np.random.Generator, sources: int = SOURCES
) -> tuple[float, float, float]:
    """Graph distances of Granata & Carnevale, as Gong, Boddeti & Jain use them.

    Distances along the graph of the k nearest neighbors stand for those along the surface that the points lie on.
    On a sphere of m dimensions their density is p(r) / p(r_max) = sin(pi r / (2 r_max))^(m - 1), with r_max where it is
    largest, and near r_max that holds for others too. m is the number for which the root mean square error of
    log p over r_max - 2 sigma <= r <= r_max is least.

    Args:
        distances, neighbors: N x K, of each point to its nearest others, in order, and which these are.
        k: how many of them are joined to it.
        generator: picks the points whose distances are taken. sources: how many these are.

    Returns:
        m, the error of its fit, and the share of points in the largest connected part, of which it is told.
    """
    from scipy.ndimage import gaussian_filter1d
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import connected_components, dijkstra

    count = len(distances)
    rows = np.repeat(np.arange(count), k)
    edges = csr_matrix((distances[:, :k].ravel(), (rows, neighbors[:, :k].ravel())), shape=(count, count))
    joined = edges.maximum(edges.T)
    _, part = connected_components(joined, directed=False)
    largest = np.flatnonzero(part == np.bincount(part).argmax())
    if len(largest) < count:
        joined = joined[largest][:, largest]
    chosen = generator.permutation(len(largest))[:sources]
    r = dijkstra(joined, directed=False, indices=chosen)
    r = r[r > 0]

    height, ends = np.histogram(r, BINS)
    middle, sigma = (ends[1:] + ends[:-1]) / 2, float(r.std())
    # Sums of few edges come in steps; a tenth of sigma smooths these and leaves the mode where it is.
    density = gaussian_filter1d(height.astype(float), max(1e-3, 0.1 * sigma / (ends[1] - ends[0])))
    mode = int(density.argmax())
    fitted = (middle > middle[mode] - 2 * sigma) & (middle <= middle[mode]) & (density > 1e-9 * density[mode])
    share = len(largest) / count
    if fitted.sum() < 3:  # the shortest distances are the most frequent, as along a line
        return 1.0, 0.0, share
    y = np.log(density[fitted] / density[mode])
    x = np.log(np.sin(np.pi * middle[fitted] / (2 * middle[mode])))
    slope = float(x @ y / (x @ x))
    return 1 + slope, float(np.sqrt(np.mean((y - slope * x) ** 2))), share
