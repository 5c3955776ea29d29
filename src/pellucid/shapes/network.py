"""A small network that knows the shapes: plain enough that class activation maps are exact on it."""

from __future__ import annotations

from importlib.resources import files

import torch
from torch import Tensor, nn

from .scenes import CLASSES

MEAN: tuple[float, float, float] = (0.5, 0.5, 0.5)
STD: tuple[float, float, float] = (0.25, 0.25, 0.25)


class Block(nn.Module):
    """Convolution 3 x 3, batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.relu(self.norm(self.conv(x)))
        return out


class ShapesNet(nn.Module):
    """Eight convolutions with batch norm and ReLU, the mean over the image, one linear layer.

    Takes float images N x 3 x 96 x 96 already normalized by `MEAN` and `STD` and returns logits N x 10,
    one for each of `CLASSES`. The output of `features` is N x 72 x 12 x 12. The weights are random;
    `trained_network()` returns the network that has learned.

    Example:
        >>> import torch
        >>> ShapesNet().eval()(torch.zeros(2, 3, 96, 96)).shape
        torch.Size([2, 10])
    """

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            Block(3, 16, stride=2),
            Block(16, 24),
            Block(24, 40, stride=2),
            Block(40, 48),
            Block(48, 64, stride=2),
            Block(64, 72),
            Block(72, 72),
            Block(72, 72),
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(72, len(CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.classifier(self.flatten(self.pool(self.features(x))))
        return out


def load_weights() -> dict[str, Tensor]:
    """The trained weights that ship with the package, as a state dict for `ShapesNet`.

    Example:
        >>> load_weights()["classifier.weight"].shape
        torch.Size([10, 72])
    """
    import safetensors.torch

    data = files(__package__).joinpath("weights.safetensors").read_bytes()
    weights: dict[str, Tensor] = safetensors.torch.load(data)
    return weights


def trained_network() -> ShapesNet:
    """A `ShapesNet` with the weights that ship with the package, in evaluation mode.

    Example:
        >>> import torch
        >>> from pellucid.shapes import CLASSES, MEAN, STD, scenes
        >>> batch = scenes(10)
        >>> logits = trained_network()((batch.images - MEAN[0]) / STD[0])
        >>> bool((logits.argmax(1) == batch.labels).float().mean() >= 0.9)
        True
    """
    with torch.random.fork_rng(devices=[]):  # the random start must not disturb the caller's random numbers
        network = ShapesNet()
    network.load_state_dict(load_weights())
    return network.eval()
