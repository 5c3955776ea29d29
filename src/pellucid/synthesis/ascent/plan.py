"""How to climb: what the verbs of this family hand to the ascent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor
from torch.optim import Optimizer

from ..ingredients.transforms import Transform

OptimizerSpec = str | Callable[[list[Tensor]], Optimizer]
NAMES = ("adam", "ascent", "unit", "lbfgs")


@dataclass(frozen=True)
class Plan:
    """How to climb: what `maximize` calls by the same names."""

    steps: int
    step_size: float
    optimizer: OptimizerSpec
    transforms: tuple[Transform, ...] = ()
    seed: int = 0
    record_every: int = 0
    label: str = ""
    best: bool = False  # return the best images, not the last
    scale: float = 1.0  # of what the optimizer sees; L-BFGS stops where gradients are below 1e-7
