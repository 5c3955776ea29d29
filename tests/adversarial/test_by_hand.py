"""Attacks on networks whose answer is known on paper."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import pellucid
from pellucid.adversarial.attack.budgets import distances

W = [[1.0, -2.0, 0.5, 0.0]]
X = [[0.5, 0.25, 0.0, 1.0]]


def linear(rows=W, bias=0.0, dtype=torch.float64):
    """Two classes: z_0 = 0 and z_1 = w.x + b, over 1 x 1 x 2 x 2 images."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).to(dtype)
    with torch.no_grad():
        net[1].weight.copy_(torch.tensor([[0.0] * 4, *rows]))
        net[1].bias.copy_(torch.tensor([0.0, bias]))
    return net.eval()


def image(values=X, dtype=torch.float64):
    return torch.tensor(values, dtype=dtype).view(-1, 1, 2, 2)


def moved(result):
    return (result.images - result.originals).flatten(1)


# z_1 = 0.5 - 0.5 + 0 + b = b: with b = -0.6 the image is of class 0 and 0.6 must be gained.
NET = {"bias": -0.6}


def test_fgsm():
    result = pellucid.fgsm(linear(**NET), image(), 0, eps=0.2)
    # +, -, +, and nothing where the weight is zero: it gains 0.2 + 0.4 + 0.1.
    torch.testing.assert_close(moved(result), torch.tensor([[0.2, -0.2, 0.2, 0.0]]).double())
    assert result.success.item() and result.call.forward == 2 and result.call.backward == 1
    assert not pellucid.fgsm(linear(**NET), image(), 0, eps=0.16).success.item()  # gains 0.56


def test_fgsm_l2_and_l1():
    w = torch.tensor(W).double()
    result = pellucid.fgsm(linear(**NET), image(), 0, eps=0.2, norm="l2")
    torch.testing.assert_close(moved(result), 0.2 * w / w.norm())
    # The weight of -2 first, to its bound at 0, then the weight of 1.
    result = pellucid.fgsm(linear(**NET), image(), 0, eps=0.4, norm="l1")
    torch.testing.assert_close(moved(result), torch.tensor([[0.15, -0.25, 0.0, 0.0]]).double())


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_pgd_goes_to_the_best_image_of_the_ball(norm):
    eps = {"linf": 0.3, "l2": 0.25, "l1": 0.4}[norm]
    net = linear(bias=-5.0)  # never fooled, so that all steps are taken
    result = pellucid.pgd(net, image(), 0, eps=eps, norm=norm, steps=100, random_start=norm != "l2")
    best = {
        "linf": [0.3, -0.25, 0.3, 0.0],  # the second pixel is stopped by 0
        "l1": [0.15, -0.25, 0.0, 0.0],
    }
    if norm == "l2":
        w = torch.tensor(W).double()
        torch.testing.assert_close(moved(result) @ w.T, 0.25 * w.norm()[None, None], rtol=0.02, atol=0)
    else:
        expected = torch.tensor([best[norm]]).double()
        torch.testing.assert_close(moved(result)[:, :3], expected[:, :3], rtol=0, atol=0.02)


