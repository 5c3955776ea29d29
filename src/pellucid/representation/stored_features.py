"""Vectors of layers from a run folder alone, without the network that made them."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from .. import runfolder
from ..files.images import read_image
from ..methods.result import Call
from .sweeps.features_result import Features
from .sweeps.stored_arrays import Stored, rows_of

VECTORS = "vectors."
SEEN = 128  # pixels of the shorter side of its images: they are looked at as thumbnails


def stored_features(folder: str | Path) -> Features:
    """The vectors that `features(..., folder=...)` has kept, without the network.

    Layers are called as in the folder, where names have letters, digits and _ . - alone.

    Args:
        folder: a finished run folder.

    Returns:
        `Features`; the images are those of the files, as long as these are there.

    Raises:
        FileNotFoundError: there is no such folder, or it is no run folder.
        ValueError: it has no vectors, or is not finished.

    >>> import pellucid, tempfile
    >>> model, scenes = pellucid.load("shapes"), pellucid.shapes.scenes(4)
    >>> place = tempfile.mkdtemp() + "/run"
    >>> made = pellucid.features(model, scenes.images, "pool", folder=place)
    >>> bool((stored_features(place)["pool"].values == made.values).all())
    True
    """
    run = runfolder.read(folder)
    layers = [name.removeprefix(VECTORS) for name in runfolder.arrays(run) if name.startswith(VECTORS)]
    if not layers:
        raise ValueError(f"{run.path} holds no vectors of layers: another verb than features has written it")
    waiting = runfolder.pending(run)
    if waiting:
        raise ValueError(
            f"{run.path} is not finished, {len(waiting)} of {run.chunks} chunks are missing: run it again to go on"
        )
    rows, model = rows_of(run), run.manifest["model"]
    good = [row for row in rows if not row["problem"]]
    predicted = [-1 if row["prediction"] is None else int(row["prediction"]) for row in good]
    said = {row["prediction"]: row["predicted"] for row in good if row.get("predicted")}
    names = [said.get(index, str(index)) for index in range(max(predicted, default=-1) + 1)]
    words = sorted({row["label"] for row in good} - {None, *names})
    known = {name: index for index, name in reversed(list(enumerate([*names, *words])))}
    of_files = not run.manifest["options"].get("images")
    files = tuple(row["file"] for row in good) if of_files else ()

    def look(number: int) -> Tensor:
        return read_image(files[number], resize=SEEN)

    return Features(
        arrays=Stored(run, [row["item"] for row in good], {VECTORS + layer: layer for layer in layers}),
        names=tuple(row["name"] for row in good),
        files=files,
        labels=torch.tensor([-1 if row["label"] is None else known[row["label"]] for row in good]),
        predictions=torch.tensor(predicted),
        scores=torch.tensor([float("nan") if row["score"] is None else row["score"] for row in good]),
        classes=(*names, *words),
        folder=run.path,
        failures=tuple((row["name"], row["problem"]) for row in rows if row["problem"]),
        look=look if of_files else None,
        call=Call("features", {}, ", ".join(layers), model.get("name") or model["kind"], "", 0, 0, 0),
    )
