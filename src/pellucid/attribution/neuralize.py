"""Neuralization: outlier detectors and clusterings as networks, so that they are explained as networks are."""

from __future__ import annotations

from collections import OrderedDict
from math import isfinite, log
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..methods.verb import verb
from ..model.backward.soft_minimum import soft_min, squared_distances


@verb(
    paper=(
        "Kauffmann, Müller & Montavon 2020, Towards explaining anomalies: a deep Taylor decomposition of "
        "one-class models"
    )
)
def neuralize(estimator: Any, *, normalize: bool = False, beta: float | None = None) -> nn.Module:
    """A fitted one-class SVM, kernel density or k-means as an equivalent network.

    The network takes images (or points, N x D), flattens them, and has the layers `distances` and `soft_min`; every
    method explains it as any other: `pellucid.lrp(net, images, 0)`. With u_i the M support vectors (or training
    points) and weights a_i, its output is the outlier score, in squared units of the images:

        o(x) = -1/gamma log sum_i a_i exp(-gamma |x - u_i|^2)

    that is the soft minimum of |x - u_i|^2 - log(a_i) / gamma.

    - OneClassSVM(kernel="rbf"): gamma and a = dual_coef_ are its own, so that score_samples = exp(-gamma o) and
      decision_function = exp(-gamma o) - offset_. Outliers have o > -log(offset_) / gamma.
    - KernelDensity(kernel="gaussian"): gamma = 1 / (2 bandwidth^2), a = sample_weight / its sum, so that
      score_samples = -gamma o - D/2 log(2 pi bandwidth^2).
    - KMeans (also MiniBatchKMeans): one output for each cluster c, the soft minimum over the other clusters k
      of h_k = |x - m_k|^2 - |x - m_c|^2, f_c = -1/beta log sum_k exp(-beta h_k). It is 1/beta times the log-odds of
      cluster c under softmax(-beta |x - m|^2), and the largest of them is what `predict` says.

    Under `pellucid.lrp`, whatever its rules are, the soft minimum hands point i the share R_i = p_i o with
    p = softmax(log a - gamma |x - u|^2), and each distance shares by dimension:
    R_d = sum_i (x_d - u_id)^2 / |x - u_i|^2 R_i, also where a pixel is 0. So the pixels' relevance adds up to o. For
    k-means the difference of two such distances shares by (m_c - m_k)_d (2 x - m_c - m_k)_d / h_k, which is linear
    in x and 0 half-way between the centers. A point with x = u_i exactly (or h_k = 0) has nothing to share its part
    by: that part is lost, and is in the result's gap. `layer="distances"` gives the shares R_i themselves.
    Relevance of a negative score is negative; `normalize` sees to it that an outlier's score is not.

    Kauffmann, Müller & Montavon 2020, Towards explaining anomalies: a deep Taylor decomposition of one-class models;
    Kauffmann, Esders, Ruff, Montavon, Samek & Müller 2022, From clustering to cluster explanations via neural
    networks.

    Args:
        estimator: of scikit-learn, fitted on images.flatten(1).
        normalize: divide the weights of the soft minimum by their sum, which adds log(sum) / gamma to the score. Then
            it is never below the minimum itself: o >= min |x - u_i|^2 >= 0, and the f_c of a point's own cluster is
            >= 0. scikit-learn's dual_coef_ sum to nu N, not to 1 as in the paper, so that without it the o of a
            one-class SVM is often negative. A KernelDensity is normalized already.
        beta: sharpness of k-means' soft minimum, above 0, in inverse squared units of the images. By default
            (1 + log(K - 1)) / d, with d the mean over clusters of the squared distance to the nearest other center:
            for two clusters the paper's 1 / mean f, and for more of them so sharp that f is above 0 at a typical
            center.

    Returns:
        A network in evaluation mode, with buffers in double precision: N x C x H x W or N x D -> N x 1, for k-means
        N x K.

    Raises:
        TypeError: for another estimator.
        ValueError: for one that is not fitted, another kernel or metric, a single cluster, or a beta that is not
            above 0 or is given for another estimator than k-means.

    >>> import pellucid, torch
    >>> from sklearn.svm import OneClassSVM
    >>> images = torch.rand(20, 1, 4, 4, dtype=torch.float64)
    >>> net = pellucid.neuralize(OneClassSVM(gamma=0.5, nu=0.2).fit(images.flatten(1)), normalize=True)
    >>> relevance = pellucid.lrp(net, images[:1] + 1, 0).values
    >>> bool(torch.isclose(relevance.sum(), net(images[:1] + 1)[0, 0]))
    True
    """
    # Here, because whoever has a fitted estimator has paid for the import already.
    from sklearn.cluster import KMeans, MiniBatchKMeans
    from sklearn.exceptions import NotFittedError
    from sklearn.neighbors import KernelDensity
    from sklearn.svm import OneClassSVM
    from sklearn.utils.validation import check_is_fitted

    name = type(estimator).__name__
    clusters = isinstance(estimator, (KMeans, MiniBatchKMeans))
    if not clusters and not isinstance(estimator, (OneClassSVM, KernelDensity)):
        raise TypeError(
            f"neuralize got {'the class ' + estimator.__name__ if isinstance(estimator, type) else 'a ' + name}, "
            "expected a fitted OneClassSVM, KernelDensity or KMeans of scikit-learn"
        )
    try:
        check_is_fitted(estimator)
    except NotFittedError:
        raise ValueError(f"the {name} is not fitted: call .fit(images.flatten(1)) first") from None
    if beta is not None and not clusters:
        raise ValueError(f"beta is for KMeans; the sharpness of a {name} is that of its kernel")
    if clusters:
        return _kmeans(estimator, normalize, beta)
    return _one_class_svm(estimator, normalize) if isinstance(estimator, OneClassSVM) else _kernel_density(estimator)


