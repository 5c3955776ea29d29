"""What is wrong with the input, said before any work is done."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from numbers import Integral, Real
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import torch
from torch import Tensor, nn

from .names import UnknownName as UnknownName
from .names import nearest as nearest

_PACKAGE = str(Path(__file__).parent)
COLORS = {1: "1 channel (gray)", 3: "3 channels (RGB)", 4: "4 channels (RGBA)"}


def check_images(images: Tensor, *, channels: int | None = None, pixels: bool = False) -> None:
    """Refuse what no network can take as a batch of images.

    Args:
        images: should be floating, N x C x H x W, N > 0, finite.
        channels: how many the network takes, where that is known.
        pixels: also demand values in [0, 1], as a `Classifier` does.

    Raises:
        TypeError: if it is not a floating tensor.
        ValueError: for a wrong shape, channel count or range, or NaN.

    >>> import torch
    >>> check_images(torch.rand(2, 3, 8, 8), channels=3, pixels=True)
    """
    if not isinstance(images, Tensor):
        raise TypeError(
            f"images is a {type(images).__name__}, expected a torch tensor N x C x H x W: "
            "read files with model.read(...), turn an array into one with torch.from_numpy"
        )
    shape = " x ".join(map(str, images.shape))
    if not images.is_floating_point():
        hint = ": divide by 255 to get values in [0, 1]" if images.dtype == torch.uint8 else ""
        raise TypeError(f"images are {str(images.dtype).removeprefix('torch.')}, expected floating numbers{hint}")
    if images.ndim == 3:
        raise ValueError(f"got one image of shape {shape}, expected a batch N x C x H x W: pass images[None]")
    if images.ndim != 4:
        raise ValueError(f"got images of shape {shape}, expected N x C x H x W")
    if 0 in images.shape:
        raise ValueError(f"the batch of images is empty: its shape is {shape}")
    if channels is not None and images.shape[1] != channels:
        raise ValueError(wrong_channels(images, channels))
    low, high = (bound.item() for bound in torch.aminmax(images.detach()))
    if not (abs(low) < float("inf") and abs(high) < float("inf")):
        bad = (~images.isfinite()).flatten(1).any(1).nonzero().flatten().tolist()
        raise ValueError(f"image {bad[0]} of the batch has NaN or infinite pixels")
    if pixels:
        _check_range(low, high)


def check_network(net: nn.Module | None) -> None:
    """Refuse a network in training mode, where dropout is random and batch norm mixes the images of a batch.

    Raises:
        ValueError: naming the first module in training mode.

    >>> check_network(torch.nn.Dropout().eval())
    """
    if net is None:
        return
    for name, module in net.named_modules():
        if module.training:
            where = f"layer {name!r}" if name else "the network"
            raise ValueError(
                f"{where} is in training mode: dropout would be random and batch norm would mix the images. "
                "Call .eval() on the network first"
            )
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None:
            raise ValueError(
                f"layer {name!r} is a batch norm without running statistics: it mixes the images of a batch even in "
                "evaluation mode, so that no image has a result of its own"
            )
        if any(isinstance(p, nn.parameter.UninitializedParameter) for p in module._parameters.values()):
            raise ValueError(
                f"layer {name!r} has no weights yet (a lazy module): send a batch through the network first"
            )


def warn(text: str, category: type[Warning] = UserWarning) -> None:
    """A warning at the line of the user's that led here, however many calls lie between."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        level, frame = level + 1, frame.f_back
    warnings.warn(text, category, stacklevel=level)


class WrongWord(TypeError, ValueError):
    """A text that is none of those that an option takes: an error of type to a type checker, of value to Python."""


