"""Budgets hold exactly, in every type; projections are the nearest points."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.adversarial.attack.budgets import (
    NORMS,
    broadcast,
    distances,
    l1_steepest_step,
    lengths,
    project,
    project_exactly,
    project_l1_box,
    step_bounds,
    unit,
)  # fmt: skip

TYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


def drawn(seed, dtype, shape=(3, 2, 5, 4)):
    """Images, many of whose pixels are exactly 0 or 1."""
    source = torch.Generator().manual_seed(seed)
    images = torch.rand(shape, generator=source, dtype=torch.float64) * 1.6 - 0.3
    return images.clamp(0, 1).to(dtype), source


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    dtype=st.sampled_from(TYPES),
    norm=st.sampled_from(NORMS),
    eps=st.one_of(st.sampled_from([8 / 255, 0.3, 0.5, 1e-3]), st.floats(1e-3, 0.9)),
    spread=st.floats(0.001, 3),
)
def test_what_is_found_is_in_the_ball_and_in_bounds(seed, dtype, norm, eps, spread):
    images, source = drawn(seed, dtype)
    wild = images + (torch.randn(images.shape, generator=source, dtype=torch.float64) * spread).to(dtype)
    found = project_exactly(images, wild, eps, norm, 0.0, 1.0)
    assert found.dtype == dtype and found.min() >= 0 and found.max() <= 1
    for image, other in zip(images.double(), found.double(), strict=True):
        # In whole fractions, so that no rounding hides or makes an excess.
        changes = [
            abs(Fraction(a) - Fraction(b)) for a, b in zip(*(v.flatten().tolist() for v in (image, other)), strict=True)
        ]
        budget = Fraction(eps)
        if norm == "linf":
            assert max(changes) <= budget
        elif norm == "l1":
            assert sum(changes) <= budget
        else:
            assert sum(change * change for change in changes) <= budget * budget


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("norm", NORMS)
def test_what_is_within_already_stays_to_the_last_bit(dtype, norm):
    images, source = drawn(0, dtype)
    near = (images + 1e-3 * torch.randn(images.shape, generator=source, dtype=torch.float64).to(dtype)).clamp(0, 1)
    assert torch.equal(project_exactly(images, near, 0.9, norm, 0, 1), near)


def test_most_of_the_budget_is_used():
    images, _ = drawn(1, torch.float16)
    for norm in NORMS:
        found = project_exactly(images, 1 - images, 0.4, norm, 0, 1)
        assert (distances(images, found, norm) > 0.39).all()


def test_step_bounds_are_exact_and_tight():
    images, _ = drawn(2, torch.float32)
    low, high = step_bounds(images, 8 / 255, 0.0, 1.0)
    assert torch.equal(project_exactly(images, low, 8 / 255, "linf", 0, 1), low)
    inner = (images > 0.1) & (images < 0.9)
    further = torch.nextafter(high, torch.ones(()))
    assert ((further.double() - images.double())[inner] > 8 / 255).all()


def test_projections_by_hand():
    change = torch.tensor([[3.0, 4.0]])
    assert project(change, 2.0, "linf").tolist() == [[2, 2]]
    assert torch.allclose(project(change, 2.5, "l2"), torch.tensor([[1.5, 2.0]]))
    assert project(change, 5.0, "l1").tolist() == [[2, 3]]  # both lowered by 1
    assert project(change, 0.5, "l1").tolist() == [[0, 0.5]]
    for norm in NORMS:
        assert torch.allclose(project(change, 10.0, norm), change)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("eps", [0.3, 1.0])
def test_projections_are_the_nearest_points(norm, eps):
    """No point of the ball, found by a search, is nearer."""
    source = torch.Generator().manual_seed(5)
    change = torch.randn(4, 6, generator=source, dtype=torch.float64)
    ours = project(change, eps, norm)
    assert (lengths(ours, norm) <= eps + 1e-9).all()
    for _ in range(500):
        other = project(ours + 0.05 * torch.randn(ours.shape, generator=source, dtype=torch.float64), eps, norm)
        assert ((change - other).square().sum(1) >= (change - ours).square().sum(1) - 1e-9).all()


def test_l1_in_bounds_is_nearer_than_clipping_after():
    images, source = drawn(7, torch.float64)
    change = torch.randn(images.shape, generator=source, dtype=torch.float64)
    ours = project_l1_box(change, images, 2.0, 0, 1)
    assert (lengths(ours, "l1") <= 2 + 1e-9).all()
    assert ((images + ours) >= -1e-12).all() and ((images + ours) <= 1 + 1e-12).all()
    clipped = (images + project(change, 2.0, "l1")).clamp(0, 1) - images
    assert ((change - ours).flatten(1).norm(dim=1) <= (change - clipped).flatten(1).norm(dim=1) + 1e-9).all()
    # Nothing is cut off where all is allowed.
    small = 0.001 * change.clamp(0, 1) * (1 - images)
    assert torch.allclose(project_l1_box(small, images, 2.0, 0, 1), small)


def test_lengths_by_hand():
    change = torch.tensor([[[3.0, 0.0], [-4.0, 0.0]]])
    assert [float(lengths(change, norm)) for norm in ("linf", "l2", "l1", "l0")] == [4, 5, 7, 2]


def test_spending_l1_is_the_best_of_many_changes():
    images, source = drawn(3, torch.float64)
    slope = torch.randn(images.shape, generator=source, dtype=torch.float64)
    ours = l1_steepest_step(slope, images, 3.0, 0, 1)
    assert torch.allclose(lengths(ours, "l1"), torch.full((3,), 3.0, dtype=torch.float64))
    assert (images + ours).min() >= -1e-12 and (images + ours).max() <= 1 + 1e-12
    for _ in range(200):
        other = ours + 0.1 * torch.randn(images.shape, generator=source, dtype=torch.float64)
        other = project_l1_box(other, images, 3.0, 0, 1)
        assert ((other * slope).flatten(1).sum(1) <= (ours * slope).flatten(1).sum(1) + 1e-9).all()


def test_directions_have_length_one_and_zero_stays_zero():
    slopes = torch.stack([torch.full((2, 3), 1e-30), torch.zeros(2, 3)])
    assert torch.allclose(lengths(unit(slopes, "l2"), "l2"), torch.tensor([1.0, 0.0]))
    for norm in ("linf", "l2"):
        assert not unit(slopes, norm)[1].any()
    assert broadcast(torch.ones(2), slopes).shape == (2, 1, 1) and math.isfinite(float(unit(slopes, "l2").sum()))
