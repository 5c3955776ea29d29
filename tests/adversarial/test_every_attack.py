"""Every attack of the catalogue keeps the same promises."""

from __future__ import annotations

import copy
import inspect
import json
from typing import get_args

import numpy as np
import pytest
import torch
from torch import nn

import pellucid
from pellucid import CATALOGUE
from pellucid.adversarial import Attack
from pellucid.methods.registry import of_kind
from pellucid.model.run import ModelError, counted

from ..nets import LABELS, some_images
from .nets import small_model, small_net_of_all_classes

# What makes an attack quick enough here. A new attack is in every test at once; it needs a row only if it is slow.
OPTIONS: dict[str, dict[str, object]] = {
    "auto_attack": {"eps": 0.05, "budget": 0.03},
    "apgd": {"eps": 0.05, "steps": 8},
    "carlini_wagner": {"steps": 20, "searches": 2},
    "deepfool": {"steps": 20},
    "fab": {"steps": 6},
    "fgsm": {"eps": 0.05},
    "hop_skip_jump": {"steps": 2, "directions": 20},
    "pgd": {"eps": 0.05, "steps": 5},
    "square": {"eps": 0.1, "queries": 30},
    "targeted": {"step_size": 0.2, "steps": 200},
}
NAMES = sorted(of_kind("attack"))
WITH_GRADIENT = [name for name in NAMES if CATALOGUE[name].traits.gradient]
AIMED = [name for name in NAMES if CATALOGUE[name].traits.target == "required"]
BUDGETED = [name for name in NAMES if "eps" in CATALOGUE[name].options]
RIGHT = [2, 0, 1]  # what the small network sees in three images, so that all are attacked

every = pytest.mark.parametrize("name", NAMES)
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*are seen as the target already"),
    pytest.mark.filterwarnings("ignore:squares fool"),
]


def attack(name, model, images, labels=None, **options):
    options = {**OPTIONS.get(name, {}), **options}
    if name in AIMED and "target" not in options:
        seen = pellucid.run(model, images).output.argmax(1)
        options["target"] = ((seen if labels is None else torch.as_tensor(labels)) + 1) % 3
    return CATALOGUE[name].function(model, images, labels, **options)


def state(model):
    return (
        {key: (value.clone(), value._version) for key, value in model.state_dict().items()},
        [module.training for module in model.modules()],
        [(len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks)) for m in model.modules()],
        [(p.requires_grad, p.grad) for p in model.parameters()],
        torch.is_grad_enabled(),
        torch.get_rng_state().tolist(),
        np.random.get_state()[1].tolist(),
    )


def same(before, after):
    assert all(torch.equal(v, after[0][k][0]) and n == after[0][k][1] for k, (v, n) in before[0].items())
    assert before[1:] == after[1:]


@every
def test_what_comes_back(name):
    model, images = small_model(), some_images(6)
    result = attack(name, model, images)
    assert isinstance(result, Attack)
    assert result.images.shape == images.shape and result.images.dtype == images.dtype
    assert result.images.min() >= 0 and result.images.max() <= 1 and not result.images.requires_grad
    assert torch.equal(result.originals, images)
    outputs = pellucid.run(model, images).output
    assert torch.equal(result.before, outputs.argmax(1)) and torch.equal(result.labels, result.before)
    attacked = pellucid.run(model, result.images).output.argmax(1)
    assert torch.equal(result.after, attacked)
    wanted = attacked == result.targets if result.targets is not None else attacked != result.labels
    assert torch.equal(result.success, wanted & ~result.misclassified)
    assert result.success.any(), "nothing was fooled: this test says little"
    assert result.call.method == name and result.call.forward > 0 and result.seed == 0
    assert result.confidence_after.min() > 1 / 3 - 1e-6


@every
def test_passes_are_counted(name):
    """By a hook on the network: what the record says is what the network saw."""
    model, images, seen = small_model(), some_images(4), []
    model.net.register_forward_hook(lambda module, inputs, output: seen.append(len(inputs[0])))
    with counted() as passes:
        result = attack(name, model, images)
    extra = 4 if name in AIMED else 0  # this file's own look
    assert result.call.forward == sum(seen) - extra == passes.forward - extra
    assert result.call.backward == passes.backward
    assert (result.call.backward > 0) == (name in WITH_GRADIENT)
    assert (
        0 <= result.call.forward - result.queries.sum() <= 4 + 1
    )  # the look that confirms, and one image twice: is the network random?


