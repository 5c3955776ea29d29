"""Infidelity, completeness and sensitivity on models where they are known."""

import pytest
import torch
from torch import nn

import pellucid
from pellucid.methods.result import Attribution
from pellucid.metrics import completeness, infidelity, sensitivity_max

from ..nets import small_model, some_images


def linear(seed=0):
    """A linear model of 1 x 6 x 6 images, its weights and images."""
    random = torch.Generator().manual_seed(seed)
    weights = torch.randn(2, 36, generator=random, dtype=torch.float64)
    net = nn.Sequential(nn.Flatten(), nn.Linear(36, 2)).double().eval()
    with torch.no_grad():
        net[1].weight.copy_(weights)
    images = torch.rand(3, 1, 6, 6, generator=random, dtype=torch.float64)
    return net, weights[1].view(1, 1, 6, 6), images


def test_a_linear_model_is_explained_without_error():
    net, weights, images = linear()
    black = torch.zeros(1)
    shares = pellucid.gradient_x_input(net, images, 1, baseline=black)
    torch.testing.assert_close(shares.values, weights * images)
    for how in ("square", "noise"):
        error = infidelity(net, images, shares, 1, fill=black, perturbation=how, samples=20)
        assert error.max() < 1e-20
    gray = torch.full((1,), 0.5)
    moved = weights * (images - gray[0])
    assert infidelity(net, images, moved, 1, fill=gray, samples=20).max() < 1e-20
    assert infidelity(net, images, shares, 1, fill=gray, samples=20).min() > 1e-3  # over another baseline
    slopes = weights.expand_as(images)
    assert infidelity(net, images, slopes, 1, reference="slopes", perturbation="noise", samples=20).max() < 1e-20


def test_infidelity_by_hand():
    net, weights, images = linear()
    wrong = 2 * weights * images  # says twice what happens
    error = infidelity(net, images, wrong, 1, fill=torch.zeros(1), size=6, samples=3)  # the square is all of the image
    effect = (weights * images).flatten(1).sum(1)
    torch.testing.assert_close(error, effect.square().float())
    relative = infidelity(net, images, wrong, 1, fill=torch.zeros(1), size=6, samples=3, relative=True)
    torch.testing.assert_close(relative, torch.ones(3))
    assert infidelity(net, images, wrong, 1, fill=torch.zeros(1), scaled=True).max() < 1e-12


def test_scaled_and_relative_is_what_is_missed():
    model, images = small_model(), some_images()
    options = {"scaled": True, "relative": True, "samples": 30}
    for name in ("gradient_x_input", "occlusion"):
        found = pellucid.CATALOGUE[name].function(model, images, 0)
        share = infidelity(model, images, found, 0, **options)
        torch.testing.assert_close(share, infidelity(model, images, -7 * found.values, 0, **options))
        assert ((share >= 0) & (share <= 1)).all()
    nothing = infidelity(model, images, torch.zeros_like(images), 0, **options)
    torch.testing.assert_close(nothing, torch.ones(3))


def test_a_change_of_ones_own_and_0_over_0():
    net, weights, images = linear()
    images[:, :, 0, 0] = 0

    def first_row(x, generator):
        change = torch.zeros_like(x)
        change[:, :, 0] = x[:, :, 0]
        return change

    error = infidelity(net, images, weights * images, 1, fill=torch.zeros(1), perturbation=first_row, samples=2)
    assert error.max() < 1e-20
    with pytest.raises(ValueError, match="something else than a tensor"):
        infidelity(net, images, weights * images, 1, fill=torch.zeros(1), perturbation=lambda x, g: x[:1])


