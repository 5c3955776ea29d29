"""Each method's formula on cases worked out on paper, and its theorems on networks where they hold exactly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import pellucid
from pellucid import logit, neuron, probability, run
from pellucid.attribution.ingredients.noise import normal_noise, uniform_noise
from pellucid.attribution.integrated_gradients import midpoints
from pellucid.attribution.rise import random_masks
from pellucid.model.run import counted

from ..nets import small_model, small_net, some_images


def linear(weights, bias=0.0):
    """f(x) = w . x + b on 1 x 2 x 2 images, one output."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 1)).double().eval()
    with torch.no_grad():
        net[1].weight.copy_(torch.tensor([weights]))
        net[1].bias.fill_(bias)
    return net


class Polynomial(nn.Module):
    """f(x) = x1^2 + 3 x1 x2 - x4, gradient (2 x1 + 3 x2, 3 x1, 0, -1)."""

    def __init__(self):
        super().__init__()
        self.eval()

    def forward(self, x):
        a, b, _, d = x.flatten(1).unbind(1)
        return torch.stack([a**2 + 3 * a * b - d, a], 1)


POINT = torch.tensor([[[[2.0, 1.0], [5.0, 4.0]]]]).double()
ZERO = torch.zeros(1, 1, 2, 2).double()


def flat(result):
    return result.values.flatten().tolist()


# --- gradients ------------------------------------------------------------------------------------------


def test_saliency():
    net = Polynomial()
    assert flat(pellucid.saliency(net, POINT, 0)) == [7, 6, 0, 1]
    assert flat(pellucid.saliency(net, POINT, 0, sign="keep")) == [7, 6, 0, -1]
    assert flat(pellucid.saliency(net, POINT, 0, sign="positive")) == [7, 6, 0, 0]


@pytest.mark.parametrize(
    ("sign", "channels", "expected"),
    [("absolute", "max", 3), ("absolute", "mean", 2), ("keep", "max", -3), ("keep", "mean", -2 / 3),
     ("positive", "max", 2), ("positive", "mean", 2 / 3)],
)  # fmt: skip
def test_channels_of_saliency(sign, channels, expected):
    net = nn.Sequential(nn.Flatten(), nn.Linear(3, 1, bias=False)).double().eval()
    with torch.no_grad():
        net[1].weight.copy_(torch.tensor([[2.0, -3.0, -1.0]]))
    found = pellucid.saliency(net, torch.rand(1, 3, 1, 1).double(), 0, sign=sign, channels=channels).values
    assert found.shape == (1, 1, 1, 1) and found.item() == pytest.approx(expected)


def test_gradient_x_input():
    assert flat(pellucid.gradient_x_input(Polynomial(), POINT, 0, baseline=ZERO)) == [14, 6, 0, -4]


@given(st.lists(st.integers(-9, 9), min_size=4, max_size=4), st.integers(-9, 9))
@settings(max_examples=20)
def test_on_a_linear_network_all_shares_agree(weights, bias):
    net, x = linear(weights, bias), POINT
    expected = (torch.tensor(weights).double() * x.flatten()).tolist()
    for found in (
        pellucid.gradient_x_input(net, x, 0, baseline=ZERO),
        pellucid.integrated_gradients(net, x, 0, baseline=ZERO, steps=1),
        pellucid.integrated_gradients(net, x, 0, baseline=ZERO, steps=7, quadrature="gauss_legendre"),
        pellucid.expected_gradients(net, x, 0, background=ZERO, samples=3),
        pellucid.occlusion(net, x, 0, fill=ZERO, window=1, stride=1),
    ):
        assert flat(found) == pytest.approx(expected, abs=1e-9)


def test_a_probability_is_explained_by_its_own_gradient():
    model, images = small_model(), some_images()
    p = model(images).softmax(1)[:, 1]
    for objective, factor in ((probability(1), p * (1 - p)), (pellucid.log_probability(1), 1 - p)):
        found = pellucid.saliency(model, images, objective, sign="keep", channels="all").values
        of_logits = [pellucid.saliency(model, images, k, sign="keep", channels="all").values for k in range(3)]
        others = model(images).softmax(1) / (1 - p)[:, None]
        rest = others[:, 0, None, None, None] * of_logits[0] + others[:, 2, None, None, None] * of_logits[2]
        torch.testing.assert_close(found, factor[:, None, None, None] * (of_logits[1] - rest))


