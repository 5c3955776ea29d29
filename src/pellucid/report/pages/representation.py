"""Pages of what layers hold for many images: vectors, neighbors, patches, filters and activations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from ...model.batches import progress
from ...model.classifier import Classifier
from ...objectives import channel
from ...representation import Activations, Features, Filters, Neighbors, Patches
from ...representation.sweeps.contact_sheet import montage
from ...synthesis import maximize
from .. import Plate, gallery
from ..gallery import MOST_PLATES

CELL = 120  # pixels of one of several pictures in a tile
LARGE = 2400  # the longer side of a picture to zoom into


def features_page(path: str | Path, model: Classifier, found: Features, *, title: str = "", command: str = "") -> Path:
    """A page of vectors: a picture for each layer, and how the true classes are predicted.

    Raises:
        OSError: if the file cannot be written.
    """
    shapes = {layer: found[layer].shape[1] for layer in found.layers}
    plates = [
        Plate(layer, [("", found[layer].figure())], f"{size} numbers for each image", call=found.call)
        for layer, size in shapes.items()
    ]
    facts = {"Images": str(len(found)), "Layers": ", ".join(found.layers)}
    known = found.labels >= 0
    if bool(known.any()) and bool((found.predictions >= 0).any()):
        right = (found.labels == found.predictions)[known].double().mean()
        facts["Correctly classified"] = f"{right:.1%} of {int(known.sum())} whose class is known"
    if found.folder is not None:
        facts["Run folder"] = str(found.folder)
    return gallery(
        path, plates, title=title or f"What {model.name} holds of {len(found)} images", model=model, facts=facts,
        table=_classes(found), failures=found.failures, command=command, size=LARGE,
    )  # fmt: skip


def neighbors_page(
    path: str | Path,
    model: Classifier,
    near: Neighbors,
    *,
    beside: Neighbors | None = None,
    title: str = "",
    command: str = "",
) -> Path:
    """A page of queries with the images nearest to them, as a layer sees them, and as their pixels are.

    Raises:
        ValueError: if the images are not known.
        OSError: if the file cannot be written.
    """
    found = near.features
    if found is None:
        raise ValueError("the images of these points are not known: ask with Features instead of bare numbers")
    space = found.layers[0]
    plates = []
    for row in range(min(len(near.indices), MOST_PLATES)):
        tiles = near.tiles(row, beside)
        k = near.indices.shape[1]
        query = int(near.queries[row])
        name = found.names[query] if query >= 0 else near.asked.names[row] if near.asked is not None else str(row)
        shown = [(f"query: {tiles[0][1]}", montage([tiles[0][2]], cell=2 * CELL))]
        groups = [(space, tiles[1 : 1 + k])] + ([("pixels", tiles[1 + k :])] if beside is not None else [])
        for by, group in groups:
            words = "; ".join(note for _, note, _ in group)
            shown.append((f"nearest by {by}: {words}", montage([image for _, _, image in group], cell=CELL)))
        plates.append(Plate(name, shown))
    facts = {"Images": str(len(found)), "Layer": space, "Distance": near.metric}
    if bool((found.labels >= 0).any()):
        facts["Of the query's class"] = f"{near.agreement():.1%} of the neighbors by {space}"
        if beside is not None:
            facts["Of the query's class"] += f", {beside.agreement():.1%} by pixels"
    return gallery(
        path, plates, title=title or f"What {model.name} takes for alike", model=model, facts=facts,
        failures=found.failures, command=command, size=LARGE,
    )  # fmt: skip


def patches_page(
    path: str | Path,
    model: Classifier,
    found: Patches,
    *,
    steps: int = 0,
    seed: int = 0,
    title: str = "",
    command: str = "",
) -> Path:
    """A page of a layer: each channel with the patches that excite it most, beside the image that it wants to see.

    Args:
        path: the file.
        model: whose channels. found: their patches.
        steps: of the synthesis of an image for each channel; 0 leaves it out.
        seed: of the synthesis.
        title, command: for the page.

    Raises:
        OSError: if the file cannot be written.
    """
    rows = range(min(len(found.channels), MOST_PLATES))
    plates = []
    with progress(len(rows), "channels", "channel") as advance:
        for row in rows:
            number = found.channels[row]
            patches = found.tiles(row)
            values = ", ".join(value for value, _ in patches)
            tiles = [(f"{found.by} {values}", montage([picture for _, picture in patches], cell=CELL))]
            if steps:
                made = maximize(model, channel(found.layer, number), steps=steps, seed=seed)
                said = (
                    "no gradient was found: noise" if bool(made.zero_gradient.any()) else f"{float(made.values[0]):.3g}"
                )
                tiles.append((f"synthesized: the channel's mean is {said}", montage([made.tiles()], cell=3 * CELL)))
            names = dict.fromkeys(found.names[i] for i in found.image_indices[row].tolist())
            state = "" if bool(found.active[row]) else "never active"
            plates.append(Plate(f"channel {number}", tiles, state, {"images": ", ".join(names)}))
            advance(1)
    table = [["channel", "strongest", "weakest shown", "images"]]
    table += [
        [str(number), f"{float(values[0]):.4g}", f"{float(values[-1]):.4g}", str(len(set(numbers.tolist())))]
        for number, values, numbers in zip(found.channels, found.values, found.image_indices, strict=True)
    ]
    of = f" for {found.call.objective}" if found.by == "relevance" and found.call is not None else ""
    facts = {"Images": str(len(found.names)), "Layer": found.layer, "Channels": str(len(found.channels)),
             "Ranked by": f"{found.by}{of}"}  # fmt: skip
    if found.fields is not None:
        sides = (found.fields.boxes[..., 2:] - found.fields.boxes[..., :2]).flatten(0, 1).amax(0).tolist()
        facts["A place sees"] = f"{sides[0]} x {sides[1]} pixels"
    if found.call is not None and plates:
        plates[0] = Plate(plates[0].title, plates[0].tiles, plates[0].verdict, plates[0].facts, found.call)
    return gallery(
        path, plates, title=title or f"What excites {found.layer} of {model.name}", model=model, facts=facts,
        table=table, failures=found.failures, command=command, size=LARGE,
    )  # fmt: skip


def activations_page(
    path: str | Path,
    model: Classifier,
    found: Sequence[Activations],
    weights: Sequence[Filters] = (),
    *,
    title: str = "",
    command: str = "",
) -> Path:
    """A page of layers: their filters, and all their channels for each image, to zoom into.

    Raises:
        OSError: if the file cannot be written.
    """
    plates = [Plate(f"{one.layer}: filters", [(_of(one), one.sheet())]) for one in weights]
    for one in found:
        for number, image in enumerate(one.images):
            said = f"{one.layer}: {one.values.shape[1]} channels"
            tiles = [("", image.detach().cpu())]
            grid = one.sheet(number) if one.values.ndim == 4 else one.figure()
            plates.append(Plate(said, [*tiles, ("each on its own scale", grid)], call=one.call))
    facts = {"Layers": ", ".join(dict.fromkeys([one.layer for one in weights] + [one.layer for one in found]))}
    return gallery(
        path, plates, title=title or f"Inside {model.name}", model=model, facts=facts, command=command, size=LARGE
    )


def _of(weights: Filters) -> str:
    outs, ins, height, width = weights.values.shape
    if weights.color or ins == 1:
        return f"{outs} filters of {height} x {width}; gray is zero, each has its own scale"
    return f"a row for each output channel, a column for each input channel, {outs} x {ins}; gray is zero"


def _classes(found: Features) -> list[list[str]]:
    """For each true class how many images there are, and how many of them are predicted correctly."""
    rows = []
    for index in found.labels.unique().tolist():
        mine = found.labels == index
        right = int((found.predictions[mine] == index).sum()) if index >= 0 else 0
        score = found.scores[mine]
        mean = float(score[~score.isnan()].mean()) if bool((~score.isnan()).any()) else float("nan")
        name = found.classes[index] if index >= 0 else "not known"
        share = f"{right} of {int(mine.sum())}" if index >= 0 else ""
        rows.append([name, str(int(mine.sum())), share, "" if torch.tensor(mean).isnan() else f"{mean:.1%}"])
    return (
        [["true class", "images", "correctly classified", "mean probability of the prediction"], *rows] if rows else []
    )