@pytest.mark.parametrize("setting", [{"batch_size": 1}, {"batch_size": 5}, {"memory": 20_000}])
def test_the_batch_size_does_not_matter(setting):
    model, images = small_model(), some_images()
    found = pellucid.gradient_x_input(model, images, 0)
    for how in ("square", "noise"):
        expected = infidelity(model, images, found, 0, samples=6, perturbation=how)
        with pellucid.settings(**setting):
            torch.testing.assert_close(infidelity(model, images, found, 0, samples=6, perturbation=how), expected)
        alone = infidelity(model, images[1:2], found.values[1:2], 0, samples=6, perturbation=how)
        torch.testing.assert_close(alone, expected[1:2])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"of": "share"}, "expected 'shares' or 'slopes'"),
        ({"perturbation": "sqare"}, "expected 'square', 'noise' or a function"),
        ({"samples": 0}, "samples is 0"),
        ({"size": 13}, "size is 13, expected a side in pixels, 1 to 12"),
        ({"std": 0}, "std is 0"),
    ],
)
def test_refused(options, said):
    with pytest.raises(ValueError, match=said):
        infidelity(small_model(), some_images(1), torch.rand(1, 3, 12, 12), 0, **options)


def test_noise_needs_shares_for_each_channel():
    with pytest.raises(ValueError, match="take perturbation='square'"):
        infidelity(small_model(), some_images(1), torch.rand(1, 1, 12, 12), 0, perturbation="noise")


def test_completeness():
    net, weights, images = linear()
    bias = net[1].bias[1].item()
    torch.testing.assert_close(completeness(net, images, weights * images, 1), torch.full((3,), -bias))
    gap = completeness(net, images, weights * images, 1, baseline=torch.zeros(1))
    torch.testing.assert_close(gap, torch.zeros(3), atol=1e-6, rtol=0)
    model, photos = small_model(), some_images()
    found = pellucid.integrated_gradients(model, photos, 1, steps=30, convergence_delta=True)
    torch.testing.assert_close(completeness(model, photos, found, 1, baseline="mean"), found.convergence_delta.float())
    found = pellucid.lrp(model, photos, 1)
    torch.testing.assert_close(completeness(model, photos, found, 1), found.convergence_delta.float())


def test_sensitivity_of_methods_that_are_known():
    net, weights, images = linear()
    assert sensitivity_max(net, images, "saliency", 1).max() == 0  # the slope is the same everywhere
    steady = sensitivity_max(net, images, lambda model, x, objective: torch.ones_like(x), 1)
    assert steady.max() == 0
    black = torch.zeros(1)
    share = sensitivity_max(net, images, "gradient_x_input", 1, radius=0.01, samples=5, baseline=black)
    bound = 0.01 * weights.norm() / (weights * images).flatten(1).norm(dim=1)
    assert (share > 0).all() and (share <= bound + 1e-6).all()
    wider = sensitivity_max(net, images, "gradient_x_input", 1, radius=0.02, samples=5, baseline=black)
    torch.testing.assert_close(wider, 2 * share)
    more = sensitivity_max(net, images, "gradient_x_input", 1, radius=0.01, samples=9, baseline=black)
    assert (more >= share).all()


def test_sensitivity_keeps_the_predicted_class_and_the_range():
    model = small_model()
    images = some_images().round()  # at the ends of the range, where half of the neighbors lie outside
    seen = []

    def method(model, x, objective):
        seen.append((x, str(objective)))
        return Attribution(x)

    sensitivity_max(model, images, method, samples=3, radius=0.1)
    classes = model(images).argmax(1).tolist()
    assert len(seen) == 4 and all(said == f"logit({classes})" for _, said in seen)
    for x, _ in seen[1:]:
        assert 0 <= x.min() and x.max() <= 1 and 0 < (x - images).abs().max() <= 0.1 + 1e-12


@pytest.mark.parametrize("options", [{"radius": 0}, {"samples": 0}, {"radius": float("nan")}])
def test_sensitivity_refuses(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        sensitivity_max(small_model(), some_images(1), "saliency", **options)


def test_unknown_methods_are_told():
    with pytest.raises(KeyError, match="near it: saliency"):
        sensitivity_max(small_model(), some_images(1), "salency")
