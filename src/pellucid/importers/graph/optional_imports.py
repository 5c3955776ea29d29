"""Frameworks that pellucid does without until a network of theirs is imported."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any


def library(name: str, extra: str) -> Any:
    """A module of a framework.

    Args:
        name: of the module, such as "jax".
        extra: of pellucid, that installs it.

    Raises:
        ImportError: if it is not installed; the message says how to. Also for TensorFlow where Triton is loaded: each
            brings LLVM, and the process would be ended by the second without a word.
    """
    if name == "tensorflow" and name not in sys.modules and sys.modules.get("triton") is not None:
        raise ImportError(
            "Triton is loaded in this process (by torch.compile, or by what imports it), and TensorFlow cannot be "
            "loaded after it: import tensorflow first, in a new process"
        )
    try:
        return import_module(name)
    except ImportError as error:
        raise ImportError(f"this needs {name.partition('.')[0]}: pip install 'pellucid[{extra}]' ({error})") from error


def without_triton() -> None:
    """Keep torch from loading Triton where TensorFlow is loaded.

    Each brings LLVM, and a process that loads Triton second is ended by it without a word.
    """
    if "tensorflow" in sys.modules:
        sys.modules.setdefault("triton", None)  # type: ignore[arg-type]
