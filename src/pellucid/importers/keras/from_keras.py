"""`from_keras`: a Keras 3 model as a torch network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch import nn

from ...model.classifier import Classifier
from ..graph.equivalence import HALF_PRECISION
from ..graph.finish import image_shape, pixel_range, wrapped
from ..graph.graph import ImportFailed
from ..graph.layout import LAYOUTS
from ..graph.optional_imports import library, without_triton

Numbers = tuple[float, ...]
SINGLE = 1e-4  # Keras computes averages and batch norms of a float64 model in float32, but on TensorFlow

# How the networks of keras.applications take pixels in [0, 1], by how their names begin; the longest that fits.
# (mean, std, whether the colors are BGR)
SIGNED = ((0.5,), (0.5,), False)
BYTES = ((0.0,), (1 / 255,), False)
TORCH = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), False)
CAFFE = ((123.68 / 255, 116.779 / 255, 103.939 / 255), (1 / 255,), True)
FAMILIES: dict[str, tuple[Numbers, Numbers, bool]] = {
    "mobilenet": SIGNED, "mobilenetv2": SIGNED, "MobileNetV3": BYTES, "inception_v3": SIGNED,
    "inception_resnet_v2": SIGNED, "xception": SIGNED, "nasnet": SIGNED, "NASNet": SIGNED, "densenet": TORCH,
    "efficientnet": BYTES, "convnext": BYTES, "vgg": CAFFE,
    **dict.fromkeys(("resnet50", "resnet101", "resnet152"), CAFFE),
    **dict.fromkeys(("resnet50v2", "resnet101v2", "resnet152v2"), SIGNED),
}  # fmt: skip


def from_keras(
    model: Any,
    *,
    labels: Sequence[str] = (),
    mean: Sequence[float] | float | None = None,
    std: Sequence[float] | float | None = None,
    size: int | tuple[int, int] | None = None,
    name: str = "",
    logits: bool = True,
    bridge: bool = False,
    tolerance: float | None = None,
) -> Classifier:
    """A Keras 3 model as a torch network, for every method.

    On Keras's JAX backend it is traced and imported as by `from_jax`; on TensorFlow it is frozen and imported operation
    by operation; on torch its calls of torch functions are noted and put into modules, for a Keras model hides its
    layers there. The layers keep Keras's names, and all three give the same network.

    The networks of keras.applications take pixels as they were trained on them (0 ... 255, -1 ... 1, or BGR less a
    mean, by family) and have the names of ImageNet's classes.

    Args:
        model: of one input, N x H x W x C or N x C x H x W, and one output N x K. It predicts: dropout is off.
        labels: names of the K classes.
        mean, std: as for `wrap`, where the model is not of keras.applications or was trained in another way.
        size: height and width, for a model that takes any.
        name: for titles; by default the model's own.
        logits: leave out a softmax that the model ends with, as everywhere in pellucid; False keeps it.
        bridge: as for `from_jax` and `from_tensorflow`, where the model cannot be re-expressed.
        tolerance: for the difference from Keras's outputs, as for `from_jax`.

    Returns:
        A `Classifier` on images N x C x H x W in [0, 1]; `model.net` is the torch network.

    Raises:
        ImportError: if Keras or its backend is not installed.
        TypeError: for what is no Keras model.
        ImportFailed: for a model with several inputs or outputs, or for what `from_jax` refuses.

    >>> import os, pellucid
    >>> _ = os.environ.setdefault("KERAS_BACKEND", "jax")
    >>> import keras
    >>> layers = [keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3), keras.layers.Flatten(), keras.layers.Dense(2)]
    >>> model = pellucid.from_keras(keras.Sequential(layers))
    """
    keras = library("keras", "keras")
    without_triton()
    if not isinstance(model, keras.Model):
        raise TypeError(f"from_keras takes a keras.Model, got a {type(model).__name__} of {type(model).__module__}")
    backend = keras.backend.backend()
    if backend not in ("jax", "tensorflow", "torch"):
        raise ImportFailed(
            f"Keras runs on {backend} here, and models are imported through JAX, TensorFlow or torch: start Python "
            "with KERAS_BACKEND=jax in the environment and load the model there (keras.models.load_model; a .keras "
            "file is the same for all backends)"
        )
    shape = _shape(model, size)
    family = next(
        (FAMILIES[key] for key in sorted(FAMILIES, key=len, reverse=True) if model.name.startswith(key)), None
    )
    reverse = False
    if family is not None and mean is None and std is None:
        mean, std, reverse = family
        mean, std = (tuple(values) * (3 // len(values)) for values in (mean, std))
    function = _function(model, reverse)
    low, high = pixel_range(mean, std)
    computes = {layer.compute_dtype for layer in model._flatten_layers()}
    double = {model.compute_dtype, model.inputs[0].dtype} == {"float64"}
    if computes & {"float16", "bfloat16"}:
        tolerance = tolerance or HALF_PRECISION
    elif double and backend == "jax":
        tolerance = tolerance or SINGLE
    example = np.random.default_rng(0).uniform(low, high, (1, *shape)).astype(np.float64 if double else np.float32)
    kinds = {layer.name: type(layer).__name__ for layer in model._flatten_layers(include_self=False)}
    layout = "NHWC" if shape[-1] in (1, 3) or keras.config.image_data_format() == "channels_last" else "NCHW"
    if not labels and family is not None:
        labels = _imagenet(model)
    name = name or model.name
    if backend == "torch" and bridge:
        raise ValueError("bridge=True is for Keras on JAX or TensorFlow: on torch there is nothing to bridge")
    if backend == "torch":
        return wrapped(
            _on_torch(function, example, layout, model.name, kinds, logits, tolerance), example.shape, LAYOUTS[layout],
            mean=mean, std=std, labels=labels, name=name,
        )  # fmt: skip
    if backend == "tensorflow":
        from ..tensorflow.from_tensorflow import from_tensorflow

        return from_tensorflow(
            function, example, labels=labels, layout=layout, mean=mean, std=std, name=name, logits=logits,
            layers=kinds, bridge=bridge, tolerance=tolerance,
        )  # fmt: skip
    from ..jax.from_jax import from_jax

    return from_jax(
        function, example, labels=labels, layout=layout, mean=mean, std=std, name=name, logits=logits,
        bridge=bridge, tolerance=tolerance,
    )  # fmt: skip


def _on_torch(
    function: Callable[[Any], Any],
    example: np.ndarray[Any, Any],
    layout: str,
    own: str,
    kinds: dict[str, str],
    logits: bool,
    tolerance: float | None,
) -> nn.Module:
    """On Keras's torch backend, whose models are torch modules that hide their layers and do not call them as such."""
    from ..torch.calls import network

    path = library("keras.src.backend.common.name_scope", "keras").current_path

    def scope() -> tuple[str, ...]:  # some layers of a Sequential have its name before their own, others not
        return tuple(part for part in path().split("/") if part not in ("", own))

    return network(
        function, example, LAYOUTS[layout], scope=scope, kinds=kinds, limit=tolerance, logits=logits
    )  # fmt: skip


def _shape(model: Any, size: int | tuple[int, int] | None) -> tuple[int, int, int]:
    if not getattr(model, "built", False) or not getattr(model, "inputs", None):
        raise ImportFailed("the model has no input shape yet: build it with keras.Input")
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ImportFailed(
            f"the model has {len(model.inputs)} inputs and {len(model.outputs)} outputs, expected one of each"
        )
    return image_shape(model.inputs[0].shape, size)


def _function(model: Any, reverse: bool) -> Callable[[Any], Any]:
    flip = library("keras", "keras").ops.flip
    return lambda x: model(flip(x, -1) if reverse else x, training=False)


def _imagenet(model: Any) -> Sequence[str]:
    from torchvision.models._meta import _IMAGENET_CATEGORIES

    names: Sequence[str] = _IMAGENET_CATEGORIES
    return names if model.outputs[0].shape[-1] == len(names) else ()
