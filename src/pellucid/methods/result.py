"""What every method returns: tensors, the call that made them, and how to look at them."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..display import figures
from ..display.colors import colorize
from ..files.atomic import atomic_write

if TYPE_CHECKING:
    from matplotlib.figure import Figure


# What fields of results were called before; they can still be read, with a warning.
RENAMED_FIELDS = {
    "dead": "zero_gradient", "gap": "convergence_delta", "numbers": "image_indices",
    "through": "success_under_transforms",
}  # fmt: skip


@dataclass(frozen=True)
class Call:
    """How a result was made.

    method, options, objective, model: what was asked. paper: where the method comes from.
    seconds: time taken. forward, backward: images sent through the network each way.

    A function under `@verb` gives what it alone knows; the rest is filled in for it.
    """

    method: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    objective: str = ""
    model: str = ""
    paper: str = ""
    seconds: float = math.nan
    forward: int = -1
    backward: int = -1

    def __str__(self) -> str:
        options = "".join(f", {name}={value}" for name, value in self.options.items())
        return f"{self.method}({self.model}, {self.objective}{options})"


@dataclass(frozen=True, eq=False)
class Result:
    """The part that all results share: `images` (N x C x H x W), `call`, `.show()`, `.save(path)`."""

    def __getattr__(self, name: str) -> Any:
        new = RENAMED_FIELDS.get(name)
        if new is None or new not in {f.name for f in fields(self)}:
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        warnings.warn(f"{type(self).__name__}.{name} is called {new} now", DeprecationWarning, stacklevel=2)
        return getattr(self, new)

    def figure(self, **options: Any) -> Figure:
        """The picture that `show` shows, as a matplotlib figure."""
        raise NotImplementedError

    def tensors(self) -> dict[str, Tensor]:
        """The fields that are tensors, by name."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Tensor)}

    def show(self, **options: Any) -> Figure | None:
        """Show the result: in a notebook below the cell, else in a window where there is a screen.

        Args:
            options: those of `figure`.

        Returns:
            The figure; None in a notebook, which would draw it twice.
        """
        return figures.display(self.figure(**options))

    def save(self, path: str | Path, **options: Any) -> Path:
        """Write the result, whole or not at all.

        Args:
            path: a picture (.png, .svg, .pdf) or the numbers (.npz, with the call as JSON in `call`).
            options: those of `figure`, for figures.

        Raises:
            ValueError: for another ending.
            OSError: if the file cannot be written.
        """
        path = Path(path)
        suffix = path.suffix.lower()
        if suffix not in (".png", ".svg", ".pdf", ".npz"):
            raise ValueError(
                f"cannot save as {path.name!r}: expected .png, .svg or .pdf for a picture, .npz for numbers"
            )
        figure = None if suffix == ".npz" else self.figure(**options)
        with atomic_write(path) as part:
            if figure is not None:
                figure.savefig(part, format=suffix[1:], bbox_inches="tight")
            else:
                arrays = {name: _array(value) for name, value in self.tensors().items()}
                call = getattr(self, "call", None)
                arrays["call"] = np.array(json.dumps(asdict(call) if call else None, default=str))
                with part.open("wb") as file:
                    np.savez_compressed(file, allow_pickle=False, **arrays)
        return path

    def _repr_png_(self) -> bytes:
        return figures.png(self.figure())


@dataclass(frozen=True, eq=False)
class Attribution(Result):
    """Which pixels mattered.

    values: N x C x H x W as the images, or N x 1 x H x W where there is one number per pixel.
    images: N x C x H x W, what was explained.
    convergence_delta: N numbers, the completeness error, where the method was asked for it: the sum of the values less
        the change of the objective that they should add up to.
    maps: N x 1 x h x w, the map at the resolution of its layer, for methods that work on one.
    call: how it was made.
    """

    values: Tensor
    images: Tensor = field(repr=False, default_factory=lambda: torch.empty(0))
    convergence_delta: Tensor | None = field(repr=False, default=None)
    maps: Tensor | None = field(repr=False, default=None)
    call: Call | None = None

    def figure(self, **options: Any) -> Figure:
        """Each image with its heatmap; with bars where the values are those of a layer without places.

        Args:
            options: those of `pellucid.display.figures.heatmaps`: over (True lays the map over the image), colors,
                percentile, smoothing, keep, titles; or those of `pellucid.display.figures.bars`.
        """
        options.setdefault("caption", str(self.call) if self.call else "")
        if self.values.ndim != 4:
            return figures.bars(self.images, self.values, **options)
        return figures.heatmaps(self.images, self.values, **options)

    def __repr__(self) -> str:
        return f"Attribution({' x '.join(map(str, self.values.shape))}, {self.call})"


def side_by_side(results: Sequence[Attribution], titles: Sequence[str] = (), *, shared: bool = False) -> Figure:
    """Several attributions of the same images next to each other: classes, methods, or options compared.

    Args:
        results: of the same images.
        titles: one for each result; the method and the objective by default.
        shared: one range of colors for all maps of an image, where their values have the same unit.

    Returns:
        A matplotlib figure: a row for each image, and a column for each result.

    Raises:
        ValueError: if there are no results, they are of different images, or of neurons that have no place.

    >>> import pellucid
    >>> model, scenes = pellucid.load("shapes"), pellucid.shapes.scenes(2)
    >>> classes = (None, "star")
    >>> figure = pellucid.side_by_side([pellucid.grad_cam(model, scenes.images, c) for c in classes])
    """
    if not results:
        raise ValueError("there are no results to show side by side")
    images = results[0].images
    if titles and len(titles) != len(results):
        raise ValueError(f"got {len(titles)} titles for {len(results)} results")
    for result in results:
        if result.values.ndim != 4:
            raise ValueError(f"{result!r} has no maps: its layer has no places. Show it alone")
        if result.images.shape != images.shape or not torch.equal(result.images.to(images), images):
            raise ValueError(f"{result!r} is of other images than {results[0]!r}")
    names = list(titles) or [f"{r.call.method} {r.call.objective}" if r.call else "" for r in results]
    most = max(1, figures.MOST_IMAGES // (1 + len(results)))
    caption = f"the first {most} of {len(images)} images" if len(images) > most else ""
    images = images[:most]
    maps = torch.stack([r.values[:most].detach().float().sum(1, keepdim=True).to(images.device) for r in results], 1)
    signs = [bool((m < 0).any()) for m in maps.unbind(1)]
    rows: list[Tensor] = []
    for image, row in zip(figures.displayable(images), maps, strict=True):
        alone = [colorize(one[None], signed=sign)[0] for one, sign in zip(row, signs, strict=True)]
        rows += [image, *(colorize(row, signed=any(signs), shared=True) if shared else alone)]
    return figures.grid(rows, ["image", *names], columns=1 + len(results), caption=caption)


def _array(tensor: Tensor) -> np.ndarray[Any, Any]:
    tensor = tensor.detach().cpu()
    return np.asarray(tensor.float() if tensor.dtype == torch.bfloat16 else tensor)
