"""PaCMAP: a map that keeps near, middle and far pairs."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO

import numpy as np

from ..model.batches import announced, progress
from .projections.decorator import projection
from .projections.embedding import Embedding, embedding_of
from .projections.neighbor_graphs import fitting, imported, quiet
from .projections.points import Points

STEPS = 450  # of its descent


@projection(
    paper="Wang, Huang, Rudin & Shaposhnik 2021, Understanding How Dimension Reduction Tools Work",
    fitted={"neighbors": lambda neighbors, count: fitting(neighbors, 10, count, least=11)},
)
def pacmap(given: Points, dimensions: int = 2, *, neighbors: int = 10, seed: int = 0) -> Embedding:
    """A map that keeps near, middle and far pairs.

    Minimizes w_1 sum_near d_ij / (10 + d_ij) + w_2 sum_middle d_ij / (10000 + d_ij) + w_3 sum_far 1 / (1 + d_ij), with
    d_ij = |y_i - y_j|^2 + 1 and weights that go from the whole to the details. Made by pacmap. Cannot place others
    among these alike each time, so that `place` is not offered.

    Args:
        features: `Features` of one layer, or N x D numbers.
        dimensions: of the embedding, 2 or more.
        neighbors: near pairs of each point, from 2 to N - 1. The default of 10 becomes N - 1 where there are fewer
            points.
        seed: of the pairs and the start.
        labels: N classes; those of the features by default. names: N texts. images: N x C x H x W, for thumbnails.

    Returns:
        An `Embedding`.

    Raises:
        ImportError: where pacmap is not installed: pip install 'pellucid[embed]'.
        TypeError, ValueError: for what holds no points, NaN, points that are all the same, or too many neighbors.

    Paper:
        Wang, Huang, Rudin & Shaposhnik 2021, Understanding How Dimension Reduction Tools Work.

    >>> import inspect
    >>> list(inspect.signature(pacmap).parameters)[:4]
    ['features', 'dimensions', 'neighbors', 'seed']
    """
    count = len(given.values)
    if dimensions < 2:
        raise ValueError("PaCMAP makes maps of 2 or more dimensions, asked for 1: use pca, tsne or umap")
    wait = announced(f"PaCMAP of {count} points; in a new process it compiles for up to a minute first")
    with wait, quiet(library := imported("pacmap", "pacmap")), warnings.catch_warnings(), _counted():
        warnings.simplefilter("ignore")
        maker = library.PaCMAP(n_components=dimensions, n_neighbors=neighbors, random_state=seed, verbose=True)
        values = np.asarray(maker.fit_transform(given.values.astype(np.float32), init="pca"))
    return embedding_of(given, values)


@contextmanager
def _counted() -> Iterator[None]:
    """A bar of the steps that PaCMAP prints, which it tells in no other way; what else it says is left out."""
    with progress(STEPS, "PaCMAP", unit="step") as advance:

        class Heard(StringIO):
            def write(self, text: str) -> int:
                if text.startswith("Iteration:"):
                    advance(10)
                return len(text)

        with redirect_stdout(Heard()):
            yield