def test_smoothgrad_of_a_quadratic():
    """g = (2 a + 3 b, 3 a, 0, -1) is linear, so that the mean is g at the mean of the noisy points."""
    noise = 0.2
    draws = 0.2 * 4 * normal_noise(POINT, 3)(torch.arange(5))  # the range of the image is 5 - 1
    at = POINT + draws
    slopes = torch.stack([2 * at[:, 0, 0, 0] + 3 * at[:, 0, 0, 1], 3 * at[:, 0, 0, 0]], 1)
    options = {"samples": 5, "noise": noise, "seed": 3}
    assert flat(pellucid.smoothgrad(Polynomial(), POINT, 0, **options))[:2] == pytest.approx(slopes.mean(0).tolist())
    squared = pellucid.smoothgrad(Polynomial(), POINT, 0, form="squared", **options)
    assert flat(squared)[:2] == pytest.approx(slopes.square().mean(0).tolist())
    variance = pellucid.smoothgrad(Polynomial(), POINT, 0, form="variance", **options)
    assert flat(variance)[:2] == pytest.approx(slopes.var(0, unbiased=False).tolist())
    assert flat(pellucid.smoothgrad(Polynomial(), POINT, 0, noise=0.0)) == [7, 6, 0, -1]


def test_a_constant_image_gives_no_nan():
    flat_image = torch.full((1, 3, 12, 12), 0.5).double()
    for name in ("smoothgrad", "integrated_gradients", "rise"):
        assert getattr(pellucid, name)(small_model(), flat_image, 0).values.isfinite().all()


# --- integrated gradients -------------------------------------------------------------------------------


def test_integrated_gradients_of_a_quadratic():
    """Along a (2, 1, 5, 4): g = a (7, 6, 0, ...) and -1, so that the shares are x g / 2: (7, 3, 0) and -4."""
    for rule in ("midpoint", "gauss_legendre"):
        found = pellucid.integrated_gradients(
            Polynomial(), POINT, 0, baseline=ZERO, steps=4, quadrature=rule, convergence_delta=True
        )
        assert flat(found) == pytest.approx([7, 3, 0, -4]) and found.convergence_delta.item() == pytest.approx(
            0, abs=1e-12
        )


def test_gauss_legendre_is_exact_for_polynomials():
    class Power(nn.Module):
        def forward(self, x):
            return x.flatten(1).pow(7).sum(1, keepdim=True)

    net = Power().eval()
    for steps, exact in ((3, False), (4, True)):  # n points integrate degree 2 n - 1; the gradient has degree 6
        found = pellucid.integrated_gradients(
            net, POINT, 0, baseline=ZERO, steps=steps, quadrature="gauss_legendre", convergence_delta=True
        )
        assert (abs(found.convergence_delta.item()) < 1e-8 * 5**7) == exact


@pytest.mark.slow
def test_tolerance_takes_only_new_gradients():
    model, images = small_model(), some_images(2)
    with counted() as passes:
        found = pellucid.integrated_gradients(model, images, 1, steps=5, tolerance=1e-3)
    change = pellucid.integrated_gradients(model, images, 1, steps=1, convergence_delta=True)
    assert (
        found.convergence_delta.abs() <= 1e-3 * (change.values.sum((1, 2, 3)) - change.convergence_delta).abs()
    ).all()
    # 5, then 3 x 5 in all, ...: each image has taken a number of points of that form, none twice.
    assert passes.backward in {5 * (3**i + 3**j) for i in range(8) for j in range(8)}
    tripled = [pellucid.integrated_gradients(model, images, 1, steps=5 * 3**i).values for i in range(8)]
    for row in range(2):
        assert any(torch.allclose(found.values[row], other[row], rtol=1e-10, atol=0) for other in tripled)


