"""t-SNE: a map on which neighbors stay together."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..model.batches import announced, progress
from .projections.decorator import projection
from .projections.embedding import Embedding, embedding_of
from .projections.points import Array, Points

EARLY, LATE, USUAL = 250, 500, 30.0
EVERY = 10  # steps between looks at the bar


def fitting_perplexity(perplexity: float, count: int) -> float:
    """The perplexity, as far as there are points for the default."""
    most = (count - 1) / 3
    if count < 5:
        raise ValueError(f"there are {count} points: t-SNE needs 5 or more for neighbors to mean anything")
    if perplexity == USUAL:
        return min(USUAL, most)
    if not 1 < perplexity <= most:
        raise ValueError(
            f"perplexity is {perplexity:g}, and there are {count} points: expected above 1 and at most {most:.3g}, a "
            "third of the others"
        )
    return perplexity


@projection(
    paper="van der Maaten & Hinton 2008, Visualizing Data using t-SNE", fitted={"perplexity": fitting_perplexity}
)
def tsne(
    given: Points, dimensions: int = 2, *, perplexity: float = USUAL, steps: int = LATE, seed: int = 0
) -> Embedding:
    """A map on which neighbors stay together.

    Minimizes KL(P || Q) = sum_ij p_ij log(p_ij / q_ij), with p_ij Gaussian in the points' distances, each with a width
    that gives its neighbors the perplexity, and q_ij = (1 + |y_i - y_j|^2)^-1 / sum_kl (1 + |y_k - y_l|^2)^-1.
    It begins with the principal components, exaggerates P twelvefold for 250 steps, and is made by openTSNE, by
    interpolation (FIt-SNE) for many points. Distances between clusters, and their sizes, mean little.

    Args:
        features: `Features` of one layer, or N x D numbers.
        dimensions: 1 or 2.
        perplexity: about how many neighbors count, above 1 and at most (N - 1) / 3; the default of 30 becomes that
            where there are fewer than 91 points.
        steps: of the descent after the exaggeration.
        seed: of the search for neighbors; the same seed gives the same map.
        labels: N classes; those of the features by default. names: N texts. images: N x C x H x W, for thumbnails.

    Returns:
        An `Embedding`; `place` finds places of others among these, which stay where they are.

    Raises:
        TypeError, ValueError: for what holds no points, NaN, points that are all the same, or a perplexity that there
            are too few points for.

    Ctrl-C during the descent ends it: what is returned is the map so far, and `interrupted` says how far it went.

    Paper:
        van der Maaten & Hinton 2008, Visualizing Data using t-SNE; Poličar, Stražar & Zupan 2024, openTSNE.

    >>> import torch
    >>> points = torch.cat([torch.randn(20, 5), torch.randn(20, 5) + 20])
    >>> found = tsne(points, perplexity=5)
    >>> bool((found.values[:20].mean(0) - found.values[20:].mean(0)).norm() > 5)
    True
    """
    count = len(given.values)
    if dimensions > 2:
        raise ValueError(f"t-SNE makes maps of 1 or 2 dimensions, asked for {dimensions}: use pca, umap or deep_mds")
    if steps < 1:
        raise ValueError(f"steps is {steps}, expected 1 or more")
    import openTSNE

    values = given.values.astype(np.float64)
    made, interrupted = 0, ""

    def tick(*_: Any) -> None:
        nonlocal made
        made += EVERY
        advance(EVERY)

    maker = openTSNE.TSNE(
        n_components=dimensions, perplexity=perplexity, early_exaggeration_iter=EARLY, n_iter=steps,
        initialization="pca", random_state=seed, n_jobs=1, neighbors="exact" if count <= 5000 else "auto",
    )  # fmt: skip
    with announced(f"t-SNE looks for the neighbors of {count} points; a bar follows"):
        fitted = maker.prepare_initial(values)
    # What `maker.fit` does, in its two parts: so a map is there whenever it is stopped.
    parts = (
        (EARLY, maker.early_exaggeration, maker.initial_momentum),
        (steps, maker.exaggeration, maker.final_momentum),
    )
    with progress(EARLY + steps, "t-SNE", unit="step") as advance:
        try:
            for number, exaggeration, momentum in parts:
                fitted.optimize(
                    number, exaggeration=exaggeration, momentum=momentum, inplace=True,
                    callbacks=tick, callbacks_every_iters=EVERY,
                )  # fmt: skip
        except KeyboardInterrupt:
            interrupted = f"after {made} of {EARLY + steps} steps"

    found = np.array(fitted)
    center = (found.max(0) + found.min(0)) / 2  # to which `transform` moves its own map

    def place(others: Array) -> Array:
        if others.shape[1] != values.shape[1]:
            raise ValueError(f"got points of {others.shape[1]} numbers, this embedding is of {values.shape[1]}")
        among = min(5.0, (count - 1) / 3)
        with announced(f"t-SNE places {len(others)} points"):
            placed: Array = np.asarray(fitted.transform(others.astype(np.float64), perplexity=among)) + center
        return placed

    return embedding_of(given, found, mapping=place, interrupted=interrupted)
