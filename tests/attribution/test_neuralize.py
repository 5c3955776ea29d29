"""Neuralized estimators compute what scikit-learn's do, and their relevance is what was worked out on paper."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise
from math import exp, log, pi
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import KernelDensity
from sklearn.svm import OneClassSVM
from torch import nn

import pellucid
from pellucid.attribution.lrp import PRESETS
from pellucid.model.backward import soft_minimum
from pellucid.model.backward.soft_minimum import by_dimension, soft_min, squared_distances
from pellucid.model.run import ModelError


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def one_class(points, alphas, gamma):
    """A one-class SVM with these support vectors."""
    estimator = OneClassSVM()
    estimator.support_vectors_, estimator.dual_coef_ = np.array(points), np.array([alphas])
    estimator._gamma = gamma
    return estimator


def k_means(centers):
    estimator = KMeans(len(centers))
    estimator.cluster_centers_ = np.array(centers)
    return estimator


def as_images(points):
    return points[:, None, None, :]


def relevance(net, points, objective=0, **options):
    return pellucid.lrp(net, as_images(points), objective, **options).values.flatten(1)


POINTS = normal(40, 6)
PLACES = normal(5, 6, seed=1) * 2
ESTIMATORS = {
    "svm": lambda: OneClassSVM(gamma=0.3, nu=0.4).fit(POINTS),
    "density": lambda: KernelDensity(bandwidth=0.8).fit(POINTS),
    "k-means": lambda: KMeans(4, n_init=1, random_state=0).fit(POINTS),
}
every = pytest.mark.parametrize("make", ESTIMATORS.values(), ids=ESTIMATORS)


# --- what it computes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("alphas", "gamma", "expected"), [((1.0, 1.0), 1.0, 0.1230719890), ((0.25, 0.75), 2.0, 0.9164019558)]
)
def test_outlierness_by_hand(alphas, gamma, expected):
    net = pellucid.neuralize(one_class([[0.0], [2.0]], alphas, gamma))
    assert net.distances(tensor([[0.5]])).tolist() == [[0.25, 2.25]]
    assert net(tensor([[0.5]])).item() == pytest.approx(expected, abs=1e-10)
    assert net(tensor([[0.5]])).shape == (1, 1)


def test_a_kernel_density_by_hand():
    """bandwidth 0.5 is gamma = 2, and weights 1 and 3 are 0.25 and 0.75."""
    estimator = KernelDensity(bandwidth=0.5).fit([[0.0], [2.0]], sample_weight=[1.0, 3.0])
    assert pellucid.neuralize(estimator)(tensor([[0.5]])).item() == pytest.approx(0.9164019558, abs=1e-10)


@pytest.mark.parametrize("weights", [None, np.linspace(0.1, 2, 40)], ids=["even", "weighted"])
@pytest.mark.parametrize("gamma", ["scale", "auto", 0.7])
def test_scores_of_the_one_class_svm(gamma, weights):
    estimator = OneClassSVM(gamma=gamma, nu=0.3).fit(POINTS, sample_weight=weights)
    net = pellucid.neuralize(estimator)
    o, sharpness = net(PLACES)[:, 0].numpy(), net.soft_min.gamma
    np.testing.assert_allclose(np.exp(-sharpness * o), estimator.score_samples(PLACES), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(
        np.exp(-sharpness * o) - estimator.offset_, estimator.decision_function(PLACES), atol=1e-9
    )
    outlying = o > -np.log(estimator.offset_) / sharpness
    assert (outlying == (estimator.predict(PLACES) == -1)).all()


@pytest.mark.parametrize("weights", [None, np.linspace(0.1, 2, 40)], ids=["even", "weighted"])
@pytest.mark.parametrize("bandwidth", ["scott", 0.5])
@pytest.mark.parametrize("algorithm", ["kd_tree", "ball_tree"])
def test_scores_of_the_kernel_density(algorithm, bandwidth, weights):
    estimator = KernelDensity(bandwidth=bandwidth, algorithm=algorithm, leaf_size=3).fit(POINTS, sample_weight=weights)
    net, places = pellucid.neuralize(estimator), PLACES / 4  # farther out, the tree's own sums lose digits
    constant = 6 / 2 * log(2 * pi * estimator.bandwidth_**2)
    found = -net.soft_min.gamma * net(places)[:, 0].numpy() - constant
    np.testing.assert_allclose(found, estimator.score_samples(places), rtol=1e-9)


@pytest.mark.parametrize("kind", [KMeans, MiniBatchKMeans])
def test_clusters_are_those_of_k_means(kind):
    estimator = kind(5, n_init=1, random_state=0).fit(POINTS)
    f = pellucid.neuralize(estimator, beta=0.7)(PLACES)
    assert f.shape == (5, 5)
    assert (f.argmax(1).numpy() == estimator.predict(PLACES)).all()
    far = -0.7 * squared_distances(PLACES, tensor(estimator.cluster_centers_))
    torch.testing.assert_close(f, torch.logit(far.softmax(1)) / 0.7)


def test_normalized_no_score_is_below_the_minimum():
    estimator = OneClassSVM(gamma=0.3, nu=0.4).fit(POINTS)
    plain, mean = (pellucid.neuralize(estimator, normalize=given) for given in (False, True))
    torch.testing.assert_close(mean(PLACES), plain(PLACES) + log(0.4 * 40) / 0.3)  # dual_coef_ sum to nu N
    assert (mean(POINTS)[:, 0] >= mean.distances(POINTS).amin(1)).all()
    density = KernelDensity(bandwidth=0.8).fit(POINTS)
    assert torch.equal(pellucid.neuralize(density, normalize=True)(PLACES), pellucid.neuralize(density)(PLACES))
    clusters = ESTIMATORS["k-means"]()
    plain, mean = (pellucid.neuralize(clusters, normalize=given, beta=0.2) for given in (False, True))
    torch.testing.assert_close(mean(PLACES), plain(PLACES) + log(3) / 0.2)
    assert (mean(POINTS).amax(1) >= 0).all() and not (plain(POINTS).amax(1) >= 0).all()
    assert pellucid.lrp(mean, as_images(PLACES), None).convergence_delta.abs().max() < 1e-9


def test_the_sharpness_of_k_means():
    """Squared distances to the nearest other center are 4, 4, 16: d = 8."""
    centers = [[0.0, 0.0], [2.0, 0.0], [0.0, 4.0]]
    assert pellucid.neuralize(k_means(centers)).soft_min.gamma == pytest.approx((1 + log(2)) / 8)
    assert pellucid.neuralize(k_means(centers[:2])).soft_min.gamma == pytest.approx(1 / 4)


@given(
    st.lists(st.floats(0, 100), min_size=1, max_size=8),
    st.floats(1e-2, 1e4),
)
def test_bounds_of_the_soft_minimum(values, gamma):
    h = tensor(values)
    found, least, room = soft_min(h, gamma).item(), h.min().item(), log(len(h)) / gamma
    assert least - room - 1e-9 <= found <= least + 1e-9


@given(st.lists(st.floats(0, 9), min_size=2, max_size=5))
@settings(max_examples=30)
def test_the_sharper_the_nearer_to_the_minimum(values):
    gaps = [min(values) - soft_min(tensor(values), gamma).item() for gamma in (1, 10, 100, 1e6)]
    assert all(next <= gap + 1e-9 for gap, next in pairwise(gaps))
    assert abs(gaps[-1]) < 1e-5


def direct(x, points, alphas, gamma):
    return -(alphas * torch.exp(-gamma * (x[:, None] - points).square().sum(-1))).sum(1).log() / gamma


@given(st.integers(0, 99), st.floats(0.1, 2))
@settings(max_examples=20)
def test_value_and_gradient_are_those_of_the_formula(seed, gamma):
    points, alphas = normal(7, 3, seed=seed), normal(7, seed=seed + 1).abs() + 0.1
    net = pellucid.neuralize(one_class(points, alphas.numpy(), gamma))
    x = normal(4, 3, seed=seed + 2).requires_grad_()
    expected = direct(x, points, alphas, gamma)
    torch.testing.assert_close(net(x)[:, 0], expected, rtol=1e-9, atol=1e-9)
    (slope,) = torch.autograd.grad(expected.sum(), x)
    found = pellucid.saliency(net, as_images(x.detach()), 0, sign="keep", channels="all").values
    torch.testing.assert_close(found.flatten(1), slope, rtol=1e-9, atol=1e-9)


def test_gradients_of_distances():
    points = normal(3, 4)
    assert torch.autograd.gradcheck(lambda x: squared_distances(x, points), normal(2, 4, seed=1).requires_grad_())
    at = points[:1].clone().requires_grad_()
    (slope,) = torch.autograd.grad(squared_distances(at, points)[0, 0], at)
    assert slope.abs().max() < 1e-12  # where the distance itself has no derivative


def test_far_from_zero_no_digits_are_lost():
    x = torch.full((1, 5000), 1e6, dtype=torch.float64)
    assert squared_distances(x, x + 1e-3).item() == pytest.approx(5000 * 1e-6, rel=1e-6)


def test_stable_where_every_exponential_is_zero():
    points = normal(9, 3072)
    net = pellucid.neuralize(one_class(points, np.full(9, 0.1), 1e4))
    x = points[:2] + 1
    found = net(x)[:, 0]
    torch.testing.assert_close(found, squared_distances(x, points).amin(1) - log(0.1) / 1e4)
    shares = relevance(net, x)
    torch.testing.assert_close(shares.sum(1), found, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(shares, (found / 3072)[:, None].expand_as(shares))


def test_cut_in_pieces_it_is_the_same(monkeypatch):
    g = normal(5, 40, seed=3)
    whole = by_dimension(PLACES, POINTS, g)
    torch.testing.assert_close(whole, torch.einsum("nm,nmd->nd", g, (PLACES[:, None] - POINTS) ** 2))
    monkeypatch.setattr(soft_minimum, "ELEMENTS", 7 * PLACES.numel())
    torch.testing.assert_close(by_dimension(PLACES, POINTS, g), whole)


# --- how it is explained --------------------------------------------------------------------------------


def test_relevance_by_hand():
    """x = (0, 1), u = (0, 0) and (2, 0): squared distances 1 and 1 + 4, o = 1 - log(1 + exp(-4))."""
    net = pellucid.neuralize(one_class([[0.0, 0.0], [2.0, 0.0]], [1.0, 1.0], 1.0))
    o, near = 1 - log(1 + exp(-4)), 1 / (1 + exp(-4))
    expected = [(1 - near) * o * 4 / 5, near * o + (1 - near) * o / 5]  # also the pixel that is 0 has its share
    assert relevance(net, tensor([[0.0, 1.0]])).flatten().tolist() == pytest.approx(expected, abs=1e-12)
    assert relevance(net, tensor([[0.0, 1.0]]), layer="distances").flatten().tolist() == pytest.approx(
        [near * o, (1 - near) * o], abs=1e-12
    )


def test_weights_count_as_nearness_and_take_no_relevance():
    """x between u = 0 and u = 2: only the weights tell the two apart."""
    net = pellucid.neuralize(one_class([[0.0, 0.0], [2.0, 0.0]], [0.2, 0.6], 3.0))
    o = 2 - log(0.8) / 3
    shares = relevance(net, tensor([[1.0, 1.0]]), layer="distances").flatten().tolist()
    assert shares == pytest.approx([o / 4, 3 * o / 4], abs=1e-12)
    assert relevance(net, tensor([[1.0, 1.0]])).flatten().tolist() == pytest.approx([o / 2, o / 2], abs=1e-12)


def test_relevance_for_a_cluster_by_hand():
    """x = (0.5, 1): h = (2, 8), the first of them along x alone, the second along y alone."""
    net = pellucid.neuralize(k_means([[0.0, 0.0], [2.0, 0.0], [0.0, 4.0]]), beta=0.5)
    f, p = -2 * log(exp(-1) + exp(-4)), 1 / (1 + exp(-3))
    assert relevance(net, tensor([[0.5, 1.0]]), None).flatten().tolist() == pytest.approx([p * f, (1 - p) * f])


def test_clusters_share_by_the_midpoints():
    estimator = ESTIMATORS["k-means"]()
    net = pellucid.neuralize(estimator)
    centers, own = tensor(estimator.cluster_centers_), 2
    rivals = [k for k in range(4) if k != own]
    w, middle = 2 * (centers[own] - centers[rivals]), (centers[own] + centers[rivals]) / 2
    z = w * (PLACES[:, None] - middle)
    h = z.sum(-1)
    shares = (-net.soft_min.gamma * h).softmax(1) * net(PLACES)[:, [own]]
    torch.testing.assert_close(relevance(net, PLACES, own), (z * (shares / h)[..., None]).sum(1), rtol=1e-9, atol=1e-9)


@every
@pytest.mark.parametrize(
    "rules", [{}, *sorted(PRESETS.keys() - {"GAMMA_SCHEDULE_VGG16"})], ids=lambda r: str(r) if r else "none"
)
def test_relevance_adds_up_under_any_rules(make, rules):
    net = pellucid.neuralize(make())
    images = as_images(PLACES.sigmoid())
    images[0, 0, 0, :3] = 0
    result = pellucid.lrp(net, images, None, rules=rules)
    assert result.convergence_delta.abs().max() < 1e-9
    torch.testing.assert_close(result.values.flatten(1).sum(1), net(images).amax(1), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(result.values, pellucid.lrp(net, images, None).values)


@every
def test_images_are_points(make):
    net, images = pellucid.neuralize(make()), PLACES.view(5, 3, 2, 1)
    assert not net.training and not list(net.parameters())
    assert torch.equal(net(images), net(PLACES))
    found = pellucid.lrp(net, images, 0).values
    torch.testing.assert_close(found.flatten(1), relevance(net, PLACES))
    for row in range(5):
        torch.testing.assert_close(found[row : row + 1], pellucid.lrp(net, images[row : row + 1], 0).values)


@every
def test_single_precision(make):
    net = pellucid.neuralize(make())
    expected, value = relevance(net, PLACES), net(PLACES)
    assert torch.equal(net(PLACES.float()), net(PLACES.float().double()))
    net.float()
    assert net(PLACES.float()).dtype == torch.float32
    torch.testing.assert_close(net(PLACES.float()).double(), value, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(relevance(net, PLACES.float()).double(), expected, rtol=1e-3, atol=1e-4)


def test_other_objectives():
    net = pellucid.neuralize(ESTIMATORS["svm"]())
    plain = relevance(net, PLACES)
    torch.testing.assert_close(relevance(net, PLACES, -pellucid.logit(0)), -plain)
    torch.testing.assert_close(relevance(net, PLACES, 3 * pellucid.logit(0)), 3 * plain)
    clusters = pellucid.neuralize(ESTIMATORS["k-means"]())
    difference = relevance(clusters, PLACES, pellucid.contrast(1, 3))
    torch.testing.assert_close(difference, relevance(clusters, PLACES, 1) - relevance(clusters, PLACES, 3))


def test_a_point_on_a_support_vector_loses_its_part():
    net = pellucid.neuralize(one_class([[0.0, 0.0], [2.0, 0.0]], [1.0, 1.0], 1.0))
    result = pellucid.lrp(net, as_images(tensor([[0.0, 0.0]])), 0)
    o, far = -log(1 + exp(-4)), exp(-4) / (1 + exp(-4))
    assert result.values.flatten().tolist() == pytest.approx([far * o, 0], abs=1e-12)
    assert result.convergence_delta.item() == pytest.approx(far * o - o, abs=1e-12)


class Normalized(nn.Module):
    """A network that normalizes by itself."""

    def __init__(self, net):
        super().__init__()
        self.net = net
        self.eval()

    def forward(self, x):
        return self.net((x - 0.5) / 0.25)


def test_behind_a_normalization_mean_pixels_have_their_share():
    net = pellucid.neuralize(ESTIMATORS["svm"]())
    images = as_images(PLACES.sigmoid())
    images[:, :, :, 2] = 0.5
    expected = pellucid.lrp(net, (images - 0.5) / 0.25, 0).values
    assert expected[..., 2].abs().min() > 0
    torch.testing.assert_close(pellucid.lrp(Normalized(net), images, 0).values, expected)
    wrapped = pellucid.wrap(net, mean=0.5, std=0.25, channels=1, labels=["outlier"])
    torch.testing.assert_close(pellucid.lrp(wrapped, images, "outlier").values, expected)


@pytest.mark.parametrize("rules", [{}, "LRP_ZERO"])
def test_behind_a_network_features_hand_it_on(rules):
    head = pellucid.neuralize(ESTIMATORS["svm"]())
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(1, 2, 2, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(8, 6, bias=False))
    net = nn.Sequential(body.double(), head).eval()
    images = normal(4, 1, 3, 3, seed=5)
    result = pellucid.lrp(net, images, 0, rules=rules)
    assert result.convergence_delta.abs().max() < 1e-9
    features = body(images).detach()  # LRP-0 behind the head's own relevance is that of gradient x input
    slopes = relevance(head, features) / features
    x = images.clone().requires_grad_()
    (back,) = torch.autograd.grad((body(x) * slopes).sum(), x)
    torch.testing.assert_close(result.values, images * back)


@pytest.mark.parametrize("make", [ESTIMATORS["svm"], ESTIMATORS["k-means"]], ids=["svm", "k-means"])
def test_methods_of_gradients_take_the_gradient(make):
    net = nn.Sequential(nn.ReLU(), pellucid.neuralize(make())).eval()
    images = as_images(PLACES.exp()).requires_grad_()
    (slope,) = torch.autograd.grad(net(images)[:, 0].sum(), images)
    images = images.detach()
    torch.testing.assert_close(pellucid.guided_backprop(net, images, 0).values, slope.clamp(min=0))
    torch.testing.assert_close(pellucid.gradient_x_input(net, images, 0, baseline=images * 0).values, slope * images)
    assert pellucid.deeplift(net, images, 0, baseline=images * 0).values.isfinite().all()


# --- errors ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("estimator", "error", "said"),
    [
        (OneClassSVM(), ValueError, "the OneClassSVM is not fitted: call .fit"),
        (KernelDensity(), ValueError, "the KernelDensity is not fitted"),
        (KMeans(), ValueError, "the KMeans is not fitted"),
        (OneClassSVM(kernel="linear").fit(POINTS), ValueError, "kernel 'linear', expected 'rbf'"),
        (KernelDensity(kernel="tophat").fit(POINTS), ValueError, "kernel 'tophat' .* expected 'gaussian'"),
        (KernelDensity(metric="chebyshev").fit(POINTS), ValueError, "metric 'chebyshev', expected .*'euclidean'"),
        (IsolationForest(n_estimators=2).fit(POINTS), TypeError, "got a IsolationForest, expected a fitted OneClass"),
        (OneClassSVM, TypeError, "got the class OneClassSVM"),
        (nn.Flatten(), TypeError, "got a Flatten"),
        (k_means([[0.0, 1.0]]), ValueError, "has one cluster"),
        (k_means([[0.0, 1.0], [0.0, 1.0]]), ValueError, "centers of the KMeans coincide"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_neuralized(estimator, error, said):
    with pytest.raises(error, match=said):
        pellucid.neuralize(estimator)


def test_beta_is_checked():
    for beta in (0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="beta is .*, expected a number above 0"):
            pellucid.neuralize(k_means([[0.0], [1.0]]), beta=beta)
    with pytest.raises(ValueError, match="beta is for KMeans; the sharpness of a OneClassSVM is that of its kernel"):
        pellucid.neuralize(ESTIMATORS["svm"](), beta=1.0)


def test_images_of_another_size_are_refused():
    net = pellucid.neuralize(ESTIMATORS["svm"]())
    with pytest.raises(ValueError, match="points of shape 2 x 4 .* expected N x 6"):
        net(torch.zeros(2, 1, 2, 2))
    with pytest.raises(ModelError, match="expected N x 6"):
        pellucid.lrp(net, torch.zeros(2, 1, 2, 2), 0)


def test_fitted_on_a_sparse_matrix():
    from scipy.sparse import csr_matrix

    dense, sparse = (OneClassSVM(gamma=0.3).fit(x) for x in (POINTS.numpy(), csr_matrix(POINTS.numpy())))
    torch.testing.assert_close(pellucid.neuralize(sparse)(PLACES), pellucid.neuralize(dense)(PLACES))


def test_the_estimator_is_not_touched():
    estimator = ESTIMATORS["k-means"]()
    before = estimator.cluster_centers_.copy()
    net = pellucid.neuralize(estimator)
    net.distances.centers.zero_()
    assert (estimator.cluster_centers_ == before).all()


@pytest.mark.slow
def test_the_example_finds_what_was_spoilt(tmp_path):
    script = Path(__file__).parents[2] / "examples" / "one_class_svm.py"
    said = subprocess.run([sys.executable, script, tmp_path], capture_output=True, text=True, check=True).stdout
    rows = [line for line in said.splitlines() if line.startswith("image")]
    assert ["as it was" in row for row in rows] == [False] * 6 + [True] * 3
    assert (tmp_path / "one_class_svm.png").stat().st_size > 10_000