@every
def test_same_call_same_bits_and_another_seed_is_allowed(name):
    model, images = small_model(), some_images()
    first = attack(name, model, images).images
    torch.manual_seed(99)
    assert torch.equal(first, attack(name, model, images).images)
    assert attack(name, model, images, seed=7).seed == 7


@every
def test_a_batch_is_its_rows(name):
    model, images = small_model(), some_images(4)
    whole = attack(name, model, images)
    for row in range(4):
        alone = attack(name, model, images[row : row + 1])
        torch.testing.assert_close(alone.images, whole.images[row : row + 1], rtol=1e-7, atol=1e-9)
        assert alone.queries.item() == whole.queries[row].item()
    with pellucid.settings(batch_size=3):
        torch.testing.assert_close(attack(name, model, images).images, whole.images, rtol=1e-7, atol=1e-9)


@every
def test_model_and_images_are_untouched(name):
    model, images = small_model(), some_images()
    kept, before = images.clone(), state(model)
    attack(name, model, images)
    same(before, state(model))
    assert torch.equal(images, kept) and not images.requires_grad


@every
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_the_model_is_untouched_after_an_exception(name, error):
    class Failing(nn.Module):
        """Fails at the third pass."""

        passes = 0

        def forward(self, x):
            self.__class__.passes += 1
            if self.__class__.passes == 3:
                raise error("stop")
            return x.flatten(1)

    net = small_net_of_all_classes()
    net.flatten = Failing().eval()
    model = pellucid.wrap(net, mean=[0.5] * 3, std=[0.25] * 3, size=12)
    Failing.passes = 2 if CATALOGUE[name].traits.from_images else 0
    before = state(model)
    with pytest.raises(ModelError if error is RuntimeError else error):
        attack(name, model, some_images(), RIGHT)
    same(before, state(model))


@every
def test_parameters_get_no_gradient(name):
    model = small_model()

    def refuse(_):
        raise AssertionError("a parameter gradient was computed")

    handles = [p.register_hook(refuse) for p in model.parameters()]
    attack(name, model, some_images())
    assert handles and all(p.grad is None for p in model.parameters())


@every
def test_misclassified_images_are_counted_apart(name):
    model, images = small_model(), some_images(4)
    labels = pellucid.run(model, images).output.argmax(1)
    labels[1] = (labels[1] + 1) % 3
    options = {"target": (labels + 2) % 3} if name in AIMED else {}
    result = attack(name, model, images, labels, **options)
    if name in AIMED:  # for which it matters only what an image is seen as already
        expected = result.before == result.targets
    else:
        expected = torch.tensor([False, True, False, False])
    assert torch.equal(result.misclassified, expected)
    assert not result.success[expected].any() and torch.equal(result.images[expected], images[expected])
    assert result.accuracy == 0.75 and result.robust_accuracy <= 0.75


@every
def test_all_misclassified(name):
    model, images = small_model(), some_images()
    seen = pellucid.run(model, images).output.argmax(1)
    options = {"target": seen} if name in AIMED else {}
    with pytest.warns(UserWarning, match="all of 3 images are .* before any attack: nothing was done"):
        result = attack(name, model, images, (seen + 1) % 3, **options)
    assert torch.equal(result.images, images) and np.isnan(result.success_rate) and not result.success.any()


@every
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_other_types(name, dtype):
    model = small_model(dtype=torch.float32)
    images = some_images(dtype=dtype)
    result = attack(name, model, images)
    assert result.images.dtype == dtype and result.success.any()
    if name in BUDGETED:
        assert (result.distance(result.call.options["norm"]) <= OPTIONS[name]["eps"]).all()


@pytest.mark.parametrize("name", BUDGETED)
@pytest.mark.parametrize("norm, eps", [("linf", 0.05), ("l2", 0.7), ("l1", 8.0)])
def test_the_budget_is_used_and_kept(name, norm, eps):
    if norm not in get_args(CATALOGUE[name].option_types["norm"]):
        with pytest.raises(TypeError, match=f"norm is '{norm}'"):
            attack(name, small_model(), some_images(), norm=norm, eps=eps)
        return
    result = attack(name, small_model(), some_images(6), norm=norm, eps=eps)
    moved = result.distance(norm)
    assert (moved <= eps).all() and moved.max() > 0.5 * eps