def test_deepfool_is_exact_on_a_linear_network():
    w = torch.tensor(W).double()
    net = linear([[1.0, -0.5, 0.5, 0.0]], bias=-0.7)  # z_1 = 0.5 - 0.125 - 0.7 = -0.325
    w = torch.tensor([[1.0, -0.5, 0.5, 0.0]]).double()
    result = pellucid.deepfool(net, image(), 0, overshoot=0.0)
    torch.testing.assert_close(moved(result), (0.325 + 1e-4) * w / w.square().sum(), rtol=1e-6, atol=1e-9)
    result = pellucid.deepfool(net, image(), 0, norm="linf", overshoot=0.0)
    torch.testing.assert_close(moved(result), (0.325 + 1e-4) * w.sign() / 2.0, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("norm, least", [("linf", 0.6 / 3.5), ("l1", 0.25 + 0.1), ("l2", None)])
def test_fab_finds_the_least_change(norm, least):
    """l1: 0.5 from the second pixel, which stops at 0, and 0.1 from the first."""
    result = pellucid.fab(linear(**NET), image(), 0, norm=norm, steps=60)
    least = 0.6 / torch.tensor(W).norm().item() if least is None else least
    if norm == "l2":  # second pixel: 0.6 * 2 / 5.25 = 0.229, which is in bounds
        assert 0.6 * 2 / 5.25 < 0.25
    assert result.success.item()
    assert least <= result.distance(norm).item() < 1.01 * least


@pytest.mark.slow
def test_carlini_wagner_finds_the_least_change():
    least = 0.6 / torch.tensor(W).norm().item()
    result = pellucid.carlini_wagner(linear(**NET), image(), 0, searches=8)
    assert least <= result.distance("l2").item() < 1.02 * least


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_hop_skip_jump_finds_the_least_change(norm):
    result = pellucid.hop_skip_jump(linear(**NET), image(), 0, norm=norm, steps=25)
    least = 0.6 / torch.tensor(W).norm().item() if norm == "l2" else 0.6 / 3.5
    assert result.success.item() and result.call.backward == 0
    assert least <= result.distance(norm).item() < 1.1 * least


@pytest.mark.slow
def test_carlini_wagner_with_confidence_and_all_negative_outputs():
    class Lower(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = linear(**NET)

        def forward(self, x):
            return self.net(x) - 50

    result = pellucid.carlini_wagner(Lower().eval(), image(), 0, confidence=0.3, searches=8)
    margin = linear(**NET)(result.images)[0, 1].item()
    assert 0.3 <= margin < 0.35


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["fgsm", "pgd", "apgd", "deepfool", "carlini_wagner", "fab", "square", "hop_skip_jump"]
)
def test_pixels_at_exactly_0_and_1_can_move(name):
    """All of them are, and all must move for the network to be fooled."""
    net = linear([[1.0, -1.0, 1.0, -1.0]], bias=-2.0 * 0.2 * 2 + 2.0)
    values = image([[0.0, 1.0, 0.0, 1.0]])  # z_1 = -2 + 1.2: 0.8 must be gained, 0.2 by each
    options = {"eps": 0.25} if name in ("fgsm", "pgd", "apgd", "square") else {}
    result = pellucid.CATALOGUE[name].function(net, values, 0, **options)
    assert result.success.item() and result.distance("l0").item() == 4


def test_square_gets_there_by_trying():
    result = pellucid.square(linear(**NET), image(), 0, eps=0.2, queries=200)
    assert result.success.item() and result.call.backward == 0
    # More than the budget of 0.7 that it could gain is not gained by any query.
    assert not pellucid.square(linear(bias=-0.75), image(), 0, eps=0.2, queries=200).success.item()


def test_apgd_halves_its_steps():
    """The best image of a concave loss lies inside: steps of 2 eps alone would jump over it."""

    class Bowl(nn.Module):
        def forward(self, x):
            d = (x - 0.53).square().flatten(1).sum(1)
            return torch.stack([torch.zeros_like(d), -1 - d], 1)

    start = torch.full((1, 1, 2, 2), 0.5).double()
    result = pellucid.apgd(Bowl().eval(), start, 0, eps=0.2, steps=100)
    assert (result.images - 0.53).abs().max() < 2e-3


@pytest.mark.parametrize("random_start", [True, False])
def test_apgd_in_l1_goes_to_the_best_image_of_the_ball(random_start):
    """The weight of -2 first, to its bound at 0, then the weight of 1: also from three times the budget."""
    net = linear(bias=-5.0)  # never fooled, so that all steps are taken
    result = pellucid.apgd(net, image(), 0, eps=0.4, norm="l1", steps=60, random_start=random_start)
    torch.testing.assert_close(moved(result), torch.tensor([[0.15, -0.25, 0.0, 0.0]]).double(), rtol=0, atol=0.005)
    assert result.call.backward == 18 + 18 + 24  # the last image of each ball needs no gradient, the first one does
    few = pellucid.apgd(net, image(), 0, eps=0.4, norm="l1", steps=2)  # too few for three balls
    assert 0 < few.distance("l1").item() <= 0.4 and few.call.backward == 2


@pytest.mark.slow
def test_auto_attack_in_l1_needs_no_more_than_the_least_change():
    """0.25 from the second pixel, which stops at 0, and 0.1 from the first."""
    assert pellucid.auto_attack(linear(**NET), image(), 0, eps=0.36, norm="l1").success.item()
    result = pellucid.auto_attack(linear(**NET), image(), 0, eps=0.34, norm="l1", budget=0.1)
    assert not result.success.item() and result.distance("l1").item() <= 0.34


@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_square_in_other_norms(norm):
    size = torch.rand(1, 1, 12, 12, generator=torch.Generator().manual_seed(0)).double()
    net = nn.Sequential(nn.Flatten(), nn.Linear(144, 2)).double().eval()
    with torch.no_grad():
        net[1].weight.zero_()[1, 60:70] = 1.0
        net[1].bias.copy_(torch.tensor([0.0, -float(size.flatten()[60:70].sum()) - 0.3]))
    # 0.3 must be gained in ten pixels of the same weight.
    eps = {"l2": 1.5, "l1": 4.0}[norm]
    result = pellucid.square(net, size, 0, eps=eps, norm=norm, queries=1500)
    assert result.success.item() and result.distance(norm).item() <= eps
    none = {"l2": 0.3 / 10**0.5, "l1": 0.3}[norm] * 0.99
    assert not pellucid.square(net, size, 0, eps=none, norm=norm, queries=200).success.item()


def test_targeted_stops_at_the_first_step_that_fools():
    net = linear(**NET)
    result = pellucid.targeted(net, image(), target=1, step_size=0.05)
    margins = net(result.images)[0]
    gain = 0.05 * torch.tensor(W).norm().item()
    assert 0 < (margins[1] - margins[0]).item() <= gain + 1e-6
    assert result.call.backward == int(0.6 / gain) + 2  # the last one shows that it is fooled


def test_passes_of_pgd():
    """Ten gradients, the first of which predicts, and one look at the end; nothing else."""
    images = image().expand(3, -1, -1, -1).clone()
    result = pellucid.pgd(linear(bias=-5.0), images, 0, steps=10, random_start=False)
    assert (result.call.forward, result.call.backward) == (33, 30)
    result = pellucid.pgd(linear(bias=-5.0), images, 0, steps=10)
    assert (result.call.forward, result.call.backward) == (37, 30)  # one image twice, to see whether it is random


def test_restarts_only_for_those_that_stand():
    images = image([X[0], [0.5, 0.5, 0.0, 1.0]])  # the second lies further from the boundary
    net = linear(bias=-0.3)
    result = pellucid.pgd(net, images, 0, eps=0.1, steps=4, restarts=3, early_stop=True)
    assert result.success.tolist() == [True, False]
    assert result.queries[1] > 2 * result.queries[0]


def test_momentum_keeps_its_direction():
    """In a network whose gradient turns, the plain attack turns at once."""

    class Turning(nn.Module):
        def forward(self, x):
            z = x[:, 0, 0, 0]
            return torch.stack([torch.zeros_like(z), -1 - (z - 0.5).abs()], 1)

    start = torch.full((1, 1, 1, 1), 0.42).double()
    options = {"eps": 0.4, "steps": 3, "step_size": 0.05, "random_start": False}
    assert pellucid.pgd(Turning().eval(), start, 0, **options).images.item() == pytest.approx(0.47, abs=1e-6)
    # +1, +1, then +1 +1 -1 > 0: it goes on where the plain one has turned.
    assert pellucid.pgd(Turning().eval(), start, 0, momentum=1.0, **options).images.item() == pytest.approx(
        0.57, abs=1e-6
    )


def test_fgsm_where_float32_is_sure():
    """With an output 300 above the other, the gradient of the textbook's cross-entropy is exactly zero."""
    net = linear([[-400.0, 0.0, 0.0, 0.0]], bias=-100.0, dtype=torch.float32)
    x = image(dtype=torch.float32).requires_grad_()
    torch.nn.functional.cross_entropy(net(x), torch.tensor([0])).backward()
    assert not x.grad.any()
    assert pellucid.fgsm(net, image(dtype=torch.float32), 0, eps=0.1).images[0, 0, 0, 0] == pytest.approx(0.4)


def test_distances():
    result = pellucid.fgsm(linear(**NET), image(), 0, eps=0.2)
    assert {k: round(v.item(), 6) for k, v in result.distances.items()} == {
        "linf": 0.2, "l2": round((3 * 0.04) ** 0.5, 6), "l1": 0.6, "l0": 3,
    }  # fmt: skip
    assert torch.equal(result.distance("l1"), distances(result.originals, result.images, "l1"))
