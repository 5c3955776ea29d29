"""Relevance maps of a data set, small enough to keep: what an audit looks at, image by image."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ... import runfolder
from ...checks import UnknownName
from ...display.figures import displayable
from ...methods.registry import CATALOGUE
from ...model.batches import batched, progress
from ...model.classifier import Classifier
from ...model.run import Model, device_of, run
from ...representation.sweeps.image_source import Source
from ...representation.sweeps.sweep import by_size, forget_changed, images_in_chunk, read_ahead
from ...runfolder import DamagedChunk, RunFolder

THUMB = 96  # pixels of the longer side of the images that are kept to be shown
MOST_IN_CHUNK = 128

Say = Callable[[str], object]
Block = tuple[list[dict[str, Any]], list[Tensor | None], list[Tensor | None]]  # rows, maps, pictures


@dataclass(frozen=True, eq=False)
class MapPlan:
    """What maps are wanted: with the images, all that they depend on.

    model: a network or a `Classifier`. method, options: of the catalogue. size: rows and columns of a map.
    wanted: the classes that count, by index; all if it is empty.
    """

    model: Model
    method: str
    options: Mapping[str, Any]
    size: int
    wanted: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Maps:
    """What is kept of M images.

    maps: M x h x w, relevance summed over channels and averaged over windows. pictures: M x 3 x t x u, 8 bits.
    classes: M, whose relevance. predictions, scores: M. items: M, which images of the source they are.
    """

    maps: Tensor
    pictures: Tensor = field(repr=False)
    classes: Tensor
    predictions: Tensor
    scores: Tensor
    items: Tensor
    failures: tuple[tuple[str, str], ...] = ()


def map_rows(
    asked: MapPlan, images: Tensor, classes: Sequence[int | None]
) -> tuple[list[dict[str, Any]], Tensor, Tensor]:
    """Rows, small maps and small pictures of a batch: a pure function, which any engine may call on any batch.

    Args:
        asked: which maps. images: N x C x H x W.
        classes: whose relevance; None is the predicted class. Of classes that are not wanted there is none.

    Returns:
        For each image its class, prediction and score; maps N x h x w; pictures N x 3 x t x u, 8 bits. Rows, maps and
        pictures of images that are not wanted have the class -1 and zeros.

    Raises:
        ValueError: for a method that gives no map, and what the method refuses.
    """
    outputs: list[Tensor] = []

    def step(part: slice) -> None:
        output = run(asked.model, images[part]).output
        if not isinstance(output, Tensor) or output.ndim != 2:
            raise ValueError("the network does not return N x K, and an audit is about classes")
        outputs.append(output.float().cpu())

    with torch.no_grad():
        batched(step, len(images), like=images, label="predict", device=device_of(asked.model))
    probabilities = torch.cat(outputs).softmax(1)
    score, predicted = probabilities.max(1)
    chosen = torch.tensor([int(p) if c is None else c for c, p in zip(classes, predicted, strict=True)])
    here = torch.tensor([not asked.wanted or int(c) in asked.wanted for c in chosen], dtype=torch.bool)
    maps = averaged(torch.zeros(len(images), 1, *images.shape[2:]), asked.size)
    if here.any():
        function = CATALOGUE[asked.method].function
        values = function(asked.model, images[here], chosen[here], **asked.options).values
        if values.ndim != 4:
            raise ValueError(f"{asked.method} gives {tuple(values.shape[1:])} numbers an image, which is no map")
        maps[here] = averaged(values.detach().float(), asked.size).cpu()
    rows = [
        {"class": int(c) if h else -1, "prediction": int(p), "score": float(s)}
        for c, h, p, s in zip(chosen, here, predicted, score, strict=True)
    ]
    return rows, maps, small(images, squash=_any_size(asked.model))


def averaged(values: Tensor, size: int) -> Tensor:
    """Relevance, summed over channels and averaged down to size x size, or to half of its sides if that is less."""
    height, width = (min(size, -(-side // 2)) for side in values.shape[2:])
    return F.adaptive_avg_pool2d(values.sum(1, keepdim=True), (height, width))[:, 0]


def small(images: Tensor, squash: bool = False) -> Tensor:
    """Images as small pictures of 8 bits: N x 3 x t x u; square ones if images of several sizes are to fit together."""
    shown = displayable(images.cpu())
    height, width = shown.shape[2:]
    if squash or max(height, width) > THUMB:
        scale = THUMB / max(height, width)
        size = (THUMB, THUMB) if squash else (max(1, round(height * scale)), max(1, round(width * scale)))
        shown = F.interpolate(shown, size, mode="bilinear", antialias=True, align_corners=False)
    return (shown.clamp(0, 1) * 255).round().byte()


def class_index(model: Model, label: str | None) -> int | None:
    """The index of a class, None where it is not known, or is no class of the model."""
    if label is None:
        return None
    if isinstance(model, Classifier) and model.labels:
        try:
            return model.index(label)
        except UnknownName:
            return None
    return int(label) if label.isdecimal() else None


def maps_of(
    asked: MapPlan,
    source: Source,
    classes: Sequence[int | None],
    *,
    folder: str | Path | None = None,
    overwrite: bool = False,
    on_message: Say = lambda _: None,
) -> Maps:
    """The maps of many images, in memory that does not grow with their size; with a folder, kept as they come.

    Args:
        asked: which maps. source: of which images. classes: one for each, None for the predicted one.
        folder: a run folder; what is finished there is not done again.
        overwrite: throw away what it holds.
        on_message: called with a line of text for what is worth knowing.

    Raises:
        ValueError: if no image gives a map.
        OtherRun: the folder holds a run of another model, or with other files or options.
    """
    if folder is None:
        blocks = []
        with progress(len(source), "relevance") as advance:
            for members in _spans(source):
                rows, maps, pictures = _computed(asked, source, classes, members)
                _stop_if_all_failed(members, rows, len(source))
                blocks.append((rows, maps, pictures))
                advance(len(members))
        return gathered(blocks)
    options = {
        "method": asked.method,
        "options": dict(asked.options),
        "size": asked.size,
        "wanted": list(asked.wanted),
        "classes": runfolder.hash_of(list(classes)),
        "images": source.identity(),
    }
    with runfolder.begin(
        folder,
        verb="clever_hans",
        model=runfolder.describe_model(asked.model),
        items=source.items,
        options=options,
        seed=0,
        chunk=images_in_chunk(source, MOST_IN_CHUNK),
        overwrite=overwrite,
    ) as opened:
        forget_changed(opened, source, on_message)
        for _ in range(2):
            runfolder.finish(
                opened, lambda number: map_chunk(asked, source, classes, opened, number), "relevance", on_message
            )
            try:
                return gathered(_read(opened))
            except DamagedChunk as damage:
                runfolder.forget_damaged(opened, damage, on_message)
        return gathered(_read(opened))


def map_chunk(asked: MapPlan, source: Source, classes: Sequence[int | None], folder: RunFolder, number: int) -> None:
    """Compute the maps of one chunk of a run folder and write it; any engine may call this, in any order."""
    members = runfolder.span(folder, number)
    rows, maps, pictures = _computed(asked, source, classes, members)
    _stop_if_all_failed(members, rows, len(source))
    arrays = {"map": maps, "picture": pictures}
    runfolder.write_chunk(
        folder, number, rows, {n: [None if v is None else v.numpy() for v in a] for n, a in arrays.items()}
    )


def _computed(asked: MapPlan, source: Source, classes: Sequence[int | None], members: Sequence[int]) -> Block:
    rows = [{**source.row(number), "class": -1, "prediction": -1, "score": float("nan")} for number in members]
    maps: list[Tensor | None] = [None] * len(rows)
    pictures: list[Tensor | None] = [None] * len(rows)

    def compute(places: list[int], batch: Tensor) -> None:
        found, small, seen = map_rows(asked, batch, [classes[members[place]] for place in places])
        for place, row, one, picture in zip(places, found, small, seen, strict=True):
            rows[place].update(row)
            maps[place], pictures[place] = one, picture

    def fail(place: int, why: str) -> None:
        rows[place]["problem"] = why

    by_size(read_ahead(source, members), compute, fail, (ValueError, TypeError, RuntimeError, UnknownName))
    return rows, maps, pictures


def _stop_if_all_failed(members: Sequence[int], rows: Sequence[Mapping[str, Any]], total: int) -> None:
    """At the beginning: options that no image goes with are not tried on all of them."""
    if members[0] == 0 and all(row["problem"] for row in rows):
        raise ValueError(
            f"no map can be made: {rows[0]['name']}: {rows[0]['problem']}"
            + (f" ({len(rows)} of {total} images were tried)" if total > 1 else "")
        )


def gathered(blocks: Iterable[Block]) -> Maps:
    """All maps that can be used, and why others cannot.

    Raises:
        ValueError: if there is none, or they are not of one size.
    """
    rows: list[dict[str, Any]] = []
    maps: list[Tensor | None] = []
    pictures: list[Tensor | None] = []
    for part, some, seen in blocks:
        rows += part
        maps += some
        pictures += seen
    failures, good = [], []
    for place, (row, one) in enumerate(zip(rows, maps, strict=True)):
        problem = row["problem"]
        if not problem and one is not None and not one.isfinite().all():
            problem = "its map holds NaN or infinity"
        if problem:
            failures.append((row["name"], problem))
        elif row["class"] >= 0:
            good.append(place)
    if not good:
        reason = f": {failures[0][0]}: {failures[0][1]}" if failures else ": no image is of the class, or taken for it"
        raise ValueError(f"none of {len(rows)} images can be used{reason}")

    def of(name: str) -> list[Any]:
        return [rows[place][name] for place in good]

    kept = [one for place in good if (one := maps[place]) is not None]
    shapes = {tuple(one.shape) for one in kept}
    if len(shapes) > 1:
        raise ValueError(
            f"images and maps differ in size ({sorted(shapes)}): give the model a size, or maps a smaller one"
        )
    return Maps(
        torch.stack(kept),
        torch.stack([one for place in good if (one := pictures[place]) is not None]),
        torch.tensor(of("class")),
        torch.tensor(of("prediction")),
        torch.tensor(of("score")),
        torch.tensor(good),
        tuple(failures),
    )


def _read(folder: RunFolder) -> Iterator[Block]:
    for number in runfolder.finished(folder):
        rows, arrays = runfolder.read_chunk(folder, number)

        def of(name: str, rows: Any = rows, arrays: Any = arrays) -> list[Tensor | None]:
            values = arrays.get(name, [None] * len(rows))
            return [
                None if row["problem"] or value is None else torch.from_numpy(value)
                for row, value in zip(rows, values, strict=True)
            ]

        yield rows, of("map"), of("picture")


def _spans(source: Source) -> Iterator[range]:
    size = images_in_chunk(source, MOST_IN_CHUNK)
    return (range(start, min(start + size, len(source))) for start in range(0, len(source), size))


def _any_size(model: Model) -> bool:
    return isinstance(model, Classifier) and model.preprocessing.size is None
