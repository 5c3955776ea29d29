"""Top patches: against a plain loop over all images and places, by hand, and by relevance."""

from __future__ import annotations

import csv

import pytest
import torch
from torch import nn

import pellucid
from pellucid import top_patches
from pellucid.files.images import write_image
from pellucid.model.run import counted, run
from pellucid.representation import patches_of, receptive_fields, relevance_maps, sweep, top_activations, vectors

from ..nets import small_model, some_images


def test_against_a_plain_loop():
    model, images = small_model(), some_images(9)
    found = top_patches(model, images, "relu1", k=4)
    with torch.no_grad():
        activation = run(model, images, read=["relu1"]).activations["relu1"]
    fields = receptive_fields(model, "relu1", (12, 12))
    assert found.values.shape == (4, 4) and found.channels == (0, 1, 2, 3)
    for channel in range(4):
        per_image = activation[:, channel].flatten(1).max(1)
        order = sorted(range(9), key=lambda i: (-per_image.values[i].item(), i))[:4]
        assert found.numbers[channel].tolist() == order
        assert torch.equal(found.values[channel], per_image.values[order])
        for rank, number in enumerate(order):
            y, x = divmod(int(per_image.indices[number]), 12)
            assert found.places[channel, rank].tolist() == [y, x]
            top, left, bottom, right = fields[y, x]
            assert torch.equal(found.patch(channel, rank), images[number][:, top:bottom, left:right])


def test_a_patch_is_where_its_pattern_was_put():
    """A 2 x 2 kernel of a cross finds the one cross of each image, also in the corner."""
    net = nn.Sequential(nn.Conv2d(1, 1, 2, bias=False), nn.ReLU()).eval()
    cross = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
    net[0].weight.data = cross[None, None]
    images = torch.full((3, 1, 6, 6), 0.5)
    for image, (y, x, strength) in zip(images, [(0, 0, 0.2), (3, 2, 0.4), (4, 4, 0.3)], strict=True):
        image[0, y : y + 2, x : x + 2] += strength * cross
    found = top_patches(net, images, "1", k=3)
    assert found.numbers.tolist() == [[1, 2, 0]]
    assert found.places.tolist() == [[[3, 2], [4, 4], [0, 0]]]
    assert found.boxes.tolist() == [[[3, 2, 5, 4], [4, 4, 6, 6], [0, 0, 2, 2]]]
    torch.testing.assert_close(found.values, torch.tensor([[1.6, 1.2, 0.8]]))
    torch.testing.assert_close(found.patch(0, 0), 0.5 + 0.4 * cross[None])


def test_at_the_border_gray_stands_for_what_is_beyond():
    net = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1, bias=False)).eval()
    net[0].weight.data = torch.zeros(1, 1, 3, 3)
    net[0].weight.data[0, 0, 1, 1] = 1.0
    images = torch.zeros(2, 1, 6, 6)
    images[0, 0, 0, 0], images[1, 0, 5, 3] = 1.0, 0.75
    found = top_patches(net, images, "0", k=2)
    corner, bottom = found.patch(0, 0, whole=True), found.patch(0, 1, whole=True)
    assert corner.shape == bottom.shape == (1, 3, 3)
    assert corner[0, 1, 1] == 1.0 and bottom[0, 1, 1] == 0.75  # the place is in the middle
    assert (corner[0, 0] > 0.9).all() and (corner[0, :, 0] > 0.9).all() and (bottom[0, 2] > 0.9).all()
    assert found.patch(0, 0).shape == (1, 2, 2)


def test_one_image_does_not_fill_all_places_unless_asked():
    net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU()).eval()
    net[0].weight.data = torch.ones(2, 1, 1, 1)
    net[0].bias.data = torch.zeros(2)
    images = torch.rand(3, 1, 4, 4) * 0.5
    images[1] += 0.5  # brighter everywhere
    found = top_patches(net, images, "1", k=3)
    assert sorted(found.numbers[0].tolist()) == [0, 1, 2] and found.numbers[0, 0] == 1
    several = top_patches(net, images, "1", k=5, each=4)
    assert several.numbers[0].tolist()[:4] == [1] * 4 and several.numbers[0, 4] != 1
    assert torch.equal(several.values[0, :4], images[1].flatten().topk(4).values)


def test_ties_are_the_earlier_images_and_dead_channels_are_told():
    net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU()).eval()
    net[0].weight.data = torch.tensor([1.0, 0.0]).view(2, 1, 1, 1)
    net[0].bias.data = torch.tensor([0.0, -1.0])
    images = torch.full((6, 1, 3, 3), 0.5)
    found = top_patches(net, images, "1", k=3)
    assert found.numbers.tolist() == [[0, 1, 2]] * 2
    assert found.active.tolist() == [True, False]
    assert any("never active" in axis.get_title() for axis in found.figure().get_axes())


