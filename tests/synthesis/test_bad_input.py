"""What goes wrong in practice: each is an error in the user's words, or ends with the best so far."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import pellucid
from pellucid import channel
from pellucid.checks import UnknownName
from pellucid.model.run import ModelError
from pellucid.synthesis import (
    CPPN,
    FixedMagnitude,
    Fourier,
    Generator,
    Pixels,
    Sigmoid,
    StyleNetwork,
    dream,
    invert,
    maximize,
    multifaceted,
    quilt,
    style,
    style_transfer,
    texture,
    train_style,
)

from ..nets import small_model, small_net, some_images


def flat_net():
    """Takes images of any size, one pixel too."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).eval()


# An unknown layer, in every verb that takes one --------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda m, x: maximize(m, channel("conv9", 0)),
        lambda m, x: maximize(m, "conv9:0"),
        lambda m, x: invert(m, x, "conv9"),
        lambda m, x: dream(m, x, pellucid.layer("conv9")),
        lambda m, x: dream(m, x, "conv9", guide=x),
        lambda m, x: texture(m, x, layers="conv9"),
        lambda m, x: style_transfer(m, x, x, content_layers="conv9", style_layers="conv1"),
        lambda m, x: style_transfer(m, x, x, content_layers="conv1", style_layers=("conv1", "conv9")),
        lambda m, x: multifaceted(m, x, 0, facets=1, layer="conv9"),
        lambda m, x: train_style(m, torch.rand(2, 3, 24, 24), {"a": torch.rand(1, 3, 24, 24)}, size=24,
                                 content_layers="conv9", style_layers="conv1", steps=1),
    ],
)  # fmt: skip
def test_an_unknown_layer_is_named_with_those_near_it(make):
    with pytest.raises(UnknownName, match="'conv9'.*near it: conv"):
        make(small_model(), some_images(1))


def test_an_unknown_layer_of_several_is_told_before_the_first_is_worked_on():
    net, passes = small_net(), []
    net.register_forward_pre_hook(lambda *_given: passes.append(1))
    with pytest.raises(UnknownName, match="'conv9'.*near it: conv"):
        invert(net, some_images(1), ["conv1", "conv9"], steps=3)
    assert not passes
    with pytest.raises(ValueError, match="there are no layers"):
        invert(net, some_images(1), [])


# Options that do not fit -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (lambda m, x: maximize(m, 0, parametrization=Fourier), TypeError, r"expected one, as in Pixels\(\)"),
        (lambda m, x: maximize(m, 0, parametrization="fourier"), TypeError, r"parametrization is 'fourier'"),
        (lambda m, x: maximize(m, 0, size=0), ValueError, "size is 0, expected pixels"),
        (lambda m, x: maximize(m, 0, size=12, parametrization=Generator(nn.Linear(3, 4).eval(), (5,))), ModelError,
         r"the decoder failed on codes of shape \(1, 5\)"),
        (lambda m, x: dream(m, x, pellucid.logit(0), guide=x), ValueError, r"a layer or its name, got logit\(0\)"),
        (lambda m, x: dream(m, x, "conv1", guide=x.repeat(2, 1, 1, 1)), ValueError, "a guide is one image"),
        (lambda m, x: style("conv1", x.repeat(2, 1, 1, 1)), ValueError, "a style is one image, .* got 2"),
        (lambda m, x: style_transfer(m, x, x, start="contnet"), ValueError, "of content, noise, .*near it: content"),
        (lambda m, x: train_style(m, x, x), TypeError, "styles is a Tensor, expected images by name"),
        (lambda m, x: StyleNetwork(["a"], width=2, blocks=1).paint(torch.rand(1, 3, 24, 24), [math.nan]), ValueError,
         "the shares are"),
    ],
)  # fmt: skip
def test_options_that_do_not_fit_are_told(make, error, said):
    with pytest.raises(error, match=said):
        make(small_model(), some_images(1))


# NaN ---------------------------------------------------------------------------------------------------------------


