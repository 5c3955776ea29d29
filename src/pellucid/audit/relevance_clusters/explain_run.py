"""Relevance that `pellucid explain` has computed already: the maps of its run folder, as an audit takes them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ... import runfolder
from ...model.batches import progress
from ...model.classifier import Classifier
from ...objectives import logit
from ...representation.sweeps.image_source import Images
from ...runfolder import OtherRun, RunFolder
from ...runfolder.identity import as_json, difference
from .relevance_maps import Block, MapPlan, Maps, Say, averaged, class_index, gathered, small


def run_folder_in(images: Images) -> RunFolder | None:
    """The run folder that is given in place of images, if it is one.

    Raises:
        ValueError: if it is not the only thing that is given.
    """
    paths = [images] if isinstance(images, (str, Path)) else [] if isinstance(images, Tensor) else list(images)
    found = [path for path in paths if isinstance(path, (str, Path)) and Path(path, "manifest.json").is_file()]
    if found and len(paths) > 1:
        raise ValueError(f"{found[0]} is a run folder, which is audited alone: leave out what is given besides")
    return runfolder.read(found[0]) if found else None


def maps_in(
    asked: MapPlan, folder: RunFolder, truth: bool, on_message: Say
) -> tuple[Maps, tuple[str, ...], dict[str, Any]]:
    """The maps that `explain` left in its run folder, of all images whose own class they explain.

    Args:
        asked: which maps. Its options are those that were named: they have to be those of the run.
        folder: of `explain`, finished.
        truth: whether an image's own class is the true one, where that is known; else the predicted one.
        on_message: called with a line of text for what is worth knowing.

    Returns:
        The maps, the names of all images of the run, and the options with which the maps were made.

    Raises:
        OtherRun: the run is of another model, or its maps were made with other options.
        ValueError: the run is of another verb, not finished, or has no map that can be used.
    """
    options = _options(asked, folder)
    block: Block = ([], [], [])
    others: list[str] = []  # what is explained in place of an image's own class
    with progress(len(folder.items), "read maps") as advance:
        for number in runfolder.finished(folder):
            seen, arrays = runfolder.read_chunk(folder, number)
            for place, one in enumerate(seen):
                row, name = _row(asked, one, truth)
                if name is None:
                    others += [made["objective"] for made in one["maps"] if made["method"] == asked.method][:1]
                kept = [torch.as_tensor(arrays[key][place])[None] for key in (name, "image")] if name else []
                block[0].append(row)
                block[1].append(averaged(kept[0], asked.size)[0] if kept else None)
                block[2].append(small(kept[1].float() / 255, squash=folder.manifest["ragged"])[0] if kept else None)
            advance(len(seen))
    if others:
        said = f"{asked.method} explains {others[0]}, not the class of the image itself"
        if all(row["class"] < 0 for row in block[0]):
            raise ValueError(f"{folder.path}: {said}. Explain the images without a target, or audit their folder")
        on_message(
            f"{len(others)} of {len(block[0])} images are left out: {said}. An audit of their folder has them all"
        )
    return gathered([block]), tuple(row["name"] for row in block[0]), options


def _row(asked: MapPlan, seen: Mapping[str, Any], truth: bool) -> tuple[dict[str, Any], str | None]:
    """What is kept of an image, and the name of its map: empty where none is wanted, None where there is none."""
    row = {"name": seen["name"], "class": -1, "prediction": -1, "score": float("nan"), "problem": seen["problem"]}
    own = class_index(asked.model, seen["true"]) if truth else None
    if not seen["problem"]:
        row["prediction"], row["score"] = seen["classes"][0], seen["probabilities"][0]
        own = row["prediction"] if own is None else own
    if asked.wanted and own is not None and own not in asked.wanted:
        row["problem"] = None
        return row, ""
    if own is None or seen["problem"]:
        return row, ""
    labels = asked.model.labels if isinstance(asked.model, Classifier) else ()
    objective = str(logit(labels[own] if own < len(labels) else own))
    made = [one for one in seen["maps"] if (one["method"], one["objective"]) == (asked.method, objective)]
    if not made:
        return row, None
    row["class"], row["problem"] = own, made[0]["problem"]
    return row, "" if made[0]["problem"] else made[0]["name"]


def _options(asked: MapPlan, folder: RunFolder) -> dict[str, Any]:
    """The options of a method in a run that can be audited."""
    about, path = folder.manifest, folder.path
    if about["verb"] != "explain":
        raise ValueError(f"{path} is a run of {about['verb']}: only maps of `pellucid explain` can be audited")
    if waiting := runfolder.pending(folder):
        raise ValueError(
            f"{path} is not finished, {len(waiting)} of {folder.chunks} chunks are missing: run the same "
            "`pellucid explain` again"
        )
    model = as_json(runfolder.describe_model(asked.model))
    if differs := difference({"model": about["model"]}, {"model": model}):
        raise OtherRun(f"{path} is a run of another model: {differs['model']}", finished=True)
    methods = about["options"]["methods"]
    if asked.method not in methods:
        raise ValueError(f"{path} has no maps of {asked.method}: name a method that it has, {', '.join(methods)}")
    options: dict[str, Any] = methods[asked.method]
    given = as_json(asked.options)
    if differs := difference({"options": {k: options.get(k) for k in given}}, {"options": given}):
        raise OtherRun(f"{path} has maps of {asked.method} with other options: {differs['options']}", finished=True)
    return options
