"""pytorch-grad-cam computes the same class activation maps, at the layers that it recommends."""

from __future__ import annotations

from functools import partial
from unittest import mock

import pytest

pytest.importorskip("pytorch_grad_cam")

import pytorch_grad_cam as peers
import timm
import torch
import torchvision
from pytorch_grad_cam.utils.model_targets import ClassifierOutputSoftmaxTarget, ClassifierOutputTarget
from pytorch_grad_cam.utils.reshape_transforms import vit_reshape_transform
from torch import nn

import pellucid

from .networks import OBJECTIVES, SIZES, agree, classes, for_peer, in_double, magnified, network, pictures, scattered

TARGETS = {"logit": ClassifierOutputTarget, "probability": ClassifierOutputSoftmaxTarget}
PEERS = {
    "grad_cam": peers.GradCAM,
    "grad_cam_plus_plus": peers.GradCAMPlusPlus,
    "xgrad_cam": peers.XGradCAM,
    "hires_cam": peers.HiResCAM,
    "layer_cam": peers.LayerCAM,
    "eigen_cam": peers.EigenCAM,
    "ablation_cam": peers.AblationCAM,
    "score_cam": peers.ScoreCAM,
}
GRADIENTS = ("grad_cam", "grad_cam_plus_plus", "xgrad_cam", "hires_cam", "layer_cam")
LINEAR = ("grad_cam", "xgrad_cam", "hires_cam")
"""Of minus the objective, these give minus the map before its positive part is taken."""
SCALES = {"grad_cam_plus_plus": 2.0**30, "xgrad_cam": 2.0**-30}
"""Their denominators have an epsilon of 1e-6 and 1e-7. With gradients magnified and activations diminished (or the
reverse) the formula gives the same map, and the epsilon no longer counts."""
LAYERS = [
    ("small", "relu1"),
    ("small", "conv2"),
    ("small", "relu2"),
    ("resnet18", "layer4"),
    ("resnet18", "layer2.0"),
    ("resnet18", "conv1"),
]
BLACK = torch.zeros(3, dtype=torch.float64)

objectives = pytest.mark.parametrize("objective", OBJECTIVES)
gradients = pytest.mark.parametrize("method", GRADIENTS)


def explain(method, net, images, objective, layer, reshape=None):
    """Their maps, N x 1 x h x w, before the positive part is taken.

    And what they return, N x H x W in [0, 1], for methods that use gradients.
    """
    peer = for_peer(net)
    targets = [TARGETS[objective](index) for index in classes(len(images))]
    module = peer.get_submodule(layer)
    images = images.clone().requires_grad_(method in GRADIENTS)
    with PEERS[method](peer, [module], reshape_transform=reshape) as cam:
        kept = cam.activations_and_grads
        shown = torch.from_numpy(cam(images, targets)) if method in GRADIENTS else kept(images)
        scale = SCALES.get(method, 1)
        activations = kept.activations[0].numpy() / scale
        slopes = kept.gradients[0].numpy() * scale if kept.gradients else None
        with in_double():  # the weights of Ablation-CAM and Score-CAM and the maps of Eigen-CAM are float32
            maps = cam.get_cam_image(images, module, targets, activations, slopes, False)
    return torch.from_numpy(maps)[:, None], shown


def compare(method, net, images, objective, layer=None, peer_layer=None, reshape=None, **options):
    target = OBJECTIVES[objective][0](classes(len(images)))
    found = getattr(pellucid, method)(net, images, target, layer=layer, **options)
    expected, shown = explain(method, net, images, objective, layer or peer_layer, reshape)
    if method == "ablation_cam":  # they divide by the objective, pellucid by its magnitude
        values = target.bind(net, len(images))(pellucid.run(net, images)).detach()
        expected = expected * values.sign()[:, None, None, None]
    if method in LINEAR:
        rest = getattr(pellucid, method)(net, images, -target, layer=layer)
        agree(found.maps - rest.maps, expected)
    else:
        agree(found.maps, expected.relu())
    if method in GRADIENTS and method != "grad_cam_plus_plus":  # where their epsilon counts, see above
        # The rest is done in float32: the map is stretched to [0, 1], enlarged, and stretched again.
        low, high = found.values.amin((2, 3), keepdim=True), found.values.amax((2, 3), keepdim=True)
        ours = (found.values - low) / torch.where(high > low, high - low, 1)
        torch.testing.assert_close(ours[:, 0].float(), shown, rtol=0, atol=2e-5)


@pytest.mark.parametrize("name, layer", LAYERS)
@objectives
@gradients
def test_gradient_methods(name, layer, objective, method):
    compare(method, network(name), pictures(name), objective, layer)


