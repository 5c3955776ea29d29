"""Transformations: what each does, and that attacks through them survive others of the kind."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import pellucid
from pellucid import Transformations
from pellucid.adversarial.attack.transformations import homography
from pellucid.display.gaussian import gaussian_blur

from ..nets import some_images
from .nets import small_model

NONE = {"rotation": 0.0, "scale": (1.0, 1.0), "shift": 0.0, "perspective": 0.0, "brightness": 0.0, "contrast": 0.0,
        "blur": 0.0, "noise": 0.0, "samples": 1}  # fmt: skip


def one_view(images, seed=0, low=0.0, high=1.0, **options):
    """A single view that differs in nothing but the options."""
    return next(Transformations(**{**NONE, **options}).of(images, torch.Generator().manual_seed(seed), low, high))


def dot(height=21, width=21, y=5, x=15):
    """A bright spot of 3 x 3 on black."""
    image = torch.zeros(1, 1, height, width, dtype=torch.float64)
    image[..., y - 1 : y + 2, x - 1 : x + 2] = 1
    return image


def center(image):
    """Where the light of an image lies, from its middle: x to the right, y down."""
    height, width = image.shape[2:]
    y, x = torch.meshgrid(torch.arange(height) - (height - 1) / 2, torch.arange(width) - (width - 1) / 2, indexing="ij")
    mass = image[0, 0] / image.sum()
    return float((mass * x).sum()), float((mass * y).sum())


def test_nothing_is_nothing():
    images = some_images()
    assert torch.equal(one_view(images), images)
    # By way of the places of pixels, too: a shift of next to nothing.
    torch.testing.assert_close(one_view(images, shift=1e-9), images, rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [(21, 21), (21, 31)])
def test_a_turn_keeps_distances(shape):
    image = dot(*shape)
    before, after = center(image), center(one_view(image, seed=1, rotation=40))
    assert math.hypot(*after) == pytest.approx(math.hypot(*before), rel=0.02)
    angle = math.degrees(math.atan2(after[1], after[0]) - math.atan2(before[1], before[0]))
    assert 1 < abs(angle) <= 40


def test_a_scale_scales_and_a_shift_shifts():
    image = dot(41, 41, 15, 25)
    before, after = center(image), center(one_view(image, scale=(1.5, 1.5)))
    assert after == pytest.approx((before[0] * 1.5, before[1] * 1.5), abs=0.15)
    x, y = center(one_view(image, shift=0.2))
    assert abs(x - before[0]) <= 0.2 * 41 and abs(y - before[1]) <= 0.2 * 41 and (x, y) != before


def test_a_homography_takes_corners_where_they_belong():
    moves = torch.tensor([[0.1, -0.05], [0.0, 0.2], [-0.1, -0.1], [0.05, 0.0]], dtype=torch.float64)
    corners = torch.tensor([[-1, -1], [1, -1], [1, 1], [-1, 1]], dtype=torch.float64)
    at = torch.cat([corners, torch.ones(4, 1, dtype=torch.float64)], 1) @ homography(moves).T
    torch.testing.assert_close(at[:, :2] / at[:, 2:], corners + moves)
    torch.testing.assert_close(homography(torch.zeros(4, 2)), torch.eye(3, dtype=torch.float64))


def test_blur_spreads_and_keeps_light():
    spread = gaussian_blur(dot(), 1.5)
    assert spread.sum() == pytest.approx(9.0, abs=0.02) and spread.max() < 0.7
    assert center(spread) == pytest.approx(center(dot()), abs=0.02)
    x = torch.arange(21, dtype=torch.float64) - 15
    variance = float((spread[0, 0].sum(0) / 9 * x**2).sum())
    assert variance == pytest.approx(1.5**2 + 2 / 3, rel=0.03)  # that of the spot is 2/3
    assert torch.equal(gaussian_blur(dot(), 0.0), dot())


def test_light_and_noise():
    gray = torch.full((2, 3, 30, 30), 0.5, dtype=torch.float64)
    brighter = one_view(gray, brightness=0.2)
    assert brighter.std() < 1e-12 and 0 < (brighter - gray).abs().max() <= 0.2
    noisy = one_view(gray, noise=0.05)
    assert (noisy - gray).std() == pytest.approx(0.05, rel=0.1)
    assert torch.equal(noisy[0], noisy[1])  # one draw for all images
    wide = one_view(gray * 4 - 2, noise=0.05, low=-2.0, high=2.0)
    torch.testing.assert_close(wide, noisy * 4 - 2)
    assert one_view(torch.ones(1, 1, 8, 8), noise=1.0).max() <= 1


def test_views_are_differentiable_and_repeatable():
    images = some_images().requires_grad_()
    views = Transformations(samples=3)
    seen = list(views.of(images, torch.Generator().manual_seed(4)))
    (slope,) = torch.autograd.grad(sum(one.sum() for one in seen), images)
    assert slope.isfinite().all() and slope.any() and len(seen) == 3 and not torch.equal(seen[0], seen[1])
    again = list(views.of(images, torch.Generator().manual_seed(4)))
    assert all(torch.equal(a, b) for a, b in zip(seen, again, strict=True))


@pytest.mark.parametrize("options, words", [
    ({"rotation": -1}, "rotation is -1, expected 0 or more"),
    ({"noise": math.nan}, "noise is nan"),
    ({"scale": (1.2, 0.8)}, "the smaller first"),
    ({"perspective": 0.5}, "corners meet"),
    ({"samples": 0}, "samples is 0"),
])  # fmt: skip
def test_views_that_make_no_sense(options, words):
    with pytest.raises(ValueError, match=words):
        Transformations(**options)


def test_the_gradient_is_the_mean_over_views():
    """FGSM through views of noise alone: the gradient of a linear network is the same in all of them."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 2)).double().eval()
    images = torch.full((1, 1, 4, 4), 0.5, dtype=torch.float64)
    plain = pellucid.fgsm(net, images, eps=0.1)
    through = pellucid.fgsm(
        net, images, eps=0.1, transformations=Transformations(**{**NONE, "noise": 0.01, "samples": 5})
    )
    torch.testing.assert_close(plain.images, through.images)
    # The prediction, five views forth and back, the look, and 50 fresh views.
    assert (through.call.forward, through.call.backward) == (1 + 1 + 5 + 1 + 50, 5)
    assert through.queries.item() == 6


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fgsm", "pgd", "apgd", "targeted"])
def test_attacks_through_views_keep_their_promises(name):
    model, images = small_model(), some_images(4)
    views = Transformations(rotation=5, scale=(1.0, 1.0), blur=0.3, samples=2)
    target = (pellucid.run(model, images).output.argmax(1) + 1) % 3
    options = {"target": target} if name == "targeted" else {"eps": 0.1, "norm": "l2"}
    options |= {} if name == "fgsm" else {"steps": 5}
    attack = pellucid.CATALOGUE[name].function
    result = attack(model, images, transformations=views, **options)
    assert torch.equal(result.images, attack(model, images, transformations=views, **options).images)
    assert not torch.equal(result.images, attack(model, images, transformations=views, **options, seed=1).images)
    part = options | ({"target": target[2:3]} if name == "targeted" else {})
    alone = attack(model, images[2:3], transformations=views, **part)
    torch.testing.assert_close(alone.images, result.images[2:3], rtol=1e-7, atol=1e-9)
    assert result.through.shape == (4,) and ((result.through >= 0) & (result.through <= 1)).all()
    assert "transformations=Transformations(rotation=5" in str(result.call)
    if name != "targeted":
        assert (result.distance("l2") <= 0.1).all()


