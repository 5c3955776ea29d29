"""What UMAP and PaCMAP share: their libraries kept quiet, and how many neighbors there can be."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

import numpy as np


@contextmanager
def quiet(library: Any) -> Iterator[None]:
    """What a library says goes to stderr, and numpy's random state stays as it was."""
    logger = logging.getLogger(library.__name__)
    level, state = logger.level, np.random.get_state()  # noqa: NPY002
    logger.setLevel(logging.ERROR)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        logger.setLevel(level)
        np.random.set_state(state)  # noqa: NPY002


def fitting(neighbors: int, usual: int, count: int, least: int) -> int:
    """How many neighbors, as far as there are points for the default."""
    if count < least:
        raise ValueError(f"there are {count} points: it takes {least} or more for neighbors to mean anything")
    if neighbors == usual:
        return min(usual, count - 1)
    if not 2 <= neighbors <= count - 1:
        raise ValueError(f"neighbors is {neighbors}, and there are {count} points: expected 2 to {count - 1}")
    return neighbors


def imported(name: str, package: str) -> Any:
    """A library of the extra `embed`."""
    import importlib

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f"{name} needs {package}, which is not installed: pip install 'pellucid[embed]'. pca and tsne need nothing "
            "more"
        ) from error
