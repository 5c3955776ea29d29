"""Objectives about activations: a neuron, a channel, a layer, a direction."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..model.activation_maps import as_maps
from ..model.run import Trace
from .algebra import Objective, Term, Values


def neuron(layer: str, channel: int, y: int | None = None, x: int | None = None) -> Objective:
    """One neuron: a channel of a layer at one place.

    Args:
        layer: a layer's name.
        channel: its channel.
        y, x: place on the layer's grid, row and column from the top left; the center by default.
            A layer without places (N x K) takes none.

    >>> neuron("layer3", 7, 4, 4)
    neuron("layer3", 7, 4, 4)
    """
    place = "".join(f", {v}" for v in (y, x) if v is not None)
    if y is None and x is not None:
        place = f", x={x}"

    def of(trace: Trace) -> Tensor:
        values = _channels(trace, layer, channel)
        if values.ndim == 2:
            if y is not None or x is not None:
                raise ValueError(f'neuron("{layer}", {channel}{place}): the layer has no places, leave out y and x')
            return values[:, channel]
        row = values.shape[2] // 2 if y is None else y
        column = values.shape[3] // 2 if x is None else x
        for name, value, size in (("y", row, values.shape[2]), ("x", column, values.shape[3])):
            if not 0 <= value < size:
                raise ValueError(f"layer {layer!r} has a grid of {size} along {name}, asked for {name}={value}")
        return values[:, channel, row, column]

    return _of_layer(f'neuron("{layer}", {channel}{place})', layer, of)


def channel(layer: str, index: int) -> Objective:
    """The mean of a channel over all places; for a layer without places the same as `neuron`.

    >>> channel("layer3", 7)
    channel("layer3", 7)
    """

    def of(trace: Trace) -> Tensor:
        return _channels(trace, layer, index)[:, index].reshape(len(trace.rows), -1).mean(1)

    return _of_layer(f'channel("{layer}", {index})', layer, of)


def layer(name: str) -> Objective:
    """The mean square of all activations of a layer: DeepDream's objective (Mordvintsev, Olah & Tyka 2015).

    >>> layer("layer3")
    layer("layer3")
    """
    return _of_layer(f'layer("{name}")', name, lambda trace: trace.activations[name].flatten(1).square().mean(1))


def direction(layer: str, vector: Tensor | Sequence[float]) -> Objective:
    """The mean over all places of the activation's scalar product with a vector over channels.

    Args:
        layer: a layer's name.
        vector: one number per channel.

    >>> direction("layer3", [1.0, -1.0])
    direction("layer3", <2 numbers>)
    """
    weights = torch.as_tensor(vector)
    if weights.ndim != 1:
        raise ValueError(f"a direction is a vector over channels, got the shape {tuple(weights.shape)}")

    def of(trace: Trace) -> Tensor:
        values = _channels(trace, layer)
        if values.shape[1] != len(weights):
            raise ValueError(f"layer {layer!r} has {values.shape[1]} channels, the direction has {len(weights)}")
        return torch.einsum("nc...,c->n...", values, weights.to(values)).reshape(len(values), -1).mean(1)

    return _of_layer(f'direction("{layer}", <{len(weights)} numbers>)', layer, of)


def _of_layer(text: str, name: str, of: Values) -> Objective:
    return Objective(text, lambda _model, _count: Term(of, lambda: text), reads=frozenset([name]))


def _channels(trace: Trace, name: str, index: int | None = None) -> Tensor:
    """The activation as N x C x h x w, or N x C for a layer without places."""
    values = trace.activations[name]
    maps = as_maps(values, trace.images.shape[2:])
    if maps is None:
        maps = values if values.ndim == 2 else values.movedim(-1, 1) if values.ndim == 3 else values
        if maps.ndim > 2:
            maps = maps.flatten(2)[..., None]
    if index is not None and not 0 <= index < maps.shape[1]:
        raise ValueError(f"layer {name!r} has {maps.shape[1]} channels, asked for channel {index}")
    return maps
