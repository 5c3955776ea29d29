"""zennit computes the same relevance, with its composites on networks that are rewritten for it."""

from __future__ import annotations

import types
from functools import cache

import pytest

pytest.importorskip("zennit")

import torch
import torchvision
import zennit.composites as peer
from torch import Tensor, nn
from torch.nn import functional as F
from zennit.attribution import Gradient
from zennit.canonizers import NamedMergeBatchNorm, SequentialMergeBatchNorm
from zennit.core import Composite
from zennit.layer import Sum
from zennit.rules import Epsilon, Gamma, Norm, Pass, ReLUDeconvNet, ReLUGuidedBackprop, WSquare
from zennit.torchvision import ResNetCanonizer, VGGCanonizer
from zennit.types import Activation, AvgPool, BatchNorm, Linear

import pellucid
from pellucid.rules import epsilon, gamma, norm, w_square

from .networks import agree, for_peer, scattered

CLASSES = 10
SIZES = {
    "vgg11": 64, "vgg11_bn": 64, "resnet18": 64, "resnet50": 64, "densenet121": 64, "mobilenet_v2": 64,
    "squeezenet1_0": 64, "googlenet": 64, "efficientnet_b0": 64,
}  # fmt: skip
LOW, HIGH = -6.0, 6.0

COMPOSITES = {
    "EPSILON_PLUS": (peer.EpsilonPlus, {}),
    "EPSILON_PLUS_FLAT": (peer.EpsilonPlusFlat, {}),
    "EPSILON_ALPHA2_BETA1": (peer.EpsilonAlpha2Beta1, {}),
    "EPSILON_ALPHA2_BETA1_FLAT": (peer.EpsilonAlpha2Beta1Flat, {}),
    "EPSILON_GAMMA_BOX": (peer.EpsilonGammaBox, {"low": LOW, "high": HIGH}),
    "EXCITATION_BACKPROP": (peer.ExcitationBackprop, {"layer_map": [(Activation, Pass())]}),
}
FUNCTIONS = [(Activation, Pass()), (Sum, Norm()), (AvgPool, Norm())]
SINGLE = {
    "epsilon": ({"conv": epsilon(1e-6), "linear": epsilon(1e-6)}, [(Linear, Epsilon(1e-6))]),
    "epsilon of a quarter": ({"conv": epsilon(0.25), "linear": epsilon(0.25)}, [(Linear, Epsilon(0.25))]),
    "gamma": ({"conv": gamma(0.3, 1e-6), "linear": gamma(0.1, 1e-6)},
              [(nn.Linear, Gamma(0.1, stabilizer=1e-6)), (Linear, Gamma(0.3, stabilizer=1e-6))]),
    "epsilon without bias": ({"conv": epsilon(1e-6, bias=False), "linear": epsilon(1e-6, bias=False)},
                             [(Linear, Epsilon(1e-6, zero_params="bias"))]),
}  # fmt: skip


@cache
def network(name: str) -> nn.Module:
    """A network in float64 whose batch norms have no epsilon, which zennit forgets when it merges them."""
    torch.manual_seed(0)
    more = {"init_weights": False, "aux_logits": False} if name == "googlenet" else {}
    net = getattr(torchvision.models, name)(num_classes=CLASSES, **more)
    if name.startswith("vgg"):  # its layers as they are, of fewer neurons: a hundred million weights tell no more
        net.classifier[0], net.classifier[3] = nn.Linear(512 * 7 * 7, 64), nn.Linear(64, 32)
        net.classifier[6] = nn.Linear(32, CLASSES)
    net = scattered(net).double()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_var += module.eps
            module.eps = 0.0
    return net


def pictures(name: str) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, 3, SIZES[name], SIZES[name], generator=generator, dtype=torch.float64)


class Gate(torch.autograd.Function):
    """A product whose second factor takes no relevance, for a tool whose gradients are relevance."""

    @staticmethod
    def forward(ctx, x, scale):
        ctx.scale = scale
        return x * scale

    @staticmethod
    def backward(ctx, relevance):
        return relevance, torch.zeros_like(ctx.scale)


