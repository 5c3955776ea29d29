"""Maps to colors: what a number per pixel looks like, alone or over its image.

Two promises make maps comparable: zero always has the same color (white between blue and red for signed
maps, black for others), and each image has a range of its own unless a shared one is asked for.
"""

from __future__ import annotations

import difflib
import math

import torch
from torch import Tensor
from torch.nn import functional as F

from .gaussian import gaussian_blur

__all__ = ["color_range", "colorize", "enlarge", "overlay", "smooth", "threshold"]

SIGNED = "seismic"
"""Colors of signed maps: blue, white at exactly zero, red."""
UNSIGNED = "inferno"
"""Colors of maps without negative values: black at zero, through red to pale yellow."""

# Odd, so that zero, the middle of a diverging color map, has an entry of its own and is not a tinted white.
_ENTRIES = 257


def color_range(
    values: Tensor, *, signed: bool | None = None, percentile: float = 99.5, shared: bool = False
) -> tuple[Tensor, Tensor]:
    """The values at the two ends of the colors, for color bars and for `colorize`.

    Signed maps go from -m to m and others from 0 to m, where m is the given percentile of an image's absolute
    values: the few strongest pixels, which are often far above all others, share the end color. Where that
    percentile is 0 (a map of a few pixels) m is the largest value, for a map of zeros it is 1.

    Args:
        values: maps, N x C x H x W, any real type; channels are summed.
        signed: whether zero is the middle; `None`: whether any map of the batch has a negative value. `False`
            takes negative values for 0.
        percentile: above 0, up to 100, which clips nothing.
        shared: one range for the whole batch.

    Returns:
        low, high: N values each, with low < high.

    Raises:
        ValueError: NaN or infinite values, another shape, or a percentile out of range.

    >>> low, high = color_range(torch.tensor([[[[0.0, -4.0], [1.0, 2.0]]]]))
    >>> low.tolist(), high.tolist()
    ([-4.0], [4.0])
    """
    maps = _maps(values)
    signed = _is_signed(maps, signed)
    high = _strength(maps, signed, percentile, shared)
    return (-high if signed else torch.zeros_like(high)), high


def colorize(
    values: Tensor,
    *,
    signed: bool | None = None,
    percentile: float = 99.5,
    colors: str | None = None,
    shared: bool = False,
) -> Tensor:
    """Maps as pictures: float32, N x 3 x H x W, in [0, 1], on the device of the maps.

    Args:
        values: maps, N x C x H x W, any real type; channels are summed: a pixel shows its whole share.
        signed, percentile, shared: see `color_range`. Colors mean the same for all maps of a call: a
            positive map beside one with negative values is colored as signed.
        colors: name of a matplotlib color map; `None` is `SIGNED` or `UNSIGNED`. For signed maps take a
            diverging one, whose middle is shown at exactly zero.

    Raises:
        ValueError: as for `color_range`, or no such colors (the nearest names are offered).

    >>> colorize(torch.tensor([[[[-1.0, 0.0, 1.0]]]]))[0, :, 0, 1]
    tensor([1., 1., 1.])
    """
    maps = _maps(values)
    signed = _is_signed(maps, signed)
    table = _table(colors or (SIGNED if signed else UNSIGNED), maps.device)
    # Divided first: high - low could overflow.
    place = maps / _strength(maps, signed, percentile, shared)[:, None, None]
    place = (place.clamp(-1, 1) + 1) / 2 if signed else place.clamp(0, 1)
    place = place.float() * (_ENTRIES - 1)
    below = place.long().clamp(max=_ENTRIES - 2)
    return torch.lerp(table[below], table[below + 1], (place - below)[..., None]).permute(0, 3, 1, 2).contiguous()


