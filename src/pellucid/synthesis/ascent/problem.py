"""What is to be climbed, from where: shapes and starts, and how all rows are climbed within the memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ...checks import check_images, nearest, warn
from ...model.batches import CPU_GUESS, GPU_GUESS, memory_budget
from ...model.classifier import Classifier, first_channels, network
from ...model.run import Model, Score, device_and_dtype, run
from ...model.settings import current
from ...objectives import as_objective
from ...objectives.algebra import Objective
from ..ingredients.canvas import Canvas, Parameters, Parametrization
from ..ingredients.parametrizations import CPPN, FixedMagnitude, Fourier, Generator, Pixels, Sigmoid
from ..ingredients.penalties import Penalty
from ..ingredients.transforms import Transform
from .ascent import AscentResult, PerRow, ascend
from .plan import NAMES, OptimizerSpec, Plan
from .result import Synthesis

STARTS = ("noise", "zeros", "ones", "mean")
# By optimizer, then by parametrization: what moves pixels by about a hundredth of their range at a step.
STEPS: dict[str, dict[type, float]] = {
    "adam": {Pixels: 0.01, Sigmoid: 0.05, Fourier: 0.02, FixedMagnitude: 0.2, Generator: 0.1, CPPN: 0.01},
    "ascent": {},
    "unit": {Pixels: 0.01, Sigmoid: 0.03, Fourier: 0.01, FixedMagnitude: 0.03, Generator: 0.03, CPPN: 0.003},
}


@dataclass(frozen=True, eq=False)
class Problem:
    """What is to be climbed, from where: N rows, and an objective for all or one for each.

    like: N x C x H x W, about which noise is made. start: the images to begin with, or None.
    """

    model: Model
    objectives: tuple[Objective, ...]
    like: Tensor
    start: Tensor | None
    parametrization: Parametrization
    noisy: bool  # another start may be drawn

    @property
    def rows(self) -> int:
        return len(self.like)

    def titles(self) -> tuple[str, ...]:
        return tuple(map(str, self.objectives)) * (self.rows // len(self.objectives))


def build_problem(
    model: Model,
    objective: Any,
    start: str | Tensor,
    size: int | tuple[int, ...] | None,
    count: int,
    parametrization: Parametrization | None,
) -> Problem:
    """Shapes and starts from what people write."""
    if isinstance(objective, Tensor) and objective.ndim == 1:
        objective = objective.tolist()
    many = isinstance(objective, (list, tuple, range))
    objectives = tuple(as_objective(model, one) for one in (objective if many else [objective]))
    if not objectives:
        raise ValueError("the list of objectives is empty")
    if count < 1 or (count > 1 and len(objectives) > 1):
        raise ValueError(
            f"count is {count} for {len(objectives)} objectives: expected at least 1, and 1 for a list of objectives, "
            "which have one image each"
        )
    if isinstance(start, str) and start not in STARTS:
        raise ValueError(f"start is {start!r}, expected images or one of {', '.join(STARTS)}; {nearest(start, STARTS)}")
    if isinstance(start, Tensor):
        channels = model.preprocessing.channels if isinstance(model, Classifier) else None
        check_images(start, channels=channels, pixels=isinstance(model, Classifier))
        if size is not None and tuple(start.shape[2:]) != _pair(size):
            raise ValueError(f"start has images of {tuple(start.shape[2:])}, and size is {size}: leave one of them out")
        shape = tuple(start.shape[1:])
        rows = max(len(start), len(objectives), count)
        if len(start) not in (1, rows) or len(objectives) not in (1, rows):
            raise ValueError(f"got {len(start)} images to start with for {max(len(objectives), count)} objectives")
    else:
        shape = _shape(model, size)
        rows = max(len(objectives), count)
    if isinstance(parametrization, type) or not hasattr(parametrization or Fourier(), "begin"):
        raise TypeError(f"parametrization is {parametrization!r}, expected one, as in Pixels() or Fourier()")
    place = device_and_dtype(model) or (torch.device("cpu"), torch.float32)
    like = torch.zeros(rows, *shape, device=place[0], dtype=torch.promote_types(place[1], torch.float32))
    bare = not isinstance(model, Classifier)
    like = like + mean_color(model, like)
    images: Tensor | None = None
    if isinstance(start, Tensor):
        images = start.detach().to(like).expand_as(like).clone()
    elif start == "mean":
        images = like
    elif start in ("zeros", "ones"):
        images = torch.full_like(like, float(start == "ones"))
    drawn = parametrization or Fourier(bounds=None if bare else (0.0, 1.0))
    return Problem(model, objectives, like, images, drawn, images is None)


def optimize(problem: Problem, plan: Plan, penalties: Sequence[Objective] = ()) -> Synthesis:
    """Climb all rows, as many at a time as the memory takes, and look at what was reached."""
    model, rows = problem.model, problem.rows
    objectives = problem.objectives
    for inside in [p for p in penalties if p.reads or p.needs_output]:  # of the network: a part of the objective
        objectives = tuple(one - inside for one in objectives)
    costs = [(p if isinstance(p, Penalty) else None, p.bind(model, rows)) for p in penalties
             if not (p.reads or p.needs_output)]  # fmt: skip
    single = len(objectives) == 1
    bounds = [one.bind(model, rows if single else 1) for one in objectives]
    canvas = problem.parametrization.begin(problem.like, problem.start, plan.seed)
    drawn = canvas.images()
    if drawn.shape != problem.like.shape:
        raise ValueError(
            f"the parametrization draws images of shape {tuple(drawn.shape)}, expected {tuple(problem.like.shape)}"
        )
    for edit in plan.transforms:
        if edit.when in ("before", "after") and canvas.read is None:
            raise ValueError(
                f"{edit} changes pixels, and {type(problem.parametrization).__name__} has no way back from pixels: "
                "leave it out, or use Pixels, Sigmoid or Fourier"
            )
    whole = any(one.batch_dependent for one in (*objectives, *penalties))
    found: list[AscentResult] = []
    values: list[Tensor] = []
    cuts = _parts(rows, problem.like, whole, plan)
    for part in cuts:
        index = torch.arange(part.start, part.stop)
        mine = bounds if single else bounds[part]
        score: Score = mine[0] if single else PerRow(mine, _reads(mine), any(b.needs_output for b in mine))
        some = replace(canvas, parameters=tuple(p[part] for p in canvas.parameters))
        label = plan.label if len(cuts) == 1 else f"{plan.label} {part.start + 1}-{part.stop} of {rows}"
        redraw = None

        if problem.noisy:

            def redraw(attempt: int, part: slice = part) -> Parameters:
                drawn = scale_init(problem.parametrization, 3.0**attempt)
                other: Canvas = drawn.begin(problem.like, None, plan.seed + 7_654_321 * attempt)
                return tuple(p[part] for p in other.parameters)

        center = mean_color(model, problem.like)
        one = ascend(model, score, some, index, replace(plan, label=label), costs, center, redraw)
        with torch.no_grad():
            trace = run(model, one.images, read=score.reads, to_output=score.needs_output, rows=index)
            values.append(score(trace))
        found.append(one)
        if one.interrupted:
            break
    texts = tuple(str(b) for b in bounds)
    return _result(problem, plan, drawn, found, values, texts * (rows // len(texts)))


def _result(
    problem: Problem,
    plan: Plan,
    drawn: Tensor,
    found: list[AscentResult],
    values: list[Tensor],
    titles: tuple[str, ...],
) -> Synthesis:
    done = sum(len(one.images) for one in found)
    rest = problem.rows - done  # rows that an interruption left untouched
    images = torch.cat([*(one.images for one in found), drawn[done:]])
    longest = max(one.history.shape[1] for one in found)
    none = torch.zeros(rest, dtype=torch.bool)
    dead, lost = (
        torch.cat([*(one.zero_gradient for one in found), none]),
        torch.cat([*(one.lost for one in found), none]),
    )
    interrupted = any(one.interrupted for one in found)
    steps = min(one.history.shape[1] for one in found)
    if interrupted:
        warn(
            f"stopped after {found[-1].history.shape[1]} of {plan.steps} steps"
            f"{f', {rest} of {problem.rows} images not begun' if rest else ''}: these are the best images so far"
        )
    else:
        _report_dead(dead, lost, titles, torch.cat(values))
    if not images.isfinite().all():
        raise ValueError("the images became NaN or infinite: the steps are too long, take a smaller step")
    frames = [one.frames for one in found if one.frames is not None]
    last = found[0].frames
    if last is not None and rest:
        frames.append((drawn[done:].detach().float().clamp(0, 1) * 255).to("cpu", torch.uint8)[:, None])
    lengths = max((f.shape[1] for f in frames), default=0)
    return Synthesis(
        images=images,
        values=torch.cat([*values, values[0].new_full((rest,), torch.nan)]),
        history=torch.cat([*(_padded(one.history, longest) for one in found), _nan(found[0].history, rest, longest)]),
        penalties=torch.cat([
            *(_padded(one.penalties, longest) for one in found), _nan(found[0].penalties, rest, longest),
        ]),
        zero_gradient=dead | lost,
        frames=torch.cat([_padded(f, lengths) for f in frames]) if frames else None,
        titles=titles,
        steps=steps,
        seed=plan.seed,
        interrupted=interrupted,
    )  # fmt: skip


def scale_init(parametrization: Parametrization, factor: float) -> Parametrization:
    """The same with more noise to begin with, where there is a measure of it."""
    noise = getattr(parametrization, "noise", None)
    return parametrization if noise is None else replace(parametrization, noise=noise * factor)  # type: ignore[type-var]


def _report_dead(dead: Tensor, lost: Tensor, titles: tuple[str, ...], values: Tensor) -> None:
    def named(rows: Tensor) -> str:
        names = [title for title, one in zip(titles, rows.tolist(), strict=True) if one]
        return f"{', '.join(names[:5])}{', ...' if len(names) > 5 else ''}"

    if dead.any():
        there = ", ".join(f"{value:.3g}" for value in values.cpu()[dead][:5].tolist())
        text = (
            f"{named(dead)}: no start was found where the objective has a gradient; there it is {there}. It lies "
            "behind a ReLU that is off or a saturated sigmoid, which at 1 has nothing left to gain: start from other "
            'images (start="ones", or photos), or climb what comes before it, such as the logit or neuron(layer, index)'
        )
        if dead.all():
            raise ValueError(text)
        warn(f"{text}. Their images are noise")
    if lost.any():
        warn(
            f"{named(lost)}: a step led to where the objective has no gradient, and it ended below where it began. "
            "Take smaller steps or another start, or climb what comes before the ReLU or the sigmoid, such as the "
            "logit; keep='best' gives the best image on the way"
        )


def mean_color(model: Model, like: Tensor) -> Tensor:
    """C x 1 x 1: a Classifier's mean color, gray where it knows none, and 0 for a bare network."""
    gray = like.new_zeros(like.shape[1], 1, 1)
    if isinstance(model, Classifier):
        return gray + (0.5 if model.mean is None else model.mean.to(like))
    return gray


