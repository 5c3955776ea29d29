"""One loop for all trainings, and the file that a training is kept in, so that one that was stopped ends as if it had
never been."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.optim import Optimizer

from ..files.tensors import read_tensors, read_work, write_tensors
from .batches import progress

EVERY = 5.0  # seconds from one writing to the next
KIND = "a training"


@dataclass(frozen=True)
class Checkpoint:
    """The .safetensors file that a training is kept in, and what of it is kept besides the optimizer.

    recipe: what tells it from another training: a hash of all that its result depends on.
    state: what its steps change, by name; tensors that are written over when it goes on.
    generators: those whose numbers its steps take, one after another.
    every: steps from one writing to the next; None is every few seconds. A step that draws or changes anything before
        its gradient cannot be kept when it is stopped inside: with None, nothing is written then.
    """

    path: Path
    recipe: str
    state: Callable[[], Mapping[str, Tensor]]
    generators: Sequence[torch.Generator] = ()
    every: int | None = None


def descend(
    loss_of: Callable[[int], Tensor],
    weights: Iterable[Tensor],
    optimizer: Optimizer,
    steps: int,
    *,
    done: int = 0,
    go_on: Callable[[], bool] = lambda: True,
    before: Callable[[int], object] | None = None,
    after: Callable[[int, Tensor], object] | None = None,
    kept: Checkpoint | None = None,
    label: str = "train",
    unit: str = "step",
    word: str = "loss",
) -> None:
    """Go down a loss step by step. No `.grad` is left behind, not after an error or Ctrl-C either.

    Args:
        loss_of: the loss of a step, by its number. What is random in it depends on the number alone, or on generators
            that are kept: then a training goes on to the bit.
        weights: that learn. optimizer: of them.
        steps: all of them. done: those made already, of `resumed`.
        go_on: asked before each step.
        before: called with the number of a step between its gradients and the step itself.
        after: called with how many steps are made, and the loss of the last.
        kept: where the training is kept; written at the end too.
        label, unit, word: what the bar calls the work, a step, and the loss.

    >>> x = torch.zeros(1, requires_grad=True)
    >>> descend(lambda number: (x - 1).square().sum(), [x], torch.optim.SGD([x], 0.25), 10)
    >>> x.detach(), x.grad
    (tensor([0.9990]), None)
    """
    weights, written, between = list(weights), time.perf_counter(), True
    try:
        with progress(steps, label, unit, word) as advance, torch.enable_grad():
            advance(done)
            while done < steps and go_on():
                loss = loss_of(done)
                slopes = torch.autograd.grad(loss, weights, allow_unused=True)
                between = False
                for weight, slope in zip(weights, slopes, strict=True):
                    weight.grad = slope
                if before is not None:
                    before(done)
                optimizer.step()
                done += 1
                if after is not None:
                    after(done, loss.detach())
                between = True
                advance(1, loss)
                if kept is not None and (done == steps or _due(kept, done, written)):
                    write(kept, optimizer, done)
                    written = time.perf_counter()
    except KeyboardInterrupt:
        if kept is not None and kept.every is not None and between:
            write(kept, optimizer, done)
        raise
    finally:
        for weight in weights:
            weight.grad = None


def write(kept: Checkpoint, optimizer: Optimizer, done: int) -> None:
    """Keep a training after so many steps."""
    tensors = {f"state.{name}": value for name, value in kept.state().items()}
    tensors |= {f"optimizer.{name}": value for name, value in state_of(optimizer).items()}
    tensors |= {f"generator.{number}": one.get_state() for number, one in enumerate(kept.generators)}
    about = {"recipe": kept.recipe, "steps": done, "groups": optimizer.state_dict()["param_groups"]}
    write_tensors(kept.path, KIND, tensors, about)


def resumed(kept: Checkpoint | None, optimizer: Optimizer) -> int:
    """Put back what is kept, where there is any, and say how many steps had been made.

    Raises:
        OtherWork: if it is another training.
        ValueError: if the file is damaged, or something else.
    """
    if kept is None or not kept.path.exists():
        return 0
    other = "of another training (other images, layers, weights, sizes or seed)"
    tensors, about = read_work(kept.path, KIND, kept.recipe, other)
    with torch.no_grad():
        for name, value in kept.state().items():
            value.copy_(tensors[f"state.{name}"])
    for number, one in enumerate(kept.generators):
        one.set_state(tensors[f"generator.{number}"])
    optimizer.load_state_dict({"state": {}, "param_groups": about["groups"]})
    put_back(optimizer, under(tensors, "optimizer."))
    return int(about["steps"])


def state_of(optimizer: Optimizer) -> dict[str, Tensor]:
    """What an optimizer knows of each weight, by the weight's number and a name."""
    known = optimizer.state_dict()["state"]
    return {f"{number}.{name}": value for number, values in known.items() for name, value in values.items()}


def put_back(optimizer: Optimizer, state: Mapping[str, Tensor]) -> None:
    """Give an optimizer what `state_of` told."""
    known: dict[int, dict[str, Tensor]] = {}
    for path, value in state.items():
        number, name = path.split(".", 1)
        known.setdefault(int(number), {})[name] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": known})


def under(tensors: Mapping[str, Tensor], first: str) -> dict[str, Tensor]:
    """The tensors whose names begin so, by the rest of their names."""
    return {name.removeprefix(first): value for name, value in tensors.items() if name.startswith(first)}


def steps_in(path: Path) -> int:
    """How many steps a training had made when it was kept.

    Raises:
        ValueError: if the file is no training.
        FileNotFoundError: if there is none.
    """
    return int(read_tensors(path, KIND)[1].get("steps", 0))


def _due(kept: Checkpoint, done: int, written: float) -> bool:
    if kept.every is None:
        return time.perf_counter() - written >= EVERY
    return done % kept.every == 0
