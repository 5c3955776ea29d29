"""Each rule on a 2 x 2 layer, its fractions worked out on paper; and by a second, slow implementation."""

from __future__ import annotations

from fractions import Fraction as Q

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from pellucid.model.relevance import relevance
from pellucid.rules import (
    alpha_beta,
    epsilon,
    flat,
    gamma,
    norm,
    pass_through,
    share,
    stop,
    w_square,
    z_box,
    z_plus,
    zero,
)

from .nets import Net, Whole, close, image, shares

# z_jk of x = (2, 1): 2 and 2 for the first output (4), 6 and -1 for the second (5), -6 and 1 for the third (-5).
X, W = [2, 1], [[1, 2], [3, -1], [-3, 1]]
FIRST, SECOND, THIRD = ([row] for row in W)
BOTH = W[:2]


def dense(w, b=None, signed=True):
    """y = w x + b; with signed=False behind a ReLU, so that inputs are known to have no negative values."""
    w = torch.tensor(w, dtype=torch.float64)
    b = None if b is None else torch.tensor(b, dtype=torch.float64)
    return Net(lambda net, x: F.linear((x if signed else x.relu()).flatten(1), net.w, net.b), w=w, b=b)


PAPER = [
    # rule, weights, bias, x, relevance of x where that of each output is the output
    (zero(), BOTH, None, X, (8, 1)),
    (zero(), BOTH, [1, -2], X, (8, 1)),
    (zero(bias=False), BOTH, [1, -2], X, (Q(5, 2) + Q(18, 5), Q(5, 2) - Q(3, 5))),  # outputs 5 and 3
    (zero(), THIRD, None, X, (-6, 1)),
    (zero(), [[1, -2]], None, X, (0, 0)),  # the output is 0: 0/0
    (epsilon(1.0), BOTH, [1, -2], X, (2 * Q(5, 6) + 6 * Q(3, 4), 2 * Q(5, 6) - Q(3, 4))),
    (epsilon(1.0, bias=False), BOTH, [1, -2], X, (2 + 3, 2 - Q(1, 2))),
    (epsilon(1.0), THIRD, None, X, (-6 * Q(5, 6), Q(5, 6))),
    (gamma(1.0), BOTH, None, X, (2 + Q(60, 11), 2 - Q(5, 11))),
    (gamma(1.0), THIRD, None, X, (-Q(60, 11), Q(5, 11))),
    (gamma(1.0), [[-1, -1]], None, [-2, 1], (Q(4, 3), -Q(1, 3))),  # 2 counts twice, -1 once
    (gamma(1.0), [[-1, 3]], None, [2, -1], (-Q(4, 10) * 5, -Q(6, 10) * 5)),  # all speak for -5
    (gamma(1.0), SECOND, [1], X, (Q(12, 13) * 6, -Q(1, 13) * 6)),  # 12 - 1 + 2: the bias counts twice
    (gamma(1.0), SECOND, [-1], X, (Q(12, 10) * 4, -Q(1, 10) * 4)),  # 12 - 1 - 1
    (gamma(1.0), THIRD, [-1], X, (Q(-12, -13) * -6, Q(1, -13) * -6)),
    (gamma(1.0, bias=False), SECOND, [1], X, (Q(12, 11) * 6, -Q(1, 11) * 6)),
    (gamma(0.0), BOTH, [1, -2], X, (8, 1)),
    (gamma(0.5), BOTH, None, X, (2 + Q(9, 8) * 5, 2 - Q(1, 8) * 5)),
    (alpha_beta(), BOTH, None, X, (4 + 10, 4 - 5)),  # nothing speaks against the first output: 0/0
    (alpha_beta(3.0, 2.0), SECOND, None, X, (15, -10)),
    (alpha_beta(), SECOND, [1], X, (2 * Q(6, 7) * 6, -6)),
    (alpha_beta(), SECOND, [-1], X, (2 * 4, -Q(1, 2) * 4)),
    (alpha_beta(bias=False), SECOND, [-1], X, (2 * 4, -4)),
    (alpha_beta(), [[-1, -1]], None, [-2, 1], (2, -1)),
    (z_plus(), BOTH, None, X, (2 + 5, 2)),
    (z_plus(), SECOND, [2], X, (Q(6, 8) * 7, 0)),
    (z_plus(bias=False), SECOND, [2], X, (7, 0)),
    (z_plus(), [[-1, -1]], None, [-2, 1], (1, 0)),
    (w_square(), BOTH, None, X, (Q(4, 5) + Q(9, 2), Q(16, 5) + Q(1, 2))),
    (w_square(), SECOND, [2], X, (Q(9, 14) * 7, Q(1, 14) * 7)),
    (w_square(bias=False), SECOND, [2], X, (Q(9, 10) * 7, Q(1, 10) * 7)),
    (flat(), BOTH, None, X, (Q(9, 2), Q(9, 2))),
    (flat(), BOTH, [1, -2], [2, 0], (Q(2 + 1, 1) / 2 + Q(4, 2), Q(2 + 1, 1) / 2 + Q(4, 2))),  # outputs 3 and 4
]