class Broken(nn.Module):
    """Its weights became NaN."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1)
        nn.init.constant_(self.conv.weight, math.nan)
        self.eval()

    def forward(self, x):
        return self.conv(x).mean((2, 3))


def test_weights_that_are_nan_are_said():
    with pytest.raises(ValueError, match=r"NaN or infinite for image 0 .*conv\.weight"):
        maximize(Broken(), 0, size=4, steps=2)
    with pytest.raises(ValueError, match="NaN"):
        invert(Broken(), torch.rand(1, 3, 4, 4), "conv", steps=2)
    with pytest.raises(ValueError, match="NaN"):
        texture(Broken(), torch.rand(1, 3, 8, 8), layers="conv", steps=2)


def test_images_that_are_nan_are_refused():
    images = torch.full((1, 3, 12, 12), math.nan, dtype=torch.float64)
    for make in (
        lambda m: maximize(m, 0, start=images),
        lambda m: invert(m, images, "conv1"),
        lambda m: dream(m, images, 0),
        lambda m: style_transfer(m, images, images),
        lambda m: quilt(images),
    ):
        with pytest.raises(ValueError, match="NaN"):
            make(small_model())


# A gradient of 0 ---------------------------------------------------------------------------------------------------


class Saturated(nn.Module):
    """A sigmoid that is 1 whatever it sees."""

    def __init__(self, sign: float) -> None:
        super().__init__()
        self.conv, self.sign = nn.Conv2d(3, 2, 1), sign
        self.eval()

    def forward(self, x):
        return (self.conv(x).mean((2, 3)) + self.sign * 300).sigmoid()


@pytest.mark.parametrize(("sign", "there"), [(1, "1"), (-1, "0")])
def test_a_saturated_sigmoid_is_told_from_the_value_that_it_has(sign, there):
    with pytest.raises(ValueError, match=rf"gradient; there it is {there}\. .* which at 1 has nothing left to gain"):
        maximize(Saturated(sign), 0, size=4, steps=3, transforms=())


class Shut(nn.Module):
    """A convolution behind whose ReLU nothing lives for ordinary images, but that steps can switch on."""

    def __init__(self, bias: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 2, 3, padding=1)
        self.conv.bias.data[:] = bias
        self.relu = nn.ReLU(inplace=True)
        self.eval()

    def forward(self, x):
        return self.relu(self.conv(x)).mean((2, 3))


@pytest.mark.slow
@pytest.mark.parametrize("start", ["noise", "zeros", "mean"])
def test_a_relu_that_is_off_is_switched_on(start):
    """No louder noise: what comes out is as smooth as an image that was never dead."""
    model = pellucid.wrap(Shut(-0.3), size=24)
    with torch.no_grad():
        assert (model(torch.full((1, 3, 24, 24), 0.5)) == 0).all()
    found = maximize(model, [0, 1], start=start, steps=40, transforms=())
    assert not found.zero_gradient.any() and (found.values > 0).all()
    open_ = maximize(pellucid.wrap(Shut(0.5), size=24), [0, 1], start=start, steps=40, transforms=())
    rough, smooth = (r.images.diff(dim=3).square().mean() for r in (found, open_))
    assert rough < 4 * smooth + 1e-3
    assert torch.equal(found.images, maximize(model, [0, 1], start=start, steps=40, transforms=()).images)


@pytest.mark.slow
def test_rows_that_are_led_do_not_depend_on_one_another():
    model = pellucid.wrap(Shut(-0.3), size=12)
    for one, other in ((0, 1), (1, 0)):
        both = maximize(model, [one, other], steps=8, transforms=()).images
        torch.testing.assert_close(both[:1], maximize(model, one, steps=8, transforms=()).images)


def test_a_constant_network_has_no_gradient_anywhere():
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 2)).eval()
    nn.init.zeros_(net[1].weight)
    with pytest.raises(ValueError, match="no start was found where the objective has a gradient"):
        maximize(net, 0, size=2, steps=3, transforms=())
    with pytest.raises(ValueError, match="no start was found"):
        invert(net, torch.rand(1, 3, 2, 2), "1", variation=0.0, bound=0.0, steps=2)


# One pixel ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("drawn", [Pixels(), Sigmoid(), Fourier(), FixedMagnitude(), CPPN(width=4, depth=2)],
                         ids=lambda d: type(d).__name__)  # fmt: skip
def test_an_image_of_one_pixel(drawn):
    for views in ((), None):
        found = maximize(pellucid.wrap(flat_net()), 1, size=1, parametrization=drawn, transforms=views, steps=5)
        assert found.images.shape == (1, 3, 1, 1) and found.images.isfinite().all()


def test_one_pixel_in_every_verb():
    model, pixel = pellucid.wrap(flat_net()), torch.full((1, 3, 1, 1), 0.3)
    assert invert(model, pixel, "0", steps=5).images.shape == (1, 3, 1, 1)
    assert dream(model, pixel, 1, steps=2).images.shape == (1, 3, 1, 1)
    assert texture(model, pixel, layers="0", steps=2).images.shape == (1, 3, 1, 1)
    assert multifaceted(model, pixel, 1, facets=1, layer="0", steps=2).images.shape == (1, 3, 1, 1)
    painted = style_transfer(model, pixel, pixel + 0.1, content_layers="0", style_layers="1", steps=2)
    assert painted.images.shape == (1, 3, 1, 1) and painted.images.isfinite().all()
    with pytest.raises(ValueError, match="smaller than the window of 11"):
        quilt(pixel)
    with pytest.raises(ValueError, match="has 4 x 4 places or more for an image of .* take a larger image"):
        texture(model, pixel, steps=2)


# A style larger than the memory ------------------------------------------------------------------------------------


class Meter(nn.Module):
    """Keeps the largest number of pixels that it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.most = nn.Conv2d(3, 4, 3, padding=1), 0
        self.eval()

    def forward(self, x):
        self.most = max(self.most, x.shape[2] * x.shape[3])
        return self.conv(x).mean((2, 3))


