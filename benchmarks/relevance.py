"""Relevance and its relatives over plain gradients, beside zennit on a network rewritten for it, and Captum."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

import pellucid
from pellucid import rules

from .cases import Functions, forward_backward, photos

TARGET = 483
COUNT = {"resnet18": 8, "vgg11_bn": 4, "vit_b_16": 2}
LOW, HIGH = -3.0, 3.0  # the images lie between; what bounds do not change is the time


def network(name: str) -> nn.Module:
    torch.manual_seed(0)
    net = getattr(torchvision.models, name)().eval()
    for module in net.modules():
        if isinstance(module, nn.Linear) and not module.weight.any():
            nn.init.normal_(module.weight, 0, 0.02)  # vit's head, which is zero when new
    return net


def sets(name: str) -> Mapping[str, Any]:
    gamma = {"conv": rules.gamma(0.25), "linear": rules.gamma(0.25) if name == "vit_b_16" else rules.epsilon()}
    return {
        "epsilon": rules.EPSILON,
        "gamma": gamma,
        "epsilon_plus": rules.EPSILON_PLUS,
        "epsilon_gamma_box": {**rules.EPSILON_GAMMA_BOX, "first": rules.z_box(LOW, HIGH)},
    }


def lrp(name: str, which: str) -> Callable[[], Functions]:
    def case() -> Functions:
        net, images = network(name), photos(COUNT[name])
        chosen = sets(name)[which]
        functions: Functions = {
            "lower bound": lambda: forward_backward(net, images),
            "pellucid": lambda: pellucid.lrp(net, images, TARGET, rules=chosen),
        }
        if name != "vit_b_16":  # zennit has no rule for an attention
            functions["zennit"] = zennit(name, net, images, which)
        return functions

    return case


def zennit(name: str, net: nn.Module, images: Tensor, which: str) -> Callable[[], object]:
    from zennit import composites, types
    from zennit import rules as theirs
    from zennit.attribution import Gradient
    from zennit.layer import Sum
    from zennit.torchvision import ResNetCanonizer, VGGCanonizer

    canonizers = [ResNetCanonizer() if name == "resnet18" else VGGCanonizer()]
    functions = [
        (types.Activation, theirs.Pass()),
        (Sum, theirs.Norm()),
        (types.AvgPool, theirs.Norm()),
        (types.BatchNorm, theirs.Pass()),
    ]
    made = {
        "epsilon": lambda: composites.LayerMapComposite(
            [*functions, (types.Linear, theirs.Epsilon())], canonizers=canonizers
        ),
        "gamma": lambda: composites.LayerMapComposite(
            [*functions, (types.Convolution, theirs.Gamma()), (types.Linear, theirs.Epsilon())], canonizers=canonizers
        ),
        "epsilon_plus": lambda: composites.EpsilonPlus(canonizers=canonizers),
        "epsilon_gamma_box": lambda: composites.EpsilonGammaBox(low=LOW, high=HIGH, canonizers=canonizers),
        "guided_backprop": composites.GuidedBackprop,
    }
    peer = copy.deepcopy(net)
    start = torch.eye(1000)[[TARGET] * len(images)]

    def run() -> object:
        with Gradient(model=peer, composite=made[which]()) as attributor:
            return attributor(images.clone(), start)

    return run


def guided_backprop(name: str) -> Callable[[], Functions]:
    def case() -> Functions:
        net, images = network(name), photos(COUNT[name])
        functions: Functions = {
            "lower bound": lambda: forward_backward(net, images),
            "pellucid": lambda: pellucid.guided_backprop(net, images, TARGET),
            "zennit": zennit(name, net, images, "guided_backprop"),
        }
        return functions

    return case


def deeplift() -> Functions:
    from captum.attr import DeepLift

    net, images = network("vgg11_bn"), photos(4)
    peer = copy.deepcopy(net)
    for module in peer.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    tool = DeepLift(peer)
    both = torch.cat([images, torch.zeros_like(images)])
    return {
        "lower bound": lambda: forward_backward(net, both),
        "pellucid": lambda: pellucid.deeplift(net, images, TARGET, baseline=torch.zeros(3)),
        "Captum": lambda: tool.attribute(images.clone().requires_grad_(), torch.zeros_like(images), target=TARGET),
    }


CASES: dict[str, Callable[[], Functions]] = {
    **{
        f"lrp:{which}:{name}": lrp(name, which)
        for name in COUNT
        for which in ("epsilon", "gamma", "epsilon_plus", "epsilon_gamma_box")
    },
    **{f"guided_backprop:{name}": guided_backprop(name) for name in COUNT},
    "deeplift:vgg11_bn": deeplift,
}
