"""Principal components: the axes along which points differ most."""

from __future__ import annotations

import numpy as np
import torch

from .projections.decorator import projection
from .projections.embedding import Embedding, embedding_of
from .projections.points import Array, Points


@projection(paper="Hotelling 1933, Analysis of a complex of statistical variables into principal components")
def pca(given: Points, dimensions: int = 2, *, whiten: bool = False, seed: int = 0) -> Embedding:
    """The axes along which points differ most.

    y = V' (x - mean), V the eigenvectors of the covariance with the largest eigenvalues. Of all linear maps to so many
    dimensions it keeps the most variance. Whether the first two keep enough to look at is in `variance`.

    Args:
        features: `Features` of one layer, or N x D numbers.
        dimensions: of the embedding, up to the smaller of N - 1 and D.
        whiten: give each axis the variance 1.
        seed: of the approximation that is used for the first few axes of large tables.
        labels: N classes; those of the features by default. names: N texts. images: N x C x H x W, for thumbnails.

    Returns:
        An `Embedding` with the share of the variance along each axis; `place` puts other points on the same axes.

    Raises:
        TypeError, ValueError: for what holds no points, NaN, points that are all the same, or too many dimensions.

    Paper:
        Hotelling 1933, Analysis of a complex of statistical variables into principal components.

    >>> line = torch.arange(4.0)[:, None] * torch.tensor([[3.0, 4.0]])
    >>> found = pca(line, 1)
    >>> [round(abs(y), 4) for y in found.values[:, 0].tolist()], float(found.variance)
    ([7.5, 2.5, 2.5, 7.5], 1.0)
    """
    from sklearn.decomposition import PCA

    fitted = PCA(dimensions, whiten=whiten, random_state=seed).fit(given.values)

    def place(others: Array) -> Array:
        if others.shape[1] != given.values.shape[1]:
            raise ValueError(f"got points of {others.shape[1]} numbers, this embedding is of {given.values.shape[1]}")
        return np.asarray(fitted.transform(others))

    share = torch.from_numpy(np.asarray(fitted.explained_variance_ratio_, np.float64))
    return embedding_of(given, place(given.values), variance=share, mapping=place)
