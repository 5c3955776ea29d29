"""From the run folder of `explain` to what people look at: a page, figures, or numbers, image by image."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ... import report, runfolder
from ...display import figures
from ...display.colors import color_range, colorize
from ...files.atomic import atomic_write, short_names
from ...methods.result import Attribution, Call
from ...model.batches import progress
from ...model.classifier import Classifier, Predictions
from ...runfolder import RunFolder

FORMATS = ("html", "png", "npz")
MASS, PEAK = "mass on the object", "peak on the object"
SCORES = {
    MASS: "the share of the positive relevance that lies inside the object's mask. A random map scores the share of "
    "the image that the object covers; an edge that is evidence from outside counts as a miss.",
    PEAK: "how often the strongest pixel lies inside the object's mask.",
}
_INCHES = 2.4


def check_output(output: Path, format: str, inputs: Sequence[Path]) -> None:
    """Refuse an output that could not be written, before any long work.

    Args:
        output: the page, or the folder of pictures or numbers.
        format: "html", "png" or "npz".
        inputs: what is going to be read.

    Raises:
        ValueError: for another format, an output that does not go with it, or one among the inputs.
        OSError: if nothing can be written there.
    """
    if format not in FORMATS:
        raise ValueError(f"format is {format!r}, expected {', '.join(FORMATS[:-1])} or {FORMATS[-1]}")
    if format == "html":
        if output.is_dir():
            raise IsADirectoryError(f"{output} is a folder: give the name of a page in it, {output / 'report.html'}")
        if output.suffix.lower() not in (".html", ".htm"):
            raise ValueError(f"{output} is no name for a page: let it end in .html, or choose the format png or npz")
    elif output.is_file() or output.suffix.lower() in (".html", ".htm", ".png", ".npz"):
        raise ValueError(f"{output} is not a folder: format {format} writes a file for each image, name a folder")
    place = output.parent if format == "html" else output
    for folder in inputs if format == "png" else ():
        if folder.is_dir() and place.resolve().is_relative_to(folder.resolve()):
            raise ValueError(
                f"{output} lies in {folder}, where its pictures would be taken for images next time: "
                "choose a folder outside"
            )
    if output in inputs:
        raise ValueError(f"{output} is among the images: choose another output")
    for file in inputs if format == "png" else ():
        if file.is_file() and file.resolve().parent == place.resolve():
            raise ValueError(f"{file} lies in {output}, where its picture would replace it: choose another folder")
    try:
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        reason = error.strerror or error
        raise type(error)(f"cannot write into {place}: {reason}. Choose another output") from error


def write(
    folder: RunFolder,
    output: Path,
    format: str,
    failures: list[tuple[str, str]],
    *,
    title: str,
    model: Classifier,
    command: str,
) -> None:
    """Write what is finished in a run folder.

    Args:
        folder: of `explain`.
        output, format: as checked by `check_output`.
        failures: to be filled with names and reasons of the files that are not shown.
        title, model, command: for the page.
    """
    count = len(folder.items)
    with progress(count, f"write {format}") as advance:
        if format == "html":
            shown = _counted(cases(folder, failures), advance)
            size = 448 if count <= 50 else 256 if count <= 300 else 160
            report.write(
                output,
                shown,
                title=title,
                model=model,
                failures=failures,
                command=command,
                size=size,
                legend=SCORES,
            )
            return
        stems = _stems(short_names(folder.items))
        for row, arrays in images(folder, failures):
            with atomic_write(output / f"{stems[row['item']]}.{format}") as part, part.open("wb") as file:
                if format == "png":
                    picture(as_case(folder, row, arrays)).savefig(file, format="png", bbox_inches="tight")
                else:
                    np.savez_compressed(file, allow_pickle=False, **arrays, row=np.array(json.dumps(row)))
            advance(1)


def place_of(output: Path, format: str) -> Path:
    """Where the run folder of an output is, unless it is put elsewhere.

    >>> place_of(Path("report.html"), "html").name
    'report.run'
    """
    return output.with_suffix(".run") if format == "html" else output / ".run"


def _stems(names: Sequence[str]) -> list[str]:
    """Names without what says the format, where that leaves them different."""
    stems = [name.removesuffix(Path(name).suffix) for name in names]
    many = Counter(stem.casefold() for stem in stems)
    return [name if many[stem.casefold()] > 1 else stem for name, stem in zip(names, stems, strict=True)]


def cases(folder: RunFolder, failures: list[tuple[str, str]]) -> Iterator[report.Case]:
    """The images of a run folder as cases for a page, one at a time; `failures` is filled with the others."""
    for row, arrays in images(folder, failures):
        yield as_case(folder, row, arrays)


def images(
    folder: RunFolder, failures: list[tuple[str, str]]
) -> Iterator[tuple[dict[str, Any], dict[str, runfolder.Array]]]:
    """The images of a run folder, one at a time: row, and arrays by name.

    Args:
        folder: of `explain`.
        failures: filled, as it goes, with names and reasons of the files that could not be explained.
    """
    for number in runfolder.finished(folder):
        rows, arrays = runfolder.read_chunk(folder, number)
        for place, row in enumerate(rows):
            if row["problem"]:
                failures.append((row["name"], row["problem"]))
                continue
            made = ["image", *(made["name"] for made in row["maps"] if not made["problem"])]
            yield row, {name: np.asarray(arrays[name][place]) for name in made}


def as_case(folder: RunFolder, row: dict[str, Any], arrays: dict[str, runfolder.Array]) -> report.Case:
    """An image with its maps, as a case for a page."""
    image = torch.from_numpy(arrays["image"]).float() / 255
    panels, said = [], []
    for made, seconds in zip(row["maps"], row["seconds"], strict=True):
        if made["problem"]:
            said.append(f"{made['method']}: {made['problem']}")
            continue
        said += [f"{made['method']}: {note}" for note in made["warnings"]]
        call = Call(
            method=made["method"],
            options=json.loads(made["options"]),
            objective=made["objective"],
            model=folder.manifest["model"]["name"],
            paper=made["paper"],
            seconds=seconds,
            forward=made["forward"],
            backward=made["backward"],
        )
        gap = None if made["convergence_delta"] is None else torch.tensor([made["convergence_delta"]])
        result = Attribution(torch.from_numpy(arrays[made["name"]])[None], image[None], gap, None, call)
        scores = {score["name"]: score["value"] for score in made["scores"]}
        panels.append(report.Panel(made["title"], result, scores, made["group"]))
    found = Predictions(torch.tensor([row["classes"]]), torch.tensor([row["probabilities"]]), [row["labels"]])
    return report.Case(row["name"], image, found, row["true"], panels, "; ".join(dict.fromkeys(said)))


def picture(case: report.Case) -> Any:
    """All maps of a case beside its image, as a matplotlib figure."""
    best = f"{case.predictions.labels[0][0]}, {case.predictions.probabilities[0, 0].item():.0%}"
    shown, titles, notes = [figures.displayable(case.image[None])[0]], [best], [case.name]
    if case.true is not None:
        notes[0] += f" (true: {case.true})"
    for panel in case.panels:
        values = panel.attribution.values
        low, high = color_range(values)
        shown.append(colorize(values)[0])
        titles.append(panel.title + (f", {panel.group}" if panel.group else ""))
        notes.append(f"{low.item():.2g} to {high.item():.2g}")
    return figures.grid(shown, titles, notes, columns=4, caption=case.problem, inches=_INCHES)


def _counted(source: Iterator[report.Case], advance: Any) -> Iterator[report.Case]:
    for case in source:
        yield case
        advance(1)
