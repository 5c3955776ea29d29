"""What is said of an attack: random networks, masked gradients, wrong ranges, outputs that are no logits."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import pellucid
from pellucid import CATALOGUE
from pellucid.methods.registry import of_kind
from pellucid.model.run import ModelError

from ..nets import some_images
from .nets import small_net_of_all_classes
from .test_every_attack import NAMES, OPTIONS, RIGHT, WITH_GRADIENT, attack

every = pytest.mark.parametrize("name", NAMES)
LONG = [name for name in NAMES if not CATALOGUE[name].traits.from_images]  # the others look first


class Around(nn.Module):
    """The small network, with something done to its images or outputs."""

    def __init__(self, before=None, after=None):
        super().__init__()
        self.net, self.before, self.after = small_net_of_all_classes(), before, after

    def forward(self, x):
        x = self.before(x) if self.before else x
        z = self.net((x - 0.5) / 0.25)
        return self.after(z) if self.after else z


def run_quietly(name, net, labels=RIGHT, images=None, **options):
    """An attack and the first words of its warnings."""
    images = some_images() if images is None else images
    target = {"target": [(label + 1) % 3 for label in labels]} if name == "targeted" else {}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = attack(name, net.eval(), images, labels, **target, **options)
    return result, [str(one.message) for one in caught if issubclass(one.category, UserWarning)]


@every
def test_a_sound_network_gives_no_warning(name):
    _, said = run_quietly(name, Around())
    assert said == []


@every
@pytest.mark.parametrize("source", ["torch", "numpy"])
def test_a_network_that_draws_numbers_is_told(name, source):
    """As a defense by noise or dropout does; the global source betrays it, whatever the attack."""

    def noisy(x):
        if source == "torch":
            return x + 0.3 * torch.randn_like(x)
        return x + 0.3 * torch.from_numpy(np.random.standard_normal(x.shape)).to(x)

    _, said = run_quietly(name, Around(before=noisy))
    assert any("gives other outputs for the same image when asked again: it is random" in text for text in said)


@pytest.mark.parametrize("name", LONG)
def test_a_network_with_a_source_of_its_own_is_told(name):
    source = torch.Generator().manual_seed(0)
    _, said = run_quietly(name, Around(after=lambda z: z + torch.randn(z.shape, generator=source).to(z)))
    assert any("it is random" in text for text in said)


@pytest.mark.parametrize("name", LONG)
def test_randomness_is_told_before_the_work(name):
    """At the second pass: a long run is not waited for."""
    passes = []

    def noisy(x):
        passes.append(len(x))
        return x + 0.3 * torch.randn_like(x)

    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*it is random")
        with pytest.raises(UserWarning, match="it is random"):
            attack(name, Around(before=noisy).eval(), some_images(), RIGHT)
    assert passes == [3, 1]


def test_the_warning_points_to_the_callers_line():
    with pytest.warns(UserWarning, match="it is random") as caught:
        pellucid.pgd(Around(before=lambda x: F.dropout(x, 0.3, training=True)).eval(), some_images(), RIGHT, steps=1)
    assert caught[0].filename == __file__


def test_drawing_for_nothing_is_no_randomness():
    def idle(x):
        torch.rand(3)
        return x

    _, said = run_quietly("fgsm", Around(before=idle))
    assert said == []


def test_the_sources_of_a_random_network_are_left_alone_by_us():
    net = Around().eval()
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    pellucid.pgd(net, some_images(), RIGHT, steps=2)
    assert torch.equal(before[0], torch.get_rng_state()) and before[1] == np.random.get_state()[1].tolist()


@pytest.mark.parametrize("name", WITH_GRADIENT)
def test_a_gradient_of_zero_is_told(name):
    """Rounding with a gradient of zero, so that there is a graph and no way."""
    result, said = run_quietly(name, Around(before=lambda x: 0 * x + x.detach()))
    assert any("the gradient is exactly zero for 3 of 3 images" in text for text in said)
    if name != "auto_attack":  # whose squares find a way
        assert not result.success.any()
    else:
        assert any("squares fool" in text for text in said)


@pytest.mark.parametrize("name", ["fgsm", "pgd", "targeted"])
def test_a_gradient_that_leads_away_is_told(name):
    """The right outputs, and a gradient of the wrong sign. (Auto-PGD keeps its best image, which is the first then.)"""
    _, said = run_quietly(name, Around(before=lambda x: 2 * x.detach() - x), **OPTIONS[name])
    assert any("has left the network more confident about 3 of 3 images than before" in text for text in said), said


def test_an_accuracy_that_cannot_be_is_told():
    """Within 0.5 any image can be made plain gray, which is of one class."""
    net = Around(before=lambda x: 0 * x + x.detach()).eval()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "the gradient is exactly zero")
        with pytest.warns(UserWarning, match="100% of the images are correctly classified at 0.5 in linf.*plain gray"):
            pellucid.robustness(net, some_images(), RIGHT, eps=[0.5], method="fgsm")


@pytest.mark.parametrize("name", WITH_GRADIENT)
def test_a_gradient_that_is_no_number_is_refused(name):
    """The root of an exact zero: a finite value, an infinite slope."""
    net = Around(after=lambda z: z + 0 * (z - z.detach()).abs().sqrt()).eval()
    options = {"target": [0, 1, 2]} if name == "targeted" else {}
    with pytest.raises(ModelError, match=r"the gradient .* is NaN or infinite.*: pellucid.square"):
        attack(name, net, some_images(), RIGHT, **options)


@every
def test_images_divided_by_255_twice_are_told(name):
    images = some_images() / 255
    net = Around(before=lambda x: x * 255).eval()
    seen = net(images).argmax(1)
    options = {"step_size": 0.1 / 255} if name == "targeted" else {}
    _, said = run_quietly(name, net, seen.tolist(), images, **options)
    assert any("nearly black in [0, 1]: were they divided by 255 twice?" in text for text in said)


@every
@pytest.mark.parametrize("after, words", [
    (lambda z: z.softmax(1), "seems to return probabilities"),
    (lambda z: (50 * z).sigmoid(), "values of a sigmoid"),
])  # fmt: skip
def test_outputs_that_are_no_logits_are_told(name, after, words):
    net = Around(after=after).eval()
    seen = net(some_images()).argmax(1)
    _, said = run_quietly(name, net, seen.tolist())
    assert any(words in text and "give the network up to its logits" in text for text in said)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in WITH_GRADIENT])
def test_attacks_without_gradients_take_networks_that_have_none(name):
    """Rounded images: no gradient, but outputs."""
    net = Around(before=lambda x: (x * 32).round() / 32).eval()
    with torch.no_grad():
        seen = net(some_images()).argmax(1)
    result, said = run_quietly(name, net, seen.tolist(), **({"eps": 0.3, "queries": 300} if name == "square" else {}))
    assert result.success.any() and result.call.backward == 0 and said == []


def test_the_catalogue_is_all_here():
    assert set(LONG) < set(NAMES) == set(of_kind("attack"))
