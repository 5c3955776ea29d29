"""Objectives of whole activations, against numpy and by hand; the verbs that stand on them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import pellucid
from pellucid import run
from pellucid.checks import UnknownName
from pellucid.display.gaussian import gaussian_blur
from pellucid.synthesis import (
    Pixels,
    Sigmoid,
    caricature,
    content,
    cosine,
    diversity,
    dream,
    guided,
    invert,
    quilt,
    style,
    style_transfer,
    texture,
)
from pellucid.synthesis.ascent.layers_by_scale import VGG19_CONTENT, VGG19_STYLE, content_layer, style_layers
from pellucid.synthesis.ingredients.objectives import gram
from pellucid.synthesis.ingredients.transforms import moved

from ..methods.test_contract import same, state
from ..nets import small_model, small_net, some_images


def value(model, objective, images):
    bound = objective.bind(model, len(images))
    return bound(run(model, images, read=bound.reads, to_output=False))


def features(model, images, layer):
    return run(model, images, read=layer, to_output=False).activations[layer].detach()


def test_gram_matrices_against_numpy():
    values = torch.randn(2, 4, 3, 5, dtype=torch.float64)
    for one, found in zip(values.numpy(), gram(values), strict=True):
        flat = one.reshape(4, 15)
        np.testing.assert_allclose(found.numpy(), flat @ flat.T / 15)
    mask = torch.zeros(6, 10, dtype=torch.float64)
    mask[:, :6] = 1
    left = values[:, :, :, :3]
    torch.testing.assert_close(gram(values, mask), gram(left))
    with pytest.raises(ValueError, match="mask is empty"):
        gram(values, torch.zeros(6, 10))


def test_style_and_content_by_the_papers_formulas():
    model, images = small_model(), some_images(2)
    a, b = images[:1], images[1:]
    total = 0.0
    for layer, weight in (("conv1", 0.3), ("relu2", 0.7)):
        f, p = (features(model, x, layer)[0].flatten(1).numpy() for x in (a, b))
        channels, places = f.shape
        # Gatys et al.: G = F F', E = 1 / (4 N^2 M^2) sum (G - A)^2
        total += weight * ((f @ f.T - p @ p.T) ** 2).sum() / (4 * channels**2 * places**2)
    goal = style(["conv1", "relu2"], b, weights=(0.3, 0.7), relative=False)
    np.testing.assert_allclose(value(model, goal, a).item(), -total)
    f, p = (features(model, x, "relu2").flatten() for x in (a, b))
    torch.testing.assert_close(value(model, content("relu2", b, relative=False), a)[0], -(f - p).square().sum() / 2)
    torch.testing.assert_close(value(model, content("relu2", b), a)[0], -(f - p).square().sum() / p.square().sum())
    assert value(model, style("relu2", b), b) == 0 == value(model, content("relu2", b), b)


def test_style_of_the_image_itself():
    model, images = small_model(), some_images(1)
    pixels = torch.cat([images, torch.ones_like(images[:, :1])], 1)[0].flatten(1)
    other = images.flip(1)
    reference = torch.cat([other, torch.ones_like(images[:, :1])], 1)[0].flatten(1)
    g, a = pixels @ pixels.T / 144, reference @ reference.T / 144
    expected = -(g - a).square().sum() / a.square().sum()
    torch.testing.assert_close(value(model, style("image", other), images)[0], expected)


def test_cosine_caricature_guided_and_diversity_by_hand():
    model, images = small_model(), some_images(3)
    acts = features(model, images, "conv2")
    vector = torch.tensor([1.0, -1.0, 0.5, 0.0, 2.0], dtype=torch.float64)
    expected = torch.stack([
        (a.flatten(1).T @ vector / (a.flatten(1).norm(dim=0) * vector.norm())).mean() for a in acts
    ])  # fmt: skip
    torch.testing.assert_close(value(model, cosine("conv2", vector), images), expected)
    scaled = value(model, cosine("conv2", 7 * vector), images)
    torch.testing.assert_close(scaled, expected)
    target = acts[0].flatten(1)
    dots = [(a.flatten(1) * target).sum(0) for a in acts]
    cos = [F.cosine_similarity(a.flatten(1), target, 0).clamp(min=0.1) for a in acts]
    expected = torch.stack([(d * c**2).mean() for d, c in zip(dots, cos, strict=True)])
    torch.testing.assert_close(value(model, caricature("conv2", images[:1], 2.0), images), expected)
    expected = torch.stack([(a.flatten(1).T @ target).max(1).values.mean() for a in acts])
    torch.testing.assert_close(value(model, guided("conv2", images[:1]), images), expected)
    flat = torch.stack([(a.flatten(1) @ a.flatten(1).T).flatten() for a in acts])
    alike = torch.tensor([[F.cosine_similarity(x, y, 0) for y in flat] for x in flat], dtype=torch.float64)
    torch.testing.assert_close(value(model, diversity("conv2"), images), -(alike.sum(1) - 1) / 2)


def test_terms_say_what_is_wrong():
    model, images = small_model(), some_images(1)
    with pytest.raises(ValueError, match="5 channels, the direction has 2"):
        value(model, cosine("conv2", [1.0, 1.0]), images)
    with pytest.raises(ValueError, match="not 0"):
        cosine("conv2", [0.0, 0.0])
    with pytest.raises(ValueError, match="same height and width"):
        value(model, content("conv1", torch.rand(1, 3, 9, 9).double()), images)
    with pytest.raises(UnknownName):
        content("conv7", images).bind(model, 1)
    with pytest.raises(ValueError, match="got 1 weights for 2 layers"):
        style(["conv1", "conv2"], images, weights=(1.0,))
    with pytest.raises(ValueError, match="there are no layers"):
        content([], images)


# Invert ------------------------------------------------------------------------------------------------------------


def test_an_invertible_layer_gives_the_image_back():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(27, 27), nn.Unflatten(1, (3, 3, 3)), nn.Flatten()).double().eval()
    nn.init.orthogonal_(net[1].weight)
    images = torch.rand(2, 3, 3, 3, dtype=torch.float64)
    found = invert(
        net, images, "1", variation=0.0, bound=0.0, optimizer="lbfgs", steps=200, parametrization=Pixels(bounds=None)
    )
    torch.testing.assert_close(found.images, images, rtol=1e-5, atol=1e-5)
    assert (found.error < 1e-5).all() and found.error.shape == (2,)


def test_the_error_is_the_papers():
    model, images = small_model(), some_images(3)
    found = invert(model, images, "relu2", steps=5, photos=images)
    a, b = features(model, found.images, "relu2").flatten(1), features(model, images, "relu2").flatten(1)
    pairs = torch.stack([(b[i] - b[j]).norm() for i in range(3) for j in range(i)])
    torch.testing.assert_close(found.error, (a - b).norm(dim=1) / pairs.mean(), rtol=1e-4, atol=1e-6)
    plain = invert(model, images, "relu2", steps=5)
    torch.testing.assert_close(plain.error, (a - b).norm(dim=1) / b.norm(dim=1))


def test_several_layers_for_a_figure():
    model, images = small_model(), some_images(2)
    found = invert(model, images, ["conv1", "conv2", "fc"], steps=4, record_every=2)
    assert found.images.shape[0] == 3 == len(found.error) and found.titles == ("conv1", "conv2", "fc")
    assert len(found.figure().axes) == 3 and found.frames.shape[0] == 3
    alone = invert(model, images[:1], "conv2", steps=4)
    torch.testing.assert_close(found.images[1:2], alone.images)
    with pytest.raises(ValueError, match="weights from 0"):
        invert(model, images, "conv1", variation=-1.0)
    with pytest.raises(UnknownName):
        invert(model, images, "conv3")


def test_variation_makes_an_inversion_smoother():
    model, images = small_model(), some_images(1)

    def rough(weight):
        options = {"steps": 60, "parametrization": Sigmoid(), "optimizer": "adam"}
        return invert(model, images, "relu2", variation=weight, **options).images.diff(dim=3).square().mean()

    assert rough(1.0) < rough(0.0)


# Dream -------------------------------------------------------------------------------------------------------------


def test_a_dream_raises_its_objective_and_touches_nothing():
    model, images = small_model(), some_images(2)
    kept, before = images.clone(), state(model)
    found = dream(model, images, pellucid.layer("conv2"), octaves=2, steps=10, shift=1)
    same(before, state(model))
    assert torch.equal(images, kept) and found.images.shape == images.shape
    goal = pellucid.layer("conv2")
    assert (value(model, goal, found.images) > value(model, goal, images)).all()
    assert 0 <= found.images.min() and found.images.max() <= 1
    assert torch.equal(found.images, dream(model, images, goal, octaves=2, steps=10, shift=1).images)


def test_one_octave_is_plain_ascent_by_hand():
    model, images = small_model(), some_images(1)
    found = dream(model, images, 1, octaves=1, steps=3, step_size=0.02, shift=0)
    x = images.clone()
    for _ in range(3):
        x.requires_grad_()
        (slope,) = torch.autograd.grad(model(x)[0, 1], x)
        x = (x.detach() + 0.02 * slope / slope.abs().mean()).clamp(0, 1)
    torch.testing.assert_close(found.images, x)


def test_guided_and_zoomed_dreams():
    model, images = small_model(), some_images(2)
    found = dream(model, images[:1], "conv2:1", octaves=1, steps=4, zoom=3, shift=1)
    assert found.frames.shape == (1, 4, 3, 12, 12)
    guided_ = dream(model, images[:1], pellucid.layer("conv2"), guide=images[1:], octaves=2, steps=4, shift=1)
    assert guided_.titles == ('guided("conv2")',)
    with pytest.raises(ValueError, match="at least 1 octave"):
        dream(model, images, 0, octaves=0)


# Texture, style, quilt ---------------------------------------------------------------------------------------------


def test_a_texture_comes_near_its_sample():
    model, sample = small_model(), some_images(1)
    layers = ("conv1", "relu2")
    found = texture(model, sample, size=(16, 10), layers=layers, steps=60, variation=0.0)
    assert found.images.shape == (1, 3, 16, 10) and found.values > 0.2 * found.history[:, 0]
    torch.testing.assert_close(found.values, value(model, style(layers, sample), found.images))
    line = texture(model, sample, layers="conv1", steps=40, optimizer="lbfgs", parametrization=Pixels(), count=2)
    assert line.images.shape == (2, 3, 12, 12) and (line.values > line.history[:, 0]).all()
    with pytest.raises(ValueError, match="one sample, got 2"):
        texture(model, some_images(2))


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_style_transfer_trades_content_for_style(optimizer):
    model, images = small_model(), some_images(2)
    a, b = images[:1], images[1:]
    options = {"content_layers": "conv1", "style_layers": ("conv1", "relu2"), "steps": 150, "optimizer": optimizer}
    near = style_transfer(model, a, b, style_weight=0.01, **options).images
    far = style_transfer(model, a, b, style_weight=1000.0, **options).images
    to_style, to_content = style(("conv1", "relu2"), b), content("conv1", a)
    assert value(model, to_style, far) > value(model, to_style, near)
    assert value(model, to_content, near) > value(model, to_content, far)
    assert 0 <= far.min() and far.max() <= 1


def test_mixtures_regions_colors_and_scales():
    model, images = small_model(), some_images(3)
    content_, *styles = images.split(1)
    options = {"content_layers": "conv1", "style_layers": "conv1", "steps": 12}
    only = style_transfer(model, content_, styles[0], **options).images
    mixed = style_transfer(model, content_, styles, mixture=(1.0, 0.0), **options).images
    torch.testing.assert_close(mixed, only)
    left = torch.zeros(12, 12)
    left[:, :6] = 1
    masked = style_transfer(model, content_, styles, masks=(left, 1 - left), start="content", **options).images
    assert not torch.equal(masked, only)
    kept = style_transfer(model, content_, styles[0], keep_colors=True, **options)
    chroma = torch.tensor([0.596, -0.274, -0.322], dtype=torch.float64)
    inside = (kept.images > 0).all(1) & (kept.images < 1).all(1)
    made, given = (torch.einsum("c,nchw->nhw", chroma, x)[inside] for x in (kept.images, content_))
    torch.testing.assert_close(made, given, rtol=1e-6, atol=1e-6)
    large = F.interpolate(content_, (40, 30))
    scaled = style_transfer(model, large, styles[0], scales=2, **options)
    assert scaled.images.shape == (1, 3, 40, 30) and scaled.steps == 6


def test_a_style_of_any_size_is_brought_to_that_of_the_content():
    model, image = small_model(), some_images(1)
    huge = torch.rand(1, 3, 1, 1).double().expand(1, 3, 3000, 2000)
    seen = []
    model.net.conv1.register_forward_pre_hook(lambda _module, given: seen.append(max(given[0].shape[2:])))
    style_transfer(model, image, huge, steps=2)
    assert max(seen) <= 16


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam", "unit"])
def test_an_image_in_its_own_style_is_where_it_should_be(optimizer):
    """The gradient there is 0, as at a dead start, and the objective is at its highest."""
    model, image = small_model(), F.interpolate(some_images(1), 20, mode="bilinear")
    options = {"content_layers": "conv1", "style_layers": ("conv1", "relu2"), "steps": 6, "optimizer": optimizer}
    found = style_transfer(model, image, image, variation=0.0, **options)
    torch.testing.assert_close(found.images, image, rtol=1e-6, atol=1e-6)
    assert not found.zero_gradient.any() and abs(found.values.item()) < 1e-9
    smoother = style_transfer(model, image, image, **options).images
    assert smoother.diff(dim=3).square().mean() <= image.diff(dim=3).square().mean()
    assert invert(model, image, "conv1", start=image, variation=0.0, bound=0.0, steps=2).error < 1e-2


def test_what_style_transfer_refuses():
    model, images = small_model(), some_images(2)
    with pytest.raises(ValueError, match="one content image"):
        style_transfer(model, images, images[:1])
    with pytest.raises(ValueError, match="mixture has 2 entries for 1"):
        style_transfer(model, images[:1], images[1:], mixture=(1.0, 2.0))
    with pytest.raises(ValueError, match="a mask is"):
        style_transfer(model, images[:1], images[1:], masks=(torch.ones(3, 3),))
    with pytest.raises(ValueError, match="needs a Classifier"):
        style_transfer(small_net(), images[:1].float(), images[1:].float(), keep_colors=True)


class Vgg19(nn.Module):
    """The convolutions of torchvision's VGG-19 with random weights, and no dense layers."""

    def __init__(self) -> None:
        super().__init__()
        from torchvision.models import vgg

        torch.manual_seed(0)
        self.features = vgg.make_layers(vgg.cfgs["E"])
        self.eval()

    def forward(self, x):
        return self.features(x).mean((2, 3))