@pytest.mark.slow
def test_what_is_found_through_views_survives_others():
    model, scenes = pellucid.load("shapes"), pellucid.shapes.scenes(5)
    views, options = Transformations(samples=2), {"eps": 12 / 255, "steps": 8}
    shares = []
    for through in (None, views):
        result = pellucid.pgd(model, scenes.images, scenes.labels, **options, transformations=through)
        seen = pellucid.predict_under_transforms(model, result.images, views, count=20, seed=5)
        assert seen.shape == (5, 20)
        shares.append(float((seen != scenes.labels[:, None]).double().mean()))
        assert (result.through is None) == (through is None)
    assert shares[1] > shares[0] + 0.05, shares
    assert float(result.through.mean()) == pytest.approx(shares[1], abs=0.15)
    untouched = pellucid.predict_under_transforms(model, scenes.images, views, count=20, seed=5)
    assert float((untouched == scenes.labels[:, None]).double().mean()) > 0.8


def test_views_are_kept_in_the_folder(tmp_path):
    model, images = small_model(), some_images()
    options = {"eps": 0.05, "steps": 2, "folder": tmp_path / "run"}
    first = pellucid.pgd(model, images, **options, transformations=Transformations(samples=1))
    again = pellucid.pgd(model, images, **options, transformations=Transformations(samples=1))
    assert torch.equal(first.through, again.through) and torch.equal(first.images, again.images)
    with pytest.raises(pellucid.runfolder.OtherRun, match="samples"):
        pellucid.pgd(model, images, **options, transformations=Transformations(samples=2))
