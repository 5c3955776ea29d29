"""A network with what belongs to it: how pixels enter it, and what its outputs are called."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..checks import UnknownName, check_images, check_network, nan_weights, nearest
from ..files.images import list_images, read_image
from .batches import batched


@dataclass(frozen=True)
class Preprocessing:
    """How a photo becomes what the network was trained on.

    size: height and width that the network takes; None takes any.
    resize: the shorter side before the center crop; "squash" scales to `size` ignoring the aspect; None
        scales the shorter side to fit `size`.
    interpolation: "bilinear" or "bicubic".
    mean, std: per channel, in units of pixels in [0, 1]; None leaves pixels as they are.
    channels: 3 for RGB, 1 for gray.
    """

    size: tuple[int, int] | None = None
    resize: int | str | None = None
    interpolation: str = "bilinear"
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    channels: int = 3


@dataclass(frozen=True, eq=False)
class Predictions:
    """The k most probable classes of each image, the most probable first.

    classes: N x k indices. probabilities: N x k, in [0, 1]. labels: N lists of k names.
    """

    classes: Tensor
    probabilities: Tensor
    labels: list[list[str]]

    def __str__(self) -> str:
        rows = []
        for names, values in zip(self.labels, self.probabilities.tolist(), strict=True):
            rows += [f"{value:7.2%}  {name}" for name, value in zip(names, values, strict=True)] + [""]
        return "\n".join(rows[:-1])

    __repr__ = __str__


class Classifier(nn.Module):
    """A network that takes images as people have them: float, N x C x H x W, values in [0, 1].

    It normalizes inside, differentiably, and knows the names of its classes. Made by `wrap` and `load`;
    the network itself is held, not copied, and not changed.

    Attributes:
        net: the network.
        preprocessing: how files are read for it.
        labels: names of the classes, by index; may be empty.
        name: what to call it in titles.
    """

    mean: Tensor | None
    std: Tensor | None

    def __init__(
        self, net: nn.Module, preprocessing: Preprocessing, labels: Sequence[str] = (), name: str = ""
    ) -> None:
        super().__init__()
        self.net = net
        self.training = net.training
        self.preprocessing = preprocessing
        self.labels = tuple(labels)
        self.name = name or type(net).__name__
        tensors = list(net.parameters())[:1] + list(net.buffers())[:1]
        for key in ("mean", "std"):
            values = getattr(preprocessing, key)
            like = tensors[0] if tensors else torch.empty(0)
            shaped = None if values is None else torch.tensor(values, device=like.device)[:, None, None]
            self.register_buffer(key, shaped, persistent=False)

    def normalize(self, images: Tensor) -> Tensor:
        """(images - mean) / std, per channel; N x C x H x W in and out."""
        if self.mean is not None:
            images = images - self.mean.to(images)
        if self.std is not None:
            images = images / self.std.to(images)
        return images

    def forward(self, images: Tensor) -> Any:
        return self.net(self.normalize(images))

    def read(self, *paths: str | Path | Sequence[str | Path]) -> Tensor:
        """Read files or folders as this network wants them.

        Args:
            paths: image files, folders (recursive, sorted), or lists of them.

        Returns:
            N x C x H x W in [0, 1], on the CPU.

        Raises:
            FileNotFoundError: for a path that does not exist or a folder without images.
            UnreadableImage: for a file that is no image, or a broken one.
            ValueError: if the network takes any size and the images differ in size.
        """
        flat = [p for path in paths for p in ([path] if isinstance(path, (str, Path)) else path)]
        files = list_images(*flat)
        images = [self.read_one(file) for file in files]
        for file, image in zip(files, images, strict=True):
            if image.shape != images[0].shape:
                raise ValueError(
                    f"{file.name} is {image.shape[2]} x {image.shape[1]} and {files[0].name} is "
                    f"{images[0].shape[2]} x {images[0].shape[1]}: a batch has one size. This model was wrapped "
                    "without one: pellucid.wrap(net, size=...), or read them one by one"
                )
        return torch.stack(images)

    def read_one(self, path: str | Path) -> Tensor:
        """One file: C x H x W in [0, 1]."""
        how = self.preprocessing
        resize: int | tuple[int, int] | None = None
        if how.size is not None:
            resize = how.size if how.resize == "squash" else how.resize if isinstance(how.resize, int) else None
            resize = resize or max(how.size)
        return read_image(path, resize=resize, crop=how.size, interpolation=how.interpolation, channels=how.channels)

    def predict(self, images: Tensor, k: int = 5) -> Predictions:
        """The k most probable classes of each image.

        Args:
            images: N x C x H x W in [0, 1].
            k: how many classes; all of them if there are fewer.

        Raises:
            ValueError, TypeError: for images that the network cannot take, or a network in training mode.
        """
        check_network(self.net)
        check_images(images, channels=self.preprocessing.channels, pixels=True)
        parts: list[Tensor] = []
        place = next(self.net.parameters(), images)

        def step(part: slice) -> None:
            logits = self(images[part].to(place.device, place.dtype, copy=True))
            if not isinstance(logits, Tensor) or logits.ndim != 2:
                raise ValueError(f"predict needs a network that returns N x K, this one returns {_shape(logits)}")
            parts.append(logits.to(images.device, torch.promote_types(logits.dtype, torch.float32)).softmax(1))

        with torch.no_grad():
            batched(step, len(images), like=images, label="predict", device=place.device)
        probabilities = torch.cat(parts)
        if not probabilities.isfinite().all():
            raise ValueError(f"the network returns NaN or infinity{nan_weights(self.net)}")
        top = probabilities.topk(min(k, probabilities.shape[1]), 1)
        names = [[self.label(index) for index in row] for row in top.indices.tolist()]
        return Predictions(top.indices, top.values, names)

    def label(self, index: int) -> str:
        """The name of a class; its number where it has no name."""
        return self.labels[index] if 0 <= index < len(self.labels) else str(index)

    def index(self, label: str) -> int:
        """The index of a class by its name, or by one of the names that its label lists.

        Raises:
            UnknownName: if there is none, or more than one; the message offers the nearest.
        """
        fitting = [i for i, name in enumerate(self.labels) if name == label]
        if not fitting:
            fitting = [i for i, names in enumerate(self.labels) if label.lower() in map(str.lower, names.split(", "))]
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            raise UnknownName(f"the label {label!r} fits classes {fitting}: give the index")
        if not self.labels:
            raise UnknownName(
                f"the label {label!r} is unknown: this model has no labels, give an index or wrap(labels=...)"
            )
        raise UnknownName(f"there is no label {label!r}; {nearest(label, self.labels)}")

    def extra_repr(self) -> str:
        return f"{self.name}, {len(self.labels)} labels, {self.preprocessing}"


def wrap(
    net: nn.Module,
    *,
    mean: Sequence[float] | float | None = None,
    std: Sequence[float] | float | None = None,
    size: int | tuple[int, int] | None = None,
    resize: int | str | None = None,
    interpolation: str = "bilinear",
    channels: int | None = None,
    labels: Sequence[str] = (),
    name: str = "",
) -> Classifier:
    """Tell pellucid how pixels enter a network of your own.

    Args:
        net: takes N x C x H x W, normalized; returns N x K logits. It is held, not copied.
        mean, std: per channel in units of pixels in [0, 1] (0.5 for all, or one number each).
        size: height and width of its images; None takes any size.
        resize: shorter side before the center crop to `size`; "squash" ignores the aspect.
        interpolation: "bilinear" or "bicubic".
        channels: 1 for gray, 3 for RGB; by default as many as `mean` has, or as the first convolution takes.
        labels: names of the K classes.
        name: for titles; by default the name of the network's class.

    Returns:
        A `Classifier`: a torch module on images in [0, 1], with `.read`, `.predict` and `.labels`.

    Raises:
        TypeError: if `net` is not a torch module.
        ValueError: for lengths or sizes that do not fit.

    >>> import torch, pellucid
    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 2)).eval()
    >>> model = pellucid.wrap(net, mean=[0.5, 0.5, 0.5], std=[0.2, 0.2, 0.2], size=8, labels=["cat", "dog"])
    >>> model(torch.rand(1, 3, 8, 8)).shape
    torch.Size([1, 2])
    """
    if not isinstance(net, nn.Module):
        raise TypeError(f"wrap takes a torch.nn.Module, got a {type(net).__name__}")
    if isinstance(labels, str):
        raise TypeError("labels is one string, expected a list of names")
    lengths = {len(v) for v in (mean, std) if isinstance(v, Sequence)}
    if channels is not None:
        lengths.add(channels)
    if len(lengths) > 1:
        raise ValueError(f"mean, std and channels disagree: they have lengths {sorted(lengths)}")
    count = lengths.pop() if lengths else first_channels(net) or 3
    if interpolation not in ("bilinear", "bicubic"):
        raise ValueError(f"interpolation is {interpolation!r}, expected 'bilinear' or 'bicubic'")
    if isinstance(resize, str) and resize != "squash":
        raise ValueError(f"resize is {resize!r}, expected a number of pixels or 'squash'")

    def per_channel(value: Sequence[float] | float | None) -> tuple[float, ...] | None:
        if value is None:
            return None
        return (float(value),) * count if isinstance(value, (int, float)) else tuple(map(float, value))

    sides = (size,) if isinstance(size, int) else size or ()
    if len(sides) > 2 or any(not isinstance(side, int) or side < 1 for side in sides):
        raise ValueError(f"size is {size!r}, expected pixels: one number above 0, or height and width")
    spread = per_channel(std)
    if spread is not None and min(spread) <= 0:
        raise ValueError(f"std is {spread}, expected numbers above 0")
    pair = (sides[0], sides[-1]) if sides else None
    return Classifier(net, Preprocessing(pair, resize, interpolation, per_channel(mean), spread, count), labels, name)


def network(model: Callable[[Tensor], Any]) -> nn.Module | None:
    """The torch module whose layers have names: behind Classifier, DataParallel and torch.compile.

    None for a callable that is no torch module.
    """
    *_, inner = _unwrapped(model)
    return inner if isinstance(inner, nn.Module) else None


def classifier(model: Callable[[Tensor], Any]) -> Classifier | None:
    """The outermost Classifier in a model: the model itself, or behind torch.compile and DataParallel."""
    return next((inner for inner in _unwrapped(model) if isinstance(inner, Classifier)), None)


def name_of(model: Callable[[Tensor], Any]) -> str:
    """What to call a model in titles and records."""
    net = network(model)
    return model.name if isinstance(model, Classifier) else type(model if net is None else net).__name__


def ready(model: Callable[[Tensor], Any], images: Tensor) -> Callable[[Tensor], Any]:
    """The model as it is to be used, after a look at it and at the images that it is to see.

    Raises:
        ValueError, TypeError: for images that the model cannot take, or a network in training mode.
    """
    model = classifier(model) or model
    check_network(network(model))
    check_input(model, images)
    return model


def check_input(model: Callable[[Tensor], Any], images: Tensor) -> None:
    """Refuse images that a model cannot take.

    Raises:
        ValueError, TypeError: as `check_images`.
    """
    if isinstance(model, Classifier):
        check_images(images, channels=model.preprocessing.channels, pixels=True)
    else:
        check_images(images)


def normalized(model: Callable[[Tensor], Any], images: Tensor) -> Tensor:
    """Images as the network behind `network(model)` takes them: normalized by every Classifier on the way."""
    for inner in _unwrapped(model):
        if isinstance(inner, Classifier):
            images = inner.normalize(images)
    return images


def _unwrapped(model: Any) -> Iterator[Any]:
    """The model and what it wraps, from the outside to the network itself."""
    while True:
        yield model
        if isinstance(model, Classifier):
            model = model.net
        elif isinstance(model, nn.DataParallel):
            model = model.module
        elif isinstance(model, nn.Module) and hasattr(model, "_orig_mod"):  # torch.compile
            model = model._orig_mod
        else:
            return


def first_channels(net: nn.Module) -> int | None:
    """How many channels the first convolution takes; None if there is no convolution."""
    for module in net.modules():
        if isinstance(module, (nn.Conv2d, nn.LazyConv2d)) and module.in_channels:
            return module.in_channels
    return None


def _shape(value: Any) -> str:
    return " x ".join(map(str, value.shape)) if isinstance(value, Tensor) else f"a {type(value).__name__}"