def matches_type(value: object, kind: Any) -> bool:
    """Whether a value is of the type that an annotation names; True where that cannot be told.

    >>> matches_type(3, float), matches_type(True, int), matches_type((2, 3), int | tuple[int, int])
    (True, False, True)
    """
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return any(matches_type(value, one) for one in inner)
    if origin is Literal:
        return any(value == one and type(value) is type(one) for one in inner)
    if origin is tuple:
        if not isinstance(value, (tuple, list)):
            return False
        if inner[1:] == (...,):
            return all(matches_type(item, inner[0]) for item in value)
        # How many there are is for the method to say, which knows what they are.
        return len(value) != len(inner) or all(matches_type(*pair) for pair in zip(value, inner, strict=True))
    if kind in (int, float):
        return isinstance(value, Integral if kind is int else Real) and not isinstance(value, bool)
    if kind is None:
        return value is None
    try:
        return isinstance(value, origin or kind)
    except TypeError:  # no class: Any, a type variable, a protocol
        return True


def in_words(kind: Any) -> str:
    """What an annotation asks for.

    >>> in_words(int | tuple[int, int] | None)
    'a whole number, (a whole number, a whole number) or None'
    """
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType, Literal):
        told = [repr(one) if origin is Literal else in_words(one) for one in inner if get_origin(one) is not Literal]
        told = [repr(word) for one in inner if get_origin(one) is Literal for word in get_args(one)] + told
        return " or ".join([", ".join(told[:-1]), told[-1]] if told[1:] else told)
    if origin is tuple:
        return f"({', '.join('...' if one is ... else in_words(one) for one in inner)})"
    known: dict[Any, str] = {int: "a whole number", float: "a number", str: "a text", bool: "True or False"}
    known |= {Tensor: "a tensor", Callable: "a function", NoneType: "None", None: "None"}
    plain = origin or kind
    return known.get(plain) or _a(getattr(plain, "__name__", str(plain)))


def words_for(kind: Any) -> tuple[str, ...]:
    """The words that an annotation names.

    >>> words_for(Literal["a", "b"] | None)
    ('a', 'b')
    """
    if get_origin(kind) is Literal:
        return tuple(one for one in get_args(kind) if isinstance(one, str))
    return (
        tuple(word for one in get_args(kind) for word in words_for(one))
        if get_origin(kind) in (Union, UnionType)
        else ()
    )


def of_kind(value: object) -> str:
    """A value that is wrong, and what it is: "2.5 (a float)"; of a large one only what it is.

    >>> of_kind(2.5), of_kind(torch.zeros(2))
    ('2.5 (a float)', 'a Tensor')
    """
    kind = _a(type(value).__name__)
    text = repr(value)
    return "None" if value is None else f"{text} ({kind})" if len(text) < 60 and not isinstance(value, Tensor) else kind


def _a(noun: str) -> str:
    return f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"


def nan_weights(net: nn.Module | None) -> str:
    """A sentence naming the first weight that is not finite, or nothing."""
    for name, tensor in net.state_dict().items() if net is not None else ():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            return f"; the weight {name!r} holds NaN or infinity: load the weights anew"
    return ""


def wrong_channels(images: Tensor, channels: int) -> str:
    """The message for N x C x H x W images given to a network that takes another number of channels."""
    got = images.shape[1]
    remedy = {
        (1, 3): ": convert with images.expand(-1, 3, -1, -1)",
        (3, 1): ": convert with images.mean(1, keepdim=True)",
        (4, 3): ": drop transparency with images[:, :3]",
    }.get((got, channels), "")
    if not remedy and channels <= 4 and images.shape[3] == channels:
        remedy = ": the channels seem to be last; pass images.permute(0, 3, 1, 2)"
    takes = COLORS.get(channels, f"{channels}").replace(" channels", "").replace(" channel", "")
    return f"got {got} channel{'s' if got != 1 else ''}, the model takes {takes}{remedy}"


def _check_range(low: float, high: float) -> None:
    if high > 2 or low < -1:
        said = f"images have values from {low:.3g} to {high:.3g}, expected [0, 1]"
        if low >= 0:
            raise ValueError(f"{said}: divide by {'65535' if high > 255 else '255'}")
        raise ValueError(f"{said}: they look normalized already; the model normalizes inside, pass plain pixels")
    if high > 1.001 or low < -0.001:
        warnings.warn(f"images have values from {low:.3g} to {high:.3g}, outside [0, 1]", stacklevel=4)
