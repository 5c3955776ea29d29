"""Estimates of intrinsic dimension: by hand, on shapes of known dimension, and against scikit-dimension."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch

import pellucid
from pellucid.representation.projections.dimension_estimates import graph, mle, twonn
from pellucid.representation.projections.points import distinct, nearest_points


def cube(count, dimension, wide, seed=0):
    """Points of a cube of that many dimensions, turned into a space of more."""
    generator = np.random.default_rng(seed)
    turned = np.linalg.qr(generator.normal(size=(wide, wide)))[0][:, :dimension]
    return generator.random((count, dimension)) @ turned.T


def sphere(count, dimension, wide, seed=0):
    generator = np.random.default_rng(seed)
    points = generator.normal(size=(count, dimension + 1))
    turned = np.linalg.qr(generator.normal(size=(wide, wide)))[0][:, : dimension + 1]
    return points / np.linalg.norm(points, axis=1, keepdims=True) @ turned.T


def test_maximum_likelihood_by_hand():
    distances = np.array([[1.0, 2.0, 4.0], [1.0, 1.0, 2.0]])
    # 1 / m = ((log 4 + log 2) / 2 + (log 2 + log 2) / 2) / 2
    assert mle(distances, 3) == pytest.approx(1 / (5 * math.log(2) / 4))
    assert mle(distances, 2) == pytest.approx(1 / (math.log(2) / 2))


def test_two_nearest_neighbors_by_hand():
    # Ten ratios that lie on the line of 3 dimensions exactly; the largest is left out.
    shares = np.arange(1, 11) / 10
    ratios = np.append((1 - shares[:9]) ** (-1 / 3), 1e6)
    distances = np.stack([np.ones(10), ratios], 1)[[3, 1, 4, 0, 5, 9, 2, 6, 8, 7]]
    assert twonn(distances) == pytest.approx(3)
    # Of the k-th neighbors the ratio to the power of k is distributed alike.
    shifted = np.stack([np.full(10, 0.5), np.ones(10), ratios ** (1 / 2)], 1)
    assert twonn(shifted, 2) == pytest.approx(3)


def test_graph_distances_of_a_circle_and_a_sphere():
    angles = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    distances, neighbors = nearest_points(np.stack([np.cos(angles), np.sin(angles)], 1), 4)
    # Along a circle all distances are as frequent: p(r) is flat, sin(...)^0.
    found, _, share = graph(distances, neighbors, 4, np.random.default_rng(0))
    assert found == pytest.approx(1, abs=0.15) and share == 1
    distances, neighbors = nearest_points(sphere(1500, 2, 3), 8)
    found, error, _ = graph(distances, neighbors, 8, np.random.default_rng(0))
    assert found == pytest.approx(2, abs=0.2) and error < 0.2


@pytest.mark.parametrize("method", ["graph", "mle", "twonn"])
@pytest.mark.parametrize(("shape", "dimension"), [(cube, 2), (cube, 5), (sphere, 3)])
def test_shapes_of_known_dimension(method, shape, dimension):
    found = pellucid.intrinsic_dimension(shape(1000, dimension, 12), method, subsets=0)
    assert found.dimension == pytest.approx(dimension, rel=0.2), found
    assert not found.errors.isfinite().any() and "interval" not in found.table()


@pytest.mark.parametrize("method", ["graph", "mle", "twonn"])
def test_by_the_cosine_lengths_do_not_count(method):
    points = sphere(800, 3, 8)
    lengths = np.random.default_rng(1).uniform(0.2, 5, (800, 1))
    alone, scaled = (
        pellucid.intrinsic_dimension(p, method, metric="cosine", subsets=0) for p in (points, points * lengths)
    )
    torch.testing.assert_close(alone.values, scaled.values, rtol=1e-6, atol=1e-6)
    assert alone.dimension == pytest.approx(3, rel=0.2)
    if method != "graph":  # which takes a ball for less than it is
        assert pellucid.intrinsic_dimension(points * lengths, method, subsets=0).dimension > 3.4  # one more, of lengths
    with pytest.raises(ValueError, match="1 of 800 points are 0 and have no direction"):
        pellucid.intrinsic_dimension(points * (np.arange(800) != 5)[:, None], method, metric="cosine")
    with pytest.raises(ValueError, match="metric is 'l1', expected 'l2' or 'cosine'"):
        pellucid.intrinsic_dimension(points, method, metric="l1")


@pytest.mark.parametrize("seed", range(3))
def test_against_scikit_dimension(seed):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        skdim = pytest.importorskip("skdim")
    points = sphere(500, 4, 10, seed)
    found = pellucid.intrinsic_dimension(points, "mle", (10, 20), subsets=0)
    for k, value in zip((10, 20), found.values.tolist(), strict=True):
        peer = skdim.id.MLE(neighborhood_based=True, unbiased=False).fit(points, n_neighbors=k, comb="mle").dimension_
        assert value == pytest.approx(peer, rel=1e-6)
    found = pellucid.intrinsic_dimension(points, "twonn", (1, 2), subsets=0)
    # Its empirical distribution begins at 0 instead of 1 / N.
    assert float(found.values[0]) == pytest.approx(skdim.id.TwoNN().fit(points).dimension_, rel=0.01)


@pytest.mark.slow
def test_errors_are_about_the_spread_over_other_points():
    made = [pellucid.intrinsic_dimension(cube(300, 3, 6, seed), "mle", (8, 12)) for seed in range(12)]
    spread = torch.stack([one.values for one in made]).std(0)
    told = torch.stack([one.errors for one in made]).mean(0)
    assert bool(((told / spread > 0.5) & (told / spread < 2)).all()), (spread, told)
    low, high = made[0].intervals.T
    torch.testing.assert_close((low + high) / 2, made[0].values)
    torch.testing.assert_close(high - low, 2 * 1.959964 * made[0].errors, rtol=1e-5, atol=1e-6)


def test_alike_each_time_and_the_random_state_stays():
    points = cube(200, 3, 5)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    first, second = (pellucid.intrinsic_dimension(points, "graph", (5, 8), subsets=4, seed=3) for _ in range(2))
    assert torch.equal(first.values, second.values) and torch.equal(first.errors, second.errors)
    assert torch.equal(before[0], torch.get_rng_state()) and before[1] == np.random.get_state()[1].tolist()
    assert first.call.options == {
        "method": "graph",
        "k": (5, 8),
        "metric": "l2",
        "subsets": 4,
        "level": 0.95,
        "seed": 3,
    }


@pytest.mark.parametrize("method", ["graph", "mle", "twonn"])
@pytest.mark.parametrize("noise", [0, 1e-30, 1e-9, 1e-4])
def test_duplicates_and_near_duplicates(method, noise):
    points = cube(400, 3, 5)
    alone = pellucid.intrinsic_dimension(points, method, subsets=3)
    twice = np.concatenate([points, points[:30] + noise, points[:1] + noise, points[:1] + 2 * noise])
    found = pellucid.intrinsic_dimension(twice, method, subsets=3)
    assert found.values.isfinite().all() and found.errors.isfinite().all()
    assert found.duplicates == (1 if noise == 1e-4 else 32)
    if noise < 1e-4:
        torch.testing.assert_close(found.values, alone.values, rtol=0.2 if method == "graph" else 1e-6, atol=0)


def test_points_far_from_0_are_not_taken_for_one():
    points = cube(300, 2, 3)
    left, gone = distinct(points + 1e6)
    assert gone == 0 and len(left) == 300
    far = pellucid.intrinsic_dimension(points + 1e6, "mle", (10, 20), subsets=0)
    torch.testing.assert_close(far.values, pellucid.intrinsic_dimension(points, "mle", (10, 20), subsets=0).values)


def test_many_duplicates_are_said():
    points = cube(100, 2, 3)
    with pytest.warns(UserWarning, match="100 of 200 points lie on others"):
        pellucid.intrinsic_dimension(np.repeat(points, 2, 0), "mle", subsets=0)


def test_a_graph_that_falls_apart_is_said():
    points = np.concatenate([cube(250, 2, 4), cube(150, 2, 4, 1) + 100])
    with pytest.warns(UserWarning, match="the graph falls apart: the estimate is of the largest part, 62% of"):
        found = pellucid.intrinsic_dimension(points, "graph", (4, 8), subsets=0)
    assert found.values.isfinite().all() and float(found.share[1]) == pytest.approx(0.625)
    assert found.dimension == pytest.approx(2, abs=0.5) and "62.5%" in found.table()
    assert "62% of the points" in str([text.get_text() for text in found.figure().axes[0].texts])


def test_pictures_tables_and_numbers(tmp_path):
    found = pellucid.intrinsic_dimension(torch.from_numpy(cube(200, 3, 5)), "mle", range(4, 9), subsets=3)
    for name in ("sweep.png", "sweep.npz"):
        assert found.save(tmp_path / name).stat().st_size > 500
    assert found.k.tolist() == [4, 5, 6, 7, 8] and found.table().count("\n") == 6
    assert "as k goes from 4 to 8; 200 points" in repr(found)
    assert float(found.values.median()) == found.dimension
    with np.load(tmp_path / "sweep.npz") as file:
        np.testing.assert_array_equal(file["values"], found.values)


def test_features_are_taken_too():
    model, scenes = pellucid.load("shapes"), pellucid.shapes.scenes(30)
    features = pellucid.features(model, scenes.images, "pool")
    found = pellucid.intrinsic_dimension(features, "mle", (3, 6), subsets=0)
    torch.testing.assert_close(
        found.values, pellucid.intrinsic_dimension(features.values, "mle", (3, 6), subsets=0).values
    )
    assert str(found.call).startswith("intrinsic_dimension(shapes, pool,")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"method": "grap"}, "there is no method 'grap'; near it: graph"),
        ({"k": 5}, "k is 5, expected several, such as range"),
        ({"k": [5, 5]}, r"k is \[5\], expected several"),
        ({"k": [4, 2.5]}, "k has 2.5, expected whole numbers"),
        ({"k": [0, 5]}, "k has 0, expected whole numbers from 1"),
        ({"k": [1, 5], "method": "mle"}, "k has 1, expected whole numbers from 2 for mle"),
        ({"k": [5, 60]}, "k has 60, and there are 60 different points: it can be at most 59"),
        ({"level": 95}, "level is 95, expected a share"),
        ({"subsets": 2}, "subsets is 2, expected 0 or a whole number from 3"),
        ({"features": np.ones((30, 3))}, "all 30 points are the same"),
        ({"features": np.zeros((0, 3))}, "there are 0 points: where one lies among others takes 20"),
        ({"features": np.random.default_rng(0).random((9, 3))}, "there are 9 points"),
        ({"features": np.full((30, 3), np.nan)}, "30 of 30 points have NaN"),
        ({"features": np.repeat(np.eye(5), 10, 0)}, "5 of 50 points are different: it takes 20 or more"),
    ],
)
def test_mistakes(given, words):
    with pytest.raises(ValueError, match=words):
        pellucid.intrinsic_dimension(**{"features": cube(60, 2, 3), **given})