def test_a_tolerance_that_cannot_be_met_is_said():
    class Steep(nn.Module):
        def forward(self, x):
            return (1e7 * (x.flatten(1).sum(1, keepdim=True) - 6.1)).sigmoid()

    with pytest.warns(UserWarning, match="the gap of 1 of 1 images is still above the tolerance"):
        found = pellucid.integrated_gradients(Steep().eval(), POINT, 0, baseline=ZERO, steps=2, tolerance=1e-9)
    assert found.convergence_delta.abs().item() > 1e-9


@given(st.integers(1, 30))
def test_midpoints_of_three_times_as_many_contain_the_old(count):
    np.testing.assert_allclose(midpoints(3 * count)[1::3], midpoints(count))


@pytest.mark.slow
@given(st.integers(0, 5), st.sampled_from(["mean", "black", "white", "blur", "noise"]))
@settings(max_examples=15)
def test_completeness(seed, baseline):
    model, images = small_model(seed), some_images(2, seed)
    result = pellucid.integrated_gradients(
        model, images, 1, baseline=baseline, steps=300, convergence_delta=True, seed=seed
    )
    change = result.values.sum((1, 2, 3)) - result.convergence_delta
    torch.testing.assert_close(result.values.sum((1, 2, 3)), change, rtol=0.01, atol=1e-3)


def test_sensitivity_and_linearity():
    """Integrated gradients of a sum is the sum; a pixel that changes nothing gets nothing."""
    model, images = small_model(), some_images(1)
    parts = [pellucid.integrated_gradients(model, images, k).values for k in (0, 1)]
    both = pellucid.integrated_gradients(model, images, 2 * logit(0) - logit(1)).values
    torch.testing.assert_close(both, 2 * parts[0] - parts[1])
    assert flat(pellucid.integrated_gradients(Polynomial(), POINT, 0, baseline=ZERO))[2] == 0


@pytest.mark.slow
def test_expected_gradients_average_over_their_background():
    model, images, background = small_model(), some_images(2), some_images(3, seed=5)
    found = pellucid.expected_gradients(model, images, 1, background=background, samples=3000)
    exact = sum(
        pellucid.integrated_gradients(model, images, 1, baseline=b, steps=100).values for b in background
    ) / len(background)
    assert (found.values - exact).norm() < 0.05 * exact.norm()


# --- baselines and noise --------------------------------------------------------------------------------


def test_baselines():
    from pellucid.attribution.ingredients.baselines import baseline_images

    model, images = small_model(), some_images(2)
    assert baseline_images(model, images, "mean")[1, :, 3, 3].tolist() == pytest.approx([0.4, 0.5, 0.6])
    assert not baseline_images(model, images, "black").any() and baseline_images(model, images, "white").min() == 1
    noise = baseline_images(model, images, "noise", seed=2)
    assert torch.equal(noise[0], noise[1]) and 0 <= noise.min() and noise.max() <= 1
    assert not torch.equal(noise, baseline_images(model, images, "noise", seed=3))
    bare = small_net().double()
    torch.testing.assert_close(baseline_images(bare, images, "mean")[..., 0, 0], images.mean((2, 3)))
    blurred = baseline_images(bare, images, "blur")
    assert blurred.std() < images.std() and torch.allclose(blurred.mean((2, 3)), images.mean((2, 3)))
    assert baseline_images(bare, images, torch.tensor([1.0, 2, 3]))[0, 2, 0, 0] == 3
    with pytest.raises(ValueError, match="may take normalized"):
        baseline_images(bare, images, "black")
    with pytest.raises(ValueError, match="expected a tensor or one of mean"):
        baseline_images(bare, images, "gray")
    with pytest.raises(ValueError, match=r"shape \(5,\)"):
        baseline_images(bare, images, torch.zeros(5))


def test_noise_depends_on_seed_and_number_alone():
    for make in (normal_noise, uniform_noise):
        all_at_once = make(torch.zeros(1, 3, 5, 7), 1)(torch.arange(6))
        one_by_one = torch.cat([make(torch.zeros(9, 3, 5, 7).double(), 1)(torch.tensor([k])) for k in range(6)])
        assert torch.equal(all_at_once, one_by_one.float())
        assert not torch.equal(all_at_once, make(torch.zeros(1, 3, 5, 7), 2)(torch.arange(6)))
    many = normal_noise(torch.zeros(1, 1, 50, 50), 0)(torch.arange(40))
    assert abs(many.mean()) < 0.02 and abs(many.std() - 1) < 0.02
    assert np.abs(np.corrcoef(many.flatten(1)) - np.eye(40)).max() < 0.12


