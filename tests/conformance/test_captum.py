"""Captum computes the same numbers: gradients, their integrals, occlusion, noise and Grad-CAM."""

from __future__ import annotations

from unittest import mock

import pytest

pytest.importorskip("captum")

import captum.attr
import numpy as np
import torch
from torch import nn

import pellucid
from pellucid.attribution.ingredients.noise import normal_noise

from .networks import CLASSES, OBJECTIVES, QUICK, SIZES, agree, classes, for_peer, in_double, network, pictures

networks = pytest.mark.parametrize("name", QUICK)
objectives = pytest.mark.parametrize("objective", OBJECTIVES)
rules = pytest.mark.parametrize("rule, method", [("midpoint", "riemann_middle"), ("gauss_legendre", "gausslegendre")])


def both(name, objective, count=2):
    """The network and objective for pellucid, and the function that Captum explains."""
    ours, squash = OBJECTIVES[objective]
    peer = for_peer(network(name))
    return network(name), ours(classes(count)), lambda x: squash(peer(x))


def baseline(name, kind, count=2):
    """A baseline as a tensor: zeros, one color, or an image for each image."""
    if kind == "zeros":
        return torch.zeros(count, 3, *SIZES[name], dtype=torch.float64)
    if kind == "color":
        return torch.tensor([0.3, -0.2, 0.1], dtype=torch.float64)[:, None, None].expand(count, 3, *SIZES[name])
    return pictures(name, count).flip(0, 3) * 0.5


@pytest.mark.parametrize("name", SIZES)
@objectives
@pytest.mark.parametrize("sign", ["absolute", "keep"])
def test_saliency(name, objective, sign):
    net, target, function = both(name, objective)
    images = pictures(name)
    found = pellucid.saliency(net, images, target, sign=sign, channels="all").values
    peer = captum.attr.Saliency(function)
    agree(found, peer.attribute(images.clone().requires_grad_(), classes(), abs=sign == "absolute"), 1e-12)


@networks
@objectives
@pytest.mark.parametrize("kind", ["zeros", "images"])
def test_gradient_x_input(name, objective, kind):
    net, target, function = both(name, objective)
    images, start = pictures(name), baseline(name, kind)
    found = pellucid.gradient_x_input(net, images, target, baseline=start).values
    # Captum knows no baseline but zero: let zero be where ours is.
    peer = captum.attr.InputXGradient(lambda x: function(x + start))
    agree(found, peer.attribute((images - start).requires_grad_(), classes()))


PATHS = [
    ("small", "zeros", 50),
    ("small", "color", 7),
    ("small", "images", 2),
    ("resnet18", "images", 5),
    ("vit", "color", 3),
]


@pytest.mark.parametrize("name, kind, steps", PATHS)
@objectives
@rules
def test_integrated_gradients(name, kind, steps, objective, rule, method):
    net, target, function = both(name, objective)
    images, start = pictures(name), baseline(name, kind)
    found = pellucid.integrated_gradients(
        net, images, target, baseline=start, steps=steps, quadrature=rule, convergence_delta=True
    )
    peer = captum.attr.IntegratedGradients(function)
    with in_double():  # Captum's places and weights of the midpoints and weights of Gauss-Legendre are float32
        values, delta = peer.attribute(
            images, start, classes(), n_steps=steps, method=method, return_convergence_delta=True
        )
    agree(found.values, values)
    agree(found.convergence_delta[:, None], delta[:, None])


@rules
@pytest.mark.parametrize("word, value", [("black", 0), ("white", 1)])
def test_integrated_gradients_of_pixels(rule, method, word, value):
    model, other = (
        pellucid.wrap(net, mean=[0.4, 0.5, 0.6], std=[0.2, 0.25, 0.3])
        for net in (network("small"), for_peer(network("small")))
    )
    images = pictures("small").sigmoid()
    found = pellucid.integrated_gradients(
        model, images, 1, baseline=word, steps=31, quadrature=rule, convergence_delta=True
    )
    peer = captum.attr.IntegratedGradients(other)
    with in_double():
        values, delta = peer.attribute(images, value, 1, n_steps=31, method=method, return_convergence_delta=True)
    agree(found.values, values)
    agree(found.convergence_delta[:, None], delta[:, None])


WINDOWS = [
    ("small", 3, 3, "zeros"),
    ("small", 4, 3, "color"),
    ("small", 5, 2, "images"),
    ("small", 1, 1, "images"),
    ("small", (12, 15), 1, "zeros"),
    ("small", (2, 5), (1, 4), "zeros"),
    ("small", (7, 3), (5, 2), "images"),
    ("resnet18", (24, 32), (17, 32), "images"),
    ("vit", 16, 16, "zeros"),
    ("vit", (30, 40), (25, 11), "images"),
]


