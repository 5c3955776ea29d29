"""UMAP: a map of a graph of neighbors."""

from __future__ import annotations

import warnings

import numpy as np

from ..model.batches import announced, watched
from .projections.decorator import projection
from .projections.embedding import Embedding, embedding_of
from .projections.neighbor_graphs import fitting, imported, quiet
from .projections.points import Array, Points


@projection(
    paper="McInnes, Healy & Melville 2018, UMAP: Uniform Manifold Approximation and Projection",
    fitted={"neighbors": lambda neighbors, count: fitting(neighbors, 15, count, least=5)},
)
def umap(
    given: Points,
    dimensions: int = 2,
    *,
    neighbors: int = 15,
    min_dist: float = 0.1,
    steps: int | None = None,
    seed: int = 0,
) -> Embedding:
    """A map of a graph of neighbors.

    Minimizes the cross-entropy between memberships v_ij of pairs in a fuzzy graph of nearest neighbors and
    w_ij = (1 + a |y_i - y_j|^(2b))^-1 on the map. Made by umap-learn, on one thread, since more would give another map
    each time. Distances between clusters mean little.

    Args:
        features: `Features` of one layer, or N x D numbers.
        dimensions: of the embedding.
        neighbors: how many of each point are joined to it, from 2 to N - 1; larger shows more of the whole. The
            default of 15 becomes N - 1 where there are fewer points.
        min_dist: how near points may come on the map, in [0, 1].
        steps: of the descent; by default 500 for up to 10 000 points, 200 for more.
        seed: of the start and the descent.
        labels: N classes; those of the features by default. names: N texts. images: N x C x H x W, for thumbnails.

    Returns:
        An `Embedding`; `place` finds places of others among these.

    Raises:
        ImportError: where umap-learn is not installed: pip install 'pellucid[embed]'.
        TypeError, ValueError: for what holds no points, NaN, points that are all the same, or too many neighbors.

    Paper:
        McInnes, Healy & Melville 2018, UMAP: Uniform Manifold Approximation and Projection for Dimension Reduction.

    >>> import inspect
    >>> list(inspect.signature(umap).parameters)[:4]
    ['features', 'dimensions', 'neighbors', 'min_dist']
    """
    count = len(given.values)
    if not 0 <= min_dist <= 1:
        raise ValueError(f"min_dist is {min_dist:g}, expected [0, 1]")
    if steps is not None and steps < 1:
        raise ValueError(f"steps is {steps}, expected 1 or more, or None")
    wait = announced(f"UMAP of {count} points; in a new process it compiles for up to a minute first")
    with (
        wait,
        quiet(library := imported("umap", "umap-learn")),
        warnings.catch_warnings(),
    ):  # of one thread, and of small sets
        warnings.simplefilter("ignore")
        bar = {"desc": "UMAP", "unit": "step", "delay": 2, "leave": False, "disable": not watched()}
        # Its spectral start needs more points than dimensions by two.
        start = "spectral" if count > dimensions + 2 else "random"
        maker = library.UMAP(
            n_neighbors=neighbors, n_components=dimensions, min_dist=min_dist, n_epochs=steps, random_state=seed,
            n_jobs=1, init=start, tqdm_kwds=bar,
        )  # fmt: skip
        values = np.asarray(maker.fit_transform(given.values))

    def place(others: Array) -> Array:
        if others.shape[1] != given.values.shape[1]:
            raise ValueError(f"got points of {others.shape[1]} numbers, this embedding is of {given.values.shape[1]}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return np.asarray(maker.transform(others))

    return embedding_of(given, values, mapping=place)
