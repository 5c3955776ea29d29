"""Files of weights: downloaded whole, and read without running code that is in them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..files.atomic import atomic_write
from ..model.batches import progress

RANDOM = "random"  # what `weights` is for a network that has learned nothing
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".tar")  # of files of weights
TIMEOUT = 30  # seconds that a server may keep silent
_BLOCK = 2**20
_NESTED = ("state_dict", "model_state_dict", "model", "net")  # where checkpoints keep their weights
PREFIXES = ("module.", "model.", "net.")  # DataParallel, Lightning, pellucid
TRUST = "if you trust whoever made it, load(..., trusted=True)"


class UnreadableWeights(ValueError):
    """A file that holds no weights, or not those of this network, or that would have to run code to be read."""


class MissingWeights(UnreadableWeights, ConnectionError):
    """Weights that cannot be downloaded; the message says which file is wanted and where it can be put."""


def download(name: str, url: str) -> Path:
    """The file of an address, in torch's folder of weights; it appears there whole or not at all."""
    from urllib.request import Request, urlopen

    path = Path(torch.hub.get_dir(), "checkpoints", url.rpartition("/")[2])
    if path.is_file():
        return path
    expected = path.stem.rpartition("-")[2]  # torchvision names its files by their SHA-256
    digest = hashlib.sha256()
    try:
        with urlopen(Request(url, headers={"User-Agent": "pellucid"}), timeout=TIMEOUT) as source:
            total = int(source.headers.get("Content-Length") or 0) // _BLOCK
            with atomic_write(path) as part, part.open("wb") as sink, progress(total, path.name, "MB") as advance:
                while block := _received(source):
                    digest.update(block)
                    sink.write(block)
                    advance(1)
                if not digest.hexdigest().startswith(expected):
                    raise _Broken("what arrived is damaged or incomplete")
    except PermissionError:
        raise
    except (OSError, _Broken) as error:
        raise MissingWeights(
            f"the weights of {name} could not be downloaded ({first_line(error)}). They are at {url}: connect this "
            f"machine, or bring the file and put it at {path}, or load({name!r}, weights=FILE)"
        ) from error
    return path


class _Broken(Exception):
    """A download that ended too early."""


def _received(source: Any) -> bytes:
    from http.client import HTTPException

    try:
        block: bytes = source.read(_BLOCK)
    except (OSError, HTTPException) as error:
        raise _Broken(str(error) or type(error).__name__) from error
    return block


def weights_file(weights: str | Path | None) -> Path | None:
    """The file that `weights` names, or None where it names none."""
    if weights is None or weights == RANDOM:
        return None
    path = Path(weights)
    if isinstance(weights, Path) or path.suffix.lower() in SUFFIXES or len(path.parts) > 1 or path.is_file():
        if not path.is_file():
            raise FileNotFoundError(f"there is no file of weights {path}{' (it is a folder)' if path.is_dir() else ''}")
        return path
    return None


def read_state(file: Path, trusted: bool) -> dict[str, Tensor]:
    """The weights in a file, by name."""
    import warnings

    if file.stat().st_size == 0:
        raise UnreadableWeights(f"{file} is empty (0 bytes): get a whole copy of it")
    if file.suffix == ".pt2":
        raise UnreadableWeights(f"{file} is an exported program, with its network inside: load({str(file)!r})")
    content: Any
    try:
        if file.suffix.lower() == ".safetensors":
            from safetensors.torch import load_file

            content = load_file(file)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch warns of old formats
                content = torch.load(file, map_location="cpu", weights_only=not trusted)
    except PermissionError:
        raise
    except Exception as error:  # unpicklers raise whatever they stumble over
        said = str(error)
        if "TorchScript" in said:
            raise UnreadableWeights(
                f"{file} is a TorchScript program, which cannot be looked into: save the weights of the network that "
                "it was made from, torch.save(net.state_dict(), 'weights.pth')"
            ) from error
        wants = re.search(r"GLOBAL (\w[\w.]*)", said)  # a function or class of Python
        if wants and not trusted:
            raise UnreadableWeights(
                f"{file} is more than weights: reading it would run code ({wants[1]}). Save the weights alone where "
                f"you made it, torch.save(net.state_dict(), 'weights.pth'); or, {TRUST}"
            ) from error
        reason = first_line(said.rpartition(" error: ")[2]) if said else type(error).__name__
        raise UnreadableWeights(
            f"{file} is no file of weights, or a damaged one ({reason}). Expected what safetensors or "
            "torch.save(net.state_dict(), ...) writes"
        ) from error
    return _tensors(content, file)


def _tensors(content: Any, file: Path) -> dict[str, Tensor]:
    while True:
        if isinstance(content, nn.Module):
            content = content.state_dict()
        if not isinstance(content, Mapping) or not content:
            kind = "nothing" if isinstance(content, Mapping) else f"a {type(content).__name__}"
            raise UnreadableWeights(f"{file} holds {kind}; expected weights by name, as net.state_dict() gives them")
        if all(isinstance(value, Tensor) for value in content.values()):
            break
        inner = [content[key] for key in _NESTED if isinstance(content.get(key), (Mapping, nn.Module))]
        if not inner:
            keys = ", ".join(repr(key) for key in list(content)[:5])
            raise UnreadableWeights(
                f"{file} holds {keys}{', ...' if len(content) > 5 else ''}; expected weights by name, alone or under "
                f"one of {', '.join(map(repr, _NESTED))}"
            )
        content = inner[0]
    for name, tensor in content.items():
        if (tensor.is_floating_point() or tensor.is_complex()) and not tensor.isfinite().all():
            raise UnreadableWeights(f"{file}: the weight {name!r} holds NaN or infinity; its training has failed")
    return {str(name): tensor for name, tensor in content.items()}


def first_line(error: Any) -> str:
    """The first sentence of what an exception says, in one line."""
    error = getattr(error, "reason", None) or error  # urllib's is inside
    said = " ".join(str(error).split()) or type(error).__name__
    return re.split(r"(?<=[.!?])\s|\s\(Triggered", said)[0].rstrip(".")[:200]


def shorten(names: Iterable[str], count: int = 3) -> str:
    names = list(names)
    return ", ".join(names[:count]) + (f" and {len(names) - count} more" if len(names) > count else "")


def shape_text(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "one number"
