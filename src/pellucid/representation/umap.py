"""UMAP: a map of a graph of neighbours."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

import numpy as np

from ..batches import announced, watched
from .embedding import Embedding, embedding_of
from .points import Array, Points
from .projection import projection


@projection(
    paper="McInnes, Healy & Melville 2018, UMAP: Uniform Manifold Approximation and Projection",
    fitted={"neighbours": lambda neighbours, count: fitting(neighbours, 15, count, least=5)},
)
def umap(
    given: Points,
    dimensions: int = 2,
    *,
    neighbours: int = 15,
    min_dist: float = 0.1,
    steps: int | None = None,
    seed: int = 0,
) -> Embedding:
    """A map of a graph of neighbours.

    Minimises the cross-entropy between memberships v_ij of pairs in a fuzzy graph of nearest neighbours and
    w_ij = (1 + a |y_i - y_j|^(2b))^-1 on the map. Made by umap-learn, on one thread, since more would give another map
    each time. Distances between clusters mean little.

    Args:
        features: `Features` of one layer, or N x D numbers.
        dimensions: of the embedding.
        neighbours: how many of each point are joined to it, from 2 to N - 1; larger shows more of the whole. The
            default of 15 becomes N - 1 where there are fewer points.
        min_dist: how near points may come on the map, in [0, 1].
        steps: of the descent; by default 500 for up to 10 000 points, 200 for more.
        seed: of the start and the descent.
        labels: N classes; those of the features by default. names: N texts. images: N x C x H x W, for thumbnails.

    Returns:
        An `Embedding`; `place` finds places of others among these.

    Raises:
        ImportError: where umap-learn is not installed: pip install 'pellucid[embed]'.
        TypeError, ValueError: for what holds no points, NaN, points that are all the same, or too many neighbours.

    Paper:
        McInnes, Healy & Melville 2018, UMAP: Uniform Manifold Approximation and Projection for Dimension Reduction.

    >>> import inspect
    >>> list(inspect.signature(umap).parameters)[:4]
    ['features', 'dimensions', 'neighbours', 'min_dist']
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
            n_neighbors=neighbours, n_components=dimensions, min_dist=min_dist, n_epochs=steps, random_state=seed,
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


@contextmanager
def quiet(library: Any) -> Iterator[None]:
    """What a library says goes to stderr, and numpy's random state stays as it was."""
    logger = logging.getLogger(library.__name__)
    level, state = logger.level, np.random.get_state()  # noqa: NPY002
    logger.setLevel(logging.ERROR)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        logger.setLevel(level)
        np.random.set_state(state)  # noqa: NPY002


def fitting(neighbours: int, usual: int, count: int, least: int) -> int:
    """How many neighbours, as far as there are points for the default."""
    if count < least:
        raise ValueError(f"there are {count} points: it takes {least} or more for neighbours to mean anything")
    if neighbours == usual:
        return min(usual, count - 1)
    if not 2 <= neighbours <= count - 1:
        raise ValueError(f"neighbours is {neighbours}, and there are {count} points: expected 2 to {count - 1}")
    return neighbours


def imported(name: str, package: str) -> Any:
    """A library of the extra `embed`."""
    import importlib

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f"{name} needs {package}, which is not installed: pip install 'pellucid[embed]'. pca and tsne need nothing "
            "more"
        ) from error
