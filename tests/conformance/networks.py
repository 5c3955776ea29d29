"""Networks of real architectures whose every weight is random, and what comparing with other implementations takes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from unittest import mock

import numpy as np
import torch
import torchvision
from torch import Tensor, nn

import pellucid

from ..nets import small_net

CLASSES = 10
SIZES = {"small": (12, 15), "resnet18": (64, 96), "vit": (64, 64), "vit_b_16": (32, 32)}
QUICK = ("small", "resnet18", "vit")


@cache
def network(name: str) -> nn.Module:
    """A network in float64 and evaluation mode; the same one for all who ask, so leave it as it is."""
    if name == "small":
        return small_net().double()
    torch.manual_seed(0)
    if name == "vit":  # as vit_b_16, which is slow in float64, with fewer and narrower layers
        net = torchvision.models.VisionTransformer(SIZES[name][0], 16, 4, 4, 96, 192, num_classes=CLASSES)
    elif name == "vit_b_16":
        net = torchvision.models.vit_b_16(image_size=SIZES[name][0], num_classes=CLASSES)
    else:
        net = getattr(torchvision.models, name)(num_classes=CLASSES)
    return scattered(net).double()


def scattered(net: nn.Module) -> nn.Module:
    """Random numbers in place of the zeros and ones that a new network has in norms, biases, tokens and ViT's head."""
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.2)
                module.running_var.uniform_(0.5, 2)
            for name, weight in module.named_parameters(recurse=False):
                if name == "weight" and weight.ndim == 1:
                    weight.uniform_(0.5, 1.5)
                elif not weight.any():
                    weight.normal_(0, 0.2 if weight.ndim == 1 else weight.shape[-1] ** -0.5)
    return net.eval()


def for_peer(net: nn.Module) -> nn.Module:
    """The same weights in modules of their own, frozen: what a peer hangs on it or leaves behind stays there."""
    frozen = {id(p): nn.Parameter(p.detach(), requires_grad=False) for p in net.parameters()}
    return copy.deepcopy(net, frozen)


def magnified(factor: float) -> nn.Module:
    """The small network with the activations of its first ReLU magnified, and what follows made up for it.

    With a power of two the function is the same, bit by bit.
    """
    net = copy.deepcopy(network("small"))
    with torch.no_grad():
        net.norm1.weight.mul_(factor)
        net.norm1.bias.mul_(factor)
        net.conv2.weight.div_(factor)
    return net


def pictures(name: str, count: int = 2) -> Tensor:
    """Images of the size of a network, of both signs."""
    return torch.randn(count, 3, *SIZES[name], generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def classes(count: int = 2) -> list[int]:
    """Another class for each image."""
    return [2, 1, 0][:count]


OBJECTIVES: dict[str, tuple[Callable[..., object], Callable[[Tensor], Tensor]]] = {
    "logit": (pellucid.logit, lambda output: output),
    "probability": (pellucid.probability, lambda output: output.softmax(-1)),
}
"""By name, the objective in pellucid and what a peer has to do to the output of the network."""


@contextmanager
def in_double() -> Iterator[None]:
    """Keep peers from cutting numbers to float32: by the default type, by `.float()`, by `np.float32`."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with mock.patch.object(Tensor, "float", Tensor.double), mock.patch.object(np, "float32", np.float64):
            yield
    finally:
        torch.set_default_dtype(before)


def agree(found: Tensor, expected: Tensor | np.ndarray, tolerance: float = 1e-10) -> None:
    """Two results of one shape, not all zero, as close as `tolerance` of the largest value of each image."""
    expected = torch.as_tensor(expected)
    assert found.shape == expected.shape and found.dtype == torch.float64
    largest, off = (values.flatten(1).abs().amax(1) for values in (expected, found - expected))
    assert largest.any()
    assert (off <= tolerance * largest).all(), f"off by {float((off / largest).max()):.2g} of the largest value"
