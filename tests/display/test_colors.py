import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from pellucid.display.colors import color_range, colorize, enlarge, overlay, smooth, threshold

quick = settings(suppress_health_check=list(HealthCheck), max_examples=60)
WHITE, BLACK = torch.ones(3), torch.tensor([0.001462, 0.000466, 0.013866])  # inferno starts almost at black


@st.composite
def batches(draw, low=-(2.0**100), high=2.0**100, channels=2):
    shape = [draw(st.integers(1, n)) for n in (3, channels, 6, 6)]
    count = int(np.prod(shape))
    number = st.one_of(st.floats(low, high, width=32), st.sampled_from([0.0, low, high]))
    return torch.tensor(draw(st.lists(number, min_size=count, max_size=count))).reshape(shape)


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# --- ranges


@quick
@given(batches(), st.sampled_from([None, True, False]), st.floats(1, 100), st.booleans())
def test_ranges_of_any_map(values, signed, percentile, shared):
    low, high = color_range(values, signed=signed, percentile=percentile, shared=shared)
    assert low.shape == high.shape == (len(values),)
    assert bool((low < high).all()) and bool(torch.isfinite(high).all())
    maps = values.sum(1).flatten(1)
    if signed or (signed is None and (maps < 0).any()):
        assert torch.equal(low, -high)
    else:
        assert not low.any()
    largest = maps.abs().amax(1).clamp(min=1)
    assert bool((high <= largest.amax()).all() if shared else (high <= largest).all())
    assert not shared or bool((high == high[0]).all())


def test_ranges_by_hand():
    values = torch.tensor([[1.0, -2.0, 3.0, -8.0], [0.5, 0.0, 0.25, 0.0]]).reshape(2, 1, 2, 2)
    low, high = color_range(values, percentile=100)
    assert (low.tolist(), high.tolist()) == ([-8, -0.5], [8, 0.5])
    assert color_range(values, percentile=100, shared=True)[1].tolist() == [8, 8]
    assert color_range(values, percentile=75)[1].tolist() == [3, 0.25]
    assert color_range(values, percentile=75, shared=True)[1].tolist() == [2, 2]
    # Half of the second map is zero, so that its median would be no range; its largest value is.
    assert color_range(values, percentile=50)[1].tolist() == [2, 0.5]
    assert color_range(values, signed=False, percentile=100)[1].tolist() == [3, 0.5]
    assert [x.tolist() for x in color_range(values * 0)] == [[0, 0], [1, 1]]
    assert [x.tolist() for x in color_range(values * 0, signed=True)] == [[-1, -1], [1, 1]]


def test_few_strong_pixels_do_not_hide_the_rest():
    values = torch.linspace(0, 1, 10_000).reshape(1, 1, 100, 100)
    values[0, 0, 0, 0] = 1e6
    assert color_range(values)[1].item() == pytest.approx(0.995, abs=1e-3)
    assert color_range(values, percentile=100)[1].item() == 1e6


# --- colors


@pytest.mark.slow
@quick
@given(batches(), st.sampled_from([None, True, False]), st.floats(1, 100), st.booleans())
def test_colors_of_any_map(values, signed, percentile, shared):
    colors = colorize(values, signed=signed, percentile=percentile, shared=shared)
    assert colors.shape == (len(values), 3, *values.shape[2:]) and colors.dtype == torch.float32
    assert colors.min() >= 0 and colors.max() <= 1
    maps = values.sum(1)
    neutral = WHITE if signed or (signed is None and (maps < 0).any()) else BLACK
    assert torch.allclose(colors.permute(0, 2, 3, 1)[maps == 0], neutral)


@pytest.mark.slow
@quick
@given(batches(-1e3, 1e3), st.floats(0.01, 100))
def test_only_relative_values_matter(values, scale):
    assume(all(m == 0 or m > 1e-3 for m in values.sum(1).abs().flatten().tolist()))
    assert torch.allclose(colorize(values), colorize(values * scale), atol=1e-3)


