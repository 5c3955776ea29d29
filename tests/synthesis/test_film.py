"""Films: as animated pictures with Pillow alone, as a video with ffmpeg."""

from __future__ import annotations

import gc
import sys
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from pellucid.synthesis import Synthesis, dream, maximize
from pellucid.synthesis.ascent.film import check_film

from ..nets import small_model, some_images


def ramp():
    """Eight frames of 13 x 11 pixels, of two images, from black to white."""
    frames = torch.linspace(0, 255, 8).to(torch.uint8)[None, :, None, None, None].expand(2, 8, 3, 11, 13)
    return Synthesis(torch.ones(2, 3, 11, 13), frames=frames)


def watched(imageio, path):
    """All frames of a video, T x H x W x 3, and what it says of itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # its reader leaves the pipes to the garbage collector
        with imageio.get_reader(path) as film:
            found = np.stack([frame for frame in film]), film.get_meta_data()  # noqa: C416  # it knows no length
        gc.collect()
    return found


def test_a_video_holds_the_frames_in_their_order(tmp_path):
    imageio = pytest.importorskip("imageio.v2")
    pytest.importorskip("imageio_ffmpeg")
    path = ramp().save(tmp_path / "film.mp4", seconds=2, hold=1)
    shown, about = watched(imageio, path)
    assert about["codec"] == "h264" and about["fps"] == 4 and about["duration"] == pytest.approx(3, abs=0.3)
    assert shown.shape == (12, 12, 28, 3)  # sides made even; eight frames, and the last for a second more
    means = shown[:8, :10, :12].mean((1, 2, 3))
    np.testing.assert_allclose(means, np.linspace(0, 255, 8), atol=6)
    assert [file.name for file in tmp_path.iterdir()] == ["film.mp4"]


def test_the_ascent_and_the_zoom_of_a_dream_as_a_video(tmp_path):
    imageio = pytest.importorskip("imageio.v2")
    pytest.importorskip("imageio_ffmpeg")
    maximize(small_model(), 0, steps=4, record_every=1).film(tmp_path / "way.mp4", scale=2)
    dream(small_model(), some_images(1), "conv2:1", octaves=1, steps=2, zoom=3, shift=1).film(tmp_path / "zoom.mp4")
    for name, side in (("way", 24), ("zoom", 12)):
        assert watched(imageio, tmp_path / f"{name}.mp4")[0].shape[1:] == (side, side, 3)


def test_without_imageio_the_extra_is_named_and_pictures_need_nothing(tmp_path, monkeypatch):
    for name in ("imageio", "imageio.v2", "imageio_ffmpeg"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"pip install 'pellucid\[film\]'"):
        ramp().film(tmp_path / "film.mp4")
    with pytest.raises(ImportError, match=r"pellucid\[film\]"):
        check_film(tmp_path / "film.mp4")
    assert not list(tmp_path.iterdir())
    for kind in ("gif", "webp", "png"):
        ramp().film(tmp_path / f"film.{kind}")
        with Image.open(tmp_path / f"film.{kind}") as film:
            assert film.n_frames == 8 and film.size == (27, 11)


def test_a_film_that_fails_leaves_nothing(tmp_path, monkeypatch):
    imageio = pytest.importorskip("imageio.v2")
    pytest.importorskip("imageio_ffmpeg")
    monkeypatch.setattr(imageio, "get_writer", lambda *given, **more: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(OSError, match="full"):
        ramp().film(tmp_path / "film.mp4")
    assert not list(tmp_path.iterdir())
