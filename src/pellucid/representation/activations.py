"""All channels of a layer for an image, as one grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..display import figures
from ..display.colors import colorize
from ..methods.result import Call, Result
from ..methods.verb import verb
from ..model.activation_maps import as_maps
from ..model.batches import batched
from ..model.classifier import check_input
from ..model.run import Model, device_of, run
from .sweeps.contact_sheet import columns_of, sheet, sheet_figure
from .sweeps.measures import storable

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False, repr=False)
class Activations(Result):
    """What a layer holds for N images.

    values: N x C x h x w, or N x C for a layer without places. channels: the C channels. images: N x C x H x W.
    layer: its name. call: how it was made.
    """

    values: Tensor
    channels: tuple[int, ...]
    images: Tensor = field(repr=False)
    layer: str
    call: Call | None = None

    def sheet(self, image: int = 0, *, shared: bool = False, most: int = 1024, scale: int = 0) -> Tensor:
        """All channels of an image in one picture, 3 x H x W in [0, 1].

        Channels without negative values go from black over red to yellow; others from blue over white, which is zero,
        to red.

        Args:
            image: which of the N.
            shared: all channels on one scale; by default each has its own, so that weak ones are seen too.
            most: channels that are shown. scale: each value becomes a square of so many pixels; chosen by default.

        Raises:
            ValueError: for a layer without places.
        """
        if self.values.ndim != 4:
            raise ValueError(f"layer {self.layer!r} has no places, so its channels are no pictures: look at .values")
        maps = self.values[image, :most, None].detach().float()
        return sheet(colorize(maps, percentile=100, shared=shared), scale=scale)

    def figure(self, image: int = 0, **options: Any) -> Figure:
        """All channels of one image in one picture; bars for a layer without places.

        Args:
            image: which of the N. options: those of `sheet`, or of `pellucid.display.figures.bars`.
        """
        if self.values.ndim != 4:
            return figures.bars(self.images, self.values, **options)
        picture = self.sheet(image, **options)
        count = min(self.values.shape[1], options.get("most", 1024))
        said = f"the first {count} of {self.values.shape[1]}" if count < self.values.shape[1] else f"{count}"
        columns = columns_of(count, self.values.shape[2], self.values.shape[3])
        scale = "all on one scale" if options.get("shared") else "each on its own scale"
        first = f"from channel {self.channels[0]} at the top left, {columns} in a row"
        return sheet_figure(picture, f"{self.layer}: {said} channels, {first}; {scale}", self.channels_in_words())

    def channels_in_words(self) -> list[str]:
        """The numbers of the channels."""
        return [str(channel) for channel in self.channels]

    def __repr__(self) -> str:
        return f"Activations({self.layer}: {' x '.join(map(str, self.values.shape))})"


@verb()
def activations(model: Model, images: Tensor, layer: str, *, channels: Sequence[int] | None = None) -> Activations:
    """What each channel of a layer says of an image, place by place.

    Args:
        model: a network or a `Classifier`.
        images: N x C x H x W; one image is a batch of one.
        layer: its name.
        channels: which of its channels; all by default.

    Returns:
        `Activations`.

    Raises:
        UnknownName: for a layer that does not exist.
        ValueError: for a channel that there is not, or a layer whose values are neither maps nor numbers per channel.

    >>> import pellucid
    >>> model, scenes = pellucid.load("shapes"), pellucid.shapes.scenes(1)
    >>> pellucid.activations(model, scenes.images, "features.1")
    Activations(features.1: 1 x 24 x 48 x 48)
    """
    check_input(model, images)
    parts: list[Tensor] = []

    def step(part: slice) -> None:
        found = run(model, images[part], read=[layer], to_output=False).activations[layer]
        maps = found if found.ndim == 2 else as_maps(found, images.shape[2:])
        if maps is None:
            shape = " x ".join(map(str, found.shape[1:]))
            raise ValueError(f"layer {layer!r} gives N x {shape}, which does not lie over the image: choose another")
        count = maps.shape[1]
        wanted = range(count) if channels is None else channels
        for channel in wanted:
            if not 0 <= channel < count:
                raise ValueError(f"layer {layer!r} has {count} channels, counted from 0; there is no channel {channel}")
        parts.append(storable(maps if channels is None else maps[:, list(channels)]))

    with torch.no_grad():
        batched(step, len(images), like=images, label="activations", device=device_of(model))
    values = torch.cat(parts)
    chosen = tuple(range(values.shape[1])) if channels is None else tuple(int(channel) for channel in channels)
    call = Call(options={"layer": layer}, objective=layer)
    return Activations(values, chosen, images.detach(), layer, call)
