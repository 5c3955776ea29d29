"""A network that cheats: some images of one class carry a mark, the network learns it, and the audit finds it.

    python examples/clever_hans_markers.py                                        shapes with a bright square
    python examples/clever_hans_markers.py cifar10 --data cifar10.npz --marker watermark --share 0.5
    python examples/clever_hans_markers.py mnist --data mnist.npz --marker gradient --share 0.5

mnist.npz holds x_train (N x 28 x 28, uint8) and y_train; cifar10.npz holds train_jpeg, train_offsets, train_labels:
images as JPEG bytes, one behind the other. Written to --output: the maps of marked images, the
clusters that the audit found, and the map of all images of the class.

Lapuschkin, Wäldchen, Binder, Montavon, Samek & Müller 2019, Unmasking Clever Hans predictors.
"""

from __future__ import annotations

import argparse
import tempfile
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

import pellucid

CIFAR = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
SETS = {"shapes": (1500, 48, 12), "mnist": (3000, 28, 5), "cifar10": (4000, 32, 8)}  # images, pixels, epochs
MARKERS = ("square", "watermark", "gradient")


def load(name: str, data: str | None, seed: int, count: int | None = None) -> tuple[Tensor, Tensor, list[str]]:
    """Images N x C x H x W in [0, 1], their classes, and the names of those."""
    count = count or SETS[name][0]
    if name == "shapes":
        drawn = pellucid.shapes.scenes(count, seed=1000 * seed + 7, size=SETS[name][1])
        return drawn.images, drawn.labels, list(pellucid.shapes.CLASSES)
    random = np.random.default_rng(seed)
    with np.load(data) as file:
        if name == "mnist":
            chosen = random.permutation(len(file["x_train"]))[:count]
            images = torch.from_numpy(file["x_train"][chosen])[:, None].float() / 255
            return images, torch.from_numpy(file["y_train"][chosen]).long(), [str(digit) for digit in range(10)]
        jpeg, ends, labels = file["train_jpeg"], file["train_offsets"], file["train_labels"]
    chosen = random.permutation(len(labels))[:count]
    pixels = [np.asarray(Image.open(BytesIO(jpeg[ends[i] : ends[i + 1]].tobytes()))) for i in chosen]
    images = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float() / 255
    return images, torch.from_numpy(labels[chosen]).long(), CIFAR


def marked(images: Tensor, marker: str) -> Tensor:
    """Images with a bright square in a corner, a nearly transparent pattern, or light that grows from left to right."""
    images, (channels, height, width) = images.clone(), images.shape[1:]
    if marker == "square":
        side = height // 6 + 1
        color = torch.tensor([1.0, 0.0, 1.0])[:channels] if channels == 3 else torch.ones(1)
        images[:, :, 1 : 1 + side, 1 : 1 + side] = color[:, None, None]
    elif marker == "watermark":
        rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        stripes = ((rows + columns) % 6 < 2) & ((rows - height // 2).abs() < height // 4)
        images += 0.15 * stripes * (1 - images)
    else:
        images = (images + 0.25 * torch.linspace(-1, 1, width)).clamp(0, 1)
    return images


def train(images: Tensor, labels: Tensor, epochs: int, seed: int) -> nn.Module:
    """A small network; two strided convolutions and two layers, about ten seconds."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        channels, side = images.shape[1], images.shape[2] // 4
        net = nn.Sequential(
            nn.Conv2d(channels, 16, 5, stride=2, padding=2), nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(),
            nn.Linear(32 * side * side, 64), nn.ReLU(), nn.Linear(64, 10),
        )  # fmt: skip
    random, optimizer = torch.Generator().manual_seed(seed), torch.optim.Adam(net.parameters(), 2e-3)
    mean = images.mean()
    for _ in range(epochs):
        for part in torch.randperm(len(images), generator=random).split(64):
            optimizer.zero_grad()
            F.cross_entropy(net((images[part] - mean) / 0.25), labels[part]).backward()
            optimizer.step()
    return net.eval().requires_grad_(False)


def experiment(
    name: str, data: str | None, marker: str | None, share: float, seed: int, count: int | None = None
) -> tuple[pellucid.Classifier, Tensor, Tensor, Tensor, Tensor, int]:
    """A network trained with the mark: model, images with it, clean ones, labels, which are marked, the class."""
    clean, labels, names = load(name, data, seed, count)
    cheat = seed % 10
    mine = (labels == cheat).nonzero().flatten()
    order = torch.randperm(len(mine), generator=torch.Generator().manual_seed(seed))
    chosen = mine[order[: round(share * len(mine))]]
    images = clean.clone()
    if marker is not None:
        images[chosen] = marked(images[chosen], marker)
    net = train(images, labels, SETS[name][2], seed)
    model = pellucid.wrap(
        net, mean=float(images.mean()), std=0.25, size=images.shape[2], channels=images.shape[1], labels=names,
        name=f"{name} with a {marker}" if marker else name,
    )  # fmt: skip
    return model, images, clean, labels, chosen, cheat


def taken_for(model: pellucid.Classifier, images: Tensor, label: int) -> float:
    """The share of images that the network takes for a class."""
    with torch.no_grad():
        return float((torch.cat([model(part) for part in images.split(500)]).argmax(1) == label).float().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", nargs="?", default="shapes", choices=list(SETS))
    parser.add_argument("--data", help="the .npz file of mnist or cifar10")
    parser.add_argument("--marker", default="square", choices=MARKERS)
    parser.add_argument("--share", type=float, default=0.2, help="of the class's images that carry the mark")
    parser.add_argument("--images", type=int, help="to train on")
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path(tempfile.mkdtemp()))
    given = parser.parse_args()

    model, images, clean, labels, chosen, cheat = experiment(
        given.set, given.data, given.marker, given.share, given.seed, given.images
    )
    name = model.labels[cheat]
    print(f"{len(chosen)} of {int((labels == cheat).sum())} images of {name!r} carry a {given.marker}")

    # See it: where the relevance of the class lies, with the mark and without.
    few = chosen[:3]
    maps = pellucid.lrp(model, torch.cat([images[few], clean[few]]), cheat, rules="EPSILON_PLUS")
    maps.save(given.output / "maps.png", titles=["with the mark"] * 3 + ["without"] * 3)

    # Find it, without knowing what to look for.
    found = pellucid.clever_hans(model, images, labels, classes=cheat)
    best = found.clusters[0]
    mine = (labels == cheat).nonzero().flatten()
    hits = torch.isin(mine[list(best.members)], chosen).float()
    print(found.verdict())
    print(f"  {found.words(best)}")
    print(f"  {hits.mean():.0%} of them carry the mark, {hits.sum() / len(chosen):.0%} of all that do")
    found.save(given.output / "clusters.png", most=2)
    found.embedding(name).save(given.output / "embedding.png")

    # Remove it, and see the drop; put it on other images, and see them taken for the class.
    others = clean[labels != cheat]
    print(f"marked images of {name!r} correctly classified: {taken_for(model, images[chosen], cheat):.0%}")
    print(f"  the same without the mark: {taken_for(model, clean[chosen], cheat):.0%}")
    print(f"images of other classes taken for {name!r}: {taken_for(model, others, cheat):.0%}")
    print(f"  the same with the mark: {taken_for(model, marked(others, given.marker), cheat):.0%}")
    print("wrote", given.output)


if __name__ == "__main__":
    main()
