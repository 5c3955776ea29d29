"""Expected gradients: integrated gradients averaged over many baselines."""

from __future__ import annotations

import torch
from torch import Tensor

from ..checks import check_images
from ..methods.result import Attribution
from ..model.classifier import Classifier
from ..model.run import Model
from ..objectives import Bound
from .ingredients.batched_gradients import gradients_over
from .ingredients.decorator import attribution
from .ingredients.noise import uniform_noise


@attribution(
    paper="Erion, Janizek, Sturmfels, Lundberg & Lee 2021, Improving performance of deep learning models with "
    "axiomatic attribution priors and expected gradients",
)
def expected_gradients(
    model: Model,
    images: Tensor,
    objective: Bound,
    *,
    background: Tensor | None = None,
    samples: int = 50,
    seed: int = 0,
) -> Attribution:
    """Integrated gradients averaged over baselines drawn from a background, so that no single one is singled out.

    values = mean over k of (x - b_k) x g(b_k + a_k (x - b_k)), with b_k from the background in turn and a_k
    uniform on [k/n, (k+1)/n] in random order. Their sum tends to f(x) less the mean of f over the background.

    Args:
        model: a network or a `Classifier`.
        images: N x C x H x W.
        objective: what to explain; None is the predicted class.
        background: M x C x H x W, typical images, better from the training data; by default images of
            uniform noise on [0, 1] (for a bare network: on the range of the image).
        samples: how many pairs of baseline and place; a multiple of M weighs all baselines alike.
        seed: of the draws.

    Returns:
        An `Attribution`: values as the images, in units of the objective.

    Raises:
        ValueError: for fewer than 1 sample, or a background that does not fit the images.

    >>> import pellucid
    >>> model = pellucid.load("shapes")
    >>> scenes = pellucid.shapes.scenes(5)
    >>> pellucid.expected_gradients(model, scenes.images[:1], background=scenes.images[1:], samples=8).values.shape
    torch.Size([1, 3, 96, 96])
    """
    if samples < 1:
        raise ValueError(f"samples is {samples}, expected at least 1")
    images = images.detach()
    if background is not None:
        check_images(background, channels=images.shape[1], pixels=isinstance(model, Classifier))
        if background.shape[2:] != images.shape[2:]:
            raise ValueError(
                f"the background images are {tuple(background.shape[2:])} in height and width, "
                f"those explained {tuple(images.shape[2:])}: read both with the same model"
            )
        background = background.detach().to(images)
    generator = torch.Generator().manual_seed(seed)
    places = (torch.arange(samples) + torch.rand(samples, generator=generator)) / samples
    places = places[torch.randperm(samples, generator=generator)]
    noise = uniform_noise(images, seed)
    low = high = None
    if not isinstance(model, Classifier):
        low, high = images.amin((1, 2, 3), keepdim=True), images.amax((1, 2, 3), keepdim=True)

    def baseline(rows: Tensor, k: Tensor) -> Tensor:
        if background is not None:
            return background[k % len(background)]
        drawn = noise(k)
        return drawn if low is None or high is None else low[rows] + drawn * (high - low)[rows]

    def at(rows: Tensor, k: Tensor) -> Tensor:
        start = baseline(rows, k)
        return start + places[k].to(images)[:, None, None, None] * (images[rows] - start)

    def shared(slopes: Tensor, rows: Tensor, k: Tensor) -> Tensor:
        return slopes * (images[rows] - baseline(rows, k))

    total = gradients_over(model, images, objective, samples, at, shared, "expected gradients")
    return Attribution(total / samples)
