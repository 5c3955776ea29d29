"""SmoothGrad: the gradient, averaged over noisy copies of the image."""

from __future__ import annotations

import torch
from torch import Tensor

from ..methods.result import Attribution
from ..model.run import Model
from ..objectives import Bound
from .ingredients.batched_gradients import gradients_over, of_rows, reduce_channels
from .ingredients.decorator import attribution
from .ingredients.noise import normal_noise

FORMS = ("mean", "squared", "variance")


@attribution(paper="Smilkov, Thorat, Kim, Viégas & Wattenberg 2017, SmoothGrad: removing noise by adding noise")
def smoothgrad(
    model: Model,
    images: Tensor,
    objective: Bound,
    *,
    samples: int = 25,
    noise: float = 0.15,
    form: str = "mean",
    sign: str = "keep",
    channels: str = "all",
    seed: int = 0,
) -> Attribution:
    """The gradient of the objective, averaged over noisy copies of the image.

    values = 1/n sum_k g(x + e_k), with e_k normal of standard deviation noise x (max x - min x); the form
    "squared" averages g^2 (Hooker et al. 2019), "variance" is the variance of g over the copies (VarGrad,
    Adebayo et al. 2018). All images of a batch get the same n draws.

    Args:
        model: a network or a `Classifier`.
        images: N x C x H x W.
        objective: what to explain; None is the predicted class of the image without noise.
        samples: how many copies.
        noise: standard deviation as a fraction of each image's range.
        form: "mean", "squared" or "variance".
        sign, channels: as for `saliency`.
        seed: of the noise.

    Returns:
        An `Attribution`: values as the images (N x 1 x H x W unless channels="all"), in units of the
        objective per unit of a pixel, or their square.

    Raises:
        ValueError: for fewer than 1 sample (2 for the variance), negative noise, or unknown words.

    >>> import pellucid
    >>> model = pellucid.load("shapes")
    >>> images = pellucid.shapes.scenes(1).images
    >>> pellucid.smoothgrad(model, images, "star", samples=4).values.shape
    torch.Size([1, 3, 96, 96])
    """
    if form not in FORMS:
        raise ValueError(f"form is {form!r}, expected {', '.join(FORMS)}")
    if samples < (2 if form == "variance" else 1):
        raise ValueError(f"samples is {samples}: the {form} needs at least {2 if form == 'variance' else 1}")
    if noise < 0:
        raise ValueError(f"noise is {noise}, expected a fraction of the image's range, 0 or more")
    images = images.detach()
    draws = normal_noise(images, seed)
    spread = noise * (images.amax((1, 2, 3), keepdim=True) - images.amin((1, 2, 3), keepdim=True))

    def fold(slopes: Tensor, _rows: Tensor, _numbers: Tensor) -> Tensor:
        if form == "mean":
            return slopes
        slopes = slopes.double() if form == "variance" else slopes  # whose two terms cancel
        return slopes.square() if form == "squared" else torch.cat([slopes, slopes.square()], 1)

    def noisy(rows: Tensor, k: Tensor) -> Tensor:
        return torch.addcmul(of_rows(images, rows), of_rows(spread, rows), draws(k))

    mean = gradients_over(model, images, objective, samples, noisy, fold, "smoothgrad") / samples
    if form == "variance":
        first, second = mean.chunk(2, 1)
        mean = (second - first.square()).clamp(min=0)
    return Attribution(reduce_channels(mean, sign, channels))