# --- class activation maps ------------------------------------------------------------------------------


class Fixed(nn.Module):
    """A layer with given activations (1 x 2 x 2 x 2) and a head f(A) of choice."""

    def __init__(self, activations, head):
        super().__init__()
        self.register_buffer("activations", activations)
        self.layer, self.head = nn.Identity(), head
        self.eval()

    def forward(self, x):
        return self.head(self.layer(self.activations + 0 * x.mean((1, 2, 3), keepdim=True)))[:, None]


A = torch.tensor([[[[1.0, 2.0], [0.0, 3.0]], [[4.0, 0.0], [1.0, 1.0]]]]).double()
HEAD_SLOPE = torch.tensor([[[[2.0, -1.0], [0.0, 1.0]], [[-2.0, 0.0], [1.0, -1.0]]]]).double()
IMAGE = torch.rand(1, 1, 4, 4).double()


def maps(name, slope=HEAD_SLOPE, activations=A, **options):
    net = Fixed(activations, lambda a: (slope * a).sum((1, 2, 3)))
    return getattr(pellucid, name)(net, IMAGE, 0, layer="layer", **options).maps[0, 0].tolist()


def test_grad_cam():
    """w = (0.5, -0.5): 0.5 A_1 - 0.5 A_2 = ((-1.5, 1), (-0.5, 1)), positive part."""
    assert maps("grad_cam") == [[0, 1], [0, 1]]


def test_hires_cam():
    assert maps("hires_cam") == [[0, 0], [1, 2]]


def test_layer_cam():
    assert maps("layer_cam") == [[2, 0], [1, 3]]


def test_xgrad_cam():
    """w_1 = (2 - 2 + 0 + 3) / 6 = 1/2, w_2 = (-8 + 0 + 1 - 1) / 6 = -4/3."""
    expected = [[0.5 - 16 / 3, 1.0], [-4 / 3, 1.5 - 4 / 3]]
    assert maps("xgrad_cam") == [pytest.approx([max(v, 0) for v in row]) for row in expected]


def test_grad_cam_plus_plus():
    """Sums 6 and 6: a = g^2 / (2 g^2 + 6 g^3) = 1 / (2 + 6 g), w = sum a relu(g): 2/14 + 1/8 and 1/8."""
    w1, w2 = 2 / 14 + 1 / 8, 1 / 8
    assert maps("grad_cam_plus_plus") == [pytest.approx([w1 + 4 * w2, 2 * w1]), pytest.approx([w2, 3 * w1 + w2])]


def test_dead_channels_give_no_nan():
    for name in ("grad_cam", "grad_cam_plus_plus", "xgrad_cam", "hires_cam", "layer_cam", "eigen_cam", "score_cam"):
        assert maps(name, activations=0 * A) == [[0, 0], [0, 0]]
    assert maps("ablation_cam", activations=0 * A) == [[0, 0], [0, 0]]
    # The two parts of g^2 (2 + g sum A) cancel at g = -1/3: no infinity there.
    assert np.isfinite(maps("grad_cam_plus_plus", slope=torch.full_like(A, -1 / 3))).all()


def test_ablation_cam():
    """y = (2 - 2 + 3) + (-8 + 1 - 1) = -5; without channel 1 it is -8, without channel 2 it is 3."""
    w1, w2 = (-5 + 8) / 5, (-5 - 3) / 5
    expected = w1 * A[0, 0] + w2 * A[0, 1]
    torch.testing.assert_close(torch.tensor(maps("ablation_cam")).double(), expected.clamp(min=0))


