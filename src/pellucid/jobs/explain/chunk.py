"""What `explain` does with each image: it is read, predicted, and put before every method."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
from torch import Tensor

from ... import runfolder
from ...checks import UnknownName
from ...files.atomic import file_fingerprint, printable
from ...methods.registry import CATALOGUE, Method
from ...methods.result import Attribution
from ...metrics.localization import mass_accuracy, pointing_game
from ...model.classifier import Classifier, Predictions
from ...objectives import as_objective, contrast, logit, probability
from ...runfolder import RunFolder
from .outputs import MASS, PEAK

TOP = 5  # classes that are kept

Say: TypeAlias = Callable[[str, str], object]


@dataclass(frozen=True)
class Job:
    """What is to be done for each image; with the files, all that the result depends on.

    methods: options by name of the method. target: the objective as it was given. truth: class by file.
    names: what a file is called on the page. masks: where the object is, by file.
    """

    model: Classifier
    methods: Mapping[str, Mapping[str, Any]]
    target: Any
    truth: Mapping[str, int | None]
    names: Mapping[str, str]
    masks: Mapping[str, Tensor]


def explain_chunk(
    job: Job,
    folder: RunFolder,
    number: int,
    *,
    advance: Callable[[int], object] = lambda _: None,
    on_message: Say = lambda _about, _text: None,
) -> None:
    """Explain the images of one chunk and write it; any engine may call this, in any order.

    Args:
        job: what to do.
        folder: where; its items are the files.
        number: of the chunk.
        advance: called with the number of maps whenever some are done.
        on_message: called with what is worth knowing at once: what it is about, and the words.
    """
    files = [folder.items[i] for i in runfolder.span(folder, number)]
    rows = [_row(job, file) for file in files]
    images: dict[int, Tensor] = {}
    for i, file in enumerate(files):
        try:
            images[i] = job.model.read_one(file)
        except (ValueError, OSError, MemoryError) as error:
            rows[i]["problem"] = _unnamed(error, file)
    predictions: dict[int, Predictions] = {}
    for i, found in _alone_if_needed(list(images), lambda part: _predict(job.model, images, part)):
        if isinstance(found, Predictions):
            predictions[i] = found
        else:
            rows[i]["problem"] = found
    advance((len(files) - len(predictions)) * len(job.methods))
    arrays: dict[str, list[Any]] = {"image": [None] * len(files)}
    for i, found in predictions.items():
        arrays["image"][i] = (images[i] * 255).round().to(torch.uint8)
        rows[i] |= {
            "labels": found.labels[0],
            "classes": found.classes[0].tolist(),
            "probabilities": found.probabilities[0].tolist(),
        }
    for panel in _panels(job):
        members = [i for i in predictions if panel.applies(job, files[i], predictions[i])]

        def attribute(part: list[int], panel: _Panel = panel) -> list[tuple[Attribution, list[str]]]:
            batch = torch.stack([images[i] for i in part])
            return _attribute(job, panel, batch, [(files[i], predictions[i]) for i in part])

        for i, made in _alone_if_needed(members, attribute):
            record: dict[str, Any] = {
                "name": panel.name, "title": panel.title, "group": panel.group, "method": panel.method.name,
                "problem": None,
            }  # fmt: skip
            if isinstance(made, str):
                on_message(f"{panel.name} fails", f"{panel.method.name}: {made}")
                record["problem"] = made
            else:
                result, notes = made
                for note in notes:
                    on_message(f"{panel.method.name}: {note}", f"{panel.method.name}: {note}")
                record |= _described(result, notes, job.masks.get(files[i]) if panel.main else None)
                arrays.setdefault(panel.name, [None] * len(files))[i] = result.values[0].detach().float().cpu()
            call = None if isinstance(made, str) else made[0].call
            rows[i]["maps"].append(record)
            rows[i]["seconds"].append(call.seconds if call else math.nan)
        if panel.main:
            advance(len(members))
    runfolder.write_chunk(folder, number, rows, arrays)


@dataclass(frozen=True)
class _Panel:
    """One map of each image. name: of its array. kind: which objective it explains. main: asked for by the user."""

    name: str
    title: str
    group: str
    method: Method
    kind: str = "target"
    main: bool = False

    def applies(self, job: Job, file: str, found: Predictions) -> bool:
        if self.kind == "target":
            return True
        if self.kind == "probability":
            return found.classes.shape[1] > 1  # of a single output it is always 1
        true = job.truth[file]
        return true is not None and true != int(found.classes[0, 0])

    def objective(self, job: Job, found: Sequence[tuple[str, Predictions]]) -> tuple[Any, list[str]]:
        """The objective for some images, and its text for each."""
        if self.kind == "target" and job.target is not None:
            return job.target, [str(as_objective(job.model, job.target))] * len(found)
        predicted = [int(p.classes[0, 0]) for _, p in found]
        true = [int(job.truth[file] or 0) for file, _ in found]  # used only where it is known: see applies
        first, second = ([_label(job.model, c) for c in classes] for classes in (predicted, true))
        if self.kind == "contrast":
            return contrast(predicted, true), [str(contrast(*pair)) for pair in zip(first, second, strict=True)]
        if self.kind == "true":
            return logit(true), [str(logit(label)) for label in second]
        of = probability if self.kind == "probability" else logit
        return of(predicted), [str(of(label)) for label in first]


def _panels(job: Job) -> list[_Panel]:
    """One for each method; logit and probability for the first that is quick; for wrong images both classes."""
    panels = [_Panel(name, name, "", CATALOGUE[name], main=True) for name in job.methods]
    quick = [panel for panel in panels if panel.method.traits.one_pass and panel.method.traits.objective]
    if job.target is not None or not quick:
        return panels
    first = quick[0]
    place = panels.index(first)
    panels[place] = _Panel(first.name, first.title, "logit", first.method, main=True)
    panels.insert(
        place + 1, _Panel(f"{first.name}.probability", first.title, "probability", first.method, "probability")
    )
    both = next((panel for panel in quick if panel.method.traits.layer_map), first)
    title = f"{both.name}: predicted and true"
    kinds = {"predicted": "predicted", "true": "true", "contrast": "predicted less true"}
    return panels + [_Panel(f"{both.name}.{k}", title, group, both.method, k) for k, group in kinds.items()]


def _attribute(
    job: Job, panel: _Panel, images: Tensor, found: list[tuple[str, Predictions]]
) -> list[tuple[Attribution, list[str]]]:
    """A method's results for some images, one by one, with what it warned of."""
    objective, texts = panel.objective(job, found)
    if not panel.method.traits.objective:
        texts = [""] * len(found)
    with noted() as notes:
        result = panel.method.function(job.model, images, objective, **job.methods[panel.method.name])
    count, call = len(images), result.call
    assert call is not None
    share = replace(
        call, seconds=call.seconds / count, forward=round(call.forward / count), backward=round(call.backward / count)
    )
    gaps = [None] * count if result.convergence_delta is None else list(result.convergence_delta[:, None])
    return [
        (
            Attribution(result.values[i : i + 1], convergence_delta=gaps[i], call=replace(share, objective=texts[i])),
            list(notes),
        )
        for i in range(count)
    ]


