"""MobileNet v1 as Keras trained it, for the weights of `PELLUCID_TEST_DATA`: what images transfer to."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import pellucid

from .. import real

STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)  # of the 13 depthwise convolutions


class MobileNet(nn.Module):
    """A convolution, 13 pairs of depthwise and 1 x 1 convolutions, mean, 1 x 1 convolution to 1000 classes."""

    def __init__(self, arrays: dict[str, Tensor]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([_block(arrays, "conv1", 2)])
        for number, stride in enumerate(STRIDES, 1):
            self.blocks.append(_block(arrays, f"conv_dw_{number}", stride))
            self.blocks.append(_block(arrays, f"conv_pw_{number}", 1))
        weight = arrays["conv_preds/kernel"][0, 0].T
        self.head = nn.Linear(weight.shape[1], weight.shape[0])
        with torch.no_grad():
            self.head.weight.copy_(weight)
            self.head.bias.copy_(arrays["conv_preds/bias"])

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            if block[0].stride == (2, 2):
                x = F.pad(x, (0, 1, 0, 1))  # TensorFlow's SAME
            x = block(x)
        return self.head(x.mean((2, 3)))


def _block(arrays: dict[str, Tensor], name: str, stride: int) -> nn.Sequential:
    deep = f"{name}/depthwise_kernel" in arrays
    kernel = arrays[f"{name}/depthwise_kernel" if deep else f"{name}/kernel"]
    weight = kernel.permute(2, 3, 0, 1) if deep else kernel.permute(3, 2, 0, 1)
    padding = (weight.shape[2] // 2) * (stride == 1)
    groups = weight.shape[0] if deep else 1
    conv = nn.Conv2d(
        weight.shape[1] * groups, weight.shape[0], weight.shape[2], stride, padding, groups=groups, bias=False
    )
    norm = nn.BatchNorm2d(weight.shape[0], eps=1e-3)
    with torch.no_grad():
        conv.weight.copy_(weight)
        for ours, theirs in zip(
            (norm.weight, norm.bias, norm.running_mean, norm.running_var),
            ("gamma", "beta", "moving_mean", "moving_variance"), strict=True,
        ):  # fmt: skip
            ours.copy_(arrays[f"{name}_bn/{theirs}"])
    return nn.Sequential(conv, norm, nn.ReLU6())


def mobilenet() -> pellucid.Classifier:
    """As `real.squeezenet`: RGB in [0, 1], 224 x 224."""
    with np.load(real.path("mobilenet/mobilenet_v1_0.75_224.npz")) as file:
        arrays = {name: torch.from_numpy(file[name]) for name in file.files}
    with torch.random.fork_rng(devices=[]):
        net = MobileNet(arrays).eval()
    return pellucid.wrap(net, mean=0.5, std=0.5, size=224, channels=3, labels=real.labels(), name="mobilenet_v1_0.75")
