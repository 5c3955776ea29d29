"""One pass: what it keeps, changes, stops at, and leaves behind."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

import pellucid
from pellucid import logit, neuron, run
from pellucid.model.run import ModelError, counted, gradient

from ..nets import small_model, small_net, some_images


class Reused(nn.Module):
    """One ReLU called three times."""

    def __init__(self):
        super().__init__()
        self.relu, self.add = nn.ReLU(), nn.Identity()
        self.eval()

    def forward(self, x):
        return self.relu(self.relu(self.relu(x) - 1) - 1).flatten(1)


def test_reads_what_a_plain_pass_computes():
    net, images = small_net().double(), some_images()
    trace = run(net, images, read=["conv1", "relu2", "fc"])
    torch.testing.assert_close(trace.activations["conv1"], net.conv1(images))
    torch.testing.assert_close(trace.activations["fc"], net(images))
    torch.testing.assert_close(trace.output, net(images))
    assert trace.rows.tolist() == [0, 1, 2]


def test_a_classifier_reads_by_the_names_of_its_network():
    model, images = small_model(), some_images()
    normalized = (images - model.mean) / model.std
    torch.testing.assert_close(run(model, images, read=["conv1"]).activations["conv1"], model.net.conv1(normalized))


def test_what_is_read_is_not_overwritten_in_place():
    net = nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU(inplace=True)).eval()
    images = torch.randn(2, 3, 4, 4)
    kept = run(net, images, read=["0"]).activations["0"]
    assert (kept < 0).any()
    torch.testing.assert_close(kept, net[0](images))


def test_images_are_not_overwritten_by_a_network_that_works_in_place():
    images = torch.randn(2, 3, 4, 4)
    before = images.clone()
    net = nn.Sequential(nn.ReLU(inplace=True), nn.Flatten()).eval()
    run(net, images)
    gradient(net, images, logit(1).bind(net, 2))
    assert torch.equal(images, before)


def test_edits():
    net, images = small_net().double(), some_images()
    doubled = run(net, images, edit={"relu2": lambda a: 2 * a}).output
    bias = net.fc.bias
    torch.testing.assert_close(doubled - bias, 2 * (net(images) - bias))
    fixed = run(net, images, edit={"relu2": torch.zeros(3, 5, 6, 6)}, read=["relu2"])
    torch.testing.assert_close(fixed.output, bias.expand(3, -1))
    assert not fixed.activations["relu2"].any()  # what is read is what flows on


def test_an_edit_may_change_the_number_of_rows():
    net, images = small_net().double(), some_images(1)
    many = run(net, images, edit={"relu2": lambda a: torch.cat([a, 2 * a, 0 * a])}, rows=torch.zeros(3).long())
    assert many.output.shape == (3, 3) and len(many.rows) == 3
    torch.testing.assert_close(many.output[0], net(images)[0])


def test_a_module_called_again_has_a_number():
    net, x = Reused(), torch.tensor([[[[3.0, 1.5]]]])
    kept = run(net, x, read=["relu#1", "relu#2", "relu#3"]).activations
    assert [kept[f"relu#{n}"].flatten().tolist() for n in (1, 2, 3)] == [[3, 1.5], [2, 0.5], [1, 0]]
    with pytest.warns(UserWarning, match="'relu' is called more than once.*relu#2"):
        assert torch.equal(run(net, x, read=["relu"]).activations["relu"], x)
    assert [layer.name for layer in pellucid.layers(net, x)] == ["relu", "relu#2", "relu#3"]
    with pytest.raises(KeyError, match="called fewer times than asked"):
        run(net, x, read=["relu#4"])
    with pytest.raises(KeyError, match="did not call it"):
        run(net, x, read=["add"])
    with pytest.raises(KeyError, match="number of the call"):
        run(net, x, read=["relu#last"])


def test_the_pass_stops_when_nothing_more_is_needed():
    net, images = small_net().double(), some_images()
    later = []
    net.conv2.register_forward_hook(lambda *_: later.append(1))
    trace = run(net, images, read=["relu1", "norm1"], to_output=False)
    assert set(trace.activations) == {"relu1", "norm1"} and trace.output is None and not later


def test_nothing_is_left_behind():
    net = small_net().double()
    for bad in ({"read": ["conv1", "nowhere"]}, {"edit": {"conv1": lambda a: 1 / 0}}, {"edit": {"fc": lambda a: a.no}}):
        with pytest.raises((KeyError, ZeroDivisionError, AttributeError)):
            run(net, some_images(), **bad)
        assert not any(module._forward_hooks for module in net.modules())


def test_hooks_of_the_user_stay_and_are_seen():
    net, images = small_net().double(), some_images()
    net.conv1.register_forward_hook(lambda _m, _i, out: out + 100)
    assert (run(net, images, read=["conv1"]).activations["conv1"] > 50).all()
    assert len(net.conv1._forward_hooks) == 1


def test_tuples_are_read_by_their_first_tensor():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
            self.eval()

        def forward(self, x):
            tokens = x.flatten(2).transpose(1, 2)
            return self.attention(tokens, tokens, tokens)[0].mean(1)

    net, x = Attention(), torch.rand(2, 4, 3, 3)
    assert run(net, x, read=["attention"]).activations["attention"].shape == (2, 9, 4)
    assert not run(net, x, edit={"attention": torch.zeros(2, 9, 4)}).output.any()


@pytest.mark.slow
@pytest.mark.parametrize("wrap", [torch.compile, nn.DataParallel], ids=["compiled", "data parallel"])
def test_wrapped_networks_are_unwrapped(wrap):
    net, images = small_net(), some_images(dtype=torch.float32)
    kept = run(wrap(net), images, read=["conv1"])
    assert torch.equal(kept.activations["conv1"], run(net, images, read=["conv1"]).activations["conv1"])


def test_any_callable_is_a_model():
    weights = torch.rand(3, 2)
    slope, trace = gradient(lambda x: x.mean((2, 3)) @ weights, torch.rand(2, 3, 4, 4), logit(1).bind(abs, 2))
    assert trace.output.shape == (2, 2)
    torch.testing.assert_close(slope, (weights[:, 1] / 16)[None, :, None, None].expand(2, 3, 4, 4))
    with pytest.raises(KeyError, match="has no named layers"):
        run(lambda x: x, torch.rand(1, 1, 2, 2), read=["a"])


def test_gradient_at_a_layer_records_nothing_before_it():
    net, images = small_net().double(), some_images()
    slope, trace = gradient(net, images, logit(2).bind(net, 3), at="relu2")
    assert trace.activations["relu2"].is_leaf
    torch.testing.assert_close(slope, (net.fc.weight[2] / 36)[None, :, None, None].expand(3, 5, 6, 6))
    assert torch.is_grad_enabled()


def test_gradient_at_a_layer_followed_by_an_in_place_function():
    net = nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU(inplace=True), nn.Flatten()).eval()
    images = torch.randn(2, 3, 2, 2)
    slope, trace = gradient(net, images, logit(0).bind(net, 2), at="0")
    expected = torch.zeros(2, 2, 2, 2)
    expected[:, 0, 0, 0] = (net[0](images)[:, 0, 0, 0] > 0).float()
    assert torch.equal(slope, expected)
    torch.testing.assert_close(trace.activations["0"], net[0](images))


def test_an_objective_before_the_layer_has_no_gradient_there():
    net = small_net().double()
    with pytest.raises((ModelError, KeyError)):
        gradient(net, some_images(), neuron("conv1", 0).bind(net, 3), at="relu2")


def test_passes_are_counted_in_nested_blocks():
    net, images = small_net().double(), some_images()
    with counted() as outer:
        run(net, images)
        with counted() as inner:
            gradient(net, images, logit(0).bind(net, 3))
    assert (outer.forward, outer.backward, inner.forward, inner.backward) == (6, 3, 3, 3)


def test_the_networks_own_words_are_kept():
    with pytest.raises(ModelError, match=r"images of shape 1 x 3 x 12 x 12: .*cannot be multiplied"):
        run(nn.Sequential(nn.Flatten(), nn.Linear(5, 2)).eval(), torch.rand(1, 3, 12, 12))
    with pytest.raises(ModelError, match="got 1 channel, the model takes 3 .RGB.: convert with images.expand"):
        run(small_net(), torch.rand(1, 1, 12, 12))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_images_are_moved_to_the_network():
    net, images = small_net().cuda(), some_images(dtype=torch.float32)
    slope, trace = gradient(net, images, logit(0).bind(net, 3))
    assert slope.device.type == "cpu" and trace.output.device.type == "cuda"


@pytest.mark.slow
@pytest.mark.parametrize(
    "wrap", [torch.compile, nn.DataParallel, pellucid.wrap], ids=["compiled", "parallel", "wrapped"]
)
def test_a_wrapped_classifier_still_normalizes(wrap):
    model, images = small_model(dtype=torch.float32), some_images(dtype=torch.float32)
    expected = pellucid.saliency(model, images, "koala" if wrap is not pellucid.wrap else 1)
    found = pellucid.saliency(wrap(model), images, "koala" if wrap is not pellucid.wrap else 1)
    torch.testing.assert_close(found.values, expected.values)
    torch.testing.assert_close(run(wrap(model), images).output, model(images))


def test_threads_do_not_disturb_each_other():
    from concurrent.futures import ThreadPoolExecutor

    net, images = small_net().double(), some_images()
    expected = pellucid.eigen_cam(net, images, 0, layer="relu1").values
    plain = net(images)

    def work(number):
        if number % 2:
            return torch.equal(net(images), plain)
        return torch.equal(pellucid.eigen_cam(net, images, 0, layer="relu1").values, expected)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(60)))


def test_named_tuples_keep_their_kind():
    from typing import NamedTuple

    class Pair(NamedTuple):
        maps: torch.Tensor
        rest: int

    class Named(nn.Module):
        def forward(self, x):
            return Pair(x * 2, 1)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.named = Named()
            self.eval()

        def forward(self, x):
            return self.named(x).maps.flatten(1)

    images = some_images(1)
    assert torch.equal(run(Net(), images, read=["named"]).activations["named"], images * 2)


def test_spellings_of_one_layer():
    net, images = small_net().double(), some_images()
    slope, _ = gradient(net, images, pellucid.channel("relu2#1", 0).bind(net, 3), at="relu2")
    assert slope[:, 0].unique().tolist() == [pytest.approx(1 / 36)] and not slope[:, 1:].any()


def test_networks_that_mix_images_or_have_no_weights_are_refused():
    with pytest.raises(ValueError, match="without running statistics"):
        pellucid.saliency(
            nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False), nn.Flatten()).eval(), torch.rand(2, 3, 2, 2), 0
        )
    with pytest.raises(ValueError, match="lazy module"):
        pellucid.saliency(nn.Sequential(nn.Flatten(), nn.LazyLinear(2)).eval(), torch.rand(2, 3, 2, 2), 0)
    with pytest.raises((KeyError, TypeError), match="TorchScript"):
        with warnings.catch_warnings(action="ignore"):
            script = torch.jit.script(nn.Sequential(nn.ReLU()).eval())
        run(script, torch.rand(1, 3, 2, 2), read=["0"])
