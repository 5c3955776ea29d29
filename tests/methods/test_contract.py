"""Every method of the catalogue keeps the same promises."""

from __future__ import annotations

import inspect
import random

import numpy as np
import pytest
import torch
from torch import nn

import pellucid
from pellucid import CATALOGUE, neuron, probability
from pellucid.methods.registry import of_kind
from pellucid.model.run import ModelError, counted

from ..nets import LABELS, Styles, small_model, small_net, some_images

# What makes a method quick enough here. A new method is in every test at once; it needs a row only if it is slow.
OPTIONS: dict[str, dict[str, object]] = {
    "expected_gradients": {"samples": 4},
    "integrated_gradients": {"steps": 4},
    "occlusion": {"window": 4, "stride": 2},
    "rise": {"samples": 6, "grid": 3},
    "smoothgrad": {"samples": 4},
}

every = pytest.mark.parametrize("name", sorted(of_kind("attribution")))


def explain(name, model, images, objective=0, **options):
    return CATALOGUE[name].function(model, images, objective, **OPTIONS.get(name, {}), **options)


def state(model):
    """Everything about a model that a method could leave changed."""
    return (
        {key: value.clone() for key, value in model.state_dict().items()},
        {key: (value._version, value.data_ptr()) for key, value in model.state_dict().items()},
        [module.training for module in model.modules()],
        [(len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks)) for m in model.modules()],
        [(p.requires_grad, p.grad) for p in model.parameters()],
        [dict(vars(m), **dict.fromkeys(("_parameters", "_buffers", "_modules"))).keys() for m in model.modules()],
        torch.is_grad_enabled(),
        torch.get_rng_state().tolist(),
        random.getstate(),
        np.random.get_state()[1].tolist(),
    )


def same(before, after):
    assert all(torch.equal(value, after[0][key]) for key, value in before[0].items())
    assert before[1:] == after[1:]


@every
def test_shape_and_range(name):
    images = some_images()
    result = explain(name, small_model(), images)
    assert result.values.shape[0] == 3 and result.values.shape[2:] == images.shape[2:]
    assert result.values.shape[1] in (1, 3)
    assert result.values.dtype == images.dtype and result.values.device == images.device
    assert result.values.isfinite().all() and result.values.abs().sum() > 0
    assert not result.values.requires_grad
    assert torch.equal(result.images, images)


@every
def test_same_call_same_bits(name):
    model, images = small_model(), some_images()
    first = explain(name, model, images).values
    torch.manual_seed(99)
    assert torch.equal(first, explain(name, model, images).values)


@every
def test_a_batch_is_its_rows(name):
    model, images = small_model(), some_images()
    whole = explain(name, model, images, [0, 1, 2]).values
    for row in range(3):
        alone = explain(name, model, images[row : row + 1], row).values
        torch.testing.assert_close(alone, whole[row : row + 1], rtol=1e-9, atol=1e-12)


@every
@pytest.mark.parametrize("setting", [{"batch_size": 1}, {"batch_size": 5}, {"memory": 20_000}])
def test_the_batch_size_does_not_matter(name, setting):
    model, images = small_model(), some_images()
    expected = explain(name, model, images).values
    with pellucid.settings(**setting):
        found = explain(name, model, images).values
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


@every
def test_model_and_images_are_untouched(name):
    model, images = small_model(), some_images()
    kept = images.clone()
    before = state(model)
    explain(name, model, images, None)
    same(before, state(model))
    assert torch.equal(images, kept) and not images.requires_grad and images.grad is None


@every
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_the_model_is_untouched_after_an_exception(name, error):
    class Failing(nn.Module):
        """Fails when asked to."""

        def __init__(self):
            super().__init__()
            self.fail = False

        def forward(self, x):
            if self.fail:
                raise error("stop")
            return x.flatten(1)

    net = small_net().double()
    net.flatten = Failing().eval()
    model = pellucid.wrap(net, mean=[0.5] * 3, std=[0.2] * 3, size=12)
    before = state(model)
    if CATALOGUE[name].traits.objective:  # which never comes that far
        net.flatten.fail = True
        with pytest.raises(ModelError if error is RuntimeError else error):
            explain(name, model, some_images())
        net.flatten.fail = False
        same(before, state(model))


@every
def test_parameters_get_no_gradient(name):
    model = small_model()

    def refuse(_):
        raise AssertionError("a parameter gradient was computed")

    handles = [p.register_hook(refuse) for p in model.parameters()]
    explain(name, model, some_images())
    assert handles and all(p.grad is None for p in model.parameters())


@every
def test_a_pass_stops_at_the_last_layer_read(name):
    if CATALOGUE[name].traits.logits_only:
        pytest.skip("defined for logits alone")
    net = small_net().double()

    class Beyond(nn.Module):
        def forward(self, x):
            raise AssertionError("the pass went on")

    whole = explain(name, net, some_images(), neuron("relu2", 4), **layer_of(name, "relu1")).values
    net.pool2 = Beyond().eval()
    images = some_images()
    stopped = explain(name, net, images, neuron("relu2", 4), **layer_of(name, "relu1")).values
    assert torch.equal(whole, stopped)