@pytest.mark.slow
@pytest.mark.parametrize("keep_colors", [False, True])
def test_a_style_larger_than_the_memory_never_meets_the_network_at_its_size(keep_colors):
    """A view of one color stands for 400 megapixels: were it copied as floats, it would be 4.8 GB."""
    net = Meter()
    huge = torch.full((1, 3, 1, 1), 0.7).expand(1, 3, 20_000, 20_000)
    found = style_transfer(
        pellucid.wrap(net), torch.rand(1, 3, 40, 30), F.interpolate(huge[:, :, :4000, :4000], 4000), steps=2,
        content_layers="conv", style_layers="conv", keep_colors=keep_colors,
    )  # fmt: skip
    assert found.images.shape == (1, 3, 40, 30) and net.most <= 40 * 40


def test_a_content_that_is_large_is_begun_small():
    net = Meter()
    seen = []
    net.register_forward_pre_hook(lambda _m, given: seen.append(given[0].shape[-1]))
    image = torch.rand(1, 3, 64, 64)
    style_transfer(pellucid.wrap(net), image, image.flip(3), steps=4, scales=3, content_layers="conv",
                   style_layers="conv")  # fmt: skip
    assert seen[0] == 16 and max(seen) == 64


# Interruptions -----------------------------------------------------------------------------------------------------


class Stopped(nn.Module):
    """Somebody presses Ctrl-C in its n-th pass."""

    def __init__(self, after: int) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.conv, self.left = nn.Conv2d(3, 4, 3, padding=1), after
        self.eval()

    def forward(self, x):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt
        return self.conv(x).mean((2, 3))


@pytest.mark.parametrize(
    "make",
    [
        lambda m, x: dream(m, x, pellucid.layer("conv"), octaves=3, steps=10),
        lambda m, x: dream(m, x, pellucid.layer("conv"), octaves=1, steps=4, zoom=20),
        lambda m, x: texture(m, x, layers="conv", steps=50),
        lambda m, x: style_transfer(m, x, x.flip(3), content_layers="conv", style_layers="conv", steps=90, scales=2),
        lambda m, x: invert(m, x, "conv", steps=50),
    ],
    ids=["dream", "zoom", "texture", "style", "invert"],
)
def test_an_interruption_keeps_what_there_is(make):
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with pytest.warns(UserWarning, match="best images so far"):
        found = make(pellucid.wrap(Stopped(20)), image)
    assert found.interrupted and found.images.shape == image.shape and found.images.isfinite().all()
    assert 0 <= found.images.min() and found.images.max() <= 1
    found.figure()


def test_an_interruption_while_layers_are_inverted_keeps_those_that_are_done():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Flatten()).eval()
    calls = []

    def stop(*_given):
        calls.append(1)
        if len(calls) == 20:
            raise KeyboardInterrupt

    net[0].register_forward_hook(stop)
    with pytest.warns(UserWarning, match="best images so far"):
        found = invert(net, torch.rand(1, 3, 12, 12), ["0", "1"], steps=12)
    assert found.interrupted and found.titles == ("0", "1") and len(found.error) == 2


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_gradients_are_taken_also_where_the_caller_wants_none(mode):
    model, image = pellucid.wrap(flat_net()), torch.rand(1, 3, 24, 24)
    expected = maximize(model, 1, size=24, steps=3).images
    with mode():
        assert torch.equal(maximize(model, 1, size=24, steps=3).images, expected)
        assert invert(model, image * 1.0, "0", steps=2).steps == 2 and dream(model, image * 1.0, 1, steps=2).steps == 2
    with torch.no_grad():
        train_style(model, image, {"a": image}, width=2, blocks=1, size=24, steps=1, content_layers="0",
                    style_layers="0")  # fmt: skip


def test_the_model_is_as_it_was_after_an_interruption():
    net = small_net()
    net.conv1.weight.requires_grad_(False)
    calls = []

    def stop(*_given):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt

    hook = net.conv2.register_forward_hook(stop)
    with pytest.warns(UserWarning, match="best images so far"):
        maximize(net, 0, size=12, steps=5)
    hook.remove()
    assert not any(module._forward_hooks for module in net.modules())
    assert not net.conv1.weight.requires_grad and net.conv2.weight.requires_grad
