"""Fakes that need no generator: patches of photographs, and the same patches made smaller and larger again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from ..files.images import write_image
from ..methods.verb import verb

FOLDERS = {"nearest": "B_nearest", "bilinear": "C_bilinear", "transposed": "D_transposed"}
PHOTOS = "A_photos"


@verb()
def upsampled_photos(
    folder: str | Path, ways: Sequence[str] = tuple(FOLDERS), *, size: int = 32, most: int | None = None
) -> Path:
    """Write patches of the two photographs that come with scikit-learn, and copies of them that were up-sampled.

    Each patch is averaged over squares of 2 x 2 pixels and brought back to its size: the last step of most generators,
    without one. What it shows stays, so that nothing but the up-sampling tells the two apart.

    Args:
        folder: where the sub-folders `A_photos`, `B_nearest`, `C_bilinear`, `D_transposed` are written, as PNG.
        ways: "nearest", "bilinear", "transposed" (a transposed convolution of 4 x 4 pixels and stride 2 between all
            channels, whose weights bring the patches back with the least squared error).
        size: of a patch, an even number of pixels; patches do not overlap.
        most: patches of each kind; all by default (520 of 32 x 32).

    Returns:
        The folder.

    >>> import tempfile
    >>> found = upsampled_photos(tempfile.mkdtemp(), ["nearest"], size=64, most=2)
    >>> sorted(str(path.relative_to(found)) for path in found.rglob("*.png"))
    ['A_photos/0000.png', 'A_photos/0001.png', 'B_nearest/0000.png', 'B_nearest/0001.png']
    """
    if size < 8 or size % 2:
        raise ValueError(f"size is {size}, expected an even number of pixels, 8 or more")
    for way in ways:
        if way not in FOLDERS:
            raise ValueError(f"{way!r} is no way to up-sample; there are {', '.join(FOLDERS)}")
    patches = photo_patches(size)
    if most is not None:
        # From all over both photographs.
        patches = patches[torch.linspace(0, len(patches) - 1, most).round().long()]
    sets = {PHOTOS: patches} | {FOLDERS[way]: upsampled(patches, way) for way in ways}
    for name, images in sets.items():
        for number, image in enumerate(images):
            write_image(image.clamp(0, 1), Path(folder, name, f"{number:04}.png"))
    return Path(folder)


def photo_patches(size: int) -> Tensor:
    """Squares of scikit-learn's two photographs that do not overlap: N x 3 x size x size in [0, 1]."""
    from sklearn.datasets import load_sample_images

    parts = []
    for photo in load_sample_images().images:
        pixels = torch.from_numpy(photo.copy()).permute(2, 0, 1).float() / 255
        tiles = pixels.unfold(1, size, size).unfold(2, size, size)
        parts.append(tiles.permute(1, 2, 0, 3, 4).reshape(-1, 3, size, size))
    return torch.cat(parts)


def upsampled(images: Tensor, way: str) -> Tensor:
    """Images averaged over 2 x 2 pixels and brought back to their size: N x C x H x W."""
    small = F.avg_pool2d(images, 2)
    if way == "nearest":
        return F.interpolate(small, scale_factor=2, mode="nearest")
    if way == "bilinear":
        return F.interpolate(small, scale_factor=2, mode="bilinear", align_corners=False)
    return _transposed(small, images)


def _transposed(small: Tensor, images: Tensor) -> Tensor:
    """The transposed convolution that brings images back best: each of its four phases sees 2 x 2 small pixels."""
    count, channels, height, width = small.shape
    padded = F.pad(small, (1, 1, 1, 1), mode="replicate")
    made = torch.empty_like(images)
    for y in (0, 1):
        for x in (0, 1):
            near = F.unfold(padded[:, :, y : y + height + 1, x : x + width + 1], 2)  # N x 4C x HW
            seen = near.transpose(1, 2).reshape(-1, 4 * channels)
            wanted = images[:, :, y::2, x::2].flatten(2).transpose(1, 2).reshape(-1, channels)
            weights = torch.linalg.lstsq(seen.double(), wanted.double()).solution.to(seen)
            made[:, :, y::2, x::2] = (seen @ weights).reshape(count, height, width, channels).permute(0, 3, 1, 2)
    return made