def layer_of(name, layer):
    return {"layer": layer} if "layer" in CATALOGUE[name].options else {}


@every
def test_passes_are_counted(name):
    net = small_net().double()
    seen = [0]
    net.conv1.register_forward_hook(lambda _m, inputs, _o: seen.__setitem__(0, seen[0] + len(inputs[0])))
    pellucid.layers(net, some_images(1))
    explain(name, net, some_images())  # finds the default layer
    seen[0] = 0
    with counted() as passes:
        result = explain(name, net, some_images())
    assert (result.call.forward, result.call.backward) == (passes.forward, passes.backward)
    assert seen[0] == passes.forward > 0
    assert (passes.backward == 0) == (not CATALOGUE[name].traits.gradient)


@every
def test_its_traits_are_true(name):
    """What pages, tests and benchmarks are told of a method, beside what it does."""
    traits, model, images = CATALOGUE[name].traits, small_model(), some_images()
    one, other = explain(name, model, images, 0), explain(name, model, images, 1)
    assert torch.equal(one.values, other.values) == (not traits.objective)
    assert (one.call.backward > 0) == traits.gradient
    assert (one.maps is not None) == traits.layer_map <= ("layer" in CATALOGUE[name].options)
    assert not traits.one_pass or other.call.forward <= 2 * len(images)  # the first call finds the default layer
    try:
        explain(name, model, images, probability(0))
    except ValueError:
        assert traits.logits_only
    else:
        assert not traits.logits_only


@every
def test_the_predicted_class_is_that_of_the_original_image(name):
    model = small_model()
    images = torch.cat([some_images(3), some_images(3) ** 4, some_images(3) ** 0.2])
    predicted = model(images).argmax(1)
    assert len(predicted.unique()) > 1
    found = explain(name, model, images, None)
    torch.testing.assert_close(found.values, explain(name, model, images, predicted).values, rtol=1e-9, atol=1e-12)
    if CATALOGUE[name].traits.objective:
        assert LABELS[int(predicted[0])] in found.call.objective


@every
@pytest.mark.parametrize(
    "objective",
    [
        "castle",
        probability("koala"),
        pellucid.log_probability(2),
        pellucid.contrast("koala", "castle"),
        neuron("fc", 1),
        pellucid.channel("conv2", 3),
        pellucid.layer("relu2"),
        pellucid.direction("relu2", [1.0, 2, 3, 4, 5]),
        "conv2:3",
        lambda output: output[:, 1] - output.logsumexp(1),
        2 * pellucid.logit() - 0.5,
    ],
    ids=lambda o: "function" if callable(o) else str(o),
)
def test_any_objective(name, objective):
    nonlinear = not isinstance(objective, str) and ("proba" in str(objective) or callable(objective))
    hidden = "conv2" in str(objective) or "relu2" in str(objective)
    if CATALOGUE[name].traits.logits_only and (nonlinear or hidden):
        pytest.skip("defined for logits alone")
    result = explain(name, small_model(), some_images(2), objective, **layer_of(name, "relu1" if hidden else "relu2"))
    assert result.values.isfinite().all()


@every
@pytest.mark.parametrize("style", ["module", "function", "in place"])
def test_the_style_of_the_code_does_not_matter(name, style):
    net, images = small_net().double(), some_images()
    options = layer_of(name, "conv2")
    if CATALOGUE[name].traits.logits_only and style != "module":
        options = {}
    expected = explain(name, net, images, **options).values
    found = explain(name, Styles(net, style), images, **options).values
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


@every
def test_inside_no_grad_and_inference_mode(name):
    model, images = small_model(), some_images()
    expected = explain(name, model, images).values
    with torch.no_grad():
        assert torch.equal(explain(name, model, images).values, expected)
    with torch.inference_mode():
        assert torch.equal(explain(name, model, images.clone()).values, expected)


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_other_types(name, dtype):
    exact = explain(name, small_model(), some_images(2).to(dtype).double(), 1, **layer_of(name, "relu2")).values
    model, images = small_model(dtype=dtype), some_images(2).to(dtype)
    if CATALOGUE[name].traits.logits_only and dtype != torch.float32:
        pytest.skip("half precision cannot tell whether the head is linear")
    found = explain(name, model, images, 1, **layer_of(name, "relu2"))
    assert found.values.dtype == dtype
    agreement = torch.corrcoef(torch.stack([exact.flatten(), found.values.double().flatten()]))[0, 1]
    assert agreement > (0.999 if dtype == torch.float32 else 0.8)
    # Images of another type than the network's are brought to it.
    assert explain(name, small_model(dtype=torch.float32), images, 1, **layer_of(name, "relu2")).values.dtype == dtype