@pytest.mark.slow
@quick
@given(batches(0, 1e3, channels=1))
def test_opposite_values_have_opposite_places(values):
    for name in ("PiYG", "seismic"):
        there = colorize(values, signed=True, colors=name)
        back = colorize(-values, signed=True, colors=f"{name}_r")
        assert torch.allclose(there, back, atol=1e-5)


def test_red_is_for_and_blue_against():
    colors = colorize(torch.tensor([-1.0, -0.5, 0.0, 0.5, 1.0]).reshape(1, 1, 1, 5))[0, :, 0].T
    assert colors.tolist() == [[0, 0, pytest.approx(0.3)], [0, 0, 1], [1, 1, 1], [1, 0, 0], [0.5, 0, 0]]


def test_brighter_is_stronger():
    light = colorize(torch.linspace(0, 1, 50).reshape(1, 1, 5, 10), percentile=100).sum(1).flatten()
    assert bool((light.diff() > 0).all())


def test_each_image_for_itself_or_all_on_one_scale():
    values = noise(3, 1, 8, 8) * torch.tensor([1.0, 10, 100]).reshape(3, 1, 1, 1)
    assert torch.equal(colorize(values), torch.cat([colorize(v[None]) for v in values]))
    shared = colorize(values, shared=True, percentile=100)
    assert torch.allclose(shared[0], WHITE[:, None, None].expand(3, 8, 8), atol=0.2)
    assert torch.equal(shared[2], colorize(values, percentile=100)[2])


def test_constant_maps():
    zero = torch.zeros(1, 3, 4, 4)
    assert torch.equal(colorize(zero, signed=True), torch.ones(1, 3, 4, 4))
    assert torch.allclose(colorize(zero)[0, :, 0, 0], BLACK)
    # A constant that is not zero is not neutral: everything is as strong as the strongest.
    assert torch.allclose(colorize(zero - 5), torch.tensor([0, 0, 0.3])[None, :, None, None].expand(1, 3, 4, 4))
    tiny = torch.full((1, 1, 2, 2), 1e-42)
    assert torch.allclose(colorize(tiny)[0, :, 0, 0], BLACK)


def test_channels_are_summed():
    values = noise(2, 3, 5, 5)
    assert torch.equal(colorize(values), colorize(values.sum(1, keepdim=True)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int32, torch.bool])
def test_any_real_type(dtype):
    values = (noise(2, 1, 4, 4) * 8).round().clamp(min=0).to(dtype)
    assert torch.allclose(colorize(values), colorize(values.float()), atol=1e-6)
    assert color_range(values)[1].dtype == (dtype if dtype == torch.float64 else torch.float32)


def test_maps_with_gradients_are_not_followed():
    assert not colorize(noise(1, 1, 3, 3).requires_grad_()).requires_grad


def test_any_matplotlib_colors():
    import matplotlib

    values = torch.linspace(0, 1, 257).reshape(1, 1, 1, 257)
    for name in ("viridis", "RdBu_r", "turbo", "Grays"):
        expected = torch.tensor(matplotlib.colormaps[name](np.linspace(0, 1, 257))[:, :3]).float()
        assert torch.allclose(colorize(values, colors=name, percentile=100)[0, :, 0].T, expected, atol=0.02)
    with pytest.raises(ValueError, match=r"'virdis' is not the name .* did you mean viridis"):
        colorize(values, colors="virdis")
    with pytest.raises(ValueError, match="for example seismic, inferno"):
        colorize(values, colors="???")


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_nan_is_refused(bad):
    values = torch.zeros(3, 2, 4, 4)
    values[1, 0, 2, 2] = bad
    for call in (colorize, color_range, lambda v: threshold(v, fraction=0.5), lambda v: overlay(v[:, :1] * 0 + 1, v)):
        with pytest.raises(
            ValueError, match=r"1 of \d+ values are NaN or infinite \(images \[1\]\)|floats|in \[0, 1\]"
        ):
            call(values)


