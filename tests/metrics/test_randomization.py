"""Randomization checks: methods that look at the model lose their map, an edge detector does not."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import pellucid
from pellucid.metrics import label_randomization, randomization, spearman, ssim

from ..nets import small_model, small_net, some_images


def edges(model, images, objective):
    """An edge detector, which does not look at the model."""
    gray = images.mean(1, keepdim=True)
    kernel = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]], dtype=images.dtype)[None, None]
    return (F.conv2d(gray, kernel, padding=1) ** 2 + F.conv2d(gray, kernel.mT, padding=1) ** 2).sqrt()


def trained():
    return pellucid.load("shapes"), pellucid.shapes.scenes(4).images


@pytest.mark.slow
@pytest.mark.parametrize("order", ["cascading", "independent"])
def test_methods_that_explain_the_model_lose_their_map(order):
    model, images = trained()
    layers = ["classifier", "features.7.conv", "features.3.conv", "features.0.conv"]
    for name in ("gradient_x_input", "saliency"):
        result = randomization(model, images, name, order=order, layers=layers)
        assert result.layers == tuple(layers) and result.values.shape == (4, 4)
        assert result.values[:, -1].mean() < 0.5
    same = randomization(model, images, edges, order=order, layers=layers)
    torch.testing.assert_close(same.values, torch.ones(4, 4))


def test_the_model_is_as_it_was():
    model, images = small_model(), some_images()
    before, random = {k: v.clone() for k, v in model.state_dict().items()}, torch.get_rng_state()
    randomization(model, images, "saliency", 0)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    assert all(p.grad is None and p.requires_grad for p in model.parameters()) and not model.training
    assert not any(m._forward_hooks for m in model.modules())


def test_layers_in_order_and_seeds():
    model, images = small_model(), some_images()
    one = randomization(model, images, "gradient_x_input", 0)
    assert one.layers == ("fc", "conv2", "conv1")
    assert torch.equal(one.values, randomization(model, images, "gradient_x_input", 0).values)
    assert not torch.equal(one.values, randomization(model, images, "gradient_x_input", 0, seed=1).values)
    alone = randomization(model, images, "gradient_x_input", 0, order="independent")
    torch.testing.assert_close(alone.values[:, 0], one.values[:, 0])
    assert not torch.equal(alone.values[:, 1], one.values[:, 1])
    assert one.maps.shape == (3, 4, 1, 12, 12)


def test_parameters_without_a_reset_are_drawn_anew():
    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.linspace(1, 3, 432).view(1, 3, 12, 12).double())

        def forward(self, x):
            return x * self.weight

    net = nn.Sequential(Scale(), *small_net().double()).eval()
    seen = []

    def method(model, x, objective):
        seen.append(model[0].weight.detach().clone())
        return x

    result = randomization(net, some_images(), method, 0, layers=["0"])
    assert result.layers == ("0",) and not torch.equal(seen[0], seen[1])
    assert float(seen[1].mean()) == pytest.approx(2, abs=0.2)
    assert float(seen[1].std()) == pytest.approx(float(seen[0].std()), rel=0.2)


def test_labels():
    model, images = trained()
    other = pellucid.wrap(pellucid.shapes.ShapesNet().eval(), mean=0.5, std=0.25, size=96)
    assert label_randomization(model, model, images, "gradient_x_input").tolist() == pytest.approx([1] * 4)
    assert label_randomization(model, other, images, "gradient_x_input").mean() < 0.5
    assert label_randomization(model, other, images, edges).tolist() == pytest.approx([1] * 4)


@pytest.mark.slow
def test_a_picture(tmp_path):
    model, images = small_model(), some_images()
    result = randomization(model, images, "saliency", 0, similarity="ssim")
    assert result.save(tmp_path / "sanity.png").stat().st_size > 5_000
    assert "Randomization(3 layers, cascading, ssim" in repr(result)
    assert "randomization of saliency" in str(result.call)


def test_spearman_by_hand():
    one = torch.tensor([[1.0, 2.0, 2.0, 5.0]])
    other = torch.tensor([[2.0, 1.0, 3.0, 9.0]])
    # Ranks 0, 1.5, 1.5, 3 and 1, 0, 2, 3 about 1.5: -1.5, 0, 0, 1.5 and -0.5, -1.5, 0.5, 1.5.
    assert spearman(one, other).item() == pytest.approx((0.75 + 2.25) / (4.5 * 5) ** 0.5)
    assert spearman(one, torch.ones(1, 4)).item() == 0


def test_ssim_of_equal_and_opposite_maps():
    maps = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(ssim(maps, 3 * maps + 1), torch.ones(2), atol=1e-5, rtol=0)
    assert (ssim(maps, -maps) < 0).all()
    assert torch.isfinite(ssim(maps, torch.zeros(2, 1, 16, 16))).all()


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"order": "top_down"}, ValueError, "expected 'cascading' or 'independent'"),
        ({"similarity": "hog"}, ValueError, "expected 'spearman' or 'ssim'"),
        ({"layers": ["conv3"]}, KeyError, "no layer 'conv3' with weights; near it: conv"),
        ({"layers": ["relu1"]}, KeyError, "no layer 'relu1' with weights"),
    ],
)
def test_refused(options, error, said):
    with pytest.raises(error, match=said):
        randomization(small_model(), some_images(1), "saliency", 0, **options)


def test_a_function_has_no_weights():
    with pytest.raises(TypeError, match="no weights to randomize"):
        randomization(lambda x: x.flatten(1), some_images(1), "saliency", 0)