def overlay(
    images: Tensor,
    values: Tensor,
    *,
    alpha: float | str = 0.5,
    signed: bool | None = None,
    percentile: float = 99.5,
    colors: str | None = None,
    shared: bool = False,
) -> Tensor:
    """Colored maps laid over their images: float32, N x 3 x H x W, in [0, 1], on the device of the maps.

    Args:
        images: N x 3 x H x W or gray N x 1 x H x W, in [0, 1].
        values: maps, N x C x h x w; smaller ones are first resized to the images by `enlarge`.
        alpha: share of the colors, 0 (the image alone) to 1 (the map alone); or "magnitude": at each pixel
            |value| over the end of the range, so that the image shows through where the map is near zero.
        signed, percentile, colors, shared: see `colorize`.

    Raises:
        ValueError: as for `colorize`, or images and maps do not belong together, or alpha is out of range.

    >>> overlay(torch.ones(1, 1, 4, 4), torch.zeros(1, 1, 2, 2), alpha=0.25)[0, :, 0, 0]
    tensor([0.7504, 0.7501, 0.7535])
    """
    if images.ndim != 4 or images.shape[1] not in (1, 3) or not images.is_floating_point():
        raise ValueError(
            "images are floats in [0, 1] of N x 3 x H x W or N x 1 x H x W, got "
            f"{str(images.dtype).removeprefix('torch.')} of shape {tuple(images.shape)}"
        )
    maps = _maps(values)
    if len(maps) != len(images):
        raise ValueError(f"each image needs its own map, got {len(images)} images and {len(maps)} maps")
    if not (images.amin() >= -1e-4 and images.amax() <= 1 + 1e-4):
        raise ValueError(
            f"images have values in [0, 1], got {images.amin().item():.4g} to {images.amax().item():.4g}; "
            "undo their normalization first"
        )
    if alpha != "magnitude" and (isinstance(alpha, str) or not 0 <= alpha <= 1):
        raise ValueError(f"alpha={alpha!r}: a number from 0 to 1 or 'magnitude' was expected")
    maps = enlarge(maps[:, None], (images.shape[2], images.shape[3]))
    pictures = colorize(maps, signed=signed, percentile=percentile, colors=colors, shared=shared)
    images = images.detach().to(pictures).clamp(0, 1).expand_as(pictures)
    if not isinstance(alpha, str):
        return torch.lerp(images, pictures, alpha)
    _, high = color_range(maps, signed=signed, percentile=percentile, shared=shared)
    strength = maps if signed is False else maps.abs()
    return torch.lerp(images, pictures, (strength / high[:, None, None, None]).clamp(0, 1).float().expand_as(images))