@pytest.mark.parametrize(
    "shape, words",
    [((4, 4), r"\(4, 4\); add what is missing"), ((0, 1, 4, 4), r"\(0, 1, 4, 4\)"), ((5,), r"shape \(5,\)$")],
)
def test_wrong_shapes(shape, words):
    values = torch.zeros(shape)
    calls = (
        colorize,
        color_range,
        lambda v: smooth(v, 1),
        lambda v: threshold(v, fraction=1),
        lambda v: enlarge(v, (9, 9)),
    )
    for call in calls:
        with pytest.raises(ValueError, match=f"maps are N x C x H x W, got .*{words}"):
            call(values)
    with pytest.raises(ValueError, match="got complex values"):
        colorize(torch.zeros(1, 1, 2, 2, dtype=torch.complex64))


@pytest.mark.parametrize("percentile", [0, -1, 100.1, float("nan")])
def test_wrong_percentiles(percentile):
    with pytest.raises(ValueError, match="above 0 and up to 100"):
        colorize(torch.ones(1, 1, 2, 2), percentile=percentile)


# --- overlays


def test_overlay_lies_between_image_and_colors():
    images, values = noise(2, 3, 8, 8).sigmoid(), noise(2, 1, 8, 8, seed=1)
    assert torch.equal(overlay(images, values, alpha=0), images)
    assert torch.equal(overlay(images, values, alpha=1), colorize(values))
    assert torch.allclose(overlay(images, values, alpha=0.3), 0.7 * images + 0.3 * colorize(values), atol=1e-6)
    gray = images[:, :1]
    assert torch.equal(overlay(gray, values), overlay(gray.expand(-1, 3, -1, -1), values))


def test_overlay_by_magnitude_shows_the_image_where_the_map_is_zero():
    images = noise(1, 3, 1, 3).sigmoid()
    values = torch.tensor([0.0, -2.0, 1.0]).reshape(1, 1, 1, 3)
    shown = overlay(images, values, alpha="magnitude")
    colors = colorize(values)
    assert torch.equal(shown[..., 0], images[..., 0])
    assert torch.equal(shown[..., 1], colors[..., 1])
    assert torch.allclose(shown[..., 2], (images[..., 2] + colors[..., 2]) / 2)
    positive = overlay(images, values, alpha="magnitude", signed=False)
    assert torch.equal(positive[..., 1], images[..., 1])


