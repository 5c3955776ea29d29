"""What excites a channel most: the images of a data set, and the places in them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from ..checks import warn
from ..display import figures
from ..files.tables import TABLES, write_table
from ..methods.result import Call, Result
from ..methods.verb import verb
from ..model.activation_maps import as_maps
from ..model.relevance import RulesLike
from ..model.run import Model
from ..objectives import ObjectiveLike
from .receptive_field import ReceptiveFields, receptive_fields
from .sweeps.image_source import Images
from .sweeps.measures import BatchContext, Measure
from .sweeps.stored_arrays import blocks_of
from .sweeps.sweep import Say, Sweep, record, sweep
from .sweeps.vectors import stored

if TYPE_CHECKING:
    from matplotlib.figure import Figure

By = Literal["activation", "relevance"]
PAPERS = {
    "activation": "Springenberg, Dosovitskiy, Brox & Riedmiller 2015, Striving for simplicity: the all convolutional "
    "net",
    "relevance": "Achtibat, Dreyer, Eisenbraun, Bosse, Wiegand, Samek & Lapuschkin 2023, From attribution maps to "
    "human-understandable explanations through concept relevance propagation",
}
MOST_ROWS = 16  # channels in one figure
GREY = 0.93  # what lies beyond the border of an image


@dataclass(frozen=True, eq=False, repr=False)
class Patches(Result):
    """For each of C channels the k images and places that excite it most, the strongest first.

    values: C x k, the activation there, or the relevance. image_indices: C x k, which image.
    places: C x k x 2, row and column on the layer's grid.
    boxes: C x k x 4, the pixels that the place can see: top, left, bottom, right, as in slices.
    channels: their C numbers in the layer. layer, by: what was asked for. fields: of all places of the layer.
    names, files: of all images, by number. look: an image by its number, C x H x W.
    failures: names of files that are left out, with the reason. folder: the run folder, if there is one.
    call: how it was made.
    """

    values: Tensor
    image_indices: Tensor
    places: Tensor
    boxes: Tensor
    channels: tuple[int, ...]
    layer: str
    by: str
    fields: ReceptiveFields | None
    names: tuple[str, ...]
    files: tuple[str, ...]
    look: Callable[[int], Tensor]
    failures: tuple[tuple[str, str], ...] = ()
    folder: Path | None = None
    call: Call | None = None

    @property
    def active(self) -> Tensor:
        """C booleans: whether any image excites the channel at all, above 0."""
        return self.values[:, 0] > 0

    def chosen(self, channels: Sequence[int]) -> Patches:
        """The patches of some of the channels.

        Raises:
            ValueError: for a channel that is not among them.
        """
        place = {channel: row for row, channel in enumerate(self.channels)}
        for channel in channels:
            if channel not in place:
                few = f"there are {len(place)}, {min(place)} to {max(place)}"
                raise ValueError(f"there is no channel {channel} of layer {self.layer!r}: {few}")
        rows = [place[channel] for channel in channels]
        parts = {name: getattr(self, name)[rows] for name in ("values", "image_indices", "places", "boxes")}
        return replace(self, channels=tuple(channels), **parts)

    def patch(self, row: int, rank: int, *, whole: bool = False) -> Tensor:
        """The pixels that excite channel `channels[row]`, C x h x w.

        Args:
            row: of the channel. rank: 0 is the strongest.
            whole: continue the patch beyond the border of the image with gray, so that all patches of a layer have one
                size and the place is in the middle.
        """
        image = self._image(int(self.image_indices[row, rank]))
        top, left, bottom, right = self.boxes[row, rank].tolist()
        patch = image[:, top:bottom, left:right]
        return self._extended(patch, self.places[row, rank].tolist()) if whole else patch

    def figure(self, **options: Any) -> Figure:
        """A row for each channel: its patches and their values.

        Args:
            options: channels, which of them; by default the first 16. Those of `pellucid.display.figures.grid`.
        """
        wanted = options.pop("channels", None)
        rows = [self.channels.index(c) for c in wanted] if wanted is not None else list(range(len(self.channels)))
        shown = rows[:MOST_ROWS]
        caption = str(self.call) if self.call else ""
        if len(rows) > len(shown):
            caption = f"the first {len(shown)} of {len(rows)} channels. {caption}"
        options.setdefault("caption", caption)
        tiles, titles, notes = [], [], []
        for row in shown:
            made = self.tiles(row)
            state = "" if self.active[row] else ": never active"
            titles += [f"channel {self.channels[row]}{state}", *[""] * (self.values.shape[1] - 1)]
            tiles += [image for _, image in made]
            notes += [text for text, _ in made]
        options.setdefault("inches", 1.1)
        return figures.grid(tiles, titles, notes, columns=self.values.shape[1], **options)

    def tiles(self, row: int) -> list[tuple[str, Tensor]]:
        """The patches of a channel for people: value, and picture 3 x h x w in [0, 1] with its place in the middle."""
        made = []
        for rank in range(self.values.shape[1]):
            shown = self.patch(row, rank) if self._most() else self.patch(row, rank, whole=True)
            patch = figures.displayable(shown[None].cpu())[0]
            if self._most():  # the whole image is seen: say where the place is
                patch = _framed(patch, self._cell(row, rank))
            made.append((f"{float(self.values[row, rank]):.3g}", patch))
        return made

    def rows(self) -> list[dict[str, Any]]:
        """A row for each patch: channel, rank, value, image, place and box."""
        made = []
        for row, channel in enumerate(self.channels):
            for rank in range(self.values.shape[1]):
                number = int(self.image_indices[row, rank])
                y, x = self.places[row, rank].tolist()
                top, left, bottom, right = self.boxes[row, rank].tolist()
                made.append(
                    {
                        "channel": channel, "rank": rank, "value": float(self.values[row, rank]), "image": number,
                        "name": self.names[number], "file": self.files[number] if self.files else "",
                        "row": y, "column": x, "top": top, "left": left, "bottom": bottom, "right": right,
                    }
                )  # fmt: skip
        return made

    def tensors(self) -> dict[str, Tensor]:
        found = super().tensors()
        return {**found, "channels": torch.tensor(self.channels)}

    def save(self, path: str | Path, **options: Any) -> Path:
        """Write the patches, whole or not at all: .parquet or .csv for a row for each, .npz, or a picture.

        Raises:
            ValueError: for another ending. OSError: if the file cannot be written.
        """
        path = Path(path)
        if path.suffix.lower() in TABLES:
            return write_table(path, self.rows())
        return super().save(path, **options)

    @functools.cached_property
    def _image(self) -> Callable[[int], Tensor]:
        return functools.lru_cache(maxsize=64)(self.look)

    def _most(self) -> bool:
        """Whether the places see so much that their patches are whole images, more or less."""
        if self.fields is None:
            return True
        height, width = self.fields.size
        sides = self.fields.boxes[..., 2:] - self.fields.boxes[..., :2]
        return bool((sides >= torch.tensor([0.9 * height, 0.9 * width])).all(-1).float().mean() > 0.2)

    def _cell(self, row: int, rank: int) -> tuple[int, int, int, int]:
        top, left, bottom, right = self.boxes[row, rank].tolist()
        if self.fields is None:
            return 0, 0, bottom - top, right - left
        y, x = self.places[row, rank].tolist()
        a, b, c, d = self.fields.cell((y, x))
        return max(0, a - top), max(0, b - left), min(bottom, c) - top, min(right, d) - left

    def _extended(self, patch: Tensor, place: Sequence[int]) -> Tensor:
        """A patch at the border, with gray where a place in the middle would see more."""
        if self.fields is None:
            return patch
        sides = self.fields.boxes[..., 2:] - self.fields.boxes[..., :2]
        height, width = sides.flatten(0, 1).amax(0).tolist()
        top, left, bottom, right = self.fields[place[0], place[1]]
        canvas = patch.new_full((patch.shape[0], height, width), GREY)
        low = (height - patch.shape[1]) if top == 0 and bottom < self.fields.size[0] else 0
        side = (width - patch.shape[2]) if left == 0 and right < self.fields.size[1] else 0
        canvas[:, low : low + patch.shape[1], side : side + patch.shape[2]] = patch
        return canvas

    def __repr__(self) -> str:
        count, k = self.values.shape
        return (
            f"Patches({count} channels of {self.layer} x {k}, by {self.by}, of {len(self.names)} images, {self.call})"
        )


def top_activations(*layers: str, by: By = "activation", each: int = 1) -> Measure:
    """Where each channel of some layers is strongest in each image; one measure serves all channels.

    The arrays are "ACTIVATION.LAYER" and "place.ACTIVATION.LAYER", N x C x each: values, and places as row x columns +
    column; for relevance so too.

    Args:
        layers: names of layers. by: what is looked at, "activation" or "relevance".
        each: how many places of an image.
    """
    check_by(by)

    def at(layer: str, values: Tensor, size: tuple[int, ...]) -> dict[str, Tensor]:
        maps = as_maps(values, size)
        if maps is None and values.ndim != 2:
            shape = " x ".join(map(str, values.shape[1:]))
            raise ValueError(f"layer {layer!r} gives N x {shape}, which has no places in the image: choose another")
        flat = values[..., None] if maps is None else maps.flatten(2)
        best, places = _largest(flat) if each == 1 else flat.topk(min(each, flat.shape[2]), 2)
        return {stored(by, layer): best, f"place.{stored(by, layer)}": places.int()}

    def rows(seen: BatchContext) -> dict[str, Tensor]:
        size = tuple(seen.trace.images.shape[2:])
        return {name: found for layer in layers for name, found in at(layer, seen.relevance[layer], size).items()}

    name = f"{f'{each} ' if each > 1 else ''}strongest {by} of each channel of {', '.join(layers)}"
    wanted = frozenset(layers)
    return Measure(name, reads=wanted, at=at) if by == "activation" else Measure(name, rows, back=wanted)


@verb(paper="; ".join(PAPERS.values()))
def top_patches(
    model: Model,
    images: Images,
    layer: str,
    *,
    channels: int | Sequence[int] | None = None,
    k: int = 9,
    by: By = "activation",
    objective: ObjectiveLike = None,
    rules: RulesLike = "EPSILON_PLUS_FLAT",
    each: int = 1,
    folder: str | Path | None = None,
    overwrite: bool = False,
    on_message: Say | None = None,
) -> Patches:
    """The images of a data set that excite each channel of a layer most, cut to what the strongest place can see.

    All channels are found in one pass over the images. By "activation" the strongest is where the channel's value is
    largest; by "relevance" where it matters most for the class that is predicted, by layer-wise relevance propagation:
    a channel may be active without being used.

    Args:
        model: a network or a `Classifier`; the latter where files are to be read.
        images: a folder, files, or a tensor N x C x H x W.
        layer: its name.
        channels: which of its channels; all by default.
        k: patches of a channel.
        by: "activation" or "relevance".
        objective: whose relevance; None is each image's predicted class.
        rules: of relevance, as for `pellucid.lrp`.
        each: so many places of one image at the most, so that no image fills all k.
        folder: a run folder to keep the extremes of all images in; in memory by default. overwrite, on_message: as for
            `pellucid.features`.

    Returns:
        `Patches`.

    Raises:
        UnknownName: for a layer that does not exist.
        ValueError: for a layer whose values have no places, a channel that there is not, or options that make no sense.
        RuleError: by relevance, for a layer that rules go past, such as a convolution before its batch norm.
        OtherRun: the folder holds a run of another model, or with other files or options.

    >>> import pellucid
    >>> model, scenes = pellucid.load("shapes"), pellucid.shapes.scenes(8)
    >>> found = pellucid.top_patches(model, scenes.images, "features.1", channels=[3, 5], k=2)
    >>> found.values.shape, found.patch(0, 0).shape
    (torch.Size([2, 2]), torch.Size([3, 7, 7]))
    """
    if not isinstance(layer, str):
        raise TypeError(f"layer is {layer!r}, expected the name of one layer")
    for name, value in (("k", k), ("each", each)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{name} is {value!r}, expected a whole number above 0")
    measure = top_activations(layer, by=by, each=each)
    swept = sweep(
        model, images, [measure], objective=objective, rules=rules, predict=by == "relevance", labels=None,
        folder=folder, overwrite=overwrite, on_message=on_message,
    )  # fmt: skip
    options: dict[str, Any] = {"k": k, "by": by, "each": each}
    text = "each image's predicted class" if objective is None else str(objective)
    call = record("top_patches", model, swept, options, f"{layer}" if by == "activation" else text, PAPERS[by])
    return patches_of(swept, model, layer, channels=channels, k=k, by=by, call=call)


def patches_of(
    swept: Sweep,
    model: Model,
    layer: str,
    *,
    channels: int | Sequence[int] | None = None,
    k: int = 9,
    by: By = "activation",
    call: Call | None = None,
) -> Patches:
    """The patches of one layer from a sweep whose measures had `top_activations` of it."""
    name = stored(by, layer)
    if name not in swept.arrays:
        raise ValueError(f"the sweep has no extremes of {layer!r} by {by}: it has {', '.join(swept.arrays)}")
    values, numbers, places = _strongest(swept.arrays, name, k)
    if values.shape[1] < k:
        few = "there is 1 image" if len(swept) == 1 else f"there are {len(swept)} images"
        patches = "1 patch" if values.shape[1] == 1 else f"{values.shape[1]} patches"
        warn(f"k is {k}, but {few}: a channel has {patches}")
    total = len(values)
    wanted = list(range(total)) if channels is None else [channels] if isinstance(channels, int) else list(channels)
    for channel in wanted:
        if not 0 <= channel < total:
            raise ValueError(f"layer {layer!r} has {total} channels, counted from 0; there is no channel {channel}")
    values, numbers, places = (part[wanted] for part in (values, numbers, places))
    first = swept.look(0)
    size = (first.shape[1], first.shape[2])
    fields = _fields(model, layer, size, first.shape[0])
    columns = 1 if fields is None else fields.grid[1]
    grid = torch.stack([places // columns, places % columns], -1)
    if fields is None:
        boxes = torch.tensor([0, 0, *size]).expand(*places.shape, 4)
    else:
        boxes = fields.boxes[grid[..., 0].clamp(max=fields.grid[0] - 1), grid[..., 1]]
    return Patches(
        values=values,
        image_indices=numbers,
        places=grid,
        boxes=boxes,
        channels=tuple(wanted),
        layer=layer,
        by=by,
        fields=fields,
        names=swept.names,
        files=swept.files,
        look=swept.look,
        failures=swept.failures,
        folder=swept.folder,
        call=call,
    )


def check_by(by: str) -> None:
    if by not in PAPERS:
        raise ValueError(f"by is {by!r}, expected 'activation' or 'relevance'")


def _largest(values: Tensor) -> tuple[Tensor, Tensor]:
    """The largest along the last axis, and where it is first."""
    if values.device.type == "cpu" and values.dtype in (torch.float32, torch.float64):
        places = torch.from_numpy(np.asarray(values.detach().numpy().argmax(2)))[..., None]  # ten times as fast there
        return values.gather(2, places), places
    best = values.max(2, keepdim=True)
    return best.values, best.indices


def _strongest(arrays: Mapping[str, Tensor], name: str, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """The k strongest of each channel: values, images and places, C x k; of equally strong ones the earlier image."""
    best: tuple[Tensor, Tensor, Tensor] | None = None
    start = 0
    for values, places in zip(blocks_of(arrays, name), blocks_of(arrays, f"place.{name}"), strict=True):
        count, channels, each = values.shape
        numbers = torch.arange(start, start + count)[:, None].expand(count, each).reshape(-1).expand(channels, -1)
        block = (values.movedim(1, 0).flatten(1), numbers, places.movedim(1, 0).flatten(1).long())
        joined = block if best is None else tuple(torch.cat(pair, 1) for pair in zip(best, block, strict=True))
        order = joined[0].sort(dim=1, descending=True, stable=True).indices[:, :k]
        best = (joined[0].gather(1, order), joined[1].gather(1, order), joined[2].gather(1, order))
        start += count
    assert best is not None
    return best


def _fields(model: Model, layer: str, size: tuple[int, int], channels: int) -> ReceptiveFields | None:
    """The receptive fields; None for a layer without places."""
    try:
        return receptive_fields(model, layer, size, channels)
    except ValueError:
        return None


def _framed(image: Tensor, box: tuple[int, int, int, int]) -> Tensor:
    """An image with a frame around a box, white in black."""
    image = image.clone()
    height, width = image.shape[1:]
    top, left, bottom, right = box
    thick = max(1, round(max(height, width) / 112))
    for grow, shade in ((thick, 0.0), (0, 1.0)):
        a, b = max(0, top - grow), max(0, left - grow)
        c, d = min(height, bottom + grow), min(width, right + grow)
        image[:, a : a + thick, b:d] = shade
        image[:, max(a, c - thick) : c, b:d] = shade
        image[:, a:c, b : b + thick] = shade
        image[:, a:c, max(b, d - thick) : d] = shade
    return image
