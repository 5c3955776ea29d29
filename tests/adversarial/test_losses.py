"""Losses against autograd of their definitions, and where textbook ones fail."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from pellucid.adversarial.attack.losses import BY_NAME, cross_entropy, dlr, margin


def outputs(scale=1.0, classes=6):
    return (scale * torch.randn(8, classes, generator=torch.Generator().manual_seed(0))).double().requires_grad_()


def slope(values, z):
    return torch.autograd.grad(values.sum(), z)[0]


@pytest.mark.parametrize("targeted", [False, True])
def test_cross_entropy_has_the_direction_of_cross_entropy(targeted):
    z, labels = outputs(), torch.arange(8) % 6
    targets = (labels + 2) % 6 if targeted else None
    ours = slope(cross_entropy(z, labels, targets), z)
    theirs = slope(
        -F.cross_entropy(z, targets, reduction="none") if targeted else F.cross_entropy(z, labels, reduction="none"), z
    )
    p = z.softmax(1).gather(1, (targets if targeted else labels)[:, None])
    torch.testing.assert_close(ours * (1 - p), theirs)


def test_cross_entropy_grows_with_cross_entropy():
    z, labels = outputs(), torch.zeros(8, dtype=torch.long)
    textbook = F.cross_entropy(z, labels, reduction="none")
    torch.testing.assert_close(F.softplus(cross_entropy(z, labels)), textbook)


def test_cross_entropy_does_not_vanish_where_the_network_is_sure():
    z = torch.tensor([[300.0, 0.0, 100.0]], requires_grad=True)
    label = torch.tensor([0])
    assert not slope(F.cross_entropy(z, label), z).any()
    torch.testing.assert_close(slope(cross_entropy(z, label), z), torch.tensor([[-1.0, 0.0, 1.0]]))


def test_margin_by_hand_also_where_all_outputs_are_negative():
    z = torch.tensor([[-5.0, -2.0, -9.0]])
    assert margin(z, torch.tensor([1])).item() == -3 and margin(z, torch.tensor([0])).item() == 3
    assert margin(z, torch.tensor([0]), torch.tensor([2])).item() == -7


def test_dlr_by_hand_and_its_invariance():
    z = torch.tensor([[1.0, 5.0, 3.0, 0.0]]).double()
    assert dlr(z, torch.tensor([1])).item() == pytest.approx(-(5 - 3) / (5 - 1))
    assert dlr(z, torch.tensor([0])).item() == pytest.approx(-(1 - 5) / (5 - 1))
    assert dlr(z, torch.tensor([1]), torch.tensor([3])).item() == pytest.approx(-(5 - 0) / (5 - (1 + 0) / 2))
    for targets in (None, torch.tensor([3])):
        torch.testing.assert_close(dlr(7 * z + 3, torch.tensor([1]), targets), dlr(z, torch.tensor([1]), targets))


def test_dlr_needs_classes():
    with pytest.raises(ValueError, match="needs 3 classes, the network has 2: take 'ce' or 'margin'"):
        dlr(torch.zeros(1, 2), torch.tensor([0]))
    with pytest.raises(ValueError, match="needs 4 classes with a target"):
        dlr(torch.zeros(1, 3), torch.tensor([0]), torch.tensor([1]))


@pytest.mark.parametrize("name", BY_NAME)
@pytest.mark.parametrize("targeted", [False, True])
def test_gradients_are_right(name, targeted):
    z, labels = outputs(), torch.arange(8) % 6
    targets = (labels + 2) % 6 if targeted else None
    assert torch.autograd.gradcheck(lambda z: BY_NAME[name](z, labels, targets), z)
