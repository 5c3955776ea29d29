"""The main job: files in, what a model looks at in each of them out, as a page, pictures or numbers.

Work is kept in a run folder as it goes: eight images make a chunk. Whatever stops the job, it goes on from there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from ... import runfolder
from ...checks import UnknownName, nearest
from ...files.atomic import file_fingerprint, printable, short_names
from ...files.images import list_images
from ...methods.registry import of_kind
from ...model.batches import progress
from ...model.classifier import Classifier
from ...model.run import layer as find_layer
from ...model.true_classes import Truth, true_classes
from ...objectives import ObjectiveLike, as_objective
from ...runfolder import DamagedChunk, OtherRun, RunFolder
from .chunk import Job, Say, explain_chunk
from .outputs import check_output, place_of, write
from .rehearsal import rehearse, rehearse_methods

DEFAULTS = ("saliency", "smoothgrad", "integrated_gradients", "grad_cam", "occlusion")
"""What is shown unless methods are named: a gradient, two sums of gradients, a class activation map, a test."""


@dataclass(frozen=True)
class Explained:
    """What `explain` did.

    output: the page, or the folder of pictures or numbers. folder: the run folder with all numbers.
    images: how many were explained. failures: files that were not, with the reason.
    problems: maps that failed, by method: how many, and the first reason.
    """

    output: Path
    folder: RunFolder
    images: int
    failures: tuple[tuple[str, str], ...] = ()
    problems: Mapping[str, tuple[int, str]] = field(default_factory=dict)


def explain(
    model: Classifier,
    paths: str | Path | Sequence[str | Path],
    *,
    output: str | Path,
    format: str = "html",
    methods: Sequence[str] | None = None,
    objective: ObjectiveLike = None,
    layer: str | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    seed: int = 0,
    labels: Truth = "folders",
    masks: Mapping[str, Tensor] | None = None,
    title: str = "",
    command: str = "",
    run: str | Path | None = None,
    overwrite: bool = False,
    on_message: Callable[[str], object] | None = None,
) -> Explained:
    """Explain what a model sees in images, by several methods, and write that down.

    Files that cannot be read and methods that fail on this model are reported at the end and stop nothing. What is
    wrong with the options themselves is found out first, on one image, before anything on disk changes.
    Numbers go into a run folder as they come: a job that was stopped, be it by `kill -9`, goes on from there
    when it is called again with the same settings.

    Args:
        model: from `load` or `wrap`.
        paths: image files and folders.
        output: the page to write, or the folder for pictures or numbers.
        format: "html", one page with everything; "png", a picture for each image; "npz", numbers for each image.
        methods: names in the catalogue; by default those of `DEFAULTS`.
        objective: what to explain, as for any method but one for all images; None is each image's predicted class.
        layer: for the methods that look at one, the class activation maps.
        options: of methods, by their name: {"smoothgrad": {"samples": 50}}.
        seed: of what is random.
        labels: the true classes, as for `true_classes`: "folders", None, a dict, or a .csv or .json file. Where the
            prediction differs from it, one method is shown for both classes and their difference.
        masks: by file, the pixels of the object (bool, 1 x H x W): each map is scored by how much of it lies there.
        title: of the page.
        command: shown on the page, so that others can repeat it.
        run: the run folder; by default "report.run" beside the page "report.html", or ".run" in the folder of
            pictures. That one is replaced when it holds a finished run with other settings; one that is named
            here never is.
        overwrite: throw away what the run folder holds, and begin anew.
        on_message: called with a line of text for what is worth knowing at once, such as a method that fails.

    Returns:
        An `Explained`.

    Raises:
        UnknownName: for a method, option, class or layer that does not exist.
        ValueError, TypeError: for settings that make no sense, options that a method refuses, a network that fails on
            any image, or one on which no method works.
        OtherRun: the run folder holds an unfinished run with other settings.
        OSError: if the output cannot be written, or a path does not exist.

    >>> import tempfile, pellucid
    >>> from pellucid.files.images import write_image
    >>> folder = Path(tempfile.mkdtemp())
    >>> write_image(pellucid.shapes.scenes(1).images[0], folder / "scene.png")
    >>> done = explain(pellucid.load("shapes"), folder / "scene.png", output=folder / "page.html", methods=["saliency"])
    >>> done.images, done.failures, done.output.name
    (1, (), 'page.html')
    """
    if not isinstance(model, Classifier):
        raise TypeError(
            f"explain takes a Classifier, which can read files; got a {type(model).__name__}: "
            "pellucid.wrap(net, mean=..., std=..., size=...) makes one"
        )
    output = Path(output)
    given = [Path(path) for path in ([paths] if isinstance(paths, (str, Path)) else paths)]
    check_output(output, format, given)
    chosen = choose(methods, options or {}, layer, seed)
    if layer is not None:
        find_layer(model, layer)
    found = {os.path.abspath(file): file for file in list_images(*given)}  # noqa: PTH100 - resolve() follows links
    files = list(found)
    classes = true_classes(model, list(found.values()), labels)
    job = Job(
        model=model,
        methods=chosen,
        target=objective,
        truth=dict(zip(files, classes, strict=True)),
        names=dict(zip(files, short_names(files), strict=True)),
        masks={os.path.abspath(file): mask for file, mask in (masks or {}).items()},  # noqa: PTH100
    )
    rehearse(job)
    place = Path(run) if run is not None else place_of(output, format)
    settings = _settings(job, files, seed)
    if overwrite or not runfolder.holds(place, **settings):  # else they have been tried already
        rehearse_methods(job, files, layer, everything=place.exists())  # something may be lost
    told: set[str] = set()
    redone: set[int] = set()

    def tell(about: str, text: str) -> None:
        if on_message is not None and about not in told:
            on_message(text)
        told.add(about)

    with _opened(place, settings, overwrite, replace=run is None, tell=tell) as folder:
        runfolder.forget_changed(
            folder,
            lambda number: file_fingerprint(files[number]),
            lambda number: _readable(model, files[number]),
            lambda text: tell(text, text),
        )
        waiting = runfolder.pending(folder)
        if len(waiting) < folder.chunks:
            done = folder.chunks - len(waiting)
            tell("finished", f"{done} of {folder.chunks} chunks are finished already in {place}")
        title, command = printable(title or f"What {model.name} looks at"), printable(command)
        while True:
            maps = sum(len(runfolder.span(folder, number)) for number in waiting) * len(chosen)
            with progress(maps, "explain", "map") as advance:
                for number in waiting:
                    explain_chunk(job, folder, number, advance=advance, on_message=tell)
            failures: list[tuple[str, str]] = []
            try:
                write(folder, output, format, failures, title=title, model=model, command=command)
                break
            except DamagedChunk as damage:
                if damage.number in redone:
                    raise  # what was written just now
                redone.add(damage.number)
                runfolder.forget_damaged(folder, damage, lambda text: tell(text, text))
                waiting = [damage.number]
    return _explained(output, folder, failures)


def choose(
    methods: Sequence[str] | None, options: Mapping[str, Mapping[str, Any]], layer: str | None, seed: int
) -> dict[str, dict[str, Any]]:
    """Options by name of method, complete with defaults, layer and seed.

    Raises:
        UnknownName: for a method or an option that does not exist; the message offers the nearest.
        ValueError: for a layer that no method takes, options of a method that is not run, or no method.

    >>> choose(["smoothgrad"], {"smoothgrad": {"samples": 5}}, None, 3)["smoothgrad"]["samples"]
    5
    """
    known = of_kind("attribution")
    names = [name for name in DEFAULTS if name in known] if methods is None else list(dict.fromkeys(methods))
    if not names:
        raise ValueError("no method was named: give at least one, or leave methods out for the usual ones")
    for name in [*names, *options]:
        if name not in known:
            raise UnknownName(f"there is no method {name!r}; {nearest(name, known)} (`pellucid methods` lists all)")
    if idle := [name for name in options if name not in names]:
        raise ValueError(f"options for {idle[0]} are given, but it is not among the methods: {', '.join(names)}")
    chosen: dict[str, dict[str, Any]] = {}
    for name in names:
        defaults = known[name].options
        for option in options.get(name, {}):
            if option not in defaults:
                hint = nearest(option, defaults) if defaults else "it has no options"
                raise UnknownName(f"{name} has no option {option!r}; {hint}")
        shared = {"seed": seed, **({"layer": layer} if layer is not None else {})}
        chosen[name] = defaults | {k: v for k, v in shared.items() if k in defaults} | dict(options.get(name, {}))
    if layer is not None and not any("layer" in found for found in chosen.values()):
        raise ValueError(f"the layer {layer!r} is given, but none of the methods looks at one: {', '.join(names)}")
    return chosen


def _readable(model: Classifier, file: str) -> bool:
    try:
        model.read_one(file)
    except (ValueError, OSError, MemoryError):
        return False
    return True


def _settings(job: Job, files: list[str], seed: int) -> dict[str, Any]:
    """What tells this run from others."""
    size = job.model.preprocessing.size
    return {
        "verb": "explain",
        "model": runfolder.describe_model(job.model),
        "items": files,
        "options": {
            "methods": job.methods,
            "order": list(job.methods),
            "objective": str(as_objective(job.model, job.target)),
            "truth": runfolder.hash_of([job.truth[file] for file in files]),
            "masks": runfolder.hash_of({name: mask.tolist() for name, mask in job.masks.items()}) if job.masks else "",
        },
        "seed": seed,
        "chunk": 1 if size is None else max(1, min(8, 8 * 512 * 512 // (size[0] * size[1]))),
        "ragged": size is None,
    }


@contextmanager
def _opened(place: Path, settings: Mapping[str, Any], overwrite: bool, replace: bool, tell: Say) -> Iterator[RunFolder]:
    """The run folder; a finished one of another run is replaced if it may be."""
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(runfolder.begin(place, **settings, overwrite=overwrite))
        except OtherRun as other:
            if not (replace and other.finished):
                raise
            tell("replaced", f"{place} held a finished run with other settings, which is replaced")
            folder = stack.enter_context(runfolder.begin(place, **settings, overwrite=True))
        yield folder


def _explained(output: Path, folder: RunFolder, failures: list[tuple[str, str]]) -> Explained:
    problems: dict[str, tuple[int, str]] = {}
    for row in runfolder.each_row(folder):
        for made in row["maps"]:
            if made["problem"]:
                count, first = problems.get(made["method"], (0, made["problem"]))
                problems[made["method"]] = (count + 1, first)
    return Explained(output, folder, len(folder.items) - len(failures), tuple(failures), problems)
