"""The real networks and pictures of `PELLUCID_TEST_DATA`, as pellucid takes them: RGB or gray in [0, 1].

They are not part of the project. A test that asks for one is skipped, with the reason, where they are absent.
"""

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from pellucid.files.images import read_image
from pellucid.model.classifier import Classifier, wrap

CASTLE = 483
BGR_MEAN = (104.0, 117.0, 123.0)  # of 0 ... 255, in caffe's order


def path(name: str) -> Path:
    """A file or folder of the test data."""
    folder = os.environ.get("PELLUCID_TEST_DATA")
    if not folder:
        pytest.skip("set PELLUCID_TEST_DATA to the folder of real networks and pictures")
    file = Path(folder, name)
    if not file.exists():
        pytest.skip(f"PELLUCID_TEST_DATA has no {name}")
    return file


@cache
def labels() -> tuple[str, ...]:
    """The 1000 names of ImageNet's classes."""
    lines = path("imagenet_synset_words.txt").read_text().splitlines()
    return tuple(line.partition(" ")[2] for line in lines)


def squeezenet() -> Classifier:
    """SqueezeNet 1.0 trained on ImageNet, with torchvision's layer names; its size is 227, it takes others.

    The first convolution was turned from BGR to RGB; caffe's mean and range are the classifier's.
    """
    with np.load(path("squeezenet/squeezenet1_0.npz")) as file:
        arrays = {name: torch.from_numpy(file[name]) for name in file.files}
    arrays["conv1.weight"] = arrays["conv1.weight"].flip(1)
    net = _untrained(torchvision.models.squeezenet1_0)
    net.classifier[1].padding = (1, 1)
    net.load_state_dict({_squeezenet_name(name): array for name, array in arrays.items()})
    mean = [value / 255 for value in reversed(BGR_MEAN)]
    return wrap(net, mean=mean, std=1 / 255, size=227, labels=labels(), name="squeezenet1_0")


class MnistCnn(nn.Module):
    """Three convolutions and two linear layers; logits are in the hundreds."""

    def __init__(self, sigmoid: bool) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3 = nn.Conv2d(1, 32, 3), nn.Conv2d(32, 64, 3), nn.Conv2d(64, 128, 3)
        self.fc1, self.fc2 = nn.Linear(1152, 256), nn.Linear(256, 10)
        self.sigmoid = sigmoid

    def forward(self, x: Tensor) -> Tensor:
        x = F.avg_pool2d(F.relu(self.conv1(x)), 2)
        x = F.avg_pool2d(F.relu(self.conv2(x)), 2)
        x = F.relu(self.fc1(F.relu(self.conv3(x)).flatten(1)))
        x = self.fc2(x)
        return x.sigmoid() if self.sigmoid else x


def mnist_cnn(sigmoid: bool = False) -> Classifier:
    """The network of the exercises, trained on MNIST; with its sigmoid, or up to the logits."""
    net = _untrained(lambda: MnistCnn(sigmoid))
    file = path("mnist/exercise_cnn.pth")
    net.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    digits = [str(digit) for digit in range(10)]
    return wrap(net, mean=[33.328 / 255], std=[78.579 / 255], size=28, labels=digits, name="mnist_cnn")


def castle(size: int = 224) -> Tensor:
    """The castle of the exercise sheet, 1 x 3 x size x size; 224 is the file as it is, 227 SqueezeNet's size."""
    return read_image(path("photos/castle.jpg"), resize=None if size == 224 else size)[None]


def mnist_images(n: int) -> tuple[Tensor, Tensor]:
    """The first n of MNIST's test set: images n x 1 x 28 x 28 and digits n."""
    with np.load(path("mnist/mnist.npz")) as file:
        images, digits = file["x_test"][:n], file["y_test"][:n]
    return torch.from_numpy(images)[:, None].float() / 255, torch.from_numpy(digits).long()


def _untrained(build: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):  # the caller's random numbers stay as they are
        return build().eval()


def _squeezenet_name(name: str) -> str:
    place, _, kind = name.rpartition(".")
    if place in ("conv1", "conv_final"):
        return f"{'features.0' if place == 'conv1' else 'classifier.1'}.{kind}"
    fire, _, conv = place.partition("/")
    index = int(fire.removeprefix("fire"))
    layer = {"conv1x1_1": "squeeze", "conv1x1_2": "expand1x1", "conv3x3_2": "expand3x3"}[conv]
    return f"features.{index + (1 if index < 5 else 2 if index < 9 else 3)}.{layer}.{kind}"