def test_eigen_cam_of_one_pattern():
    pattern = torch.tensor([[0.0, 1.0], [2.0, 5.0]]).double()
    activations = torch.stack([pattern, 2 * pattern, 2 * pattern])[None]
    net = Fixed(activations, lambda a: a.sum((1, 2, 3)))
    found = pellucid.eigen_cam(net, IMAGE, 0, layer="layer").maps[0, 0]
    torch.testing.assert_close(found, (3 * (pattern - pattern.mean())).clamp(min=0))


def test_cam_is_exact():
    model, images = small_model(), some_images()
    for objective in (1, pellucid.contrast(2, 0), 2 * logit(0) + 3):
        result = pellucid.cam(model, images, objective)
        weights = {"1": model.net.fc.weight[1], "c": model.net.fc.weight[2] - model.net.fc.weight[0]}
        features = run(model, images, read=["relu2"]).activations["relu2"]
        if objective == 1:
            torch.testing.assert_close(result.maps[:, 0], torch.einsum("nchw,c->nhw", features, weights["1"]).detach())
            torch.testing.assert_close(
                result.maps.mean((1, 2, 3)) + model.net.fc.bias[1].detach(), model(images)[:, 1].detach()
            )
        elif str(objective).startswith("contrast"):
            torch.testing.assert_close(result.maps[:, 0], torch.einsum("nchw,c->nhw", features, weights["c"]).detach())


def test_cam_refuses_what_it_is_not_defined_for():
    model, images = small_model(), some_images()
    with pytest.raises(ValueError, match="cam needs a head that averages over places"):
        pellucid.cam(model, images, probability(1))
    with pytest.raises(ValueError, match="cam needs a head"):
        pellucid.cam(model, images, 1, layer="relu1")


def test_on_an_averaging_head_the_family_agrees():
    """With global average pooling and a linear head, Grad-CAM and HiResCAM are relu(CAM) / places."""
    model, images = small_model(), some_images()
    expected = pellucid.cam(model, images, 1).maps.clamp(min=0) / 36
    for name in ("grad_cam", "hires_cam", "xgrad_cam"):
        torch.testing.assert_close(getattr(pellucid, name)(model, images, 1).maps, expected)


def test_score_cam():
    model, images = small_model(), some_images(1)
    features = run(model, images, read=["relu2"]).activations["relu2"].detach()
    scores = []
    for channel in features[0]:
        mask = nn.functional.interpolate(channel[None, None], (12, 12), mode="bilinear")
        spread = mask.max() - mask.min()
        mask = (mask - mask.min()) / (spread if spread else 1)
        scores.append(model(0.3 + mask * (images - 0.3))[0, 2])
    weights = torch.stack(scores).softmax(0).detach()
    expected = torch.einsum("c,chw->hw", weights, features[0]).clamp(min=0)
    found = pellucid.score_cam(model, images, 2, baseline=torch.full((3,), 0.3))
    torch.testing.assert_close(found.maps[0, 0], expected)


@pytest.mark.parametrize("name", ["grad_cam", "ablation_cam", "eigen_cam", "score_cam", "hires_cam"])
def test_a_reshape_can_be_given(name):
    class Tokens(nn.Module):
        """Activations as a sequence in which the places run backwards."""

        def __init__(self):
            super().__init__()
            self.net = small_net().double()
            self.layer = nn.Identity()
            self.eval()

        def forward(self, x):
            features = self.net[:6](x)
            back = self.layer(features.flatten(2).flip(2)).flip(2).unflatten(2, (6, 6))
            return self.net[6:](back)

    images = some_images()
    found = getattr(pellucid, name)(
        Tokens(), images, 1, layer="layer", reshape=lambda a: a.flip(2).unflatten(2, (6, 6))
    )
    torch.testing.assert_close(found.maps, getattr(pellucid, name)(small_net().double(), images, 1, layer="relu2").maps)
    with pytest.raises(ValueError, match="does not lie over images of 12 x 12"):
        getattr(pellucid, name)(Tokens(), images, 1, layer="net.flatten")


