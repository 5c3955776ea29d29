"""Frameworks that pellucid does without until a network of theirs is imported."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def library(name: str, extra: str) -> Any:
    """A module of a framework.

    Args:
        name: of the module, such as "jax".
        extra: of pellucid, that installs it.

    Raises:
        ImportError: if it is not installed; the message says how to.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise ImportError(f"this needs {name.partition('.')[0]}: pip install 'pellucid[{extra}]' ({error})") from error
