"""Which call a rule is for: by kind, number, layer, function, depth, or because it sees the image."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import pellucid
from pellucid.checks import UnknownName
from pellucid.rules import (
    EPSILON_GAMMA_BOX,
    RuleError,
    by_depth,
    epsilon,
    flat,
    gamma,
    norm,
    pass_through,
    w_square,
    z_box,
    z_plus,
    zero,
)

from .nets import EXACT, Net, close, image, shares

ONE, TWO, THREE, ZERO = gamma(0.3), gamma(1.0), z_plus(), zero()


class Three(nn.Module):
    """Three convolutions, the last two in a block, then a dense layer."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 4, 3)
        self.block = nn.Sequential(nn.Conv2d(4, 4, 2), nn.ReLU(), nn.Conv2d(4, 5, 2), nn.ReLU())
        self.fc = nn.Linear(5, 2)
        self.double().eval()

    def forward(self, x):
        x = self.block(self.stem(x).relu())
        return F.linear(x.mean((2, 3)), self.fc.weight, self.fc.bias)


X = image(2, 3, 7, 7)


def given(stem, first, second, dense=ZERO):
    return shares(Three(), X, {**EXACT, "stem": stem, "block.0": first, "block.2": second, "fc": dense})


def asked(rules, **options):
    return shares(Three(), X, {**EXACT, **rules}, **options)


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ({"conv": ONE}, (ONE, ONE, ONE)),
        ({"conv#2": ONE}, (zero(), ONE, zero())),
        ({"conv#2-3": ONE}, (zero(), ONE, ONE)),
        ({"conv": ONE, "conv#1-2": TWO}, (TWO, TWO, ONE)),
        ({"conv#1-2": TWO, "conv": ONE}, (ONE, ONE, ONE)),
        ({"conv": ONE, "first": TWO}, (TWO, ONE, ONE)),
        ({"block": ONE}, (zero(), ONE, ONE)),
        ({"block": ONE, "block.2": TWO}, (zero(), ONE, TWO)),
        ({"block.[02]": ONE}, (zero(), ONE, ONE)),
        ({"*": ONE}, (ONE, ONE, ONE, ONE)),
        ({F.conv2d: ONE}, (ONE, ONE, ONE)),
        ({F.conv2d: ONE, F.linear: TWO}, (ONE, ONE, ONE, TWO)),
        ({"fc": ONE}, (zero(), zero(), zero(), ONE)),  # its weight is used by a function
        ({"linear": ONE}, (zero(), zero(), zero(), ONE)),
        ({"linear#1": ONE}, (zero(), zero(), zero(), ONE)),
        ({"conv": by_depth(ONE, TWO, THREE)}, (ONE, TWO, THREE)),
        ({"conv": by_depth(ONE, TWO)}, (ONE, ONE, TWO)),
        ({"conv": by_depth(ONE)}, (ONE, ONE, ONE)),
        ({"conv": by_depth(ONE, TWO, THREE), "block.0": epsilon(0.1)}, (ONE, epsilon(0.1), THREE)),
    ],
    ids=lambda value: re.sub(r" (of|at) [^>]*>", ">", str(value)),
)
def test_whom_a_key_means(rules, expected):
    close(asked(rules), given(*expected))
    assert not torch.allclose(asked(rules), given(zero(), zero(), zero()))


def test_a_module_that_is_called_again():
    c = nn.Conv2d(3, 3, 3, padding=1)
    net = Net(lambda net, x: net.c(net.c(net.c(x).relu()).relu()).mean((2, 3)), c=c)
    for number in (1, 2, 3):
        close(shares(net, X, {**EXACT, f"c#{number}": ONE}), shares(net, X, {**EXACT, f"conv#{number}": ONE}))
    close(shares(net, X, {**EXACT, "c#2-3": ONE}), shares(net, X, {**EXACT, "conv#2-3": ONE}))


def test_kinds_without_weights():
    net = Net(lambda net, x: (x.tanh() + x.sigmoid()).mean((2, 3)))
    plain = shares(net, X, {})
    for key, rule in (
        ("activation", pass_through()),
        ("sum", norm(0.5)),
        ("average", norm(0.5)),
        (torch.mean, norm(1)),
    ):
        if key is not torch.mean:
            assert not torch.allclose(shares(net, X, {key: rule}), plain)
    by_number = shares(net, X, {"activation#1": pass_through(), "activation#2": pass_through()})
    close(by_number, shares(net, X, {"activation": pass_through()}))


