"""The weights of a layer as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from ..methods.result import Call, Result
from ..methods.verb import verb
from ..model.classifier import Classifier, network
from ..model.run import Model
from ..model.run import layer as find_layer
from .sweeps.contact_sheet import sheet, sheet_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_OUT, MOST_IN = 32, 32  # of a layer whose filters are no colors: rows and columns of tiles
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d)


@dataclass(frozen=True, eq=False, repr=False)
class Filters(Result):
    """The weights of a layer.

    values: O x I x h x w, one kernel for each output and input channel. channels: the O output channels.
    layer: its name. call: how it was made.
    """

    values: Tensor
    channels: tuple[int, ...]
    layer: str
    call: Call | None = None

    @property
    def color(self) -> bool:
        """Whether a filter is a picture in colors: its input channels are red, green and blue."""
        return self.values.shape[1] == 3

    def tiles(self, *, shared: bool = False) -> Tensor:
        """The filters as pictures in [0, 1], where 0.5 is a weight of zero.

        Args:
            shared: all on one scale; by default each filter (all its input channels) has its own.

        Returns:
            O x 3 x h x w colors if the input is red, green and blue; else O x I x 1 x h x w grays.
        """
        weights = self.values.detach().float()
        largest = weights.abs().amax() if shared else weights.abs().flatten(1).amax(1)[:, None, None, None]
        pictures = 0.5 + 0.5 * weights / largest.clamp(min=1e-12)
        return pictures if self.color else pictures[:, :, None]

    def sheet(self, *, most: tuple[int, int] = (MOST_OUT, MOST_IN), shared: bool = False, scale: int = 0) -> Tensor:
        """All filters in one picture, 3 x H x W in [0, 1].

        Colors lie side by side; grays have a row for each output channel and a column for each input channel.

        Args:
            most: output and input channels that are shown, if the filters are no colors.
            shared: as for `tiles`. scale: each weight becomes a square of so many pixels; chosen by default.
        """
        tiles = self.tiles(shared=shared)
        if self.color:
            return sheet(tiles, scale=scale)
        tiles = tiles[: most[0], : most[1]]
        if tiles.shape[1] == 1:
            return sheet(tiles[:, 0], scale=scale)
        return sheet(tiles.flatten(0, 1), columns=tiles.shape[1], scale=scale)

    def figure(self, **options: Any) -> Figure:
        """All filters in one picture, with the numbers of the channels.

        Args:
            options: those of `sheet`.
        """
        picture = self.sheet(**options)
        outs, ins = self.values.shape[:2]
        most = options.get("most", (MOST_OUT, MOST_IN))
        gray = "each has its own scale, gray is zero" if not options.get("shared") else "one scale, gray is zero"
        if self.color or ins == 1:
            return sheet_figure(picture, f"{self.layer}: {outs} filters; {gray}", [*map(str, self.channels)])
        shown = (min(outs, most[0]), min(ins, most[1]))
        said = f" ({shown[0]} x {shown[1]} of {outs} x {ins})" if shown != (outs, ins) else ""
        title = f"{self.layer}: a row for each output channel, a column for each input channel{said}; {gray}"
        return sheet_figure(picture, title, [str(c) for c in self.channels[: shown[0]]], one_per_row=True)

    def __repr__(self) -> str:
        return f"Filters({self.layer}: {' x '.join(map(str, self.values.shape))})"


@verb()
def filters(model: Model, layer: str | None = None, *, channels: Sequence[int] | None = None) -> Filters:
    """The weights of a layer: what its channels look for in the layer below.

    Of the layer that sees the image filters are pictures themselves, in colors. Those of higher layers have a gray
    picture for each channel below. A dense layer that sees the image has a weight for each pixel.

    Args:
        model: a network or a `Classifier`.
        layer: a convolution, or a dense layer that sees the image; by default the first such.
        channels: which output channels; all by default.

    Returns:
        `Filters`.

    Raises:
        UnknownName: for a layer that does not exist.
        ValueError: for a layer without kernels, or a channel that there is not.

    >>> import pellucid
    >>> pellucid.filters(pellucid.load("shapes"))
    Filters(features.0.conv: 16 x 3 x 3 x 3)
    """
    net = network(model)
    if net is None:
        raise ValueError(f"a {type(model).__name__} has no layers with weights: wrap it in a torch.nn.Module")
    name = layer if layer is not None else _first(net)
    module = find_layer(model, name)
    weight = getattr(module, "weight", None)
    if not isinstance(weight, Tensor):
        inside = [f"{name}.{inner}" for inner, m in module.named_modules() if inner and isinstance(m, CONVOLUTIONS)]
        hint = f": did you mean {inside[0]!r}?" if inside else ": name a convolution"
        raise ValueError(f"layer {name!r} ({type(module).__name__}) has no weights of its own{hint}")
    weight = weight.detach().cpu()
    if isinstance(module, nn.ConvTranspose2d):
        if module.groups > 1:
            raise ValueError(f"layer {name!r} is a transposed convolution in groups: its kernels cannot be laid out")
        weight = weight.transpose(0, 1)
    values = weight[:, :, None] if weight.ndim == 3 else _as_pixels(model, name, weight) if weight.ndim == 2 else weight
    if values.ndim != 4:
        shape = " x ".join(map(str, weight.shape))
        raise ValueError(
            f"the weights of layer {name!r} are {shape}, and pictures need O x I x h x w: name a convolution"
        )
    chosen = list(range(len(values))) if channels is None else [int(channel) for channel in channels]
    for channel in chosen:
        if not 0 <= channel < len(values):
            raise ValueError(
                f"layer {name!r} has {len(values)} channels, counted from 0; there is no channel {channel}"
            )
    if not chosen:
        raise ValueError("no channel was named: leave channels out for all")
    call = Call(options={"layer": name}, objective=name)
    return Filters(values[chosen].clone(), tuple(chosen), name, call)


def _first(net: nn.Module) -> str:
    for name, module in net.named_modules():
        weight = getattr(module, "weight", None)
        if name and isinstance(weight, Tensor) and weight.ndim in (2, 4) and not isinstance(module, nn.Embedding):
            return str(name)
    raise ValueError("no layer of this network has kernels: name one with layer=")


def _as_pixels(model: Model, name: str, weight: Tensor) -> Tensor:
    """The weights of a dense layer that sees all pixels, as pictures."""
    how = model.preprocessing if isinstance(model, Classifier) else None
    if how is not None and how.size is not None and weight.shape[1] == how.channels * how.size[0] * how.size[1]:
        pictures: Tensor = weight.unflatten(1, (how.channels, *how.size))
        return pictures
    raise ValueError(
        f"layer {name!r} is dense, with {weight.shape[1]} inputs, which are not the pixels of an image: name a "
        "convolution"
    )