def test_ablation_runs_only_what_depends_on_the_layer():
    net, images = small_net().double(), some_images(1)
    rows = {"conv1": 0, "fc": 0}
    for name in rows:
        net.get_submodule(name).register_forward_hook(
            lambda _m, inputs, _o, name=name: rows.__setitem__(name, rows[name] + len(inputs[0]))
        )
    pellucid.ablation_cam(net, images, 1, layer="relu2")
    assert rows["fc"] == 6  # the image, and each of five channels silenced
    assert rows["conv1"] <= 3


def test_ablation_of_a_network_that_joins_across_the_layer():
    class Joined(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.a, self.b, self.fc = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1), nn.Linear(8, 2)
            self.eval()

        def forward(self, x):
            return self.fc(torch.cat([self.a(x), self.b(x)], 1).mean((2, 3)))

    net, images = Joined().double(), some_images(2)
    found = pellucid.ablation_cam(net, images, 1, layer="a").maps
    activation, y = net.a(images), net(images)[:, 1]
    weights = (activation.mean((2, 3)) * net.fc.weight[1, :4]) / y[:, None]
    expected = torch.einsum("nc,nchw->nhw", weights, activation).clamp(min=0)
    torch.testing.assert_close(found[:, 0], expected.detach())


def test_segmentation_and_detection_outputs():
    """One pixel of a segmentation, and the score of one box: any function of the output."""

    class Segmenter(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.backbone, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 2, 1)
            self.eval()

        def forward(self, x):
            features = self.backbone(x)
            boxes = [{"scores": f.mean((1, 2))} for f in features]
            return {"out": self.head(features.relu()), "boxes": boxes}

    net, images = Segmenter(), some_images(2, dtype=torch.float32)
    found = pellucid.grad_cam(net, images, lambda out: out["out"][:, 1, 5, 6], layer="backbone")
    assert found.values.any()
    at = pellucid.saliency(net, images, lambda out: out["out"][:, 1, 5, 6]).values
    assert at[:, :, 4:7, 5:8].any() and not at[:, :, :4].any() and not at[..., 8:].any()
    box = pellucid.saliency(net, images, lambda out: torch.stack([b["scores"][0] for b in out["boxes"]]))
    assert box.values.all()


# --- occlusion and RISE ---------------------------------------------------------------------------------


def test_occlusion_of_a_sum():
    net = linear([1.0, 2.0, 3.0, 4.0])
    x = torch.ones(1, 1, 2, 2).double()
    assert flat(pellucid.occlusion(net, x, 0, window=1, stride=1, fill=ZERO)) == [1, 2, 3, 4]
    # Rows of two pixels: 1 + 2 and 3 + 4.
    assert flat(pellucid.occlusion(net, x, 0, window=(1, 2), stride=(1, 2), fill=ZERO)) == [3, 3, 7, 7]
    assert flat(pellucid.occlusion(net, x, 0, window=2, stride=2, fill=ZERO)) == [10] * 4


def test_occlusion_averages_where_windows_overlap():
    net = nn.Sequential(nn.Flatten(), nn.Linear(3, 1, bias=False)).double().eval()
    with torch.no_grad():
        net[1].weight.copy_(torch.tensor([[1.0, 10.0, 100.0]]))
    x = torch.ones(1, 1, 1, 3).double()
    found = pellucid.occlusion(net, x, 0, window=(1, 2), stride=(1, 1), fill=torch.zeros(1))
    assert flat(found) == [11, (11 + 110) / 2, 110]


def test_windows_at_the_edge_are_cut():
    net = nn.Sequential(nn.Flatten(), nn.Linear(5, 1, bias=False)).double().eval()
    with torch.no_grad():
        net[1].weight.fill_(1)
    with counted() as passes:
        options = {"window": (1, 2), "stride": (1, 2), "fill": torch.zeros(1)}
        found = pellucid.occlusion(net, torch.ones(1, 1, 1, 5).double(), 0, **options)
    assert flat(found) == [2, 2, 2, 2, 1] and passes.forward == 1 + 3


