"""Draws the pictures of docs/synthesis.md.

PYTHONPATH=src:. PELLUCID_TEST_DATA=folder python scripts/synthesis_figures.py                 all of them
PYTHONPATH=src:. PELLUCID_TEST_DATA=folder python scripts/synthesis_figures.py classes dream    some

The networks are those of tests/real.py: SqueezeNet 1.0 trained on ImageNet (its weights are under BSD-2) and a small
one trained on MNIST. Photographs are those that scikit-learn and scikit-image ship. On two cores all take about half
an hour.
"""

from __future__ import annotations

import argparse
import importlib
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

import pellucid
from pellucid.images import read_image
from pellucid.pictures import displayable, grid
from pellucid.synthesis import (
    CPPN,
    FixedMagnitude,
    Fourier,
    Generator,
    Pixels,
    Sigmoid,
    Synthesis,
    blur,
    clip_small_gradients,
    clip_small_pixels,
    jitter,
    l2,
    quilt,
    rotate,
    scale,
    standardise,
    total_variation,
)

FOLDER = Path(__file__).parents[1] / "docs" / "synthesis"
CLASSES = ("goldfish", "castle", "zebra")


@cache
def squeezenet() -> Any:
    return importlib.import_module("tests.real").squeezenet()


@cache
def mnist(sigmoid: bool) -> Any:
    return importlib.import_module("tests.real").mnist_cnn(sigmoid=sigmoid)


def photo(name: str, height: int, width: int, *, top: float = 0.5, left: float = 0.5, zoom: float = 1.0) -> Tensor:
    """1 x 3 x height x width of a picture of scikit-image or scikit-learn, cut where it is said."""
    library = "sklearn.datasets" if name in ("china.jpg", "flower.jpg") else "skimage.data"
    folder = Path(str(importlib.import_module(library).__file__)).parent
    image = read_image(folder / ("images" if "sklearn" in library else "") / name)[None]
    factor = max(height / image.shape[2], width / image.shape[3]) * zoom
    sides = [max(n, round(side * factor)) for n, side in zip((height, width), image.shape[2:], strict=True)]
    image = F.interpolate(image, sides, mode="bicubic", antialias=True).clamp(0, 1)
    y, x = round((sides[0] - height) * top), round((sides[1] - width) * left)
    return image[:, :, y : y + height, x : x + width]


def classes() -> None:
    """What a network takes for goldfish, castle and zebra, with nothing but the defaults."""
    model = squeezenet()
    found = pellucid.maximize(model, CLASSES, size=224)
    sure = model.predict(found.images, k=1).probabilities[:, 0].tolist()
    sheet("classes", found.images, CLASSES, [f"p = {p:.3f}" for p in sure], inches=2.6)


def regularisers() -> None:
    """The same two classes with and without each of the things that keep an ascent from grain."""
    model, names, side = squeezenet(), ("goldfish", "castle"), 112
    turns = (scale(0.12), rotate(12), jitter(11))
    plain: dict[str, Any] = {"parametrisation": Pixels(), "edits": ()}
    ways: dict[str, dict[str, Any]] = {
        "pixels alone": plain,
        "+ l2": plain | {"penalties": l2(0.003)},
        "+ total variation": plain | {"penalties": total_variation(0.03)},
        "+ blur every 4": plain | {"edits": blur(0.7, every=4)},
        "+ small pixels clipped": plain | {"edits": clip_small_pixels(30, every=4)},
        "+ small gradients clipped": plain | {"edits": clip_small_gradients(60)},
        "+ jitter": plain | {"edits": jitter(11)},
        "+ scale, turn, jitter": plain | {"edits": turns},
        "all of Yosinski 2015": plain | {"edits": (blur(0.7, every=4), clip_small_pixels(30, every=4)),
                                         "penalties": l2(0.001)},
        "sigmoid": plain | {"parametrisation": Sigmoid()},
        "frequencies": {"edits": ()},
        "frequencies, no colours apart": {"edits": (), "parametrisation": Fourier(decorrelate=False)},
        "default": {},
        "fixed magnitude": {"parametrisation": FixedMagnitude(), "steps": 128},
        "CPPN": {"parametrisation": CPPN(), "steps": 128},
    }  # fmt: skip
    made: dict[str, Tensor] = {}
    for name, options in ways.items():
        made[name] = pellucid.maximize(model, names, size=side, **{"steps": 80} | options).images
        print(f"  {name}", flush=True)
    columns = 5
    images, titles = [], []
    for first in range(0, len(made), columns):
        some = list(made.items())[first : first + columns]
        for row in range(len(names)):
            images += [one[row] for _, one in some]
            titles += [name if row == 0 else "" for name, _ in some]
    sheet("regularisers", images, titles, columns=columns, inches=1.75)


