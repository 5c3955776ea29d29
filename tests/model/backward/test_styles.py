"""One network written in many styles: the same explanation, the same output bit by bit, nothing changed."""

from __future__ import annotations

import copy
import gc
import threading
import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

import pellucid
from pellucid import rules
from pellucid.model.backward.watch import Watch
from pellucid.rules import EPSILON, EPSILON_GAMMA_BOX, EPSILON_PLUS_FLAT, by_depth, gamma

from .nets import EXACT, Net, close, image, run, shares

SETS = {
    "plus": EPSILON_PLUS_FLAT,
    "box": EPSILON_GAMMA_BOX,
    "depth": {**EPSILON, "conv": by_depth(gamma(1.0), gamma(0.1))},
    "exact": EXACT,
}


class Plain(nn.Module):
    """Two convolutions with batch norm, a residual block, joined channels, a dense layer."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.c1, self.n1 = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.c2, self.n2 = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.fc = nn.Linear(8, 3)
        for norm in (self.n1, self.n2):
            nn.init.normal_(norm.running_mean)
            nn.init.uniform_(norm.running_var, 0.5, 2)
            nn.init.uniform_(norm.weight, 0.5, 2)
            nn.init.normal_(norm.bias)
        self.double().eval()

    def forward(self, x):
        x = F.relu(self.n1(self.c1(x)))
        y = F.relu(self.n2(self.c2(x)))
        x = F.relu(x + y)
        x = F.max_pool2d(torch.cat([x, y], 1), 2)
        return self.fc(x.mean((2, 3)))


class Modules(Plain):
    """One ReLU module for all, in place."""

    def __init__(self):
        super().__init__()
        self.act, self.pool, self.mean, self.flat = (
            nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1), nn.Flatten())  # fmt: skip

    def forward(self, x):
        x = self.act(self.n1(self.c1(x)))
        y = self.act(self.n2(self.c2(x)))
        x = self.act(x + y)
        return self.fc(self.flat(self.mean(self.pool(torch.cat((x, y), dim=1)))))


class Functional(Plain):
    """Functions with keyword arguments alone, weights used where they lie."""

    def forward(self, x):
        def layer(c, n, x):
            x = F.conv2d(input=x, weight=c.weight, bias=c.bias, padding=1)
            x = F.batch_norm(
                input=x, running_mean=n.running_mean, running_var=n.running_var, weight=n.weight, bias=n.bias, eps=n.eps
            )
            return torch.relu(input=x)

        x = layer(self.c1, self.n1, x)
        y = layer(self.c2, self.n2, x)
        x = torch.relu(input=torch.add(input=x, other=y))
        x = F.max_pool2d(input=torch.cat(tensors=[x, y], dim=1), kernel_size=2)
        return F.linear(input=torch.mean(input=x, dim=(2, 3)), weight=self.fc.weight, bias=self.fc.bias)


class Written(Plain):
    """Everything in place: into outputs that rules need, into views, into a buffer made before."""

    def forward(self, x):
        x = self.n1(self.c1(x)).relu_()
        y = F.relu_(self.n2(self.c2(x)))
        joined = torch.zeros(len(x), 8, *x.shape[2:], dtype=x.dtype)
        joined[:, 4:] = y
        both = x.clone()
        both += y
        joined[:, :4].copy_(both)
        first = joined[:, :4]
        first.relu_()
        both *= 0
        x = F.max_pool2d(joined, 2)
        keep = x.mean((2, 3))
        x.zero_()
        return self.fc(keep)


class Branching(Plain):
    """Loops, dictionaries, a nested function, a condition on values, parts cut out and put together."""

    def forward(self, x):
        state, steps = {"x": x}, [(self.c1, self.n1), (self.c2, self.n2)]
        for n, (c, norm) in enumerate(steps):
            state[n] = norm(c(state["x"])).clamp_min(0)
            state["x"] = state[n]
        if bool((state[0] >= 0).all()):
            state["x"] = sum([state[0], state[1]])
        halves = [F.relu(h) for h in state["x"].chunk(2, 1)]
        joined = torch.cat([*halves, *state[1].split(1, 1)], 1)
        pooled = torch.stack([F.max_pool2d(row[None], 2)[0] for row in joined.unbind(0)])
        return self.fc(pooled.flatten(2).mean(-1))


class Wasteful(Plain):
    """Beside the point: parts without a gradient, detached statistics, unused branches, copies."""

    def forward(self, x):
        with torch.no_grad():
            seen = self.c1(x) @ self.c1(x).mT
            gate = (seen * seen).sigmoid().mean() * 0
            F.scaled_dot_product_attention(x, x, x)
        with torch.inference_mode():
            self.fc(self.c1(x).mean((2, 3)).repeat(1, 2))
        out = super().forward(x.contiguous().clone())
        self.c2(self.c1(x)).exp()  # nobody asks for it
        return out + gate


class Checkpointed(Plain):
    """Activations are computed again in the backward."""

    def forward(self, x):
        x = checkpoint(lambda x: F.relu(self.n1(self.c1(x))), x, use_reentrant=False)
        y = checkpoint(lambda x: F.relu(self.n2(self.c2(x))), x, use_reentrant=False)
        x = F.max_pool2d(torch.cat([F.relu(x + y), y], 1), 2)
        return self.fc(x.mean((2, 3)))


STYLES = [Modules, Functional, Written, Branching, Wasteful, Checkpointed]


def made(style):
    net = style().double().eval()
    net.load_state_dict(Plain().state_dict(), strict=False)
    return net


def explain(net, x, rules="plus", **options):
    return pellucid.lrp(net, x, 1, rules=SETS[rules], **options)


@pytest.mark.parametrize("which", SETS)
@pytest.mark.parametrize("style", STYLES)
def test_every_style_of_writing(style, which):
    net, x = made(style), image(2, 3, 6, 6)
    found = explain(net, x, which)
    close(found.values, explain(Plain(), x, which).values, 1e-5)
    close(found.convergence_delta, explain(Plain(), x, which).convergence_delta, 1e-4)


@pytest.mark.parametrize("which", SETS)
@pytest.mark.parametrize("style", [Plain, *STYLES])
def test_the_forward_is_untouched_and_so_is_the_network(style, which):
    net, x = made(style), image(2, 3, 6, 6)
    before = copy.deepcopy(net.state_dict())
    flags = [(p.requires_grad, p._version) for p in net.parameters()]
    expected, kept = net(x), x.clone()
    given = x.clone().requires_grad_()
    assert torch.equal(run(net, given, rules=SETS[which]).output, expected)
    first, second = (explain(net, x, which).values for _ in range(2))
    assert torch.equal(first, second) and torch.equal(x, kept)
    close(first, torch.cat([explain(net, row[None], which).values for row in x]))
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())
    assert flags == [(p.requires_grad, p._version) for p in net.parameters()]
    assert all(p.grad is None for p in net.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


@pytest.mark.slow
@pytest.mark.parametrize("which", SETS)
def test_wrapped_compiled_and_exported(which, tmp_path):
    net, x = Plain(), image(2, 3, 6, 6)
    expected = explain(net, x, which).values
    for wrapped in (torch.compile(net, backend="eager"), nn.DataParallel(net), pellucid.wrap(net)):
        close(explain(wrapped, x, which).values, expected, 1e-6)
    torch.export.save(torch.export.export(net, (x,)), tmp_path / "net.pt2")
    exported = pellucid.load(tmp_path / "net.pt2")
    close(explain(exported, x, which).values, expected, 1e-6)
    given = x.clone().requires_grad_()
    assert torch.equal(run(exported, given, rules=SETS[which]).output, net(x))
    close(explain(exported, x, "plus").values, explain(net, x, "plus").values, 1e-6)


def test_frozen_parameters_and_leaves():
    x, expected = image(2, 3, 6, 6), explain(Plain(), image(2, 3, 6, 6)).values
    for which in (lambda name: True, lambda name: "c1" in name, lambda name: "bias" in name):
        net = Plain()
        for name, parameter in net.named_parameters():
            parameter.requires_grad_(not which(name))
        assert torch.equal(explain(net, x).values, expected)
    with torch.no_grad():
        assert torch.equal(explain(Plain(), x).values, expected)
    with torch.inference_mode():
        assert torch.equal(explain(Plain(), x).values, expected)


@pytest.mark.parametrize("norm", [parametrizations.weight_norm, parametrizations.spectral_norm])
def test_parametrized_weights(norm):
    net, bare, x = Plain(), Plain(), image(2, 3, 6, 6)
    for name in ("c1", "c2", "fc"):
        norm(net.get_submodule(name)).eval()
        bare.get_submodule(name).weight.data = net.get_submodule(name).weight.detach()
    before = copy.deepcopy(net.state_dict())
    for which in SETS:
        close(explain(net, x, which).values, explain(bare, x, which).values)
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())


def test_layer_scale_and_learned_positions():
    """A factor and a summand that are parameters: linear, and no inputs of their own."""
    torch.manual_seed(0)
    scale, position = torch.rand(4, 1, 1) + 0.5, torch.randn(1, 4, 6, 6)
    c, dense = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4, 2)
    net = Net(lambda net, x: net.l((net.s * net.c(x) + net.p).relu().mean((2, 3))), s=scale, p=position, c=c, l=dense)
    x = image(2, 3, 6, 6)
    found, rest = shares(net, x, EXACT), net(x)
    scaled = Net(lambda net, x: net.l((F.conv2d(x, c.weight * net.s[..., None], c.bias * net.s.flatten(), padding=1)
                                       + net.p).relu().mean((2, 3))), s=scale, p=position, c=c, l=dense)  # fmt: skip
    close(found, shares(scaled, x, EXACT))
    assert not torch.allclose(found.flatten(1).sum(1), rest.sum(1))  # position and biases have their part


def test_shared_weights():
    """A layer that is called twice, and one whose weights another one has."""
    torch.manual_seed(0)
    c = nn.Conv2d(4, 4, 3, padding=1)
    other = nn.Conv2d(4, 4, 3, padding=1)
    other.weight = c.weight
    x = image(2, 4, 6, 6)
    twice = Net(lambda net, x: net.c(net.c(x).relu()).relu().mean((2, 3)), c=c)
    single = Net(lambda net, x: net.d(net.c(x).relu()).relu().mean((2, 3)), c=c, d=copy.deepcopy(c))
    tied = Net(lambda net, x: net.d(net.c(x).relu()).relu().mean((2, 3)), c=c, d=other)
    other.bias = c.bias
    for rules_ in (EPSILON, {**EPSILON, "conv": gamma(0.5)}):
        close(shares(twice, x, rules_), shares(single, x, rules_))
        close(shares(tied, x, rules_), shares(single, x, rules_))


@pytest.mark.parametrize("where", ["before", "after"])
def test_a_value_that_is_needed_both_before_and_after_it_is_overwritten(where):
    """Concatenated ReLU: a ReLU in place must not take the negative part from the other branch."""
    layers = {"c": nn.Conv2d(3, 4, 3), "l": nn.Linear(8 * 16, 2)}

    def written(net, x):
        y = net.c(x) if where == "before" else net.c(x) - 0.2 * x.mean((1, 2, 3), keepdim=True)
        other = -y
        y.relu_()
        other.relu_()
        return net.l(torch.cat([y, other], 1).flatten(1))

    def copied(net, x):
        y = net.c(x) if where == "before" else net.c(x) - 0.2 * x.mean((1, 2, 3), keepdim=True)
        return net.l(torch.cat([y.relu(), (-y).relu()], 1).flatten(1))

    x = image(2, 3, 6, 6)
    for rules_ in (EPSILON, {**EPSILON, "conv": gamma(0.5)}):
        close(shares(Net(written, **layers), x, rules_), shares(Net(copied, **layers), x, rules_), 1e-4)


def test_writing_into_what_einsum_and_matmul_give():
    w, x = torch.randn(3, 5), image(2, 3, 4, 4)
    for multiply in (lambda x, w: torch.einsum("nchw,cd->ndhw", x, w), lambda x, w: x.permute(0, 2, 3, 1) @ w,
                     lambda x, w: torch.tensordot(x, w, ([1], [0]))):  # fmt: skip
        written = Net(lambda net, x: multiply(x, net.w).add_(1).mul_(2).relu_(), w=w)
        copied = Net(lambda net, x: ((multiply(x, net.w) + 1) * 2).relu(), w=w)
        close(shares(written, x, EPSILON), shares(copied, x, EPSILON))


def test_half_precision_and_layouts():
    x = image(2, 3, 6, 6)
    net, expected = Plain(), explain(Plain(), x).values
    for dtype in (torch.float16, torch.bfloat16):
        small = copy.deepcopy(net).to(dtype)
        for which in SETS:
            found = explain(small, x.to(dtype), which).values
            assert found.isfinite().all() and found.any(), (dtype, which)
        assert F.cosine_similarity(explain(small, x.to(dtype)).values.flatten().double(), expected.flatten(), 0) > 0.9
    for view in (x.to(memory_format=torch.channels_last), x.transpose(2, 3).contiguous().transpose(2, 3),
                 x.repeat(1, 1, 2, 1)[:, :, :6], x.flip(3).flip(3)):  # fmt: skip
        close(explain(net, view).values, expected, 1e-6)
    net = net.to(memory_format=torch.channels_last)
    close(explain(net, x.to(memory_format=torch.channels_last)).values, expected, 1e-6)


@pytest.mark.slow
def test_nothing_stays_in_memory():
    """The nodes of a graph must not hold what holds them: no pass would ever be freed."""
    x = image(2, 3, 6, 6)

    def alive() -> list[object]:
        gc.collect()
        return [
            o
            for o in gc.get_objects()
            if issubclass(type(o), Watch) or (issubclass(type(o), torch.Tensor) and o.grad_fn is not None)
        ]

    before = {id(o) for o in alive()}
    for style in (Plain, Modules, Written):
        for which in SETS:
            explain(made(style), x, which)
        for method in (pellucid.guided_backprop, pellucid.deconvnet, pellucid.deeplift):
            method(made(style), x, 1)
    net = Net(lambda net, x: net.c(x).sigmoid_().tanh_().flatten(1), c=nn.Conv2d(3, 2, 3))
    explain(net, x)
    assert {id(o) for o in alive()} <= before


def test_another_thread_explains_at_the_same_time():
    net, x = made(Modules), image(2, 3, 6, 6)
    expected, found = explain(net, x).values, []
    threads = [threading.Thread(target=lambda: found.append(explain(net, x).values)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3 and all(torch.equal(one, expected) for one in found)


def test_after_an_error_all_is_as_before():
    class Broken(Plain):
        def forward(self, x):
            super().forward(x)
            raise RuntimeError("broken")

    net, x = Broken(), image(2, 3, 6, 6)
    with pytest.raises(pellucid.run.__globals__["ModelError"], match="broken"):
        explain(net, x)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())
    assert torch.overrides._get_current_function_mode() is None and torch.is_grad_enabled()


def test_no_rules_are_no_rules():
    """Every rule `gradient()`: the plain gradient, to the last bit."""
    ordinary = dict.fromkeys(rules.KINDS, rules.gradient())
    for style in (Plain, *STYLES):
        net, x = made(style), image(2, 3, 6, 6)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = pellucid.lrp(net, x, 1, rules=ordinary).values
        slope = pellucid.saliency(net, x, 1, sign="keep", channels="all").values
        assert torch.equal(found, x * slope)
