"""What class activation maps share: which layer, its activation as maps, and the way back to the image."""

from __future__ import annotations

import weakref
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...methods.result import Attribution
from ...model.activation_maps import as_maps, grid
from ...model.batches import batched
from ...model.classifier import network
from ...model.layers import Layers, layers
from ...model.run import Model, device_of, gradient, run
from ...objectives import Bound

Reshape = Callable[[Tensor], Tensor]
AT_ONCE = 8  # layers looked at in one pass, the last first
_chosen: weakref.WeakKeyDictionary[nn.Module, dict[object, str]] = weakref.WeakKeyDictionary()


def weighted_maps(
    model: Model,
    images: Tensor,
    objective: Bound,
    layer: str | None,
    reshape: Reshape | None,
    combine: Callable[[Tensor, Tensor], Tensor],
) -> Attribution:
    """A class activation map from the activations of a layer and the gradient of the objective there.

    Args:
        combine: from activations and gradients, N x C x h x w each, the map N x h x w, before the
            negative part is dropped.
    """
    layer = layer or last_spatial_layer(model, images, objective)
    parts: list[Tensor] = []

    def step(part: slice) -> None:
        rows = torch.arange(part.start, part.stop)
        slopes, trace = gradient(model, images[part], objective, at=layer, rows=rows)
        activations = spatial(trace.activations[layer].detach(), images[part], layer, reshape)
        parts.append(combine(activations, spatial(slopes, images[part], layer, reshape)))

    batched(step, len(images), like=images, label="class activation map", device=device_of(model))
    return from_layer(torch.cat(parts), images)


def from_layer(maps: Tensor, images: Tensor) -> Attribution:
    """The positive part of maps N x h x w, and the same enlarged bilinearly to the images."""
    maps = maps[:, None].clamp(min=0).to(images)
    return Attribution(F.interpolate(maps, images.shape[2:], mode="bilinear", align_corners=False), maps=maps)


def spatial(activation: Tensor, images: Tensor, layer: str, reshape: Reshape | None) -> Tensor:
    """The activation of a layer as N x C x h x w.

    Raises:
        ValueError: if it does not lie over the image, or a given reshape does not give four axes.
    """
    if reshape is not None:
        maps = reshape(activation)
        if maps.ndim != 4 or len(maps) != len(images):
            raise ValueError(f"reshape gave a tensor of shape {tuple(maps.shape)}, expected N x C x h x w")
        return maps
    found = as_maps(activation, images.shape[2:]) if len(activation) == len(images) else None
    if found is None:
        raise ValueError(
            f"layer {layer!r} gives {' x '.join(map(str, activation.shape))}, which does not lie over images of "
            f"{images.shape[2]} x {images.shape[3]}: choose a layer before pooling (pellucid.layers lists them), or "
            "say how with reshape=, a function from that to N x C x h x w"
        )
    return found


def last_spatial_layer(model: Model, images: Tensor, objective: Bound) -> str:
    """The last layer that lies over the image and that the objective still depends on there.

    In a vision transformer the patches' tokens are unused after the last attention; layers from there on
    are passed over, and so are those inside an attention.
    """
    net = network(model)
    listed = layers(model, images)
    assert net is not None  # layers() has refused what has none
    if not objective.of_classes:
        return _find(model, net, images[:1], objective, listed)[0]
    key = (tuple(images.shape[1:]), listed)
    known = _chosen.setdefault(net, {})
    if key not in known:
        name, sure = _find(model, net, images[:1], objective, listed)
        if not sure:
            return name
        known[key] = name
    return known[key]


def _find(model: Model, net: nn.Module, image: Tensor, objective: Bound, listed: Layers) -> tuple[str, bool]:
    """The layer, and whether a gradient was seen there (there is none where a probability is 1)."""
    reached = list(listed)
    if not objective.needs_output:
        reached = reached[: 1 + max(place for place, layer in enumerate(listed) if layer.name in objective.reads)]
    inside = tuple(
        f"{name}."
        for name, module in net.named_modules()
        if "attention" in type(module).__name__.lower() or name.endswith(("attn", "attention"))
    )
    layouts = {
        layer.name: found
        for layer in reached
        if not layer.name.startswith(inside)
        and not layer.kind.startswith("Adaptive")  # which may only repeat places
        and (found := grid((1, *layer.shape), image.shape[2:]))
        and found[1] * found[2] > 1
    }
    counts = {layer.shape[0] for layer in listed if layouts.get(layer.name, ("",))[0] == "NTC"}
    for layer in listed:  # an attention, heads x tokens x tokens, is no picture
        square = len(layer.shape) == 3 and layer.shape[1] == layer.shape[2] and layer.shape[1] in counts
        if square and layer.name in layouts:
            del layouts[layer.name]
    names = list(reversed(layouts))
    for first in range(0, len(names), AT_ONCE):
        block = names[first : first + AT_ONCE]
        used = _used(model, image, objective, block)
        for name in block:
            if name in used:
                return name, True
    if names:
        return names[0], False
    raise ValueError(
        "no layer of the network lies over the image (all have a single place, or none): name one with layer=, and "
        "how it lies with reshape="
    )


def _used(model: Model, image: Tensor, objective: Bound, names: list[str]) -> set[str]:
    """Those layers at whose places the objective has a gradient."""
    numbered = {name: name if "#" in name else f"{name}#1" for name in names}  # that one is called again is no matter
    with torch.enable_grad():
        trace = run(
            model,
            image.detach().requires_grad_(),
            read={*numbered.values(), *objective.reads},
            to_output=objective.needs_output,
            rows=torch.zeros(1, dtype=torch.long),
        )
        value = objective(trace).sum()
        if objective.of_classes:  # any class will do, and none is saturated
            value = (trace.output * torch.arange(1.0, trace.output.shape[1] + 1).cos().to(trace.output)).sum()
        inner = {n: a for n, number in numbered.items() if (a := trace.activations[number]).requires_grad}
        if not inner or not value.requires_grad:
            return set()
        slopes = torch.autograd.grad(value, list(inner.values()), allow_unused=True)
    maps = {n: as_maps(g, image.shape[2:]) for n, g in zip(inner, slopes, strict=True) if g is not None}
    return {name for name, values in maps.items() if values is not None and bool(values.any())}