def digits() -> None:
    """Every digit from ones and from noise, on the logit, its probability and the sigmoid, as the exercise climbs."""
    options: dict[str, Any] = {
        "size": 28, "parametrisation": Pixels(bounds=None, noise=1.0), "optimiser": "ascent",
        "edits": standardise(), "steps": 100,
    }  # fmt: skip
    every = list(range(10))
    net, bounded = mnist(False).net, mnist(True).net
    logs = [pellucid.log_probability(digit) for digit in every]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that some are dead: the picture says so
        found = {
            "logit,\nfrom ones": pellucid.maximize(net, every, start="ones", step=0.01, **options),
            "logit,\nfrom noise": pellucid.maximize(net, every, start="noise", step=0.01, **options),
            "log-prob.,\nfrom noise": pellucid.maximize(net, logs, start="noise", step=0.01, **options),
            "sigmoid,\nfrom ones": pellucid.maximize(bounded, every, start="ones", step=1.0, **options),
            "sigmoid,\nfrom noise": pellucid.maximize(bounded, every, start="noise", step=1.0, **options),
            "default": pellucid.maximize(mnist(False), every, steps=100),
        }
    strips("digits", found, [str(digit) for digit in every])


def channels() -> None:
    """Channels of three depths."""
    model = squeezenet()
    layers = ("features.3", "features.7", "features.12")
    wanted = [pellucid.channel(layer, index) for layer in layers for index in (3, 40, 77, 101, 120)]
    found = pellucid.maximize(model, wanted, size=128, steps=96)
    sheet("channels", found.images, [f"{t.reads and next(iter(t.reads))}" for t in wanted], columns=5, inches=1.5)


def inversion() -> None:
    """What every layer of a network keeps of a cat."""
    model, image = squeezenet(), photo("chelsea.png", 112, 112, left=0.45)
    layers = [*(f"features.{n}" for n in range(13)), "classifier.1"]
    found = pellucid.invert(model, image, layers, steps=80)
    assert found.error is not None
    notes = ["", *(f"error {e:.2f}" for e in found.error.tolist())]
    sheet("inversion", [image[0], *found.images], ["the photo", *layers], notes, columns=5, inches=1.4)


def dream() -> None:
    """A photograph, two dreams of it, and one guided by another photograph."""
    model, image = squeezenet(), photo("china.jpg", 160, 240)
    guide = photo("flower.jpg", 160, 160, zoom=1.2)
    images = [
        image,
        pellucid.dream(model, image, pellucid.layer("features.5")).images,
        pellucid.dream(model, image, pellucid.layer("features.9")).images,
        pellucid.dream(model, image, "features.9", guide=guide).images,
    ]
    names = ["the photo", 'layer("features.5")', 'layer("features.9")', "guided by a flower"]
    sheet("dream", torch.cat(images), names, columns=2, inches=2.9)


def texture() -> None:
    """Samples, what statistics of features make of them, and what quilting does."""
    model = squeezenet()
    samples = {
        "gravel": photo("gravel.png", 96, 96, zoom=1.6),
        "ihc": photo("ihc.png", 96, 96, zoom=1.6),
    }
    images, titles = [], []
    for name, sample in samples.items():
        made = pellucid.texture(model, sample, size=128, steps=150).images
        other = quilt(sample[:, :, :64, :64], size=96, window=11).images
        images += [displayable(_enlarged(one, 128))[0] for one in (sample, made, other)]
        titles += [name, "texture", "quilt"]
        print(f"  {name}", flush=True)
    sheet("texture", images, titles, columns=3, inches=1.8)


