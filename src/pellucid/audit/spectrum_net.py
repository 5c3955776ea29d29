"""The network behind `SpectrumClassifier`: what it sees of an image, made comparable, and one linear layer or a few
convolutions on it."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from .log_spectrum import azimuthal_average, half_spectrum, mirrored_sum, radii, whole_spectrum
from .moments import Moments

Features = Literal["spectrum", "pixels", "azimuthal"]
Head = Literal["linear", "cnn"]
FEATURES: tuple[Features, ...] = ("spectrum", "pixels", "azimuthal")
HEADS: tuple[Head, ...] = ("linear", "cnn")


class SpectrumNet(nn.Module):
    """logits = head((features(image) - mean) / std), element by element, with the moments of the training images.

    Args:
        features: "spectrum", "pixels" or "azimuthal".
        head: "linear" or "cnn".
        shape: C, H and W of the images.
        classes: how many.
        eps: what is added to amplitudes.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, features: Features, head: Head, shape: tuple[int, int, int], classes: int, eps: float) -> None:
        super().__init__()
        self.features, self.kind, self.shape, self.eps = features, head, shape, eps
        channels, height, width = shape
        self.size: tuple[int, ...] = shape
        if features == "spectrum":
            self.size = shape if head == "cnn" else (channels, height, width // 2 + 1)
        elif features == "azimuthal":
            self.size = (channels, int(radii(height, width).max()) + 1)
        # The same pattern may lie anywhere in an image, so that a convolution sees all places on one scale.
        scale = (channels, 1, 1) if features == "pixels" and head == "cnn" else self.size
        self.register_buffer("mean", torch.zeros(scale))
        self.register_buffer("std", torch.ones(scale))
        self.flatten = nn.Flatten()
        if head == "linear":
            self.linear = nn.Linear(int(torch.tensor(self.size).prod()), classes)
            nn.init.zeros_(self.linear.weight)  # of a convex loss: any start has the same end
            nn.init.zeros_(self.linear.bias)
        else:
            self.layers = nn.Sequential()
            for name, module in _convolutions(channels):
                self.layers.add_module(name, module)
            self.linear = nn.Linear(64 * 16, classes)

    def seen(self, images: Tensor) -> Tensor:
        """What the network sees of images, not normalised yet: N x features."""
        if self.features == "pixels":
            return images
        half = half_spectrum(images, self.eps).to(images.dtype)
        if self.features == "azimuthal":
            return azimuthal_average(half, images.shape[3])
        return half if self.kind == "linear" else whole_spectrum(half, images.shape[3], shift=True)

    def head(self, seen: Tensor) -> Tensor:
        """Logits from what `seen` gives."""
        x = (seen - self.mean) / self.std
        if self.kind == "cnn":
            x = self.layers(x)
        logits: Tensor = self.linear(self.flatten(x))
        return logits

    def forward(self, images: Tensor) -> Tensor:
        if tuple(images.shape[1:]) != self.shape:
            raise ValueError(
                f"images are {' x '.join(map(str, images.shape[1:]))}, expected {' x '.join(map(str, self.shape))}: "
                "a frequency is another one in an image of another size"
            )
        return self.head(self.seen(images))

    def normalise(self, moments: Moments) -> None:
        """Take over mean and standard deviation of what is seen of the training images."""
        mean, std = moments.both()
        if self.mean.shape != mean.shape:  # one number for all places of a channel
            spread = (std.square() + (mean - mean.mean((1, 2), keepdim=True)).square()).mean((1, 2), keepdim=True)
            mean, std = mean.mean((1, 2), keepdim=True), spread.sqrt()
        # What never changes in training says nothing: it is 0, and a change in a test image is not blown up.
        std = torch.where(std > 1e-6 * std.max().clamp(min=1e-12), std, 1.0)
        self.mean.copy_(mean)
        self.std.copy_(std)

    def weight_pictures(self) -> Tensor:
        """Of a linear head: what each normalised element adds, less the mean over classes, K x C x H x W (or x R).

        Of the spectrum: all frequencies, 0 in the middle; the weight of a pair of mirrored ones is on both by halves.
        """
        if self.kind != "linear":
            raise ValueError("a network of convolutions has no weight for each frequency: explain images instead")
        weight = self.linear.weight.detach().reshape(-1, *self.size)
        weight = weight - weight.mean(0)
        return mirrored_sum(weight, self.shape[2]) if self.features == "spectrum" else weight


def _convolutions(channels: int) -> list[tuple[str, nn.Module]]:
    widths = (channels, 16, 32, 64)
    layers: list[tuple[str, nn.Module]] = []
    for number in (1, 2, 3):
        layers += [
            (f"conv{number}", nn.Conv2d(widths[number - 1], widths[number], 3, padding=1)),
            (f"relu{number}", nn.ReLU()),
            (f"pool{number}", nn.MaxPool2d(2) if number < 3 else nn.AdaptiveAvgPool2d(4)),
        ]
    return layers
