"""Models saved by Keras: read without running code that they may hold, and imported."""

from __future__ import annotations

import os
import re
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..importers import from_keras
from ..importers.graph.optional_imports import library
from ..model.classifier import Classifier
from .weights import UnreadableWeights, first_line

SUFFIXES = (".keras", ".h5")
BACKENDS = ("jax", "tensorflow", "torch")
SAFE = (3, 13, 2)  # before it, files of several kinds could run code all the same (CVE-2025-9905, CVE-2026-1462)


def backend() -> str:
    """Which of Keras's backends reads a file: that of KERAS_BACKEND where it is there; the network is the same."""
    found = [name for name in BACKENDS if find_spec(name) is not None]
    asked = os.environ.get("KERAS_BACKEND", "")
    return asked if asked in found else found[0]


def keras_file(path: Path, *, trusted: bool, mean: Any, std: Any, size: Any) -> Classifier:
    """The model in a .keras or .h5 file, as a torch network.

    Args:
        path: the file.
        trusted: also where it holds Python code.
        mean, std, size: as for `load`.

    Raises:
        ImportError: if Keras is not installed.
        ImportFailed: as for `from_keras`.
        UnreadableWeights: for a broken file, or one that would run code, unless it is trusted.
    """
    keras = library("keras", "keras")
    if not trusted and tuple(map(int, re.findall(r"\d+", keras.__version__)[:3])) < SAFE:
        raise UnreadableWeights(
            f"Keras {keras.__version__} cannot be kept from running code that a file may hold: pip install --upgrade "
            f"keras; or, if you trust whoever made {path}, load(..., trusted=True)"
        )
    _check(path)
    try:
        model = keras.models.load_model(path, compile=False, safe_mode=not trusted)
    except Exception as error:  # a broken file raises whatever stumbles over it
        raise UnreadableWeights(f"{path} {_why(str(error), trusted)}") from error
    return from_keras(model, mean=mean, std=std, size=size, name=path.stem)


def _check(path: Path) -> None:
    """Refuse a file that is not whole; Keras says that there is none."""
    if path.stat().st_size == 0:
        raise UnreadableWeights(f"{path} is empty (0 bytes): get a whole copy of it")
    if path.suffix == ".keras" and not zipfile.is_zipfile(path):
        raise UnreadableWeights(
            f"{path} is no model of Keras, or not all of it: expected the archive that model.save('mine.keras') writes"
        )


def _why(said: str, trusted: bool) -> str:
    """What Keras's words mean for somebody who has only the file."""
    if not trusted and ("safe_mode" in said or "unsafe" in said.lower()):
        return (
            "holds Python code (a Lambda layer), which is not run unless you trust whoever made it: "
            "load(..., trusted=True)"
        )
    if own := re.search(r"(?:Could not locate (?:class|function)|Unknown \w+:) '(.+?)'", said):
        return (
            f"needs Python code that is not in it, of {own[1]!r}: load it in Python, where that code is, with "
            "keras.models.load_model(file, custom_objects=...), and give the model to pellucid.from_keras"
        )
    if "No model config found" in said:
        return (
            "holds weights without a network: build the network in Python, load them into it, and save all of it with "
            "model.save('mine.keras')"
        )
    return f"is no model that Keras can read: {first_line(said.rpartition('Exception encountered: ')[2])}"