@pytest.mark.parametrize("name, window, stride, kind", WINDOWS)
@objectives
def test_occlusion(name, window, stride, kind, objective):
    net, target, function = both(name, objective)
    images, fill = pictures(name), baseline(name, kind)
    found = pellucid.occlusion(net, images, target, window=window, stride=stride, fill=fill).values
    pairs = [(size, size) if isinstance(size, int) else size for size in (window, stride)]
    with torch.no_grad(), in_double():  # Captum's means over windows are float32
        expected = captum.attr.Occlusion(function).attribute(
            images, (3, *pairs[0]), (3, *pairs[1]), fill, classes(), perturbations_per_eval=8
        )
    assert torch.equal(expected[:, 0], expected[:, 2])
    agree(found, expected[:, :1])


@networks
@pytest.mark.parametrize(
    "form, nt_type", [("mean", "smoothgrad"), ("squared", "smoothgrad_sq"), ("variance", "vargrad")]
)
def test_smoothgrad(name, form, nt_type):
    """Captum's noise tunnel, given our noise."""
    net, _, function = both(name, "logit")
    images = pictures(name)
    found = pellucid.smoothgrad(net, images, classes(), samples=5, noise=0.1, form=form, seed=4).values
    draws = normal_noise(images, 4)(torch.arange(5))
    for row, image in enumerate(images):
        spread = 0.1 * float(image.max() - image.min())
        peer = captum.attr.NoiseTunnel(captum.attr.Saliency(function))
        with mock.patch.object(torch, "normal", lambda _mean, std: std * draws), in_double():
            expected = peer.attribute(
                image[None], nt_type=nt_type, nt_samples=5, stdevs=spread, target=classes()[row], abs=False
            )
        agree(found[row : row + 1], expected)


@pytest.mark.parametrize("name", ["small", "resnet18"])
@objectives
def test_expected_gradients(name, objective):
    """Captum's GradientShap, given the baselines and places that our passes are seen to visit."""
    net, target, function = both(name, objective, 1)
    image, background = pictures(name, 1), pictures(name, 4)[1:]
    seen = []

    class Watched(nn.Module):
        def forward(self, x):
            seen.append(x.detach())
            return net(x)

    found = pellucid.expected_gradients(Watched().eval(), image, target, background=background, samples=6).values
    visited = torch.cat(seen)[-6:]
    starts = background[torch.arange(6) % 3]
    ways = image - starts
    places = ((visited - starts) * ways).sum((1, 2, 3)) / ways.square().sum((1, 2, 3))
    assert torch.equal((places * 6).floor().sort().values, torch.arange(6.0).double())
    with (
        mock.patch.object(np.random, "choice", lambda *_, **__: np.arange(6) % 3),
        mock.patch.object(np.random, "uniform", lambda *_, **__: places.numpy()),
        in_double(),
    ):
        expected = captum.attr.GradientShap(function).attribute(image, background, 6, 0.0, classes(1))
    agree(found, expected)


@pytest.mark.parametrize("name, layer", [("small", "relu1"), ("small", "conv2"), ("small", "relu2"),
                                         ("resnet18", "layer4"), ("resnet18", "layer2.0")])  # fmt: skip
@objectives
def test_grad_cam(name, layer, objective):
    net, target, _ = both(name, objective)
    images, peer = pictures(name), for_peer(net)
    found, rest = (pellucid.grad_cam(net, images, sign * target, layer=layer) for sign in (1, -1))
    squash = OBJECTIVES[objective][1]
    cam = captum.attr.LayerGradCam(lambda x: squash(peer(x)), peer.get_submodule(layer))
    expected = cam.attribute(images.requires_grad_(), classes()).detach()
    agree(found.maps - rest.maps, expected, 1e-12)
    enlarged = captum.attr.LayerAttribution.interpolate(expected.relu() + (-expected).relu(), SIZES[name], "bilinear")
    agree(found.values + rest.values, enlarged, 1e-12)


def test_the_networks_are_not_trivial():
    """Nothing above is zero, saturated or the same for all."""
    for name in SIZES:
        with torch.no_grad():
            output = network(name)(pictures(name))
        assert output.shape[1] in (3, CLASSES) and output.std() > 0.1
        assert output.softmax(1).gather(1, torch.tensor(classes())[:, None]).min() > 1e-6
