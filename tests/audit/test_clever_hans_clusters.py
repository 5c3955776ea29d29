"""Clusters of maps made by hand: what was planted is found, and nothing else raises an alarm."""

import numpy as np
import pytest
import scipy.sparse

from pellucid.audit.relevance_clusters.clusters import (
    NARROWEST,
    THRESHOLD,
    Found,
    Group,
    _axes,
    _cross_validated,
    find_clusters,
    outlier_scores,
    separation,
    spectrum,
    unit_maps,
)


def random_maps(count=120, seed=0, size=8):
    return np.random.default_rng(seed).normal(size=(count, size, size))


def planted(seed=0, strength=6.0):
    """Maps of noise; the first nine are hot in one corner, the next nine in another."""
    maps = random_maps(seed=seed)
    maps[:9, :2, :2] += strength
    maps[9:18, -2:, -3:] += strength
    return maps


def test_two_planted_clusters_are_found():
    found = find_clusters(planted())
    best = [sorted(group.members) for group in found.groups[:2]]
    assert sorted(best) == [list(range(9)), list(range(9, 18))]
    scores = outlier_scores([found])[0]
    assert min(scores[:2]) > THRESHOLD > max(scores[2:])
    assert found.groups[0].score > 3


@pytest.mark.parametrize("seed", range(6))
def test_random_maps_raise_no_alarm(seed):
    found = find_clusters(random_maps(seed=seed))
    assert max(outlier_scores([found])[0], default=0) < THRESHOLD


@pytest.mark.parametrize("kind", ["slope", "heavy", "correlated"])
def test_variation_without_clusters_raises_no_alarm(kind):
    random = np.random.default_rng(3)
    maps = random.normal(size=(150, 8, 8))
    if kind == "slope":  # a continuum along a curve
        angle = random.uniform(0, np.pi / 2, 150)[:, None, None]
        first, second = random.normal(size=(2, 8, 8))
        maps = maps + 4 * (np.cos(angle) * first + np.sin(angle) * second)
    elif kind == "heavy":
        maps = random.standard_t(3, size=(150, 8, 8))
    else:
        maps = maps + 3 * random.normal(size=(150, 3)).dot(random.normal(size=(3, 64))).reshape(150, 8, 8)
    assert max(outlier_scores([find_clusters(maps)])[0], default=0) < THRESHOLD


def test_a_quiet_class_stays_quiet_beside_a_marked_one():
    found = [find_clusters(planted()), *(find_clusters(random_maps(seed=seed)) for seed in (5, 6))]
    first, *others = outlier_scores(found)
    assert min(first[:2]) > THRESHOLD and max(max(other) for other in others) < THRESHOLD


def test_separation_is_that_of_a_regression_fitted_to_all_others():
    from sklearn.linear_model import Ridge

    random = np.random.default_rng(0)
    for count, places in ((30, 7), (12, 20)):  # more maps than places, and fewer
        points = random.normal(size=(count, places))
        inside = np.arange(count) < 5
        points[inside, 0] += 2
        left_out = np.array([
            Ridge(alpha=1.0).fit(np.delete(points, i, 0), np.delete(inside, i)).predict(points[i : i + 1])[0]
            for i in range(count)
        ])  # fmt: skip
        np.testing.assert_allclose(_cross_validated(_axes(points), inside), left_out, atol=1e-12)
        mine, others = left_out[inside], left_out[~inside]
        expected = (np.quantile(mine, 0.25) - np.quantile(others, 0.95)) / others.std()
        assert separation(points, inside) == pytest.approx(expected)
    assert separation(np.zeros((4, 2)), inside[:4] & [True, True, False, False]) == 0


def test_outlier_scores_by_hand():
    def of(scores, chance):
        groups = tuple(Group(np.arange(5), score) for score in scores)
        return Found(groups, np.array(chance), np.empty((0, 0)), np.empty(0), 1, 0)

    one, two = outlier_scores([of([9.0, 1.0, 2.0], [0.0, 2.0]), of([3.0, 5.0], [-1.0])])
    # 9 beside 1, 2, 3, 5: medians 1.5 of its class, 2.5 of all others, 1 of clouds; 90 % quantiles 4.4 and 1.8.
    assert one[0] == pytest.approx((9 - 2.5) / ((4.4 - 2.5) / 1.2816))
    # 5 beside 3 of its class, and 1, 2, 3, 9 of all, with a 90 % quantile of 7.2; the only cloud has no spread.
    assert two[1] == pytest.approx((5 - 3) / ((7.2 - 2.5) / 1.2816))
    assert outlier_scores([of([4.0], [])]) == [[pytest.approx(4 / NARROWEST)]] and outlier_scores([]) == []


