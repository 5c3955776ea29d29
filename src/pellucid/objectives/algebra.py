"""What an objective is: a value that prints, combines with others, and is bound to a model and a batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from ..checks import nan_weights
from ..model.classifier import network
from ..model.run import Model, Trace
from ..model.run import layer as find_layer

Values = Callable[[Trace], Tensor]


@dataclass(frozen=True)
class Term:
    """What an objective becomes for one model and batch.

    evaluate: the values from a trace. describe: its text, with the predicted class once that is known.
    unresolved: whether a predicted class is still unknown.
    """

    evaluate: Values
    describe: Callable[[], str]
    unresolved: Callable[[], bool] = lambda: False


@dataclass(frozen=True)
class Bound:
    """An objective bound to a model and a batch: from a trace, one number per row.

    reads: the layers it needs. needs_output: whether the pass must go on to the end.
    """

    term: Term = field(repr=False)
    reads: frozenset[str]
    needs_output: bool
    model: Model = field(repr=False)
    of_classes: bool = field(repr=False)
    checked: list[bool] = field(repr=False)  # filled at the first pass: later ones cost no synchronization

    def __call__(self, trace: Trace) -> Tensor:
        values = self.term.evaluate(trace)
        rows = len(trace.rows)
        if not isinstance(values, Tensor) or values.shape != (rows,):
            got = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
            raise ValueError(f"the objective {self} gave {got}, expected one number for each of {rows} images")
        if not self.checked:
            if not (finite := values.isfinite()).all():
                image = int(trace.rows[int((~finite).nonzero()[0])])
                cause = nan_weights(network(self.model))
                raise ValueError(f"the objective {self} is NaN or infinite for image {image} of the batch{cause}")
            self.checked.append(True)
        return values

    def unresolved(self) -> bool:
        """Whether it is about a predicted class that no pass has settled yet."""
        return self.term.unresolved()

    def __str__(self) -> str:
        return self.term.describe()


@dataclass(frozen=True, eq=False)
class Objective:
    """A number that a model computes for an image; made by the functions of `pellucid.objectives`.

    >>> from pellucid.objectives import logit, neuron
    >>> 2 * logit("castle") - (logit(3) + neuron("layer3", 7))
    2 * logit("castle") - (logit(3) + neuron("layer3", 7))
    """

    text: str
    prepare: Callable[[Model, int], Term] = field(repr=False)
    reads: frozenset[str] = frozenset()
    needs_output: bool = False
    of_classes: bool = field(default=False, repr=False)  # about nothing but classes of an N x K output
    level: int = field(default=3, repr=False)  # how its text binds: 1 a sum, 2 a product, 3 a single term
    batch_dependent: bool = field(default=False, repr=False)  # the value of an image depends on the others of the batch

    def bind(self, model: Model, count: int) -> Bound:
        """Bind to a model and a batch of `count` images.

        Raises:
            UnknownName: for a label or layer that the model does not have.
        """
        for name in self.reads:
            find_layer(model, name)
        return Bound(self.prepare(model, count), self.reads, self.needs_output, model, self.of_classes, [])

    def __repr__(self) -> str:
        return self.text

    def __add__(self, other: Objective | float) -> Objective:
        return _combine(self, other, "+", torch.add)

    def __radd__(self, other: float) -> Objective:
        return _combine(_constant(other), self, "+", torch.add)

    def __sub__(self, other: Objective | float) -> Objective:
        return _combine(self, other, "-", torch.sub)

    def __rsub__(self, other: float) -> Objective:
        return _combine(_constant(other), self, "-", torch.sub)

    def __mul__(self, other: Objective | float) -> Objective:
        return _combine(self, other, "*", torch.mul)

    def __rmul__(self, other: float) -> Objective:
        return _combine(_constant(other), self, "*", torch.mul)

    def __truediv__(self, other: Objective | float) -> Objective:
        return _combine(self, other, "/", torch.div)

    def __neg__(self) -> Objective:
        return _combine(_constant(-1), self, "*", torch.mul)


def _constant(value: Any) -> Objective:
    if isinstance(value, Objective):
        return value
    if not isinstance(value, Real):
        raise TypeError(f"an objective combines with objectives and numbers, not with a {type(value).__name__}")
    plain = float(value)
    number = torch.tensor(plain, dtype=torch.float64)  # without axes it takes the type of what it meets
    text = str(int(plain)) if plain.is_integer() and abs(plain) < 1e15 else repr(plain)
    return Objective(text, lambda _model, _count: Term(lambda _trace: number, lambda: text))


def _combine(left: Objective | float, right: Objective | float, sign: str, apply: Callable[..., Tensor]) -> Objective:
    a, b = _constant(left), _constant(right)

    level = 1 if sign in "+-" else 2

    def say(a_text: str, b_text: str) -> str:
        left_brackets = a.level < level
        right_brackets = b.level < level or (b.level == level and sign in "-/")
        b_text = f"({b_text})" if right_brackets else b_text
        if sign == "*" and a_text == "-1":
            return f"-{b_text}"
        return f"{f'({a_text})' if left_brackets else a_text} {sign} {b_text}"

    def prepare(model: Model, count: int) -> Term:
        first, second = a.prepare(model, count), b.prepare(model, count)

        def of(trace: Trace) -> Tensor:
            x, y = first.evaluate(trace), second.evaluate(trace)
            return apply(x.to(y.device) if x.ndim == 0 else x, y.to(x.device) if y.ndim == 0 else y)

        return Term(
            of, lambda: say(first.describe(), second.describe()), lambda: first.unresolved() or second.unresolved()
        )

    of_classes = all(term.of_classes or not (term.needs_output or term.reads) for term in (a, b))
    return Objective(
        say(a.text, b.text),
        prepare,
        a.reads | b.reads,
        a.needs_output or b.needs_output,
        of_classes,
        level,
        a.batch_dependent or b.batch_dependent,
    )
