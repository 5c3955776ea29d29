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
from pellucid.display.figures import displayable, grid
from pellucid.files.images import read_image
from pellucid.synthesis import (
    CPPN,
    FixedMagnitude,
    Generator,
    Pixels,
    Synthesis,
    blur,
    clip_small_gradients,
    clip_small_pixels,
    jitter,
    l2,
    quilt,
    rotate,
    scale,
    standardize,
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


def regularizers() -> None:
    """A class and channels of three depths, with and without each thing that keeps an ascent from grain."""
    model = squeezenet()
    wanted = ["castle", "features.3:120", "features.7:77", "features.10:77"]
    plain: dict[str, Any] = {"parametrization": Pixels(), "edits": ()}
    blurred = (blur(0.8, every=4), clip_small_pixels(20, every=4))
    ways: dict[str, dict[str, Any]] = {
        "pixels\nalone": plain,
        "l2": plain | {"penalties": l2(0.15)},
        "total\nvariation": plain | {"penalties": total_variation(0.5)},
        "blur": plain | {"edits": blur(0.8, every=4), "step": 0.03},
        "small pixels\nclipped": plain | {"edits": clip_small_pixels(60, every=4)},
        "small gradients\nclipped": plain | {"edits": clip_small_gradients(90)},
        "all four of\nYosinski 2015": plain | {"edits": (*blurred, clip_small_gradients(50)), "penalties": l2(0.005),
                                               "step": 0.03},
        "jitter": plain | {"edits": jitter(11)},
        "scale, turn,\njitter": plain | {"edits": (scale(0.12), rotate(12), jitter(11))},
        "frequencies": {"edits": ()},
        "default": {},
        "fixed\nmagnitude": {"parametrization": FixedMagnitude(), "steps": 128},
        "CPPN": {"parametrization": CPPN(), "steps": 256},
    }  # fmt: skip
    found = {}
    for name, options in ways.items():
        found[name] = pellucid.maximize(model, wanted, size=96, **{"steps": 80} | options)
        print(f"  {' '.join(name.split())}: {found[name].values.tolist()}", flush=True)
    rows = [[(found[way].images[k], f"{found[way].values[k]:.3g}") for way in ways] for k in range(len(wanted))]
    strips("regularizers", dict(zip(wanted, rows, strict=True)), list(ways), inches=0.9, quality=72)


def digits() -> None:
    """Every digit from ones and from noise, on the logit, its probability and the sigmoid, as the exercise climbs."""
    options: dict[str, Any] = {
        "size": 28, "parametrization": Pixels(bounds=None, noise=1.0), "optimizer": "ascent",
        "edits": standardize(), "steps": 100,
    }  # fmt: skip
    every = list(range(10))
    net, bounded = mnist(False).net, mnist(True).net
    logs = [pellucid.log_probability(digit) for digit in every]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that some are dead: the picture says so
        found = {
            "logit,\nfrom ones": pellucid.maximize(net, every, start="ones", step_size=0.01, **options),
            "logit,\nfrom noise": pellucid.maximize(net, every, start="noise", step_size=0.01, **options),
            "log-prob.,\nfrom noise": pellucid.maximize(net, logs, start="noise", step_size=0.01, **options),
            "sigmoid,\nfrom ones": pellucid.maximize(bounded, every, start="ones", step_size=1.0, **options),
            "sigmoid,\nfrom noise": pellucid.maximize(bounded, every, start="noise", step_size=1.0, **options),
            "default": pellucid.maximize(mnist(False), every, steps=100),
        }
    strips("digits", {label: of(one) for label, one in found.items()}, [str(digit) for digit in every])


def channels() -> None:
    """Channels of three depths."""
    depths = {"features.3": (3, 64, 77, 101, 120), "features.7": (3, 77, 101, 120, 200),
              "features.12": (40, 77, 101, 120, 300)}  # fmt: skip
    wanted = [f"{layer}:{index}" for layer, some in depths.items() for index in some]
    found = pellucid.maximize(squeezenet(), wanted, size=128, steps=96)
    sheet("channels", found.images, wanted, columns=5, inches=1.5)


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
    guide = photo("chelsea.png", 160, 240)
    images = [
        image,
        pellucid.dream(model, image, pellucid.layer("features.5"), steps=5).images,
        pellucid.dream(model, image, pellucid.layer("features.9")).images,
        pellucid.dream(model, image, "features.9", guide=guide).images,
    ]
    names = ["the photo", 'layer("features.5")', 'layer("features.9")', "guided by a cat"]
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
        made = pellucid.texture(model, sample, size=128).images
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
    images.append(pellucid.style_transfer(model, image, styles["ihc"], keep_colors=True, steps=100).images[0])
    sheet("style", images, [*titles, "ihc, colors kept"], columns=3, inches=1.9)


def generator() -> None:
    """The classes of the shapes network in pixels, in frequencies, and over the codes of a generator."""
    model = pellucid.load("shapes")
    names = list(pellucid.shapes.CLASSES)
    codes = Generator(pellucid.shapes.generator(), bounds=(-2.5, 2.5))
    best: Synthesis | None = None
    for seed in range(6):  # codes have local summits: the best of six starts
        one = pellucid.maximize(
            model,
            names,
            parametrization=codes,
            penalties=l2(0.02, on="code"),
            transforms=(),
            step_size=0.2,
            steps=60,
            seed=seed,
        )
        if best is not None:
            better = one.values > best.values
            images = torch.where(better[:, None, None, None], one.images, best.images)
            one = replace(best, images=images, values=torch.maximum(one.values, best.values))
        best = one
    assert best is not None
    found = {
        "pixels": pellucid.maximize(model, names, parametrization=Pixels(), transforms=(), steps=100),
        "default": pellucid.maximize(model, names, steps=100),
        "generator": best,
    }
    strips("generator", {label: of(one) for label, one in found.items()}, names)


def of(result: Synthesis) -> list[tuple[Tensor, str]]:
    """Each image with what to say below it."""
    both = zip(result.values.tolist(), result.zero_gradient.tolist(), strict=True)
    notes = [f"{value:.1e}\nno gradient" if dead else f"{value:.3g}" for value, dead in both]
    return list(zip(result.images, notes, strict=True))


def strips(
    name: str,
    rows: Mapping[str, Sequence[tuple[Tensor, str]]],
    titles: Sequence[str],
    *,
    inches: float = 0.8,
    quality: int = 82,
) -> None:
    """Rows of images with names at the left and above, and a note below each."""
    from matplotlib.figure import Figure

    columns = len(titles)
    figure = Figure(figsize=(inches * columns + 1, (inches + 0.22) * len(rows) + 0.25), layout="constrained")
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for row, (label, tiles) in enumerate(rows.items()):
        for column, (image, note) in enumerate(tiles):
            axis = axes[row, column]
            axis.imshow(displayable(image[None])[0].permute(1, 2, 0).numpy(), interpolation="nearest")
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
            axis.set_xlabel(note, fontsize=6.5, labelpad=2)
            if row == 0:
                axis.set_title(titles[column], fontsize=8)
        axes[row, 0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=8)
    FOLDER.mkdir(exist_ok=True)
    figure.savefig(FOLDER / f"{name}.jpg", dpi=100, pil_kwargs={"quality": quality})


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
    one.__name__: one for one in (classes, digits, generator, channels, inversion, dream, style, texture, regularizers)
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
