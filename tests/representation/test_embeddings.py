"""Principal components, t-SNE, UMAP, PaCMAP: against the libraries, by hand, and what they refuse."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import json
import os
import random
import subprocess
import sys

import numpy as np
import pytest
import torch

import pellucid
from pellucid.methods.registry import of_kind
from pellucid.report.pages import embedding_page
from pellucid.representation.projections.embedding import COLORS, MARKERS, Embedding


def clusters(count=60, width=6, seed=0):
    """Three clusters far apart: count x width points and their classes."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    return torch.randn(count, width, generator=generator) + 20 * torch.eye(width)[labels], labels


def together(result, labels):
    """Whether the nearest on the map is of the same class, for all points."""
    far = torch.cdist(result.values.double(), result.values.double()) + torch.eye(len(labels)) * 1e9
    return bool((labels[far.argmin(1)] == labels).all())


def test_pca_is_that_of_the_covariance():
    points, _ = clusters()
    result = pellucid.pca(points.double(), 3)
    values, vectors = torch.linalg.eigh(torch.cov(points.double().T))
    torch.testing.assert_close(result.variance, values.flip(0)[:3] / values.sum())
    expected = (points.double() - points.double().mean(0)) @ vectors.flip(1)[:, :3]
    torch.testing.assert_close(result.values.abs(), expected.abs())
    new = torch.randn(4, 6, dtype=torch.float64)
    torch.testing.assert_close(
        result.place(new).abs(), ((new - points.double().mean(0)) @ vectors.flip(1)[:, :3]).abs()
    )
    assert result.call.options == {"dimensions": 3, "whiten": False, "seed": 0}
    white = pellucid.pca(points, 2, whiten=True)
    torch.testing.assert_close(white.values.var(0), torch.ones(2), rtol=1e-4, atol=1e-4)


def test_tsne_is_that_of_opentsne_and_alike_each_time():
    import openTSNE

    points, labels = clusters()
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    result = pellucid.tsne(points, perplexity=10, steps=100)
    expected = openTSNE.TSNE(perplexity=10, n_iter=100, random_state=0, neighbors="exact").fit(points.double().numpy())
    np.testing.assert_allclose(result.values, np.asarray(expected))
    assert together(result, labels)
    assert torch.equal(result.values, pellucid.tsne(points, perplexity=10, steps=100).values)
    assert torch.equal(before[0], torch.get_rng_state()) and before[1:] == (
        np.random.get_state()[1].tolist(), random.getstate(),
    )  # fmt: skip
    # A point that is there already goes where it is, or beside it; the others stay.
    placed = torch.cdist(result.place(points[:6]).double(), torch.from_numpy(np.asarray(expected)))
    assert torch.equal(labels[placed.argmin(1)], labels[:6]) and float(placed.amin(1).max()) < 1
    np.testing.assert_allclose(result.values, np.asarray(expected))


def test_a_map_that_is_stopped_by_hand_is_the_map_so_far(tmp_path, monkeypatch):
    module, bars = importlib.import_module("pellucid.representation.tsne"), module_bar(30)
    monkeypatch.setattr(module, "progress", bars)
    points, labels = clusters()
    result = pellucid.tsne(points, perplexity=10, steps=100, labels=labels)
    assert result.interrupted == "after 300 of 350 steps" and together(result, labels)
    assert together(dataclasses.replace(result, values=result.place(points)), labels)
    page = embedding_page(tmp_path / "map.html", result).read_text()
    assert "after 300 of 350 steps: this is the map so far" in page
    monkeypatch.undo()
    assert not pellucid.tsne(points, perplexity=10, steps=10).interrupted


def module_bar(ticks):
    """A bar that is interrupted, as by Ctrl-C, when it goes on for the so many-th time."""
    left = iter(range(ticks - 1))

    @contextlib.contextmanager
    def bar(*_, **__):
        def advance(_):
            if next(left, None) is None:
                raise KeyboardInterrupt

        yield advance

    return bar


