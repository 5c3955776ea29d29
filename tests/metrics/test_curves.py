"""Deletion and insertion, solved by hand on linear models."""

import pytest
import torch
from torch import nn

import pellucid
from pellucid.metrics import deletion, insertion
from pellucid.metrics.curves import ranks

from ..nets import small_model, some_images


class Sum(nn.Module):
    """Two outputs: the sum of weighted pixels, and its negative."""

    def __init__(self, weights):
        super().__init__()
        self.weights = nn.Parameter(weights)

    def forward(self, x):
        total = (x * self.weights).flatten(1).sum(1)
        return torch.stack([total, -total], 1)


WEIGHTS = torch.tensor([[[4.0, 1.0], [-2.0, 3.0]]], dtype=torch.float64)
IMAGE = torch.ones(1, 1, 2, 2, dtype=torch.float64)


def test_deletion_by_hand():
    net = Sum(WEIGHTS).eval()
    result = deletion(net, IMAGE, WEIGHTS[None] * IMAGE, 0, steps=4, fill=torch.zeros(1))
    # 4, 3, 1 and -2 go in this order: 6, 2, -1, -2, 0.
    assert result.values.tolist() == [[6, 2, -1, -2, 0]] and result.shares.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert result.area.item() == pytest.approx((6 / 2 + 2 - 1 - 2 + 0 / 2) / 4)
    assert result.kind == "deletion" and result.call.forward == 5 and result.call.backward == 0


def test_insertion_by_hand():
    net = Sum(WEIGHTS).eval()
    result = insertion(net, IMAGE, WEIGHTS[None] * IMAGE, 0, steps=2, fill=torch.zeros(1))
    assert result.values.tolist() == [[0, 7, 6]]
    assert result.area.item() == pytest.approx((0 / 2 + 7 + 6 / 2) / 2)


def test_steps_that_do_not_divide_the_pixels():
    result = deletion(Sum(WEIGHTS).eval(), IMAGE, WEIGHTS[None], 0, steps=3, fill=torch.zeros(1))
    assert result.shares.tolist() == [0, 0.25, 0.75, 1]
    assert result.values.tolist() == [[6, 2, -2, 0]]


def test_the_right_order_is_the_best():
    random = torch.Generator().manual_seed(0)
    weights = torch.randn(1, 6, 6, generator=random, dtype=torch.float64)
    images = torch.rand(3, 1, 6, 6, generator=random, dtype=torch.float64)
    net = Sum(weights).eval()
    black = torch.zeros(1)
    right = deletion(net, images, weights * images, 0, fill=black).area
    wrong = deletion(net, images, torch.rand(3, 1, 6, 6, generator=random), 0, fill=black).area
    worst = deletion(net, images, -weights * images, 0, fill=black).area
    assert (right < wrong).all() and (wrong < worst).all()


def test_channels_are_summed_and_ties_are_mixed():
    values = torch.tensor([[[[3.0, 0.0]], [[-4.0, 1.0]]]])
    assert ranks(values).tolist() == [[[1, 0]]]
    flat = ranks(torch.zeros(1, 1, 8, 8))
    assert sorted(flat.flatten().tolist()) == list(range(64)) and flat.flatten().tolist() != list(range(64))
    assert torch.equal(flat, ranks(torch.zeros(1, 1, 8, 8))) and not torch.equal(
        flat, ranks(torch.zeros(1, 1, 8, 8), 1)
    )


def test_the_probability_of_the_predicted_class_is_the_default():
    model, images = small_model(), some_images()
    found = pellucid.gradient_x_input(model, images)
    result = deletion(model, images, found, steps=3)
    probabilities = model(images).softmax(1)
    torch.testing.assert_close(result.values[:, 0], probabilities.max(1).values)
    assert "probability" in result.call.objective
    blank = model(model.mean.expand_as(images).to(images)).softmax(1)
    expected = blank.gather(1, probabilities.argmax(1, keepdim=True))[:, 0]
    torch.testing.assert_close(result.values[:, -1], expected)


@pytest.mark.parametrize("setting", [{"batch_size": 1}, {"batch_size": 7}, {"memory": 20_000}])
def test_the_batch_size_does_not_matter(setting):
    model, images = small_model(), some_images()
    found = pellucid.saliency(model, images)
    expected = insertion(model, images, found, steps=5).values
    with pellucid.settings(**setting):
        torch.testing.assert_close(insertion(model, images, found, steps=5).values, expected)
    rows = torch.cat([insertion(model, images[i : i + 1], found.values[i : i + 1], steps=5).values for i in range(3)])
    torch.testing.assert_close(rows, expected)


@pytest.mark.slow
def test_a_picture_and_numbers(tmp_path):
    model, images = small_model(), some_images(6)
    result = deletion(model, images, pellucid.saliency(model, images), steps=4)
    assert result.frames.shape == (4, 5, 3, 12, 12)
    assert torch.equal(result.frames[:, 0], images[:4])
    assert result.save(tmp_path / "curve.png").stat().st_size > 5_000
    assert result.save(tmp_path / "curve.npz").is_file()
    assert "deletion" in repr(result)


def test_model_and_images_are_untouched():
    model, images = small_model(), some_images()
    before, kept = {k: v.clone() for k, v in model.state_dict().items()}, images.clone()
    deletion(model, images, pellucid.saliency(model, images), steps=4)
    assert torch.equal(images, kept) and all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters()) and not model.training


@pytest.mark.parametrize(
    ("values", "options", "said"),
    [
        (torch.rand(1, 3, 12, 12), {"steps": 0}, "steps is 0, expected"),
        (torch.rand(2, 3, 12, 12), {}, "expected .1, 3, 12, 12. as the images"),
        (torch.rand(1, 1, 6, 6), {}, "bring the map to the size"),
        (torch.full((1, 3, 12, 12), torch.nan), {}, "NaN"),
        (torch.rand(1, 3, 12, 12), {"fill": "blck"}, "blck"),
    ],
)
def test_refused(values, options, said):
    with pytest.raises(ValueError, match=said):
        deletion(small_model(), some_images(1), values, **options)


def test_an_attribution_of_other_images_is_refused():
    model = small_model()
    found = pellucid.saliency(model, some_images(1, seed=5))
    with pytest.raises(ValueError, match="of other images"):
        deletion(model, some_images(1), found)
    with pytest.raises(TypeError, match="expected an Attribution"):
        deletion(model, some_images(1), torch.ones(1, 3, 12, 12).long())
    with pytest.raises(ValueError, match="training mode"):
        deletion(nn.Sequential(nn.Flatten(), nn.Dropout()), some_images(1), torch.rand(1, 3, 12, 12))
