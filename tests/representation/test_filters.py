"""Weights and activations as pictures."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import pellucid
from pellucid import activations, filters
from pellucid.model.run import counted, run
from pellucid.representation.sweeps.contact_sheet import sheet

from ..nets import small_model, some_images


def test_the_first_layer_in_colors():
    model = small_model()
    found = filters(model)
    assert found.layer == "conv1" and torch.equal(found.values, model.net.conv1.weight)
    tiles = found.tiles()
    assert tiles.shape == (4, 3, 3, 3) and found.color
    for weight, tile in zip(found.values.float(), tiles, strict=True):
        torch.testing.assert_close(tile, 0.5 + 0.5 * weight / weight.abs().max())
    shared = found.tiles(shared=True)
    assert (shared - 0.5).abs().max() == 0.5
    assert ((shared - 0.5).abs().flatten(1).amax(1) == 0.5).sum() == 1


def test_higher_layers_have_a_gray_tile_for_each_input_channel():
    found = filters(small_model(), "conv2", channels=[3, 1])
    assert found.values.shape == (2, 4, 3, 3) and found.channels == (3, 1) and not found.color
    picture = found.sheet(scale=1)
    assert picture.shape == (3, 2 * 4 - 1, 4 * 4 - 1)
    assert torch.equal(picture[0], picture[1]) and torch.equal(picture[0], picture[2])
    expected = found.tiles()[1, 2, 0]  # row 1, column 2
    assert torch.equal(picture[0, 4:7, 8:11], expected)


def test_dense_layers_that_see_pixels():
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 5, 2)).eval()
    found = filters(pellucid.wrap(net, size=(4, 5)))
    assert found.values.shape == (2, 3, 4, 5) and torch.equal(found.values.flatten(1), net[1].weight)
    with pytest.raises(ValueError, match="is dense, with 60 inputs, which are not the pixels"):
        filters(net)


def test_a_constant_filter_is_gray_and_finite():
    net = nn.Sequential(nn.Conv2d(3, 1, 3)).eval()
    net[0].weight.data.zero_()
    assert (filters(net).tiles() == 0.5).all()


def test_activations_are_those_of_a_plain_pass():
    model, images = small_model(), some_images(2)
    with counted() as passes:
        found = activations(model, images, "relu1", channels=[3, 0])
    with torch.no_grad():
        expected = run(model, images, read=["relu1"]).activations["relu1"]
    assert torch.equal(found.values, expected[:, [3, 0]]) and passes.forward == 2
    assert found.sheet(1, scale=1).shape == (3, 12, 25)
    assert activations(model, images, "fc").values.shape == (2, 3)
    assert activations(model, images, "fc").figure() is not None


def test_sheets_keep_each_pixel():
    tiles = torch.rand(5, 3, 2, 3)
    made = sheet(tiles, columns=2, scale=2)
    assert made.shape == (3, 3 * 5 - 1, 2 * 7 - 1)
    assert torch.equal(made[:, 5:9:2, 7:13:2], tiles[3])
    assert (made[:, 10:, 7:] == 1).all()  # nothing there


@pytest.mark.slow
def test_they_are_shown_and_saved(tmp_path):
    model, images = small_model(dtype=torch.float32), some_images(1, dtype=torch.float32)
    for number, result in enumerate([filters(model), filters(model, "conv2"), activations(model, images, "relu1")]):
        assert result.save(tmp_path / f"{number}.png").stat().st_size > 2000
        assert result.save(tmp_path / f"{number}.npz").is_file()
        assert result._repr_png_()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda m, _: filters(m, "relu1"), ValueError, r"'relu1' \(ReLU\) has no weights of its own: name a conv"),
        (lambda m, _: filters(m, "conv9"), KeyError, "no layer 'conv9'"),
        (lambda m, _: filters(m, "norm1"), ValueError, "the weights of layer 'norm1' are 4"),
        (lambda m, _: filters(m, channels=[9]), ValueError, "has 4 channels, counted from 0; there is no channel 9"),
        (lambda m, _: filters(m, channels=[]), ValueError, "no channel was named"),
        (lambda m, i: activations(m, i, "conv1", channels=[4]), ValueError, "there is no channel 4"),
        (lambda m, i: activations(m, i[0], "conv1"), ValueError, r"pass images\[None\]"),
        (lambda m, i: activations(m, i, "fc").sheet(), ValueError, "has no places"),
    ],
)
def test_bad_input_is_refused_in_words(call, error, words):
    with pytest.raises(error, match=words):
        call(small_model(), some_images(2))
