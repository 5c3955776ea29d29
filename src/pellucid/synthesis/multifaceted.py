"""Multifaceted feature visualization: all that a unit likes, not only what it likes most."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from ..checks import check_images
from ..model.batches import batched
from ..model.classifier import Classifier
from ..model.run import Model, device_of, run
from ..objectives import ObjectiveLike
from .ascent.decorator import synthesis
from .ascent.layers_by_scale import content_layer
from .ascent.plan import OptimizerSpec, Plan
from .ascent.problem import STEPS, build_problem, check_ascent, optimize
from .ascent.result import Synthesis
from .ingredients.canvas import Parametrization
from .ingredients.parametrizations import Fourier
from .ingredients.penalties import center_bias
from .ingredients.transforms import robust

AXES = 50  # principal axes that activations are reduced to before they are clustered
NEAREST = 15  # images of a cluster whose mean a facet begins with


@synthesis(paper="Nguyen, Yosinski & Clune 2016, Multifaceted feature visualization")
def multifaceted(
    model: Model,
    images: Tensor,
    objective: ObjectiveLike,
    *,
    facets: int = 4,
    layer: str | None = None,
    size: int | tuple[int, int] | None = None,
    bias: float = 0.05,
    parametrization: Parametrization | None = None,
    optimizer: OptimizerSpec = "adam",
    step_size: float | None = None,
    steps: int = 200,
    record_every: int = 0,
    seed: int = 0,
) -> Synthesis:
    """One image for each kind of thing that a unit responds to.

    Real images that the unit responds to are clustered by their activations (k-means on 50 principal axes); from the
    mean of the images nearest the middle of each cluster, the objective is climbed, with `center_bias`, so that one
    thing stands in the middle.

    Args:
        model: a network or a `Classifier`.
        images: M x C x H x W, real images that the objective is about, those of a class for instance; at least as
            many as facets.
        objective: what to raise, as for `maximize`.
        facets: how many.
        layer: whose activations tell kinds apart; by default one three quarters of the way through.
        size: height and width of what is made; by default those of the images.
        bias: strength of `center_bias`; 0 is without it.
        parametrization, optimizer, step_size, steps, record_every, seed: as for `maximize`; frequencies by default.

    Returns:
        A `Synthesis` with one image for each facet, those of most images first.

    Raises:
        ValueError: for fewer images than facets, or what `maximize` refuses.
        UnknownName: for a layer that does not exist.

    >>> import pellucid
    >>> model, scenes = pellucid.load("shapes"), pellucid.shapes.scenes(20)
    >>> pellucid.multifaceted(model, scenes.images, "star", facets=2, steps=3).titles[0]
    'logit("star"), facet 1 (... images)'
    """
    check_images(
        images, channels=model.preprocessing.channels if isinstance(model, Classifier) else None,
        pixels=isinstance(model, Classifier),
    )  # fmt: skip
    if not 1 <= facets <= len(images):
        raise ValueError(f"facets is {facets} for {len(images)} images: expected 1 to {len(images)}")
    if bias < 0:
        raise ValueError(f"bias is {bias}, expected a number from 0")
    name = layer or content_layer(model, images)
    starts, counts = _facets(images, _activations(model, images, name), facets, seed)
    if size is not None:
        height, width = (size, size) if isinstance(size, int) else size
        starts = F.interpolate(starts, (height, width), mode="bilinear", align_corners=False, antialias=True)
    drawn = parametrization or Fourier(bounds=(0.0, 1.0) if isinstance(model, Classifier) else None)
    problem = build_problem(model, objective, starts, None, 1, drawn)
    if len(problem.objectives) > 1:
        raise ValueError(f"multifaceted takes one objective, got {len(problem.objectives)}")
    penalties = [center_bias(bias)] if bias else []
    transforms = robust(starts.shape[2:]) if optimizer != "lbfgs" else ()
    check_ascent(problem, optimizer, step_size, steps, penalties, transforms, record_every)
    length = STEPS.get(str(optimizer), {}).get(type(drawn), 1.0) if step_size is None else step_size
    found = optimize(problem, Plan(steps, length, optimizer, transforms, seed, record_every, "facets"), penalties)
    named = enumerate(zip(found.titles, counts, strict=True))
    return replace(found, titles=tuple(f"{title}, facet {k + 1} ({n} images)" for k, (title, n) in named))


def _activations(model: Model, images: Tensor, layer: str) -> Tensor:
    parts: list[Tensor] = []

    def step(part: slice) -> None:
        parts.append(run(model, images[part], read=layer, to_output=False).activations[layer].flatten(1).float().cpu())

    with torch.no_grad():
        batched(step, len(images), like=images, label="activations", device=device_of(model))
    return torch.cat(parts)


def _facets(images: Tensor, values: Tensor, facets: int, seed: int) -> tuple[Tensor, list[int]]:
    """The mean image of each cluster's middle, the largest cluster first, and how many images each has."""
    from sklearn.cluster import KMeans

    centered = values.double() - values.double().mean(0)
    # The axes of an M x D matrix with D far above M come from its M x M products.
    power, axes = torch.linalg.eigh(centered @ centered.T)
    places = (axes * power.clamp(min=0).sqrt())[:, -min(AXES, len(values)) :].numpy()
    clusters = KMeans(facets, n_init=10, random_state=seed % 2**32).fit(places)
    labels = torch.from_numpy(clusters.labels_).long()
    away = torch.from_numpy(((places - clusters.cluster_centers_[clusters.labels_]) ** 2).sum(1))
    counts = torch.bincount(labels, minlength=facets)
    starts = []
    order = [k for k in counts.argsort(descending=True, stable=True).tolist() if counts[k]]
    for k in order:
        mine = (labels == k).nonzero()[:, 0]
        nearest = mine[away[mine].argsort(stable=True)][:NEAREST]
        starts.append(images[nearest.to(images.device)].mean(0))
    return torch.stack(starts), [int(counts[k]) for k in order]
