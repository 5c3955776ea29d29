"""Style transfer: what is in one image, painted as another is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from ..checks import check_images, nearest
from ..model.classifier import Classifier
from ..model.run import Model
from ..objectives.algebra import Objective
from .ascent import layers_by_scale
from .ascent.decorator import synthesis
from .ascent.plan import OptimizerSpec, Plan
from .ascent.problem import STARTS, STEPS, build_problem, check_ascent, optimize
from .ascent.result import Synthesis
from .ingredients.objectives import content, style
from .ingredients.parametrizations import Pixels
from .ingredients.penalties import total_variation

# Brightness and two differences of colors, as television had them (YIQ).
_YIQ = ((0.299, 0.587, 0.114), (0.596, -0.274, -0.322), (0.211, -0.523, 0.312))


@synthesis(paper="Gatys, Ecker & Bethge 2016, Image style transfer using convolutional neural networks")
def style_transfer(
    model: Model,
    image: Tensor,
    styles: Tensor | Sequence[Tensor],
    *,
    content_layers: str | Sequence[str] = (),
    style_layers: str | Sequence[str] = (),
    content_weight: float = 1.0,
    style_weight: float = 10.0,
    style_weights: Sequence[float] = (),
    mixture: Sequence[float] = (),
    masks: Sequence[Tensor] = (),
    style_masks: Sequence[Tensor] = (),
    keep_colors: bool = False,
    variation: float = 0.01,
    scales: int | None = None,
    style_size: int | None = None,
    start: str | Tensor = "content",
    relative: bool = True,
    optimizer: OptimizerSpec = "lbfgs",
    step_size: float | None = None,
    steps: int = 200,
    record_every: int = 0,
    seed: int = 0,
) -> Synthesis:
    """An image with the content of one and the style of another.

    Minimizes content_weight |a - p|^2 / |p|^2 + style_weight sum over layers of w |G - A|^2 / |A|^2
    + variation V: a and p are activations of the image that is made and of the content, G and A Gram matrices of it
    and of the style, V the mean squared step between neighboring pixels x 100.

    Args:
        model: a network or a `Classifier` that takes images of any size.
        image: 1 x C x H x W, the content.
        styles: one image 1 x C x h x w of any size, or several that are mixed.
        content_layers, style_layers: names; by default those of the paper for VGG-19, and for other networks one at
            each resolution for the style, and the last but one of these for the content.
        content_weight, style_weight: of the two sides. The paper's are 1 and 1000 to 10000 with relative=False.
        style_weights: one for each layer; one of their number each by default.
        mixture: one for each style; the same for all by default.
        masks: for each style H x W in [0, 1], the region of the image that it is for.
        style_masks: for each style h x w in [0, 1], the region of the style that counts.
        keep_colors: take the brightness alone from what is made, and the colors of the content
            (Gatys, Bethge, Hertzmann & Shechtman 2016, Preserving color in neural artistic style transfer).
        variation: of the total variation, against grain.
        scales: solved at 1 / 2^(scales - 1) of the size first, then at twice that, ...; by default so that the first
            is not above 256 pixels. Steps are shared among them, and large strokes come out in large images.
        style_size: longer side that styles are brought to; by default that of the content, so that a style of any
            size fits the memory that the content does.
        start: "content", "noise", another word of `maximize`, or an image.
        relative: divide by |p|^2 and |A|^2; False takes the paper's formulas.
        optimizer, step_size, steps, record_every, seed: as for `maximize`; "adam" needs less memory than L-BFGS.

    Returns:
        A `Synthesis`; history is that of the last scale.

    Raises:
        ValueError: for lists whose lengths do not fit the styles, or options out of their range.

    >>> import pellucid
    >>> model, scenes = pellucid.load("shapes"), pellucid.shapes.scenes(2)
    >>> pellucid.style_transfer(model, scenes.images[:1], scenes.images[1:], steps=3).images.shape
    torch.Size([1, 3, 96, 96])
    """
    pixels = isinstance(model, Classifier)
    channels = model.preprocessing.channels if isinstance(model, Classifier) else None
    paintings = [styles] if isinstance(styles, Tensor) else list(styles)
    for one in (image, *paintings):
        check_images(one, channels=channels, pixels=pixels)
    _check(image, paintings, mixture, masks, style_masks, content_weight, style_weight, variation, scales)
    if isinstance(start, str) and start not in ("content", *STARTS):
        known = ("content", *STARTS)
        raise ValueError(f"start is {start!r}, expected an image or one of {', '.join(known)}; {nearest(start, known)}")
    if keep_colors and (image.shape[1] != 3 or not pixels):
        raise ValueError("keep_colors needs a Classifier of color images, whose brightness is known")
    paintings = [_fitted(one, style_size or max(image.shape[2:])) for one in paintings]
    if keep_colors:
        paintings = [_gray(one, image) for one in paintings]
    inside = _names(content_layers) or (layers_by_scale.content_layer(model, image),)
    across = _names(style_layers) or layers_by_scale.style_layers(model, image)
    shares = list(mixture) or [1 / len(paintings)] * len(paintings)
    chain = _chain(image, scales)
    now: Tensor | None = None
    found: Synthesis | None = None
    span = 1.0 if pixels else float(image.max() - image.min()) or 1.0
    for number, size in enumerate(chain):
        factor = max(size) / max(image.shape[2:])
        target = _resized(image, size)
        goal: Objective = content_weight * content(inside, target, relative=relative)
        for k, (one, share) in enumerate(zip(paintings, shares, strict=True)):
            small = _resized(one, tuple(max(16, round(side * factor)) for side in one.shape[2:]))
            goal = goal + style_weight * share * style(
                across, small, weights=tuple(style_weights), relative=relative,
                mask=_region(masks, k, size), image_mask=style_masks[k] if style_masks else None,
            )  # fmt: skip
        if now is not None:
            begin: str | Tensor = _resized(now, size)
        elif isinstance(start, Tensor):
            begin = _resized(start, size)
        else:
            begin = target if start == "content" else start
        begin = begin.clamp(0, 1) if pixels and isinstance(begin, Tensor) else begin
        drawn = Pixels(bounds=(0.0, 1.0) if pixels else None)
        problem = build_problem(model, goal, begin, tuple(target.shape[1:]), 1, drawn)
        budget = max(1, steps // len(chain))
        check_ascent(problem, optimizer, step_size, steps, (), (), record_every)
        length = (STEPS.get(str(optimizer), {}).get(Pixels, 1.0) if step_size is None else step_size) * span
        label = "style transfer" + (f", scale {number + 1} of {len(chain)}" if len(chain) > 1 else "")
        last = number == len(chain) - 1
        plan = Plan(budget, length, optimizer, (), seed, record_every if last else 0, label, best=True, scale=1e3)
        costs = [total_variation(variation * 100 / target.numel() / span**2)] if variation else []
        found = optimize(problem, plan, costs)
        now = found.images
        if found.interrupted:
            break
    assert found is not None and now is not None
    made = _resized(now, tuple(image.shape[2:]))
    if keep_colors:
        made = _recolored(made, image)
    return replace(found, images=made.clamp(0, 1) if pixels else made, titles=("style transfer",))


def _chain(image: Tensor, scales: int | None) -> list[tuple[int, ...]]:
    if scales is None:
        scales = 1
        while max(image.shape[2:]) / 2 ** (scales - 1) > 256:
            scales += 1
    return [tuple(max(16, round(side / 2**k)) for side in image.shape[2:]) if k else tuple(image.shape[2:])
            for k in range(scales)][::-1]  # fmt: skip


def _names(given: str | Sequence[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


def _fitted(one: Tensor, side: int) -> Tensor:
    longer = max(one.shape[2:])
    return _resized(one, tuple(max(16, round(length * side / longer)) for length in one.shape[2:]))


def _resized(images: Tensor, size: tuple[int, ...]) -> Tensor:
    if tuple(images.shape[2:]) == tuple(size):
        return images
    return F.interpolate(images, size, mode="bilinear", align_corners=False, antialias=images.shape[2] > size[0])


def _region(masks: Sequence[Tensor], number: int, size: tuple[int, ...]) -> Tensor | None:
    return _resized(masks[number].float()[None, None], size)[0, 0] if masks else None


def _yiq(like: Tensor) -> Tensor:
    return torch.tensor(_YIQ).to(like)


def _gray(one: Tensor, image: Tensor) -> Tensor:
    """The brightness of a style, with the mean and the deviation of that of the content, in three channels."""
    weights = _yiq(image)[0][:, None, None]
    mine, theirs = (one * weights).sum(1, keepdim=True), (image * weights).sum(1, keepdim=True)
    scale = theirs.std() / mine.std().clamp(min=1e-6)
    return ((mine - mine.mean()) * scale + theirs.mean()).clamp(0, 1).expand(-1, 3, -1, -1).contiguous()


def _recolored(made: Tensor, image: Tensor) -> Tensor:
    matrix = _yiq(image)
    first = torch.einsum("ij,njhw->nihw", matrix, made)
    second = torch.einsum("ij,njhw->nihw", matrix, image.to(made))
    return torch.einsum("ij,njhw->nihw", torch.linalg.inv(matrix), torch.cat([first[:, :1], second[:, 1:]], 1))


def _check(
    image: Tensor,
    styles: Sequence[Tensor],
    mixture: Sequence[float],
    masks: Sequence[Tensor],
    style_masks: Sequence[Tensor],
    content_weight: float,
    style_weight: float,
    variation: float,
    scales: int | None,
) -> None:
    if len(image) != 1 or any(len(one) != 1 for one in styles) or not styles:
        raise ValueError(
            f"style_transfer takes one content image and one image for each style, got {len(image)} and "
            f"{[len(one) for one in styles]}"
        )
    for name, given in (("mixture", mixture), ("masks", masks), ("style_masks", style_masks)):
        if len(given) not in (0, len(styles)):
            raise ValueError(f"{name} has {len(given)} entries for {len(styles)} styles: one for each, or none")
    for mask in masks:
        if tuple(mask.shape) != tuple(image.shape[2:]):
            raise ValueError(f"a mask is {tuple(mask.shape)}, expected the {tuple(image.shape[2:])} of the image")
    if min(content_weight, style_weight, variation, *mixture) < 0 or (scales is not None and scales < 1):
        raise ValueError("weights are expected from 0, and scales from 1")