def style() -> None:
    """A photograph in the styles of others."""
    model, image = squeezenet(), photo("astronaut.png", 144, 144, top=0.0, left=0.4, zoom=1.5)
    styles = {"ihc": photo("ihc.png", 144, 144), "flower": photo("flower.jpg", 144, 144)}  # fmt: skip
    images, titles = [image[0]], ["the photo"]
    for name, one in styles.items():
        images += [one[0], pellucid.style_transfer(model, image, one, steps=100).images[0]]
        titles += [name, f"in the style of {name}"]
        print(f"  {name}", flush=True)
    images.append(pellucid.style_transfer(model, image, styles["ihc"], keep_colours=True, steps=100).images[0])
    sheet("style", images, [*titles, "ihc, colours kept"], columns=3, inches=1.9)


def generator() -> None:
    """The classes of the shapes network in pixels, in frequencies, and over the codes of a generator."""
    model = pellucid.load("shapes")
    names = list(pellucid.shapes.CLASSES)
    codes = Generator(pellucid.shapes.generator(), bounds=(-2.5, 2.5))
    best: Synthesis | None = None
    for seed in range(6):  # codes have local summits: the best of six starts
        one = pellucid.maximize(
            model, names, parametrisation=codes, penalties=l2(0.02, on="code"), edits=(), step=0.2, steps=60, seed=seed
        )
        if best is not None:
            better = one.values > best.values
            images = torch.where(better[:, None, None, None], one.images, best.images)
            one = replace(best, images=images, values=torch.maximum(one.values, best.values))
        best = one
    assert best is not None
    found = {
        "pixels": pellucid.maximize(model, names, parametrisation=Pixels(), edits=(), steps=100),
        "default": pellucid.maximize(model, names, steps=100),
        "generator": best,
    }
    strips("generator", found, names)


def strips(name: str, found: Mapping[str, Synthesis], titles: Sequence[str], inches: float = 0.8) -> None:
    """A row for each way, with its name at the left and values below."""
    from matplotlib.figure import Figure

    columns = len(titles)
    figure = Figure(figsize=(inches * columns + 1, (inches + 0.22) * len(found) + 0.2), layout="constrained")
    axes = figure.subplots(len(found), columns, squeeze=False)
    for row, (label, result) in enumerate(found.items()):
        for column, image in enumerate(displayable(result.images)):
            axis = axes[row, column]
            axis.imshow(image.permute(1, 2, 0).numpy(), interpolation="nearest")
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
            gone = bool(result.dead[column])
            axis.set_xlabel("no gradient" if gone else f"{result.values[column]:.3g}", fontsize=6.5, labelpad=2)
            if row == 0:
                axis.set_title(titles[column], fontsize=8)
        axes[row, 0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=8)
    FOLDER.mkdir(exist_ok=True)
    figure.savefig(FOLDER / f"{name}.jpg", dpi=100, pil_kwargs={"quality": 85})


def _enlarged(images: Tensor, side: int) -> Tensor:
    """On a square of white, in the middle of it."""
    y, x = side - images.shape[2], side - images.shape[3]
    return F.pad(images, (x // 2, x - x // 2, y // 2, y - y // 2), value=1.0)


def sheet(
    name: str,
    images: Tensor | Sequence[Tensor],
    titles: Sequence[str],
    notes: Sequence[str] = (),
    *,
    columns: int = 4,
    inches: float = 2.0,
) -> None:
    figure = grid(list(images), titles, notes, columns=columns, inches=inches)
    FOLDER.mkdir(exist_ok=True)
    figure.savefig(FOLDER / f"{name}.jpg", dpi=100, pil_kwargs={"quality": 82})


FIGURES: dict[str, Callable[[], None]] = {
    one.__name__: one for one in (classes, digits, generator, channels, inversion, dream, style, texture, regularisers)
}


def main() -> None:
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    parser.add_argument("figures", nargs="*", choices=[*FIGURES, []], help="which; all by default")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with pellucid.settings(progress=False):
        for name in options.figures or FIGURES:
            start = time.perf_counter()
            FIGURES[name]()
            print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
