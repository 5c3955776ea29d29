"""What frequencies an image is made of: the logarithm of its Fourier amplitudes."""

from __future__ import annotations

from torch import Tensor

from ..checks import check_images
from ..methods.verb import verb
from .spectra.fourier import EPS, check_eps, half_spectrum, whole_spectrum


@verb(
    paper=(
        "Frank, Eisenhofer, Schönherr, Fischer, Kolossa & Holz 2020, Leveraging frequency analysis for deep "
        "fake image recognition"
    )
)
def log_spectrum(images: Tensor, eps: float = EPS, *, shift: bool = False) -> Tensor:
    """The log of the amplitudes of a two-dimensional Fourier transform, for each channel.

    log(|F| + eps) with F(u, v) = sum over y, x of image(y, x) exp(-2 pi i (u y / H + v x / W)). A single pixel of 1
    gives 0 everywhere; ones of H x W give log(H W) at frequency 0 and log(eps) elsewhere. It is differentiable.

    Args:
        images: N x C x H x W, any floating type, on any device.
        eps: what is added to the amplitudes, above 0: the logarithm of it stands for none.
        shift: put frequency 0 at row H // 2 and column W // 2, where people look for it; else it is at 0, 0.

    Returns:
        N x C x H x W, of the type and on the device of the images. Half precision is computed in float32.

    Raises:
        TypeError: for integers, or what is no tensor.
        ValueError: for NaN, another shape, or an eps that is not above 0.

    Paper:
        Frank, Eisenhofer, Schönherr, Fischer, Kolossa & Holz 2020, Leveraging frequency analysis for deep fake image
        recognition.

    >>> import torch
    >>> log_spectrum(torch.ones(1, 1, 4, 4))[0, 0, 0, 0].exp()
    tensor(16.)
    """
    check_images(images)
    check_eps(eps)
    return whole_spectrum(half_spectrum(images, eps), images.shape[3], shift=shift).to(images.dtype)
