"""The cases: for each method its lower bound, pellucid, and other tools on the same network, images and layer."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

import pellucid

Functions = dict[str, Callable[[], object]]
TARGET = 483
STEPS = 32  # path points, noisy copies
WINDOW, STRIDE = 56, 28


def network() -> nn.Module:
    torch.manual_seed(0)
    return torchvision.models.resnet18().eval()


def photos(count: int) -> Tensor:
    return torch.rand(count, 3, 224, 224, generator=torch.Generator().manual_seed(1))


def forward_backward(net: nn.Module, images: Tensor) -> Tensor:
    x = images.clone().requires_grad_()
    return torch.autograd.grad(net(x)[:, TARGET].sum(), x)[0]


def features(net: nn.Module, x: Tensor) -> Tensor:
    """resnet18 up to its last layer with places."""
    x = net.maxpool(net.relu(net.bn1(net.conv1(x))))
    return net.layer4(net.layer3(net.layer2(net.layer1(x))))


def head(net: nn.Module, maps: Tensor) -> Tensor:
    return net.fc(net.avgpool(maps).flatten(1))


def best(make: Callable[[int], Callable[[], object]], sizes: list[int]) -> tuple[int, Callable[[], object]]:
    """Another tool at its best batch size: each is tried, the fastest is timed again beside us."""
    from .timing import in_turn

    tried = in_turn({str(size): make(size) for size in sizes}, seconds=0, most=3)
    size = min(sizes, key=lambda s: min(tried[str(s)]))
    return size, make(size)


def saliency() -> Functions:
    from captum.attr import Saliency

    net, images = network(), photos(8)
    return {
        "lower bound": lambda: forward_backward(net, images),
        "pellucid": lambda: pellucid.saliency(net, images, TARGET),
        "Captum": lambda: Saliency(net).attribute(images.clone().requires_grad_(), TARGET),
    }


def gradient_x_input() -> Functions:
    from captum.attr import InputXGradient

    net, images = network(), photos(8)
    return {
        "lower bound": lambda: forward_backward(net, images),
        "pellucid": lambda: pellucid.gradient_x_input(net, images, TARGET, baseline=torch.zeros(3)),
        "Captum": lambda: InputXGradient(net).attribute(images.clone().requires_grad_(), TARGET),
    }


def integrated_gradients() -> Functions:
    from captum.attr import IntegratedGradients

    net, images = network(), photos(1)

    def bound() -> None:
        for part in torch.linspace(0, 1, STEPS).split(8):
            forward_backward(net, part[:, None, None, None] * images)

    def captum(size: int) -> Callable[[], object]:
        tool = IntegratedGradients(net)
        return lambda: tool.attribute(
            images, torch.zeros_like(images), TARGET, n_steps=STEPS, method="riemann_middle", internal_batch_size=size
        )

    size, theirs = best(captum, [1, 2, 4, 8, 16, 32])
    return {
        "lower bound": bound,
        "pellucid": lambda: pellucid.integrated_gradients(net, images, TARGET, baseline=torch.zeros(3), steps=STEPS),
        f"Captum (batch {size})": theirs,
    }


def smoothgrad() -> Functions:
    from captum.attr import NoiseTunnel, Saliency

    net, images = network(), photos(1)

    def bound() -> None:
        for _ in range(STEPS // 8):
            forward_backward(net, images + 0.1 * torch.randn(8, 3, 224, 224))

    def captum(size: int) -> Callable[[], object]:
        tool = NoiseTunnel(Saliency(net))
        return lambda: tool.attribute(
            images.clone().requires_grad_(), nt_type="smoothgrad", nt_samples=STEPS, nt_samples_batch_size=size,
            stdevs=0.15, target=TARGET, abs=False,
        )  # fmt: skip

    size, theirs = best(captum, [1, 2, 4, 8, 16, 32])
    return {
        "lower bound": bound,
        "pellucid": lambda: pellucid.smoothgrad(net, images, TARGET, samples=STEPS),
        f"Captum (batch {size})": theirs,
    }


def occlusion() -> Functions:
    from captum.attr import Occlusion

    net, images = network(), photos(1)

    def bound() -> None:
        with torch.no_grad():
            for count in (8, 8, 8, 8, 8, 8, 2):
                net(images.expand(count, -1, -1, -1))

    def captum(size: int) -> Callable[[], object]:
        tool = Occlusion(net)

        def attribute() -> object:
            with torch.no_grad():
                return tool.attribute(
                    images, (3, WINDOW, WINDOW), (3, STRIDE, STRIDE), torch.zeros_like(images), TARGET,
                    perturbations_per_eval=size,
                )  # fmt: skip

        return attribute

    size, theirs = best(captum, [1, 4, 8, 16, 49])
    options = {"window": WINDOW, "stride": STRIDE, "fill": torch.zeros(3)}
    return {
        "lower bound": bound,
        "pellucid": lambda: pellucid.occlusion(net, images, TARGET, **options),
        f"Captum (batch {size})": theirs,
    }


def class_activation_map(name: str, theirs: str | None) -> Callable[[], Functions]:
    def case() -> Functions:
        net, images = network(), photos(8)
        pellucid.layers(net, images)

        def bound() -> Tensor:
            """One forward pass, and backward from the output to the layer only."""
            with torch.no_grad():
                maps = features(net, images)
            if pellucid.CATALOGUE[name].traits.gradient or pellucid.CATALOGUE[name].traits.objective:
                maps.requires_grad_()
                torch.autograd.grad(head(net, maps)[:, TARGET].sum(), maps)
            return maps

        functions: Functions = {
            "lower bound": bound,
            "pellucid": lambda: getattr(pellucid, name)(net, images, TARGET),
        }
        if theirs:
            functions["pytorch-grad-cam"] = peer(theirs, network(), images)
        return functions

    return case


def peer(name: str, net: nn.Module, images: Tensor, batch_size: int = 32) -> Callable[[], object]:
    import pytorch_grad_cam
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    tool = getattr(pytorch_grad_cam, name)(net, [net.layer4])
    tool.batch_size = batch_size
    targets = [ClassifierOutputTarget(TARGET)] * len(images)

    def attribute() -> object:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return tool(images, targets)

    return attribute


def ablation_cam() -> Functions:
    net, images = network(), photos(1)
    pellucid.layers(net, images)

    def bound() -> None:
        with torch.no_grad():
            maps = features(net, images)
            ablated = maps.expand(512, -1, -1, -1).clone()
            ablated[torch.arange(512), torch.arange(512)] = 0
            head(net, maps), head(net, ablated)

    return {
        "lower bound": bound,
        "pellucid": lambda: pellucid.ablation_cam(net, images, TARGET),
        "pytorch-grad-cam": peer("AblationCAM", network(), images),
    }


def score_cam() -> Functions:
    net, images = network(), photos(1)
    pellucid.layers(net, images)

    def bound() -> None:
        with torch.no_grad():
            maps = features(net, images)
            masks = F.interpolate(maps[0, :, None], (224, 224), mode="bilinear")
            for part in masks.split(16):
                net(images * part)

    return {
        "lower bound": bound,
        "pellucid": lambda: pellucid.score_cam(net, images, TARGET, baseline=torch.zeros(3)),
        "pytorch-grad-cam": peer("ScoreCAM", network(), images, batch_size=16),
    }


CASES: dict[str, Callable[[], Functions]] = {
    "saliency": saliency,
    "gradient_x_input": gradient_x_input,
    "integrated_gradients": integrated_gradients,
    "smoothgrad": smoothgrad,
    "occlusion": occlusion,
    "grad_cam": class_activation_map("grad_cam", "GradCAM"),
    "grad_cam_plus_plus": class_activation_map("grad_cam_plus_plus", "GradCAMPlusPlus"),
    "xgrad_cam": class_activation_map("xgrad_cam", "XGradCAM"),
    "hires_cam": class_activation_map("hires_cam", "HiResCAM"),
    "layer_cam": class_activation_map("layer_cam", "LayerCAM"),
    "eigen_cam": class_activation_map("eigen_cam", "EigenCAM"),
    "cam": class_activation_map("cam", None),
    "ablation_cam": ablation_cam,
    "score_cam": score_cam,
}