def rewritten(name: str) -> tuple[nn.Module, list[object], set[str]]:
    """The network as zennit needs it: every sum, pool and gate a module; canonizers; norms that stand alone."""
    net = for_peer(network(name))
    alone: set[str] = set()
    if name in ("resnet18", "resnet50"):
        return net, [ResNetCanonizer()], alone
    if name in ("vgg11", "vgg11_bn"):
        return net, [VGGCanonizer()], alone
    if name == "densenet121":
        norms = {n for n, module in net.named_modules() if isinstance(module, nn.BatchNorm2d)}
        merged = [("features.conv0", "features.norm0")]
        merged += [(n.replace("norm2", "conv1"), n) for n in norms if n.endswith("norm2")]
        alone = norms - {n for _, n in merged}
        net.pool = nn.AdaptiveAvgPool2d(1)
        net.forward = lambda x: net.classifier(net.pool(F.relu(net.features(x))).flatten(1))
        return net, [NamedMergeBatchNorm([([c], n) for c, n in merged])], alone
    if name == "mobilenet_v2":
        net.pool = nn.AdaptiveAvgPool2d(1)
        net.forward = lambda x: net.classifier(net.pool(net.features(x)).flatten(1))
    for module in net.modules():
        kind = type(module).__name__
        if kind == "InvertedResidual" and module.use_res_connect:
            module.total = Sum()
            module.forward = types.MethodType(lambda self, x: self.total(torch.stack([x, self.conv(x)], -1)), module)
        elif kind == "MBConv" and module.use_res_connect:
            module.total = Sum()
            module.forward = types.MethodType(lambda self, x: self.total(torch.stack([self.block(x), x], -1)), module)
        elif kind == "SqueezeExcitation":
            module.forward = types.MethodType(lambda self, x: Gate.apply(x, self._scale(x)), module)
    return net, [SequentialMergeBatchNorm()], alone


def explained(name: str, composite: Composite, alone: set[str], net: nn.Module) -> Tensor:
    """zennit's relevance of the predicted classes."""
    inner = composite.module_map

    def mapped(ctx: dict[str, object], layer: str, module: nn.Module) -> object:
        return Epsilon(1e-6) if layer in alone else inner(ctx, layer, module)

    composite.module_map = mapped
    targets = torch.eye(CLASSES, dtype=torch.float64)[network(name)(pictures(name)).argmax(1)]
    with Gradient(model=net, composite=composite) as attributor:
        return attributor(pictures(name), lambda output: targets * output.detach())[1]


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("preset", COMPOSITES)
def test_composites(name, preset):
    make, options = COMPOSITES[preset]
    net, canonizers, alone = rewritten(name)
    expected = explained(name, make(canonizers=canonizers, **options), alone, net)
    rules = dict(getattr(pellucid.rules, preset)) | {"norm": epsilon(1e-6)}
    if "first" in rules and rules["first"].name == "z_box":
        rules["first"] = pellucid.rules.z_box(LOW, HIGH, 1e-6)
    found = pellucid.lrp(network(name), pictures(name), rules=rules).values
    agree(found, expected, 1e-9)


@pytest.mark.parametrize("name", ["vgg11_bn", "resnet18", "efficientnet_b0"])
@pytest.mark.parametrize("rule", SINGLE)
def test_rules_for_all_layers(name, rule):
    ours, theirs = SINGLE[rule]
    tolerance = 1e-7 if "without" in rule else 1e-9  # sums without their bias come near zero
    net, canonizers, alone = rewritten(name)
    composite = peer.LayerMapComposite([*FUNCTIONS, (BatchNorm, Pass()), *theirs], canonizers=canonizers)
    expected = explained(name, composite, alone, net)
    agree(pellucid.lrp(network(name), pictures(name), rules=ours).values, expected, tolerance)


@pytest.mark.parametrize("name", ["vgg11", "resnet18"])
def test_w_square_for_the_first_layer(name):
    net, canonizers, alone = rewritten(name)
    composite = peer.SpecialFirstLayerMapComposite(
        [*FUNCTIONS, (BatchNorm, Pass()), (Linear, Epsilon(1e-6))], [(Linear, WSquare(stabilizer=1e-6))],
        canonizers=canonizers,
    )  # fmt: skip
    expected = explained(name, composite, alone, net)
    rules = {"conv": epsilon(1e-6), "linear": epsilon(1e-6), "first": w_square(1e-6), "sum": norm(), "average": norm()}
    agree(pellucid.lrp(network(name), pictures(name), rules=rules).values, expected, 1e-9)


@pytest.mark.parametrize("name", ["vgg11", "resnet18", "mobilenet_v2"])
@pytest.mark.parametrize("method, rule, theirs", [
    ("guided_backprop", ReLUGuidedBackprop(), peer.GuidedBackprop), ("deconvnet", ReLUDeconvNet(), peer.DeconvNet),
])  # fmt: skip
def test_guided_backprop_and_deconvnet(name, method, rule, theirs):
    net = for_peer(network(name))
    targets = torch.eye(CLASSES, dtype=torch.float64)[[3, 4]]
    with Gradient(model=net, composite=theirs(layer_map=[(Activation, rule)])) as attributor:
        expected = attributor(pictures(name), targets)[1]
    agree(getattr(pellucid, method)(network(name), pictures(name), [3, 4]).values, expected, 1e-9)
