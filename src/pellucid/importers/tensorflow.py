"""`from_tensorflow`: a TensorFlow function, frozen and re-expressed in torch operation by operation."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..classifier import Classifier, wrap
from . import tensorflow_linear, tensorflow_rules
from .finish import check_shape, example_of, finish
from .graph import Graph, ImportFailed, Length, Size, Step, Value, compute
from .jaxpr import tensor
from .layout import by_channels
from .library import library

Scope = tuple[str, ...]
Counts = tuple[dict[Step, Any], dict[Step, Any]]  # what steps return for so many images, without the numbers
COUNTS = (2, 3)


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
        tolerance: for the difference from TensorFlow's outputs, 1e-4 by default.

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
    net = _imported(function, batch, axes, tolerance or 1e-4, logits, layers)
    channels, height, width = (batch.shape[axis] for axis in axes[1:])
    net.register_forward_pre_hook(partial(check_shape, (channels, height, width)))
    return wrap(
        net, mean=mean, std=std, size=(height, width), channels=channels, labels=labels, name=name or "imported"
    )


def without_triton() -> None:
    """Keep torch from loading Triton where TensorFlow is loaded.

    Each brings LLVM, and a process that loads Triton second is ended by it without a word.
    """
    if "tensorflow" in sys.modules:
        sys.modules.setdefault("triton", None)  # type: ignore[arg-type]


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
    freeze = library("tensorflow.python.framework.convert_to_constants", "tensorflow").convert_variables_to_constants_v2
    spec = tf.TensorSpec((None, *example.shape[1:]), tf.as_dtype(example.dtype))
    try:
        concrete = tf.function(function).get_concrete_function(spec)
    except Exception as error:  # the user's own function failed
        raise ImportFailed(
            f"the function failed on a batch of shape N x {' x '.join(map(str, example.shape[1:]))}: "
            f"{str(error).strip().splitlines()[0]}"
        ) from error
    frozen = freeze(concrete, lower_control_flow=False)
    if len(frozen.outputs) != 1:
        raise ImportFailed(f"the function has {len(frozen.outputs)} outputs, expected one array N x K")
    shape = tensorflow_rules.shape_of(frozen.outputs[0])
    if len(shape) != 2 or not isinstance(shape[0], Size):
        raise ImportFailed(f"the function returns {frozen.outputs[0].shape}, expected N x K, one row for each image")
    back = torch.tensor(axes).argsort().tolist()
    images = tensor(example).permute(axes)
    g = Graph(images.dtype, (images.shape[1], images.shape[2], images.shape[3]))
    _read(g, frozen, axes, layers)

    def source(batch: Tensor) -> Tensor:
        out = frozen(tf.constant(batch.permute(back).contiguous().numpy()))
        return tensor((out[0] if isinstance(out, (list, tuple)) else out).numpy())

    def values(few: Tensor) -> dict[Any, Tensor]:
        names = {step.origin[0] for step in g.steps if step.origin is not None}
        outputs = [frozen.graph.get_tensor_by_name(name) for name in sorted(names)]
        made = frozen.prune(frozen.inputs, outputs)(tf.constant(few.permute(back).contiguous().numpy()))
        return {name: tensor(value.numpy()) for name, value in zip(sorted(names), made, strict=True)}

    return finish(g, source, images, values=values, limit=limit, logits=logits)


def _read(g: Graph, frozen: Any, axes: tuple[int, ...], layers: Collection[str]) -> None:
    """Put a frozen function into a graph."""
    make = library("tensorflow", "tensorflow").make_ndarray
    lengths: list[Any] = [0] * 4
    for place, axis in enumerate(axes):
        lengths[axis] = Size(1) if place == 0 else g.shape[place - 1]
    known: dict[str, Any] = {frozen.inputs[0].name: Value(g.images, tuple(lengths), axes)}
    counts: Counts = ({}, {})
    for count, shapes in zip(COUNTS, counts, strict=True):
        shapes[g.images] = torch.empty(count, *g.shape, device="meta", dtype=g.dtype)
    for op in frozen.graph.get_operations():
        if op.type in ("Placeholder", "NoOp"):
            continue
        if op.type == "Const":
            array = g.constant(tensor(make(op.get_attr("value"))))
            known[op.outputs[0].name] = Value(array, tuple(array.shape), tuple(range(array.ndim)))
            continue
        g.scope = _scope(op.name, layers)
        taken = [known[x.name] for x in op.inputs]
        lost = next((value for value in taken if isinstance(value, str)), None)
        made = lost or _call(g, op, taken, counts)
        listed = [made] * len(op.outputs) if isinstance(made, str) else made
        for out, value in zip(op.outputs, listed, strict=False):
            known[out.name] = value
            if isinstance(value, Value) and isinstance(value.held, Step):
                value.held.origin = (out.name, value.order)
    g.scope = ()
    result = known[frozen.outputs[0].name]
    if isinstance(result, str):
        raise ImportFailed(result)
    held = g.plain(result)
    if not isinstance(held, Step):
        raise ImportFailed("the function does not look at the images: it returns a constant")
    g.output = held


def _call(g: Graph, op: Any, taken: list[Value], counts: Counts) -> Any:
    """The outputs of an operation, or why there are none."""
    rule = tensorflow_rules.RULES.get(op.type)
    where = f"in layer {'.'.join(g.scope)!r}" if g.scope else "outside of all layers"
    try:
        if rule is None:
            raise ImportFailed(f"{op.type!r} has no rule")
        made = rule(g, op, *taken)
        return [_measured(g, value, counts) for value in (made if isinstance(made, list) else [made])]
    except ImportFailed as error:
        return (
            f"the TensorFlow operation {op.type!r} {where} cannot be imported: {error}. A rule for it belongs in "
            f"{tensorflow_rules.__file__} (linear maps and windows: {Path(tensorflow_linear.__file__).name})"
        )


def _measured(g: Graph, value: Any, counts: Counts) -> Value:
    """What a rule gave, with its true lengths: TensorFlow forgets some where N is open."""
    held, order = (value.held, value.order) if isinstance(value, Value) else (value, None)
    if isinstance(held, Tensor):
        return value if isinstance(value, Value) else Value(held, tuple(held.shape), tuple(range(held.ndim)))
    new = [step for step in g.steps[len(counts[0]) :] if step not in counts[0]]
    for known in counts:
        for step in new:
            known[step] = compute(step, known, lambda t: t.to("meta"))
    lengths = [
        a if a == b else Size((b - a) // (COUNTS[1] - COUNTS[0]), a - COUNTS[0] * (b - a) // (COUNTS[1] - COUNTS[0]))
        for a, b in zip(*(known[held].shape for known in counts), strict=True)
    ]
    order = tuple(range(len(lengths))) if order is None else order
    shape: list[Length] = [0] * len(lengths)
    for place, axis in enumerate(order):
        shape[axis] = lengths[place]
    return Value(held, tuple(shape), order)


def _scope(name: str, layers: Collection[str]) -> Scope:
    """The layers that an operation is in, by its name. TensorFlow numbers a name that it has used before."""
    parts = [part for part in name.split("/")[:-1] if not part.endswith("PartitionedCall")]
    if not layers:
        return tuple(parts)
    plain = [part if part in layers else re.sub(r"_\d+$", "", part) for part in parts]
    return tuple(part for part in plain if part in layers)
