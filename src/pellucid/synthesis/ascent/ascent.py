"""The ascent itself: forward and backward up to the layer that is read, one step, again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.optim import LBFGS, Adam, Optimizer

from ...model.batches import LOOK, progress
from ...model.run import Model, Score, Trace, count_backward, no_gradient, run
from ...objectives.algebra import Bound
from ..ingredients.canvas import Canvas, Parameters, broadcast_rows
from ..ingredients.penalties import CODE, Penalty
from ..ingredients.transforms import Transform, view
from .dead_starts import rows_without_gradient, still
from .plan import Plan


@dataclass(frozen=True)
class AscentResult:
    """What an ascent of M rows came to; T is the number of gradients taken.

    zero_gradient: no gradient at the start. lost: none at the last step, and less than at the start.
    """

    images: Tensor
    history: Tensor
    penalties: Tensor
    zero_gradient: Tensor
    lost: Tensor
    frames: Tensor | None
    interrupted: bool


@dataclass(frozen=True)
class PerRow:
    """One objective for each row, computed in one pass."""

    bounds: Sequence[Bound]
    reads: frozenset[str]
    needs_output: bool

    def __call__(self, trace: Trace) -> Tensor:
        # One split for all rows: its backward is one concatenation, where N slices would each fill the whole.
        images = trace.images.split(1)
        outputs = trace.output.split(1) if isinstance(trace.output, Tensor) else None
        activations = {name: value.split(1) for name, value in trace.activations.items()}
        first = torch.zeros(1, dtype=torch.long)
        values = []
        for row, bound in enumerate(self.bounds):
            mine = {name: parts[row] for name, parts in activations.items()}
            values.append(bound(Trace(images[row], outputs[row] if outputs else trace.output, mine, first)))
        return torch.cat(values)

    def __str__(self) -> str:
        return ", ".join(map(str, self.bounds))


@dataclass
class _Log:
    """What the evaluations of one ascent said."""

    values: list[Tensor] = field(default_factory=list)
    costs: list[Tensor] = field(default_factory=list)
    frames: list[Tensor] = field(default_factory=list)


class _Enough(Exception):
    """The gradients asked for have been taken, in the middle of a line search."""


def ascend(
    model: Model,
    score: Score,
    canvas: Canvas,
    rows: Tensor,
    plan: Plan,
    penalties: Sequence[tuple[Penalty | None, Score]],
    center: Tensor,
    redraw: Callable[[int], Parameters] | None = None,
) -> AscentResult:
    """Ascend a score less its penalties from a canvas.

    Args:
        score, penalties: bound to the rows of the canvas.
        rows: which of the caller's images each row is.
        center: the mean color, C x 1 x 1.
        redraw: other parameters to begin with, by the number of the attempt, where the first give no gradient.

    Returns:
        What became of it; after Ctrl-C, the best images so far.

    Raises:
        ValueError: if the objective becomes NaN.
        ModelError: if there is no way back from the objective to the image.
    """
    generator = torch.Generator().manual_seed(plan.seed)
    log = _Log()
    # glibc hands freed memory back after each step, to fetch it again page by page at the next: up to a tenth of the
    # time. It keeps as much as the largest block that was ever freed, if below 32 MiB (mallopt(3), M_MMAP_THRESHOLD).
    torch.empty(31 * 2**20, dtype=torch.uint8)
    with torch.inference_mode(False), torch.enable_grad():
        parameters = tuple(p.detach().clone().requires_grad_() for p in canvas.parameters)
        count = len(parameters[0])
        dead = lost = torch.zeros(count, dtype=torch.bool)
        first: Tensor | None = None
        best = tuple(p.detach().clone() for p in parameters)
        highest = torch.full((count,), -torch.inf, device=parameters[0].device, dtype=torch.float64)

        looked = False

        def look() -> None:
            nonlocal dead, looked
            dead = rows_without_gradient(model, score, canvas, parameters, rows, plan, center, redraw)
            looked = True

        def evaluate() -> Tensor:
            """The gradient of one step into `.grad` of our own parameters, and the loss."""
            nonlocal highest, dead, lost, looked, first
            step = len(log.values)
            if step >= plan.steps:
                raise _Enough
            if not looked and penalties:  # their gradient would hide that the objective has none
                look()
            images = canvas.draw(parameters)
            arrived: list[Tensor] = []
            last = step == plan.steps - 1
            if not looked or last:
                images.register_hook(arrived.append)
            if any(edit.when == "gradient" and edit.due(step) for edit in plan.transforms):
                images.register_hook(_edited(plan.transforms, step, center))
            seen = view(images, plan.transforms, step, generator, center)
            trace = run(model, seen, read=score.reads, to_output=score.needs_output, rows=rows)
            values = score(trace)
            costs = [_cost(penalty, bound, images, parameters[0], rows) for penalty, bound in penalties]
            total = values - sum(costs) if costs else values
            if not values.requires_grad:
                raise no_gradient(None)
            # Downhill, as optimizers want it: to turn the slopes round afterwards would be a copy of each.
            slopes = torch.autograd.grad(-total.sum() * plan.scale, parameters, allow_unused=True)
            if all(slope is None for slope in slopes):
                raise no_gradient(None)
            count_backward(len(images))
            if not looked and still(arrived[0], plan).any():
                look()
                generator.manual_seed(plan.seed)
                return evaluate()
            looked = True
            for parameter, slope in zip(parameters, slopes, strict=True):
                parameter.grad = torch.zeros_like(parameter) if slope is None else slope.contiguous()
            total = total.detach()
            first = total if first is None else first
            if last:
                lost = still(arrived[0], plan) & (total < first - 0.01 * first.abs()).cpu() & ~dead
            log.values.append(values.detach())
            if costs:
                log.costs.append(torch.stack([cost.detach() for cost in costs], 1))
            _check(total, score, plan, step)
            better = total.double() > highest
            highest = torch.where(better, total.double(), highest)
            if better.device.type != "cpu" or better.any():  # elsewhere to ask would be to wait
                for p, b in zip(parameters, best, strict=True):
                    torch.where(broadcast_rows(better, p), p.detach(), b, out=b)
            if plan.record_every and step % plan.record_every == 0:
                log.frames.append(_frame(images))
            return -total.sum() * plan.scale

        interrupted = False
        try:
            with progress(plan.steps, plan.label, "step", "objective") as advance:
                _steps(canvas, parameters, plan, center, evaluate, log, advance)
        except KeyboardInterrupt:
            interrupted = True
        except _Enough:
            pass
        kept = best if interrupted or plan.best or plan.optimizer == "lbfgs" else parameters
        final = tuple(p.detach().clone() for p in kept)
        with torch.no_grad():
            if canvas.bound is not None:
                canvas.bound(final)
            images = canvas.draw(final).detach().clone()
        if plan.record_every:
            log.frames.append(_frame(images))
    empty = highest.new_zeros(count, 0)
    history = torch.stack(log.values, 1) if log.values else empty
    costs_ = torch.stack(log.costs, 1) if log.costs else highest.new_zeros(count, history.shape[1], len(penalties))
    frames = torch.stack(log.frames, 1) if log.frames else None
    return AscentResult(images, history, costs_, dead, lost, frames, interrupted)


def _steps(
    canvas: Canvas,
    parameters: Parameters,
    plan: Plan,
    center: Tensor,
    evaluate: Callable[[], Tensor],
    log: _Log,
    advance: Callable[[int, Tensor | None], None],
) -> None:
    optimizer = _optimizer(plan, parameters)

    def change(when: str, step: int) -> None:
        due = [edit for edit in plan.transforms if edit.when == when and edit.due(step)]
        if not due:
            return
        with torch.no_grad():
            images = canvas.draw(parameters)
            for edit in due:
                assert edit.change is not None
                images = edit.change(images, center)
            assert canvas.read is not None
            for parameter, value in zip(parameters, canvas.read(images), strict=True):
                parameter.copy_(value)

    while len(log.values) < plan.steps:
        before = len(log.values)
        change("before", before)
        if isinstance(optimizer, Optimizer):
            optimizer.step(evaluate)  # type: ignore[arg-type]  # typed for a number, works with a tensor
        else:
            evaluate()
            with torch.no_grad():
                optimizer(parameters)
        done = len(log.values) - before
        line_search = plan.optimizer == "lbfgs"
        with torch.no_grad():
            if canvas.bound is not None and not line_search:
                canvas.bound(parameters)
        change("after", before)
        advance(done, log.values[-1])
        if line_search and done <= 1:
            return  # converged: it would stay where it is


def _optimizer(plan: Plan, parameters: Parameters) -> Optimizer | Callable[[Parameters], None]:
    if not isinstance(plan.optimizer, str):
        made = plan.optimizer(list(parameters))
        if not isinstance(made, Optimizer):
            raise TypeError(
                f"optimizer gave a {type(made).__name__}, expected a torch optimizer, as in "
                "optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.1)"
            )
        return made
    if plan.optimizer == "adam":
        # One pass over the parameters where the default takes eight, on the devices that every version has it for.
        return Adam(parameters, lr=plan.step_size, fused=parameters[0].device.type in ("cpu", "cuda"))
    if plan.optimizer == "lbfgs":
        return LBFGS(parameters, lr=1, max_iter=20, history_size=20, line_search_fn="strong_wolfe")

    def plain(given: Parameters) -> None:
        for parameter in given:
            assert parameter.grad is not None
            parameter.sub_(parameter.grad, alpha=plan.step_size)

    def unit(given: Parameters) -> None:
        for parameter in given:
            assert parameter.grad is not None
            size = parameter.grad.flatten(1).abs().mean(1).clamp(min=1e-30)
            parameter.sub_(parameter.grad / broadcast_rows(size, parameter), alpha=plan.step_size)

    return plain if plan.optimizer == "ascent" else unit


def _cost(penalty: Penalty | None, bound: Score, images: Tensor, code: Tensor, rows: Tensor) -> Tensor:
    if penalty is not None and penalty.on == "code":
        return bound(Trace(code, CODE, {}, rows))
    return bound(Trace(images, None, {}, rows))


def _edited(edits: Sequence[Transform], step: int, center: Tensor) -> Callable[[Tensor], Tensor]:
    def hook(downhill: Tensor) -> Tensor:
        slopes = -downhill
        for edit in edits:
            if edit.when == "gradient" and edit.due(step) and edit.change is not None:
                slopes = edit.change(slopes, center)
        return -slopes

    return hook


def _check(total: Tensor, score: Score, plan: Plan, step: int) -> None:
    if total.device.type != "cpu" and step % LOOK:
        return
    if not (finite := total.isfinite()).all():
        row = int((~finite).nonzero()[0])
        raise ValueError(
            f"the objective {score} less its penalties became NaN or infinite at step {step} for image {row}: the "
            f"steps are too long; try step_size={plan.step_size / 10:g}, or optimizer='adam'"
        )


def _frame(images: Tensor) -> Tensor:
    images = images.detach().float().cpu()
    low, high = images.amin((1, 2, 3), keepdim=True), images.amax((1, 2, 3), keepdim=True)
    if low.min() < -0.001 or high.max() > 1.001:
        images = (images - low) / (high - low).clamp(min=1e-12)
    return images.clamp(0, 1).mul(255).round().to(torch.uint8)
