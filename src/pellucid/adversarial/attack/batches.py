"""Attacking batch after batch: who is misclassified already, who is attacked, who was fooled in the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ...checks import nan_weights
from ...model.batches import batched, progress
from ...model.classifier import network
from ...model.run import Model, ModelError, device_of, run
from .budgets import Norm, project_exactly
from .case import DIAGNOSTICS, Case, as_outputs, differentiable
from .diagnostics import MANY, check_probabilities, check_random, note_no_progress, random_states, same_states
from .transformations import Transformations

PERCENT = 100
GUESS = 50  # times its input a network takes on the CPU, before that is measured: 8 images of 224 x 224 go together


def over_batches(
    work: Callable[[Case], Tensor],
    model: Model,
    images: Tensor,
    labels: Tensor,
    targets: Tensor | None,
    *,
    budget: tuple[float | None, Norm],
    bounds: tuple[float, float],
    seed: int,
    keep: bool,
    name: str,
    transformations: Transformations | None = None,
) -> dict[str, Any]:
    """Attack all images and look at what the network makes of the result.

    Args:
        work: from a case, of which no image is misclassified, to the images found.
        labels: N classes; -1 for the predicted one.
        targets: N classes, or None.
        budget: eps, or None, and its norm; held exactly.
        keep: whether `work` begins with a gradient at the images: the pass that predicts then serves for it.
        name: for the progress bar.
        transformations: through which gradients are taken.

    Returns:
        The fields of an `Attack` that are tensors, but for the originals, and `signs`, for `tell`.
    """
    count, device = len(images), device_of(model) or images.device
    labels, found = labels.clone(), images.clone()
    before, after, queries = (torch.zeros(count, dtype=torch.long) for _ in range(3))
    sure_before, sure_after = (torch.zeros(count) for _ in range(2))
    fooled, already = (torch.zeros(count, dtype=torch.bool) for _ in range(2))
    signs = torch.zeros(count, len(DIAGNOSTICS), dtype=torch.bool)
    through = None if transformations is None else torch.full((count,), torch.nan, dtype=torch.float64)

    def attack(part: slice, advance: Callable[[float], None]) -> None:
        x = images[part].to(device)
        states = random_states(device) if part.start == 0 else []
        start, outputs = _opening(model, x, keep)
        plain = outputs.detach()
        if part.start == 0:
            _check_outputs(plain, model, labels, targets)
            # Where the attack is long, or the network has drawn numbers: one image more, before all work.
            if not keep or not same_states(states, random_states(device)):
                check_random(model, x[:1], plain[:1])
        elif not plain.isfinite().all():
            raise _not_finite(model, "")
        predicted = plain.argmax(1)
        before[part], sure_before[part] = predicted.cpu(), _confidence(plain)
        after[part], sure_after[part] = before[part], sure_before[part]
        labels[part] = torch.where(labels[part] < 0, before[part], labels[part])
        mine, aims = labels[part].to(device), None if targets is None else targets[part].to(device)
        done = predicted != mine if aims is None else predicted == aims
        already[part] = done.cpu()
        passes = torch.ones(len(x), dtype=torch.long, device=device)
        noted = torch.zeros(len(x), len(DIAGNOSTICS), dtype=torch.bool, device=device)
        places = (~done).nonzero().flatten()
        if len(places):
            chosen = slice(None) if len(places) == len(x) else places
            case = Case(
                model, x[chosen], mine[chosen], None if aims is None else aims[chosen], *bounds, seed, passes, places,
                lambda share: advance(share * len(x)), [(start, outputs)] if keep else [], signs=noted,
                transformations=transformations,
            )  # fmt: skip
            del start, outputs
            y = project_exactly(case.images, work(case), *budget, *bounds)
            asked = passes.clone()  # without the look that confirms
            outcome = replace(case, transformations=None).outputs(y)
            if not outcome.isfinite().all():
                raise _not_finite(model, " for an attacked image")
            fools = case.fooled(outcome)
            note_no_progress(case, y, plain[chosen], outcome, fools)
            if part.start == 0 and keep and int(asked.sum()) >= MANY:  # beside which one more is nothing
                check_random(model, x[:1], plain[:1])
            here = places.cpu() + part.start
            if transformations is not None and through is not None:
                through[here] = case.share_fooled(transformations, y).cpu()
            passes = asked
            found[here.to(found.device)] = y.to(found.device)
            after[here], sure_after[here] = outcome.argmax(1).cpu(), _confidence(outcome)
            fooled[here], signs[part] = fools.cpu(), noted.cpu()
        queries[part] = passes.cpu()

    with _percent(count, name) as advance:
        guess = GUESS if device.type == "cpu" else None
        batched(lambda part: advance(part, attack), count, like=images, device=device, guess=guess)
    return {
        "images": found, "success": fooled, "misclassified": already, "labels": labels, "targets": targets,
        "before": before, "after": after, "confidence_before": sure_before, "confidence_after": sure_after,
        "queries": queries, "signs": signs, "success_under_transforms": through,
    }  # fmt: skip


def _opening(model: Model, images: Tensor, keep: bool) -> tuple[Tensor, Tensor]:
    """The first pass, over the images themselves."""
    if keep:
        return differentiable(model, images)
    with torch.no_grad():
        return images, as_outputs(run(model, images).output)


def _check_outputs(outputs: Tensor, model: Model, labels: Tensor, targets: Tensor | None) -> None:
    """Refuse outputs that say nothing and classes that do not exist; warn of probabilities."""
    if not outputs.isfinite().all():
        raise _not_finite(model, "")
    for what, classes in (("label", labels), ("target", targets)):
        if classes is not None and int(classes.max()) >= outputs.shape[1]:
            raise ValueError(
                f"the {what} {int(classes.max())} is out of range: the network has {outputs.shape[1]} classes, "
                f"0 to {outputs.shape[1] - 1}"
            )
    check_probabilities(outputs)


def _confidence(outputs: Tensor) -> Tensor:
    return outputs.softmax(1).amax(1).float().cpu()


def _not_finite(model: Model, where: str) -> ModelError:
    return ModelError(f"the network gives NaN or infinity{where}{nan_weights(network(model))}")


@contextmanager
def _percent(count: int, name: str) -> Iterator[Callable[..., None]]:
    """A progress bar in percent of the whole work, which moves within a batch too."""
    done = shown = 0.0
    with progress(PERCENT, name, unit="%") as update:

        def advance(part: slice, attack: Callable[[slice, Callable[[float], None]], None]) -> None:
            nonlocal done
            begun, rows = done, part.stop - part.start

            def move(images: float) -> None:
                nonlocal done, shown
                done = min(done + images, begun + rows)
                new = int(PERCENT * done / count + 1e-6)
                update(new - int(shown))
                shown = new

            attack(part, move)
            move(rows)

        yield advance
