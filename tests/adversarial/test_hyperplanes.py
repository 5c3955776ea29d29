"""The smallest change onto a plane within bounds, against a search."""

from __future__ import annotations

import pytest
import torch
from scipy.optimize import linprog, minimize

from pellucid.adversarial.attack.budgets import lengths
from pellucid.adversarial.steps.hyperplanes import to_plane


def problem(seed, size=7):
    source = torch.Generator().manual_seed(seed)
    images = (torch.rand(1, size, generator=source, dtype=torch.float64) * 1.4 - 0.2).clamp(0, 1)
    normal = torch.randn(1, size, generator=source, dtype=torch.float64)
    reachable = torch.where(normal > 0, 1 - images, -images).mul(normal).sum()
    return images, normal, 0.7 * reachable[None]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("norm", ["linf", "l1", "l2"])
def test_no_change_is_smaller(seed, sign, norm):
    images, normal, gap = problem(seed)
    normal, gap = sign * normal, sign * gap
    change = to_plane(images, normal, gap, norm, 0, 1)
    assert torch.allclose((change * normal).sum(1), gap, rtol=1e-6)
    assert ((images + change) >= -1e-9).all() and ((images + change) <= 1 + 1e-9).all()
    x, w, size = images[0].numpy(), normal[0].numpy(), images.shape[1]
    bounds = [(-a, 1 - a) for a in x]
    if norm == "l2":
        expected = minimize(
            lambda d: d @ d, 0 * x, jac=lambda d: 2 * d, bounds=bounds, method="SLSQP", options={"ftol": 1e-14},
            constraints={"type": "eq", "fun": lambda d: d @ w - gap.item(), "jac": lambda d: w},
        ).fun ** 0.5  # fmt: skip
    else:  # d = p - m, both 0 or more; in linf p + m <= t
        extra = 1 if norm == "linf" else 0
        cost = [0] * (2 * size) + [1] if extra else [1] * (2 * size)
        rows = [[float(i in (k, size + k)) for i in range(2 * size)] + [-1.0] for k in range(size)] if extra else None
        expected = linprog(
            cost, A_ub=rows, b_ub=[0] * size if extra else None,
            A_eq=[[*w, *-w] + [0] * extra], b_eq=[gap.item()],
            bounds=[(0, 1 - a) for a in x] + [(0, a) for a in x] + [(0, 1)] * extra,
        ).fun  # fmt: skip
    assert lengths(change, norm).item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("norm", ["linf", "l1", "l2"])
def test_out_of_reach_and_nothing_to_do(norm):
    images, normal, gap = problem(0)
    change = to_plane(images, normal, 10 * gap, norm, 0, 1)
    assert torch.allclose((change * normal).sum(1), gap / 0.7, rtol=1e-5)
    assert not to_plane(images, normal, 0 * gap, norm, 0, 1).any()
    assert not to_plane(images, 0 * normal, gap, norm, 0, 1).any()
