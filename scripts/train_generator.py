"""Trains the decoder that ships with `pellucid.shapes`, for `pellucid.synthesis.Generator`.

python scripts/train_generator.py

One for the images of a folder: `pellucid generator train photos/`.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

from pellucid.shapes import CLASSES, ShapesGenerator, scenes
from pellucid.shapes.generator import EXTENT, GRID, OUTLINE
from pellucid.shapes.outlines import OUTLINES

WEIGHTS = Path(__file__).parents[1] / "src" / "pellucid" / "shapes" / "generator.safetensors"
TURNS = 360
NEAR = 0.4  # farther from the outline than this, how far no longer matters


def outlines() -> Tensor:
    """The signed distances of every class at every angle, 10 TURNS x GRID x GRID."""
    line = (((np.arange(GRID) + 0.5) / GRID * 2 - 1) * EXTENT).astype(np.float32)
    x, y = np.meshgrid(line, line)
    drawn = []
    for name in CLASSES:
        for turn in range(TURNS):
            cos, sin = (np.float32(f(2 * math.pi * turn / TURNS)) for f in (math.cos, math.sin))
            drawn.append(OUTLINES[name](cos * x + sin * y, cos * y - sin * x))
    return torch.from_numpy(np.stack(drawn)).float().clamp(-NEAR, NEAR)


def learn_outlines(network: ShapesGenerator, steps: int, strength: float, seed: int) -> None:
    """Train the decoder of a variational autoencoder of outlines; distances near the outline count most."""
    bank, draw = outlines(), torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    encoder = nn.Sequential(
        nn.Flatten(),
        nn.Linear(GRID * GRID, 256),
        nn.SiLU(),
        nn.Linear(256, 160),
        nn.SiLU(),
        nn.Linear(160, 2 * OUTLINE),
    )
    optimizer = torch.optim.Adam([*encoder.parameters(), *network.outline.parameters()], 2e-3)
    weights = torch.exp(-(bank / 0.15).square()) + 0.05
    with tqdm(total=steps, desc="outlines", unit="step") as bar:
        for step in range(steps):
            optimizer.param_groups[0]["lr"] = 2e-3 * min(1, (step + 1) / 100) * max(0.01, 1 - step / steps)
            rows = torch.randint(len(bank), (128,), generator=draw)
            given = bank[rows]
            mean, spread = encoder(given).chunk(2, 1)
            codes = mean + torch.randn(mean.shape, generator=draw) * (spread / 2).exp()
            error = (weights[rows] * (network.distances(codes)[:, 0] - given).square()).sum((1, 2)).mean()
            apart = (mean.square() + spread.exp() - spread - 1).sum(1).mean() / 2
            optimizer.zero_grad()
            (error + strength * apart).backward()
            optimizer.step()
            if step % 50 == 0:
                bar.set_postfix(error=f"{error.item():.4f}", refresh=False)
            bar.update()


def measure_colors(network: ShapesGenerator, seed: int) -> None:
    """The mean and the covariance of the colors of shape and ground, as logits, over scenes."""
    drawn = scenes(1000, seed=seed)
    parts = []
    for mask in (drawn.masks.float(), 1 - drawn.masks.float()):
        parts.append((drawn.images * mask).sum((2, 3)) / mask.sum((2, 3)))
    colors = torch.cat(parts, 1).clamp(0.02, 0.98).logit()
    network.color.copy_(colors.mean(0))
    network.colors.copy_(torch.linalg.cholesky(torch.cov(colors.T)))


def shapes(options: argparse.Namespace) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(options.seed)
        network = ShapesGenerator()
        learn_outlines(network, options.steps, 0.004, options.seed)
    measure_colors(network, 7_000_000 + options.seed)
    # Half precision: distances are to a thousandth of the shape then, a tenth of a pixel.
    weights = {name: tensor.half().contiguous() for name, tensor in network.state_dict().items()}
    part = options.output.with_name(options.output.name + ".part")
    save_file(weights, part, metadata={"classes": ",".join(CLASSES), "seed": str(options.seed)})
    part.chmod(0o644)  # safetensors leaves it to its owner alone
    os.replace(part, options.output)  # noqa: PTH105


def main() -> None:
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    parser.add_argument("--output", type=Path, default=WEIGHTS, help="where the weights go")
    parser.add_argument("--steps", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    started = time.perf_counter()
    shapes(options)
    print(f"{options.output}: {options.output.stat().st_size} bytes, {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
