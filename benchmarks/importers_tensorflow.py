"""Gradients through a network imported from TensorFlow, over those through the same network written in torch.

Beside them the gradient of the source itself: a GradientTape in a tf.function. TensorFlow gets as many threads as
torch. It is loaded in an environment of its own, over the first, which `make test` makes:

    KERAS_BACKEND=tensorflow OMP_NUM_THREADS=1 PYTHONPATH=src ~/.cache/pellucid/env-*/tensorflow/bin/python \\
        -m benchmarks import:tensorflow:cnn import:tensorflow:mobilenet
"""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import pellucid

from .cases import Functions
from .importers import TARGET, gradient
from .timing import Skipped

CLASSES = 1000


def imported(make: Callable[[Any], Any], twin: Callable[[], nn.Module], side: int, count: int) -> Functions:
    """A Keras network (made by `make` from the module keras), imported, beside its twin in torch."""
    if find_spec("tensorflow") is None or os.environ.get("KERAS_BACKEND") != "tensorflow":
        raise Skipped("needs TensorFlow, and KERAS_BACKEND=tensorflow: see benchmarks/importers_tensorflow.py")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(torch.get_num_threads())
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.set_visible_devices([], "GPU")
    import keras

    keras.utils.set_random_seed(0)
    source = make(keras)
    model = pellucid.from_keras(source)
    net = twin().eval()
    with torch.no_grad():
        for ours, theirs in zip(_weights(net), source.weights, strict=True):
            ours.copy_(_as_torch(theirs, ours.shape))
    for weight in net.parameters():
        weight.requires_grad_(False)
    images = torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(1))
    inputs = tf.constant(images.permute(0, 2, 3, 1).numpy())
    difference = (model.net(images) - net(images)).abs().max() / net(images).abs().max()
    assert difference < 1e-5, f"the twin differs by {difference:.1e}"

    @tf.function
    def slope(x: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            out = tf.reduce_sum(source(x, training=False)[:, TARGET])
        return tape.gradient(out, x)

    return {
        "lower bound": lambda: gradient(net, images),
        "imported": lambda: gradient(model.net, images),
        "TensorFlow, tf.function": lambda: slope(inputs).numpy(),
    }


def _weights(net: nn.Module) -> list[Tensor]:
    """In Keras's order: the statistics of a batch norm come after its weights, and it counts no batches."""
    found: list[Tensor] = []
    for module in net.modules():
        found += [*module.parameters(recurse=False)]
        found += [buffer for buffer in module.buffers(recurse=False) if buffer.ndim]
    return found


def _as_torch(weight: Any, shape: torch.Size) -> Tensor:
    """A weight of Keras as torch has it: a kernel is height x width x inputs x outputs there."""
    value = torch.from_numpy(np.array(weight))
    if value.ndim == 4:
        value = value.permute(3, 2, 0, 1) if shape[1] != 1 else value.permute(2, 3, 0, 1)
    return value.T if value.ndim == 2 else value


def cnn() -> Functions:
    widths = (32, 64, 128)

    def make(keras: Any) -> Any:
        layers = keras.layers
        inputs = x = keras.Input((48, 48, 3))
        for width in widths:
            x = layers.Conv2D(width, 3, padding="same", use_bias=False)(x)
            x = layers.MaxPooling2D()(layers.ReLU()(layers.BatchNormalization()(x)))
        x = layers.Dense(CLASSES)(layers.GlobalAveragePooling2D()(x))
        return keras.Model(inputs, x)

    def twin() -> nn.Module:
        parts: list[nn.Module] = []
        for before, after in zip((3, *widths), widths, strict=False):
            parts += [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after, eps=1e-3)]
            parts += [nn.ReLU(), nn.MaxPool2d(2)]
        return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], CLASSES))

    return imported(make, twin, 48, 32)


def mobilenet() -> Functions:
    def make(keras: Any) -> Any:
        return keras.applications.MobileNet(
            (96, 96, 3), alpha=0.75, weights=None, classes=CLASSES, classifier_activation=None
        )

    def twin() -> nn.Module:
        width = 24
        parts = _joined(3, width, 3, 2)
        scales, strides = (2, 4, 4, 8, 8, *[16] * 6, 32, 32), (1, 2, 1, 2, 1, 2, *[1] * 5, 2, 1)
        for scale, stride in zip(scales, strides, strict=True):
            parts += [*_joined(width, width, 3, stride, width), *_joined(width, 24 * scale, 1, 1)]
            width = 24 * scale
        return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Conv2d(width, CLASSES, 1), nn.Flatten())

    return imported(make, twin, 96, 8)


def _joined(before: int, after: int, kernel: int, stride: int, groups: int = 1) -> list[nn.Module]:
    """A convolution, its batch norm and ReLU6; with a stride of 2 Keras pads at the end only."""
    padded = [nn.ZeroPad2d((0, 1, 0, 1))] if stride == 2 else []
    conv = nn.Conv2d(before, after, kernel, stride, 0 if padded else kernel // 2, groups=groups, bias=False)
    return [*padded, conv, nn.BatchNorm2d(after, eps=1e-3), nn.ReLU6()]


CASES: dict[str, Callable[[], Functions]] = {
    "import:tensorflow:cnn": cnn,
    "import:tensorflow:mobilenet": mobilenet,
}
