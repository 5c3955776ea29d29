"""What tells one model, or one run, from another."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..model.classifier import Classifier, network


def describe_model(model: Callable[[Tensor], Any]) -> dict[str, Any]:
    """What tells one model from another, for a manifest: names, weights, and how images get into it.

    >>> describe_model(torch.nn.Flatten())["kind"]
    'torch.nn.modules.flatten.Flatten'
    """
    net = network(model)
    kind = type(model if net is None else net)
    about: dict[str, Any] = {"kind": f"{kind.__module__}.{kind.__qualname__}", "weights": weights_hash(model)}
    if isinstance(model, Classifier):
        labels = sha256("\n".join(model.labels).encode(errors="surrogatepass")) if model.labels else ""
        about = {"name": model.name, **about, "preprocessing": asdict(model.preprocessing), "labels": labels}
    return about


def weights_hash(model: Callable[[Tensor], Any]) -> str:
    """SHA-256 over the names, types, shapes and bytes of all weights and buffers that a network would save.

    It says the same of a network and of a `Classifier` around it, and does not depend on the device.

    Args:
        model: a network or a `Classifier`.

    Returns:
        64 hexadecimal digits; nothing for a function that is no torch module.

    >>> weights_hash(torch.nn.Flatten())[:8]
    'e3b0c442'
    """
    net = network(model)
    if net is None:
        return ""
    digest = hashlib.sha256()
    for name, value in net.state_dict().items():
        if not isinstance(value, Tensor):  # what get_extra_state returned
            digest.update(f"{name}: {value!r}\n".encode())
            continue
        tensor = value.detach()
        tensor = tensor.dequantize() if tensor.is_quantized else tensor
        tensor = (tensor if tensor.layout == torch.strided else tensor.to_dense()).cpu().contiguous()
        digest.update(f"{name}: {value.dtype} {tuple(value.shape)}\n".encode())
        if tensor.numel():
            digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def hash_of(value: Any) -> str:
    """SHA-256 of anything that JSON knows, for what is too long for a manifest.

    >>> hash_of(["a", 1])[:8]
    '2657442b'
    """
    return sha256(json.dumps(value, sort_keys=True).encode())


def as_json(value: Any) -> dict[str, Any]:
    """What the value is after a way through a file; a tensor becomes its shape and hash, other things their text."""

    def told(item: Any) -> str:
        if isinstance(item, Tensor):
            return f"tensor {' x '.join(map(str, item.shape))} {sha256(np.asarray(item.detach().cpu()).tobytes())[:16]}"
        return str(item)

    def named(item: Any) -> Any:
        if isinstance(item, Mapping):
            return {k if isinstance(k, str) else getattr(k, "__name__", str(k)): named(v) for k, v in item.items()}
        return list(map(named, item)) if isinstance(item, (list, tuple)) else item

    return dict(json.loads(json.dumps(named(value), default=told)))


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def difference(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, str]:
    """What differs between two manifests, in words; the size of a chunk may."""
    differs: dict[str, str] = {}
    for key in {**wanted, **found}:
        old, new = _flat(key, found.get(key)), _flat(key, wanted.get(key))
        either = [name for name in {**new, **old} if key != "chunk"]
        changed = [n for n in either if (n in old) != (n in new) or old.get(n) != new.get(n)]
        if changed:
            shown = [f"{name} was {_short(old.get(name))}, is now {_short(new.get(name))}" for name in changed[:3]]
            differs[key] = ", ".join(shown) + (f" and {len(changed) - 3} more" if len(changed) > 3 else "")
    return differs


def items_differ(old: Sequence[str], new: Sequence[str]) -> str:
    gone, come = sorted(set(old) - set(new)), sorted(set(new) - set(old))
    said = [
        f"{len(names)} items {how}, such as {names[0]!r}" for names, how in ((gone, "fewer"), (come, "more")) if names
    ]
    return " and ".join(said) or "the items are the same, in another order"


def _flat(name: str, value: Any) -> dict[str, Any]:
    if isinstance(value, dict) and value:
        return {inner: item for key in value for inner, item in _flat(f"{name}.{key}", value[key]).items()}
    return {name: value}


def _short(value: Any) -> str:
    text = "absent" if value is None else str(value)
    return f"{text[:12]}..." if re.fullmatch("[0-9a-f]{64}", text) else text if len(text) < 80 else f"{text[:77]}..."
