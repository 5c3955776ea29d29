"""Texture: an image whose features have the same correlations as those of a sample, and no places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..checks import check_images
from ..model.classifier import Classifier
from ..model.run import Model, run
from .ascent.decorator import synthesis
from .ascent.layers_by_scale import style_layers
from .ascent.plan import OptimizerSpec, Plan
from .ascent.problem import STEPS, build_problem, check_ascent, optimize
from .ascent.result import Synthesis
from .ingredients.canvas import Parametrization, noise
from .ingredients.objectives import style
from .ingredients.parametrizations import Fourier
from .ingredients.penalties import total_variation
from .ingredients.transforms import Transform, jitter

MARGIN = 8  # pixels that are made around the texture


@synthesis(paper="Gatys, Ecker & Bethge 2015, Texture synthesis using convolutional neural networks")
def texture(
    model: Model,
    sample: Tensor,
    *,
    size: int | tuple[int, int] | None = None,
    layers: str | Sequence[str] = (),
    weights: Sequence[float] = (),
    count: int = 1,
    relative: bool = True,
    variation: float = 0.03,
    parametrization: Parametrization | None = None,
    optimizer: OptimizerSpec = "lbfgs",
    step_size: float | None = None,
    steps: int = 200,
    transforms: Transform | Sequence[Transform] | None = None,
    record_every: int = 0,
    seed: int = 0,
) -> Synthesis:
    """More of a texture, of any size: noise that is changed until its Gram matrices are those of the sample.

    Minimizes the sum over layers of w |G - A|^2 / |A|^2, with G = F F' / M for the features F of the image at M
    places and A the same of the sample.

    Args:
        model: a network or a `Classifier` that takes images of any size.
        sample: 1 x C x h x w.
        size: height and width of what is made; by default those of the sample.
        layers: by default one at each resolution, up to five; for VGG-19 those of the paper.
        weights: one for each layer; one of their number each by default.
        count: how many textures, each from other noise.
        relative: divide each layer by |A|^2; False divides by 4 C^2 as the paper does.
        variation: weight of the mean squared step between neighboring pixels x 100, against grain.
        parametrization, optimizer, step_size, steps, record_every, seed: as for `maximize`; by default frequencies,
            which large forms need, and L-BFGS, from 64 pixels with a margin that is cut off, as networks see borders
            badly; the paper has `Pixels()`.
        transforms: with another optimizer the image is by default shifted round its edges before each look instead.

    Returns:
        A `Synthesis`.

    Raises:
        ValueError: for more than one sample, layers that do not lie over the image, or options out of their range.

    >>> import pellucid
    >>> model, scenes = pellucid.load("shapes"), pellucid.shapes.scenes(1)
    >>> pellucid.texture(model, scenes.images, size=64, steps=3).images.shape
    torch.Size([1, 3, 64, 64])
    """
    channels = model.preprocessing.channels if isinstance(model, Classifier) else None
    check_images(sample, channels=channels, pixels=isinstance(model, Classifier))
    if len(sample) != 1:
        raise ValueError(f"texture takes one sample, got {len(sample)}")
    names = (layers,) if isinstance(layers, str) else tuple(layers) or style_layers(model, sample)
    shape = tuple(sample.shape[1:]) if size is None else (sample.shape[1], *_sides(size))
    margin = MARGIN if optimizer == "lbfgs" and parametrization is None and min(shape[1:]) >= 8 * MARGIN else 0
    shape = (shape[0], *(side + 2 * margin for side in shape[1:]))
    # Near the mean color of the sample: loud noise would have to be taken away first.
    like = sample.new_zeros(count, *shape)
    spread = sample.std((2, 3), keepdim=True) if sample[0, 0].numel() > 1 else torch.zeros_like(sample)
    start = sample.mean((2, 3), keepdim=True) + 0.2 * spread * noise(like, shape, seed)
    bounds = (0.0, 1.0) if isinstance(model, Classifier) else None
    drawn = parametrization or Fourier(bounds=bounds)
    start = start.clamp(*bounds) if bounds else start
    objective = style(names, sample, weights=tuple(weights), relative=relative)
    problem = build_problem(model, objective, start, None, 1, drawn)
    if transforms is None:
        shift = min(8, min(shape[1:]) // 2)
        transforms = (jitter(shift),) if shift and optimizer != "lbfgs" else ()
    chosen = (transforms,) if isinstance(transforms, Transform) else tuple(transforms)
    span = 1.0 if bounds else float(sample.max() - sample.min()) or 1.0
    costs = [total_variation(100 * variation / start[0].numel() / span**2)] if variation else []
    check_ascent(problem, optimizer, step_size, steps, costs, chosen, record_every)
    length = STEPS.get(str(optimizer), {}).get(type(drawn), 1.0) if step_size is None else step_size
    # L-BFGS stops at small gradients, and each pixel's is small: it sees the loss times a scale.
    found = optimize(problem, Plan(steps, length, optimizer, chosen, seed, record_every, "texture", scale=1e4), costs)
    if not margin:
        return found
    inside = (..., slice(margin, -margin), slice(margin, -margin))
    images = found.images[inside].contiguous()
    bound = objective.bind(model, count)
    with torch.no_grad():
        values = bound(run(model, images, read=bound.reads, to_output=False))
    return replace(found, images=images, values=values, frames=None if found.frames is None else found.frames[inside])


def _sides(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size
