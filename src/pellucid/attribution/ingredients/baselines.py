"""Images that hold no information: what a pixel is compared with, or covered by."""

from __future__ import annotations

import torch
from torch import Tensor

from ...display.colors import smooth
from ...model.classifier import Classifier
from ...model.run import Model
from .noise import uniform_noise

Baseline = str | Tensor
KINDS = ("mean", "black", "white", "blur", "noise")


def baseline_images(model: Model, images: Tensor, baseline: Baseline, seed: int = 0) -> Tensor:
    """The baseline of each image.

    Args:
        model: tells the mean color, if it is a `Classifier` that knows one.
        images: N x C x H x W.
        baseline: "mean" is the mean color of the training data, or of the image where the model does not
            know it; "black" and "white" are pixels of 0 and 1; "blur" is the image under a Gaussian of a
            tenth of its shorter side; "noise" is uniform on [0, 1] (for a bare network: on the range of the
            image), the same for every image of the batch. A tensor of the shape of the images, of one
            image, or of one color (C) is taken as it is.
        seed: of the noise.

    Returns:
        N x C x H x W, of the type and on the device of the images.

    Raises:
        ValueError: for another word, for "black" or "white" with a bare network, or a tensor that does not fit.

    >>> baseline_images(torch.nn.Identity(), torch.rand(2, 3, 4, 4), torch.zeros(3)).shape
    torch.Size([2, 3, 4, 4])
    """
    images = images.detach()
    if isinstance(baseline, Tensor):
        given = baseline[:, None, None] if baseline.ndim == 1 else baseline
        try:
            return given.detach().to(images).expand_as(images)
        except RuntimeError:
            raise ValueError(
                f"the baseline has shape {tuple(baseline.shape)}, expected that of the images "
                f"{tuple(images.shape)}, of one image, or {images.shape[1]} numbers"
            ) from None
    pixels = isinstance(model, Classifier)
    if baseline == "mean":
        if isinstance(model, Classifier) and model.mean is not None:
            return model.mean.to(images).expand_as(images)
        return images.mean((2, 3), keepdim=True).expand_as(images)
    if baseline in ("black", "white"):
        if not pixels:
            raise ValueError(
                f"the baseline {baseline!r} needs to know the range of pixels, and a bare network may take normalized "
                "ones: pellucid.wrap(net, mean=..., std=...), or give the baseline as a tensor"
            )
        return torch.full_like(images, float(baseline == "white"))
    if baseline == "blur":
        return smooth(images, sigma=min(images.shape[2:]) / 10)
    if baseline == "noise":
        noise = uniform_noise(images, seed)(torch.zeros(1, dtype=torch.long))
        if pixels:
            return noise.expand_as(images)
        low, high = images.amin((1, 2, 3), keepdim=True), images.amax((1, 2, 3), keepdim=True)
        return low + noise * (high - low)
    raise ValueError(f"the baseline is {baseline!r}, expected a tensor or one of {', '.join(KINDS)}")