@every
def test_a_bare_network_with_bounds(name):
    model, images = small_model(), some_images()
    bare = attack(name, model.net, (images - 0.5) / 0.25, bounds=(-2, 2), **_scaled(name, 4))
    wrapped = attack(name, model, images)
    if not CATALOGUE[name].traits.steps_in_pixels:
        torch.testing.assert_close(bare.images * 0.25 + 0.5, wrapped.images, rtol=1e-5, atol=1e-5)
    assert bare.images.min() >= -2 and bare.images.max() <= 2


def _scaled(name, factor):
    given = OPTIONS.get(name, {})
    return {key: factor * given[key] for key in ("eps", "step_size") if key in given}


@every
def test_targets(name):
    entry, model, images = CATALOGUE[name], small_model(), some_images(6)
    if "target" not in entry.options:
        with pytest.raises(TypeError, match=f"{name} has no option 'target'"):
            attack(name, model, images, target=1)
        return
    with pytest.warns(UserWarning, match="are seen as the target already: they stay as they are"):
        result = attack(name, model, images, target="castle", **({"eps": 0.3} if name in BUDGETED else {}))
    assert (result.targets == 0).all() and (result.after[result.success] == 0).all() and result.success.any()
    assert "to castle" in str(result.call)


@every
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_finished_images_are_kept(name, dtype, tmp_path):
    model, images = small_model(torch.float32), some_images(4, dtype=dtype)
    options = {"target": 1} if "target" in CATALOGUE[name].options else {}
    plain = attack(name, model, images, **options)
    kept = attack(name, model, images, **options, folder=tmp_path / "run")
    with counted() as passes:
        again = attack(name, model, images, **options, folder=tmp_path / "run")
    assert passes.forward == 0 and again.call.forward == kept.call.forward == plain.call.forward
    for field, value in plain.tensors().items():
        assert torch.equal(value, getattr(again, field, value)) and torch.equal(value, getattr(kept, field, value)), (
            field
        )
    assert again.images.dtype == dtype and str(again.call) == str(plain.call)
    with pytest.raises(pellucid.runfolder.OtherRun, match="seed was 0, is now 1"):
        attack(name, model, images, **options, folder=tmp_path / "run", seed=1)


@every
def test_bad_input(name):
    model, images = small_model(), some_images()
    options = {"target": 1} if name in AIMED else {}

    def refuses(kind, words, images=images, labels=None, model=model, **more):
        with pytest.raises(kind, match=words):
            attack(name, model, images, labels, **{**options, **more})

    refuses(ValueError, r"images have values from .* expected \[0, 1\]", images=images + 0.5)
    refuses(ValueError, "pellucid.wrap", images=images - 0.5, model=model.net)
    refuses(ValueError, "divide by 255", images=images * 255)
    refuses(TypeError, "divide by 255", images=(images * 255).byte())
    refuses(ValueError, "NaN", images=images / 0)
    refuses(ValueError, "got 1 channel", images=images[:, :1])
    refuses(ValueError, "out of range: the network has 3 classes", labels=7)
    refuses(ValueError, "out of range|below 0", labels=-1)
    refuses(ValueError, "out of range|below 0", labels=[0, -1, 1])
    refuses(KeyError, "near it: castle", labels="castel")
    refuses(ValueError, "2 classes for 3 images", labels=[0, 1])
    refuses(TypeError, "expected whole numbers", labels=torch.rand(3))
    refuses(TypeError, "has no option 'epsilon'", epsilon=1)
    refuses(TypeError, "seed is 'a'", seed="a")
    refuses(ValueError, "takes pixels in", bounds=(0, 255))
    refuses(ValueError, "training mode", model=copy.deepcopy(model).train())
    if name in BUDGETED:
        refuses(ValueError, "eps is 0, expected a budget above 0", eps=0)
        refuses(ValueError, "eps is 0, expected a budget above 0", eps=0.0)
        refuses(ValueError, "for 8 steps of 255 say 8/255", eps=8)
        refuses(ValueError, "eps is nan", eps=float("nan"))
        refuses(ValueError, "in l2 any image lies within", eps=1000.0, norm="l2")
        refuses(TypeError, "norm is 'inf'", norm="inf")
    if "target" in CATALOGUE[name].options:
        refuses(ValueError, "the target is the label of every image", labels=1, target=1)
        refuses(ValueError, "target 7 is out of range", target=7)