def test_overlay_enlarges_small_maps():
    images, values = torch.full((2, 1, 32, 48), 0.5), noise(2, 4, 4, 6)
    large = enlarge(values, (32, 48))
    assert torch.allclose(overlay(images, values), overlay(images, large), atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_overlay_of_any_float_type(dtype):
    images, values = torch.full((1, 3, 4, 4), 0.5, dtype=dtype), noise(1, 1, 4, 4).to(dtype)
    assert overlay(images, values, alpha="magnitude").dtype == torch.float32


@pytest.mark.parametrize(
    "images, values, alpha, words",
    [
        (torch.zeros(3, 4, 4), torch.zeros(1, 1, 4, 4), 0.5, r"got float32 of shape \(3, 4, 4\)"),
        (torch.zeros(1, 4, 4, 4), torch.zeros(1, 1, 4, 4), 0.5, "N x 3 x H x W or N x 1"),
        (torch.zeros(1, 3, 4, 4).byte(), torch.zeros(1, 1, 4, 4), 0.5, "got uint8"),
        (torch.zeros(1, 3, 4, 4), torch.zeros(2, 1, 4, 4), 0.5, "got 1 images and 2 maps"),
        (torch.zeros(1, 3, 4, 4) - 2, torch.zeros(1, 1, 4, 4), 0.5, "got -2 to -2; undo their normalization"),
        (torch.zeros(1, 3, 4, 4), torch.zeros(1, 1, 4, 4), 1.5, "alpha=1.5"),
        (torch.zeros(1, 3, 4, 4), torch.zeros(1, 1, 4, 4), "strength", "alpha='strength'.*'magnitude'"),
        (torch.zeros(1, 3, 4, 4), torch.zeros(1, 1, 4, 8), 0.5, "maps of 4 x 8 are larger .*4 x 4"),
    ],
)
def test_what_cannot_be_laid_over(images, values, alpha, words):
    with pytest.raises(ValueError, match=words):
        overlay(images, values, alpha=alpha)


# --- maps to maps


@quick
@given(batches(-100, 100), st.integers(0, 9), st.integers(0, 9))
def test_enlarged_maps_stay_in_their_range(values, more_rows, more_columns):
    height, width = values.shape[2] + more_rows, values.shape[3] + more_columns
    large = enlarge(values, (height, width))
    assert large.shape == (*values.shape[:2], height, width)
    assert large.min() >= values.min() - 1e-3 and large.max() <= values.max() + 1e-3


@pytest.mark.slow
@quick
@given(batches(-100, 100), st.floats(0, 50))
def test_smoothing_preserves_sums_and_constants(values, sigma):
    smoothed = smooth(values, sigma)
    assert smoothed.shape == values.shape and smoothed.dtype == values.dtype
    assert torch.allclose(smoothed.sum((2, 3)), values.sum((2, 3)), atol=1e-2)
    assert smoothed.min() >= values.min() - 1e-3 and smoothed.max() <= values.max() + 1e-3
    constant = torch.full_like(values, 3.0)
    assert torch.allclose(smooth(constant, sigma), constant, atol=1e-4)


@pytest.mark.parametrize("sigma", [0.3, 1, 2.5, 20])
def test_smoothing_agrees_with_scipy(sigma):
    ndimage = pytest.importorskip("scipy.ndimage")
    values = noise(1, 1, 13, 20).double()
    expected = ndimage.gaussian_filter(values[0, 0].numpy(), sigma, mode="reflect")
    assert np.allclose(smooth(values, sigma)[0, 0], expected, atol=1e-12)


def test_smoothing_by_nothing_and_by_nonsense():
    values = noise(1, 2, 4, 4)
    assert torch.equal(smooth(values, 0), values)
    assert smooth(values.half(), 1).dtype == torch.float16
    for sigma in (-1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="0 or more"):
            smooth(values, sigma)


@pytest.mark.slow
@quick
@given(batches(-100, 100), st.floats(0, 1), st.booleans())
def test_threshold_keeps_the_strongest(values, share, by_quantile):
    kept = threshold(values, **{"quantile" if by_quantile else "fraction": share})
    assert bool(((kept == values) | (kept == 0)).all())
    strength, left = values.abs().flatten(1), kept.abs().flatten(1)
    assert torch.equal(left.amax(1), strength.amax(1))
    dropped = torch.where(left == 0, strength, 0).amax(1)
    weakest = torch.where(left > 0, left, torch.inf).amin(1)
    assert bool((dropped <= weakest).all())


def test_threshold_by_hand():
    values = torch.arange(1.0, 101).reshape(1, 1, 10, 10)
    assert int((threshold(values, quantile=0.9) > 0).sum()) == 10
    assert int((threshold(values, quantile=0.07) > 0).sum()) == 93
    assert int((threshold(values, quantile=1) > 0).sum()) == 1
    assert int((threshold(values, fraction=0.5) > 0).sum()) == 51
    both = torch.cat([values, -values / 100])
    assert (threshold(both, fraction=0.5) != 0).sum((1, 2, 3)).tolist() == [51, 51]
    assert torch.equal(threshold(values * 0 + 2, quantile=0.5), values * 0 + 2)
    assert not threshold(values * 0, fraction=0.5).any()
    for options, words in (
        ({}, "either"),
        ({"fraction": 0.5, "quantile": 0.5}, "either"),
        ({"fraction": 2}, "fraction=2"),
    ):
        with pytest.raises(ValueError, match=words):
            threshold(values, **options)
