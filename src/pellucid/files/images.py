"""Files and folders to tensors in [0, 1], and back.

An image is read as Pillow and torchvision would read it for the training of a classifier: decoded, turned
upright, brought to RGB, resized and cropped *as a Pillow picture* and only then made a tensor, so that what
reaches a network is what torchvision's `Resize`, `CenterCrop` and `ToTensor` make of the same file.

Two switches of Pillow are honored and never changed here: `PIL.Image.MAX_IMAGE_PIXELS` (89 million unless
you set it; larger pictures are refused) and `PIL.ImageFile.LOAD_TRUNCATED_IMAGES`. Color profiles are not
applied.
"""

from __future__ import annotations

import difflib
import itertools
import os
import re
import threading
import warnings
from collections import Counter
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from .atomic import atomic_write

Size = int | tuple[int, int]

SUFFIXES = (".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""What a file in a folder must end in, in either case, to be taken for an image."""

_FORMATS = {
    "png": "PNG", "jpg": "JPEG", "jpeg": "JPEG", "webp": "WEBP", "bmp": "BMP", "tif": "TIFF", "tiff": "TIFF"
}  # fmt: skip
_SAVE: dict[str, dict[str, object]] = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"lossless": True}}
_FILTERS = {f.name.lower(): f for f in Image.Resampling}
_ORIENTATION, _BITS_PER_SAMPLE = 0x0112, 0x0102  # tags of EXIF and TIFF
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip
"""What undoes each orientation of EXIF data; 1 is upright."""
_TRUST = "if you trust it, raise PIL.Image.MAX_IMAGE_PIXELS first"
_quiet = threading.Lock()


class UnreadableImage(ValueError):
    """A file or folder from which no image can be read; `.path` says which one, `.reason` why."""

    def __init__(self, path: str | os.PathLike[str], reason: str) -> None:
        super().__init__(os.fspath(path), reason)
        self.path = Path(path)
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class MissingImage(UnreadableImage, FileNotFoundError):
    """A file or folder that does not exist; the reason offers the nearest names that do."""


def list_images(*paths: str | os.PathLike[str]) -> list[Path]:
    """The image files that some files and folders stand for.

    A file that is named is taken whatever its suffix. A folder stands for every file in it and in the folders
    below it whose suffix is in `SUFFIXES`; names that begin with a dot are skipped, links are followed. The
    order is that of the arguments, and within a folder that of the names, numbers read as numbers (`2.png`
    before `10.png`), the same on every machine. A path that occurs twice is listed once.

    Raises:
        MissingImage: a path does not exist.
        UnreadableImage: a folder holds no image or cannot be listed.

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("10.png", "2.png", "notes.txt"):
    ...         pathlib.Path(folder, name).touch()
    ...     [path.name for path in list_images(folder)]
    ['2.png', '10.png']
    """
    if not paths:
        raise TypeError("list_images() needs at least one file or folder; for this folder, list_images('.')")
    found: dict[Path, None] = {}
    for path in map(Path, paths):
        if path.is_dir():
            found.update(dict.fromkeys(_images_below(path)))
        elif path.exists():
            found[path] = None
        else:
            raise _no_file(path)
    return list(found)


