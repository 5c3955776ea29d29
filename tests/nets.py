"""Small networks that several tests use."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import pellucid

LABELS = ("castle", "koala", "lamp post")


def small_net(seed: int = 0, channels: int = 3) -> nn.Sequential:
    """Two convolutions with batch norm of arbitrary statistics, global average pooling, one linear layer."""
    torch.manual_seed(seed)
    net = nn.Sequential()
    net.add_module("conv1", nn.Conv2d(channels, 4, 3, padding=1))
    net.add_module("norm1", nn.BatchNorm2d(4))
    net.add_module("relu1", nn.ReLU())
    net.add_module("pool1", nn.MaxPool2d(2))
    net.add_module("conv2", nn.Conv2d(4, 5, 3, padding=1))
    net.add_module("relu2", nn.ReLU())
    net.add_module("pool2", nn.AdaptiveAvgPool2d(1))
    net.add_module("flatten", nn.Flatten())
    net.add_module("fc", nn.Linear(5, len(LABELS)))
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
                module.weight.uniform_(0.5, 2)
                module.bias.normal_()
            if isinstance(module, nn.Linear):
                module.weight.mul_(4)
    return net.eval()


def small_model(seed: int = 0, dtype: torch.dtype = torch.float64) -> pellucid.Classifier:
    net = small_net(seed).to(dtype)
    return pellucid.wrap(net, mean=[0.4, 0.5, 0.6], std=[0.2, 0.25, 0.3], size=12, labels=LABELS, name="small")


def some_images(count: int = 3, seed: int = 1, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(count, 3, 12, 12, generator=torch.Generator().manual_seed(seed)).to(dtype)


class Styles(nn.Module):
    """The function of `small_net` in another style of writing: in place, functional, or one ReLU for all."""

    def __init__(self, net: nn.Sequential, style: str) -> None:
        super().__init__()
        self.conv1, self.norm1, self.conv2, self.fc = net.conv1, net.norm1, net.conv2, net.fc
        self.relu = nn.ReLU(inplace=True)
        self.style = style
        self.eval()

    def activate(self, x: Tensor) -> Tensor:
        if self.style == "module":
            return self.relu(x)
        return F.relu(x) if self.style == "function" else x.relu_()

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.activate(self.norm1(self.conv1(x))), 2)
        return self.fc(self.activate(self.conv2(x)).mean((2, 3)))
