"""`from_jax`: a JAX function, traced once and re-expressed in torch."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...model.classifier import Classifier
from ..graph.equivalence import HALF_PRECISION, Exact, check_independent
from ..graph.finish import COUNT, example_of, finish, random_like, wrapped
from ..graph.graph import Graph, ImportFailed, Unknown, tensor
from ..graph.layout import to_source
from ..graph.optional_imports import library
from . import layer_names
from .bridge import Bridge
from .calls import evaluated, flattened, float64, in_float64
from .errors import failed, untraceable
from .jaxpr import BATCH_SIZES, Program, jaxpr, traced
from .layout import layout_of
from .reader import read

TOLERANCE = {"float32": 1e-4, "float64": 1e-7}


def from_jax(
    function: Callable[[Any], Any],
    example: Any,
    *,
    labels: Sequence[str] = (),
    layout: str | None = None,
    mean: Sequence[float] | float | None = None,
    std: Sequence[float] | float | None = None,
    name: str = "",
    logits: bool = True,
    bridge: bool = False,
    tolerance: float | None = None,
) -> Classifier:
    """A network of JAX, Flax, Equinox or Haiku as a torch network, for every method.

    The function is traced and re-expressed in torch functions, one for each of its primitives; JAX is not needed
    afterwards. Biases and batch norms become what they are in torch, and what computes a softmax, a layer norm or a
    GELU becomes that one call, so that rules for layers find them. The layers keep their names. The outputs are
    compared with JAX's on the example and on a random batch; `model.net.difference` is the largest difference, over
    the largest output. Where it is too large the comparison is made again in float64 on both sides: a difference that
    is not there either is JAX's own rounding (or torch's), and a warning. Half precision is computed in float32,
    float64 stays.

    Args:
        function: takes a batch of images, N x H x W x C or N x C x H x W, and returns N x K: for Flax
            `lambda x: net.apply(variables, x)` or an nnx module, for Equinox `jax.vmap(model)`, for Haiku
            `lambda x: net.apply(params, x)` without random numbers. As it predicts: no dropout, no batch statistics.
        example: a batch of images as the function takes them, one is enough. Other batches may have another N.
        labels: names of the K classes.
        layout: "NHWC" or "NCHW", how the function takes images; by default found from its convolutions.
        mean, std: as for `wrap`: the function is given (pixels - mean) / std, per channel, of pixels in [0, 1]. By
            default pixels as they are. std=1/255 gives it 0 ... 255.
        name: for titles.
        logits: leave out a softmax that the function ends with, as everywhere in pellucid; False keeps it.
        bridge: keep the function as it is, behind autograd functions; JAX is then needed for each pass, and computes in
            its own precision and on its own device. For what cannot be re-expressed: all methods work but those that
            change the backward (LRP, guided backprop, DeepLIFT), which say so. The layers have the names of an import,
            and can be read, edited and differentiated at; what happens in a loop (scan) is in no layer of its own.
        tolerance: for the difference from JAX's outputs; by default 1e-4, where JAX computes in float64 1e-7, in half
            precision 0.05.

    Returns:
        A `Classifier` on images N x C x H x W in [0, 1]; `model.net` is the torch network.

    Raises:
        ImportError: if JAX is not installed.
        ImportFailed: for a function that cannot be re-expressed (a primitive without a rule, random numbers, decisions
            that depend on the images), or that gives other outputs afterwards; the message names the layer.
        ValueError, TypeError: for an example that is no batch of images, or a layout that cannot be found.

    >>> import jax.numpy as jnp, pellucid
    >>> weights = jnp.ones((12, 2))
    >>> model = pellucid.from_jax(lambda x: x.reshape(len(x), -1) @ weights, jnp.zeros((1, 2, 2, 3)))
    >>> pellucid.saliency(model, torch.rand(1, 3, 2, 2), 0).values.shape
    torch.Size([1, 1, 2, 2])
    """
    library("jax", "jax")
    if not callable(function):
        raise TypeError(f"from_jax takes a function of a batch of images, got a {type(function).__name__}")
    batch = example_of(example)
    dtype = _dtype(example, batch)
    batch = batch.astype(np.promote_types(dtype, np.float32) if dtype.kind == "f" else np.float32)
    net, axes = (_bridged if bridge else _imported)(function, batch, dtype, layout, logits, tolerance)
    return wrapped(net, batch.shape, axes, mean=mean, std=std, labels=labels, name=name or _name(function))


Made = tuple[nn.Module, tuple[int, ...]]


def _imported(
    function: Callable[[Any], Any],
    batch: np.ndarray[Any, Any],
    given: Any,
    layout: str | None,
    logits: bool,
    tolerance: float | None,
) -> Made:
    """The network of torch functions, and the axes of N, C, H, W among the function's."""
    jax = library("jax", "jax")
    found = layer_names.modules(function)
    with layer_names.scoped(found):
        program, (closed, _) = _traced(function, batch.shape[1:], given)
    axes = layout_of(program, batch.shape, layout)
    coarse = re.search(r"\bb?f16\[", str(closed.jaxpr)) is not None
    dtype = torch.float64 if batch.dtype == np.float64 else torch.float32
    images = tensor(batch).to(dtype).permute(axes)
    g = _graph(program, axes, tuple(images.shape[1:]), dtype)
    net = finish(
        g,
        _source(jax.jit(function), axes, given),
        images,
        values=lambda few: _values(closed, to_source(few, axes, given)),
        limit=tolerance or (HALF_PRECISION if coarse else TOLERANCE[str(dtype).removeprefix("torch.")]),
        logits=logits,
        kinds={path: type(module).__name__ for module, path in found.values()},
        exact=None
        if dtype == torch.float64 and not coarse
        else _exact(closed, axes, coarse and (tolerance or HALF_PRECISION) <= HALF_PRECISION),
    )
    return net, axes


