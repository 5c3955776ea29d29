"""What a file tells of its origin before anyone looks at the picture: format, compression, size, metadata."""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path
from typing import Any

from PIL import Image

from ...files.images import UnreadableImage

BYTES = "bytes a pixel"
NONE = "none"


def file_traits(path: Path) -> dict[str, str | float]:
    """Traits of an image file by name: words, and as a number how many bytes a pixel takes. Pixels are not decoded.

    Raises:
        UnreadableImage: for a file that is no image.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp(), "red.png")
    >>> Image.new("RGB", (8, 4), "red").save(file)
    >>> traits = file_traits(file)
    >>> traits["file format"], traits["width x height"], traits["EXIF data"]
    ('PNG', '8 x 4', 'none')
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged metadata
            with Image.open(path) as picture:
                width, height = picture.size
                return {
                    "file format": picture.format or "unknown",
                    "color mode": picture.mode,
                    "width x height": f"{width} x {height}",
                    "JPEG quantization": _tables(picture),
                    "JPEG subsampling": _subsampling(picture),
                    "JPEG progressive": "yes" if picture.info.get("progressive") else NONE,
                    "EXIF data": _exif(picture),
                    "color profile": _digest(picture.info.get("icc_profile")),
                    BYTES: path.stat().st_size / (width * height),
                }
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UnreadableImage(path, " ".join(str(error).split()) or type(error).__name__) from error


def _tables(picture: Any) -> str:
    """The step of the average color and the largest step of each table, and a mark that tells all 64 apart."""
    tables = getattr(picture, "quantization", None)
    if not tables:
        return NONE
    said = ", ".join(f"{table[0]} to {max(table)}" for _, table in sorted(tables.items()))
    return f"steps {said} ({_digest(repr(sorted((k, list(t)) for k, t in tables.items())).encode())})"


def _subsampling(picture: Any) -> str:
    if picture.format != "JPEG":
        return NONE
    from PIL.JpegImagePlugin import get_sampling

    return {0: "4:4:4", 1: "4:2:2", 2: "4:2:0"}.get(get_sampling(picture), "other")


def _exif(picture: Any) -> str:
    try:
        known = sorted(picture.getexif())
    except Exception:  # damaged metadata is a trait too
        return "damaged"
    return f"{len(known)} entries" if known else NONE


def _digest(data: bytes | None) -> str:
    return hashlib.blake2b(data, digest_size=3).hexdigest() if data else NONE