def read_image(
    source: str | os.PathLike[str] | Image.Image,
    *,
    resize: Size | None = None,
    crop: Size | None = None,
    interpolation: str = "bilinear",
    channels: int = 3,
) -> Tensor:
    """One image as a float32 tensor, channels x H x W, values in [0, 1].

    Any format that Pillow decodes by itself; of several frames or pages the first. The picture is turned
    upright (EXIF), transparent parts show white, CMYK and palettes become RGB, gray is repeated in three
    channels. Gray of 12 or 16 bits keeps its precision and is scaled by its own white (65535 for 16 bits);
    color of 16 bits is cut to 8 by Pillow. Floats are taken if they lie in [0, 1], 32-bit integers refused.

    Args:
        source: a file, or a Pillow picture, which is taken as it stands: its EXIF data is not looked at.
        resize: pixels of the shorter side, the longer one following in proportion; or `(height, width)`,
            which squashes the picture to exactly that; `None` leaves the size alone.
        crop: side of the center square, cut out after resizing, or `(height, width)`; `None` keeps all.
        interpolation: bilinear, bicubic, nearest, lanczos, box or hamming, all but nearest antialiased.
        channels: 3 for RGB, 1 for gray (luma, ITU-R 601).

    Raises:
        MissingImage: there is no such file (also a `FileNotFoundError`).
        UnreadableImage: the file is no image, damaged, truncated, too large, too small for the crop, or you
            may not read it. (For a Pillow picture what can go wrong is a plain `ValueError`.)
        ValueError: an option makes no sense.

    >>> read_image(Image.new("RGB", (640, 480), "red"), resize=256, crop=224)[:, 0, 0]
    tensor([1., 0., 0.])
    """
    _check_options(resize, crop, interpolation, channels)
    if isinstance(source, Image.Image):
        return _tensor(_fit(_plain(source, channels), resize, crop, interpolation), channels)
    path = Path(source)
    try:
        picture, turn = _decode(path)
    except Warning:
        # Pillow warns of oddities such as damaged EXIF data, and breaks off where warnings are errors. Only
        # there, and one at a time, is it asked again in silence: all threads share catch_warnings.
        with _quiet, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            picture, turn = _decode(path)
    try:
        picture = _plain(picture, channels)
        picture = picture if turn is None else picture.transpose(turn)
        return _tensor(_fit(picture, resize, crop, interpolation), channels)
    except ValueError as error:
        raise UnreadableImage(path, str(error)) from error


def to_pil(image: Tensor) -> Image.Image:
    """An image tensor as a Pillow picture with 8 bits a channel: RGB, or gray from one channel.

    Args:
        image: floats in [0, 1], C x H x W or 1 x C x H x W, C 1 or 3.

    Raises:
        ValueError: another shape, type or range, or NaN.

    >>> to_pil(torch.zeros(1, 3, 2, 4)).size
    (4, 2)
    """
    given = f"got {str(image.dtype).removeprefix('torch.')} of shape {tuple(image.shape)}"
    if image.ndim == 4 and len(image) == 1:
        image = image[0]
    if image.ndim != 3 or image.shape[0] not in (1, 3) or 0 in image.shape:
        hint = "; pick one image of the batch, images[i]" if image.ndim == 4 else ""
        raise ValueError(f"an image is C x H x W or 1 x C x H x W with 1 or 3 channels, {given}{hint}")
    if not image.is_floating_point():
        raise ValueError(f"an image has floats in [0, 1], {given}; for bytes from 0 to 255, image / 255")
    image = image.detach().float().cpu()
    low, high = image.min().item(), image.max().item()
    # Sums of floats may pass 1 by a rounding error, which is no reason to stop.
    if not (low >= -1e-4 and high <= 1 + 1e-4):
        raise ValueError(
            f"an image has values in [0, 1], got {low:.4g} to {high:.4g}; undo its normalization or scale "
            "it, and color maps with pellucid.display.colors.colorize"
        )
    pixels = image.clamp(0, 1).mul(255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    return Image.fromarray(np.ascontiguousarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels))


def write_image(image: Tensor, path: str | os.PathLike[str]) -> None:
    """Write an image tensor to a file, whole or not at all; an older file of that name is replaced.

    Args:
        image: as for `to_pil`.
        path: the file; the suffix says the format: png, bmp, tif, webp (all lossless) or jpg (quality 95).

    Raises:
        ValueError: the suffix is not one of those, or the tensor is no image.
        OSError: the file cannot be written; no part of it is left behind and an older file stays as it was.

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_image(torch.rand(3, 8, 8), pathlib.Path(folder, "noise.png"))
    ...     read_image(pathlib.Path(folder, "noise.png")).shape
    torch.Size([3, 8, 8])
    """
    path = Path(path)
    kind = _FORMATS.get(path.suffix.lower().lstrip("."))
    if kind is None:
        raise ValueError(f"{path}: the suffix must be one of {', '.join(_FORMATS)}, got {path.suffix!r}")
    encoded = BytesIO()
    to_pil(image).save(encoded, kind, **_SAVE.get(kind, {}))
    with atomic_write(path) as part:
        part.write_bytes(encoded.getbuffer())


