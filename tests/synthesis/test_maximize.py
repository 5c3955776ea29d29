"""The ascent: what it promises whatever the objective."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

import pellucid
from pellucid import channel, logit, neuron, probability
from pellucid.checks import UnknownName
from pellucid.model.run import ModelError, counted
from pellucid.synthesis import (
    CPPN,
    FixedMagnitude,
    Fourier,
    Generator,
    Pixels,
    Sigmoid,
    blur,
    clip_small_gradients,
    clip_small_pixels,
    diversity,
    jitter,
    l2,
    maximize,
    pad,
    rotate,
    scale,
    standardize,
    total_variation,
)

from ..methods.test_contract import same, state
from ..nets import LABELS, small_model, small_net


def decoder() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(4, 3 * 12 * 12), nn.Sigmoid(), nn.Unflatten(1, (3, 12, 12))).double().eval()


PARAMETRISATIONS = {
    "pixels": Pixels(),
    "sigmoid": Sigmoid(),
    "fourier": Fourier(),
    "fixed magnitude": FixedMagnitude(),
    "generator": Generator(decoder(), (4,), bounds=(-2.0, 2.0)),
    "cppn": CPPN(width=8, depth=2),
}
every = pytest.mark.parametrize("drawn", PARAMETRISATIONS.values(), ids=PARAMETRISATIONS)
OPTIMISERS = ("adam", "ascent", "unit", "lbfgs")


@every
@pytest.mark.parametrize("optimizer", OPTIMISERS)
def test_it_climbs_and_stays_valid(drawn, optimizer):
    step = 0.1 if optimizer == "ascent" else None
    result = maximize(
        small_model(), "koala", parametrization=drawn, optimizer=optimizer, step_size=step, steps=25, transforms=(),
        seed=4, keep="best",
    )  # fmt: skip
    assert result.images.shape == (1, 3, 12, 12) and result.images.dtype == torch.float64
    assert 0 <= result.images.min() and result.images.max() <= 1
    assert result.history.shape == (1, 25) and result.values > result.history[0, 0]
    assert not result.images.requires_grad and not result.zero_gradient.any()
    torch.testing.assert_close(result.values, small_model()(result.images)[:, 1].detach())


@every
def test_a_batch_is_its_rows(drawn):
    model = small_model()
    options = {"steps": 6, "parametrization": drawn, "seed": 2}
    both = maximize(model, ["castle", "lamp post"], **options)
    alone = maximize(model, "castle", **options)
    torch.testing.assert_close(both.images[:1], alone.images, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(both.history[:1], alone.history, rtol=1e-7, atol=1e-9)
    with pellucid.settings(batch_size=1):
        cut = maximize(model, ["castle", "lamp post"], **options)
    torch.testing.assert_close(both.images, cut.images, rtol=1e-7, atol=1e-9)
    assert both.titles == ('logit("castle")', 'logit("lamp post")')


@every
def test_same_seed_same_bits_and_nothing_touched(drawn):
    model = small_model()
    before = state(model)
    first = maximize(model, 0, steps=5, parametrization=drawn, seed=1)
    same(before, state(model))
    torch.manual_seed(99)
    assert torch.equal(first.images, maximize(model, 0, steps=5, parametrization=drawn, seed=1).images)
    assert not torch.equal(first.images, maximize(model, 0, steps=5, parametrization=drawn, seed=2).images)


@pytest.mark.parametrize("drawn", [Pixels(), Sigmoid(), Fourier(), FixedMagnitude()], ids=lambda d: type(d).__name__)
@pytest.mark.parametrize("size", [(12, 12), (7, 9), (1, 1), (1, 6)])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_any_size_and_any_number_of_channels(drawn, size, channels):
    net = nn.Sequential(nn.Conv2d(channels, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    result = maximize(net, 1, size=size, parametrization=drawn, steps=4)
    assert result.images.shape == (1, channels, *size) and result.images.isfinite().all()


@pytest.mark.parametrize("drawn", [Sigmoid(), Fourier(), Fourier(decorrelate=False), Fourier(bounds=None)])
def test_images_to_start_with_are_drawn_as_they_are(drawn):
    images = torch.rand(2, 3, 7, 10, dtype=torch.float64) * 0.9 + 0.05
    torch.testing.assert_close(drawn.begin(images, images, 0).images(), images)


def test_fixed_magnitude_keeps_its_amplitudes():
    photos = torch.rand(5, 1, 8, 8, dtype=torch.float64)
    canvas = FixedMagnitude(photos).begin(torch.zeros(1, 1, 8, 8, dtype=torch.float64), None, 0)
    raw = (canvas.images().clamp(1e-9, 1 - 1e-9).logit() / 4)[0, 0]
    expected = torch.fft.rfft2(photos - 0.5, norm="ortho").abs().mean(0)[0]
    found = torch.fft.rfft2(raw, norm="ortho").abs()
    inner = (slice(1, 4), slice(1, 4))  # the phase of a frequency that is its own mirror image is 0 or pi alone
    torch.testing.assert_close(found[inner], expected[inner])


def test_the_plain_ascent_is_the_textbooks():
    """x <- (x - mean) / std, then x <- x + step gradient, written out once more."""
    net = small_net().double()
    start = torch.randn(1, 3, 12, 12, dtype=torch.float64)
    found = maximize(
        net, 1, start=start, parametrization=Pixels(bounds=None), optimizer="ascent", step_size=0.3, steps=7,
        transforms=standardize(),
    )  # fmt: skip
    x = start.clone()
    for _ in range(7):
        x = (x - x.mean()) / x.std(correction=0)
        x.requires_grad_()
        (slope,) = torch.autograd.grad(net(x)[0, 1], x)
        x = x.detach() + 0.3 * slope
    torch.testing.assert_close(found.images, x)
    assert found.call.backward == 7 and found.call.forward == 8  # and a last look at what was reached


def test_clipped_ascent_by_hand():
    model = small_model()
    found = maximize(
        model, 0, start="ones", parametrization=Pixels(), optimizer="ascent", step_size=5.0, steps=3, transforms=()
    )
    x = torch.ones(1, 3, 12, 12, dtype=torch.float64)
    for _ in range(3):
        x.requires_grad_()
        (slope,) = torch.autograd.grad(model(x)[0, 0], x)
        x = (x.detach() + 5 * slope).clamp(0, 1)
    torch.testing.assert_close(found.images, x)


def test_a_torch_optimizer_of_ones_own():
    model = small_model()
    options = {"start": torch.rand(1, 3, 12, 12), "parametrization": Pixels(bounds=None), "steps": 5, "transforms": ()}
    plain = maximize(model, 0, optimizer="ascent", step_size=0.2, **options)
    torchs = maximize(model, 0, optimizer=lambda p: torch.optim.SGD(p, lr=0.2), **options)
    torch.testing.assert_close(plain.images, torchs.images)
    with pytest.raises(TypeError, match="expected a torch optimizer"):
        maximize(model, 0, optimizer=lambda p: p, steps=2)


def test_the_pass_stops_at_the_layer_that_is_read():
    net = small_net()
    seen = []
    net.fc.register_forward_hook(lambda *_: seen.append(1))
    maximize(net, channel("conv1", 0), size=12, steps=3)
    assert not seen


def test_every_channel_of_a_layer_in_one_run():
    net = small_net().double()
    start = torch.rand(1, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    with counted() as passes:
        result = maximize(net, [channel("conv2", i) for i in range(5)], start=start, steps=4, transforms=())
    assert passes.forward == 5 * (4 + 1)
    assert len(result.images) == 5 and (result.values > result.history[:, 0]).all()
    assert result.titles[3] == 'channel("conv2", 3)'


def test_several_classes_from_a_tensor_and_mixed_objectives():
    model = small_model()
    a = maximize(model, torch.tensor([0, 2]), steps=3)
    b = maximize(model, [logit(0), "lamp post"], steps=3)
    torch.testing.assert_close(a.images, b.images)
    mixed = maximize(model, [probability(0), neuron("conv1", 1), logit(1) - 0.5 * logit(2)], steps=3)
    assert mixed.images.shape[0] == 3


def test_logit_probability_and_its_logarithm_have_different_slopes():
    """The gradient of p is p(1 - p) times smaller than that of a difference of logits: the saturation of softmax."""
    model = small_model()
    start = torch.rand(1, 3, 12, 12, dtype=torch.float64)
    options = {
        "start": start,
        "optimizer": "ascent",
        "step_size": 1e-3,
        "steps": 1,
        "parametrization": Pixels(bounds=None),
    }
    moved = {
        kind: maximize(model, getattr(pellucid, kind)(0), transforms=(), **options).images - start
        for kind in ("probability", "log_probability")
    }
    p = model(start).softmax(1)[0, 0]
    torch.testing.assert_close(moved["probability"], moved["log_probability"] * p)


def test_diversity_sees_the_whole_batch():
    model = small_model()
    options = {"count": 3, "steps": 30, "transforms": (), "parametrization": Pixels(), "seed": 1}
    with pellucid.settings(batch_size=1):  # a coupled objective is never cut
        apart = maximize(model, logit(0) * 0.01 + diversity("conv2"), **options)
    near = maximize(model, logit(0) * 0.01, **options)

    def alike(images):
        a = pellucid.run(model, images, read="conv2").activations["conv2"].flatten(2)
        g = nn.functional.normalize((a @ a.mT).flatten(1), dim=1)
        return float((g @ g.T).detach().sum())

    assert alike(apart.images) < alike(near.images)
    with pytest.raises(ValueError, match="count=4"):
        maximize(model, diversity("conv2"), steps=2)


# Dead starts, NaN, interruptions -----------------------------------------------------------------------------------


class Gated(nn.Module):
    """A ReLU that opens above a mean of `edge`; class 0 is always open."""

    def __init__(self, edge: float) -> None:
        super().__init__()
        self.edge = edge
        self.eval()

    def forward(self, x):
        mean = x.mean((1, 2, 3))
        return torch.stack([mean, (mean - self.edge).relu()], 1)


@pytest.mark.slow
def test_a_dead_start_is_said():
    with pytest.raises(ValueError, match=r"logit\(1\): no start was found .* ReLU"):
        maximize(Gated(1e6), 1, size=4, steps=3, parametrization=Pixels(bounds=None))
    with pytest.raises(ValueError, match="no start was found"):
        maximize(Gated(1e6), 1, size=4, steps=3, start="zeros", penalties=l2(0.1))


def test_a_dead_row_among_living_ones_is_a_warning():
    with pytest.warns(UserWarning, match=r"logit\(1\): no start"):
        result = maximize(Gated(1e6), [0, 1], size=4, steps=3, parametrization=Pixels(bounds=None))
    assert result.zero_gradient.tolist() == [False, True]
    result.figure()


@pytest.mark.slow
def test_a_dead_start_is_escaped_where_noise_can():
    result = maximize(Gated(0.2), 1, size=2, steps=3, parametrization=Pixels(bounds=None, noise=0.01))
    assert not result.zero_gradient.any() and result.values > 0
    assert torch.equal(result.images, maximize(Gated(0.2), 1, size=2, steps=3,
                                               parametrization=Pixels(bounds=None, noise=0.01)).images)  # fmt: skip


class Cliff(nn.Module):
    """Rises up to a mean of 1, and is 0 beyond; class 1 has no end."""

    def forward(self, x):
        mean = x.mean((1, 2, 3))
        return torch.stack([torch.where(mean < 1, mean, 0.0), mean], 1)


def test_a_gradient_that_is_lost_on_the_way_is_said():
    options = {"size": 2, "optimizer": "ascent", "step_size": 1.0, "steps": 9, "parametrization": Pixels(bounds=None),
               "start": "ones", "transforms": ()}  # fmt: skip
    net = Cliff().eval()
    half = options | {"start": torch.full((1, 3, 2, 2), 0.5)}
    with pytest.warns(UserWarning, match=r"^logit\(0\): a step led to where the objective has no gradient"):
        found = maximize(net, [0, 1], **half)
    assert found.zero_gradient.tolist() == [True, False] and found.values[0] == 0
    best = {**half, "keep": "best"}
    with pytest.warns(UserWarning, match="ended below where it began"):
        assert maximize(net, 0, **best).values > 0.9


class Exploding(nn.Module):
    def forward(self, x):
        return x.flatten(1).sum(1, keepdim=True).exp()


def test_nan_is_an_error():
    net = Exploding().eval()
    with pytest.raises(ValueError, match="became NaN or infinite at step"):
        maximize(
            net,
            0,
            size=4,
            steps=50,
            optimizer="ascent",
            step_size=1e3,
            parametrization=Pixels(bounds=None),
            transforms=(),
        )
    with pytest.raises(ValueError, match="NaN or infinite for image 0"):
        maximize(net, lambda out: out[:, 0] * math.nan, size=4, steps=5)


@pytest.mark.parametrize("after", [0, 1, 5])
def test_an_interruption_keeps_the_best_so_far(after):
    model = small_model()
    calls = 0

    def stopping(out):
        nonlocal calls
        calls += 1
        if calls == after + 1:
            raise KeyboardInterrupt
        return out[:, 0]

    with pytest.warns(UserWarning, match=f"stopped after {after} of 50 steps"):
        result = maximize(model, stopping, steps=50, transforms=(), parametrization=Pixels(), optimizer="unit")
    whole = maximize(
        model, 0, steps=max(after, 1), transforms=(), parametrization=Pixels(), optimizer="unit", keep="best"
    )
    assert result.interrupted and result.steps == after and result.history.shape == (1, after)
    if after:
        torch.testing.assert_close(result.images, whole.images)
    assert "interrupted" in repr(result)
    result.figure()


def test_an_interruption_in_the_first_of_several_parts():
    model = small_model()
    calls = 0

    def stopping(out):
        nonlocal calls
        calls += 1
        if calls == 5:
            raise KeyboardInterrupt
        return out[:, 0]

    with pellucid.settings(batch_size=1), pytest.warns(UserWarning, match="2 of 3 images not begun"):
        result = maximize(model, stopping, count=3, steps=50, record_every=1)
    assert result.images.shape[0] == 3 and result.history[1:].isnan().all() and result.frames.shape[0] == 3


def test_the_best_or_the_last():
    model = small_model()
    options = {"steps": 40, "parametrization": Pixels(), "transforms": (), "optimizer": "unit", "step_size": 0.5}
    best = maximize(model, 1, keep="best", **options)
    assert best.values >= best.history.max() - 1e-9
    last = maximize(model, 1, **options)
    assert last.values <= best.values


# Edits -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "edit",
    [jitter(3), rotate(20), scale(0.2), scale((1.0, 1.3)), pad(2), blur(1.0, every=2), clip_small_pixels(30, every=2),
     clip_small_gradients(90), standardize(0.5, 0.2)],
    ids=repr,
)  # fmt: skip
@pytest.mark.parametrize("drawn", [Pixels(), Fourier()], ids=["pixels", "fourier"])
def test_edits_run_with_parametrizations(edit, drawn):
    result = maximize(small_model(), 1, transforms=edit, parametrization=drawn, steps=6)
    other = maximize(small_model(), 1, transforms=(), parametrization=drawn, steps=6)
    assert result.images.isfinite().all() and not torch.equal(result.images, other.images)


def test_edits_need_a_way_back():
    with pytest.raises(ValueError, match=r"blur\(1, every=4\) changes pixels, and CPPN has no way back"):
        maximize(small_model(), 1, transforms=blur(1.0), parametrization=CPPN(), steps=6)


# What is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"start": "nois"}, ValueError, "near it: noise"),
        ({"start": torch.rand(2, 12, 12).double()}, ValueError, "one image"),
        ({"start": torch.rand(1, 1, 12, 12).double()}, ValueError, "got 1 channel"),
        ({"start": torch.rand(1, 3, 12, 12).double(), "size": 9}, ValueError, "leave one of them out"),
        ({"size": (0, 3)}, ValueError, "expected pixels"),
        ({"count": 0}, ValueError, "count is 0"),
        ({"optimizer": "adma"}, ValueError, "near it: adam"),
        ({"steps": 0}, ValueError, "at least 1"),
        ({"steps": 2.5}, TypeError, "steps is 2.5"),
        ({"step_size": -1.0}, ValueError, "step_size is -1"),
        ({"keep": "first"}, ValueError, "'last' or 'best'"),
        ({"stepz": 3}, TypeError, "no option 'stepz'; near it: step"),
        ({"optimizer": "lbfgs", "transforms": jitter(2)}, ValueError, "same function at every step"),
        ({"transforms": [3]}, TypeError, "transforms holds 3"),
        ({"penalties": [3]}, TypeError, "penalties holds 3"),
        ({"penalties": l2(0.1, on="code")}, ValueError, "there is none"),
        ({"parametrization": Generator(decoder(), (4,)), "start": "zeros"}, ValueError, "no way back"),
        ({"parametrization": Generator(decoder(), (4,)), "size": 9}, ValueError, "expected \\(1, 3, 9, 9\\)"),
        ({"parametrization": Generator(decoder(), (4,), start=torch.zeros(1, 3))}, ValueError, "expected 1 x 4"),
        ({"parametrization": FixedMagnitude(torch.rand(2, 3, 5, 5))}, ValueError, "the size of the image"),
    ],
    ids=str,
)
def test_what_is_refused(options, error, match):
    with pytest.raises(error, match=match):
        maximize(small_model(), 0, **{"steps": 2, **options})


def test_more_that_is_refused():
    model = small_model()
    with pytest.raises(UnknownName, match="near it: conv2, conv1"):
        maximize(model, channel("conv9", 0))
    with pytest.raises(UnknownName, match="near it: koala"):
        maximize(model, "koal")
    with pytest.raises(ValueError, match="training mode"):
        maximize(small_net().train(), 0, size=12)
    with pytest.raises(ValueError, match="training mode"):
        Generator(decoder().train(), (4,))
    with pytest.raises(ValueError, match="size of the image is not known"):
        maximize(small_net(), 0)
    with pytest.raises(ValueError, match="list of objectives is empty"):
        maximize(model, [])
    with pytest.raises(ModelError, match="no gradient"):
        maximize(model, lambda out: out.argmax(1).float(), steps=2)
    with pytest.raises(ValueError, match="is about the code of a Generator"):
        maximize(model, logit(0) - l2(0.1, on="code"), steps=2)
    for wrong in (lambda: l2(0), lambda: blur(-1.0), lambda: jitter(1.5), lambda: scale((2.0, 1.0)),
                  lambda: Pixels(bounds=(1, 0)), lambda: clip_small_pixels(120)):  # fmt: skip
        with pytest.raises(ValueError):
            wrong()


# The result --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_result_is_kept_shown_and_filmed(tmp_path):
    from PIL import Image

    result = maximize(small_model(), [0, 1, 2], steps=6, record_every=2, penalties=[l2(0.01), total_variation(0.1)])
    assert result.penalties.shape == (3, 6, 2) and result.frames.shape == (3, 4, 3, 12, 12)
    assert result.call.method == "maximize" and result.call.options["penalties"] == (
        "l2(0.01)",
        "total_variation(0.1, 2)",
    )
    assert LABELS[0] not in repr(result) and "3 objectives" in repr(result)
    assert len(result.figure().axes) == 3 and result.figure(history=True).axes
    result.save(tmp_path / "numbers.npz")
    with np.load(tmp_path / "numbers.npz") as file:
        assert {"images", "history", "penalties", "values", "zero_gradient", "frames", "call"} == set(file.files)
    result.save(tmp_path / "sheet.png")
    result.save(tmp_path / "tiles.png", plain=True)
    with Image.open(tmp_path / "tiles.png") as tiles:
        assert tiles.size == (38, 12)
    for name in ("film.gif", "film.webp"):
        result.film(tmp_path / name, scale=2)
        with Image.open(tmp_path / name) as film:
            assert film.n_frames == 4 and film.size == (76, 24)
    result.save(tmp_path / "again.gif")
    with pytest.raises(ValueError, match="record_every=10"):
        maximize(small_model(), 0, steps=2).save(tmp_path / "none.gif")
    with pytest.raises(ValueError, match="expected .gif"):
        result.film(tmp_path / "film.avi")
    assert not (tmp_path / "none.gif").exists()


def test_gray_networks_give_gray_images(tmp_path):
    result = maximize(pellucid.wrap(small_net(channels=1), size=12), [0, 1], steps=3, record_every=1)
    assert result.images.shape == (2, 1, 12, 12)
    result.save(tmp_path / "gray.png", plain=True)
    result.film(tmp_path / "gray.gif")


def test_half_precision_networks():
    net = small_net().bfloat16()
    result = maximize(net, 1, size=12, steps=3)
    assert result.images.dtype == torch.float32 and result.images.isfinite().all()
