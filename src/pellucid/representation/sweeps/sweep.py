"""One pass over many images: every measure of it at once, in memory or into a run folder that can be resumed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ... import runfolder
from ...checks import check_network
from ...files.atomic import printable
from ...methods.result import Call
from ...model.batches import progress
from ...model.classifier import Classifier, classifier, name_of, network
from ...model.relevance import RulesLike, rules_of
from ...model.run import Model, counted
from ...model.run import layer as find_layer
from ...objectives import ObjectiveLike, as_objective
from ...rules.presets import written
from ...runfolder import RunFolder
from .image_source import Images, Labels, Source, source_of
from .measures import PIXELS, Measure, SweepPlan, measure_batch
from .stored_arrays import Stored, rows_of

CHUNK_BYTES, MOST_IN_CHUNK = 2**25, 2048  # of images: what is lost at most when a run is killed

Say = Callable[[str], object]
Read = list[Tensor | str]
Column = Tensor | Sequence[Tensor | None]
"""An array for each image: in one tensor, or None where an image has none."""


@dataclass(frozen=True, eq=False)
class Sweep:
    """What one pass over images gave, for those N that could be read, in their order.

    arrays: by name, N x ...; those of a run folder are read when they are asked for.
    names, files: of the images. labels, predictions: N, as indices into `classes`, -1 where not known.
    scores: N, the probability of the predicted class. classes: those of the model first, then others.
    folder: the run folder. failures: names of files that are left out, with the reason.
    images: if they came as a tensor. look: an image by its number, as the model sees it.
    seconds, forward, backward: what it took, which is 0 where all was there.
    """

    arrays: Mapping[str, Tensor]
    names: tuple[str, ...]
    files: tuple[str, ...]
    labels: Tensor
    predictions: Tensor
    scores: Tensor
    classes: tuple[str, ...]
    folder: Path | None
    failures: tuple[tuple[str, str], ...]
    images: Tensor | None = field(repr=False)
    look: Callable[[int], Tensor] = field(repr=False)
    seconds: float
    forward: int
    backward: int

    def __len__(self) -> int:
        return len(self.names)


def sweep(
    model: Model,
    images: Images,
    measures: Sequence[Measure],
    *,
    objective: ObjectiveLike = None,
    rules: RulesLike = "EPSILON_PLUS_FLAT",
    predict: bool = True,
    labels: Labels = "folders",
    folder: str | Path | None = None,
    overwrite: bool = False,
    on_message: Say | None = None,
) -> Sweep:
    """Compute measures for many images in one pass: one forward for all, and one backward if any asks for relevance.

    Args:
        model: a network or a `Classifier`.
        images: a folder, files, or a tensor N x C x H x W.
        measures: what to compute; `vectors`, `top_activations` and `relevance_maps` make some.
        objective: whose relevance; None is each image's predicted class.
        rules: of the backward, as for `pellucid.lrp`.
        predict: False stops the forward at the last layer that is read, and predicts no class.
        labels: the true classes: "folders", a table, None; for a tensor N classes.
        folder: a run folder to work in: nothing that is finished is lost or done again, and no more than a chunk of
            images is in memory. Without it everything stays in memory.
        overwrite: throw away what the folder holds.
        on_message: called with a line of text for what is worth knowing.

    Returns:
        A `Sweep`.

    Raises:
        UnknownName: for a layer that does not exist.
        ValueError, TypeError: for images or options that make no sense, or no image that can be read.
        OtherRun: the folder holds a run of another model, or with other files or measures.

    >>> import pellucid
    >>> from pellucid.representation import relevance_maps, sweep, vectors
    >>> model, scenes = pellucid.load("shapes"), pellucid.shapes.scenes(3)
    >>> found = sweep(model, scenes.images, [vectors("pool"), relevance_maps()])
    >>> sorted(found.arrays), found.forward, found.backward
    (['relevance', 'vectors.pool'], 3, 3)
    """
    start = time.perf_counter()
    model = classifier(model) or model
    check_network(network(model))
    if not measures:
        raise ValueError("there is nothing to compute: give at least one measure")
    question = SweepPlan(model, tuple(measures), objective, rules_of(rules), predict)
    for name in sorted((question.reads | question.back) - {PIXELS}):
        find_layer(model, name)
    source = source_of(model, images, labels)
    with counted() as passes:
        if folder is None:
            rows, arrays = _in_memory(question, source)
        else:
            place = Path(folder)
            _in_folder(question, source, place, overwrite, on_message or (lambda _: None))
            rows, arrays = rows_of(runfolder.read(place)), None
    good = [row for row in rows if not row["problem"]]
    failures = tuple((row["name"], row["problem"]) for row in rows if row["problem"])
    if not good:
        raise ValueError(f"none of {len(rows)} images can be used: {failures[0][0]}: {failures[0][1]}")
    keep = [row["item"] for row in good]
    if arrays is None:
        kept: Mapping[str, Tensor] = Stored(runfolder.read(Path(str(folder))), keep)
    else:
        kept = arrays
    labels, predictions, classes = _classes(model, good)
    return Sweep(
        arrays=kept,
        names=tuple(row["name"] for row in good),
        files=tuple(source.items[i] for i in keep) if source.of_files else (),
        labels=labels,
        predictions=predictions,
        scores=torch.tensor([float("nan") if row["score"] is None else row["score"] for row in good]),
        classes=classes,
        folder=None if folder is None else Path(folder),
        failures=failures,
        images=source.images if source.images is None or len(keep) == len(rows) else source.images[keep],
        look=lambda number: source.read(keep[number]),
        seconds=time.perf_counter() - start,
        forward=passes.forward,
        backward=passes.backward,
    )


def sweep_chunk(
    question: SweepPlan,
    source: Source,
    folder: RunFolder,
    number: int,
    *,
    read: Read | None = None,
    batch: int | None = None,
) -> int | None:
    """Compute the images of one chunk and write it; any engine may call this, in any order.

    Args:
        question: what to compute. source: of which images. folder: where; its items are those of the source.
        number: of the chunk.
        read: the images, if they have been read ahead.
        batch: images in a pass, as an earlier chunk returned it.

    Returns:
        The images of the largest pass, for the next chunk.
    """
    members = runfolder.span(folder, number)
    rows, arrays, batch = _computed(question, source, members, read or read_ahead(source, members), batch)
    _same_shapes(folder, source, members, arrays)
    numbers = {
        name: column.numpy() if isinstance(column, Tensor) else [None if v is None else v.numpy() for v in column]
        for name, column in arrays.items()
    }
    runfolder.write_chunk(folder, number, rows, numbers)
    return batch


def read_ahead(source: Source, numbers: Sequence[int]) -> Read:
    """Images by their numbers, or why one cannot be read."""
    found: Read = []
    for number in numbers:
        try:
            found.append(source.read(number))
        except (ValueError, OSError, MemoryError) as error:
            reason = getattr(error, "reason", None) or str(error) or type(error).__name__
            found.append(" ".join(printable(str(reason)).removeprefix(f"{source.items[number]}: ").split()))
    return found


def by_size(
    read: Read,
    compute: Callable[[list[int], Tensor], object],
    fail: Callable[[int, str], object],
    errors: tuple[type[Exception], ...] = (ValueError, TypeError, RuntimeError),
) -> None:
    """Compute with images that have one size at a time, and one by one where these fail.

    Args:
        read: of `read_ahead`.
        compute: called with places in `read` and their images.
        fail: called with the place of an image that cannot be read or computed with, and why.
        errors: that say so of an image.
    """
    groups: dict[tuple[int, ...], list[int]] = {}
    for place, image in enumerate(read):
        if isinstance(image, str):
            fail(place, image)
        else:
            groups.setdefault(tuple(image.shape), []).append(place)

    def attempt(places: list[int]) -> None:
        try:
            compute(places, torch.stack([image for place in places if isinstance(image := read[place], Tensor)]))
        except errors as error:
            if len(places) == 1:
                fail(places[0], " ".join(str(error).split()) or type(error).__name__)
                return
            for place in places:
                attempt([place])

    for places in groups.values():
        attempt(places)


def record(
    method: str, model: Model, swept: Sweep, options: Mapping[str, Any], objective: str, paper: str = ""
) -> Call:
    """The call of a verb that made a sweep."""
    return Call(method, dict(options), objective, name_of(model), paper, swept.seconds, swept.forward, swept.backward)


def _computed(
    question: SweepPlan, source: Source, numbers: Sequence[int], read: Read, batch: int | None
) -> tuple[list[dict[str, Any]], dict[str, Column], int | None]:
    rows = [source.row(number) for number in numbers]
    model = question.model if isinstance(question.model, Classifier) and question.model.labels else None
    given = measure_batch(question, [image if isinstance(image, Tensor) else None for image in read], batch)
    for place, (row, image) in enumerate(zip(rows, read, strict=True)):
        row["problem"] = image if isinstance(image, str) else given.problems.get(place)
        if given.classes[place] >= 0 and not row["problem"]:
            row["prediction"], row["score"] = given.classes[place], given.scores[place]
            # In words too, for those who have the folder and not the model.
            row["predicted"] = model.label(given.classes[place]) if model else None
    return rows, dict(given.arrays), given.batch


def _in_memory(question: SweepPlan, source: Source) -> tuple[list[dict[str, Any]], dict[str, Tensor]]:
    """All rows, and the arrays of those images that have no problem."""
    rows: list[dict[str, Any]] = []
    blocks: dict[str, list[Tensor]] = {}
    size, batch = images_in_chunk(source), None
    spans = [range(start, min(start + size, len(source))) for start in range(0, len(source), size)]
    with progress(len(source), "look at") as advance:
        for numbers, read in _each(source, spans):
            made, arrays, batch = _computed(question, source, numbers, read, batch)
            for name, column in arrays.items():
                _one_shape(name, column, numbers, source, blocks[name][0].shape[1:] if name in blocks else None)
                if isinstance(column, Tensor):
                    blocks.setdefault(name, []).append(column)
                elif present := [value for value in column if value is not None]:
                    blocks.setdefault(name, []).append(torch.stack(present))
            rows += [{"item": number, **row} for number, row in zip(numbers, made, strict=True)]
            advance(len(numbers))
    return rows, {name: torch.cat(parts) for name, parts in blocks.items()}


def _in_folder(question: SweepPlan, source: Source, place: Path, overwrite: bool, say: Say) -> None:
    """Finish the run in a folder, beginning it if need be."""
    options: dict[str, Any] = {
        "measures": [measure.name for measure in question.measures],
        "output": question.output,
        "images": source.identity(),
        "labels": runfolder.hash_of(list(source.labels)),
    }
    if question.back:
        options["objective"] = str(as_objective(question.model, question.objective))
        options["rules"] = written(question.rules)
    with runfolder.begin(
        place,
        verb="sweep",
        model=runfolder.describe_model(question.model),
        items=source.items,
        options=options,
        seed=0,
        chunk=images_in_chunk(source),
        overwrite=overwrite,
    ) as folder:
        forget_changed(folder, source, say)
        waiting = runfolder.pending(folder)
        ahead = _each(source, [runfolder.span(folder, number) for number in waiting])
        batch: int | None = None

        def do(number: int) -> None:
            nonlocal batch
            _, read = next(ahead)
            batch = sweep_chunk(question, source, folder, number, read=read, batch=batch)

        runfolder.finish(folder, do, "look at", say)


def _each(source: Source, spans: Sequence[range]) -> Iterator[tuple[range, Read]]:
    """The images of each span; those of the next are read while this one is computed."""
    if not source.of_files:
        for members in spans:
            yield members, read_ahead(source, members)
        return
    with ThreadPoolExecutor(1) as reader:
        waiting = [reader.submit(read_ahead, source, members) for members in spans[:1]]
        for place, members in enumerate(spans):
            read = waiting.pop().result()
            waiting += [reader.submit(read_ahead, source, later) for later in spans[place + 1 : place + 2]]
            yield members, read


def images_in_chunk(source: Source, most: int = MOST_IN_CHUNK) -> int:
    """How many images make a chunk, by the size of the first that can be read."""
    for number in range(len(source)):
        (first,) = read_ahead(source, [number])
        if isinstance(first, Tensor):
            return max(1, min(most, CHUNK_BYTES // max(1, first.numel() * first.element_size())))
    return most


def forget_changed(folder: RunFolder, source: Source, on_message: Say) -> None:
    """Make chunks unfinished whose rows are damaged, or whose files have changed or can be read by now."""

    def readable(number: int) -> bool:
        return isinstance(read_ahead(source, [number])[0], Tensor)

    runfolder.forget_changed(folder, source.state, readable, on_message)


def _same_shapes(folder: RunFolder, source: Source, members: Sequence[int], arrays: Mapping[str, Column]) -> None:
    known: Any = runfolder.arrays(folder)
    for name, column in arrays.items():
        _one_shape(name, column, members, source, tuple(known[name].shape[1:]) if name in known else None)


def _one_shape(
    name: str,
    column: Column,
    numbers: Sequence[int],
    source: Source,
    expected: Sequence[int] | None,
) -> None:
    """Refuse arrays of several shapes, which come of images of several sizes."""
    first = "those before"
    for number, value in zip(numbers, column[:1] if isinstance(column, Tensor) else column, strict=False):
        if value is None:
            continue
        if expected is None:
            expected, first = tuple(value.shape), source.names[number]
        if tuple(value.shape) != tuple(expected):
            shapes = [" x ".join(map(str, shape)) or "one number" for shape in (value.shape, expected)]
            raise ValueError(
                f"the images differ in size: {name} is {shapes[0]} for {source.names[number]} and {shapes[1]} for "
                f"{first}. Say what size all of them are to have, with size= (pellucid.wrap(net, size=...)), or take "
                "the mean over places"
            )


def _classes(model: Model, rows: Sequence[Mapping[str, Any]]) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """Labels and predictions as indices into names of classes."""
    predicted = [-1 if row["prediction"] is None else int(row["prediction"]) for row in rows]
    names = list(model.labels) if isinstance(model, Classifier) else []
    names += [str(index) for index in range(len(names), max(predicted, default=-1) + 1)]
    known = {name: index for index, name in reversed(list(enumerate(names)))}
    for label in sorted({row["label"] for row in rows if row["label"] is not None} - set(known)):
        known[label] = len(names)
        names.append(label)
    labels = [-1 if row["label"] is None else known[row["label"]] for row in rows]
    return torch.tensor(labels), torch.tensor(predicted), tuple(names)
