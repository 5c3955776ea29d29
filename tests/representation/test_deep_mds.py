"""DeepMDS: distances kept better than by principal components, stage by stage, and what stops it."""

from __future__ import annotations

import copy
import importlib
import itertools
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import pellucid
from pellucid.representation.projections.deep_mds_network import Stages


def bent(count=300, wide=16, seed=0):
    """Points of a surface of two dimensions, bent into more."""
    generator = torch.Generator().manual_seed(seed)
    flat = torch.rand(count, 2, generator=generator) * 3
    turned = torch.linalg.qr(torch.randn(wide, wide, generator=generator))[0]
    curved = torch.stack([flat[:, 0].cos(), flat[:, 0].sin(), flat[:, 1], (flat[:, 1] * 2).sin()], 1)
    return curved @ turned[:4]


@pytest.mark.slow
def test_distances_are_kept_better_than_by_principal_components():
    points = torch.randn(300, 16, generator=torch.Generator().manual_seed(0))
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    result = pellucid.deep_mds(points, 2, steps=60)
    assert torch.equal(before[0], torch.get_rng_state()) and before[1:] == (
        np.random.get_state()[1].tolist(), random.getstate(),
    )  # fmt: skip
    assert result.widths == (8, 4, 2) and result.steps == (60, 60, 60) and result.held == 30
    assert float(result.stress[-1]) < 0.65 * float(result.linear_stress[-1])
    assert list(result.linear_stress) == sorted(result.linear_stress)
    # As the numbers say, over all pairs, in the units of the features.
    far, near = torch.pdist(points), torch.pdist(result.values)
    stress = ((far - near).square().sum() / far.square().sum()).sqrt()
    assert float(stress) == pytest.approx(float(result.stress[-1]), rel=0.3)
    assert torch.equal(result.values, pellucid.deep_mds(points, 2, steps=60).values)


@pytest.mark.slow
def test_the_network_maps_others_and_can_be_kept(tmp_path):
    points = bent()
    result = pellucid.deep_mds(points, 3, steps=20, stages=(5, 3))
    torch.testing.assert_close(result.module(points), result.values)
    torch.testing.assert_close(result.place(bent(7, seed=0)), result.module(bent(7, seed=0)))
    assert not result.module.training and not any(p.requires_grad for p in result.module.parameters())
    torch.save(result.module.state_dict(), tmp_path / "map.pt")
    empty = Stages(torch.rand(4, 16), (5, 3), torch.Generator())
    empty.load_state_dict(torch.load(tmp_path / "map.pt", weights_only=True))
    torch.testing.assert_close(empty(points), result.values)
    with pytest.raises(ValueError, match="points of 4 numbers, this embedding is of 16"):
        result.place(torch.rand(2, 4))
    assert result.figure(stages=True).axes[0].get_ylabel() == "stress" and result.table().count("\n") == 3


