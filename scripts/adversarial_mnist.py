"""Trains a small robust network on MNIST and measures it, and an undefended one, under attacks of growing strength.

python scripts/adversarial_mnist.py mnist.npz --output robust_mnist.safetensors
python scripts/adversarial_mnist.py mnist.npz --weights robust_mnist.safetensors --images 200      measure only

mnist.npz has x_train, y_train, x_test, y_test (uint8). The network is that of Wong, Rice & Kolter 2020, Fast is better
than free: two 4 x 4 convolutions of stride 2 with 16 and 32 channels, and layers of 100 and 10; 0.17 million weights.
Madry et al. 2018 have 3.3 million: 32 and 64 channels of 5 x 5, pooled, and a layer of 1024.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import pellucid

EPS = 0.3
# Of Madry et al. 2018, table 1 and figure 4: natural and adversarial training, eps 0.3.
PUBLISHED = {"clean": (99.2, 98.8), "FGSM": (6.4, 95.6), "PGD-40": (None, 93.2)}


def small_network(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, 16, 4, stride=2, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 4, stride=2, padding=1), nn.ReLU(),
            nn.Flatten(), nn.Linear(32 * 49, 100), nn.ReLU(), nn.Linear(100, 10),
        ).eval()  # fmt: skip


def read(file: Path) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    with np.load(file) as data:
        x, y, x_test, y_test = (torch.from_numpy(data[name]) for name in ("x_train", "y_train", "x_test", "y_test"))
    return x[:, None].float() / 255, y.long(), x_test[:, None].float() / 255, y_test.long()


def measure(model: nn.Module, images: Tensor, labels: Tensor) -> dict[str, pellucid.Attack]:
    """Accuracy under attacks of growing strength, with the paper's settings for the first three."""
    common = {"eps": EPS}
    return {
        "FGSM": pellucid.fgsm(model, images, labels, **common),
        "PGD-40": pellucid.pgd(model, images, labels, **common, steps=40, step_size=0.01, early_stop=True),
        "PGD-100 x 10": pellucid.pgd(
            model, images, labels, **common, steps=100, step_size=0.01, restarts=10, early_stop=True
        ),
        "AutoAttack": pellucid.auto_attack(model, images, labels, **common),
    }


def main() -> None:
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    parser.add_argument("mnist", type=Path)
    parser.add_argument("--output", type=Path, help="where the robust network's weights go")
    parser.add_argument("--weights", type=Path, help="measure this robust network instead of training one")
    parser.add_argument("--images", type=int, default=500, help="test images to attack")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--steps", type=int, default=7, help="gradients for each batch in training")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    x, y, x_test, y_test = read(options.mnist)
    started = time.perf_counter()

    def told(epoch: int, loss: float, right: float) -> None:
        print(f"epoch {epoch}: loss {loss:.3f}, {right:.1%} of attacked images right, "
              f"{time.perf_counter() - started:.0f} s", flush=True)  # fmt: skip

    robust = small_network(options.seed)
    if options.weights:
        robust.load_state_dict(load_file(options.weights))
    else:
        trained = pellucid.adversarial_training(
            robust, x, y, eps=EPS, steps=options.steps, epochs=options.epochs, seed=options.seed, each_epoch=told
        )
        robust.load_state_dict(trained.state_dict())
        if options.output:
            save_file({k: v.contiguous() for k, v in robust.state_dict().items()}, options.output)
    images, labels = x_test[: options.images], y_test[: options.images]
    with torch.no_grad():
        clean = float((robust(x_test).argmax(1) == y_test).double().mean())
    print(f"clean, all {len(x_test)} test images: {clean:.2%}")
    for name, attack in measure(robust, images, labels).items():
        madry = PUBLISHED.get(name, (None, None))[1]
        print(f"{name}: {attack.robust_accuracy:.1%} of {len(images)}; Madry et al., a larger network: {madry}; "
              f"{attack.forward} forward and {attack.backward} backward")  # fmt: skip


if __name__ == "__main__":
    main()