# --- the layers that see the image -------------------------------------------------------------------------

COORDINATES = image(1, 2, 8, 8, seed=4)


def normalize_in_place(net, x):
    x.sub_(0.4).div_(0.25)
    return net.c(x)


def into_a_buffer(net, x):
    wide = torch.zeros(len(x), 3, 10, 10, dtype=x.dtype)
    wide[:, :, 1:-1, 1:-1] = x
    return F.conv2d(wide, net.c.weight)


def channel_by_channel(net, x):
    """As torchvision's GoogLeNet."""
    parts = [x[:, n : n + 1] * (0.3 + n) + 0.1 * n for n in range(3)]
    return net.c(torch.cat(parts, 1))


SEEN = {
    "plain": lambda net, x: net.c(x),
    "scaled": lambda net, x: net.c((x - 0.4) / 0.25),
    "scaled in place": normalize_in_place,
    "turned over": lambda net, x: net.c(1 - x),
    "by channel": channel_by_channel,
    "split": lambda net, x: net.c(torch.cat([half.flip(3) for half in x.split(4, 2)], 2)),
    "two layers": lambda net, x: net.c(x) + net.d(x[:, :, ::1]),
    "reflected": lambda net, x: net.c(F.pad(x, (1, 1, 1, 1), mode="reflect")),
    "padded": lambda net, x: net.c(F.pad(x, (1, 2, 1, 0))),
    "padded with gray": lambda net, x: net.c(F.pad(x, (1, 1, 1, 1), value=0.5)),
    "with coordinates": lambda net, x: net.e(torch.cat([x, COORDINATES.expand(len(x), -1, -1, -1)], 1)),
    "in a buffer": into_a_buffer,
    "gray": lambda net, x: net.g(x.mean(1, keepdim=True)),
    "resized": lambda net, x: net.c(F.interpolate(x, scale_factor=1.5, mode="bilinear")),
    "pooled": lambda net, x: net.c(F.max_pool2d(x, 2, return_indices=True)[0]),
    "patches": lambda net, x: net.p(F.unfold(x, 4, stride=4).mT).mT.unflatten(2, (2, 2)),
}


@pytest.mark.parametrize("rule", [z_box(), flat(), w_square()], ids=["box", "flat", "square"])
@pytest.mark.parametrize("name", SEEN)
def test_relevance_is_kept_on_the_way_to_the_image(name, rule):
    torch.manual_seed(0)
    parts = {"c": nn.Conv2d(3, 4, 3, padding=1, bias=False), "d": nn.Conv2d(3, 4, 3, padding=1, bias=False)}
    parts |= {"e": nn.Conv2d(5, 4, 3, bias=False), "g": nn.Conv2d(1, 4, 3, bias=False), "p": nn.Linear(48, 4, False)}
    net, x = Net(lambda net, x: SEEN[name](net, x).relu().mean((2, 3)), **parts), image(2, 3, 8, 8)
    bounds = {"low": torch.zeros_like(x), "high": torch.ones_like(x)} if rule.name == "z_box" else {}
    found = shares(net, x, {**EXACT, "first": rule}, **bounds)
    close(found.flatten(1).sum(1), net(x).sum(1).detach(), 1e-4)
    assert name in ("turned over", "two layers") or rule.name == "z_box" or (found >= 0).all()


def test_only_what_sees_nothing_but_the_image_is_first():
    """A layer that sees the image beside what another layer made of it has the rule of its kind."""
    c, d = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(6, 4, 3)
    net = Net(lambda net, x: net.d(torch.cat([x, net.c(x).relu()], 1)).mean((2, 3)), c=c, d=d)
    close(shares(net, X, {**EXACT, "first": ONE}), shares(net, X, {**EXACT, "c": ONE}))
    net = Net(lambda net, x: net.c((net.c(x) + x).relu()).mean((2, 3)), c=c)
    close(shares(net, X, {**EXACT, "first": flat()}), shares(net, X, {**EXACT, "c#1": flat()}))


def test_in_place_or_not_the_image_is_the_same():
    torch.manual_seed(0)
    c, x = nn.Conv2d(3, 4, 3), image(2, 3, 8, 8)
    bounds = {"low": torch.zeros_like(x), "high": torch.ones_like(x)}
    for rule in (z_box(), flat(), w_square(), zero()):
        found = [
            shares(Net(SEEN[name], c=c), x, {**EXACT, "first": rule}, **bounds)
            for name in ("scaled", "scaled in place")
        ]
        close(*found)


