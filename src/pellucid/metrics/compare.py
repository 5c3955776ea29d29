"""compare: which method tells the truth about this model, and what does it cost?"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import runfolder
from ..attribution.ingredients.baselines import baseline_images
from ..checks import UnknownName, nearest
from ..methods.options import checked, to_record
from ..methods.registry import CATALOGUE, find
from ..methods.result import Call
from ..methods.verb import verb
from ..model.batches import progress
from ..model.classifier import Classifier, ready
from ..model.run import Model
from ..objectives import ObjectiveLike, as_objective, logit, probability
from ..representation.sweeps.image_source import Images, Source, source_of
from ..representation.sweeps.sweep import Say, by_size, read_ahead
from ..runfolder import RunFolder
from .comparison_result import MEASURES, SHOWN, Comparison
from .curves import deletion, insertion
from .fidelity import Perturbations
from .inputs import bind_objective, predicted
from .localization import mass_accuracy, pointing_game
from .sensitivity import sensitivity_max

DEFAULTS = ("saliency", "gradient_x_input", "integrated_gradients", "grad_cam", "lrp")
MASKED = ("mass", "pointing")
CHUNK = 8

Masks = Tensor | str | Path | None
Row = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Benchmark:
    """What is compared: with the images, all that the numbers depend on, but for times.

    model: a network or a `Classifier`. methods: options by name. objective: what is explained; None is the predicted
    class. measures: which. steps: of the curves. samples: squares that are covered. around: images around each. seed.
    """

    model: Model
    methods: Mapping[str, Mapping[str, Any]]
    objective: ObjectiveLike
    measures: tuple[str, ...]
    steps: int
    samples: int
    around: int
    seed: int


@verb(kind="metric")
def compare(
    model: Model,
    images: Images,
    methods: Sequence[str] = DEFAULTS,
    objective: ObjectiveLike = None,
    masks: Masks = None,
    *,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    measures: Sequence[str] | None = None,
    steps: int = 25,
    samples: int = 25,
    around: int = 3,
    seed: int = 0,
    folder: str | Path | None = None,
    overwrite: bool = False,
    on_message: Say | None = None,
) -> Comparison:
    """Methods in one table: what a map costs, and how true it is, over a set of images.

    - deletion, insertion: areas under the probability of the class as the most relevant pixels go or come
      (`pellucid.metrics.deletion`, `insertion`);
    - infidelity: the part of the effect of covering squares that the map misses after its best scale, from 0 to 1
      (`pellucid.metrics.infidelity`, scaled and relative), so that maps without a unit compare;
    - sensitivity: the largest relative change of the map near each image (`pellucid.metrics.sensitivity_max`);
    - mass, pointing, where masks are given: is the relevance on the object (`mass_accuracy`, `pointing_game`)?

    The effects of covering squares are computed once for all methods. A method that fails on an image is reported, and
    stops nothing. No measure is the truth: what deletion shows lies off the data, and a map may be true and sensitive.

    Args:
        model: a network or a `Classifier`, which files need.
        images: a tensor N x C x H x W, a folder, or files.
        methods: names of attributions in the catalogue.
        objective: what is explained; None is the predicted class. Curves then show its probability.
        masks: where the evidence is: bool N x 1 x H x W for a tensor; for files a folder of pictures of the same names,
            bright inside.
        options: of methods, by name.
        measures: some of the above; by default all that can be computed.
        steps: of the curves. samples: squares. around: images around each, for sensitivity.
        seed: of all that is random.
        folder: a run folder to keep numbers in: an interrupted run resumes.
        overwrite: throw away what the folder holds.
        on_message: called with a line of text for what is worth knowing.

    Returns:
        A `Comparison`: `table()`, `figure()`, `save()`.

    Raises:
        UnknownName: for a method, option or measure that does not exist.
        ValueError, TypeError: for images or masks that make no sense, or if no method works on any image.
        OtherRun: the folder holds a run of another model, or with other files or options.

    >>> import pellucid
    >>> model, scenes = pellucid.load("shapes"), pellucid.shapes.scenes(2)
    >>> found = pellucid.compare(
    ...     model, scenes.images, ["saliency", "grad_cam"], masks=scenes.masks, steps=4, samples=4, around=1
    ... )
    >>> found.mean("mass").shape, found.best("mass") in found.methods
    (torch.Size([2]), True)
    """
    tell = on_message or (lambda _: None)
    race = Benchmark(model, _chosen(methods, options or {}, seed), objective, _measured(measures, masks),
                _whole("steps", steps), _whole("samples", samples), _whole("around", around), seed)  # fmt: skip
    source = source_of(model, images, None)
    if source.images is not None:
        ready(model, source.images)
    inside = _masks(model, source, masks)
    if folder is None:
        blocks = []
        with progress(len(source), "compare") as advance:
            for first in range(0, len(source), CHUNK):
                members = range(first, min(first + CHUNK, len(source)))
                blocks.append(_computed(race, source, inside, members))
                advance(len(members))
    else:
        blocks = _in_folder(race, source, inside, Path(folder), overwrite, tell)
    rows = [row for block, _ in blocks for row in block]
    maps = [map_ for _, block in blocks for map_ in block]
    record = Call(
        options={"methods": tuple(race.methods), "steps": steps, "samples": samples, "around": around, "seed": seed},
        objective=str(as_objective(model, objective)),
    )
    return _gathered(race, rows, maps, record)


def compare_rows(race: Benchmark, images: Tensor, masks: Tensor | None) -> tuple[list[Row], list[dict[str, Tensor]]]:
    """Numbers and maps of a batch, for each image by method: a pure function, which any engine may call on any batch.

    Args:
        race: what is compared. images: N x C x H x W. masks: bool N x 1 x H x W, or None.

    Returns:
        For each image, by method, a dict of costs and scores, or a "problem"; and its maps, H x W.
    """
    model, count = race.model, len(images)
    classes = predicted(model, images) if race.objective is None else None
    target = race.objective if classes is None else logit(classes)
    curve = race.objective if classes is None else probability(classes)
    _, bound = bind_objective(model, images, target)
    changes = Perturbations(images, baseline_images(model, images, "mean", race.seed), "square", race.samples,
                      max(1, min(images.shape[2:]) // 4), 1.0, race.seed)  # fmt: skip
    effects = changes.effects(model, bound) if "infidelity" in race.measures else torch.empty(0)
    rows: list[Row] = [{} for _ in range(count)]
    maps: list[dict[str, Tensor]] = [{} for _ in range(count)]
    for name, options in race.methods.items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = CATALOGUE[name].function(model, images, target, **options)
            if found.values.ndim != 4:
                raise ValueError(f"it gives {tuple(found.values.shape[1:])} numbers an image, which is no map")
            scores: dict[str, Tensor] = {}
            for measure in race.measures:
                if measure in ("deletion", "insertion"):
                    make = deletion if measure == "deletion" else insertion
                    scores[measure] = make(model, images, found, curve, steps=race.steps, seed=race.seed).area
                elif measure == "infidelity":
                    scores[measure] = changes.missed(
                        found.values, effects, reference="shares", scaled=True, relative=True
                    )
                elif measure == "sensitivity":
                    scores[measure] = sensitivity_max(
                        model, images, name, target, samples=race.around, values=found, **{"seed": race.seed, **options}
                    )
                elif masks is not None:
                    of = mass_accuracy if measure == "mass" else pointing_game
                    scores[measure] = of(found.values.cpu(), masks)
        except (ValueError, TypeError, RuntimeError, ImportError) as error:
            for row in rows:
                row[name] = {"problem": " ".join(str(error).split()) or type(error).__name__}
            continue
        call = found.call
        shown = found.values.detach().float().sum(1).cpu()
        for i in range(count):
            rows[i][name] = {
                "seconds": call.seconds / count, "forward": call.forward / count, "backward": call.backward / count,
                "problem": None, **{measure: float(values[i]) for measure, values in scores.items()},
            }  # fmt: skip
            maps[i][name] = shown[i]
    return rows, maps


def compare_chunk(race: Benchmark, source: Source, masks: Mapping[int, Tensor], folder: RunFolder, number: int) -> None:
    """Compute one chunk of a run folder and write it; any engine may call this, in any order."""
    members = runfolder.span(folder, number)
    rows, maps = _computed(race, source, masks, members)
    names = [*race.methods, "image"]
    arrays = {name: [None if name not in one else one[name].numpy() for one in maps] for name in names}
    runfolder.write_chunk(folder, number, rows, arrays)


Block = tuple[list[Row], list[dict[str, Tensor]]]


def _computed(race: Benchmark, source: Source, masks: Mapping[int, Tensor], members: Sequence[int]) -> Block:
    """The rows of some images; one by one where a batch fails, or they differ in size."""
    read = read_ahead(source, members)
    for place, number in enumerate(members):
        if masks and number not in masks and isinstance(read[place], Tensor):
            read[place] = "there is no mask for it"
    rows: list[Row] = [{**source.row(number), "methods": []} for number in members]
    maps: list[dict[str, Tensor]] = [{} for _ in members]

    def compute(places: list[int], batch: Tensor) -> None:
        mask = torch.stack([masks[members[place]] for place in places]) if masks else None
        found, shown = compare_rows(race, batch, mask)
        if len(places) > 1 and any(one.get("problem") for row in found for one in row.values()):
            raise ValueError("a method fails for one of them")
        for place, row, kept, image in zip(places, found, shown, batch, strict=True):
            rows[place]["methods"] = [{"name": name, **values} for name, values in row.items()]
            maps[place] = {**kept, "image": image.detach().float().cpu()}

    def fail(place: int, why: str) -> None:
        rows[place]["problem"] = why

    by_size(read, compute, fail)
    return rows, maps


def _in_folder(
    race: Benchmark, source: Source, masks: Mapping[int, Tensor], place: Path, overwrite: bool, say: Say
) -> list[Block]:
    options = {
        "methods": {name: {o: to_record(v) for o, v in given.items()} for name, given in race.methods.items()},
        "objective": str(as_objective(race.model, race.objective)),
        "measures": list(race.measures),
        "steps": race.steps,
        "samples": race.samples,
        "around": race.around,
        "images": source.identity(),
        "masks": runfolder.hash_of({str(k): v.tolist() for k, v in masks.items()}) if masks else "",
        "files": runfolder.hash_of([source.state(number) for number in range(len(source))]),
    }
    with runfolder.begin(
        place, verb="compare", model=runfolder.describe_model(race.model), items=source.items, options=options,
        seed=race.seed, chunk=CHUNK, ragged=True, overwrite=overwrite,
    ) as opened:  # fmt: skip
        runfolder.finish(opened, lambda number: compare_chunk(race, source, masks, opened, number), "compare", say)
        blocks: list[Block] = []
        for number in runfolder.finished(opened):
            rows, arrays = runfolder.read_chunk(opened, number)
            maps: list[dict[str, Tensor]] = [
                {name: torch.from_numpy(value) for name, values in arrays.items() if (value := values[i]) is not None}
                for i in range(len(rows))
            ]
            blocks.append((rows, maps))
        return blocks


def _gathered(race: Benchmark, rows: list[Row], maps: list[dict[str, Tensor]], record: Call) -> Comparison:
    good = [place for place, row in enumerate(rows) if not row["problem"]]
    failures = tuple((row["name"], row["problem"]) for row in rows if row["problem"])
    if not good:
        raise ValueError(f"none of {len(rows)} images can be used: {failures[0][0]}: {failures[0][1]}")
    shape = maps[good[0]]["image"].shape
    good.sort(key=lambda place: maps[place]["image"].shape != shape)  # those of one size first, to be shown together
    alike = [place for place in good if maps[place]["image"].shape == shape][: 4 * SHOWN]
    found = {(i, one["name"]): one for i, place in enumerate(good) for one in rows[place]["methods"]}
    problems: dict[str, tuple[int, str]] = {}
    for (_, name), one in found.items():
        if one["problem"]:
            count, first = problems.get(name, (0, one["problem"]))
            problems[name] = (count + 1, first)
    if all(problems.get(name, (0, ""))[0] == len(good) for name in race.methods):
        raise ValueError(
            "no method works on this model: " + "; ".join(f"{name}: {why}" for name, (_, why) in problems.items())
        )

    def table(column: str) -> Tensor:
        values = [[_number(found[i, name].get(column)) for i in range(len(good))] for name in race.methods]
        return torch.tensor(values, dtype=torch.float64)

    empty = torch.full(tuple(shape[1:]), torch.nan)
    return Comparison(
        methods=tuple(race.methods),
        scores={measure: table(measure) for measure in race.measures},
        seconds=table("seconds"),
        forward=table("forward"),
        backward=table("backward"),
        images=torch.stack([maps[place]["image"] for place in alike]),
        maps=torch.stack([torch.stack([maps[place].get(name, empty) for place in alike]) for name in race.methods]),
        names=tuple(rows[place]["name"] for place in good),
        problems=problems,
        failures=failures,
        call=record,
    )


def _chosen(methods: Sequence[str], options: Mapping[str, Mapping[str, Any]], seed: int) -> dict[str, dict[str, Any]]:
    names = list(dict.fromkeys([methods] if isinstance(methods, str) else methods))
    if not names:
        raise ValueError("no method was named: give at least one")
    known = {name: find("attribution", name) for name in [*names, *options]}
    if idle := [name for name in options if name not in names]:
        raise ValueError(f"options for {idle[0]} are given, but it is not among the methods: {', '.join(names)}")
    found = {}
    for name in names:
        entry = known[name]
        shared = {"seed": seed} if "seed" in entry.options else {}
        found[name] = {**shared, **checked(name, options.get(name, {}), entry.options, entry.option_types)}
    return found


def _measured(measures: Sequence[str] | None, masks: Masks) -> tuple[str, ...]:
    able = [name for name in MEASURES if masks is not None or name not in MASKED]
    for name in measures or ():
        if name not in MEASURES:
            raise UnknownName(f"there is no measure {name!r}; {nearest(str(name), MEASURES)}")
        if name not in able:
            raise ValueError(f"{name} needs masks of where the evidence is, and none are given")
    return tuple(able if measures is None else dict.fromkeys(measures))


def _masks(model: Model, source: Source, masks: Masks) -> dict[int, Tensor]:
    """Masks by number of the image, each bool 1 x H x W."""
    if masks is None:
        return {}
    if isinstance(masks, Tensor):
        if source.images is None:
            raise TypeError("masks is a tensor, which goes with images as a tensor: for files give a folder of masks")
        expected = (len(source), 1, *source.images.shape[2:])
        if masks.dtype != torch.bool or tuple(masks.shape) != expected:
            raise ValueError(
                f"masks are {masks.dtype} of shape {tuple(masks.shape)}, expected torch.bool of {expected}"
            )
        return dict(enumerate(masks.cpu()))
    place = Path(masks)
    if source.images is not None or not isinstance(model, Classifier):
        raise TypeError("masks is a folder, which goes with files: give masks as a tensor, bool N x 1 x H x W")
    if not place.is_dir():
        raise FileNotFoundError(f"there is no folder of masks {place}")
    files = {file.relative_to(place).with_suffix("").as_posix(): file for file in place.rglob("*") if file.is_file()}
    found: dict[int, Tensor] = {}
    for number, name in enumerate(source.names):
        file = files.get(Path(name).with_suffix("").as_posix()) or files.get(Path(name).stem)
        if file is not None:
            found[number] = model.read_one(file).mean(0, keepdim=True) > 0.5
    if not found:
        raise ValueError(f"{place} has no mask for any of {len(source)} images: they are named like these")
    return found


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _whole(name: str, value: int) -> int:
    if not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} is {value!r}, expected a whole number of at least 1")
    return value
