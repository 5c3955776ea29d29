"""The layers of a network, in the order in which a pass goes through them."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from threading import get_ident

import torch
from torch import Tensor, nn

from ..checks import check_network
from .classifier import Classifier, network
from .run import Model, run


@dataclass(frozen=True)
class Layer:
    """One call of a module: its name for `read=` and objectives, its kind, and its output's shape without N.

    An output whose first axis is not N (tokens of all images in a row, say) has its whole shape.
    """

    name: str
    kind: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name:40} {self.kind:24} {' x '.join(map(str, self.shape))}"


class Layers(tuple[Layer, ...]):
    """A tuple of layers that prints as a table."""

    def __repr__(self) -> str:
        return "\n".join(map(str, self))


_known: weakref.WeakKeyDictionary[nn.Module, dict[object, Layers]] = weakref.WeakKeyDictionary()


def layers(model: Model, images: Tensor | None = None) -> Layers:
    """All layers of a network with kind and output shape.

    Args:
        model: a network or a `Classifier`.
        images: a batch, of which one image is sent through; by default one of zeros of the model's size.

    Returns:
        A tuple of `Layer` in the order in which they finish. A module that is called again is listed as
        `name#2`, `name#3`, ...

    Raises:
        ValueError: if the size of the images is not known and no images are given.

    >>> import pellucid
    >>> pellucid.layers(pellucid.load("shapes"))[-1].kind
    'Linear'
    """
    net = network(model)
    if net is None:
        raise TypeError(f"a {type(model).__name__} has no named layers: wrap it in a torch.nn.Module")
    check_network(net)
    if images is None:
        images = blank(model)
    key = (images.shape[1:], tuple(id(module) for module in net.modules()))
    known = _known.get(net, {})
    if key in known:
        return known[key]
    listed = _listed(model, net, images[:1].detach())
    _known[net] = {key: listed}
    return listed


def blank(model: Model) -> Tensor:
    """One image of zeros of the size that a `Classifier` takes."""
    size: Sequence[int] | None = model.preprocessing.size if isinstance(model, Classifier) else None
    if size is None:
        raise ValueError("the size of the images is not known: pass a batch, as in layers(model, images)")
    assert isinstance(model, Classifier)
    return torch.zeros(1, model.preprocessing.channels, *size)


def _listed(model: Model, net: nn.Module, image: Tensor) -> Layers:
    found: list[Layer] = []
    calls: dict[str, int] = {}
    handles = []
    thread = get_ident()
    if isinstance(net, torch.jit.ScriptModule):
        raise TypeError("the layers of a TorchScript network cannot be seen: give the network it was made from")
    try:
        for name, module in net.named_modules():
            if not name:
                continue

            def note(module: nn.Module, _inputs: object, out: object, name: str = name) -> None:
                if get_ident() != thread:
                    return  # another thread's pass through the same network
                calls[name] = calls.get(name, 0) + 1
                out = out[0] if isinstance(out, (tuple, list)) and out else out
                if isinstance(out, Tensor):
                    label = name if calls[name] == 1 else f"{name}#{calls[name]}"
                    shape = out.shape[1:] if out.ndim and len(out) == len(image) else out.shape
                    found.append(Layer(label, type(module).__name__, tuple(shape)))

            handles.append(module.register_forward_hook(note))
        with torch.no_grad():
            run(model, image)
    finally:
        for handle in handles:
            handle.remove()
    return Layers(found)
