"""DeepDream: a photograph, and more of what a network sees in it."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from ..checks import check_images
from ..model.classifier import Classifier
from ..model.run import Model
from ..objectives import ObjectiveLike
from ..objectives import layer as whole_layer
from .ascent.decorator import synthesis
from .ascent.layers_by_scale import content_layer
from .ascent.plan import Plan
from .ascent.problem import build_problem, optimize
from .ascent.result import Synthesis
from .ingredients.objectives import guided
from .ingredients.parametrizations import Pixels
from .ingredients.transforms import jitter


@synthesis(paper="Mordvintsev, Olah & Tyka 2015, Inceptionism: going deeper into neural networks")
def dream(
    model: Model,
    images: Tensor,
    objective: ObjectiveLike = None,
    *,
    guide: Tensor | None = None,
    octaves: int = 4,
    ratio: float = 1.4,
    steps: int = 10,
    step_size: float = 0.006,
    shift: int = 16,
    record_every: int = 0,
    zoom: int = 0,
    zoom_by: float = 1.04,
    seed: int = 0,
) -> Synthesis:
    """Images with more of what a layer sees in them, from coarse to fine.

    The image is made small, an objective is climbed for a few steps, and what that added is carried to the next
    larger octave. Each step is step_size x gradient / mean |gradient|, of the image shifted round its edges by up to
    `shift` pixels, another way each time, so that no grid of the network shows.

    Args:
        model: a network or a `Classifier` that takes images of several sizes.
        images: N x C x H x W.
        objective: what to raise; by default all of a layer, `pellucid.layer(...)`, three quarters of the way through.
        guide: 1 x C x h x w, an image whose features are to appear: each place becomes like the place of the guide
            that it resembles most. The objective is then `pellucid.layer(...)` or the name of a layer, or None.
        octaves: sizes that are gone through, the last that of the images.
        ratio: of the size of an octave to that of the one before.
        steps: in each octave.
        step_size: the mean change of a pixel at a step, of its range.
        shift: pixels of jitter.
        record_every: keep a frame every so many steps of the last octave.
        zoom: go on for so many frames, each the one before enlarged a little and dreamed anew; they are the frames
            of the result.
        zoom_by: how much larger a frame shows the one before.
        seed: of the shifts.

    Returns:
        A `Synthesis`; its history is that of the last octave.

    Raises:
        ValueError: for options out of their range, or an objective without a gradient.
        ModelError: if the network takes no other size than its own: octaves=1.

    >>> import pellucid
    >>> model, scenes = pellucid.load("shapes"), pellucid.shapes.scenes(1)
    >>> pellucid.dream(model, scenes.images, octaves=2, steps=2).images.shape
    torch.Size([1, 3, 96, 96])
    """
    check_images(
        images, channels=model.preprocessing.channels if isinstance(model, Classifier) else None,
        pixels=isinstance(model, Classifier),
    )  # fmt: skip
    if (
        octaves < 1
        or steps < 1
        or not ratio > 1
        or not step_size > 0
        or shift < 0
        or min(zoom, record_every) < 0
        or not zoom_by > 1
    ):
        raise ValueError(
            f"octaves={octaves}, steps={steps}, ratio={ratio}, step_size={step_size}, shift={shift}, "
            f"record_every={record_every}, zoom={zoom}, "
            f"zoom_by={zoom_by}: expected at least 1 octave and step, a ratio and zoom_by above 1, a step above 0"
        )
    if guide is not None:
        name = objective if isinstance(objective, str) else next(iter(getattr(objective, "reads", ())), None)
        if name is None and objective is not None:
            raise ValueError(f"with a guide the objective is a layer or its name, got {objective}")
        objective = guided(name or content_layer(model, images), guide)
    elif objective is None:
        objective = whole_layer(content_layer(model, images))
    span = 1.0 if isinstance(model, Classifier) else float(images.max() - images.min()) or 1.0
    pixels = Pixels(bounds=(0.0, 1.0) if isinstance(model, Classifier) else None)

    def ascend(start: Tensor, count: int, label: str, film: int = 0, number: int = 0) -> Synthesis:
        transforms = (jitter(min(shift, min(start.shape[2:]) // 2)),) if shift and min(start.shape[2:]) > 1 else ()
        plan = Plan(count, step_size * span, "unit", transforms, seed + number, film, label)
        return optimize(build_problem(model, objective, start, None, 1, pixels), plan)

    sizes = [tuple(max(1, round(side / ratio**k)) for side in images.shape[2:]) for k in range(octaves)][::-1]
    found: Synthesis | None = None
    detail = torch.zeros_like(images)
    for number, size in enumerate(sizes):
        base = _resized(images, size)
        start = base + _resized(detail, size)
        start = start.clamp(0, 1) if pixels.bounds else start
        last = number == octaves - 1
        found = ascend(start, steps, f"dream, octave {number + 1} of {octaves}", record_every if last else 0, number)
        detail = found.images.to(base) - base
        if found.interrupted:
            break
    assert found is not None
    made = images + _resized(detail, tuple(images.shape[2:])) if found.interrupted else found.images
    result = replace(found, images=made.clamp(0, 1) if pixels.bounds else made)
    if not zoom or found.interrupted:
        return result
    frames, now = [result.images], result.images
    height, width = images.shape[2:]
    for number in range(zoom):
        larger = F.interpolate(now, scale_factor=zoom_by, mode="bicubic", align_corners=False)
        top, left = (larger.shape[2] - height) // 2, (larger.shape[3] - width) // 2
        start = larger[:, :, top : top + height, left : left + width]
        start = start.clamp(0, 1) if pixels.bounds else start
        one = ascend(start, max(1, steps // 4), f"dream, frame {number + 1} of {zoom}", 0, octaves + number)
        now = one.images
        frames.append(now)
        if one.interrupted:
            break
    shown = torch.stack(frames, 1).clamp(0, 1).mul(255).round().to("cpu", torch.uint8)
    return replace(result, frames=shown, interrupted=one.interrupted)


def _resized(images: Tensor, size: tuple[int, ...]) -> Tensor:
    if tuple(images.shape[2:]) == tuple(size):
        return images
    smaller = images.shape[2] > size[0]
    return F.interpolate(images, size, mode="bilinear", align_corners=False, antialias=smaller)