def enlarge(values: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps resized bilinearly to `size` = (height, width); outer edges (not corner pixels) aligned.

    Raises:
        ValueError: the maps are larger than that, or not N x C x H x W.

    >>> enlarge(torch.ones(2, 1, 7, 7), (224, 224)).shape
    torch.Size([2, 1, 224, 224])
    """
    _check_shape(values)
    if tuple(values.shape[2:]) == tuple(size):
        return values
    if values.shape[2] > size[0] or values.shape[3] > size[1]:
        raise ValueError(
            f"maps of {values.shape[2]} x {values.shape[3]} are larger than the size to enlarge them to, "
            f"{size[0]} x {size[1]}; give the image at its full size"
        )
    return F.interpolate(_floats(values), size=tuple(size), mode="bilinear", align_corners=False).to(values.dtype)


def smooth(values: Tensor, sigma: float) -> Tensor:
    """Maps under a Gaussian of standard deviation `sigma` pixels, mirrored at the edges; sums are preserved.

    Args:
        values: N x C x H x W floats.
        sigma: 0 or more; 0 changes nothing.

    Raises:
        ValueError: a negative or infinite sigma, or another shape.

    >>> smooth(torch.tensor([[[[0.0, 0.0, 1.0, 0.0, 0.0]]]]), sigma=0.5)
    tensor([[[[2.6387e-04, 1.0645e-01, 7.8657e-01, 1.0645e-01, 2.6387e-04]]]])
    """
    _check_shape(values)
    if not (sigma >= 0 and math.isfinite(sigma)):
        raise ValueError(f"sigma={sigma!r}: a number of pixels, 0 or more, was expected")
    return gaussian_blur(values, sigma, radius=int(4 * sigma + 0.5), border="mirror")


def threshold(values: Tensor, *, fraction: float | None = None, quantile: float | None = None) -> Tensor:
    """Only the strongest part of each map, by absolute value; the rest becomes 0. The strongest always stays.

    Args:
        values: N x C x H x W floats.
        fraction: keep what reaches this fraction (0 to 1) of the map's largest absolute value.
        quantile: keep what reaches this quantile (0 to 1): 0.9 keeps the strongest tenth, and what equals it.

    Raises:
        ValueError: not exactly one of the two, one out of range, NaN in a map, or another shape.

    >>> threshold(torch.tensor([[[[1.0, -2.0, 3.0, -4.0]]]]), fraction=0.6)
    tensor([[[[ 0.,  0.,  3., -4.]]]])
    >>> threshold(torch.tensor([[[[1.0, -2.0, 3.0, -4.0]]]]), quantile=0.25)
    tensor([[[[ 0., -2.,  3., -4.]]]])
    """
    _check_shape(values)
    if (fraction is None) == (quantile is None):
        raise ValueError(f"give either fraction or quantile, got fraction={fraction} and quantile={quantile}")
    share = fraction if quantile is None else quantile
    assert share is not None
    if not 0 <= share <= 1:
        raise ValueError(f"{'fraction' if quantile is None else 'quantile'}={share}: a number from 0 to 1 was expected")
    _check_finite(values)
    strength = values.abs().flatten(1)
    if quantile is None:
        least = strength.amax(1) * share
    else:
        least = _weakest_of(strength, strength.shape[1] - _rank(share, strength.shape[1]))
    return torch.where(values.abs() >= least[:, None, None, None], values, 0)


def _check_shape(values: Tensor) -> None:
    if values.ndim != 4 or values.numel() == 0:
        hint = "; add what is missing with values[None]" if values.ndim in (2, 3) else ""
        raise ValueError(f"maps are N x C x H x W, got a tensor of shape {tuple(values.shape)}{hint}")
    if values.is_complex():
        raise ValueError("maps are real, got complex values; take their .abs() or .real")


def _check_finite(values: Tensor) -> None:
    wrong = ~torch.isfinite(values)
    if wrong.any():
        images = wrong.flatten(1).any(1).nonzero().flatten().tolist()
        raise ValueError(
            f"{int(wrong.sum())} of {values.numel()} values are NaN or infinite (images {images[:5]}), maps "
            "are finite: look for NaN in the model's outputs, or replace them with torch.nan_to_num"
        )


def _floats(values: Tensor) -> Tensor:
    return values if values.dtype in (torch.float32, torch.float64) else values.float()


def _maps(values: Tensor) -> Tensor:
    """N x H x W, checked."""
    _check_shape(values)
    maps = _floats(values.detach()).sum(1)
    _check_finite(maps)
    return maps


def _is_signed(maps: Tensor, signed: bool | None) -> bool:
    return bool((maps < 0).any()) if signed is None else signed


def _strength(maps: Tensor, signed: bool, percentile: float, shared: bool) -> Tensor:
    """The upper end of the range of each map, above 0."""
    if not 0 < percentile <= 100:
        raise ValueError(f"percentile={percentile!r}: a number above 0 and up to 100 was expected")
    strength = (maps.abs() if signed else maps.clamp(min=0)).reshape(1 if shared else len(maps), -1)
    high = strength.amax(1)
    if percentile < 100:
        at = _weakest_of(strength, strength.shape[1] - _rank(percentile / 100, strength.shape[1]) + 1)
        high = torch.where(at > 0, at, high)
    # Below the smallest normal number there is nothing to see, and dividing by it may give inf.
    high = torch.where(high >= torch.finfo(high.dtype).tiny, high, 1)
    return high.expand(len(maps))


def _weakest_of(strength: Tensor, count: int) -> Tensor:
    """The smallest of the `count` largest values of each row, of at least one and at most all."""
    # Not torch.quantile, which sorts everything and refuses large maps.
    return strength.topk(min(max(count, 1), strength.shape[1]), dim=1, sorted=False).values.amin(1)


def _rank(share: float, count: int) -> int:
    return math.ceil(share * count - 1e-9)  # 0.07 * 100 is 7.000000000000001


def _table(name: str, device: torch.device) -> Tensor:
    import matplotlib

    if name not in matplotlib.colormaps:
        near = difflib.get_close_matches(name, list(matplotlib.colormaps), n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"for example {SIGNED}, {UNSIGNED}, viridis or turbo"
        raise ValueError(f"colors={name!r} is not the name of a matplotlib color map; {hint}")
    entries = matplotlib.colormaps[name].resampled(_ENTRIES)(range(_ENTRIES))[:, :3]
    return torch.as_tensor(entries, dtype=torch.float32, device=device)
