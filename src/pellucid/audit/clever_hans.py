"""Clever Hans: groups of images that a network judges by evidence of their own, found without knowing which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ..checks import UnknownName
from ..methods.options import checked, to_record
from ..methods.registry import find
from ..methods.result import Call
from ..methods.verb import verb
from ..model.batches import progress
from ..model.classifier import Classifier
from ..model.run import Model
from ..representation.sweeps.image_source import Images, Labels, Source, source_of
from .relevance_clusters.clusters import (
    RESOLUTIONS,
    SMALLEST,
    THRESHOLD,
    Array,
    Found,
    find_clusters,
    outlier_scores,
    unit_maps,
)
from .relevance_clusters.explain_run import maps_in, run_folder_in
from .relevance_clusters.relevance_maps import MapPlan, Maps, Say, class_index, maps_of
from .relevance_clusters.result import AuditedClass, CleverHans, Cluster

PAPER = (
    "Lapuschkin, Wäldchen, Binder, Montavon, Samek & Müller 2019, Unmasking Clever Hans predictors and assessing what "
    "machines really learn"
)


@verb(paper=PAPER)
def clever_hans(
    model: Model,
    images: Images,
    labels: Labels = "folders",
    *,
    classes: int | str | Sequence[int | str] | None = None,
    method: str = "lrp",
    options: Mapping[str, Any] | None = None,
    size: int = 16,
    transform: Literal["places", "frequencies"] = "places",
    clusters: int | Sequence[int] | None = None,
    neighbors: int | None = None,
    smallest: int = SMALLEST,
    threshold: float = THRESHOLD,
    seed: int = 0,
    folder: str | Path | None = None,
    overwrite: bool = False,
    on_message: Say | None = None,
) -> CleverHans:
    """Find groups of images in a class that a network judges by evidence of their own: spectral relevance analysis.

    For each class: the relevance of its logit in each of its images, averaged down to size x size; maps scaled so that
    places where relevance is rare count as much as others; a graph of nearest maps, the eigenvectors of its Laplacian,
    K-means on these for several numbers of clusters. Clusters are ranked by their outlier score:

        score = (lower quartile inside - 95 % quantile outside) / standard deviation outside, of what a ridge regression
                on all other maps predicts for each: the gap between a cluster and the rest of its class
        outlier score = (score - middle) / spread of such scores: over the other clusters of the class, of all classes
        that
                   are audited, and of structureless clouds with the same mean and covariance; the largest count

    An alarm is an outlier score of `threshold` or more. It says that some images are judged in a way of their own, and
    shows which and where; whether that evidence is right (a saddle on a horse) or not (a photographer's mark) is for
    people to say. What all images of a class share stands apart from nothing and raises no alarm: see the mean maps.

    Args:
        model: a network or a `Classifier`, which files need.
        images: a folder, files, or a tensor N x C x H x W. Or the finished run folder of `pellucid explain`, whose
            maps of `method` are audited as they are: those that explain the class of the image itself.
        labels: the true classes. Of files: "folders" takes the names of their folders; a table: a dict, or a .csv or
            .json file. Of a tensor: N classes. Where it is not known, or no class of the model, the predicted one.
        classes: the classes to audit, by index or label; all that have enough images by default.
        method: an attribution of the catalogue.
        options: of the method. For "lrp", rules are "EPSILON_PLUS" unless they are given: a flat first layer, which is
            its default, would blur a small mark.
        size: rows and columns that maps are averaged down to, at most half of those of the images.
        transform: "places" compares where relevance lies; "frequencies" the logarithm of its spectrum, log |fft2|,
            which does not change as a pattern moves.
        clusters: how many, or several numbers, all of which are tried; 2, 4, 8 and 16 by default.
        neighbors: of each map in the graph; log2 N, between 3 and 10, by default.
        smallest: images in a cluster.
        threshold: outlier score of an alarm.
        seed: of K-means and clouds, and of the method if that is random.
        folder: a run folder to keep maps in: an interrupted run resumes.
        overwrite: throw away what the folder holds.
        on_message: called with a line of text for what is worth knowing, such as classes that have too few images.

    Returns:
        `CleverHans`: clusters, ranked; maps; `show()`, `embedding()`, `save()`.

    Raises:
        UnknownName: for a class, method or option that does not exist.
        ValueError, TypeError: for images or options that make no sense, or if no class has enough images.
        OtherRun: a run folder holds a run of another model, or with other files or options.

    Paper:
        Lapuschkin, Wäldchen, Binder, Montavon, Samek & Müller 2019, Unmasking Clever Hans predictors and assessing what
        machines really learn.

    >>> import pellucid
    >>> model, scenes = pellucid.load("shapes"), pellucid.shapes.scenes(120)
    >>> found = pellucid.clever_hans(model, scenes.images[:40], [3] * 40, method="gradient_x_input")
    >>> found.alarms, len(found.maps)
    ((), 40)
    """
    tell = on_message or (lambda _: None)
    if transform not in ("places", "frequencies"):
        raise ValueError(f"transform is {transform!r}, expected 'places' or 'frequencies'")
    for name, value, least in (("size", size, 2), ("smallest", smallest, 3)):
        if not isinstance(value, int) or value < least:
            raise ValueError(f"{name} is {value!r}, expected a whole number of at least {least}")
    cuts = RESOLUTIONS if clusters is None else (clusters,) if isinstance(clusters, int) else tuple(clusters)
    if not cuts or any(not isinstance(cut, int) or cut < 2 for cut in cuts):
        raise ValueError(f"clusters is {clusters!r}, expected whole numbers of at least 2")
    if not threshold > 0:
        raise ValueError(f"threshold is {threshold!r}, expected a number above 0")
    given = _options(method, options or {}, seed)
    chosen = () if classes is None else tuple(_index(model, c) for c in _several(classes))
    asked = MapPlan(model, method, given, size, chosen)
    explained = run_folder_in(images)
    if explained is not None:
        if folder is not None or not (labels is None or labels == "folders"):
            raise ValueError(
                f"{explained.path} has maps and true classes of its own: give no folder for maps, and no labels"
            )
        asked = replace(asked, options=options or {})  # those that were named
        found, names, given = maps_in(asked, explained, labels is not None, tell)
        files: tuple[str, ...] = explained.items
    else:
        source, true = _with_classes(model, images, labels, chosen, tell)
        found = maps_of(asked, source, true, folder=folder, overwrite=overwrite, on_message=tell)
        names, files = source.names, source.items if source.of_files else ()
    maps = _compared(found.maps, transform)
    record = Call(
        options={
            "method": method, **{name: to_record(value) for name, value in given.items()}, "size": size,
            "transform": transform, "clusters": cuts, "neighbors": neighbors, "smallest": smallest, "seed": seed,
        },
        objective="logit of the class",
    )  # fmt: skip
    ranked, audited, skipped, unit = _audit(
        model, found, maps, cuts, threshold, bool(chosen),
        neighbors=neighbors, smallest=smallest, seed=seed,
    )  # fmt: skip
    for label, reason in skipped.items():
        tell(f"{label} is left out: {reason}")
    if len(audited) == 1:
        tell("one class alone has few clusters to compare with, and more false alarms: audit several at once")
    total = found.maps.abs().sum((1, 2), keepdim=True)
    return CleverHans(
        clusters=tuple(ranked),
        classes=tuple(audited),
        maps=found.maps / torch.where(total > 0, total, 1),
        pictures=found.pictures,
        unit=unit,
        names=tuple(names[i] for i in found.items.tolist()),
        files=tuple(files[i] for i in found.items.tolist()) if files else (),
        labels=tuple(_word(model, c) for c in found.classes.tolist()),
        predictions=tuple(_word(model, c) for c in found.predictions.tolist()),
        threshold=threshold,
        skipped=skipped,
        failures=found.failures,
        call=record,
    )


def _audit(
    model: Model, found: Maps, maps: Array, cuts: Sequence[int], threshold: float, named: bool, **how: Any
) -> tuple[list[Cluster], list[AuditedClass], dict[str, str], Tensor]:
    """Clusters of all classes, ranked; the classes; those left out; the maps as they were compared."""
    ranked: list[Cluster] = []
    audited: list[AuditedClass] = []
    results: list[Found] = []
    skipped: dict[str, str] = {}
    unit = torch.zeros(len(maps), maps[0].size)
    present = found.classes.unique().tolist()
    with progress(len(present), "clusters", unit="class") as advance:
        for index in present:
            members = (found.classes == index).nonzero().flatten()
            mine, label = maps[members.numpy()], _word(model, index)
            unit[members] = torch.from_numpy(unit_maps(mine)).float()
            try:
                result = find_clusters(mine, resolutions=cuts, **how)
            except ValueError as error:
                skipped[label] = str(error)
                advance(1)
                continue
            results.append(result)
            audited.append(
                AuditedClass(
                    label, tuple(members.tolist()), torch.from_numpy(result.coordinates.copy()),
                    torch.from_numpy(result.eigenvalues.copy()), result.gap, result.copies,
                )
            )  # fmt: skip
            advance(1)
    if not audited:
        first, reason = next(iter(skipped.items()))
        raise ValueError(
            f"no class can be audited: {first}: {reason}"
            + (
                ""
                if named or len(skipped) == 1
                else f"; {len(skipped) - 1} more classes are too small. Give more images, or a smaller `smallest`"
            )
        )
    for one, result, scores in zip(audited, results, outlier_scores(results), strict=True):
        for group, outlier_score in zip(result.groups, scores, strict=True):
            rows = tuple(one.members[number] for number in group.members.tolist())
            share = len(rows) / len(one.members)
            ranked.append(Cluster(one.label, rows, share, group.score, outlier_score, outlier_score >= threshold))
    ranked.sort(key=lambda cluster: -cluster.outlier_score)
    return ranked, audited, skipped, unit


def _compared(maps: Tensor, transform: str) -> Array:
    values: Array = maps.double().numpy()
    if transform == "places":
        return values
    total = np.abs(values).sum((1, 2), keepdims=True)
    return np.log(np.abs(np.fft.fft2(values / np.where(total > 0, total, 1))) + 1e-4)


def _options(method: str, options: Mapping[str, Any], seed: int) -> dict[str, Any]:
    entry = find("attribution", method)
    options = {**({"rules": "EPSILON_PLUS"} if method == "lrp" else {}), **options}
    given = checked(method, options, entry.options, entry.option_types)
    return {**({"seed": seed} if "seed" in entry.options else {}), **given}


def _with_classes(
    model: Model, images: Images, labels: Labels, chosen: Sequence[int], tell: Say
) -> tuple[Source, list[int | None]]:
    """The images, and the class of each, None where it is not known."""
    source = source_of(model, images, labels)
    classes = [class_index(model, label) for label in source.labels]
    if chosen:
        source, classes = _only(source, classes, chosen)
    unknown = sum(c is None for c in classes)
    if unknown:
        tell(f"the class of {unknown} of {len(classes)} images is not known: they count for the one that is predicted")
    return source, classes


def _only(source: Source, classes: list[int | None], chosen: Sequence[int]) -> tuple[Source, list[int | None]]:
    """The images of some classes, and those whose class is not known."""
    keep = [place for place, c in enumerate(classes) if c is None or c in chosen]
    if not keep:
        raise ValueError(f"none of {len(source)} images is of the class {', '.join(map(str, chosen))}")
    read = source.read
    fewer = Source(
        tuple(source.items[i] for i in keep), tuple(source.names[i] for i in keep),
        tuple(source.labels[i] for i in keep), lambda number: read(keep[number]),
        None if source.images is None else source.images[keep],
    )  # fmt: skip
    return fewer, [classes[i] for i in keep]


def _index(model: Model, chosen: int | str) -> int:
    if isinstance(chosen, str) and isinstance(model, Classifier) and model.labels:
        return model.index(chosen)
    try:
        return int(chosen)
    except (TypeError, ValueError):
        raise UnknownName(f"the class {chosen!r} needs a model with labels: pellucid.wrap(net, labels=[...])") from None


def _several(class_: int | str | Sequence[int | str]) -> Sequence[int | str]:
    return [class_] if isinstance(class_, (int, str)) else class_


def _word(model: Model, index: int) -> str:
    return model.label(index) if isinstance(model, Classifier) else str(index)
