"""`from_jax`: a JAX function, traced once and re-expressed in torch."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..classifier import Classifier
from . import jax_names
from .bridge import Bridge
from .finish import COUNT, example_of, finish, random_like, wrapped
from .graph import Graph, ImportFailed, Size, Step, Unknown, Value, first_line, tensor
from .jax_read import read
from .jaxpr import Program, computed, traced
from .layout import layout_of, to_source
from .library import library

TOLERANCE = {"float32": 1e-4, "float64": 1e-9}
COARSE = 5e-2  # where the source computes in half precision


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
    the largest output.

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
        bridge: keep the function as it is, behind one autograd function; JAX is then needed for each pass. For what
            cannot be re-expressed: all methods work but those that need layers or change the backward (LRP, guided
            backprop, DeepLIFT), which say so. It has no layers and computes on the CPU or JAX's own device.
        tolerance: for the difference from JAX's outputs; by default 1e-4, where JAX computes in float64 1e-9, in half
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
    batch = batch.astype(library("jax", "jax").dtypes.canonicalize_dtype(batch.dtype))
    net, axes = (_bridged if bridge else _imported)(function, batch, layout, logits, tolerance)
    return wrapped(net, batch.shape, axes, mean=mean, std=std, labels=labels, name=name or _name(function))


Made = tuple[nn.Module, tuple[int, ...]]


def _imported(
    function: Callable[[Any], Any],
    batch: np.ndarray[Any, Any],
    layout: str | None,
    logits: bool,
    tolerance: float | None,
) -> Made:
    """The network of torch functions, and the axes of N, C, H, W among the function's."""
    jax = library("jax", "jax")
    found = jax_names.modules(function)
    with jax_names.scoped(found):
        program, closed = _traced(function, batch)
    axes = layout_of(program, batch.shape, layout)
    coarse = re.search(r"\bb?f16\[", str(closed.jaxpr)) is not None
    dtype = torch.float64 if batch.dtype == np.float64 else torch.float32
    images = tensor(batch).to(dtype).permute(axes)
    g = _graph(program, axes, tuple(images.shape[1:]), dtype)
    net = finish(
        g,
        _source(jax.jit(function), axes, batch.dtype),
        images,
        values=lambda few: _values(closed, to_source(few, axes, batch.dtype)),
        limit=tolerance or (COARSE if coarse else TOLERANCE[str(dtype).removeprefix("torch.")]),
        logits=logits,
        kinds={path: type(module).__name__ for module, path in found.values()},
    )
    return net, axes


def _bridged(
    function: Callable[[Any], Any],
    batch: np.ndarray[Any, Any],
    layout: str | None,
    _logits: bool,
    _tolerance: float | None,
) -> Made:
    """The function behind one autograd function, and the axes of N, C, H, W among its own."""
    program, _ = _traced(function, batch)
    axes = layout_of(program, batch.shape, layout)
    net = Bridge(function, axes, tensor(batch).dtype)
    two = random_like(tensor(batch).permute(axes))[:2]
    with torch.no_grad():
        together, alone = net(two), torch.cat([net(two[:1]), net(two[1:])])
    if not torch.allclose(together, alone, rtol=1e-2, atol=1e-2 * float(alone.abs().max())):
        raise ImportFailed(
            "an image has another output in a batch than alone, as where a batch norm takes the statistics of the "
            "batch: import the network as it predicts (train=False, use_running_average=True, model.eval())"
        )
    net.difference = 0.0  # type: ignore[assignment] # it is the source itself
    return net, axes


def _traced(function: Callable[[Any], Any], batch: np.ndarray[Any, Any]) -> tuple[Program, Any]:
    errors = library("jax.errors", "jax")

    def one(x: Any) -> Any:
        out = function(x)
        if not hasattr(out, "shape"):
            raise ImportFailed(
                f"the function returns a {type(out).__name__}, expected one array N x K: choose it, as in "
                "from_jax(lambda x: function(x)[0], example)"
            )
        return out

    try:
        program, closed = traced(one, batch.shape[1:], batch.dtype)
    except (ImportFailed, KeyboardInterrupt):
        raise
    except (errors.ConcretizationTypeError, errors.NonConcreteBooleanIndexError) as error:
        raise ImportFailed(
            "the function cannot be traced: Python code in it depends on the values of the images (if, while, float(), "
            f"int(), numpy or as many numbers as fulfil a condition). JAX said: {first_line(error)}"
        ) from error
    except Exception as error:  # the user's own function failed
        lengths = " x ".join(map(str, batch.shape[1:]))
        said = str(error).lower()  # Flax's words for modules that change their state
        training = any(word in said for word in ("mutate", "modify", "cannot update variable"))
        hint = ". Import the network as it predicts: model.eval(), train=False" if training else ""
        raise ImportFailed(
            f"the function failed on a batch of shape N x {lengths} of {batch.dtype}: {first_line(error)}{hint}"
        ) from error
    (out,) = program.shapes
    if len(out) != 2 or isinstance(out[0], int) or not isinstance(out[1], int):
        raise ImportFailed(
            f"for {COUNT} images the function returns {closed.out_avals[0].shape}, expected N x K, one row for each "
            "image: is it a function of one image? Then give jax.vmap(function)"
        )
    return program, closed


def _graph(program: Program, axes: tuple[int, ...], shape: Any, dtype: torch.dtype) -> Graph:
    """The steps of a program; `axes` takes the function's axes to N x C x H x W."""
    g = Graph(dtype, shape)
    lengths: list[Any] = [0] * 4
    for place, axis in enumerate(axes):
        lengths[axis] = Size(1) if place == 0 else shape[place - 1]
    (out,) = read(g, program, [Value(g.images, tuple(lengths), axes)])
    for step in g.steps:
        step.scope = jax_names.cleaned(step.scope)
    g.scope = ()
    if isinstance(out, Unknown):
        raise ImportFailed(out.reason)
    held = g.plain(out)
    if not isinstance(held, Step):
        raise ImportFailed("the function does not look at the images: it returns a constant")
    g.output = held
    return g


def _source(function: Callable[[Any], Any], axes: tuple[int, ...], dtype: Any) -> Callable[[Tensor], Tensor]:
    return lambda images: tensor(function(to_source(images, axes, dtype)))


def _values(closed: Any, images: np.ndarray[Any, Any]) -> dict[Any, Tensor]:
    """What JAX has for each name of a jaxpr, for COUNT images."""
    jaxpr = closed.jaxpr
    known: dict[Any, Any] = dict(zip(jaxpr.constvars, closed.consts, strict=True)) | {jaxpr.invars[0]: images}
    for equation in jaxpr.eqns:
        taken = [known[value] if not hasattr(value, "val") else value.val for value in equation.invars]
        known.update(zip(equation.outvars, computed(equation, taken), strict=True))
    return {name: tensor(value) for name, value in known.items() if "key<" not in str(getattr(value, "dtype", "key<"))}


def _name(function: Any) -> str:
    named = getattr(function, "__name__", type(function).__name__)
    return "imported" if named == "<lambda>" else str(named)