TOKENS = [("vit", "encoder.layers.encoder_layer_3.ln_1"), ("vit_b_16", "encoder.layers.encoder_layer_11.ln_1")]


@pytest.mark.parametrize("name, layer", TOKENS)
@objectives
@gradients
def test_token_grids(name, layer, objective, method):
    """The layer and how its tokens lie over the image are found by pellucid and told to the peer."""
    compare(method, network(name), pictures(name), objective, None, layer, reshape(name))


def reshape(name):
    """How the tokens of a vision transformer lie over the image, as the peer has to be told."""
    height, width = (size // 16 for size in SIZES[name])
    return partial(vit_reshape_transform, height=height, width=width) if name.startswith("vit") else None


@pytest.mark.parametrize("name, layer", LAYERS + TOKENS)
def test_eigen_cam(name, layer):
    """Their sign is the one that the decomposition happens to give, ours goes along with the mean activation.

    Both subtract the mean over places; the paper does not.
    """
    net, images = network(name), pictures(name)
    found = pellucid.eigen_cam(net, images, layer=layer).maps
    expected, _ = explain("eigen_cam", net, images, "logit", layer, reshape(name))
    activations = pellucid.run(net, images, read=[layer]).activations[layer].detach()
    if name.startswith("vit"):
        activations = reshape(name)(activations)
    mean = activations.mean(1, keepdim=True)
    along = (expected * (mean - mean.mean((2, 3), keepdim=True))).sum((1, 2, 3), keepdim=True)
    agree(found, (expected * along.sign()).relu())


@pytest.mark.parametrize(
    "name, layer, objective",
    [
        ("small", "relu1", "logit"),
        ("small", "relu2", "logit"),
        ("small", "relu2", "probability"),
        ("resnet18", "layer1", "logit"),
        ("resnet18", "layer1", "probability"),
    ],
)
def test_ablation_cam(name, layer, objective):
    """Behind a ReLU only: elsewhere they ablate with 10^7 below the smallest activation in place of the paper's 0."""
    compare("ablation_cam", network(name), pictures(name), objective, layer)


@objectives
def test_score_cam(objective):
    """At the resolution of the image, where no way of enlarging matters; magnified, for their epsilon of 1e-8."""
    net, images = magnified(2.0**30), pictures("small")
    compare("score_cam", net, images, objective, "relu1", baseline=BLACK)


@pytest.mark.parametrize("name, layer", [("small", "relu2"), ("resnet18", "layer1")])
def test_score_cam_enlarged(name, layer):
    """Masks are enlarged, then scaled to [0, 1], as in the paper: s(Up(A)).

    They enlarge with the corners aligned; the authors' code does not, and nor do we.
    """
    unaligned = partial(nn.Upsample, mode="bilinear", align_corners=False)
    images = pictures(name, 1)
    found = pellucid.score_cam(network(name), images, classes(1), layer=layer, baseline=BLACK).maps
    with mock.patch.object(nn, "UpsamplingBilinear2d", unaligned):
        expected = explain("score_cam", network(name), images, "logit", layer)[0]
    agree(found, expected, 1e-7)  # their epsilon of 1e-8


# A network with random weights, and the layer that pytorch-grad-cam's README recommends for it or its like.
RECOMMENDED = [
    ("resnet18", "layer4.1"),
    ("vgg11", "features.20"),
    ("densenet121", "features.norm5"),
    ("mobilenet_v2", "features.18"),
    ("mnasnet1_0", "layers.16"),
    ("efficientnet_b0", "features.8"),
    ("convnext_tiny", "features.7"),
    ("timm/vit_tiny_patch16_224", "blocks.11.norm1"),
    ("timm/deit_tiny_patch16_224", "blocks.11.norm1"),
    ("timm/deit_tiny_distilled_patch16_224", "blocks.11.norm1"),
    ("timm/regnetx_002", "s4"),
    # For Swin the README has the first norm of the last block; all patches count to the end, and so we go on to it.
    ("swin_t", "norm"),
    ("timm/swin_tiny_patch4_window7_224", "norm"),
    ("timm/convit_tiny", "blocks.11.norm1"),
    ("timm/tnt_s_patch16_224", "blocks.11.norm_out"),
]


@pytest.mark.parametrize("name, recommended", RECOMMENDED)
def test_default_layers(name, recommended):
    """The layer that pellucid takes by itself is the recommended one, or one with the same values."""
    torch.manual_seed(0)
    made = timm.create_model(name[5:]) if name.startswith("timm/") else getattr(torchvision.models, name)()
    net = scattered(made)
    image = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    # Eigen-CAM depends on the layer alone.
    assert torch.equal(pellucid.eigen_cam(net, image).maps, pellucid.eigen_cam(net, image, layer=recommended).maps)
