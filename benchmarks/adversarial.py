"""Attacks over the raw passes that they need, beside torchattacks, Foolbox and ART.

The lower bound of FGSM and PGD is so many passes forward and back, and one forward that tells whether the network is
fooled, which is part of what pellucid returns. torchattacks does not look; "torchattacks + look" does.

python -m benchmarks.adversarial counts the images that AutoAttack sends back through an undefended network.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from functools import cache

import torch
import torchvision
from torch import Tensor, nn

import pellucid

from .cases import Functions, forward_backward, photos

COUNT = {1: 8, 10: 2}  # images, by the number of steps
EPS = 8 / 255


@cache
def network() -> nn.Module:
    torch.manual_seed(0)
    return torchvision.models.resnet18().eval()


@cache
def small() -> nn.Module:
    """Four convolutions over 32 x 32, with random weights: outputs of ten classes that differ from image to image."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for before, after in ((3, 32), (32, 64), (64, 64), (64, 128)):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(512, 10)).eval()


@cache
def pictures(count: int = 64) -> Tensor:
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def look(net: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        return net(images).argmax(1)


def iterated(steps: int) -> Callable[[], Functions]:
    """FGSM for one step, PGD from the image itself for several."""

    def case() -> Functions:
        import foolbox
        import torchattacks
        from art.attacks.evasion import FastGradientMethod, ProjectedGradientDescentPyTorch
        from art.estimators.classification import PyTorchClassifier

        net, images = network(), photos(COUNT[steps]).clamp(0, 1)
        labels, peer = look(net, images), copy.deepcopy(net)
        size = EPS if steps == 1 else EPS / 4

        def bound() -> None:
            for _ in range(steps):
                forward_backward(net, images)
            look(net, images)

        def ours() -> object:
            if steps == 1:
                return pellucid.fgsm(net, images, labels, eps=EPS)
            return pellucid.pgd(net, images, labels, eps=EPS, steps=steps, step_size=size, random_start=False)

        if steps == 1:
            attack = torchattacks.FGSM(peer, eps=EPS)
            fool: object = foolbox.attacks.LinfFastGradientAttack()
        else:
            attack = torchattacks.PGD(peer, eps=EPS, alpha=size, steps=steps, random_start=False)
            fool = foolbox.attacks.LinfPGD(abs_stepsize=size, steps=steps, random_start=False)
        model = foolbox.PyTorchModel(peer, bounds=(0, 1), device="cpu")
        estimator = PyTorchClassifier(
            peer, nn.CrossEntropyLoss(), tuple(images.shape[1:]), 1000, clip_values=(0, 1), device_type="cpu"
        )
        if steps == 1:
            art = FastGradientMethod(estimator, eps=EPS)
        else:
            art = ProjectedGradientDescentPyTorch(estimator, eps=EPS, eps_step=size, max_iter=steps, verbose=False)
        return {
            "lower bound": bound,
            "pellucid": ours,
            "torchattacks": lambda: attack(images, labels),
            "torchattacks + look": lambda: look(peer, attack(images, labels)),
            "Foolbox": lambda: fool(model, images, labels, epsilons=EPS),  # type: ignore[operator]
            "ART": lambda: art.generate(images.numpy(), labels.numpy()),
        }

    return case


def deepfool() -> Functions:
    """The lower bound is what pellucid's passes cost; see how far Foolbox and torchattacks are above."""
    import foolbox

    net, images = small(), pictures()
    labels, peer = look(net, images), copy.deepcopy(net)
    call = pellucid.deepfool(net, images, labels).call
    model = foolbox.PyTorchModel(peer, bounds=(0, 1), device="cpu")
    fool = foolbox.attacks.L2DeepFoolAttack(steps=50, candidates=10, overshoot=0.02)

    def bound() -> None:
        """As many images forward and back, in full batches."""
        for _ in range(round(call.forward / len(images))):
            look(net, images)
        start = images.clone().requires_grad_()
        outputs = net(start)
        for k in range(round(call.backward / len(images))):
            torch.autograd.grad(outputs[:, k % 10].sum(), start, retain_graph=True)

    return {
        "lower bound": bound,
        "pellucid": lambda: pellucid.deepfool(net, images, labels),
        "Foolbox": lambda: fool(model, images, labels, epsilons=None),
    }


CASES: dict[str, Callable[[], Functions]] = {
    "fgsm": iterated(1),
    "pgd:10": iterated(10),
    "deepfool": deepfool,
}


class _Counted(torch.autograd.Function):
    """The images as they are; counts those that gradients are taken of."""

    rows = 0

    @staticmethod
    def forward(_context: object, images: Tensor) -> Tensor:
        return images.view_as(images)

    @staticmethod
    def backward(_context: object, slope: Tensor) -> Tensor:  # type: ignore[override]
        _Counted.rows += len(slope)
        return slope


class Counting(nn.Module):
    """A network, and how many images went forward and back through it, whoever sent them."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.rows = net, 0
        _Counted.rows = 0

    def forward(self, images: Tensor) -> Tensor:
        self.rows += len(images)
        return self.net(_Counted.apply(images))


def count_passes(count: int = 64) -> None:
    """Print what AutoAttack costs, with all its steps and queries, on a network that has no defense."""
    import torchattacks

    images = pictures(count)
    labels = look(small(), images)
    print(f"AutoAttack, {count} images, linf 8/255, four convolutions over 32 x 32\n")
    print("| tool | fooled | images forward | images back | seconds |\n|---|---|---|---|---|")
    for tool in ("pellucid", "torchattacks"):
        net = Counting(small()).eval()
        start = time.perf_counter()
        if tool == "pellucid":
            with pellucid.settings(progress=False):
                found = pellucid.auto_attack(net, images, labels, eps=EPS).images
        else:
            found = torchattacks.AutoAttack(net, norm="Linf", eps=EPS, n_classes=10, seed=0)(images, labels)
        seconds, forward, back = time.perf_counter() - start, net.rows, _Counted.rows
        fooled = int((look(small(), found) != labels).sum())
        print(f"| {tool} | {fooled} | {forward} | {back} | {seconds:.1f} |")


if __name__ == "__main__":
    count_passes()