@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 12))
@settings(max_examples=25)
def test_every_pixel_is_covered(high, wide, stride):
    net = nn.Sequential(nn.AvgPool2d(12), nn.Flatten()).eval().double()
    options = {"window": (high, wide), "stride": (min(stride, high), min(stride, wide))}
    found = pellucid.occlusion(net, torch.ones(1, 3, 12, 12).double(), 0, fill=torch.zeros(3), **options)
    assert (found.values > 0).all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"window": 20}, "larger than the image"),
        ({"window": 2, "stride": 3}, "uncovered"),
        ({"window": 0}, "window is 0"),
        ({"window": (1, 2, 3)}, "expected pixels"),
        ({"fill": "gray"}, "expected a tensor"),
    ],
)
def test_wrong_windows(options, words):
    with pytest.raises(ValueError, match=words):
        pellucid.occlusion(small_model(), some_images(), 0, **options)


def test_rise_is_its_formula():
    model, images = small_model(), some_images(2)
    options = {"samples": 70, "grid": 3, "keep": 0.4, "baseline": "black", "seed": 4}
    found = pellucid.rise(model, images, probability(1), **options)
    paper = pellucid.rise(model, images, probability(1), center=False, **options)
    masks = random_masks(torch.arange(70), (12, 12), 3, 0.4, 4).double()
    for row in range(2):
        scores = model(images[row] * masks).softmax(1)[:, 1].detach()
        for values, c in ((paper.values[row], 0), (found.values[row], scores.mean())):
            expected = ((scores - c)[:, None, None, None] * masks).sum(0) / (70 * 0.4)
            torch.testing.assert_close(values, expected)


def test_masks_of_rise():
    masks = random_masks(torch.arange(400), (20, 30), 7, 0.5, 0)
    assert masks.shape == (400, 1, 20, 30) and masks.min() >= 0 and masks.max() <= 1
    assert (masks.mean(0) - 0.5).abs().max() < 0.12
    assert torch.equal(masks[7:9], random_masks(torch.tensor([7, 8]), (20, 30), 7, 0.5, 0))
    assert torch.equal(random_masks(torch.tensor([0]), (9, 9), 3, 1.0, 0), torch.ones(1, 1, 9, 9))


def test_rise_finds_the_pixels_that_matter():
    class Corner(nn.Module):
        def forward(self, x):
            return x[:, :, :3, :3].mean((1, 2, 3))[:, None]

    found = pellucid.rise(Corner().eval(), torch.ones(1, 3, 12, 12), 0, samples=300, grid=4, baseline=torch.zeros(3))
    values = found.values[0, 0]
    assert values[:3, :3].mean() > 0.1 and abs(values[6:, 6:].mean()) < 0.05


@pytest.mark.parametrize(
    ("name", "options"),
    [("smoothgrad", {"samples": 0}), ("smoothgrad", {"form": "variance", "samples": 1}), ("smoothgrad", {"noise": -1}),
     ("smoothgrad", {"form": "median"}), ("saliency", {"sign": "abs"}), ("saliency", {"channels": "sum"}),
     ("integrated_gradients", {"steps": 0}), ("integrated_gradients", {"rule": "simpson"}),
     ("integrated_gradients", {"tolerance": 0.0}),
     ("integrated_gradients", {"tolerance": 0.1, "rule": "gauss_legendre"}),
     ("expected_gradients", {"samples": 0}), ("expected_gradients", {"background": torch.rand(2, 3, 5, 5)}),
     ("rise", {"samples": 0}), ("rise", {"keep": 0.0})],
)  # fmt: skip
def test_wrong_options(name, options):
    with pytest.raises(ValueError, match="expected|needs|read both"):
        getattr(pellucid, name)(small_model(), some_images(), 0, **options)


def test_hidden_units_are_explained_by_what_they_see():
    net = small_net().double()
    found = pellucid.saliency(net, some_images(1), neuron("conv1", 2, 5, 6), sign="keep", channels="all").values
    expected = torch.zeros(1, 3, 12, 12).double()
    expected[0, :, 4:7, 5:8] = net.conv1.weight[2]
    torch.testing.assert_close(found, expected)


# --- found by reading, kept by tests --------------------------------------------------------------------


def test_channels_last_networks():
    net, images = small_net(), some_images(2, dtype=torch.float32)
    last = small_net().to(memory_format=torch.channels_last)
    for name in ("ablation_cam", "grad_cam", "occlusion"):
        expected = getattr(pellucid, name)(net, images, 1).values
        found = getattr(pellucid, name)(last, images.to(memory_format=torch.channels_last), 1).values
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)
    assert pellucid.ablation_cam(last, images, 1, layer="relu1").values.any()


