"""Trains a style network on the photographs of scikit-image and scikit-learn, adds a style to it, and measures it.

PYTHONPATH=src:. PELLUCID_TEST_DATA=folder python scripts/synthesis_style.py --output painter.safetensors

Features are those of SqueezeNet 1.0 trained on ImageNet (tests/real.py). A training that was stopped goes on from where
it was. Then the network paints a photograph that it was not trained on, in its first styles, between them, and in one
that was added to it by gains and biases alone; and it is timed beside `style_transfer` on the same image, in turns.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from synthesis_figures import FOLDER, photo
from torch import Tensor

import pellucid
from pellucid.display.figures import grid
from pellucid.synthesis import StyleNetwork, content, train_style
from pellucid.synthesis import style as in_style

PHOTOS = (
    "coffee.png", "chelsea.png", "rocket.jpg", "china.jpg", "motorcycle_left.png", "camera.png", "coins.png",
    "hubble_deep_field.jpg",
)  # fmt: skip


# Johnson, Alahi & Fei-Fei 2016 compare content earlier in the network than Gatys et al. did: at a fourth of the size.
CONTENT, STYLE_WEIGHT = "features.5", 5.0


def glass(side: int, panes: int = 70) -> Tensor:
    """Stained glass: the cells of random points in a few colors, with dark lead between."""
    draw = torch.Generator().manual_seed(1)
    points = torch.rand(panes, 2, generator=draw) * side
    paints = torch.tensor([
        [0.84, 0.16, 0.13], [0.95, 0.66, 0.12], [0.13, 0.33, 0.64], [0.20, 0.55, 0.36], [0.93, 0.88, 0.74],
        [0.45, 0.16, 0.42],
    ])  # fmt: skip
    colors = paints[torch.randint(len(paints), (panes,), generator=draw)]
    colors = colors * (0.8 + 0.3 * torch.rand(panes, 1, generator=draw))
    line = torch.arange(side) + 0.5
    places = torch.stack(torch.meshgrid(line, line, indexing="ij"), -1).view(-1, 2)
    near, which = torch.cdist(places, points).topk(2, 1, largest=False)
    apart = (points[which[:, 0]] - points[which[:, 1]]).norm(dim=1)
    edge = (near[:, 1].square() - near[:, 0].square()) / (2 * apart)  # how far it is to the border of the cell
    lead = (edge - 0.7).clamp(0, 1)[:, None]
    drawn: Tensor = (colors[which[:, 0]] * lead + 0.05 * (1 - lead)).clamp(0, 1).T.reshape(1, 3, side, side)
    return drawn


def photos(side: int) -> Tensor:
    """Each cut at twenty places: of few photos a network learns no more than how to paint these few."""
    cuts = [photo(name, side, side, left=left, top=top, zoom=zoom) for name in PHOTOS
            for zoom, top in ((1.0, 0.5), (1.3, 0.2), (1.6, 0.7), (2.0, 0.1), (2.5, 0.6))
            for left in (0.0, 0.3, 0.7, 1.0)]  # fmt: skip
    return torch.cat(cuts)


def loss(model: Any, made: Tensor, image: Tensor, one: Tensor, across: Sequence[str]) -> float:
    """What training and `style_transfer` minimize, without the total variation."""
    goal = content(CONTENT, image) + STYLE_WEIGHT * in_style(across, one)
    bound = goal.bind(model, 1)
    with torch.no_grad():
        return -float(bound(pellucid.run(model, made, read=bound.reads, to_output=False)))


def main() -> None:
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    parser.add_argument("--output", type=Path, required=True, help="where the network goes")
    parser.add_argument("--steps", type=int, default=8000, help="of the first two styles")
    parser.add_argument("--third", type=int, default=600, help="steps of the style that is added")
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--blocks", type=int, default=4)
    parser.add_argument("--size", type=int, default=96, help="side of the squares that it learns from")
    parser.add_argument("--side", type=int, default=192, help="of the image that is painted")
    parser.add_argument("--rounds", type=int, default=3, help="of both, to compare; 0 only paints")
    parser.add_argument("--variation", type=float, default=0.03, help="against grain, as for `style_transfer`")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = importlib.import_module("tests.real").squeezenet()
    styles = {"glass": glass(160), "ihc": photo("ihc.png", 160, 160)}
    third = {"flower": photo("flower.jpg", 160, 160, zoom=2.2, left=0.45)}
    given = photos(options.size + 16)
    shared: dict[str, Any] = {
        "size": options.size, "batch": 2, "step": 1e-3, "every": 50, "content_layers": CONTENT,
        "style_weight": STYLE_WEIGHT, "variation": options.variation,
    }  # fmt: skip
    start = time.perf_counter()
    first = train_style(
        model, given, styles, steps=options.steps, width=options.width, blocks=options.blocks,
        checkpoint=options.output.with_suffix(".checkpoint.safetensors"), **shared,
    )  # fmt: skip
    print(f"trained on {len(given)} cuts of {len(PHOTOS)} photos in {time.perf_counter() - start:.0f} s", flush=True)
    network = train_style(
        model, given, third, begin=first, steps=options.third,
        checkpoint=options.output.with_suffix(".third.safetensors"), **shared | {"step": 1e-2},
    )  # fmt: skip
    network.save(options.output)
    print(f"{sum(p.numel() for p in network.parameters()):,} weights, {options.output.stat().st_size:,} bytes")
    show(model, network, {**styles, **third}, options)


def show(model: Any, network: StyleNetwork, styles: dict[str, Tensor], options: argparse.Namespace) -> None:
    """A photo that the network was not trained on: painted, compared, timed."""
    from pellucid.synthesis.ascent.layers_by_scale import style_layers

    image = photo("astronaut.png", options.side, options.side, top=0.0, left=0.4, zoom=1.5)
    # As large as the network saw them, for a style is one of a scale.
    styles = {
        name: torch.nn.functional.interpolate(one, options.size, mode="bilinear", align_corners=False, antialias=True)
        for name, one in styles.items()
    }
    across = style_layers(model, image)
    first, second, third = styles
    painted = {name: network.paint(image, name) for name in styles}
    blended = network.paint(image, [0.5, 0.5, 0.0])
    goal: dict[str, Any] = {
        "content_layers": CONTENT, "style_weight": STYLE_WEIGHT, "variation": options.variation,
        "style_size": options.size,
    }  # fmt: skip
    slow, fast = [], []
    found = None
    for _ in range(options.rounds):
        start = time.process_time()
        found = pellucid.style_transfer(model, image, styles[first], **goal).images
        slow.append(time.process_time() - start)
        start = time.process_time()
        network.paint(image, first)
        fast.append(time.process_time() - start)
        print(
            f"  optimized {slow[-1]:.2f} s, in one pass {fast[-1]:.4f} s, {slow[-1] / fast[-1]:.0f} times", flush=True
        )
    if slow:
        ratio = statistics.median(a / b for a, b in zip(slow, fast, strict=True))
        print(f"one pass is {ratio:.0f} times faster than {200} steps of L-BFGS at {options.side} x {options.side}")
    for name, one in styles.items():
        before, after = (loss(model, x, image, one, across) for x in (image, painted[name]))
        print(f"loss in the style of {name}: photo {before:.3f}, painted {after:.3f}", flush=True)
    if found is not None:
        print(f"loss in the style of {first}: optimized {loss(model, found, image, styles[first], across):.3f}")
    optimized = image if found is None else found
    made = {
        "the photo": image, **{f"style: {name}": one for name, one in styles.items()},
        f"{first}, optimized": optimized, first: painted[first], second: painted[second],
        f"{third}, added later": painted[third],
        f"{first} and {second}": blended,
    }  # fmt: skip
    figure = grid([one[0] for one in made.values()], list(made), columns=5, inches=1.6)
    FOLDER.mkdir(exist_ok=True)
    figure.savefig(FOLDER / "style_network.jpg", dpi=100, pil_kwargs={"quality": 82})


if __name__ == "__main__":
    main()
