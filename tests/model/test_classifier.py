"""Classifiers: what `wrap` makes of a network, and how it reads and predicts."""

from __future__ import annotations

import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.transforms import v2 as transforms

import pellucid
from pellucid.model.classifier import network

from ..nets import LABELS, small_model, small_net, some_images


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    noise = torch.randint(0, 256, (40, 60, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    Image.fromarray(noise.numpy()).resize((300, 200)).save(path)
    return path


def test_the_network_is_held_not_changed():
    net = small_net()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    model = pellucid.wrap(net, mean=0.5, std=0.25, size=12, labels=LABELS)
    assert model.net is net and network(model) is net
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert not model.training
    assert list(model.state_dict()) == [f"net.{k}" for k in before]  # mean and std are no weights
    assert pellucid.wrap(small_net().train()).training


def test_normalized_inside():
    model, images = small_model(), some_images()
    mean, std = torch.tensor([0.4, 0.5, 0.6]).double(), torch.tensor([0.2, 0.25, 0.3]).double()
    expected = model.net((images - mean[:, None, None]) / std[:, None, None])
    torch.testing.assert_close(model(images), expected)
    torch.testing.assert_close(pellucid.wrap(small_net().double())(images), small_net().double()(images))
    torch.testing.assert_close(model.float()(images.float()), expected.float(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_reads_as_torchvision_does(photo, interpolation):
    model = pellucid.wrap(small_net(), size=48, resize=56, interpolation=interpolation)
    mode = getattr(transforms.InterpolationMode, interpolation.upper())
    chain = [transforms.Resize(56, mode), transforms.CenterCrop(48), transforms.PILToTensor()]
    expected = transforms.Compose(chain)(Image.open(photo)).float() / 255
    assert torch.equal(model.read(photo)[0], expected)
    squashed = pellucid.wrap(small_net(), size=(20, 30), resize="squash").read(photo)
    assert squashed.shape == (1, 3, 20, 30)
    assert pellucid.wrap(small_net(), size=48).read(photo).shape == (1, 3, 48, 48)
    assert pellucid.wrap(small_net()).read(photo).shape == (1, 3, 200, 300)
    assert pellucid.wrap(small_net(channels=1), size=28).read(photo).shape == (1, 1, 28, 28)


def test_reads_lists_and_folders_in_order(photo):
    Image.new("RGB", (300, 200), "red").save(photo.parent / "a.png")
    (photo.parent / "sub").mkdir()
    Image.new("RGB", (30, 20), "blue").save(photo.parent / "sub" / "b.png")
    model = pellucid.wrap(small_net(), size=8)
    folder = model.read(photo.parent)
    assert folder.shape == (3, 3, 8, 8) and folder[0, 0].min() == 1
    assert torch.equal(folder[:2], model.read([photo.parent / "a.png", photo]))
    with pytest.raises(ValueError, match="a batch has one size"):
        pellucid.wrap(small_net()).read(photo.parent)
    with pytest.raises(FileNotFoundError, match=r"photo\.png"):
        model.read(photo.with_name("foto.png"))


def test_predictions():
    model, images = small_model(), some_images(2)
    found = model.predict(images, k=2)
    top = model(images).softmax(1).topk(2)
    torch.testing.assert_close(found.probabilities, top.values.detach())
    assert torch.equal(found.classes, top.indices)
    assert found.labels[0][0] == LABELS[int(top.indices[0, 0])]
    assert model.predict(images, k=9).classes.shape == (2, 3)
    assert str(found).count("%") == 4 and found.labels[1][0] in str(found)
    assert pellucid.wrap(model.net).predict(images).labels[0][0] in "012"


def test_predictions_say_what_is_wrong():
    with pytest.raises(ValueError, match="training mode"):
        pellucid.wrap(small_net().train()).predict(some_images(dtype=torch.float32))
    with pytest.raises(ValueError, match="returns 3 x 4 x 12 x 12"):
        pellucid.wrap(nn.Conv2d(3, 4, 1).eval()).predict(some_images(dtype=torch.float32))
    broken = small_net()
    with torch.no_grad():
        broken.fc.bias[0] = torch.inf
    with pytest.raises(ValueError, match=r"fc\.bias"):
        pellucid.wrap(broken).predict(some_images(dtype=torch.float32))


def test_slightly_out_of_range_is_a_warning():
    with pytest.warns(UserWarning, match=r"from .* to 1\.1, outside \[0, 1\]"):
        small_model().predict((some_images() + 0.1).clamp(max=1.1).index_fill(3, torch.tensor(0), 1.1))


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"mean": [0.5, 0.5], "std": [0.2] * 3}, ValueError, r"disagree: they have lengths \[2, 3\]"),
        ({"std": 0}, ValueError, "numbers above 0"),
        ({"interpolation": "cubic"}, ValueError, "expected 'bilinear' or 'bicubic'"),
        ({"resize": "crop", "size": 3}, ValueError, "expected a number of pixels or 'squash'"),
        ({"labels": "castle"}, TypeError, "expected a list of names"),
    ],
)
def test_wrong_wrapping(options, error, words):
    with pytest.raises(error, match=words):
        pellucid.wrap(small_net(), **options)


def test_only_networks_are_wrapped():
    with pytest.raises(TypeError, match=r"takes a torch\.nn\.Module, got a function"):
        pellucid.wrap(lambda x: x)


def test_labels():
    model = small_model()
    assert (model.label(1), model.label(7), model.index("koala")) == ("koala", "7", 1)
    with pytest.raises(KeyError, match="no label 'lamp'; near it: lamp post"):
        model.index("lamp")
    with pytest.raises(KeyError, match="this model has no labels"):
        pellucid.wrap(small_net()).index("koala")
