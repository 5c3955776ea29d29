"""What is computed for each image from one pass, which many measures share."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ...checks import nan_weights
from ...model.batches import batched, memory_budget
from ...model.classifier import network
from ...model.relevance import bounds_of, relevances
from ...model.run import Model, Rules, Trace, device_of, run
from ...model.settings import current, settings
from ...objectives import ObjectiveLike, as_objective

PIXELS = "pixels"
"""Stands for the images themselves where a measure names a layer."""
SMALL_PASS = 64  # images of 32 x 32 through a small network took 0.57 of the time of 256 in a pass
CAUTION = 200  # activations take so many times the memory of the images, with gradients


@dataclass(frozen=True, eq=False)
class BatchContext:
    """What a measure sees of one batch.

    trace: of the pass; `trace.images` are the images. relevance: by layer that some measure asks for, the relevance of
    its neurons, of the shape of the activation; of the pixels under `PIXELS`.
    """

    trace: Trace = field(repr=False)
    relevance: Mapping[str, Tensor] = field(repr=False, default_factory=dict)


@dataclass(frozen=True)
class Measure:
    """What one pass over a batch gives for each image: a pure function, which any engine may call on any batch.

    name: what it is, in words that tell it from others; part of what identifies a run.
    rows: from what a pass has computed, arrays by name, each with the image as its first axis.
    reads: layers whose activations it needs. back: layers whose relevance it needs, `PIXELS` for that of the pixels.
    at: instead of `rows`, what is taken of each layer of `reads` when the pass gets there, from the layer's name, its
    activation, and height and width of the images. Nothing of the activation has then to be kept.
    """

    name: str
    rows: Callable[[BatchContext], Mapping[str, Tensor]] = field(repr=False, default=lambda _: {})
    reads: frozenset[str] = frozenset()
    back: frozenset[str] = frozenset()
    at: Callable[[str, Tensor, tuple[int, ...]], Mapping[str, Tensor]] | None = field(repr=False, default=None)


@dataclass(frozen=True, eq=False)
class SweepPlan:
    """All that one pass is to answer.

    model: a network or a `Classifier`. measures: what to compute. objective: whose relevance, None for the predicted
    class. rules: of its backward. output: whether the pass goes on to the output, so that classes are predicted.
    """

    model: Model
    measures: tuple[Measure, ...]
    objective: ObjectiveLike = None
    rules: Rules = field(default_factory=dict)
    output: bool = True

    @property
    def reads(self) -> frozenset[str]:
        return frozenset().union(*(measure.reads for measure in self.measures))

    @property
    def visited(self) -> frozenset[str]:
        """Layers of which something is taken when the pass gets there."""
        return frozenset().union(*(measure.reads for measure in self.measures if measure.at is not None))

    @property
    def back(self) -> frozenset[str]:
        return frozenset().union(*(measure.back for measure in self.measures))


@dataclass(frozen=True, eq=False)
class SweepResult:
    """What passes gave for n images.

    arrays: by name, n arrays, in one tensor where all images have one; None for an image that has none. classes,
    scores: n, the predicted class and its probability, -1 and NaN where there is none. problems: why an image has
    nothing. batch: how many images fit into a pass, if that was found out.
    """

    arrays: Mapping[str, Tensor | Sequence[Tensor | None]]
    classes: Sequence[int]
    scores: Sequence[float]
    problems: Mapping[int, str]
    batch: int | None


def run_measures(question: SweepPlan, images: Tensor) -> tuple[dict[str, Tensor], Tensor | None]:
    """One forward over a batch, and one backward if a measure asks for relevance: arrays by name, and the output.

    Raises:
        ModelError, RuleError: if the network fails on the images, or the rules on the network.
        ValueError: if a measure gives another number of rows than there are images, or a name twice.
    """
    model, back, size = question.model, question.back, tuple(images.shape[2:])
    arrays: dict[str, Tensor] = {}

    def take(measure: Measure, given: Mapping[str, Tensor]) -> None:
        for name, values in given.items():
            if len(values) != len(images) or name in arrays:
                raise ValueError(
                    f"{measure.name} gave {len(values)} rows of {name!r} for {len(images)} images, or gave it "
                    "twice: a measure gives each array once, with one row for each image"
                )
            arrays[name] = storable(values)

    def visit(layer: str, activation: Tensor) -> Tensor:
        with torch._C.DisableTorchFunction(), torch.no_grad():  # no rule is about what is done here
            for measure in question.measures:
                if measure.at is not None and layer in measure.reads:
                    take(measure, measure.at(layer, activation.detach(), size))
        return activation

    relevance: dict[str, Tensor] = {}
    # As the pass gets to a layer its activation is in the caches, and goes when the next layers have used it.
    visits = {layer: functools.partial(visit, layer) for layer in sorted(question.visited - {PIXELS})}
    kept = frozenset().union(*(measure.reads for measure in question.measures if measure.at is None)) - {PIXELS}
    if back:
        bound = as_objective(model, question.objective).bind(model, len(images))
        low, high = bounds_of(model, images, question.rules)
        pixels, relevance, _, trace = relevances(
            model, images, bound, question.rules, sorted(back - {PIXELS}), read=kept, edit=visits,
            to_output=question.output, low=low, high=high,
        )  # fmt: skip
        relevance[PIXELS] = pixels
    with torch.no_grad():
        if not back:
            trace = run(model, images, read=kept, edit=visits, to_output=question.output)
        if PIXELS in question.visited:
            visit(PIXELS, images)
        seen = BatchContext(trace, relevance)
        for measure in question.measures:
            take(measure, measure.rows(seen))
    output = trace.output
    return arrays, output.detach() if isinstance(output, Tensor) and output.ndim == 2 else None


def measure_batch(question: SweepPlan, images: Sequence[Tensor | None], batch: int | None = None) -> SweepResult:
    """What a question gives for images one by one, in passes that fit the memory.

    Args:
        images: each C x H x W, in any sizes; None for one that could not be read.
        batch: images in a pass, as an earlier answer has found it; measured by default.

    Raises:
        ValueError: if nothing that is computed is finite, because of a weight that is not.
    """
    count = len(images)
    blocks: dict[str, list[tuple[list[int], Tensor]]] = {}
    classes, scores = [-1] * count, [float("nan")] * count
    problems: dict[int, str] = {}
    sizes: dict[tuple[int, ...], list[int]] = {}
    for place, image in enumerate(images):
        if image is not None:
            sizes.setdefault(tuple(image.shape), []).append(place)
    found_batch = batch
    for places in sizes.values():
        stack = torch.stack([image for place in places if (image := images[place]) is not None])

        def step(part: slice, places: list[int] = places, stack: Tensor = stack) -> None:
            nonlocal found_batch
            if part.stop - part.start < len(places):  # all that fitted
                found_batch = max(found_batch or 1, part.stop - part.start)
            found, output = run_measures(question, stack[part])
            mine = places[part]
            problems.update(_not_finite(question, found, mine))
            for name, values in found.items():
                blocks.setdefault(name, []).append((mine, values))
            if output is not None:
                best = output.float().softmax(1).max(1)
                alone = output.shape[1] == 1  # the softmax of one number says nothing
                for place, index, score in zip(mine, best.indices.tolist(), best.values.tolist(), strict=True):
                    classes[place], scores[place] = (-1, float("nan")) if alone else (index, score)

        device = device_of(question.model)
        known = batch or _quickest(stack, device)
        with ExitStack() as stack_of_settings:
            if known is not None and current().batch_size is None:
                stack_of_settings.enter_context(settings(batch_size=known))
            batched(step, len(places), like=stack, label="look", device=device)
    whole = not problems and sum(map(len, sizes.values())) == count and len(sizes) == 1
    arrays = {name: _column(parts, count, problems, whole) for name, parts in blocks.items()}
    return SweepResult(arrays, classes, scores, problems, found_batch)


def _column(
    parts: Sequence[tuple[list[int], Tensor]], count: int, problems: Mapping[int, str], whole: bool
) -> Tensor | list[Tensor | None]:
    """What passes gave for each image: one tensor where that is whole, for one by one takes as long as computing it."""
    if whole:
        return torch.cat([values for _, values in parts])
    column: list[Tensor | None] = [None] * count
    for places, values in parts:
        for place, value in zip(places, values.unbind(0), strict=True):
            column[place] = None if place in problems else value
    return column


def _quickest(images: Tensor, device: torch.device | None) -> int | None:
    """How many small images make a pass on a CPU: activations that stay in its caches cost half; else by memory."""
    if (device or images.device).type != "cpu":
        return None
    fits = SMALL_PASS * images[0].numel() * images.element_size() * CAUTION <= memory_budget(torch.device("cpu"))
    return SMALL_PASS if fits else None


def storable(values: Tensor) -> Tensor:
    """Numbers as they are kept: on the CPU, those of half precision as float32."""
    values = values.detach()
    return values.to("cpu", torch.float32 if values.dtype in (torch.float16, torch.bfloat16) else values.dtype)


def _not_finite(question: SweepPlan, found: Mapping[str, Tensor], places: Sequence[int]) -> dict[int, str]:
    """Images for which something is NaN or infinite, with the words for it.

    Raises:
        ValueError: if a weight of the network is the cause.
    """
    bad: dict[int, str] = {}
    for name, values in found.items():
        if not values.is_floating_point() or bool(values.isfinite().all()):
            continue
        if cause := nan_weights(network(question.model)):
            raise ValueError(f"{name} is NaN or infinite{cause}")
        for row in (~values.isfinite()).flatten(1).any(1).nonzero().flatten().tolist():
            bad.setdefault(places[row], f"{name} is NaN or infinite for this image")
    return bad
