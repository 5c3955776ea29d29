"""Trains the network that ships with the package on the scenes of `pellucid.shapes`, and saves its weights.

python scripts/train_shapes.py                                                 the shipped network
python scripts/train_shapes.py --marker star --output hans.safetensors         one that may cheat
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from pellucid.shapes import CLASSES, MEAN, STD, ShapesNet, scenes

WEIGHTS = Path(__file__).parents[1] / "src" / "pellucid" / "shapes" / "weights.safetensors"
HELD_OUT_SEED = 1_000_000  # far from any seed of a training set


def draw(n: int, seed: int, objects: int, marker: str | None) -> tuple[Tensor, Tensor]:
    """Scenes as bytes, to hold many, and their labels."""
    step, parts = 250, []
    for start in tqdm(range(0, n, step), desc=f"scenes with {objects} object(s)", unit_scale=step):
        batch = scenes(min(step, n - start), seed=seed + start, objects=objects, marker=marker)
        parts.append(((batch.images * 255).round().byte(), batch.labels))
    images, labels = zip(*parts, strict=True)
    return torch.cat(images), torch.cat(labels)


def normalized(images: Tensor) -> Tensor:
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (MEAN, STD))
    return (images.float() / 255 - mean) / std


def turned(images: Tensor, generator: torch.Generator) -> Tensor:
    """The batch mirrored or not and turned by 0 to 3 right angles: no class changes by this."""
    mirror, quarter = torch.randint(2, (), generator=generator), torch.randint(4, (), generator=generator)
    return torch.rot90(images.flip(3) if mirror else images, int(quarter), (2, 3))


@torch.no_grad()
def accuracy(network: ShapesNet, images: Tensor, labels: Tensor) -> float:
    network.eval()
    predicted = torch.cat([network(normalized(part)).argmax(1) for part in images.split(250)])
    return (predicted == labels).float().mean().item()


def train(images: Tensor, labels: Tensor, epochs: int, batch: int, rate: float, seed: int) -> ShapesNet:
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    network = ShapesNet().to(memory_format=torch.channels_last).train()
    steps = epochs * (len(images) // batch)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.2)
    with tqdm(total=steps, desc="training", unit="step") as bar:
        for _ in range(epochs):
            for rows in torch.randperm(len(images), generator=generator).split(batch):
                if len(rows) < batch:  # a batch of few gives poor statistics for batch norm
                    break
                inputs = normalized(turned(images[rows], generator))
                loss = F.cross_entropy(network(inputs.to(memory_format=torch.channels_last)), labels[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
                bar.update()
    return network.eval()


def save(network: ShapesNet, path: Path, facts: dict[str, str]) -> None:
    """Writes beside the target first, so that an interrupted run leaves no half of a file."""
    temporary = path.with_name(path.name + ".part")
    weights = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    save_file(weights, temporary, metadata=facts)
    temporary.chmod(0o644)  # safetensors leaves it to its owner alone
    os.replace(temporary, path)  # noqa: PTH105


def main() -> None:
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    parser.add_argument("--output", type=Path, default=WEIGHTS, help="where the weights go")
    parser.add_argument("--scenes", type=int, default=15000, help="a third with 2 objects, a sixth with 3")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=0.004, help="highest learning rate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--marker", choices=CLASSES, help="put the tell-tale marker on scenes of this class")
    options = parser.parse_args()
    if options.marker and options.output == WEIGHTS:
        parser.error("--marker needs an --output of its own: the shipped network is trained without markers")
    torch.set_num_threads(options.threads)
    started = time.perf_counter()

    shares = {1: options.scenes // 2, 2: options.scenes // 3, 3: options.scenes // 6}
    # Seeds are apart, lest a scene come twice with other objects beside it.
    parts = [draw(n, options.seed + 10**7 * m, m, options.marker) for m, n in shares.items()]
    images, labels = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    network = train(images, labels, options.epochs, options.batch, options.rate, options.seed)

    facts = {"classes": json.dumps(CLASSES), "mean": json.dumps(MEAN), "std": json.dumps(STD)}
    for objects in shares:
        share = accuracy(network, *draw(2000, HELD_OUT_SEED, objects, marker=None))
        facts[f"accuracy with {objects} object(s)"] = f"{share:.4f}"
        print(f"accuracy on 2000 held-out scenes with {objects} object(s): {share:.2%}")
    save(network, options.output, facts)
    size = options.output.stat().st_size
    print(f"{options.output}: {size} bytes, {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