def _parts(rows: int, like: Tensor, whole: bool, plan: Plan) -> list[slice]:
    """Rows that are climbed together: a coupled objective takes all at once, a line search one alone."""
    if whole:
        return [slice(0, rows)]
    if plan.optimizer == "lbfgs":
        return [slice(row, row + 1) for row in range(rows)]
    most = current().batch_size
    if most is None:
        guess = CPU_GUESS if like.device.type == "cpu" else GPU_GUESS
        most = max(1, memory_budget(like.device) // (like[:1].numel() * like.element_size() * guess))
    number = -(-rows // most)
    size = -(-rows // number)
    return [slice(first, min(first + size, rows)) for first in range(0, rows, size)]


def _reads(bounds: Sequence[Any]) -> frozenset[str]:
    return frozenset().union(*(bound.reads for bound in bounds))


def _padded(values: Tensor, length: int) -> Tensor:
    """M x T x ... with its last entry repeated: an ascent that converged stays where it is."""
    missing = length - values.shape[1]
    if not missing:
        return values
    if not values.shape[1]:
        return _nan(values, len(values), length)
    return torch.cat([values, values[:, -1:].expand(-1, missing, *values.shape[2:])], 1)


def _nan(like: Tensor, rows: int, length: int) -> Tensor:
    return like.new_full((rows, length, *like.shape[2:]), torch.nan)


def _shape(model: Model, size: int | tuple[int, ...] | None) -> tuple[int, int, int]:
    channels = 3
    if isinstance(model, Classifier):
        channels = model.preprocessing.channels
        size = model.preprocessing.size if size is None else size
    elif (net := network(model)) is not None:
        channels = first_channels(net) or 3
    if size is None:
        raise ValueError("the size of the image is not known: give size=, height and width in pixels")
    height, width = _pair(size)
    return (size[0] if isinstance(size, tuple) and len(size) == 3 else channels), height, width


def _pair(size: int | tuple[int, ...]) -> tuple[int, int]:
    sides = (size, size) if isinstance(size, int) else tuple(size)
    if len(sides) not in (2, 3) or any(not isinstance(side, int) or side < 1 for side in sides):
        raise ValueError(f"size is {size}, expected pixels: one number above 0, or height and width")
    return sides[-2], sides[-1]


def check_ascent(
    problem: Problem,
    optimizer: OptimizerSpec,
    step_size: float | None,
    steps: int,
    penalties: Sequence[Objective],
    transforms: Sequence[Transform],
    record_every: int,
) -> None:
    """Refuse options that are out of their range, or do not go together."""
    if isinstance(optimizer, str) and optimizer not in NAMES:
        raise ValueError(
            f"optimizer is {optimizer!r}, expected one of {', '.join(NAMES)} or a function from parameters to a torch "
            f"optimizer; {nearest(optimizer, NAMES)}"
        )
    if steps < 1 or record_every < 0:
        raise ValueError(f"steps and record_every are {steps} and {record_every}, expected at least 1 and 0")
    if step_size is not None and not step_size > 0:
        raise ValueError(f"step_size is {step_size}, expected a number above 0")
    if optimizer == "lbfgs" and transforms:
        raise ValueError("L-BFGS needs the same function at every step: leave out transforms=, or use optimizer='adam'")
    for kind, name, given in ((Transform, "transforms", transforms), (Objective, "penalties", penalties)):
        for one in given:
            if not isinstance(one, kind):
                raise TypeError(f"{name} holds {one!r}, expected what {_EXAMPLES[name]} makes")
    for one in penalties:
        if isinstance(one, Penalty) and one.on == "code" and not isinstance(problem.parametrization, Generator):
            raise ValueError(f"{one} is about the code of a Generator, and there is none")


_EXAMPLES = {"transforms": "jitter(8)", "penalties": "l2(0.1)"}