@pytest.mark.parametrize("signed", [True, False], ids=["image", "behind a ReLU"])
@pytest.mark.parametrize(("rule", "w", "b", "x", "expected"), PAPER, ids=[f"{n}-{c[0]}" for n, c in enumerate(PAPER)])
def test_on_paper(rule, w, b, x, expected, signed):
    if not signed and min(x) < 0:
        pytest.skip("a ReLU would change x")
    found = shares(dense(w, b, signed), torch.tensor(x).double().view(1, 1, 1, 2), {"linear": rule})
    torch.testing.assert_close(found.flatten(), torch.tensor([float(v) for v in expected]).double(), rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 3, (2 + Q(15, 4), 2 + Q(5, 4))),  # 2, 2 and 6 - 0, -1 + 3
        (-1, 3, (Q(12, 7) + Q(45, 11), Q(16, 7) + Q(10, 11))),  # 3, 4 and 9, 2
    ],
)
def test_z_box_on_paper(low, high, expected):
    x = torch.tensor(X).double().view(1, 1, 1, 2)
    bounds = {"low": torch.full_like(x, low), "high": torch.full_like(x, high)}
    for b in (None, [7, -1]):  # the bias cancels but for the relevance that comes in
        weights = 1.0 if b is None else torch.tensor([4 / 11, 5 / 4]).double()
        found = shares(dense(BOTH, b), x, {"first": z_box(low, high)}, weights, **bounds)
        torch.testing.assert_close(found.flatten(), torch.tensor([float(v) for v in expected]).double())


def test_norm_shares_a_sum_in_proportion():
    """3 + 1 = 4, with eps = 1: 3/5 and 1/5 of 4; 3 - 1 = 2: 3/3 and -1/3 of 2."""
    x = torch.tensor([3.0, 1]).double().view(1, 1, 1, 2)
    for combine, expected in ((torch.add, (12 / 5, 4 / 5)), (torch.sub, (2, -2 / 3))):
        net = Net(lambda _, x, combine=combine: combine(x[..., 0], x[..., 1]).flatten(1))
        assert shares(net, x, {"sum": norm(1.0)}).flatten().tolist() == pytest.approx(expected)
        assert shares(net, x, {"sum": norm(0.0)}).flatten().tolist() == [3, 1 if combine is torch.add else -1]
    mean = Net(lambda _, x: x.mean((2, 3)))
    assert shares(mean, x, {"average": norm(1.0)}).flatten().tolist() == pytest.approx([1.5 * 2 / 3, 0.5 * 2 / 3])


def test_pass_through_stop_and_share():
    x = torch.tensor([2.0, -0.5]).double().view(1, 1, 1, 2)
    bend = Net(lambda _, x: torch.tanh(x).flatten(1))
    close(shares(bend, x, {"activation": pass_through()}), x.tanh())
    with pytest.raises(RuntimeError, match="no gradient"):
        shares(bend, x, {"activation": stop()})
    both = Net(lambda _, x: x[..., 0] * x[..., 1])
    assert shares(both, x, {"product": share()}).flatten().tolist() == [-0.5, -0.5]
    gated = Net(lambda _, x: x[..., 0] * x[..., 1].sigmoid())
    whole = 2 * torch.sigmoid(torch.tensor(-0.5)).item()
    for gate in (0.0, 0.25, 0.5, 1.0):
        found = shares(gated, x, {"product": share(gate=gate), "activation": pass_through()})
        assert found.flatten().tolist() == pytest.approx([(1 - gate) * whole, gate * whole], abs=1e-7)


# --- two networks that both compute min(a1, a2) ------------------------------------------------------------


