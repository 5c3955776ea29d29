"""Deep SHAP: DeepLIFT averaged over many baselines."""

from __future__ import annotations

import torch
from torch import Tensor

from ..checks import check_images
from ..methods.result import Attribution
from ..model.batches import batched
from ..model.classifier import Classifier
from ..model.run import Model, device_of
from ..objectives import Bound
from .ingredients.baselines import baseline_images
from .ingredients.decorator import attribution
from .ingredients.deeplift_multipliers import multipliers


@attribution(
    paper="Lundberg & Lee 2017, A unified approach to interpreting model predictions",
)
def deep_shap(
    model: Model,
    images: Tensor,
    objective: Bound,
    *,
    background: Tensor | None = None,
    samples: int = 10,
    seed: int = 0,
    strict: bool = True,
) -> Attribution:
    """What each pixel adds to the difference between an image and typical ones: an estimate of Shapley values.

    values = mean over baselines b of (x - b) m(x, b), with m as in `deeplift`. They add up to f(image) less the mean
    of f over the baselines where those of `deeplift` do.

    Args:
        model: a network or a `Classifier`.
        images: N x C x H x W.
        objective: what to explain; None is the predicted class.
        background: M x C x H x W, typical images, better from the training data; all are used. By default images of
            uniform noise on [0, 1] (for a bare network: on the range of the image).
        samples: how many images of noise, where no background is given.
        seed: of the noise.
        strict: functions out of sight are an error; False takes their ordinary gradient, with a warning.

    Returns:
        An `Attribution`: values as the images, in units of the objective.

    Raises:
        ValueError: for fewer than 1 sample, or a background that does not fit the images.
        RuleError: for functions out of sight.

    >>> import pellucid
    >>> model = pellucid.load("shapes")
    >>> scenes = pellucid.shapes.scenes(5)
    >>> pellucid.deep_shap(model, scenes.images[:1], background=scenes.images[1:]).values.shape
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
    count = samples if background is None else len(background)
    total = torch.zeros_like(images, dtype=torch.promote_types(images.dtype, torch.float32))

    def step(part: slice) -> None:
        index = torch.arange(part.start, part.stop)
        rows, numbers = index // count, index % count
        if background is not None:
            start = background[numbers]
        else:
            start = torch.cat(
                [
                    baseline_images(model, images[row : row + 1], "noise", seed + int(number))
                    for row, number in zip(rows.tolist(), numbers.tolist(), strict=True)
                ]
            )
        mine = images[rows]
        shares = multipliers(model, mine, start, objective, rows, strict) * (mine - start)
        for row in rows.unique().tolist():
            total[row] += shares[rows == row].sum(0, dtype=total.dtype)

    batched(step, len(images) * count, like=images, label="Deep SHAP", device=device_of(model))
    return Attribution(total / count)
