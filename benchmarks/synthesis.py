"""Ascents over their lower bound, the same number of forward and backward passes up to the layer, beside
torch-lucent."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import torch
import torchvision
from torch import Tensor, nn

import pellucid
from pellucid.synthesis import Pixels

from .cases import Functions

SIZE, CHANNEL = 224, 7


def resnet() -> nn.Module:
    torch.manual_seed(0)
    return torchvision.models.resnet18().eval()


def start() -> Tensor:
    return torch.rand(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


def up_to(net: nn.Module) -> nn.Sequential:
    """The network to the end of layer2 and no further, without gradients of its weights."""
    part = nn.Sequential(*list(net.children())[:6])
    for parameter in part.parameters():
        parameter.requires_grad_(False)
    return part


def bound(net: nn.Module, steps: int) -> Callable[[], object]:
    part = up_to(net)
    image = start().requires_grad_()

    def passes() -> None:
        for _ in range(steps):
            torch.autograd.grad(part(image)[:, CHANNEL].mean(), image)

    return passes


def channel(steps: int) -> Callable[[], Functions]:
    def case() -> Functions:
        objective = pellucid.channel("layer2", CHANNEL)
        functions: Functions = {
            "lower bound": bound(resnet(), steps),
            "pellucid": lambda: pellucid.maximize(net, objective, size=SIZE, steps=steps),
            "pellucid, pixels": lambda: pellucid.maximize(
                net, objective, start=start(), steps=steps, parametrization=Pixels(bounds=None), transforms=()
            ),
        }
        net = resnet()
        if importlib.util.find_spec("lucent"):
            functions["lucent"] = lucent(steps)
        return functions

    return case


def lucent(steps: int) -> Callable[[], object]:
    from lucent.optvis import param, render

    net = resnet()

    def run() -> object:
        return render.render_vis(
            net, f"layer2:{CHANNEL}", lambda: param.image(SIZE), thresholds=(steps,), show_image=False, progress=False
        )

    return run


CASES: dict[str, Callable[[], Functions]] = {f"maximize:{steps} steps": channel(steps) for steps in (64, 512)}
