"""Neighbors: against scikit-learn, by hand, and where rounding and ties would mislead."""

from __future__ import annotations

import csv
import sys

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

import pellucid
from pellucid import neighbors

from ..nets import small_model, some_images


def reference(points: np.ndarray, queries: np.ndarray, metric: str) -> np.ndarray:
    """All distances in float64."""
    p, q = points.astype(np.float64), queries.astype(np.float64)
    if metric == "l2":
        return np.sqrt(((q[:, None] - p[None]) ** 2).sum(2))
    lengths = np.linalg.norm(q, axis=1)[:, None] * np.linalg.norm(p, axis=1)[None]
    return 1 - np.divide(q @ p.T, lengths, out=np.zeros(lengths.shape), where=lengths > 0)


@pytest.mark.parametrize("metric", ["l2", "cosine"])
@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
@pytest.mark.parametrize("engine", ["torch", "faiss"])
def test_against_scikit_learn(metric, kind, engine):
    if engine == "faiss":
        pytest.importorskip("faiss")
    made = torch.Generator().manual_seed(0)
    points = torch.randn(400, 20, generator=made, dtype=torch.float64).to(kind)
    queries = torch.randn(30, 20, generator=made, dtype=torch.float64).to(kind)
    found = neighbors(points, queries, k=7, metric=metric, engine=engine)
    name = {"l2": "euclidean", "cosine": "cosine"}[metric]
    theirs = NearestNeighbors(n_neighbors=7, metric=name, algorithm="brute").fit(points.double().numpy())
    distances, indices = theirs.kneighbors(queries.double().numpy())
    assert np.array_equal(found.indices.numpy(), indices)
    np.testing.assert_allclose(found.distances.numpy(), distances, rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("metric", ["l2", "cosine"])
@pytest.mark.parametrize("shift", [0.0, 1e4])
def test_exact_where_points_are_near_each_other_and_far_from_zero(metric, shift):
    made = torch.Generator().manual_seed(1)
    points = (shift + 1 + 1e-3 * torch.randn(300, 8, generator=made, dtype=torch.float64)).float()
    found = neighbors(points, k=5, metric=metric)
    all_of_them = reference(points.numpy(), points.numpy(), metric)
    expected = np.sort(all_of_them, 1)[:, :5]
    np.testing.assert_allclose(found.distances.numpy(), expected, rtol=1e-6, atol=1e-12)
    assert (found.distances[:, 0] < 1e-12).all()


def test_ties_are_the_earlier_rows_however_many():
    points = torch.zeros(200, 3)
    points[7] = 1.0
    found = neighbors(points, [7, 50], k=4)
    assert found.indices.tolist() == [[7, 0, 1, 2], [0, 1, 2, 3]]
    assert found.distances.tolist() == [[0.0, *[3**0.5] * 3], [0.0] * 4]
    alone = neighbors(points, [0, 50, 199], k=3, include_self=False)
    assert alone.indices.tolist() == [[1, 2, 3], [0, 1, 2], [0, 1, 2]]


def test_itself_is_left_out_and_its_copy_is_not():
    points = torch.tensor([[0.0, 1.0], [5.0, 5.0], [0.0, 1.0], [0.0, 2.0]])
    found = neighbors(points, k=2, include_self=False)
    assert found.indices.tolist() == [[2, 3], [3, 0], [0, 3], [0, 2]]
    assert found.queries.tolist() == [0, 1, 2, 3]


def test_a_vector_of_zeros_has_no_direction():
    points = torch.tensor([[0.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])
    found = neighbors(points, [0, 1], k=3, metric="cosine")
    assert found.distances.tolist() == [[1.0, 1.0, 1.0], [0.0, 1.0, 2.0]]
    assert found.indices.tolist() == [[0, 1, 2], [1, 0, 2]]


def test_many_queries_go_in_pieces(monkeypatch):
    from importlib import import_module

    monkeypatch.setattr(import_module("pellucid.representation.neighbors"), "BLOCK", 300)
    points = torch.randn(100, 4, generator=torch.Generator().manual_seed(2))
    found = neighbors(points, k=3)
    expected = np.argsort(reference(points.numpy(), points.numpy(), "l2"), 1, kind="stable")[:, :3]
    assert np.array_equal(found.indices.numpy(), expected)


@pytest.mark.slow
def test_features_with_pictures_and_classes(tmp_path):
    model, scenes = pellucid.load("shapes"), pellucid.shapes.scenes(40, seed=3)
    found = pellucid.features(model, scenes.images, ["flatten", "pixels"], labels=scenes.labels)
    near = neighbors(found["flatten"], [0, 1, 2], k=3, include_self=False)
    pixels = neighbors(found["pixels"], [0, 1, 2], k=3, include_self=False)
    assert near.agreement() > pixels.agreement()
    assert near.figure(beside=pixels).get_axes()[1].get_title() == "by flatten"
    with near.save(tmp_path / "near.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 9 and rows[0]["query"] == "0" and rows[0]["neighbor"] == str(int(near.indices[0, 0]))
    assert rows[0]["label"] == found.label(int(near.indices[0, 0]))
    assert near.save(tmp_path / "near.png").stat().st_size > 1000
    other = pellucid.features(model, scenes.images[5:7], "flatten", labels=scenes.labels[5:7])
    assert neighbors(found["flatten"], other, k=1).indices.flatten().tolist() == [5, 6]
    assert neighbors(found["flatten"], other, k=1).agreement() == 1.0
    assert "Neighbors(3 x 3, l2" in repr(near)


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"k": 9}, ValueError, "k is 9, but there are only 4: ask for fewer"),
        ({"k": 4, "itself": False}, ValueError, "k is 4, but there are only 3 others"),
        ({"k": 0}, ValueError, "k is 0, expected a whole number above 0"),
        ({"queries": [4]}, ValueError, "no row 4: there are 4 points, counted from 0"),
        ({"queries": [-1]}, ValueError, "no row -1"),
        ({"queries": torch.rand(2, 5)}, ValueError, "the queries have 5 numbers each and the points 3"),
        ({"queries": torch.rand(2, 3), "itself": False}, ValueError, "these queries are no rows of the points"),
        ({"metric": "l1"}, ValueError, "metric is 'l1', expected 'l2' or 'cosine'"),
        ({"queries": []}, ValueError, "no queries"),
    ],
)
def test_bad_input_is_refused_in_words(given, error, words):
    with pytest.raises(error, match=words):
        neighbors(torch.rand(4, 3), **{"k": 2, **given})


def test_nan_is_named():
    points = torch.rand(3, 2)
    points[1, 0] = float("nan")
    with pytest.raises(ValueError, match="row 1 of the points has NaN"):
        neighbors(points, k=1)
    with pytest.raises(ValueError, match="the points have the shape 3, expected N x D"):
        neighbors(torch.rand(3), k=1)
    several = pellucid.features(small_model(), some_images(2), ["conv1", "fc"])
    with pytest.raises(ValueError, match="pick one"):
        neighbors(several, k=1)
    with pytest.raises(ValueError, match="the images of these points are not known"):
        neighbors(torch.rand(3, 2), k=1).figure()


def test_faiss_is_asked_for_in_words(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ImportError, match="pip install 'pellucid"):
        neighbors(torch.rand(3, 2), k=1, engine="faiss")
