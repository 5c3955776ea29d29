"""The demo: every method on scenes whose truth is known exactly."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from .. import runfolder, shapes
from ..files.images import write_image
from ..methods.registry import of_kind
from ..runfolder import RunFolder
from ..zoo import load
from .explain.job import DEFAULTS, Explained, explain

PLAIN, CANDIDATES, FADED = 3, 24, 0.6
OPTIONS = {"rise": {"samples": 200}}


def demo(
    output: str | Path,
    *,
    seed: int = 0,
    command: str = "",
    on_message: Callable[[str], object] | None = None,
) -> Explained:
    """Explain scenes with all methods, and score each map by how much of it lies on the object.

    The scenes are three with one object, one with two, and one whose main object is so faded that the network
    takes the scene for the smaller one. They are kept as pictures beside the page.

    Args:
        output: the page.
        seed: of the scenes and the methods.
        command: shown on the page.
        on_message: as for `explain`.

    Raises:
        OSError: if the page cannot be written.
    """
    output = Path(output)
    folder = output.with_name(f"{output.stem}.scenes")
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("[1-9]-*.png"):
        old.unlink()
    model = load("shapes")
    truth: dict[str, str | int] = {}
    masks: dict[str, Tensor] = {}

    def keep(name: str, scene: shapes.Scenes, i: int) -> None:
        file = folder / f"{len(truth) + 1}-{name}.png"
        write_image(scene.images[i], file)
        truth[file.name] = int(scene.labels[i])
        masks[str(file)] = scene.masks[i]

    plain = shapes.scenes(PLAIN, seed=seed)
    for i in range(PLAIN):
        keep(shapes.CLASSES[int(plain.labels[i])], plain, i)
    for kind, many in (("and", shapes.scenes(CANDIDATES, seed=seed, objects=2)), ("taken-for", _faded(seed))):
        found = model.predict(many.images, k=1).classes[:, 0].to(many.labels.device)
        wanted = many.labels if kind == "and" else many.object_labels[:, 1]
        places = (found == wanted).nonzero().flatten()
        if len(places):
            i = int(places[-1])  # the first ones are on the page already
            first, second = (shapes.CLASSES[k] for k in many.object_labels[i].tolist())
            keep(f"{first}-{kind}-{second}", many, i)
    known = sorted(of_kind("attribution"))
    names = [name for name in DEFAULTS if name in known]
    names += [name for name in known if name not in names]
    return explain(
        model,
        list(masks),
        output=output,
        methods=names,
        options={name: options for name, options in OPTIONS.items() if name in names},
        seed=seed,
        labels=truth,
        masks=masks,
        title="Every method of pellucid on scenes whose truth is known",
        command=command,
        overwrite=True,
        on_message=on_message,
    )


def _faded(seed: int) -> shapes.Scenes:
    """Scenes of two objects whose main one is faded, so that the network may overlook it for the other."""
    plain = shapes.scenes(CANDIDATES, seed=seed, objects=2)
    behind = plain.images.mean((2, 3), keepdim=True)
    faded = plain.images + FADED * plain.masks * (behind - plain.images)
    return dataclasses.replace(plain, images=faded)


def means(folder: RunFolder) -> dict[str, dict[str, float]]:
    """The mean of each score over the images of a run folder, by method and by name of the score.

    Only the maps of the predicted class are counted.
    """
    values: dict[str, dict[str, list[float]]] = {}
    for row in runfolder.each_row(folder):
        for made in row["maps"]:
            if made["problem"] or made["name"] != made["method"]:
                continue
            for score in made["scores"]:
                if math.isfinite(score["value"]):
                    values.setdefault(made["method"], {}).setdefault(score["name"], []).append(score["value"])
    return {
        method: {name: float(torch.tensor(scored).mean()) for name, scored in scores.items()}
        for method, scores in values.items()
    }