def test_the_end_of_a_continuum_has_no_gap():
    along = np.sort(np.random.default_rng(0).normal(size=400))
    points = along[:, None] * np.array([[0.6, 0.8]])
    tail = np.arange(400) >= 380
    assert abs(separation(points, tail)) < 1
    points[tail] += 2 * np.array([0.6, 0.8])
    assert separation(points, tail) > 2


def test_unit_maps_by_hand():
    maps = np.array([[[1.0, 1.0]], [[1.0, 3.0]], [[-3.0, 1.0]]])
    shares = np.array([[0.5, 0.5], [0.25, 0.75], [-0.75, 0.25]])
    middle = np.array([0.25, 0.5])
    spread = np.array([(0.25 + 0 + 1) / 3, (0 + 0.25 + 0.25) / 3])
    scaled = (shares - middle) / (spread + 0.25 * spread.mean())
    expected = scaled / np.linalg.norm(scaled, axis=1, keepdims=True)
    np.testing.assert_allclose(unit_maps(maps), expected)
    np.testing.assert_allclose(unit_maps(1000 * maps), expected)
    assert np.isfinite(unit_maps(np.zeros((3, 2, 2)))).all()


def test_the_spectrum_is_that_of_the_normalized_laplacian():
    graph = np.array([[0, 1, 0, 0], [1, 0, 1, 0], [0, 1, 0, 1], [0, 0, 1, 0]], float)
    values, vectors = spectrum(scipy.sparse.csr_array(graph), 3)
    degree = np.diag(graph.sum(1) ** -0.5)
    np.testing.assert_allclose(values, np.linalg.eigvalsh(np.eye(4) - degree @ graph @ degree), atol=1e-12)
    np.testing.assert_allclose(values, [0, 0.5, 1.5, 2], atol=1e-12)  # of a path of four
    assert vectors.shape == (4, 3)


def test_the_spectrum_of_a_large_graph_is_the_same():
    from sklearn.datasets import make_blobs
    from sklearn.neighbors import kneighbors_graph

    points, _ = make_blobs(1600, 4, centers=3, cluster_std=4.0, random_state=0)
    graph = kneighbors_graph(points, 8)
    graph = graph.maximum(graph.T)
    large, vectors = spectrum(graph, 4)
    scale = scipy.sparse.diags(np.asarray(graph.sum(1)).ravel() ** -0.5)
    residual = vectors - scale @ graph @ scale @ vectors - vectors * large[:4]
    assert np.abs(residual).max() < 1e-4 and large[0] == pytest.approx(0, abs=1e-6)
    assert (np.diff(large) >= -1e-9).all()


def test_the_gap_counts_groups_that_hardly_touch():
    random = np.random.default_rng(0)
    maps = np.zeros((90, 6, 6))
    for place, (row, column) in enumerate(((0, 0), (0, 4), (4, 2))):
        maps[30 * place : 30 * place + 30, row : row + 2, column : column + 2] = 1
    found = find_clusters(maps + 0.05 * random.normal(size=maps.shape))
    assert found.gap == 3 and found.eigenvalues[0] == pytest.approx(0, abs=1e-9)


def test_copies_count_once():
    maps = random_maps(60)
    maps = np.concatenate([maps, np.repeat(maps[:1], 9, 0)])  # would be the tightest of clusters
    found = find_clusters(maps)
    assert found.copies == 9
    assert max(outlier_scores([found])[0], default=0) < THRESHOLD
    for group in found.groups:
        copies = {0, *range(60, 69)}
        assert copies <= {*group.members} or not copies & {*group.members}


def test_same_seed_same_clusters_and_no_trace_in_the_random_state():
    before = np.random.get_state()[1].copy()
    one, two = find_clusters(planted(seed=4)), find_clusters(planted(seed=4))
    assert [g.score for g in one.groups] == [g.score for g in two.groups]
    assert (np.random.get_state()[1] == before).all()


@pytest.mark.parametrize(
    ("count", "options", "said"),
    [
        (9, {}, "there are 9 different maps: clusters of at least 5 need 10 or more"),
        (40, {"neighbors": 40}, "neighbors is 40, expected 1 to 39"),
        (40, {"resolutions": (50,)}, "clusters is 50, expected fewer than the 40 different maps"),
    ],
)
def test_refused(count, options, said):
    with pytest.raises(ValueError, match=said):
        find_clusters(random_maps(count), **options)
