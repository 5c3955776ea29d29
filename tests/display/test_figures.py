"""Figures: what they show, and that nothing a user writes breaks them."""

from __future__ import annotations

import dataclasses
import json
import sys
from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image

import pellucid
from pellucid.display import figures

from ..nets import small_model, some_images


@pytest.fixture
def result():
    return pellucid.gradient_x_input(small_model(), some_images(3), "koala")


def shown(figure):
    return [axis for axis in figure.axes if axis.images]


def test_images_beside_their_maps(result):
    axes = shown(result.figure(titles=["a", "b", "c"]))
    assert len(axes) == 6 and [axes[i].get_title() for i in (0, 2, 4)] == ["a", "b", "c"]
    np.testing.assert_allclose(axes[0].images[0].get_array(), some_images(1)[0].permute(1, 2, 0), atol=1e-6)
    assert "koala" in result.figure()._supxlabel.get_text()


def test_maps_over_images(result):
    assert len(shown(result.figure(over=True))) == 3


def test_zero_is_white_and_signs_have_their_colors():
    values = torch.tensor([[[[0.0, 2.0], [-2.0, 0.0]]]])
    colors = shown(figures.heatmaps(torch.rand(1, 3, 2, 2), values, percentile=100))[1].images[0].get_array()
    assert (colors[0, 0] == 1).all() and colors[0, 1, 0] > colors[0, 1, 2] and colors[1, 0, 2] > colors[1, 0, 0]


def test_only_the_strongest_part():
    values = torch.arange(1.0, 101).reshape(1, 1, 10, 10)
    options = {"percentile": 100.0, "colors": "gray"}
    colors = shown(figures.heatmaps(torch.rand(1, 3, 10, 10), values, keep=0.1, **options))[1].images[0].get_array()
    assert (colors[..., 0] > 0).sum() == pytest.approx(10, abs=1)


def test_titles_are_text_whatever_is_in_them(tmp_path):
    images = torch.rand(1, 3, 8, 8)
    figure = figures.grid([images[0]], ["$\\frac{<b>&\x07 \n" + "long " * 60], ["$x"], caption="$y_{")
    figure.savefig(tmp_path / "a.png")
    figure.savefig(tmp_path / "a.svg")
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size[0] > 100


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_any_number_of_channels_and_any_range(channels):
    images = torch.randn(2, channels, 6, 6) * 7
    shown_images = figures.displayable(images)
    assert shown_images.shape == (2, 3, 6, 6) and shown_images.min() >= 0 and shown_images.max() <= 1
    figures.heatmaps(images, torch.zeros(2, 1, 6, 6))


@pytest.mark.slow
def test_many_images_make_one_page():
    figure = figures.heatmaps(torch.rand(200, 3, 4, 4), torch.rand(200, 1, 4, 4))
    assert len(shown(figure)) == 2 * figures.MOST_IMAGES


@pytest.mark.slow
def test_a_window_where_there_is_a_screen(result, monkeypatch):
    assert result.show() is not None and matplotlib.get_backend().lower() == "agg"
    opened = []
    monkeypatch.setattr(matplotlib, "get_backend", lambda: "tkagg")
    monkeypatch.setattr("matplotlib.pyplot.show", lambda: opened.append(1))
    result.show()
    assert opened == [1]
    matplotlib.pyplot.close("all")


def test_saved_numbers_know_how_they_were_made(result, tmp_path):
    stored = np.load(result.save(tmp_path / "a.npz"))
    call = json.loads(str(stored["call"]))
    assert (call["method"], call["objective"], call["options"]["baseline"]) == (
        "gradient_x_input",
        'logit("koala")',
        "mean",
    )
    assert (call["forward"], call["backward"], call["model"]) == (3, 3, "small") and call["seconds"] > 0
    np.testing.assert_array_equal(stored["images"], some_images(3))


def test_wrong_endings_are_refused_before_anything_is_drawn(result, tmp_path):
    with pytest.raises(ValueError, match=r"cannot save as 'a.tiff': expected .png"):
        result.save(tmp_path / "a.tiff")
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="cannot write"):
        result.save(tmp_path / "file" / "a.png")


def test_results_print_as_what_they_are(result):
    assert repr(result).startswith('Attribution(3 x 3 x 12 x 12, gradient_x_input(small, logit("koala"), baseline=mean')


def test_results_side_by_side():
    model, images = small_model(), some_images(2)
    results = [pellucid.saliency(model, images, k, sign="keep") for k in (0, "koala")]
    axes = shown(pellucid.side_by_side(results))
    assert len(axes) == 6
    assert [a.get_title().replace("\n", " ") for a in axes[:3]] == [
        "image",
        "saliency logit(0)",
        'saliency logit("koala")',
    ]
    weaker = dataclasses.replace(results[0], values=results[0].values / 100)
    own, shared = (shown(pellucid.side_by_side([results[0], weaker], shared=s)) for s in (False, True))
    np.testing.assert_allclose(own[1].images[0].get_array(), own[2].images[0].get_array(), atol=1e-4)
    faint, strong = (np.asarray(shared[n].images[0].get_array()) for n in (2, 1))
    assert (1 - faint).max() < 0.1 < (1 - strong).max()
    with pytest.raises(ValueError, match="of other images"):
        pellucid.side_by_side([results[0], pellucid.saliency(model, images.flip(0), 0)])
    with pytest.raises(ValueError, match="no results"):
        pellucid.side_by_side([])


@pytest.mark.slow
def test_neurons_and_tokens_have_bars(tmp_path):
    images = torch.rand(2, 3, 8, 8)
    for values, word in ((torch.randn(2, 30), "neuron"), (torch.randn(2, 5, 7), "token")):
        result = pellucid.methods.result.Attribution(values, images)
        image, chart = result.figure().axes[2:]
        assert chart.get_xlabel() == word and len(image.images) == 1
        numbers = values[1] if word == "neuron" else values[1].sum(1)
        heights = [bar.get_height() for bar in chart.patches]
        strongest = int(numbers.abs().argmax())
        assert heights[0] == pytest.approx(float(numbers[strongest]), rel=1e-5)
        assert chart.get_xticklabels()[0].get_text() == str(strongest)
        assert len(heights) == min(20, len(numbers))
        assert result.save(tmp_path / f"{word}.png").stat().st_size > 5000
        with pytest.raises(ValueError, match="no places"):
            pellucid.side_by_side([result])


@pytest.mark.slow
def test_a_notebook_draws_it_at_once_and_only_once(result, monkeypatch):
    drawn = []

    class Notebook:
        @staticmethod
        def get_ipython():
            return SimpleNamespace(kernel=object())

        display = SimpleNamespace(Image=lambda data: data, display=drawn.append)

    monkeypatch.setitem(sys.modules, "IPython", Notebook)
    assert result.show() is None
    assert [picture[:8] for picture in drawn] == [b"\x89PNG\r\n\x1a\n"] and drawn[0] == result._repr_png_()
