"""Trains a small robust network on MNIST and measures it, and an undefended one, under attacks of growing strength.

python scripts/adversarial_mnist.py mnist.npz --output robust_mnist.safetensors                    train and measure
python scripts/adversarial_mnist.py mnist.npz --weights robust_mnist.safetensors --run runs        measure only
python scripts/adversarial_mnist.py mnist.npz --undefended exercise_cnn.pth --run runs             another network

What is measured is kept in the folder of --run, in chunks of 64 images: stopped anywhere, the same command goes on.

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
from torch.nn import functional

import pellucid
from pellucid.adversarial.robustness import interval

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


class ThreeConvolutions(nn.Module):
    """The undefended network: 32, 64 and 128 channels of 3 x 3, mean pooling after two, layers of 256 and 10."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3 = nn.Conv2d(1, 32, 3), nn.Conv2d(32, 64, 3), nn.Conv2d(64, 128, 3)
        self.fc1, self.fc2 = nn.Linear(1152, 256), nn.Linear(256, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Up to the logits: it was trained with a sigmoid after them, where gradients vanish."""
        x = functional.avg_pool2d(self.conv1(x).relu(), 2)
        x = functional.avg_pool2d(self.conv2(x).relu(), 2)
        logits: Tensor = self.fc2(self.fc1(self.conv3(x).relu().flatten(1)).relu())
        return logits


def undefended(file: Path) -> pellucid.Classifier:
    """From a state_dict; its images are normalized by the mean and the standard deviation of all pixels."""
    net = ThreeConvolutions()
    net.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    return pellucid.wrap(net.eval(), mean=[33.328 / 255], std=[78.579 / 255], size=28)


# Attacks of growing strength, with the settings of Madry et al. for those that they have.
ATTACKS = {
    "FGSM": ("fgsm", {}),
    "PGD-40": ("pgd", {"steps": 40, "step_size": 0.01, "early_stop": True}),
    "PGD-100 x 10": ("pgd", {"steps": 100, "step_size": 0.01, "restarts": 10, "early_stop": True}),
    "AutoAttack": ("auto_attack", {}),
}


def measure(model: nn.Module, images: Tensor, labels: Tensor, run: Path | None) -> None:
    """Print the accuracy under each attack as rows of a table."""
    count = len(images)
    trained = not isinstance(model, pellucid.Classifier)
    print(f"\n| attack | correctly classified, % of {count} | 95 % interval | Madry et al. | backward | seconds |\n"
          "|---|---|---|---|---|---|")  # fmt: skip
    for name, (method, options) in ATTACKS.items():
        folder = None if run is None else run / ("trained" if trained else "undefended") / name.replace(" ", "")
        attack = getattr(pellucid, method)(model, images, labels, eps=EPS, folder=folder, **options)
        ((low, high),) = (100 * interval(torch.tensor([attack.robust_accuracy]), count)).tolist()
        theirs = PUBLISHED.get(name, (None, None))[trained]
        print(f"| {name} | {100 * attack.robust_accuracy:.1f} | {low:.1f} to {high:.1f} | {theirs or ''} | "
              f"{attack.backward} | {attack.call.seconds:.0f} |", flush=True)  # fmt: skip


def clean(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    with torch.no_grad():
        seen = torch.cat([model(part).argmax(1) for part in images.split(500)])
    return float((seen == labels).double().mean())


def main() -> None:
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    parser.add_argument("mnist", type=Path)
    parser.add_argument("--output", type=Path, help="where the robust network's weights go")
    parser.add_argument("--weights", type=Path, help="measure this robust network instead of training one")
    parser.add_argument("--undefended", type=Path, help="measure this network, a state_dict, instead")
    parser.add_argument("--images", type=int, default=1000, help="test images to attack")
    parser.add_argument("--run", type=Path, help="folder in which what is measured is kept")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--steps", type=int, default=7, help="gradients for each batch in training")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    x, y, x_test, y_test = read(options.mnist)
    started = time.perf_counter()

    def told(epoch: int, loss: float, right: float) -> None:
        print(f"epoch {epoch}: loss {loss:.3f}, {right:.1%} of attacked images right, "
              f"{time.perf_counter() - started:.0f} s", flush=True)  # fmt: skip

    model: nn.Module = small_network(options.seed)
    if options.undefended:
        model = undefended(options.undefended)
    elif options.weights:
        model.load_state_dict(load_file(options.weights))
    else:
        model = pellucid.adversarial_training(
            model, x, y, eps=EPS, steps=options.steps, epochs=options.epochs, seed=options.seed, each_epoch=told
        )
        if options.output:
            save_file({k: v.contiguous() for k, v in model.state_dict().items()}, options.output)
    print(f"clean, all {len(x_test)} test images: {clean(model, x_test, y_test):.2%}")
    measure(model, x_test[: options.images], y_test[: options.images], options.run)


if __name__ == "__main__":
    main()