def _described(result: Attribution, notes: list[str], mask: Tensor | None) -> dict[str, Any]:
    """What a row says of a map."""
    call = result.call
    assert call is not None
    scores: dict[str, float] = {}
    if mask is not None:
        values = result.values.detach().float().cpu()
        scores[MASS] = mass_accuracy(values, mask[None]).item()
        scores[PEAK] = pointing_game(values, mask[None]).item()
    return {
        "objective": call.objective,
        "options": json.dumps(dict(call.options), default=str),
        "paper": call.paper,
        "forward": call.forward,
        "backward": call.backward,
        "convergence_delta": None if result.convergence_delta is None else result.convergence_delta.item(),
        "scores": [{"name": name, "value": value} for name, value in scores.items()],
        "warnings": notes,
    }


def _alone_if_needed(members: list[int], compute: Callable[[list[int]], Sequence[Any]]) -> list[tuple[int, Any]]:
    """What `compute` gives for each member: of all at once, or one by one if that fails; its words where one fails."""
    if not members:
        return []
    try:
        return list(zip(members, compute(members), strict=True))
    except Exception as error:
        if len(members) == 1:
            return [(members[0], words_of(error))]
    return [pair for member in members for pair in _alone_if_needed([member], compute)]


def _predict(model: Classifier, images: Mapping[int, Tensor], part: list[int]) -> list[Predictions]:
    found = model.predict(torch.stack([images[i] for i in part]), k=TOP)
    return [
        Predictions(found.classes[i : i + 1], found.probabilities[i : i + 1], found.labels[i : i + 1])
        for i in range(len(part))
    ]


def _row(job: Job, file: str) -> dict[str, Any]:
    state, true = file_fingerprint(file), job.truth[file]
    return {
        "file": printable(file),
        "name": job.names[file],
        "bytes": state[0],
        "modified": state[1],
        "true": None if true is None else str(_label(job.model, true)),
        "problem": None,
        "labels": None,
        "classes": None,
        "probabilities": None,
        "maps": [],
        "seconds": [],
    }


@contextmanager
def noted() -> Iterator[list[str]]:
    """Collect warnings as lines of text; those meant for programmers are dropped."""
    notes: list[str] = []
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("ignore")
        for kind in (UserWarning, RuntimeWarning):
            warnings.simplefilter("always", kind)
        yield notes
    notes += dict.fromkeys(" ".join(str(warning.message).split()) for warning in seen)


def _label(model: Classifier, index: int) -> str | int:
    """A class as an objective prints it: by its label, if it has one."""
    return model.label(index) if index < len(model.labels) else index


def words_of(error: Exception) -> str:
    """What an error says, in one line; with its kind where it was not meant for users."""
    text = " ".join(str(error).split())
    expected = isinstance(error, (ValueError, TypeError, UnknownName, RuntimeError, OSError, ImportError))
    return text if text and expected else f"{type(error).__name__}: {text}".removesuffix(": ")


def _unnamed(error: BaseException, file: str) -> str:
    """What went wrong with a file, without its name, which stands beside it."""
    reason = getattr(error, "reason", None) or str(error) or type(error).__name__
    return " ".join(printable(str(reason)).removeprefix(f"{file}: ").split())