def _check_options(resize: Size | None, crop: Size | None, interpolation: str, channels: int) -> None:
    for name, size in (("resize", resize), ("crop", crop)):
        pair = (1, 1) if size is None else _pair(size)
        if len(pair) != 2 or not all(type(n) is int and n > 0 for n in pair):
            raise ValueError(f"{name}={size!r}: a number of pixels, 1 or more, or (height, width) was expected")
    if interpolation not in _FILTERS:
        raise ValueError(f"interpolation={interpolation!r} is not one of {', '.join(_FILTERS)}")
    if channels not in (1, 3):
        raise ValueError(f"channels={channels!r}: 3 (RGB) or 1 (gray) was expected")


def _pair(size: Size) -> tuple[int, int]:
    return size if isinstance(size, tuple) else (size, size)


def _fit(picture: Image.Image, resize: Size | None, crop: Size | None, interpolation: str) -> Image.Image:
    """Resize, then cut out the center, to the pixel as torchvision does."""
    if resize is not None:
        width, height = picture.size
        if isinstance(resize, tuple):
            height, width = resize
        elif width <= height:
            width, height = resize, int(resize * height / width)
        else:
            width, height = int(resize * width / height), resize
        # A strip of 1 x 10000 pixels is harmless until its short side is made 224.
        if refusal := _too_large(width, height):
            raise ValueError(f"resize={resize!r} would make it too large: {refusal}")
        picture = picture.resize((width, height), _FILTERS[interpolation])
    if crop is not None:
        crop_height, crop_width = _pair(crop)
        width, height = picture.size
        if crop_height > height or crop_width > width:
            raise ValueError(f"{height} x {width} pixels are too few for crop={crop!r}; give resize= too")
        top, left = round((height - crop_height) / 2), round((width - crop_width) / 2)
        picture = picture.crop((left, top, left + crop_width, top + crop_height))
    return picture


def _too_large(width: int, height: int) -> str:
    limit = Image.MAX_IMAGE_PIXELS
    if limit is None or width * height <= limit:
        return ""
    return f"{height} x {width} pixels pass the limit of {limit:,} against decompression bombs; {_TRUST}"


def _decode(path: Path) -> tuple[Image.Image, Image.Transpose | None]:
    """The picture in a file, decoded, and the turn that makes it upright."""
    start = b""
    try:
        if not path.is_file():
            raise _no_file(path)
        with path.open("rb") as file:
            start = file.read(16)
            picture = Image.open(file)
            if picture.format == "EPS":
                raise UnidentifiedImageError("Pillow would run Ghostscript for it")
            if refusal := _too_large(*picture.size):
                raise UnreadableImage(path, refusal)
            picture.load()
            return picture, _turn(picture)
    except (Warning, MemoryError, UnreadableImage):
        raise
    except FileNotFoundError as error:  # it was there a moment ago
        raise MissingImage(path, "does not exist any more") from error
    except PermissionError as error:
        raise UnreadableImage(path, "you have no permission to read it; change its mode or owner") from error
    except Image.DecompressionBombError as error:
        raise UnreadableImage(path, f"{error}; {_TRUST}") from error
    except UnidentifiedImageError as error:
        what = f"not an image that can be decoded: it begins with {start!r}" if start else "empty (0 bytes)"
        raise UnreadableImage(path, f"is {what}; expected JPEG, PNG, WebP, TIFF or the like") from error
    except Exception as error:  # decoders of damaged data raise whatever they stumble over
        raise UnreadableImage(path, f"is damaged or truncated ({error}); get a whole copy of it") from error


def _turn(picture: Image.Image) -> Image.Transpose | None:
    if picture.format == "TIFF":  # Pillow has turned it already
        return None
    try:
        return _TURNS.get(picture.getexif().get(_ORIENTATION, 1))
    except Warning:
        raise
    except Exception:  # damaged EXIF data says nothing against the pixels
        return None


