"""Models saved by Keras: read without running code that they may hold, and imported."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from ..importers.library import library
from .weights import UnreadableWeights, first

SUFFIXES = (".keras", ".h5")


def saved_model(path: Path, trusted: bool) -> Any:
    """The Keras model in a .keras or .h5 file.

    Where Keras is not running yet, it is started on JAX, which models are imported from.

    Raises:
        FileNotFoundError: if there is no such file.
        ImportError: if Keras is not installed.
        UnreadableWeights: for a broken file, or one that would run code, unless it is trusted.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    if "keras" not in sys.modules:
        os.environ.setdefault("KERAS_BACKEND", "jax")
    keras = library("keras", "keras")
    try:
        return keras.models.load_model(path, compile=False, safe_mode=not trusted)
    except (ValueError, TypeError, OSError, KeyError, AttributeError) as error:
        said = first(error)
        if not trusted and ("safe_mode" in str(error) or "unsafe" in str(error).lower()):
            raise UnreadableWeights(
                f"{path} holds Python code (a Lambda layer), which is not run unless you trust whoever made it: "
                "load(..., trusted=True)"
            ) from error
        raise UnreadableWeights(f"{path} is no model that Keras can read: {said}") from error
