"""Attacks on trained networks and real images."""

from __future__ import annotations

import pytest
import torch

import pellucid

from .. import real
from .mobilenet import mobilenet


@pytest.fixture(scope="module")
def digits():
    return real.mnist_images(50)


def photo(model, name):
    return model.read(next(f for f in sorted(real.path("photos/imagenet").iterdir()) if name in f.name))


@pytest.mark.parametrize("name, seen, target", [
    ("African_elephant", "African elephant", "koala"), ("schooner", "schooner", "castle"),
])  # fmt: skip
def test_a_photo_is_taken_for_another_class(name, seen, target):
    model = real.squeezenet()
    images = photo(model, name)
    result = pellucid.targeted(model, images, target=target)
    assert model.label(int(result.before)).startswith(seen) and result.success.item()
    # No pixel has moved by more than a person would see, and the file format keeps the trick.
    assert result.distance("linf") < 0.06 and result.distance("l2") < 1
    surer = pellucid.pgd(model, images, target=target, eps=2 / 255, steps=20)
    assert surer.success.item() and surer.confidence_after > 0.9
    assert pellucid.run(model, (surer.images * 255).round() / 255).output.argmax(1) == surer.targets


def test_some_images_transfer_from_one_network_to_another():
    models = [real.squeezenet(), mobilenet()]
    files = sorted(real.path("photos/imagenet").iterdir())[:12]
    known = {line.split(" ", 1)[0]: i for i, line in enumerate(_synsets())}
    labels = torch.tensor([known[f.name.split("_")[0]] for f in files])
    images = models[1].read(files)
    # SqueezeNet takes 227 pixels, so that images are scaled on the way, as a photo of a screen would be.
    result = pellucid.transfer(models, images, labels, method="pgd", eps=16 / 255, steps=5)
    assert all(attack.accuracy >= 0.5 for attack in result.attacks)
    assert (result.rates.diag() > 0.8).all()
    assert (result.rates < result.rates.diag()[:, None] + 1e-9).all() and (result.rates > 0).all()


def _synsets():
    return real.path("imagenet_synset_words.txt").read_text().splitlines()


def test_an_undefended_network_falls(digits):
    model = real.mnist_cnn()
    for attack, most in [(pellucid.fgsm, 0.35), (pellucid.pgd, 0.02), (pellucid.apgd, 0.02)]:
        assert attack(model, *digits, eps=0.3).robust_accuracy <= most
    result = pellucid.auto_attack(model, *digits, eps=0.3)
    assert result.robust_accuracy == 0 and result.call.backward < 10 * len(digits[0])


def test_a_saturated_sigmoid_is_told_and_does_not_help(digits):
    """Its outputs are 1 to the last bit, and their gradients are zero."""
    with pytest.warns(UserWarning, match="values of a sigmoid"), pytest.warns(UserWarning, match="exactly zero for"):
        result = pellucid.pgd(real.mnist_cnn(sigmoid=True), *digits, eps=0.3)
    assert result.robust_accuracy > 0.5
    assert pellucid.pgd(real.mnist_cnn(), *digits, eps=0.3).robust_accuracy < 0.02


def test_black_pixels_move(digits):
    images, labels = digits
    result = pellucid.carlini_wagner(real.mnist_cnn(), images[:4], labels[:4], steps=100, searches=4)
    black = images[:4] == 0
    assert result.success.all() and ((result.images[:4] - images[:4])[black] != 0).double().mean() > 0.2


def test_least_changes_agree(digits):
    model, few = real.mnist_cnn(), (digits[0][:6], digits[1][:6])
    far = {
        "deepfool": pellucid.deepfool(model, *few).distance("l2"),
        "fab": pellucid.fab(model, *few, norm="l2", steps=30).distance("l2"),
        "carlini_wagner": pellucid.carlini_wagner(model, *few, steps=150).distance("l2"),
        "hop_skip_jump": pellucid.hop_skip_jump(model, *few, steps=15).distance("l2"),
    }
    best = torch.stack(list(far.values())).amin(0)
    assert (far["fab"] <= 1.15 * best).all() and (far["carlini_wagner"] <= 1.25 * best).all()
    assert (far["deepfool"] <= 2 * best).all() and (far["hop_skip_jump"] <= 2.5 * best).all()