BAD = {
    "one channel": (lambda x: x[:, :1], ValueError, "got 1 channel, the model takes 3 .RGB.: convert with"),
    "channels last": (lambda x: x.permute(0, 2, 3, 1), ValueError, "permute"),
    "no batch": (lambda x: x[0], ValueError, r"images\[None\]"),
    "empty": (lambda x: x[:0], ValueError, "empty"),
    "whole numbers": (lambda x: (x * 255).to(torch.uint8), TypeError, "divide by 255"),
    "NaN": (lambda x: x.where(torch.arange(3)[:, None, None, None] != 1, torch.nan), ValueError, "image 1 .* NaN"),
    "0 to 255": (lambda x: x * 255, ValueError, r"expected \[0, 1\]: divide by 255"),
    "normalized": (lambda x: x * 6 - 3, ValueError, "look normalized already"),
    "an array": (lambda x: x.numpy(), TypeError, "torch.from_numpy"),
}


@every
@pytest.mark.parametrize("case", BAD)
def test_bad_images(name, case):
    spoil, error, words = BAD[case]
    with pytest.raises(error, match=words):
        explain(name, small_model(), spoil(some_images()))


@every
def test_bad_objectives(name):
    model, images = small_model(), some_images()
    with pytest.raises(KeyError, match="no label 'castel'; near it: castle"):
        explain(name, model, images, "castel")
    with pytest.raises(KeyError, match="no layer 'relu9'; near it: relu"):
        explain(name, model, images, neuron("relu9", 1))
    with pytest.raises(ValueError, match="2 classes for 3 images"):
        explain(name, model, images, [0, 1])
    with pytest.raises(TypeError, match="expected a class index or label"):
        explain(name, model, images, 2.5)
    if CATALOGUE[name].traits.objective:  # which does not look at the objective
        with pytest.raises(ValueError, match="class 3 is out of range: the network has 3 classes, 0 to 2"):
            explain(name, model, images, 3)


@every
def test_bad_networks(name):
    images = some_images()
    with pytest.raises(ValueError, match="training mode.*eval"):
        explain(name, small_net().double().train(), images)
    broken = small_net().double()
    with torch.no_grad():
        broken.conv1.weight[0, 0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match=r"NaN.*conv1\.weight"):
        explain(name, broken, images, **layer_of(name, "relu2"))
    with pytest.raises(ModelError, match=r"\d x 3 x 1 x 1: .*too small"):
        CATALOGUE[name].function(small_net().double(), torch.rand(3, 3, 1, 1).double(), 0, **layer_of(name, "relu2"))


@every
def test_outputs_that_are_not_class_lists(name):
    if not CATALOGUE[name].traits.objective:
        pytest.skip("does not look at the output")

    class Wrapped(nn.Module):
        def __init__(self, wrap):
            super().__init__()
            self.net, self.wrap = small_net().double(), wrap
            self.eval()

        def forward(self, x):
            return self.wrap(self.net(x))

    images = some_images()
    expected = explain(name, small_net().double(), images, 1, **layer_of(name, "relu2")).values
    options = layer_of(name, "net.relu2")
    for wrap, unwrap in (
        (lambda y: (y, 0), lambda out: out[0][:, 1]),
        (lambda y: {"out": y}, lambda out: out["out"][:, 1]),
        (lambda y: y[..., None, None], lambda out: out[:, 1, 0, 0]),
    ):
        with pytest.raises(ValueError, match="the network returns .* function of the output"):
            explain(name, Wrapped(wrap), images, 1, **options)
        assert torch.equal(explain(name, Wrapped(wrap), images, unwrap, **options).values, expected)


@every
def test_no_gradient_path(name):
    if not CATALOGUE[name].traits.gradient:
        pytest.skip("takes no gradient")
    with pytest.raises(ModelError, match="no gradient from the objective back to"):
        explain(name, small_net().double(), some_images(), lambda output: output.argmax(1).double())


@every
def test_unknown_options(name):
    with pytest.raises(TypeError, match=f"{name} has no option 'sedd'"):
        explain(name, small_model(), some_images(), sedd=1)
    if "layer" in CATALOGUE[name].options:
        with pytest.raises(KeyError, match="no layer 'relu9'; near it: relu"):
            explain(name, small_model(), some_images(), layer="relu9")


@every
def test_documented(name):
    entry = CATALOGUE[name]
    text = inspect.getdoc(entry.function)
    for part in ("Args:", "Returns:", "Raises:", ">>> ", "N x "):
        assert part in text, part
    for option in entry.options:
        assert option in text, option
    assert any(character.isdigit() for character in entry.paper) and entry.summary.endswith(".")
    assert getattr(pellucid, name) is entry.function


@pytest.mark.slow
@every
def test_shown_and_saved(name, tmp_path):
    result = explain(name, small_model(), some_images(2))
    for suffix in ("png", "svg", "pdf", "npz"):
        path = result.save(tmp_path / f"map.{suffix}")
        assert path.stat().st_size > 0
    stored = np.load(tmp_path / "map.npz")
    np.testing.assert_array_equal(stored["values"], result.values.numpy())
    assert result.call.method == name and name in str(stored["call"])
    assert result._repr_png_().startswith(b"\x89PNG")
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".npz", ".pdf", ".png", ".svg"]


def test_a_method_that_breaks_a_promise_is_noticed():
    """The checks above can fail: a model that is changed, for one."""
    model = small_model()
    before = state(model)
    model.net.conv1.register_forward_hook(lambda *_: None)
    with pytest.raises(AssertionError):
        same(before, state(model))
