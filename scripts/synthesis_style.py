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
from pathlib import Path
from typing import Any

import torch
from synthesis_figures import FOLDER, photo
from torch import Tensor

import pellucid
from pellucid.pictures import grid
from pellucid.synthesis import StyleNetwork, content, train_style
from pellucid.synthesis import style as in_style

PHOTOS = (
    "coffee.png", "chelsea.png", "rocket.jpg", "china.jpg", "motorcycle_left.png", "camera.png", "coins.png",
    "hubble_deep_field.jpg",
)  # fmt: skip


def photos(side: int) -> Tensor:
    """Each cut at three places."""
    cuts = [photo(name, side, side, left=left, top=0.4, zoom=zoom) for name in PHOTOS
            for left, zoom in ((0.0, 1.3), (0.5, 1.0), (1.0, 1.6))]  # fmt: skip
    return torch.cat(cuts)


def loss(model: Any, made: Tensor, image: Tensor, one: Tensor, names: tuple[str, tuple[str, ...]], side: int) -> float:
    """What `style_transfer` minimises, without the total variation."""
    inside, across = names
    goal = content(inside, image) + 10.0 * in_style(across, torch.nn.functional.interpolate(one, side))
    bound = goal.bind(model, 1)
    with torch.no_grad():
        return -float(bound(pellucid.run(model, made, read=bound.reads, output=False)))


def main() -> None:
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    parser.add_argument("--output", type=Path, required=True, help="where the network goes")
    parser.add_argument("--steps", type=int, default=1200, help="of the first two styles")
    parser.add_argument("--third", type=int, default=600, help="steps of the style that is added")
    parser.add_argument("--width", type=int, default=12)
    parser.add_argument("--blocks", type=int, default=3)
    parser.add_argument("--size", type=int, default=96, help="side of the squares that it learns from")
    parser.add_argument("--side", type=int, default=192, help="of the image that is painted")
    parser.add_argument("--rounds", type=int, default=3, help="of both, to compare; 0 only paints")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = importlib.import_module("tests.real").squeezenet()
    styles = {"ihc": photo("ihc.png", 160, 160), "flower": photo("flower.jpg", 160, 160)}
    third = {"retina": photo("retina.jpg", 160, 160, zoom=1.3)}
    given = photos(options.size + 16)
    shared: dict[str, Any] = {"size": options.size, "batch": 2, "step": 2e-3, "every": 50}
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
    from pellucid.synthesis.spread import content_layer, style_layers

    image = photo("astronaut.png", options.side, options.side, top=0.0, left=0.4, zoom=1.5)
    names = content_layer(model, image), style_layers(model, image)
    painted = {name: network.paint(image, name) for name in styles}
    blended = network.paint(image, [0.5, 0.5, 0.0])
    slow, fast = [], []
    found = None
    for _ in range(options.rounds):
        start = time.process_time()
        found = pellucid.style_transfer(model, image, styles["ihc"]).images
        slow.append(time.process_time() - start)
        start = time.process_time()
        network.paint(image, "ihc")
        fast.append(time.process_time() - start)
        print(
            f"  optimised {slow[-1]:.2f} s, in one pass {fast[-1]:.4f} s, {slow[-1] / fast[-1]:.0f} times", flush=True
        )
    if slow:
        ratio = statistics.median(a / b for a, b in zip(slow, fast, strict=True))
        print(f"one pass is {ratio:.0f} times faster than {200} steps of L-BFGS at {options.side} x {options.side}")
    for name, one in styles.items():
        before, after = (loss(model, x, image, one, names, options.side) for x in (image, painted[name]))
        print(f"loss in the style of {name}: photo {before:.3f}, painted {after:.3f}", flush=True)
    made = [("the photo", image), *((f"style: {name}", one) for name, one in styles.items()),
            ("half ihc, half flower", blended), *painted.items()]  # fmt: skip
    if found is not None:
        print(
            f"loss in the style of ihc, optimised: {loss(model, found, image, styles['ihc'], names, options.side):.3f}"
        )
        made.append(("ihc, optimised", found))
    figure = grid([one[0] for _, one in made], [name for name, _ in made], columns=4, inches=1.7)
    FOLDER.mkdir(exist_ok=True)
    figure.savefig(FOLDER / "style_network.jpg", dpi=100, pil_kwargs={"quality": 82})


if __name__ == "__main__":
    main()