def _bridged(
    function: Callable[[Any], Any],
    batch: np.ndarray[Any, Any],
    given: Any,
    layout: str | None,
    _logits: bool,
    _tolerance: float | None,
) -> Made:
    """The function behind autograd functions, and the axes of N, C, H, W among its own."""
    found = layer_names.modules(function)
    with layer_names.scoped(found):
        program, closed = _traced(function, batch.shape[1:], given)
    axes = layout_of(program, batch.shape, layout)
    known = dict(zip(BATCH_SIZES, closed, strict=True))

    def at(count: int) -> Any:
        if count not in known:
            with layer_names.scoped(found):
                return jaxpr(_anew(function), (count, *batch.shape[1:]), given)
        return known[count]

    net = Bridge(function, at, axes, getattr(torch, given.name))
    with torch.no_grad():
        check_independent(net, random_like(tensor(batch).permute(axes)))
    net.difference = 0.0  # type: ignore[assignment] # it is the source itself
    return net, axes


def _traced(function: Callable[[Any], Any], shape: tuple[int, ...], dtype: Any) -> tuple[Program, list[Any]]:
    fresh = _anew(function)

    def one(x: Any) -> Any:
        out = fresh(x)
        if not hasattr(out, "shape"):
            key = repr(next(iter(out))) if isinstance(out, dict) and out else 0
            raise ImportFailed(
                f"the function returns a {type(out).__name__}, expected one array N x K: choose it, as in "
                f"from_jax(lambda x: function(x)[{key}], example)"
            )
        return out

    try:
        program, closed = traced(one, shape, dtype)
    except (ImportFailed, KeyboardInterrupt):
        raise
    except Exception as error:  # the user's own function failed
        raise ImportFailed(untraceable(error) or failed(error, function, shape, dtype)) from error
    aval = closed[0].out_avals[0]
    if aval.dtype.kind not in "fV":
        what = "take jnp.abs or jnp.real of it" if aval.dtype.kind == "c" else "leave out argmax and comparisons"
        raise ImportFailed(
            f"the function returns {aval.dtype}, expected floating-point numbers, one for each class: {what}"
        )
    (out,) = program.shapes
    if len(out) != 2 or isinstance(out[0], int) or not isinstance(out[1], int):
        raise ImportFailed(
            f"for {COUNT} images the function returns {aval.shape}, expected N x K, one row for each "
            "image: is it a function of one image? Then give jax.vmap(function)"
        )
    return program, closed


def _dtype(example: Any, batch: np.ndarray[Any, Any]) -> Any:
    """What JAX has the images in: half precision stays for a function that takes it."""
    numpy = library("jax.numpy", "jax")
    known = str(example.dtype).removeprefix("torch.") if isinstance(example, Tensor) else np.asarray(example).dtype.name
    return library("jax", "jax").dtypes.canonicalize_dtype(numpy.dtype(known) if "float" in known else batch.dtype)


def _anew(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A function that JAX has not traced yet: what it keeps of an earlier call lacks the names of layers."""
    jitted = type(library("jax", "jax").jit(lambda: None))
    while isinstance(function, jitted):
        function = function.__wrapped__
    return lambda x: function(x)


def _graph(program: Program, axes: tuple[int, ...], shape: Any, dtype: torch.dtype) -> Graph:
    """The steps of a program; `axes` takes the function's axes to N x C x H x W."""
    g = Graph(dtype, shape)
    (out,) = read(g, program, [g.batch(axes)])
    for step in g.steps:
        step.scope = layer_names.cleaned(step.scope)
    if isinstance(out, Unknown):
        raise ImportFailed(out.reason)
    g.end(out)
    return g


def _source(function: Callable[[Any], Any], axes: tuple[int, ...], dtype: Any) -> Callable[[Tensor], Tensor]:
    return lambda images: tensor(function(to_source(images, axes, dtype)))


def _values(closed: Any, images: np.ndarray[Any, Any]) -> dict[Any, Tensor]:
    """What JAX has for each name of a jaxpr, for COUNT images; in float64 if the images are."""
    known: dict[Any, Any] = {}
    if images.dtype == np.float64:
        with float64(True):
            in_float64(closed, [images], known)
    else:
        row = flattened(closed, own_gradients=False)
        known.update(zip(row.inputs, [images], strict=True))
        evaluated(row.calls, known)
        known.update((name, known[other]) for name, other in row.same.items() if other in known)
    return {name: tensor(value) for name, value in known.items() if "key<" not in str(getattr(value, "dtype", "key<"))}


def _exact(closed: Any, axes: tuple[int, ...], always: bool) -> Exact:
    """What a jaxpr computes if all its numbers are in float64, whatever it was written for."""
    jax = library("jax", "jax")
    compiled = jax.jit(lambda images: in_float64(closed, [images])[0])

    def source(images: Tensor) -> Tensor:
        with float64(True):
            return tensor(compiled(to_source(images, axes, np.float64)))

    def possible() -> Callable[[Tensor], Tensor] | None:
        with float64(True):
            try:
                compiled.eval_shape(jax.ShapeDtypeStruct(closed.in_avals[0].shape, np.float64))
            except Exception:  # primitives that are for float32 only, or look at bits
                return None
        return source

    return Exact(possible, lambda few: _values(closed, to_source(few, axes, np.float64)), TOLERANCE["float32"], always)


def _name(function: Any) -> str:
    named = getattr(function, "__name__", type(function).__name__)
    return "imported" if named == "<lambda>" else str(named)
