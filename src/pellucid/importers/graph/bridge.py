"""What the bridges to several frameworks share: the layers that they show."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn


class Layer(nn.Module):
    """A layer of a bridged network: gives what it is given, so that hooks can look and change."""

    def forward(self, x: Tensor) -> Tensor:
        return x


def add_layers(net: nn.Module, names: Iterable[str]) -> None:
    """Put layers of dotted names into a network, each in those whose names it begins with."""
    for name in names:
        holder = net
        for part in name.split("."):
            if part not in holder._modules:
                holder.add_module(part, Layer())
            holder = holder.get_submodule(part)


def watched(layer: nn.Module) -> bool:
    """Whether hooks look at a layer."""
    return bool(layer._forward_hooks or layer._forward_pre_hooks)
