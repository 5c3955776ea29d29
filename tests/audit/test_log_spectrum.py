"""The log-spectrum against numpy, scipy and what is known by hand."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

import pellucid
from pellucid.audit.spectra.fourier import (
    azimuthal_average,
    half_spectrum,
    mirrored_sum,
    radii,
    row_average,
    whole_spectrum,
)

sizes = st.integers(1, 9)


def noise(*shape, seed=0, dtype=torch.float64):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_a_single_pixel_has_all_frequencies_alike():
    image = torch.zeros(1, 3, 5, 8, dtype=torch.float64)
    image[:, :, 2, 3] = 1
    assert pellucid.log_spectrum(image).abs().max() < 1e-11
    single = pellucid.log_spectrum(image.float())
    assert single.abs().max() < 1e-6 and single.dtype == torch.float32


def test_a_constant_image_has_one_frequency():
    spectrum = pellucid.log_spectrum(torch.ones(1, 1, 4, 4, dtype=torch.float64), 1e-12)
    assert float(spectrum[0, 0, 0, 0]) == pytest.approx(math.log(16), abs=1e-12)
    rest = spectrum.flatten()[1:]
    assert torch.allclose(rest, torch.full_like(rest, math.log(1e-12)))
    assert float(pellucid.log_spectrum(torch.ones(1, 1, 4, 4), shift=True)[0, 0, 2, 2]) == pytest.approx(math.log(16))


@settings(max_examples=30)
@given(height=sizes, width=sizes, seed=st.integers(0, 99), shift=st.booleans(), eps=st.sampled_from([1e-12, 0.1]))
def test_as_numpy_has_it(height, width, seed, shift, eps):
    images = noise(2, 2, height, width, seed=seed)
    expected = np.log(np.abs(np.fft.fft2(images.numpy())) + eps)
    expected = np.fft.fftshift(expected, (2, 3)) if shift else expected
    found = pellucid.log_spectrum(images, eps, shift=shift).numpy()
    # The log of an amplitude of rounding errors is anything.
    certain = np.abs(np.exp(expected) - eps) > 1e-9
    assert np.allclose(found[certain], expected[certain], atol=1e-6)


@settings(max_examples=20)
@given(height=sizes, width=sizes, seed=st.integers(0, 99))
def test_energy_is_kept(height, width, seed):
    """Parseval: the sum of |F|^2 over all frequencies is H W times that of the squared pixels."""
    images = noise(1, 1, height, width, seed=seed)
    power = (pellucid.log_spectrum(images).exp() - 1e-12).square().sum()
    assert float(power) == pytest.approx(float(height * width * images.square().sum()), rel=1e-9)


@settings(max_examples=20)
@given(height=sizes, width=sizes, seed=st.integers(0, 99))
def test_folding_keeps_sums(height, width, seed):
    """Weights of half a spectrum, unfolded, say the same of the whole as the half said of the half."""
    images = noise(1, 1, height, width, seed=seed)
    half = half_spectrum(images, 0.1)
    weights = torch.randn(half.shape[1:], dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    whole = whole_spectrum(half, width, shift=True)
    assert float((mirrored_sum(weights, width) * whole).sum()) == pytest.approx(float((weights * half).sum()), abs=1e-9)
    assert torch.allclose(row_average(half, width), whole.mean(-2))


@pytest.mark.parametrize("shape", [(8, 8), (7, 9), (6, 10)])
def test_the_azimuthal_average_as_scipy_has_it(shape):
    images = noise(1, 1, *shape)
    y, x = np.meshgrid(np.fft.fftfreq(shape[0]), np.fft.fftfreq(shape[1]), indexing="ij")
    circles = np.round(np.sqrt(x**2 + y**2) * min(shape) + 1e-9).astype(int)
    spectrum = np.log(np.abs(np.fft.fft2(images[0, 0].numpy())) + 0.1)
    expected = ndimage.mean(spectrum, circles, np.arange(circles.max() + 1))
    found = azimuthal_average(half_spectrum(images, 0.1), shape[1])[0, 0]
    assert np.allclose(found, expected, atol=1e-9)
    assert int(radii(*shape).max()) + 1 == len(expected)


def test_it_is_differentiable():
    images = noise(1, 2, 4, 5).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: pellucid.log_spectrum(x, 0.1, shift=True), images)
    gray = torch.ones(1, 1, 4, 4, requires_grad=True)  # where there is nothing, its logarithm has no finite slope
    assert torch.autograd.grad(pellucid.log_spectrum(gray).sum(), gray)[0].isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_types_are_kept(dtype):
    images = noise(2, 1, 6, 6).to(dtype)
    found = pellucid.log_spectrum(images)
    assert found.dtype == dtype and found.isfinite().all()
    assert torch.allclose(
        found.double(), pellucid.log_spectrum(images.double()), atol=0.2 if dtype.itemsize == 2 else 1e-3
    )
    assert torch.equal(found[1:], pellucid.log_spectrum(images[1:]))


@pytest.mark.parametrize(
    ("images", "eps", "said"),
    [
        (torch.zeros(1, 1, 4, 4, dtype=torch.uint8), 1e-12, "divide by 255"),
        (torch.zeros(3, 4, 4), 1e-12, "one image of shape"),
        (torch.full((1, 1, 4, 4), math.nan), 1e-12, "NaN"),
        (torch.zeros(1, 1, 4, 4), 0.0, "eps is 0.0, expected a number above 0"),
    ],
)
def test_bad_input(images, eps, said):
    with pytest.raises((ValueError, TypeError), match=said):
        pellucid.log_spectrum(images, eps)
