"""Trained networks: digits, classes, channels, and images that look like something."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import pellucid
from pellucid import channel
from pellucid.files.images import read_image
from pellucid.synthesis import Fourier, Pixels, dream, invert, maximize, multifaceted, standardize, style_transfer

from .. import real

EXERCISE = {
    "size": 28, "parametrization": Pixels(bounds=None, noise=1.0), "optimizer": "ascent", "transforms": standardize(),
    "steps": 100,
}  # fmt: skip


@pytest.mark.parametrize("start", ["ones", "noise"])
def test_every_digit_of_the_exercise_on_the_logit(start):
    net = real.mnist_cnn().net
    found = maximize(net, range(10), start=start, step_size=0.01, **EXERCISE)
    assert not found.zero_gradient.any()
    assert net(found.images).argmax(1).tolist() == list(range(10))
    assert (found.values > found.history[:, 0] + 100).all()


def test_neuron_6_on_the_sigmoid_is_dead_from_noise_and_said_so():
    net = real.mnist_cnn(sigmoid=True).net
    with pytest.raises(ValueError, match=r"saturated sigmoid.*such as the logit"):
        maximize(net, 6, start="noise", step_size=1.0, **EXERCISE)
    with pytest.warns(UserWarning, match=r"logit\(6\)"):
        found = maximize(net, range(10), start="noise", step_size=1.0, **EXERCISE)
    assert found.zero_gradient[6] and (found.values[~found.zero_gradient] > 0.99).all()
    hidden = maximize(net, pellucid.neuron("fc2", 6), start="noise", step_size=0.01, **EXERCISE)
    assert net(hidden.images).argmax(1).item() == 6


def test_digits_by_default_are_gray_and_certain():
    model = real.mnist_cnn()
    found = maximize(model, list(map(str, range(10))), steps=64)
    assert found.images.shape == (10, 1, 28, 28)
    assert model(found.images).argmax(1).tolist() == list(range(10))


@pytest.fixture(scope="module")
def squeezenet():
    return real.squeezenet()


def grain(images):
    """The share of the power of an image that lies in the highest frequencies: 1 for checkerboards, 0.4 for noise."""
    power = torch.fft.fft2(images.mean(1) - images.mean((1, 2, 3))[:, None, None]).abs().square()
    f = torch.fft.fftfreq(images.shape[-1]).square()
    high = (f[:, None] + f[None]).sqrt() > 0.3
    return (power * high).sum((1, 2)) / power.sum((1, 2))


def test_classes_are_recognized_after_all_views_and_are_no_grain(squeezenet):
    classes = ["goldfish", "castle"]
    found = maximize(squeezenet, classes, size=128, steps=60)
    probabilities = squeezenet(F.interpolate(found.images, 160, mode="bilinear")).softmax(1)
    for row, name in enumerate(classes):
        assert probabilities[row, squeezenet.index(name)] > 0.9
    plain = maximize(squeezenet, classes, size=128, steps=60, parametrization=Pixels(), transforms=())
    assert (grain(found.images) < 0.5 * grain(plain.images)).all()
    assert (found.images.std((1, 2, 3)) > 0.1).all()  # not gray mush


@pytest.mark.parametrize("layer", ["features.3", "features.7", "features.10"])
def test_channels_of_three_depths(squeezenet, layer):
    found = maximize(squeezenet, [channel(layer, i) for i in (1, 5)], size=96, steps=30, parametrization=Fourier())
    photos = F.interpolate(real.castle(), 96)
    trace = pellucid.run(squeezenet, photos, read=layer)
    ordinary = trace.activations[layer][0, [1, 5]].mean((1, 2))
    assert (found.values[~found.zero_gradient] > 2 * ordinary[~found.zero_gradient]).all()


def test_channels_that_are_dead_from_noise_are_led_to_life(squeezenet):
    """Behind ReLUs that are off for any plain image; what comes out is no louder noise."""
    wanted = [channel("features.12", i) for i in (40, 77)]
    found = maximize(squeezenet, wanted, size=96, steps=30)
    assert not found.zero_gradient.any() and (found.values > 0).all() and (grain(found.images) < 0.3).all()


def frogs(count, side=96):
    """The first frogs of CIFAR-10."""
    from PIL import Image

    with np.load(real.path("cifar10/cifar10_jpeg.npz")) as file:
        data, ends, labels = file["test_jpeg"], file["test_offsets"], file["test_labels"]
        wanted = np.flatnonzero(labels == 6)[:count]
        parts = [data[ends[i] : ends[i + 1]].tobytes() for i in wanted]
    images = torch.stack([read_image(Image.open(BytesIO(part))) for part in parts])
    return F.interpolate(images, side, mode="bicubic").clamp(0, 1)


def test_facets_of_real_photos(squeezenet):
    name = squeezenet.labels[32]
    assert name.startswith("tailed frog")
    found = multifaceted(squeezenet, frogs(30), name, facets=3, steps=30)
    assert len(found.images) == 3 and (found.values > found.history[:, 0]).all()
    apart = torch.corrcoef(found.images.flatten(1))
    assert (apart - torch.eye(3)).max() < 0.95 and (grain(found.images) < 0.35).all()


def test_the_castle_inverted_is_the_castle(squeezenet):
    image = F.interpolate(real.castle(), 96, mode="area")
    found = invert(squeezenet, image, "features.4", steps=100)
    assert found.error < 0.3
    assert torch.corrcoef(torch.stack([found.images.flatten(), image.flatten()]))[0, 1] > 0.8


def test_a_dream_and_a_transfer_stay_pictures_of_the_castle(squeezenet):
    image = F.interpolate(real.castle(), 128, mode="area")
    dreamed = dream(squeezenet, image, octaves=2, steps=5).images
    assert 0.7 < torch.corrcoef(torch.stack([dreamed.flatten(), image.flatten()]))[0, 1] < 0.999
    stripes = torch.zeros(1, 3, 96, 96)
    stripes[:, 0, :, ::8] = 1
    painted = style_transfer(squeezenet, image, stripes, steps=30)
    assert painted.values > painted.history[0, 0] and painted.images.std() > 0.1