def test_by_relevance_is_where_relevance_is_largest():
    model, images = small_model(), some_images(6)
    found = top_patches(model, images, "relu2", k=3, by="relevance")
    shares = pellucid.lrp(model, images, layer="relu2").values
    best = shares.flatten(2).max(2)
    order = best.values.sort(dim=0, descending=True, stable=True).indices[:3].T
    assert torch.equal(found.numbers, order)
    torch.testing.assert_close(found.values, best.values.T.gather(1, order), rtol=1e-9, atol=1e-12)
    assert found.call.backward == 6 and "Achtibat" in found.call.paper
    of_class = top_patches(model, images, "relu2", k=3, by="relevance", objective="koala")
    assert not torch.equal(of_class.values, found.values)


def test_a_channel_that_is_active_but_unused_has_no_relevance():
    """Two channels see the same; the class reads only the second."""
    net = nn.Sequential(
        nn.Conv2d(1, 2, 1, bias=False), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 1)
    )
    net[0].weight.data = torch.ones(2, 1, 1, 1)
    net[4].weight.data, net[4].bias.data = torch.tensor([[0.0, 1.0]]), torch.zeros(1)
    images = torch.rand(4, 1, 3, 3) + 0.1
    found = top_patches(net.eval(), images, "1", k=2, by="relevance", objective=0)
    assert found.active.tolist() == [False, True]
    assert top_patches(net, images, "1", k=2).active.tolist() == [True, True]


def test_one_pass_for_all_channels_and_measures(tmp_path):
    model, images = small_model(), some_images(7)
    measures = [vectors("conv1", "relu1", "relu2"), top_activations("relu1", "relu2"),
                top_activations("relu2", by="relevance"),
                relevance_maps()]  # fmt: skip
    with counted() as passes:
        found = sweep(model, images, measures, folder=tmp_path / "run")
    assert (passes.forward, passes.backward) == (7, 7)
    for layer, by in (("relu1", "activation"), ("relu2", "activation"), ("relu2", "relevance")):
        mine = patches_of(found, model, layer, k=3, by=by)
        alone = top_patches(model, images, layer, k=3, by=by)
        torch.testing.assert_close(mine.values, alone.values, rtol=1e-9, atol=1e-12)
        assert torch.equal(mine.numbers, alone.numbers) and torch.equal(mine.boxes, alone.boxes)
    with pytest.raises(ValueError, match="no extremes of 'relu1' by relevance"):
        patches_of(found, model, "relu1", by="relevance")


def test_files_chunks_and_tables(tmp_path, monkeypatch):
    from importlib import import_module

    monkeypatch.setattr(import_module("pellucid.representation.sweeps.sweep"), "CHUNK_BYTES", 2 * 3 * 12 * 12 * 4)
    model = small_model()
    for number in range(7):
        write_image(some_images(1, number, torch.float32)[0], tmp_path / "photos" / f"{number}.png") if number else (
            tmp_path / "photos"
        ).mkdir()
    (tmp_path / "photos" / "bad.png").write_bytes(b"")
    found = top_patches(model, tmp_path / "photos", "relu1", channels=[2, 0], k=3, folder=tmp_path / "run")
    assert found.channels == (2, 0) and found.failures[0][0] == "bad.png"
    images = model.read(*found.files)
    alone = top_patches(model, images, "relu1", channels=[2, 0], k=3)
    assert torch.equal(found.numbers, alone.numbers) and torch.equal(found.values, alone.values)
    assert torch.equal(found.patch(1, 2), alone.patch(1, 2))
    with found.save(tmp_path / "patches.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6 and rows[0]["channel"] == "2" and rows[0]["name"] == found.names[int(found.numbers[0, 0])]
    assert found.save(tmp_path / "patches.png").stat().st_size > 1000
    assert found.save(tmp_path / "patches.npz").is_file()


def test_a_layer_without_places_shows_whole_images():
    model, images = small_model(), some_images(4)
    found = top_patches(model, images, "fc", k=2)
    assert found.fields is None and found.patch(0, 0).shape == (3, 12, 12)
    assert found.figure() is not None


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"channels": [4]}, ValueError, "layer 'relu1' has 4 channels, counted from 0; there is no channel 4"),
        ({"k": 0}, ValueError, "k is 0"),
        ({"each": 0}, ValueError, "each is 0"),
        ({"by": "size"}, TypeError, "by is .*'size'.*, expected 'activation' or 'relevance'"),
        ({"layer": "relu9"}, KeyError, "no layer 'relu9'"),
        ({"layer": ["relu1"]}, TypeError, "expected the name of one layer"),
    ],
)
def test_bad_input_is_refused_in_words(given, error, words):
    with pytest.raises(error, match=words):
        top_patches(small_model(), some_images(3), **{"layer": "relu1", "k": 2, **given})


def test_k_larger_than_the_set_is_said():
    with pytest.warns(UserWarning, match="k is 9, but there are 3 images: a channel has 3 patches"):
        found = top_patches(small_model(), some_images(3), "relu1")
    assert found.values.shape == (4, 3)