def _plain(picture: Image.Image, channels: int) -> Image.Image:
    """A picture of mode RGB or L, or of mode F with gray in [0, 1] where 8 bits would lose something."""
    if picture.mode.startswith(("I", "F")):
        values = np.asarray(picture).astype(np.float32)
        if picture.mode.startswith("I;16"):
            # TIFF has gray of 12 bits, which Pillow unpacks but does not scale.
            bits = getattr(picture, "tag_v2", {}).get(_BITS_PER_SAMPLE, (16,))[0]
            values /= 2**bits - 1
        elif picture.mode == "I" and picture.format in ("PNG", "PPM"):  # these have 16 bits at most
            values /= 65535
        elif picture.mode != "F" or not (values.min() >= 0 and values.max() <= 1):
            kind = "floats" if picture.mode == "F" else "32-bit integers"
            span = f"{kind} from {values.min():g} to {values.max():g}"
            raise ValueError(f"{span} do not say what is white; save 8 or 16 bits or floats in [0, 1]")
        return Image.fromarray(values)
    if picture.has_transparency_data:
        # By way of RGBA for palettes too: Pillow warns where it has to drop their transparency.
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture.convert("RGBA"))
    return picture.convert("RGB" if channels == 3 else "L")


def _tensor(picture: Image.Image, channels: int) -> Tensor:
    pixels = torch.from_numpy(np.array(picture))
    if picture.mode == "F":
        # Bicubic and Lanczos overshoot; pictures of 8 bits are clipped by Pillow itself.
        return pixels.clamp(0, 1).expand(channels, -1, -1).contiguous()
    pixels = pixels.reshape(*pixels.shape[:2], channels)
    return pixels.permute(2, 0, 1).contiguous().float().div_(255)


def _images_below(folder: Path) -> list[Path]:
    def refuse(error: OSError) -> None:
        raise UnreadableImage(error.filename, f"this folder cannot be listed ({error.strerror})") from error

    images: list[Path] = []
    others: Counter[str] = Counter()
    seen: set[str] = set()
    for here, folders, files in os.walk(folder, onerror=refuse, followlinks=True):
        # A link may lead back up; sorted, so that of two ways to a folder always the same one is taken.
        real = os.path.realpath(here)
        folders[:] = sorted(name for name in folders if real not in seen and not name.startswith("."))
        for file in (Path(here, name) for name in files if real not in seen and not name.startswith(".")):
            if file.suffix.lower() in SUFFIXES:
                images.append(file)
            else:
                others[file.suffix.lower() or "without suffix"] += 1
        seen.add(real)
    if not images:
        held = ", ".join(f"{n} {suffix}" for suffix, n in others.most_common(5)) or "no files"
        raise UnreadableImage(folder, f"holds no image (looked for {' '.join(SUFFIXES)}; found {held})")
    return sorted(images, key=lambda path: (_natural(path.relative_to(folder)), str(path)))


def _natural(path: Path) -> list[list[int | str]]:
    """A sort key by which 2.png comes before 10.png: text and numbers alternate, so like meets like."""
    return [
        [int(piece) if i % 2 else piece.casefold() for i, piece in enumerate(re.split("([0-9]+)", part))]
        for part in path.parts
    ]


def _no_file(path: Path) -> UnreadableImage:
    """Why a path that is not a file cannot be read, with the nearest names if there is nothing."""
    if path.exists():
        what = "a folder; name a file in it" if path.is_dir() else "neither a file nor a folder"
        return UnreadableImage(path, f"is {what} (list_images lists the images of a folder)")
    if path.parts and path.parts[0].lower() in ("http:", "https:"):
        return MissingImage(path, "is a web address; download the image and give its file")
    # A wrong folder high up is named as such: `photos/a.jpg` for `photo/a.jpg` is not about a.jpg.
    lost = path
    while not lost.parent.is_dir() and lost.parent != lost:
        lost = lost.parent
    reason = "does not exist" if lost == path else f"there is no folder {lost}"
    with suppress(OSError):
        names = {entry.name.lower(): str(entry) for entry in itertools.islice(lost.parent.iterdir(), 10_000)}
        near = difflib.get_close_matches(lost.name.lower(), sorted(names), n=3)
        if near:
            reason += f"; did you mean {' or '.join(names[name] for name in near)}?"
    return MissingImage(path, reason)
