"""Captum computes the same where the backward is changed: guided backprop, deconvolution, DeepLIFT."""

from __future__ import annotations

import pytest

pytest.importorskip("captum")

import captum.attr
import torch
from torch import nn
from torch.nn import functional as F

import pellucid

from .networks import agree, classes, for_peer, network, pictures, scattered


class Net(nn.Module):
    """Modules alone, each used once, as Captum needs it; without max pooling, where its rule does not add up."""

    def __init__(self, *activations: nn.Module) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 8, 3, stride=2)
        self.norm = nn.BatchNorm2d(6)
        self.act1, self.act2, self.act3 = activations
        self.pool = nn.AvgPool2d(2)
        self.fc1, self.fc2 = nn.Linear(8 * 9, 7), nn.Linear(7, 5)

    def forward(self, x):
        x = self.act1(self.norm(self.conv1(x)))
        x = self.pool(self.act2(self.conv2(x)))
        return self.fc2(self.act3(self.fc1(x.flatten(1))))


def made(*activations):
    torch.manual_seed(3)
    return scattered(Net(*activations)).double()


def images(seed=4):
    return torch.randn(2, 3, 14, 14, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("name", ["small", "resnet18"])
@pytest.mark.parametrize("method, peer", [
    ("guided_backprop", captum.attr.GuidedBackprop), ("deconvnet", captum.attr.Deconvolution),
])  # fmt: skip
def test_guided_backprop_and_deconvolution(name, method, peer):
    theirs = for_peer(network(name))
    if name == "resnet18":  # Captum sees a module's last call alone: give each call a ReLU of its own
        for block in (module for module in theirs.modules() if type(module).__name__ == "BasicBlock"):
            block.relu2 = nn.ReLU()
            block.forward = lambda x, b=block: b.relu2(
                b.bn2(b.conv2(b.relu(b.bn1(b.conv1(x))))) + (x if b.downsample is None else b.downsample(x))
            )
        for module in theirs.modules():
            if isinstance(module, nn.ReLU):
                module.inplace = False
    found = getattr(pellucid, method)(network(name), pictures(name), classes()).values
    with pytest.warns(UserWarning, match="Setting backward hooks on ReLU"):
        expected = peer(theirs).attribute(pictures(name).requires_grad_(), target=classes())
    agree(found, expected, 1e-10)


@pytest.mark.parametrize("activations", [
    (nn.ReLU(), nn.ReLU(), nn.ReLU()), (nn.Tanh(), nn.ELU(), nn.Softplus()), (nn.LeakyReLU(), nn.Sigmoid(), nn.ReLU()),
], ids=["relu", "smooth", "mixed"])  # fmt: skip
@pytest.mark.filterwarnings("ignore:Setting forward")
def test_deeplift(activations):
    net, start = made(*activations), images(5) * 0.3
    result = pellucid.deeplift(net, images(), [3, 1], baseline=start)
    expected = captum.attr.DeepLift(for_peer(net)).attribute(
        images().requires_grad_(), start.requires_grad_(), target=[3, 1]
    )
    agree(result.values, expected, 1e-9)
    assert (result.convergence_delta.abs() < 1e-10).all()


@pytest.mark.filterwarnings("ignore:Setting forward")
def test_deep_shap():
    net, background = (
        made(nn.ReLU(), nn.ELU(), nn.ReLU()),
        images(6).repeat(2, 1, 1, 1) * torch.linspace(0, 1, 4).view(-1, 1, 1, 1),
    )
    result = pellucid.deep_shap(net, images(), [3, 1], background=background)
    expected = captum.attr.DeepLiftShap(for_peer(net)).attribute(images(), background, target=torch.tensor([3, 1]))
    agree(result.values, expected, 1e-9)


def test_deeplift_adds_up_with_max_pooling_products_and_shortcuts():
    class Harder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.conv2 = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
            self.gate, self.fc = nn.Linear(6, 6), nn.Linear(6, 5)

        def forward(self, x):
            x = F.max_pool2d(F.relu(self.conv1(x)), 3, 2)
            x = x + F.silu(self.conv2(x))
            x = x * torch.sigmoid(self.gate(x.mean((2, 3))))[:, :, None, None]
            return self.fc(F.adaptive_max_pool2d(x, 1).flatten(1))

    torch.manual_seed(3)
    net = scattered(Harder()).double()
    for seed in range(3):
        result = pellucid.deeplift(net, images(seed), [3, 1], baseline=images(seed + 9))
        assert result.values.abs().amax() > 1e-3 and (result.convergence_delta.abs() < 1e-10).all()