@pytest.mark.slow
def test_sums_in_half_precision_do_not_depend_on_the_batch():
    model, images = small_model(dtype=torch.bfloat16), some_images(1, dtype=torch.bfloat16)
    found = []
    for size in (1, 100):
        with pellucid.settings(batch_size=size):
            found.append(pellucid.integrated_gradients(model, images, 1, steps=400).values.float())
    assert (found[0] - found[1]).norm() < 0.02 * found[1].norm()


def test_layers_that_are_not_one_row_for_each_image_are_refused():
    class Windows(nn.Module):
        def __init__(self):
            super().__init__()
            self.windows = nn.Identity()
            self.eval()

        def forward(self, x):
            parts = self.windows(x.unflatten(2, (2, 6)).movedim(2, 1).flatten(0, 1))
            return parts.unflatten(0, (len(x), 2)).mean((1, 3, 4))

    with pytest.raises(ValueError, match="does not lie over"):
        pellucid.hires_cam(Windows(), some_images(2), 0, layer="windows")


def test_cam_refuses_maximum_pooling():
    net = small_net().double()
    net.pool2 = nn.AdaptiveMaxPool2d(1)
    with pytest.raises(ValueError, match="cam needs a head"):
        pellucid.cam(net.eval(), some_images(), 1, layer="relu2")


def test_the_default_layer_does_not_depend_on_what_was_asked_before():
    from pellucid.attribution.ingredients.layer_maps import last_spatial_layer

    saturated = small_net().double()
    with torch.no_grad():
        saturated.fc.weight.mul_(1e4)
    images = some_images(1)
    for objective in (probability(0), logit(1), probability(2)):
        assert last_spatial_layer(saturated, images, objective.bind(saturated, 1)) == "relu2"


def test_the_variance_of_small_noise_does_not_cancel():
    images = POINT.float()
    found = pellucid.smoothgrad(Polynomial(), images, 0, form="variance", samples=50, noise=1e-3).values
    exact = pellucid.smoothgrad(Polynomial(), POINT, 0, form="variance", samples=50, noise=1e-3).values
    torch.testing.assert_close(found.double(), exact, rtol=0.01, atol=1e-9)


def test_results_carry_no_graph():
    start = torch.rand(3, requires_grad=True)
    model, images = small_model(), some_images()
    for name in ("integrated_gradients", "gradient_x_input", "score_cam"):
        assert not getattr(pellucid, name)(model, images, 0, baseline=start).values.requires_grad
    background = torch.rand(2, 3, 12, 12, requires_grad=True)
    assert not pellucid.expected_gradients(model, images, 0, background=background, samples=2).values.requires_grad


def test_networks_that_count_their_images_before_the_layer():
    class Counting(nn.Module):
        def __init__(self, last):
            super().__init__()
            self.net, self.last = small_net().double(), last
            self.eval()

        def forward(self, x):
            count = len(x)
            maps = self.net.relu2(self.net.conv2(self.net[:4](x)))
            pooled = maps.view(count, 5, -1).mean(-1) if self.last else maps.mean((2, 3)).view(count, -1)
            return self.net.fc(pooled)

    images = some_images()
    for name in ("cam", "ablation_cam"):
        expected = getattr(pellucid, name)(small_net().double(), images, 1).maps
        for last in (True, False):
            found = getattr(pellucid, name)(Counting(last), images, 1, layer="net.relu2").maps
            torch.testing.assert_close(found, expected)


def test_ablation_of_a_negative_objective_points_to_what_raises_it():
    model, images = small_model(), some_images()
    positive = pellucid.ablation_cam(model, images, logit(1) + 1000).values
    negative = pellucid.ablation_cam(model, images, logit(1) - 1000).values
    y = model(images)[:, 1].detach()[:, None, None, None]
    torch.testing.assert_close(positive * (1000 + y), negative * (1000 - y), rtol=1e-6, atol=1e-9)
