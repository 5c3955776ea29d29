"""Fourier amplitudes of images: halves of spectra and what is computed from them."""

from __future__ import annotations

import torch
from torch import Tensor

EPS = 1e-12


def half_spectrum(images: Tensor, eps: float) -> Tensor:
    """log(|F| + eps) of the frequencies with v from 0 to W / 2: N x C x H x (W // 2 + 1). The others mirror these."""
    return half_amplitudes(images).add(eps).log()


def half_amplitudes(images: Tensor) -> Tensor:
    """|F| of those frequencies."""
    wide = torch.promote_types(images.dtype, torch.float32)
    found: Tensor = torch.fft.rfft2(images.to(wide)).abs()
    return found


def hann(height: int, width: int) -> Tensor:
    """Hann's window over a picture, H x W: sin(pi y / H)^2 sin(pi x / W)^2.

    A Fourier transform takes a picture for one tile of a pattern. Where its right border does not fit its left one, the
    step has all frequencies, and covers what is there. Under the window all borders fit.

    Harris 1978, On the use of windows for harmonic analysis with the discrete Fourier transform.

    >>> hann(4, 4)[1:, 2]
    tensor([0.5000, 1.0000, 0.5000])
    """
    rows, columns = (torch.hann_window(side, dtype=torch.float64) for side in (height, width))
    return (rows[:, None] * columns).float()


def whole_spectrum(half: Tensor, width: int, *, shift: bool = False) -> Tensor:
    """All frequencies from those with v from 0 to W / 2: ... x H x W from ... x H x (W // 2 + 1).

    An image is real, so that F(-u, -v) is the conjugate of F(u, v).
    """
    height = half.shape[-2]
    rows = (-torch.arange(height, device=half.device)) % height
    mirrored = half[..., 1 : (width + 1) // 2].flip(-1)[..., rows, :]
    whole = torch.cat([half, mirrored], -1)
    return torch.fft.fftshift(whole, (-2, -1)) if shift else whole


def mirrored_sum(half: Tensor, width: int) -> Tensor:
    """Numbers of half a spectrum spread over the whole, shifted: those of mirrored pairs are halved, so sums stay.

    Args:
        half: ... x H x (W // 2 + 1). width: W.

    >>> import torch
    >>> float(mirrored_sum(torch.ones(1, 6, 4), 6).sum())
    24.0
    """
    height = half.shape[-2]
    rows = (-torch.arange(height, device=half.device)) % height
    alone = alone_columns(width)
    # Columns 0 and (of an even width) W / 2 hold both members of each pair already; they are made alike.
    paired = torch.where(alone.to(half.device), (half + half[..., rows, :]) / 2, half / 2)
    return whole_spectrum(paired, width, shift=True)


def alone_columns(width: int) -> Tensor:
    """W // 2 + 1 booleans: which columns of half a spectrum are their own mirror."""
    columns = torch.arange(width // 2 + 1)
    return (columns == 0) | (2 * columns == width)


def radii(height: int, width: int) -> Tensor:
    """H x (W // 2 + 1) whole numbers: how many circles around frequency 0 each frequency of half a spectrum lies out.

    Circles are one cycle over the shorter side apart, so the side's highest frequency is on circle min(H, W) / 2.
    """
    rows = torch.fft.fftfreq(height, dtype=torch.float64)[:, None]
    columns = torch.fft.rfftfreq(width, dtype=torch.float64)
    found = (rows.square() + columns.square()).sqrt() * min(height, width)
    circles: Tensor = (found + 1e-9).round().long()
    return circles


def azimuthal_average(half: Tensor, width: int) -> Tensor:
    """The mean over each circle of equal frequency, over all directions: ... x R from ... x H x (W // 2 + 1).

    Durall, Keuper & Keuper 2020, Watch your up-convolution: CNN based generative deep neural networks are failing to
    reproduce spectral distributions (there of the power, here of its logarithm).
    """
    height = half.shape[-2]
    circles = radii(height, width).to(half.device).flatten()
    weights = torch.where(alone_columns(width), 1.0, 2.0).expand(height, -1).flatten().to(half)
    counts = torch.zeros(int(circles.max()) + 1).to(half).index_add(0, circles, weights)
    total = half.new_zeros((*half.shape[:-2], len(counts))).index_add(-1, circles, half.flatten(-2) * weights)
    mean: Tensor = total / counts
    return mean


def row_average(half: Tensor, width: int) -> Tensor:
    """The mean over the rows of the shifted spectrum: ... x W, by horizontal frequency from -W / 2 on."""
    columns = half.mean(-2)
    whole = torch.cat([columns, columns[..., 1 : (width + 1) // 2].flip(-1)], -1)
    shifted: Tensor = torch.fft.fftshift(whole, -1)
    return shifted


def check_eps(eps: float) -> None:
    if not 0 < eps < float("inf"):
        raise ValueError(f"eps is {eps}, expected a number above 0, such as {EPS}")
