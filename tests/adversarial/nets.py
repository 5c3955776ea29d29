"""A small network that sees different classes in different images, and is easy to fool."""

from __future__ import annotations

import torch
from torch import nn

import pellucid

from ..nets import LABELS, small_net, some_images


def small_net_of_all_classes() -> nn.Sequential:
    """The small network with its last bias chosen so that noise images fall into all its classes."""
    net = small_net().double()
    images = (some_images(6) - 0.5) / 0.25
    with torch.no_grad():
        net.fc.weight *= 20
        net.fc.bias -= net(images).mean(0)
    return net


def small_model(dtype: torch.dtype = torch.float64) -> pellucid.Classifier:
    net = small_net_of_all_classes().to(dtype)
    return pellucid.wrap(net, mean=[0.5] * 3, std=[0.25] * 3, size=12, labels=LABELS, name="small")
