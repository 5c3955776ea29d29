"""Films: frames as an animated picture, or as a video."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...files.atomic import atomic_write

FILMS = (".gif", ".webp", ".png", ".mp4")


def write_film(frames: Sequence[Image.Image], path: Path, *, seconds: float, hold: float) -> None:
    """Write frames of one size as a film that takes so many seconds and stays on the last, whole or not at all.

    Args:
        frames: at least one.
        path: with one of the endings in `FILMS`.
        seconds, hold: how long all of it takes, and how much longer the last frame stays.

    Raises:
        ImportError: for .mp4 without imageio.
        OSError: if the file cannot be written.
    """
    kind = path.suffix.lower()
    if kind == ".mp4":
        _video(frames, path, seconds, hold)
        return
    each = max(20, round(1000 * seconds / len(frames)))  # viewers slow down what is faster than 20 milliseconds
    durations = [each] * (len(frames) - 1) + [each + round(1000 * hold)]
    if kind == ".gif":  # without dithering, which would flicker
        frames = [frame.convert("RGB").quantize(256, dither=Image.Dither.NONE) for frame in frames]
    with atomic_write(path) as part:
        frames[0].save(part, kind[1:].upper(), save_all=True, append_images=frames[1:], duration=durations, loop=0)


def check_film(path: Path) -> None:
    """Before any long work: refuse what no film can be written as, or not without a library that is not here.

    Raises:
        ValueError: for another ending.
        ImportError: for .mp4 without imageio.
    """
    if path.suffix.lower() not in FILMS:
        raise ValueError(f"cannot write a film as {path.name!r}: expected {', '.join(FILMS)}")
    if path.suffix.lower() == ".mp4":
        _imageio()


def _video(frames: Sequence[Image.Image], path: Path, seconds: float, hold: float) -> None:
    """H.264 in the colors that every player knows, which have half the resolution: sides must be even."""
    library = _imageio()
    rate = len(frames) / seconds
    width, height = frames[0].size
    margin = ((0, height % 2), (0, width % 2), (0, 0))
    with (
        atomic_write(path) as part,
        library.get_writer(
            str(part), format="FFMPEG", mode="I", fps=rate, codec="libx264", quality=8, macro_block_size=1,
            pixelformat="yuv420p", output_params=["-movflags", "+faststart"],
        ) as writer,
    ):  # fmt: skip
        for frame in [*frames, *[frames[-1]] * round(hold * rate)]:
            writer.append_data(np.pad(np.asarray(frame.convert("RGB")), margin, "edge"))


def _imageio() -> Any:
    try:
        import_module("imageio_ffmpeg")
        return import_module("imageio.v2")
    except ImportError as error:
        raise ImportError(
            "a film as .mp4 needs imageio with ffmpeg: pip install 'pellucid[film]'; .gif and .webp need nothing more"
        ) from error
