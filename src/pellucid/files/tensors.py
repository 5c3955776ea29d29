"""Tensors and what is to be known about them in one .safetensors file, which is read without running code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .atomic import atomic_write

if TYPE_CHECKING:
    from torch import Tensor

SUFFIX = ".safetensors"


class OtherWork(ValueError):
    """A file holds work on other files, or with other options, which stays as it is."""


def write_tensors(path: str | Path, kind: str, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> Path:
    """Write the file, whole or not at all.

    Args:
        path: ends in .safetensors.
        kind: what the file holds, in words, as in "a decoder".
        tensors: by name.
        about: what JSON knows.

    Raises:
        ValueError: for another ending.
        OSError: if it cannot be written.
    """
    import safetensors.torch

    path = Path(path)
    _check_suffix(path, kind)
    # Clones, as the format knows no two names of one tensor.
    held = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    data = safetensors.torch.save(held, {"pellucid": json.dumps({"kind": kind, **about})})
    with atomic_write(path) as part:
        part.write_bytes(data)
    return path


def read_tensors(path: str | Path, kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `write_tensors` wrote.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged, or holds something else.

    >>> import tempfile, torch
    >>> file = write_tensors(Path(tempfile.mkdtemp()) / "a.safetensors", "a pair", {"one": torch.ones(2)}, {"n": 2})
    >>> read_tensors(file, "a pair")
    ({'one': tensor([1., 1.])}, {'kind': 'a pair', 'n': 2})
    """
    import safetensors

    path = Path(path)
    _check_suffix(path, kind)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file; expected {kind}")
    try:
        with safetensors.safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {}).get("pellucid", "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, ValueError) as error:
        raise ValueError(f"{path} is no {kind.removeprefix('a ')}, or it is damaged ({error})") from error
    if not isinstance(about, dict) or about.get("kind", kind) != kind:  # networks were once written without their kind
        raise ValueError(f"{path} holds something else; expected {kind}")
    return tensors, about


def read_work(path: str | Path, kind: str, recipe: str, other: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `write_tensors` wrote of work that is not done, if it is the same work.

    Args:
        recipe: what tells the work from other, as it was written in `about`.
        other: what another one is of, in words.

    Raises:
        OtherWork: if it is other work.
        FileNotFoundError, ValueError: as `read_tensors`.
    """
    tensors, about = read_tensors(path, kind)
    if about.get("recipe") != recipe:
        raise OtherWork(f"{path} is {other}: give another checkpoint, or remove it")
    return tensors, about


def _check_suffix(path: Path, kind: str) -> None:
    if path.suffix != SUFFIX:
        raise ValueError(f"{path.name!r} does not end in {SUFFIX}: {kind} is kept in a file that ends in {SUFFIX}")
