"""Activation maximization: the image that raises an objective most."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..model.run import Model
from ..objectives import ObjectiveLike
from ..objectives.algebra import Objective
from .ascent.decorator import synthesis
from .ascent.plan import OptimizerSpec, Plan
from .ascent.problem import STEPS, build_problem, check_ascent, optimize
from .ascent.result import Synthesis
from .ingredients.canvas import Parametrization
from .ingredients.transforms import Transform, robust


@synthesis(
    paper="Erhan, Bengio, Courville & Vincent 2009, Visualizing higher-layer features of a deep network; Simonyan, "
    "Vedaldi & Zisserman 2014, Deep inside convolutional networks"
)
def maximize(
    model: Model,
    objective: ObjectiveLike | Sequence[ObjectiveLike],
    *,
    start: str | Tensor = "noise",
    size: int | tuple[int, ...] | None = None,
    count: int = 1,
    parametrization: Parametrization | None = None,
    optimizer: OptimizerSpec = "adam",
    step_size: float | None = None,
    steps: int = 256,
    penalties: Objective | Sequence[Objective] = (),
    transforms: Transform | Sequence[Transform] | None = None,
    keep: str = "last",
    record_every: int = 0,
    seed: int = 0,
) -> Synthesis:
    """Images that a model, a layer or a neuron responds to most: ascent of objective(x) - penalties(x) over x.

    Several objectives are climbed in one run, one image each: a list of classes, or all channels of a layer. By
    default the image is made of decorrelated frequencies (`Fourier`) and is enlarged, turned and shifted a little
    before each look, which keeps ascent from the grain that means nothing to people.

    The plain ascent of textbooks is `parametrization=Pixels(), optimizer="ascent", transforms=()`; with
    `transforms=[standardize()]` and `Pixels(bounds=None)` the image is brought to mean 0 and deviation 1 before each
    step.

    Args:
        model: a network or a `Classifier`.
        objective: what to raise: anything that `pellucid.logit`, `channel`, `neuron`, ... make, a class or label,
            "layer:channel", a function of the network's output, or a list of these for one image each.
        start: "noise" as it suits the parametrization, "zeros", "ones", "mean" (the mean color), or images
            N x C x H x W (or 1 x C x H x W for all).
        size: height and width, or channels, height and width; by default the model's, or that of the images to
            start with. The channels are those of the first convolution where they are not given, or 3.
        count: how many images of a single objective, each from other noise.
        parametrization: `Pixels`, `Sigmoid`, `Fourier`, `FixedMagnitude`, `Generator` or `CPPN`; by default
            `Fourier()`, for a bare network, whose range is not known, without bounds.
        optimizer: "adam"; "ascent", x + step gradient; "unit", the same with the gradient divided by its mean
            magnitude; "lbfgs"; or a function from a list of parameters to a torch optimizer.
        step_size: its step or learning rate; by default one that suits the optimizer and the parametrization.
        steps: how many gradients are taken.
        penalties: what makes an image unlikely: `l2`, `lp`, `total_variation`, `gaussian_prior`, `center_bias`.
        transforms: what is done every n steps: `jitter`, `rotate`, `scale`, `pad`, `blur`, `clip_small_pixels`,
            `clip_small_gradients`, `standardize`; by default a little of the first three, () for none.
        keep: "last", or "best" for the image whose objective less its penalties was highest.
        record_every: keep a frame every so many steps; 0 keeps none.
        seed: of noise and views; row i of a batch depends on the seed and i alone.

    Returns:
        A `Synthesis`. After Ctrl-C it holds the best images so far.

    Raises:
        ValueError: for a size that is not known, options that do not go together, NaN, or an objective without a
            gradient at any start.
        UnknownName: for a layer or label that does not exist.
        ModelError: if the network fails, or cuts the gradient.

    Warns:
        UserWarning: if some of several objectives had no gradient at any start, or it was interrupted.

    >>> import pellucid
    >>> model = pellucid.load("shapes")
    >>> found = pellucid.maximize(model, ["star", "ring"], steps=8)
    >>> found.images.shape, found.history.shape
    (torch.Size([2, 3, 96, 96]), torch.Size([2, 8]))
    """
    problem = build_problem(model, objective, start, size, count, parametrization)
    drawn = problem.parametrization
    chosen = (transforms,) if isinstance(transforms, Transform) else transforms
    if chosen is None:
        chosen = robust(problem.like.shape[2:]) if optimizer != "lbfgs" else ()
    costs = (penalties,) if isinstance(penalties, Objective) else tuple(penalties)
    if keep not in ("last", "best"):
        raise ValueError(f"keep is {keep!r}, expected 'last' or 'best'")
    check_ascent(problem, optimizer, step_size, steps, costs, chosen, record_every)
    length = STEPS.get(str(optimizer), {}).get(type(drawn), 1.0) if step_size is None else step_size
    plan = Plan(steps, length, optimizer, tuple(chosen), seed, record_every, "maximize", keep == "best")
    return optimize(problem, plan, costs)
