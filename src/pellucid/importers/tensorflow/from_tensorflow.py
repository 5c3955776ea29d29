"""`from_tensorflow`: a TensorFlow function, frozen and re-expressed in torch operation by operation."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...model.classifier import Classifier
from ..graph.equivalence import check_independent
from ..graph.finish import example_of, finish, random_like, wrapped
from ..graph.graph import Graph, tensor
from ..graph.layout import by_channels
from ..graph.optional_imports import library, without_triton
from .bridge import TensorFlowBridge
from .reader import frozen, read

TOLERANCE = {"float32": 1e-4, "float64": 1e-9}


def from_tensorflow(
    function: Callable[[Any], Any],
    example: Any,
    *,
    labels: Sequence[str] = (),
    layout: str | None = None,
    mean: Sequence[float] | float | None = None,
    std: Sequence[float] | float | None = None,
    name: str = "",
    logits: bool = True,
    layers: Collection[str] = (),
    bridge: bool = False,
    tolerance: float | None = None,
) -> Classifier:
    """A TensorFlow function (a tf.function, a tf.keras model, what a SavedModel holds) as a torch network.

    It is frozen to a graph, and each operation re-expressed in torch; TensorFlow is not needed afterwards. What is said
    of `from_jax` holds here too.

    Args:
        function: takes a batch of images, N x H x W x C or N x C x H x W, and returns N x K, as it predicts:
            `lambda x: model(x, training=False)`; for a SavedModel `tf.saved_model.load(folder).serve`.
        example: a batch of images as the function takes them, one is enough.
        labels: names of the K classes.
        layout: "NHWC" or "NCHW", how the function takes images; by default by which axis has 1, 3 or 4 channels.
        mean, std, name, logits: as for `from_jax`.
        layers: which of TensorFlow's name scopes are layers; by default all.
        bridge: keep the function as it is, behind autograd functions; TensorFlow is then needed for each pass. For what
            cannot be re-expressed: its layers can be read and edited, and all methods work but those that change the
            backward (LRP, guided backprop, DeepLIFT), which say so. It computes on the CPU.
        tolerance: for the difference from TensorFlow's outputs, 1e-4 by default, in float64 1e-9.

    Returns:
        A `Classifier` on images N x C x H x W in [0, 1]; `model.net` is the torch network.

    Raises:
        ImportError: if TensorFlow is not installed.
        ImportFailed: for an operation without a rule, what mixes the images of a batch, or other outputs afterwards;
            the message names the layer.
        ValueError, TypeError: for an example that is no batch of images, or a layout that cannot be found.

    >>> import pellucid
    >>> import tensorflow as tf
    >>> model = pellucid.from_tensorflow(lambda x: tf.reduce_mean(tf.nn.relu(x), (1, 2)), tf.zeros((1, 8, 8, 3)))
    >>> pellucid.saliency(model, torch.rand(1, 3, 8, 8), 0).values.shape
    torch.Size([1, 1, 8, 8])
    """
    library("tensorflow", "tensorflow")
    without_triton()
    if not callable(function):
        raise TypeError(f"from_tensorflow takes a function of a batch of images, got a {type(function).__name__}")
    batch = example_of(example)
    axes = by_channels(batch.shape, layout)
    if bridge:
        net = _bridged(function, batch, axes, layers)
    else:
        net = _imported(function, batch, axes, tolerance or TOLERANCE[str(batch.dtype)], logits, layers)
    return wrapped(net, batch.shape, axes, mean=mean, std=std, labels=labels, name=name or "imported")


def _imported(
    function: Callable[[Any], Any],
    example: np.ndarray[Any, Any],
    axes: tuple[int, ...],
    limit: float,
    logits: bool,
    layers: Collection[str],
) -> nn.Module:
    """The torch network of a function; `axes` are those of N, C, H, W among its own."""
    tf = library("tensorflow", "tensorflow")
    made = frozen(function, example)
    back = torch.tensor(axes).argsort().tolist()
    images = tensor(example).permute(axes)
    g = Graph(images.dtype, (images.shape[1], images.shape[2], images.shape[3]))
    read(g, made, axes, layers)

    def source(batch: Tensor) -> Tensor:
        out = made(tf.constant(batch.permute(back).contiguous().numpy()))
        return tensor((out[0] if isinstance(out, (list, tuple)) else out).numpy())

    def values(few: Tensor) -> dict[Any, Tensor]:
        names = {step.origin[0] for step in g.steps if step.origin is not None}
        outputs = [made.graph.get_tensor_by_name(name) for name in sorted(names)]
        there = made.prune(made.inputs, outputs)(tf.constant(few.permute(back).contiguous().numpy()))
        return {name: tensor(value.numpy()) for name, value in zip(sorted(names), there, strict=True)}

    return finish(g, source, images, values=values, limit=limit, logits=logits)


def _bridged(
    function: Callable[[Any], Any], example: np.ndarray[Any, Any], axes: tuple[int, ...], layers: Collection[str]
) -> nn.Module:
    """The function behind autograd functions."""
    net = TensorFlowBridge(frozen(function, example), axes, layers)
    with torch.no_grad():
        check_independent(net, random_like(tensor(example).permute(axes)))
    net.difference = 0.0  # type: ignore[assignment] # it is the source itself
    return net