def minimum(swap):
    """(i) relu(relu(a1) - relu(a1 - a2)), or (ii) with a1 and a2 exchanged."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(2, 2, False), nn.ReLU(), nn.Linear(2, 1, False), nn.ReLU())
    with torch.no_grad():
        first = torch.tensor([[1.0, 0], [1, -1]])
        net[1].weight.copy_(first.flip(1) if swap else first)
        net[3].weight.copy_(torch.tensor([[1.0, -1]]))
    return net.double().eval()


def by_network(swap, g, a):
    return shares(minimum(swap), torch.tensor(a).double().view(1, 1, 1, 2), {"linear": gamma(g)}).flatten().tolist()


def test_the_same_function_explained_in_opposite_ways():
    assert by_network(False, 0.5, [3.0, 2.0]) == pytest.approx([1.542857, 0.457143], abs=1e-6)
    assert by_network(True, 0.5, [3.0, 2.0]) == pytest.approx([0, 2], abs=1e-6)


@pytest.mark.slow
@given(st.floats(0, 4), st.floats(0.1, 9), st.floats(0.1, 9))
@settings(max_examples=60)
def test_gamma_on_both_networks(g, a1, a2):
    assume(abs(a1 - a2) > 1e-3)
    expected = (a1, 0.0)
    if a1 > a2:
        whole = (g * a1 + a2) * ((1 + g) * a1 - a2)
        expected = g * (1 + g) * a1**2 * a2 / whole, a2**2 * (a1 - a2) / whole
    assert by_network(False, g, [a1, a2]) == pytest.approx(expected, rel=1e-5, abs=1e-5)
    assert by_network(True, g, [a2, a1]) == pytest.approx(expected[::-1], rel=1e-5, abs=1e-5)


@given(st.floats(0, 4), st.floats(0.01, 9))
@settings(max_examples=20)
def test_where_both_are_equal_one_takes_all(g, a):
    for value in (g, 0.0):
        assert by_network(False, value, [a, a]) == pytest.approx([a, 0], rel=1e-6, abs=1e-9)
        assert by_network(True, value, [a, a]) == pytest.approx([0, a], rel=1e-6, abs=1e-9)


# --- a second implementation: explicit sums over j and k ---------------------------------------------------


def slowly(rule, x, w, b, counted, r):
    """R_j = sum_k ... R_k by the formulas, number by number; `counted` says which inputs an output has."""
    o = dict(rule.options)
    out = [0.0] * len(x)
    for k in range(len(r)):
        z = [x[j] * w[k][j] for j in range(len(x))]
        bias = b[k] if o.get("bias", True) else 0.0
        if rule.name in ("zero", "epsilon", "gamma"):
            total = sum(z) + bias
            sign = 1 if total > 0 else -1
            g = o.get("gamma", 0.0)
            parts = [v + (g * v if v * sign > 0 else 0) for v in z]
            below = sum(parts) + bias + (g * bias if bias * sign > 0 else 0)
            below += sign * ((o.get("eps") or 0.0) if rule.name == "epsilon" else 0.0)
        elif rule.name in ("alpha_beta", "z_plus"):
            up, down = ([max(v, 0) for v in z], [min(v, 0) for v in z])
            for parts, more, factor in (
                (up, max(bias, 0), o.get("alpha", 1.0)),
                (down, min(bias, 0), -o.get("beta", 0.0)),
            ):
                below = sum(parts) + more
                for j in range(len(x)):
                    out[j] += factor * parts[j] / below * r[k] if below else 0.0
            continue
        elif rule.name == "w_square":
            parts = [w[k][j] ** 2 for j in range(len(x))]
            below = sum(parts) + bias**2
        elif rule.name == "flat":
            parts = counted[k]
            below = sum(parts)
        else:
            low, high = rule.options[0][1], rule.options[1][1]
            parts = [z[j] - low * max(w[k][j], 0) - high * min(w[k][j], 0) for j in range(len(x))]
            below = sum(parts)
        for j in range(len(x)):
            out[j] += parts[j] / below * r[k] if below else 0.0
    return out


def matrix(f, shape):
    """A linear map as a matrix, outputs x inputs."""
    size = int(torch.tensor(shape).prod())
    basis = torch.eye(size, dtype=torch.float64).view(size, *shape)
    return f(basis).flatten(1).T


MAPS = {
    "dense": ((1, 2, 3), (4, 6), lambda x, w, b: F.linear(x.flatten(1), w, b)),
    "matmul": ((1, 2, 3), (3, 5), lambda x, w, b: torch.matmul(x, w) + (0 if b is None else b)),
    "addmm": ((1, 2, 3), (6, 4), lambda x, w, b: x.flatten(1) @ w if b is None else torch.addmm(b, x.flatten(1), w)),
    "conv1d": ((2, 1, 7), (3, 2, 3), lambda x, w, b: F.conv1d(x.flatten(2), w, b, stride=2, padding=1)),
    "conv2d": ((4, 4, 5), (2, 2, 3, 2), lambda x, w, b: F.conv2d(x, w, b, (2, 1), (1, 2), (1, 2), 2)),
    "same": ((1, 4, 5), (2, 1, 2, 4), lambda x, w, b: F.conv2d(x, w, b, padding="same")),
    "same, odd": ((1, 4, 5), (2, 1, 3, 3), lambda x, w, b: F.conv2d(x, w, b, padding="same", dilation=2)),
    "valid": ((1, 4, 5), (2, 1, 2, 3), lambda x, w, b: F.conv2d(x, w, b, padding="valid")),
    "conv3d": ((2, 2, 9), (2, 1, 2, 2, 2), lambda x, w, b: F.conv3d(x.view(-1, 2, 2, 3, 3), w, b, 1, 1, 1, 2)),
    "transposed": ((4, 2, 3), (4, 1, 3, 2), lambda x, w, b: F.conv_transpose2d(x, w, b, 2, 1, 1, 2)),
    "transposed 1d": ((3, 1, 4), (3, 2, 3), lambda x, w, b: F.conv_transpose1d(x.flatten(2), w, b, 2, dilation=2)),
}
CHANNELS = {"transposed": 2, "matmul": 5, "addmm": 4, "transposed 1d": 2}
RULES = [
    zero(), zero(bias=False), epsilon(0.3), epsilon(0.3, bias=False), gamma(0.7), gamma(0.7, bias=False),
    alpha_beta(), alpha_beta(1.5, 0.5, bias=False), z_plus(), w_square(), w_square(bias=False), flat(),
    z_box(-4, 5), z_box(0, 5),
]  # fmt: skip


def bounds_of(rule, x):
    ends = dict(rule.options) if rule.name == "z_box" else {}
    return {end: torch.full_like(x, ends[end]) for end in ("low", "high") if end in ends}


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("biased", [False, True], ids=["no bias", "bias"])
@pytest.mark.parametrize("signed", [True, False], ids=["signed", "behind a ReLU"])
def test_against_the_formulas(name, biased, signed):
    shape, of_weight, function = MAPS[name]
    if name == "matmul" and biased:
        pytest.skip("its bias is added by another function")
    w = image(*of_weight, seed=1, signed=True)
    b = image(CHANNELS.get(name, of_weight[0]), seed=2, signed=True) if biased else None
    net = Net(lambda net, x: function(x if signed else x.relu(), net.w, net.b), w=w, b=b)
    x = image(1, *shape, seed=3, signed=signed) + (0 if signed else 0.1)
    y = net(x)
    start = image(*y.shape[1:], seed=4, signed=True)
    full = matrix(lambda basis: function(basis, w, None), shape).tolist()
    counted = matrix(lambda basis: function(basis, torch.ones_like(w), None), shape).tolist()
    added = (y - function(x, w, None)).flatten().tolist()
    for rule in RULES:
        if rule.name == "z_box" and (dict(rule.options)["low"] < 0) != signed:
            continue  # a ReLU raises a bound below 0
        kind = "first" if rule.name == "z_box" else "linear" if name in ("dense", "matmul", "addmm") else "conv"
        bounds = bounds_of(rule, x)
        found = shares(net, x, {kind: rule}, start, **bounds)
        slow = slowly(rule, x.flatten().tolist(), full, added, counted, (y * start).flatten().tolist())
        assert found.flatten().tolist() == pytest.approx(slow, rel=1e-6, abs=1e-6), rule


def test_a_large_gamma_is_z_plus():
    net, x = dense(BOTH), torch.tensor(X).double().view(1, 1, 1, 2)
    close(shares(net, x, {"linear": gamma(1e9)}), shares(net, x, {"linear": z_plus()}), 1e-6)


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("signed", [True, False], ids=["image", "behind a ReLU"])
def test_single_precision_is_enough(rule, signed):
    """Also where all that speaks for or against an output is 0 or nearly so: many pixels of a digit are black."""
    torch.manual_seed(0)
    net = Net(lambda net, x: net.c(x if signed else x.relu()), c=nn.Conv2d(1, 16, 3, padding=1))
    x = image(1, 1, 9, 9) * (image(1, 1, 9, 9, seed=5) > 0.7)
    bounds = bounds_of(rule, x)
    key = "first" if bounds else "conv"
    precise = relevance(net, x, Whole(), {key: rule}, **bounds)[0]
    rough = relevance(net.float(), x.float(), Whole(), {key: rule}, **{k: v.float() for k, v in bounds.items()})[0]
    close(rough.double(), precise, 2e-3)
