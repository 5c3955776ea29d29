"""torchcam computes the same class activation maps."""

from __future__ import annotations

import pytest

pytest.importorskip("torchcam")

import torch
import torchcam.methods as peers
from torch import nn
from torch.func import grad, vmap

import pellucid
from pellucid.attribution.ingredients.layer_maps import spatial

from .networks import OBJECTIVES, SIZES, agree, classes, for_peer, magnified, network, pictures

PEERS = {
    "grad_cam": (peers.GradCAM, {}),
    "xgrad_cam": (peers.XGradCAM, {"eps": 0.0}),
    "layer_cam": (peers.LayerCAM, {}),
}
LAYERS = [
    ("small", "relu1"),
    ("small", "conv2"),
    ("small", "relu2"),
    ("resnet18", "layer4"),
    ("resnet18", "layer2.0"),
    ("resnet18", "conv1"),
    ("vit", "encoder.layers.encoder_layer_3.ln_1"),
]

objectives = pytest.mark.parametrize("objective", OBJECTIVES)


@pytest.mark.parametrize("name, layer", LAYERS)
@objectives
@pytest.mark.parametrize("method", PEERS)
def test_gradient_methods(name, layer, objective, method):
    net, peer, images = network(name), for_peer(network(name)), pictures(name)
    target, squash = OBJECTIVES[objective]
    extractor, options = PEERS[method]
    reshape = (lambda tokens: spatial(tokens, images, layer, None)) if name == "vit" else None
    found, expected = [], []
    for sign in (1, -1):  # of a map and that of minus the objective, one has a positive part
        found.append(getattr(pellucid, method)(net, images, sign * target(classes()), layer=layer).maps)
        with extractor(peer, layer, reshape_transform=reshape) as cam:
            scores = squash(peer(images.clone().requires_grad_()))
            expected += cam(classes(), sign * scores, normalized=False, **options)
    agree(torch.cat(found, 1), torch.stack(expected, 1), 1e-12)


def test_grad_cam_plus_plus():
    """Equation 10 of the paper, with Y = exp(S) and its derivatives taken one by one.

    torchcam 0.5 differs. Its denominator has sum_ab A_ab g_ab^3 where the paper has g_ij^3 sum_ab A_ab, and is
    then divided by in place in a copy, `alpha[idx][mask].div_(...)`, so that it has no effect: w is sum g^2 relu(g).
    """
    net, images = network("small"), pictures("small")
    found = pellucid.grad_cam_plus_plus(net, images, classes(), layer="relu2").maps
    activations = pellucid.run(net, images, read=["relu2"]).activations["relu2"].detach()

    def expected(activation, index):
        units = torch.eye(activation.numel()).double().view(-1, *activation.shape)

        def moved(step, unit):
            return net[6:]((activation + step * unit)[None])[0, index].exp()

        one, two, three = (
            vmap(derivative, (None, 0))(torch.zeros(()).double(), units).view(activation.shape)
            for derivative in (grad(moved), grad(grad(moved)), grad(grad(grad(moved))))
        )
        shares = two / (2 * two + activation.sum((1, 2), keepdim=True) * three)
        weights = (shares * one.relu()).sum((1, 2))
        # Ours takes the gradient of S in place of that of exp(S): the same but for a factor.
        return torch.einsum("k,khw->hw", weights, activation).relu()[None] / moved(0, units[0])

    with torch.no_grad():
        agree(found, torch.stack([expected(one, index) for one, index in zip(activations, classes(), strict=True)]))


@pytest.mark.parametrize("name, layer, head", [("small", "relu2", "fc"), ("resnet18", "layer4", "fc")])
def test_cam(name, layer, head):
    """Of sums of logits too, which torchcam does not know: its maps add up."""
    net, peer, images = network(name), for_peer(network(name)), pictures(name)
    found = pellucid.cam(net, images, classes(), layer=layer).maps
    contrast = pellucid.cam(net, images, pellucid.contrast(classes(), 0), layer=layer).maps
    with peers.CAM(peer, layer, head) as cam, torch.no_grad():
        peer(images)
        (expected,), (other,) = cam(classes(), normalized=False), cam(0, normalized=False)
    agree(found, expected[:, None], 1e-12)
    agree(contrast, (expected - other)[:, None], 1e-12)


@pytest.mark.parametrize("layer", ["relu1", "pool1"])
@objectives
def test_score_cam(layer, objective):
    """Enlarged by 1 and by 3, where it does not matter whether masks are scaled to [0, 1] before (they) or after.

    Magnified, so that their epsilon of 1e-8 does not count.
    """
    net, images = magnified(2.0**30), pictures("small")
    net.pool1 = nn.MaxPool2d(3).eval()
    peer = for_peer(net)
    target, squash = OBJECTIVES[objective]
    black = torch.zeros(3, dtype=torch.float64)
    found = pellucid.score_cam(net, images, target(classes()), layer=layer, baseline=black)
    assert SIZES["small"][0] // found.maps.shape[2] in (1, 3)
    with peers.ScoreCAM(peer, layer, batch_size=3) as cam, torch.no_grad():
        scores = peer(images)
        targets = [lambda output, index=index: squash(output)[index] for index in classes()]
        (expected,) = cam(None, scores, normalized=False, targets=targets)
    agree(found.maps, expected[:, None], 1e-12)