def test_a_classifier_has_bounds_of_its_own():
    net, x = Three(), image(2, 3, 7, 7)
    model = pellucid.wrap(net, mean=[0.4, 0.5, 0.6], std=[0.2, 0.3, 0.4])
    normalized = model.normalize(x)
    low, high = model.normalize(torch.zeros_like(x)), model.normalize(torch.ones_like(x))
    expected = shares(net, normalized, EPSILON_GAMMA_BOX, torch.tensor([1.0, 0]), low=low, high=high)
    close(pellucid.lrp(model, x, 0, rules=EPSILON_GAMMA_BOX).values, expected, 1e-5)
    close(pellucid.lrp(model, x, 0, rules="epsilon_gamma_box").values, expected, 1e-5)


@pytest.mark.parametrize("form", [list, torch.tensor])
def test_bounds_of_each_channel(form):
    net, x = Three(), image(2, 3, 7, 7)
    low, high = [-1.0, -0.5, 0.0], [1.0, 2.0, 3.0]
    bounds = [torch.tensor(b).double()[:, None, None].expand_as(x) for b in (low, high)]
    expected = shares(net, x, EPSILON_GAMMA_BOX, torch.tensor([1.0, 0]), low=bounds[0], high=bounds[1])
    rules = {**EPSILON_GAMMA_BOX, "first": z_box(form(low), form(high), 1e-6)}
    close(pellucid.lrp(net, x, 0, rules=rules).values, expected, 1e-6)
    with pytest.raises(ValueError, match="z_box: high has shape"):
        pellucid.lrp(net, x, 0, rules={"first": z_box(form([0.0]), form([1.0, 1.0]))})


# --- mistakes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "error", "words"),
    [
        ({"blok": ONE}, UnknownName, "near it: block"),
        ({"block.1": ONE}, ValueError, "called nothing there that it is for"),
        ({"conv#4": ONE}, ValueError, "conv#4"),
        ({"fc#2": ONE}, ValueError, "called nothing there"),
        ({"conv#0": ONE}, ValueError, "number from 1"),
        ({"conv#a": ONE}, ValueError, "number from 1"),
        ({"softmax": ONE}, ValueError, "which is for conv, linear"),
        ({"conv": norm()}, ValueError, "which is for sum, average"),
        ({"first": pass_through()}, ValueError, "not for convolutions"),
        ({"norm": ONE}, ValueError, "which is for conv, linear"),
        ({"conv": gamma}, TypeError, r"call it, as in gamma\(0.25\)"),
        ({"conv": 0.25}, TypeError, "expected a rule"),
        ({3: ONE}, TypeError, "expected a kind, a layer, or a function"),
        ({"sum": by_depth(norm())}, ValueError, "by depth"),
        ({"conv": z_box()}, RuleError, "give it as 'first'"),
        ({"first": z_box(0.2, 1)}, ValueError, "outside its bounds"),
        ({"first": z_box(0, 1), "stem": z_box(0, 2)}, ValueError, "several z_box"),
        ([ONE], TypeError, "expected a text or a Mapping"),
        ("EPSILON_PLUSS", UnknownName, "near it: EPSILON_PLUS"),
    ],
    ids=lambda value: re.sub(r" (of|at) [^>]*>", ">", str(value)),
)
def test_mistakes_are_named(rules, error, words):
    with pytest.raises(error, match=words):
        pellucid.lrp(Three(), X, 0, rules=rules)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: gamma(-1), "gamma is -1"),
        (lambda: epsilon(-1e-3), "eps is -0.001"),
        (lambda: gamma(float("nan")), "gamma is nan"),
        (lambda: norm(-1), "eps is -1"),
        (lambda: pellucid.rules.share(2), "gate is 2"),
        (lambda: pellucid.rules.alpha_beta(2, -1), "beta is -1"),
        (lambda: z_box(1, 0), "low below high"),
        (lambda: by_depth(), "at least one"),
        (lambda: by_depth(ONE, norm()), "one sort"),
    ],
)
def test_numbers_that_no_rule_takes(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_rules_print_as_what_they_are():
    assert repr(by_depth(ONE, z_plus())) == "by_depth(gamma(0.3), z_plus())"
    assert repr({"conv": epsilon(bias=False)}) == "{'conv': epsilon(bias=False)}"
    assert gamma(0.25) == gamma() != gamma(0.3) and len({gamma(), gamma(0.25), gamma(1)}) == 2