def _one_class_svm(estimator: Any, normalize: bool) -> nn.Module:
    if estimator.kernel != "rbf":
        raise ValueError(f"the OneClassSVM has the kernel {estimator.kernel!r}, expected 'rbf'")
    weights = _dense(estimator.dual_coef_)[0]
    weights = weights / weights.sum() if normalize else weights
    # gamma itself may be "scale"; the number that it became has no public name.
    return _outlierness(_dense(estimator.support_vectors_), weights, float(estimator._gamma))


def _kernel_density(estimator: Any) -> nn.Module:
    if estimator.kernel != "gaussian" or estimator.metric != "euclidean":
        raise ValueError(
            f"the KernelDensity has the kernel {estimator.kernel!r} and the metric {estimator.metric!r}, expected "
            "'gaussian' and 'euclidean'"
        )
    points, weights = np.asarray(estimator.tree_.data), estimator.tree_.sample_weight
    weights = np.ones(len(points)) if weights is None else np.asarray(weights)
    return _outlierness(points, weights / weights.sum(), 1 / (2 * float(estimator.bandwidth_) ** 2))


def _kmeans(estimator: Any, normalize: bool, beta: float | None) -> nn.Module:
    centers = torch.from_numpy(_dense(estimator.cluster_centers_))
    count = len(centers)
    if count < 2:
        raise ValueError("the KMeans has one cluster: there is no other to hold against it")
    if beta is None:
        # At the mean of a cluster's points, which its center is, h_k is |m_k - m_c|^2, and h is linear.
        between = squared_distances(centers, centers).fill_diagonal_(torch.inf).amin(1).mean().item()
        if between == 0:
            raise ValueError("all centers of the KMeans coincide: nothing sets a point apart from another cluster")
        beta = (1 + log(count - 1)) / between
    if not (beta > 0 and isfinite(beta)):
        raise ValueError(f"beta is {beta}, expected a number above 0")
    logs = torch.full((count - 1,), -log(count - 1), dtype=centers.dtype) if normalize else None
    return _network(distances=_Distances(centers), rivals=_Rivals(count), soft_min=_SoftMin(beta, logs))


def _outlierness(points: Any, weights: Any, gamma: float) -> nn.Module:
    counts = weights > 0  # a point without weight is at an infinite distance
    centers, logs = torch.from_numpy(_dense(points[counts])), torch.from_numpy(np.log(weights[counts]))
    return _network(distances=_Distances(centers), soft_min=_SoftMin(gamma, logs))


def _network(**layers: nn.Module) -> nn.Module:
    return nn.Sequential(OrderedDict(flatten=nn.Flatten(), **layers)).eval()


def _dense(values: Any) -> Any:
    """A matrix of an estimator as a numpy array of its own; fitted on a sparse matrix, it holds sparse ones."""
    return np.array(values.toarray() if hasattr(values, "toarray") else values, dtype=np.float64)


class _Distances(nn.Module):
    """Squared distances to fixed points: N x D -> N x M."""

    centers: Tensor

    def __init__(self, centers: Tensor) -> None:
        super().__init__()
        self.register_buffer("centers", centers)

    def forward(self, x: Tensor) -> Tensor:
        return squared_distances(x.to(self.centers.dtype), self.centers)

    def extra_repr(self) -> str:
        return f"{self.centers.shape[1]} dimensions, {self.centers.shape[0]} points"


class _Rivals(nn.Module):
    """How much farther each other center is than each: N x K -> N x K x (K - 1)."""

    others: Tensor

    def __init__(self, count: int) -> None:
        super().__init__()
        all_but_one = [[k for k in range(count) if k != c] for c in range(count)]
        self.register_buffer("others", torch.tensor(all_but_one))

    def forward(self, distances: Tensor) -> Tensor:
        others = distances[:, self.others]
        # Not a minus sign: that is a sum, whose rule takes a little of the relevance.
        return torch.stack([distances[:, :, None].expand_as(others), others]).diff(dim=0)[0]


class _SoftMin(nn.Module):
    """The soft minimum over the last axis, as columns: N x M -> N x 1, N x K x M -> N x K."""

    log_weights: Tensor | None

    def __init__(self, gamma: float, log_weights: Tensor | None = None) -> None:
        super().__init__()
        self.gamma = gamma
        self.register_buffer("log_weights", log_weights)

    def forward(self, h: Tensor) -> Tensor:
        out = soft_min(h, self.gamma, self.log_weights)
        return out[:, None] if h.ndim == 2 else out

    def extra_repr(self) -> str:
        return f"sharpness {self.gamma:g}"