@every
def test_networks_that_cannot_be_attacked(name):
    images, options = some_images(), {"target": 1} if name in AIMED else {}

    class Odd(nn.Module):
        def __init__(self, what):
            super().__init__()
            self.what, self.net = what, small_net_of_all_classes()

        def forward(self, x):
            return self.what(self.net(x))

    def refuses(what, words, kind=ValueError):
        with pytest.raises(kind, match=words):
            attack(name, Odd(what).eval(), images, RIGHT, **options)

    refuses(lambda z: z[:, :1], "has a single output")
    refuses(lambda z: {"out": z}, "returns a dict")
    refuses(lambda z: z / 0 * 0, "NaN or infinity", ModelError)
    if name in WITH_GRADIENT:
        refuses(lambda z: z.detach(), "pellucid.square", ModelError)


@every
def test_probabilities_are_told_from_logits(name):
    net = nn.Sequential(small_net_of_all_classes(), nn.Softmax(1)).eval()
    with pytest.warns(UserWarning, match="seems to return probabilities"):
        attack(name, net, some_images(), RIGHT)


@pytest.mark.slow
@every
def test_saving_showing_and_telling(name, tmp_path):
    model, images = small_model(), some_images()
    result = attack(name, model, images)
    assert repr(result).startswith(f"Attack({int(result.success.sum())} of 3 fooled") and "small" in repr(result)
    assert result.save(tmp_path / "attack.png").stat().st_size > 1000
    with np.load(result.save(tmp_path / "attack.npz")) as file:
        assert np.array_equal(file["images"], result.images.numpy())
        assert np.allclose(file["distance_l2"], result.distance("l2").numpy())
        assert json.loads(str(file["call"]))["options"]["seed"] == 0


@every
def test_its_documentation(name):
    function = CATALOGUE[name].function
    text = inspect.getdoc(function)
    for word in ("Args:", "Returns:", "Raises:", ">>>"):
        assert word in text
    for option in CATALOGUE[name].options:
        assert f"    {option}" in text or f", {option}" in text, option
    assert CATALOGUE[name].paper and list(inspect.signature(function).parameters)[:3] == ["model", "images", "labels"]
    assert getattr(pellucid, name) is function


def test_hop_skip_jump_from_a_start():
    model, images = small_model(), some_images(6)
    seen = pellucid.run(model, images).output.argmax(1)
    other = images[(seen != seen[0]).nonzero()[0]]
    target = int(seen[(seen != seen[0]).nonzero()[0]])
    result = pellucid.hop_skip_jump(model, images[:1], target=target, starts=other, steps=3, directions=20)
    assert result.success.item() and result.after.item() == target
    assert result.distance("l2") < torch.linalg.vector_norm(other - images[:1])
    with pytest.raises(ValueError, match="starts has the shape"):
        pellucid.hop_skip_jump(model, images[:1], starts=other[:, :, :4])


@pytest.mark.parametrize("name", ["square", "hop_skip_jump"])
def test_a_function_that_is_no_torch_module(name):
    model, images = small_model(), some_images()

    def asked(x):
        return torch.from_numpy(model(x).detach().numpy())

    expected = attack(name, model, images)
    assert torch.equal(attack(name, asked, images).images, expected.images)
    with pytest.raises(ModelError, match="pellucid.hop_skip_jump"):
        attack("pgd", asked, images)


def test_a_target_is_needed():
    with pytest.raises(TypeError, match="targeted needs a target"):
        pellucid.targeted(small_model(), some_images())


def test_labels_by_word_number_and_tensor():
    model, images = small_model(), some_images()
    seen = pellucid.run(model, images).output.argmax(1)
    expected = pellucid.fgsm(model, images, seen).images
    for labels in (None, seen.numpy(), seen.tolist(), [LABELS[i] for i in seen.tolist()]):
        assert torch.equal(pellucid.fgsm(model, images, labels).images, expected)


def test_the_figure_needs_something_to_show():
    result = pellucid.fgsm(small_model(), some_images(), eps=1e-6)
    assert not result.success.any()
    with pytest.raises(ValueError, match="nothing to show"):
        result.figure(successes=True)
    with pytest.raises(ValueError, match="norm is 'l3'"):
        result.distance("l3")
