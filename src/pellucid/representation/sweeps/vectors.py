"""Measures of what a layer holds for an image, and of where the relevance lies."""

from __future__ import annotations

import re
from typing import Literal, get_args

from torch import Tensor
from torch.nn import functional as F

from ...model.activation_maps import as_maps
from .measures import PIXELS, BatchContext, Measure

Pooling = Literal["mean", "max", "flatten", "token"]
SMALL = 32  # pixels are averaged down to this many a side before they are compared


def vectors(*layers: str, pooling: Pooling = "mean") -> Measure:
    """One vector of each layer for each image, as `features` has it; arrays "vectors.LAYER", N x D.

    Args:
        layers: names of layers, or "pixels": the image itself, averaged down to 32 x 32 if it is larger.
        pooling: what becomes of the places of a layer that lies over the image: their "mean", the "max" of each
            channel, "flatten" keeps all; "token" takes the first token of a transformer, its class token.

    Raises:
        ValueError: for another word.

    >>> vectors("layer3", "layer4").name
    'mean over places of layer3, layer4'
    """
    check_pooling(pooling)
    how = {"mean": "mean over places of ", "max": "max over places of ", "flatten": "all of ", "token": "token of "}

    def at(layer: str, activation: Tensor, size: tuple[int, ...]) -> dict[str, Tensor]:
        found = small(activation).flatten(1) if layer == PIXELS else vector(activation, layer, pooling, size)
        return {stored("vectors", layer): found}

    return Measure(how[pooling] + ", ".join(layers), reads=frozenset(layers), at=at)


def relevance_maps(*layers: str) -> Measure:
    """The relevance of each pixel, or of each place of some layers, summed over channels; N x 1 x h x w.

    The arrays are "relevance" for the pixels, "relevance.LAYER" for a layer.
    """
    wanted = layers or (PIXELS,)

    def rows(seen: BatchContext) -> dict[str, Tensor]:
        found = {}
        for layer in wanted:
            maps = as_maps(seen.relevance[layer], seen.trace.images.shape[2:])
            if maps is None:
                raise ValueError(f"layer {layer!r} does not lie over the image, so its relevance is no map")
            found["relevance" if layer == PIXELS else stored("relevance", layer)] = maps.sum(1, keepdim=True)
        return found

    return Measure(f"relevance maps of {', '.join(wanted)}", rows, back=frozenset(wanted))


def vector(activation: Tensor, layer: str, places: Pooling, size: tuple[int, ...]) -> Tensor:
    """An activation as N x D.

    Raises:
        ValueError: if it does not lie over the image, or has no tokens, and that is what `places` is about.
    """
    if places == "flatten" or activation.ndim == 2:
        return activation.flatten(1)
    shape = " x ".join(map(str, activation.shape[1:]))
    if places == "token":
        if activation.ndim != 3:
            raise ValueError(f"layer {layer!r} gives N x {shape}, which are no tokens: leave places='token' out")
        return activation[:, 0]
    maps = as_maps(activation, size)
    if maps is None and activation.ndim == 3:
        maps = activation.movedim(2, 1)  # tokens that are no grid
    if maps is None:
        raise ValueError(
            f"layer {layer!r} gives N x {shape}, which does not lie over the image: keep all of it with "
            "places='flatten', or choose another layer"
        )
    flat = maps.flatten(2)
    return flat.mean(2) if places == "mean" else flat.amax(2)


def small(images: Tensor) -> Tensor:
    """Images averaged down so that neither side is above 32 pixels; smaller ones as they are."""
    height, width = (min(SMALL, side) for side in images.shape[2:])
    return F.adaptive_avg_pool2d(images, (height, width)) if (height, width) != tuple(images.shape[2:]) else images


def check_pooling(pooling: str) -> None:
    if pooling not in get_args(Pooling):
        raise ValueError(f"places is {pooling!r}, expected {', '.join(map(repr, get_args(Pooling)))}")


def stored(kind: str, layer: str) -> str:
    """What the array of a layer is called in a run folder, whose names have letters, digits and _ . - alone.

    >>> stored("vectors", "relu#2")
    'vectors.relu-2'
    """
    return f"{kind}.{re.sub(r'[^A-Za-z0-9_.-]', '-', layer)}"
