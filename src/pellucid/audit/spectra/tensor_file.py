"""Tensors and what is to be known about them in one .safetensors file, which is read without running code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ...files.atomic import write_tensors

SUFFIX = ".safetensors"


class OtherWork(ValueError):
    """A file holds work on other files, or with other options, which stays as it is."""


def write_tensor_file(path: str | Path, kind: str, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> Path:
    """Write the file, whole or not at all.

    Args:
        path: ends in .safetensors. kind: what the file holds, in words.
        tensors: by name. about: what JSON knows.

    Raises:
        ValueError: for another ending.
        OSError: if it cannot be written.
    """
    path = Path(path)
    _check_suffix(path, kind)
    write_tensors(path, tensors, {"kind": kind, **about})
    return path


def read_tensor_file(path: str | Path, kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `write_tensor_file` wrote.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged, or holds something else.
    """
    import safetensors

    path = Path(path)
    _check_suffix(path, kind)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file; expected {kind}")
    try:
        with safetensors.safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {}).get("pellucid", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, ValueError) as error:
        raise ValueError(f"{path} is damaged, or no .safetensors file ({error}); expected {kind}") from error
    if not isinstance(about, dict) or about.get("kind") != kind:
        raise ValueError(f"{path} holds something else; expected {kind}")
    return tensors, about


def _check_suffix(path: Path, kind: str) -> None:
    if path.suffix != SUFFIX:
        raise ValueError(f"{path.name!r} does not end in {SUFFIX}, as the file of {kind} should")
