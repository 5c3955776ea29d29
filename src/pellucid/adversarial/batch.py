"""Attacking batch after batch: who is misclassified already, who is attacked, who was fooled in the end."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ..batches import batched, progress
from ..checks import nan_weights
from ..classifier import network
from ..run import Model, ModelError, device_of, run
from .balls import Norm, within
from .case import Case, as_outputs, differentiable

PERCENT = 100


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
) -> dict[str, Any]:
    """Attack all images and look at what the network makes of the result.

    Args:
        work: from a case, of which no image is misclassified, to the images found.
        labels: N classes; -1 for the predicted one.
        targets: N classes, or None.
        budget: eps, or None, and its norm; held exactly.
        keep: whether `work` begins with a gradient at the images: the pass that predicts then serves for it.
        name: for the progress bar.

    Returns:
        The fields of an `Attack` that are tensors, but for the originals.
    """
    count, device = len(images), device_of(model) or images.device
    labels, found = labels.clone(), images.clone()
    before, after, queries = (torch.zeros(count, dtype=torch.long) for _ in range(3))
    sure_before, sure_after = (torch.zeros(count) for _ in range(2))
    fooled, already = (torch.zeros(count, dtype=torch.bool) for _ in range(2))
    flat = 0

    def attack(part: slice, advance: Callable[[float], None]) -> None:
        nonlocal flat
        x = images[part].to(device)
        start, outputs = _opening(model, x, keep)
        plain = outputs.detach()
        if part.start == 0:
            _check_outputs(plain, model, labels, targets)
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
        places = (~done).nonzero().flatten()
        if len(places):
            chosen = slice(None) if len(places) == len(x) else places
            case = Case(
                model, x[chosen], mine[chosen], None if aims is None else aims[chosen], *bounds, seed, passes, places,
                lambda share: advance(share * len(x)), [(start, outputs)] if keep else [],
            )  # fmt: skip
            del start, outputs
            y = within(case.images, work(case), *budget, *bounds)
            flat += sum(case.flat)
            asked = passes.clone()  # without the look that confirms
            outcome = case.outputs(y)
            passes = asked
            if not outcome.isfinite().all():
                raise _not_finite(model, " for an attacked image")
            here = places.cpu() + part.start
            found[here.to(found.device)] = y.to(found.device)
            after[here], sure_after[here] = outcome.argmax(1).cpu(), _confidence(outcome)
            fooled[here] = case.fooled(outcome).cpu()
        queries[part] = passes.cpu()

    with _percent(count, name) as advance:
        batched(lambda part: advance(part, attack), count, like=images, device=device)
    if already.all():
        seen = "misclassified" if targets is None else "seen as the target"
        remedy = "check the labels" if targets is None else "say another target"
        warnings.warn(f"all of {count} images are {seen} before any attack: nothing was done; {remedy}", stacklevel=4)
    elif targets is not None and already.any():
        warnings.warn(
            f"{int(already.sum())} of {count} images are seen as the target already: they stay as they are",
            stacklevel=4,
        )
    if flat:
        warnings.warn(
            f"the gradient is exactly zero for {flat} of {count} images: saturated outputs or rounding hide the way, "
            "and the network is less robust than it seems. pellucid.square and pellucid.hop_skip_jump need no gradient",
            stacklevel=4,
        )
    return {
        "images": found, "success": fooled, "misclassified": already, "labels": labels, "targets": targets,
        "before": before, "after": after, "confidence_before": sure_before, "confidence_after": sure_after,
        "queries": queries,
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
    sums = (outputs.sum(1) - 1).abs().max() < 1e-3
    if outputs.min() >= 0 and outputs.max() <= 1 and (sums or outputs.max() > 0.99):
        warnings.warn(
            f"the network seems to return {'probabilities' if sums else 'values of a sigmoid'}: all outputs lie in "
            "[0, 1]. Where it is sure, their gradients vanish and it only seems robust: give the network up to its "
            "logits",
            stacklevel=7,
        )


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