def test_it_begins_as_principal_components():
    points = bent()
    net = Stages(points, (8, 2), torch.Generator().manual_seed(0))
    net.start(0, net.scaled(points))
    net.start(1, net.through(net.scaled(points), 0)[0])
    expected = pellucid.pca(points.double(), 2).values
    torch.testing.assert_close(net(points).detach().double().abs(), expected.abs(), rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_by_the_cosine_angles_are_kept_and_lengths_do_not_count():
    points = torch.randn(300, 12, generator=torch.Generator().manual_seed(0)) + 0.5
    lengths = torch.rand(300, 1, generator=torch.Generator().manual_seed(1)) + 0.2
    given = {"steps": 60, "metric": "cosine"}
    result, scaled = (pellucid.deep_mds(one, 3, **given) for one in (points, points * lengths))
    torch.testing.assert_close(result.values, scaled.values, rtol=1e-2, atol=1e-2)
    assert bool((result.stress < 0.97 * result.linear_stress).all()), result.table()

    def angles(of):
        unit = torch.nn.functional.normalize(of.double())
        return 1 - (unit @ unit.T)[torch.ones(300, 300, dtype=torch.bool).triu(1)]

    far, near = angles(points), angles(result.values)
    stress = ((far - near).square().sum() / far.square().sum()).sqrt()
    assert float(stress) == pytest.approx(float(result.stress[-1]), rel=0.3)
    torch.testing.assert_close(angles(result.place(points * lengths)), near, rtol=1e-3, atol=1e-4)
    with pytest.raises(ValueError, match="in one dimension all cosines are 1 or -1"):
        pellucid.deep_mds(points, 1, metric="cosine")
    with pytest.raises(TypeError, match="metric is 'l1'"):
        pellucid.deep_mds(points, 2, metric="l1")


def test_the_scale_of_the_features_does_not_matter():
    points = bent(120, 6)
    small, large = (pellucid.deep_mds(points * scale + scale, 2, steps=30) for scale in (1.0, 1024.0))
    torch.testing.assert_close(large.values, small.values * 1024, rtol=1e-2, atol=5)


def test_stopped_by_hand_it_keeps_the_best(monkeypatch):
    stop = {"after": 40}
    step = torch.optim.Adam.step

    def stopping(self, *given, **more):
        stop["after"] -= 1
        if stop["after"] < 0:
            raise KeyboardInterrupt
        return step(self, *given, **more)

    monkeypatch.setattr(torch.optim.Adam, "step", stopping)
    result = pellucid.deep_mds(bent(), 2, steps=30)
    assert (
        result.interrupted == "after 40 of 90 steps" and result.steps == (30, 10, 0) and result.values.shape == (300, 2)
    )
    assert result.widths == (8, 4, 2) and result.stress.isfinite().all()
    assert float(result.stress[-1]) < 1.1 * float(result.linear_stress[-1])


def test_a_limit_of_time_is_kept(monkeypatch):
    clock = itertools.count()  # a tick each time that it is read, as every step does
    module = importlib.import_module("pellucid.representation.deep_mds")
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: float(next(clock))))
    result = pellucid.deep_mds(bent(), 2, steps=100_000, seconds=60.0)
    assert all(15 <= made <= 20 for made in result.steps) and sum(result.steps) <= 60 and not result.interrupted


def test_what_is_kept_is_never_worse_than_the_start():
    noise = torch.randn(60, 40, generator=torch.Generator().manual_seed(0))
    result = pellucid.deep_mds(noise, 39, steps=60, stages=(39,))
    assert float(result.stress[-1]) <= float(result.linear_stress[-1]) + 1e-6  # nothing to gain, much to lose


def test_few_points_and_duplicates():
    points = bent(12, 6)
    result = pellucid.deep_mds(torch.cat([points, points]), 2, steps=10)
    assert result.values.isfinite().all() and result.held == 0
    torch.testing.assert_close(result.values[:12], result.values[12:])


def test_the_user_s_points_and_gradients_stay():
    points = bent(60, 6).requires_grad_()
    kept = copy.deepcopy(points.detach())
    with torch.no_grad():
        first = pellucid.deep_mds(points, 2, steps=5).values
    with torch.inference_mode():
        second = pellucid.deep_mds(kept.clone(), 2, steps=5).values
    assert torch.equal(points.detach(), kept) and points.grad is None and torch.equal(first, second)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dimensions": 6}, "6 dimensions already: ask for fewer"),
        ({"stages": (4, 5, 2)}, "expected numbers that fall from below 6 to 2, such as"),
        ({"stages": (4, 3)}, "expected numbers that fall"),
        ({"steps": 0}, "steps is 0"),
        ({"hard": 0.0}, "hard is 0, expected a share"),
        ({"seconds": -1.0}, "seconds is -1"),
    ],
)
def test_mistakes(options, words):
    with pytest.raises(ValueError, match=words):
        pellucid.deep_mds(bent(60, 6), **options)