def test_layers_of_the_paper_for_vgg19_and_one_a_resolution_for_others():
    import torchvision

    net, image = Vgg19(), torch.zeros(1, 3, 64, 64)
    assert style_layers(net, image) == VGG19_STYLE and content_layer(net, image) == VGG19_CONTENT
    names = dict(net.named_modules())
    assert [names[n].out_channels for n in VGG19_STYLE] == [64, 128, 256, 512, 512]
    # conv1_1 ... conv5_1 are the first after each pooling, conv4_2 the second after the third.
    kinds = [type(module).__name__ for module in net.features]
    firsts = [0] + [i + 1 for i, kind in enumerate(kinds) if kind == "MaxPool2d"][:-1]
    assert [f"features.{i}" for i in firsts] == list(VGG19_STYLE)
    assert kinds[19:22] == ["Conv2d", "ReLU", "Conv2d"] and VGG19_CONTENT == "features.21"
    resnet = torchvision.models.resnet18().eval()
    found = style_layers(resnet, torch.zeros(1, 3, 128, 128))
    assert found[0] == "image" and len(found) == 6 and content_layer(resnet, torch.zeros(1, 3, 128, 128)) == found[-2]


@pytest.mark.slow
def test_the_papers_settings_run_on_vgg19():
    """Its formulas, weights of 1/5 for each layer, alpha / beta = 1e-3, and no convolution beyond conv5_1."""
    net, (image, one) = Vgg19(), torch.rand(2, 1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    beyond = []
    net.features[30].register_forward_hook(lambda *_: beyond.append(1))
    options = {"content_weight": 1.0, "style_weight": 1e3, "relative": False, "variation": 0.0, "steps": 3}
    found = style_transfer(pellucid.wrap(net), image, one, **options)
    assert not beyond and found.values > found.history[0, 0]
    trace = run(net, found.images, read=(*VGG19_STYLE, VGG19_CONTENT), to_output=False).activations
    wanted = run(net, one, read=VGG19_STYLE, to_output=False).activations
    loss = (trace[VGG19_CONTENT] - features(net, image, VGG19_CONTENT)).square().sum() / 2
    for name in VGG19_STYLE:
        f, a = trace[name][0].flatten(1), wanted[name][0].flatten(1)
        n, m = f.shape
        loss = loss + 1e3 / 5 * (f @ f.T - a @ a.T).square().sum() / (4 * n**2 * m**2)
    torch.testing.assert_close(-found.values[0], loss.detach(), rtol=1e-4, atol=1e-9)


def test_a_quilt_is_made_of_pixels_of_the_sample():
    sample = torch.rand(1, 3, 20, 24, generator=torch.Generator().manual_seed(0))
    found = quilt(sample, size=(17, 13), window=5, seed=3)
    assert found.images.shape == (1, 3, 17, 13)
    there = {tuple(p) for p in sample[0].flatten(1).T.tolist()}
    assert {tuple(p) for p in found.images[0].flatten(1).T.tolist()} <= there
    assert torch.equal(found.images, quilt(sample, size=(17, 13), window=5, seed=3).images)
    assert not torch.equal(found.images, quilt(sample, size=(17, 13), window=5, seed=4).images)


def test_a_quilt_of_a_regular_texture_is_that_texture():
    row = torch.tensor([0.0, 0.0, 1.0, 0.5])
    sample = row.repeat(6).expand(1, 1, 24, 24).contiguous()
    found = quilt(sample, size=20, window=7, tolerance=0.0).images[0, 0]
    assert (found == found[:1]).all()
    assert any(torch.equal(found[0], row.repeat(7)[shift : shift + 20]) for shift in range(4))


def test_an_interrupted_quilt_keeps_what_it_has(monkeypatch):
    from pellucid.synthesis import quilt as verb

    module = __import__("sys").modules["pellucid.synthesis.quilt"]
    fill, calls = module._Quilt.fill, []

    def stopping(self):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return fill(self)

    monkeypatch.setattr(module._Quilt, "fill", stopping)
    found = verb(torch.rand(1, 1, 16, 16), window=5)
    assert found.interrupted and 9 < found.steps < 256


def test_what_a_quilt_refuses():
    with pytest.raises(ValueError, match="smaller than the window of 11"):
        quilt(torch.rand(1, 1, 8, 8))
    with pytest.raises(ValueError, match="odd number"):
        quilt(torch.rand(1, 1, 8, 8), window=4)
    with pytest.raises(ValueError, match="one sample"):
        quilt(torch.rand(2, 1, 12, 12))


# Moves -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(12, 12), (9, 20)])
def test_a_move_is_that_of_an_affine_grid(size):
    draw = torch.Generator().manual_seed(0)
    images = torch.rand(2, 3, *size, dtype=torch.float64, generator=draw)
    matrix = torch.tensor([[1.1, 0.2, 1.5], [-0.3, 0.9, -2.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    half = torch.tensor([size[1] / 2, size[0] / 2, 1.0], dtype=torch.float64)
    theta = (matrix * half / half[:, None])[None, :2].expand(2, -1, -1)
    grid = F.affine_grid(theta, [2, 3, *size], align_corners=False)
    wanted = F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    torch.testing.assert_close(moved(images, matrix), wanted)


def test_moves_by_hand():
    image = torch.zeros(1, 1, 5, 5, dtype=torch.float64)
    image[0, 0, 1, 2] = 1
    quarter = torch.tensor([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    turned = moved(image, quarter)[0, 0]
    assert torch.allclose(turned, image[0, 0].rot90(-1)) or torch.allclose(turned, image[0, 0].rot90(1))
    shifted = moved(image, torch.tensor([[1.0, 0, -1], [0, 1, 2], [0, 0, 1]], dtype=torch.float64))[0, 0]
    assert shifted[4, 3] == 1  # round the edge
    smooth = gaussian_blur(torch.ones(1, 2, 4, 4), 2.0)
    torch.testing.assert_close(smooth, torch.ones(1, 2, 4, 4))
    point = torch.zeros(1, 1, 41, 41, dtype=torch.float64)
    point[0, 0, 20, 20] = 1
    spread = gaussian_blur(point, 2.0)[0, 0].sum(0)
    places = torch.arange(-20, 21, dtype=torch.float64)
    assert abs(float((spread * places.square()).sum()) - 4) < 0.15 and abs(float(spread.sum()) - 1) < 1e-12
