"""Before any long work, and before anything on disk changes: do network, objective, methods and options go together?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ...checks import UnknownName
from ...methods.registry import CATALOGUE
from ...model.classifier import Classifier, network
from ...model.run import run as run_pass
from ...model.settings import current, settings
from ...objectives import as_objective
from .chunk import Job, noted, words_of

FEW = 2  # what is left of the samples or steps of a method; one is too few for a variance
REPEATS = ("samples", "steps")
MOST_PASSES = 6  # images that a method may send through the network; what has come so far has accepted its options


class _Enough(Exception):
    """Ends a method that would go on for long."""


def rehearse(job: Job) -> None:
    """See that the network takes images, and that the objective can be computed.

    Raises:
        UnknownName, ValueError, TypeError: for an objective, or a network that fails on any image.
    """
    objective = as_objective(job.model, job.target)
    if not hasattr(objective, "bind"):
        raise TypeError(f"the objective is a {type(objective).__name__}, expected one for all images")
    bound = objective.bind(job.model, 1)
    image = _random_image(job.model)
    if image is None:
        return
    with noted(), torch.no_grad():
        job.model.predict(image)
        rows = torch.arange(1)
        bound(run_pass(job.model, image, read=bound.reads, to_output=bound.needs_output, rows=rows))


def rehearse_methods(job: Job, files: Sequence[str], layer: str | None, *, everything: bool) -> None:
    """Try every method that has options of its own on one image, at the cost of a few passes.

    A method that fails on this model whatever its options is left to be reported at the end; one that works with its
    defaults and fails with the options given stops the job. A layer given for all methods need not suit each of them.

    Args:
        job: what is going to be done.
        files: where the image comes from, if the model takes any size: the first that can be read and predicted.
        layer: the one that was given for all methods.
        everything: also try methods that have their defaults, which can fail on a model but not stop the job.

    Raises:
        UnknownName, ValueError, TypeError: for an option that the method refuses, or if no method is left.
    """
    image = _random_image(job.model)
    if image is None:
        image = _first_image(job.model, files)
    if image is None:
        return
    failed: dict[str, Exception] = {}
    unsuited: list[str] = []  # whose only fault is the layer
    for name, options in job.methods.items():
        defaults = CATALOGUE[name].options
        if not everything and _same(options, defaults):
            continue
        error = _tried(job, name, options, image)
        if error is None:
            continue
        failed[name] = error
        if _same(options, defaults) or _tried(job, name, defaults, image) is not None:
            continue  # the model is at fault
        if layer is not None and options.get("layer") == layer:
            others = dict(options) | {"layer": defaults["layer"]}
            if _same(others, defaults) or _tried(job, name, others, image) is None:
                unsuited.append(name)  # another method may like it
                continue
        raise _told(name, error)
    looking = [name for name, options in job.methods.items() if layer is not None and options.get("layer") == layer]
    if unsuited and all(name in failed for name in looking):
        raise _told(unsuited[0], failed[unsuited[0]])
    if len(failed) == len(job.methods):
        reasons = "; ".join(dict.fromkeys(str(_told(name, error)) for name, error in failed.items()))
        raise ValueError(f"no method is left that works on this model: {reasons}") from next(iter(failed.values()))


def _random_image(model: Classifier) -> Tensor | None:
    how = model.preprocessing
    if how.size is None:
        return None
    return torch.rand(1, how.channels, *how.size, generator=torch.Generator().manual_seed(0))


def _first_image(model: Classifier, files: Sequence[str]) -> Tensor | None:
    for file in files:
        try:
            image = model.read_one(file)[None]
            with noted():
                model.predict(image)
        except (ValueError, TypeError, OSError, MemoryError, RuntimeError):
            continue  # which is reported with the file
        return image
    return None


def _tried(job: Job, name: str, options: Mapping[str, Any], image: Tensor) -> Exception | None:
    """What a method raises, if it does, with few samples or steps and stopped after some passes."""
    given = {
        option: FEW if option in REPEATS and type(value) is int and value > FEW else value
        for option, value in options.items()
    }
    batch = current().batch_size or FEW  # not as many variants as the memory takes
    try:
        with settings(batch_size=batch, progress=False), noted(), _at_most(network(job.model), MOST_PASSES):
            values = CATALOGUE[name].function(job.model, image, job.target, **given).values
        if values.ndim != 4:
            shape = " x ".join(map(str, values.shape[1:]))
            return ValueError(f"the layer's activation is {shape}: it has no places, so there is no map to show")
    except _Enough:
        pass
    except Exception as error:
        return error
    return None


@contextmanager
def _at_most(net: nn.Module | None, images: int) -> Iterator[None]:
    """Stop with `_Enough` when more images go through a network."""
    assert net is not None  # a Classifier has one
    seen = 0

    def count(_module: nn.Module, inputs: tuple[Any, ...]) -> None:
        nonlocal seen
        seen += len(inputs[0])
        if seen > images:
            raise _Enough

    handle = net.register_forward_pre_hook(count)
    try:
        yield
    finally:
        handle.remove()


def _same(options: Mapping[str, Any], others: Mapping[str, Any]) -> bool:
    """Whether options are the same objects or equal; tensors are not compared."""
    plain = not any(isinstance(value, Tensor) for value in options.values())
    return all(options[key] is others[key] for key in options) or (plain and dict(options) == dict(others))


def _told(name: str, error: Exception) -> Exception:
    """An error of a method in its words, beginning with its name."""
    words = words_of(error)
    kind = next((kind for kind in (UnknownName, TypeError, ValueError) if isinstance(error, kind)), ValueError)
    told = kind(words if words.startswith(f"{name}: ") else f"{name}: {words}")
    told.__cause__ = error
    return told
