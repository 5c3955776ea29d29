"""What a JAX function that cannot be traced did wrong, and what to do, in words."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..graph.graph import first_line
from ..graph.optional_imports import library

TRAINING = (
    "mutate",
    "modify",
    "cannot update variable",
    "non-deterministic",
    "needs prng",
)  # said by modules that train


def untraceable(error: Exception) -> str | None:
    """Of a function that looks at the values of the images; None for other errors."""
    errors = library("jax.errors", "jax")
    if isinstance(error, errors.TracerArrayConversionError):
        does, instead = "gives the images to numpy", "write it with jax.numpy"
    elif isinstance(error, errors.NonConcreteBooleanIndexError):
        does, instead = (
            "picks as many numbers as fulfill a condition",
            "keep all of them, as jnp.where(condition, x, 0) does",
        )
    elif isinstance(error, errors.TracerBoolConversionError):
        does, instead = "decides by the images (if, while, and, or, assert)", "write jnp.where(condition, a, b)"
    elif isinstance(error, (errors.ConcretizationTypeError, errors.TracerIntegerConversionError)):
        does, instead = (
            "makes numbers of the images (float(), int(), .item(), a shape)",
            "leave them arrays of jax.numpy",
        )
    else:
        return None
    return (
        f"the function cannot be traced: Python code in it {does}{_line(error)}. Neither an import nor bridge=True can "
        f"follow it: {instead}. JAX said: {first_line(error)}"
    )


def failed(error: Exception, function: Callable[[Any], Any], shape: tuple[int, ...], dtype: Any) -> str:
    """Of a function that fails on a batch N x shape, for other reasons."""
    lengths = " x ".join(map(str, shape))
    said = f"the function failed on a batch of shape N x {lengths} of {dtype}: {first_line(error).rstrip('.')}"
    return f"{said}{_line(error)}{_hint(error, function, shape, dtype)}"


def _hint(error: Exception, function: Callable[[Any], Any], shape: tuple[int, ...], dtype: Any) -> str:
    said = str(error).lower()
    if any(word in said for word in TRAINING):
        return ". Import the network as it predicts: train=False, model.eval(), equinox.nn.inference_mode(model)"
    linen = getattr(sys.modules.get("flax.linen"), "Module", None)
    if linen is not None and isinstance(function, linen) and function.scope is None:
        return ". A module of Flax linen is without its weights: give lambda x: module.apply(variables, x)"
    if "required positional argument" in said:
        return ". Give a function of the images alone, as in lambda x: function(x, train=False)"
    first, height, width = shape
    for other in ((height, width, first), (width, first, height)):
        if other != shape and _works(function, (3, *other), dtype):
            lengths = " x ".join(map(str, other))
            return f". It works on N x {lengths}: give the example with its axes in that order"
    if _works(function, shape, dtype):
        return ". It works on one image: give jax.vmap(function)"
    return ""


def _works(function: Callable[[Any], Any], shape: tuple[int, ...], dtype: Any) -> bool:
    jax = library("jax", "jax")
    try:
        jax.eval_shape(lambda x: function(x), jax.ShapeDtypeStruct(shape, dtype))
    except Exception:  # the user's own function failed, for any reason
        return False
    return True


def _line(error: Exception) -> str:
    """The line of the user's own code that an error came from, where there is one."""
    importers = Path(__file__).parents[1]
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__)
        if "site-packages" not in frame.filename
        and importers not in Path(frame.filename).parents
        and frame.filename[:1] != "<"
    ]  # fmt: skip
    return f", in line {frames[-1].lineno} of {Path(frames[-1].filename).name}" if frames else ""
