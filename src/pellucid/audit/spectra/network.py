"""The network behind `SpectrumClassifier`: what it sees of an image, made comparable, and one linear layer or a few
convolutions on it."""

from __future__ import annotations

import copy
import math
from typing import Literal

import torch
from torch import Tensor, nn

from .fourier import azimuthal_average, half_amplitudes, hann, mirrored_sum, radii, whole_spectrum
from .moments import Moments

Features = Literal["spectrum", "pixels", "azimuthal"]
Head = Literal["linear", "cnn"]
FEATURES: tuple[Features, ...] = ("spectrum", "pixels", "azimuthal")
HEADS: tuple[Head, ...] = ("linear", "cnn")
Window = Literal["hann", "none"]
WINDOWS: tuple[Window, ...] = ("hann", "none")


def check_kind(features: str, network: str, window: str) -> None:
    """Refuse what is no network of this file.

    Raises:
        ValueError: naming what there is.
    """
    for name, value, known in (
        ("features", features, FEATURES), ("network", network, HEADS), ("window", window, WINDOWS),
    ):  # fmt: skip
        if value not in known:
            raise ValueError(f"{name} is {value!r}, expected one of {', '.join(known)}")
    if features == "azimuthal" and network == "cnn":
        raise ValueError("the azimuthal average is a curve, and the convolutions here take pictures: network 'linear'")


class SpectrumNet(nn.Module):
    """logits = head((features(window x image) - mean) / std), element by element, with the moments of training images.

    Args:
        features: "spectrum", "pixels" or "azimuthal".
        head: "linear" or "cnn".
        shape: C, H and W of the images.
        classes: how many.
        eps: what is added to amplitudes; by default what rounding to 8 bits leaves of them.
        window: "hann" or "none"; pixels are seen as they are.
    """

    mean: Tensor
    std: Tensor
    window: Tensor | None

    def __init__(
        self,
        features: Features,
        head: Head,
        shape: tuple[int, int, int],
        classes: int,
        eps: float | None = None,
        window: Window = "hann",
    ) -> None:
        super().__init__()
        channels, height, width = shape
        self.features, self.kind, self.shape = features, head, shape
        self.windowed: Window = "none" if features == "pixels" else window
        shown = hann(height, width) if self.windowed == "hann" else None
        self.register_buffer("window", shown, persistent=False)
        # Each pixel is off by up to half of 1 / 255, evenly: its variance is (1 / 255)^2 / 12, and those of all add up.
        squares = float(height * width if shown is None else shown.double().square().sum())
        self.eps = math.sqrt(squares / 12) / 255 if eps is None else float(eps)
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
            self.linear = nn.Linear(math.prod(self.size), classes)
            nn.init.zeros_(self.linear.weight)  # of a convex loss: any start has the same end
            nn.init.zeros_(self.linear.bias)
        else:
            self.layers = nn.Sequential()
            for name, module in _convolutions(channels):
                self.layers.add_module(name, module)
            self.linear = nn.Linear(64 * 16, classes)

    def under_window(self, images: Tensor) -> Tensor:
        """window x image."""
        return images if self.window is None else images * self.window.to(images.dtype)

    def seen(self, images: Tensor) -> Tensor:
        """What the network sees of images, not normalized yet: N x features."""
        if self.features == "pixels":
            return images
        return self._laid_out(self._amplitudes(images).add(self.eps).log())

    def normalized(self, seen: Tensor) -> Tensor:
        """(seen - mean) / std."""
        return (seen - self.mean) / self.std

    def head(self, x: Tensor) -> Tensor:
        """Logits from what is seen, normalized."""
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
        if self.features == "pixels":
            return self.head(self.normalized(images))
        # log(a) - mean is log(a / exp(mean)). With the mean inside, the logarithm is an activation of what is 1 for an
        # amplitude as usual, and rules for relevance hand on to the amplitude what its logarithm adds to a class.
        usual = self.mean
        if self.features == "azimuthal":
            usual = usual[:, radii(self.shape[1], self.shape[2]).to(usual.device)]
        amplitudes = self._amplitudes(images)
        if self.features == "spectrum":
            amplitudes = self._laid_out(amplitudes)
        logs = ((amplitudes + self.eps) * (-usual).exp()).log()
        if self.features == "azimuthal":
            logs = self._laid_out(logs)
        return self.head(logs / self.std)

    def _amplitudes(self, images: Tensor) -> Tensor:
        return half_amplitudes(self.under_window(images)).to(images.dtype)

    def _laid_out(self, half: Tensor) -> Tensor:
        """Half a spectrum as the head takes it: averaged over directions, as it is, or as a picture."""
        width = self.shape[2]
        if self.features == "azimuthal":
            return azimuthal_average(half, width)
        return half if self.kind == "linear" else whole_spectrum(half, width, shift=True)

    def without_window(self) -> SpectrumNet:
        """The same network, with the same weights, for images that have been multiplied by the window already."""
        net = copy.copy(self)
        net._buffers = {**self._buffers, "window": None}
        return net

    def normalize(self, moments: Moments) -> None:
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
        """Of a linear head: what each normalized element adds, less the mean over classes, K x C x H x W (or x R).

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