@pytest.mark.slow
def test_umap_and_pacmap_in_a_process_without_compilation():
    """Their compilation takes a minute; their Python gives the same."""
    pytest.importorskip("umap")
    pytest.importorskip("pacmap")
    code = """
import sys, json, torch, numpy as np, pellucid
from tests.representation.test_embeddings import clusters, together
points, labels = clusters(24)
before = torch.get_rng_state(), np.random.get_state()[1].tolist()
said = {}
for name, options in (("umap", {"neighbors": 8, "steps": 20}), ("pacmap", {"neighbors": 5})):
    made = [getattr(pellucid, name)(points, labels=labels, **options) for _ in range(2 if name == "umap" else 1)]
    said[name] = [tuple(made[0].values.shape), together(made[0], labels), torch.equal(made[0].values, made[-1].values),
                  made[0].mapping is not None and bool(made[0].place(points[:3]).isfinite().all()), str(made[0].call)]
    for bad, words in (({"neighbors": 24}, "expected 2 to 23"), ({"neighbors": 1}, "expected 2 to 23")):
        try:
            getattr(pellucid, name)(points, **bad)
        except ValueError as error:
            assert words in str(error), error
        else:
            raise AssertionError(bad)
said["random"] = torch.equal(before[0], torch.get_rng_state()) and before[1] == np.random.get_state()[1].tolist()
print(json.dumps(said))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False,
        env={**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": os.pathsep.join(["src", ".", *sys.path[:1]])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)  # nothing else is printed
    assert said["random"]
    assert said["umap"] == [
        [24, 2], True, True, True,
        "umap(an array, points, dimensions=2, neighbors=8, min_dist=0.1, steps=20, seed=0)",
    ]  # fmt: skip
    assert said["pacmap"][:4] == [[24, 2], True, True, False]


def test_the_steps_that_pacmap_prints_are_a_bar(monkeypatch, capsys):
    module, made = importlib.import_module("pellucid.representation.pacmap"), []

    @contextlib.contextmanager
    def bar(total, *_, **__):
        made.append(total)
        yield made.append

    monkeypatch.setattr(module, "progress", bar)
    with module._counted():
        print("X is normalized.")
        print("Iteration:   10, Loss: 3.000000")
        print("Iteration:   20, Loss: 2.000000")
    assert made == [450, 10, 10] and capsys.readouterr().out == ""


@pytest.mark.parametrize("name", ["umap", "pacmap"])
def test_what_is_missing_is_named(name, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"pip install 'pellucid\[embed\]'"):
        getattr(pellucid, name)(clusters()[0])


def test_every_embedding_is_in_the_catalogue_with_its_options():
    assert sorted(of_kind("projection")) == ["deep_mds", "pacmap", "pca", "tsne", "umap"]
    for name in of_kind("projection"):
        entry = pellucid.CATALOGUE[name]
        text = entry.function.__doc__
        assert entry.family == "representation" and getattr(pellucid, name) is entry.function
        assert all(f"{option}:" in text for option in entry.options), name
        assert all(part in text for part in ("Args:", "Returns:", "Raises:", "Paper:", ">>> "))


BAD = {
    "NaN": (lambda x: x.where(torch.arange(60)[:, None] != 7, torch.nan), "1 of 60 points have NaN.*row 7"),
    "the same": (lambda x: torch.ones_like(x), "all 60 points are the same"),
    "one": (lambda x: x[:1], "there is 1 point: where one lies among others takes 2"),
    "images": (lambda x: x[:, :, None], "shape 60 x 6 x 1, expected N x D.*flatten"),
    "numbers": (lambda x: x[:, 0], "the shape 60, expected N x D"),
}


@pytest.mark.parametrize("name", ["pca", "tsne", "umap", "pacmap", "deep_mds"])
@pytest.mark.parametrize("case", BAD)
def test_what_has_no_embedding_is_said(name, case):
    spoil, words = BAD[case]
    with pytest.raises(ValueError, match=words):
        getattr(pellucid, name)(spoil(clusters()[0]))


def test_other_mistakes():
    points, labels = clusters()
    with pytest.raises(TypeError, match="of type <U1, expected numbers"):
        pellucid.pca([["a", "b"], ["c", "d"]])
    with pytest.raises(ValueError, match="pca of 60 points of 6 numbers has at most 6 dimensions, asked for 7"):
        pellucid.pca(points, 7)
    with pytest.raises(ValueError, match="dimensions is 0"):
        pellucid.pca(points, 0)
    with pytest.raises(TypeError, match="pca has no option 'withen'; near it: whiten"):
        pellucid.pca(points, withen=True)
    with pytest.raises(ValueError, match="got 5 labels for 60 points"):
        pellucid.pca(points, labels=labels[:5])
    with pytest.raises(ValueError, match="got 2 images for 60 points"):
        pellucid.pca(points, images=torch.rand(2, 3, 4, 4))
    with pytest.raises(
        ValueError, match="perplexity is 25, and there are 60 points: expected above 1 and at most 19.7"
    ):
        pellucid.tsne(points, perplexity=25)
    with pytest.raises(ValueError, match="maps of 1 or 2 dimensions"):
        pellucid.tsne(points, 3)
    with pytest.raises(ValueError, match="t-SNE needs 5 or more"):
        pellucid.tsne(points[:4])
    with pytest.raises(ValueError, match="got points of 2 numbers, this embedding is of 6"):
        pellucid.pca(points).place(points[:, :2])
    with pytest.raises(ValueError, match="NaN"):
        pellucid.pca(points).place(points * torch.nan)
    with pytest.raises(ValueError, match="cannot place points"):
        Embedding(torch.zeros(2, 2)).place(points)


def test_duplicates_and_few_points_have_their_maps():
    points, _ = clusters(12)
    twice = torch.cat([points, points])
    for method in (pellucid.pca, pellucid.tsne):
        assert method(twice).values.isfinite().all()
    assert pellucid.tsne(points).call.options["perplexity"] == 11 / 3


def test_features_bring_names_classes_and_images():
    model, scenes = pellucid.load("shapes"), pellucid.shapes.scenes(12)
    features = pellucid.features(model, scenes.images, "pool", labels=scenes.labels)
    result = pellucid.pca(features)
    assert result.labels == tuple(model.label(int(label)) for label in scenes.labels) and not result.predicted
    assert result.names == features.names and str(result.call).startswith("pca(shapes, pool,")
    assert result.thumbnails(16).shape == (12, 3, 16, 16)
    torch.testing.assert_close(result.place(features[features.layers[0]]), result.values)
    unknown = pellucid.pca(pellucid.features(model, scenes.images, "pool"))
    assert unknown.predicted and set(unknown.labels) <= set(model.labels) and "predicted" in unknown.columns()
    both = pellucid.features(model, scenes.images, ["features.3", "pool"])
    with pytest.raises(ValueError, match="2 layers: pick one"):
        pellucid.pca(both)
    assert pellucid.pca(both["pool"], labels=["a", "b"] * 6).classes == ("a", "b")


def test_pictures_and_tables(tmp_path):
    points, labels = clusters()
    images = torch.rand(60, 1, 10, 14)
    result = pellucid.pca(points, 3, labels=labels, images=images, names=[f"$n_{i}" for i in range(60)])
    for name in ("map.png", "map.svg", "map.npz", "map.csv", "map.parquet"):
        assert result.save(tmp_path / name).stat().st_size > 500
    assert (tmp_path / "map.csv").read_text().splitlines()[0] == "name,label,x,y,z"
    with pytest.raises(ValueError, match="cannot save as"):
        result.save(tmp_path / "map.txt")
    figure = result.figure(thumbnails=False, axes=(1, 2))
    axis = figure.axes[0]
    drawn = np.concatenate([scatter.get_offsets() for scatter in axis.collections])
    np.testing.assert_allclose(np.sort(drawn[:, 0]), np.sort(result.values[:, 1].numpy()), rtol=1e-6)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["0", "1", "2"]
    assert len(axis.artists) == 0 and len(result.figure().axes[0].artists) > 5
    with pytest.raises(ValueError, match="axes is"):
        result.figure(axes=(0, 3))
    with pytest.raises(ValueError, match="no images to draw"):
        pellucid.pca(points).figure(thumbnails=True)
    assert pellucid.pca(points, 1).figure().axes[0].collections[0].get_offsets().shape == (60, 2)


def test_classes_are_told_apart():
    labels = [f"class {i}" for i in range(49)] + ["unknown"]
    groups = Embedding(torch.rand(50, 2), tuple(labels)).groups()
    assert len({(color, marker) for _, color, marker, _ in groups}) == 50
    assert [name for name, *_ in groups[:3]] == ["class 0", "class 1", "class 2"] and groups[-1][0] == "unknown"
    assert len(COLORS) == len(set(COLORS)) == 7 == len(set(MARKERS))


def test_images_that_are_gone_are_gray():
    def look(row):
        if row:
            raise OSError("gone")
        return torch.ones(3, 4, 4)

    result = dataclasses.replace(pellucid.pca(clusters()[0]), look=look)
    pictures = result.thumbnails(8, [0, 1])
    assert bool((pictures[0] == 255).all()) and bool((pictures[1] == 200).all())


def test_vectors_of_a_run_folder_alone(tmp_path):
    module = importlib.import_module("pellucid.representation.stored_features")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        module.stored_features(tmp_path / "none")
    model, scenes = pellucid.load("shapes"), pellucid.shapes.scenes(5)
    made = pellucid.features(model, scenes.images, "pool", folder=tmp_path / "run", labels=scenes.labels)
    found = module.stored_features(tmp_path / "run")
    torch.testing.assert_close(found.values, made.values)
    assert [found.label(i) for i in range(5)] == [made.label(i) for i in range(5)]
    assert [found.prediction(i) for i in range(5)] == [made.prediction(i) for i in range(5)] != [""] * 5
    assert found.look is None and found.call.model == "shapes"
    unknown = pellucid.features(model, scenes.images, "pool", folder=tmp_path / "unknown")
    assert set(pellucid.pca(module.stored_features(unknown.folder)).labels) <= set(model.labels)
    part = next((tmp_path / "run" / "rows").glob("*.parquet"))
    part.unlink()
    with pytest.raises(ValueError, match="is not finished, 1 of 1 chunks"):
        module.stored_features(tmp_path / "run")
