"""What rules cannot see is said; guided backpropagation; relevance of layers and through channels."""

from __future__ import annotations

import threading
import warnings
from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import pellucid
from pellucid.rules import EPSILON, EPSILON_PLUS, RuleError, deconv, guided, share, stop

from .nets import EXACT, Net, close, image, plain, shares

X = image(2, 3, 8, 8)


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, g):
        return g * 2


class Rectified(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx, g):
        return g * (ctx.saved_tensors[0] > 0)


def in_a_thread(f, x):
    found = []

    def work():
        with torch.enable_grad():
            found.append(f(x))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return found[0]


def total(out):
    return (out * torch.linspace(1, 2, out.shape[1])).sum(1)


def conv():
    torch.manual_seed(0)
    return nn.Conv2d(3, 4, 3, padding=1).double().eval()


def scripted():
    return torch.jit.script(conv())


def traced():
    return torch.jit.trace(conv(), X)


OUT_OF_SIGHT = {
    "script": (scripted, lambda net, x: net.p(x), "Convolution|DifferentiableGraph"),
    "trace": (traced, lambda net, x: net.p(x), "Convolution|DifferentiableGraph"),
    "thread": (conv, lambda net, x: in_a_thread(net.p, x), "Convolution"),
    "reentrant checkpoint": (conv, lambda net, x: checkpoint(net.p, x, use_reentrant=True), "CheckpointFunction"),
    "custom function": (conv, lambda net, x: Doubled.apply(net.p(x)), "Doubled"),
}
BEHIND = {
    "nothing": lambda y: y,
    "ReLU": F.relu,
    "max pooling": lambda y: F.max_pool2d(y, 2),
    "softmax": lambda y: y.softmax(1),
    "a factor in front": lambda y: torch.ones(4, 1, 1).double() * y,
    "a summand in front": lambda y: torch.add(torch.ones(4, 1, 1).double(), y),
    "mean": lambda y: y.mean((2, 3), keepdim=True),
    "product with itself": lambda y: y * y,
    "norm": lambda y: F.layer_norm(y, y.shape[1:]),
    "another layer": lambda y: F.conv2d(y, torch.ones(2, 4, 1, 1).double()),
}


@pytest.mark.filterwarnings("ignore:.*torch.jit")
@pytest.mark.parametrize("behind", BEHIND)
@pytest.mark.parametrize("name", OUT_OF_SIGHT)
def test_nothing_escapes(name, behind):
    make, forward, words = OUT_OF_SIGHT[name]
    net = Net(lambda net, x: BEHIND[behind](forward(net, x)).flatten(1), p=make())
    for rules in (EPSILON, EPSILON_PLUS):
        with pytest.raises(RuleError, match=f"rules did not reach .*({words}).*strict=False"):
            pellucid.lrp(net, X, total, rules=rules)
        if name == "reentrant checkpoint":
            continue  # torch itself refuses gradients of what is asked for
        with pytest.warns(UserWarning, match="its ordinary gradient was taken"):
            assert pellucid.lrp(net, X, total, rules=rules, strict=False).values.isfinite().all()


def swish(x):
    return x * x.sigmoid()


SMALL = {
    "swish": lambda: torch.jit.script(swish),
    "tanh": lambda: torch.jit.trace(torch.tanh, X),
    "softplus": lambda: torch.jit.script(nn.Softplus()),
    "softmax": lambda: torch.jit.script(nn.Softmax(1)),
    "quotient": lambda: torch.jit.trace(lambda x: x / x.square(), X),
}


@pytest.mark.filterwarnings("ignore:.*torch.jit")
@pytest.mark.parametrize("name", SMALL)
def test_no_small_function_of_torchscript_escapes(name):
    """Whether TorchScript is warm, so that it runs one node, or still runs function by function."""
    function = SMALL[name]()
    net = Net(lambda net, x: function(net.p(x)).flatten(1), p=conv())
    rules = {**EPSILON, "softmax": stop()}
    for _ in range(4):
        with pytest.raises(RuleError, match="TorchScript"):
            pellucid.lrp(net, X, total, rules=rules)


@pytest.mark.filterwarnings("ignore:.*torch.jit")
@pytest.mark.parametrize("make", [torch.jit.script, lambda net: torch.jit.trace(net, X)])
def test_a_whole_network_of_torchscript(make):
    net = make(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).double().eval())
    for _ in range(3):  # TorchScript runs in other ways once it is warm
        with pytest.raises(RuleError, match="TorchScript"):
            pellucid.lrp(net, X, 1, rules=EPSILON)
        with pytest.raises(RuleError, match="TorchScript"):
            pellucid.guided_backprop(net, X, 1)
        with pytest.raises(RuleError, match="TorchScript"):
            pellucid.deeplift(net, X, 1)


@pytest.mark.parametrize("method", [pellucid.guided_backprop, pellucid.deconvnet, pellucid.deeplift])
@pytest.mark.parametrize("behind", [lambda y: F.max_pool2d(y, 2), lambda y: 2 * y, lambda y: y.softmax(1)])
def test_rectifiers_out_of_sight(method, behind):
    net = Net(lambda net, x: behind(Rectified.apply(net.p(x))).mean((2, 3)), p=conv())
    with pytest.raises(RuleError, match="Rectified"):
        method(net, X, 1)
    with pytest.warns(UserWarning, match="Rectified"):
        method(net, X, 1, strict=False)


def test_what_lies_beside_the_way_is_nobodys_business():
    part = conv()

    def forward(net, x):
        Doubled.apply(x).sum()
        before = Doubled.apply(torch.ones_like(x) + net.w)
        return net.p(x).mean((2, 3)) + 0 * before.sum() + Doubled.apply(x.detach()).mean()

    net = Net(forward, p=part, w=torch.ones(1))
    pellucid.lrp(net, X, 1, rules=EPSILON)
    late = Net(lambda net, x: net.q(F.relu(net.p(Doubled.apply(x)))).mean((2, 3)), p=part, q=nn.Conv2d(4, 2, 1))
    pellucid.lrp(late, X, 1, rules=EPSILON, layer="p")  # what lies before the layer is not asked


@dataclass
class Answer:
    logits: torch.Tensor


@pytest.mark.parametrize("wrap", [lambda y: {"logits": y}, lambda y: (y, None), lambda y: Answer(y), lambda y: [[y]]],
                         ids=["dict", "tuple", "dataclass", "nested"])  # fmt: skip
def test_whatever_the_network_returns(wrap):
    net = Net(lambda net, x: wrap(Doubled.apply(net.p(x)).mean((2, 3))), p=conv())

    def objective(out):
        while isinstance(out, (tuple, list)):
            out = out[0]
        return (out["logits"] if isinstance(out, dict) else getattr(out, "logits", out))[:, 1]

    with pytest.raises(RuleError, match="Doubled"):
        pellucid.lrp(net, X, objective, rules=EPSILON)


# --- functions without a rule ------------------------------------------------------------------------------

STRANGE = {
    "exp": torch.exp,
    "sin": lambda x: x.sin(),
    "cdist": lambda x: torch.cdist(x.flatten(2), torch.ones(1, 5, 64).double()),
    "log1p": lambda x: x.abs().log1p(),
    "erf": torch.erf,
    "logsumexp": lambda x: x.logsumexp(1),
    "addcmul": lambda x: torch.addcmul(x, x, x),
    "cosine_similarity": lambda x: F.cosine_similarity(x, torch.ones_like(x), dim=1),
    "linalg_matmul": lambda x: torch.linalg.matmul(x, x.mT),
    "__rpow__": lambda x: 2**x,
    "reciprocal": lambda x: x.reciprocal(),
}


@pytest.mark.parametrize("name", STRANGE)
def test_a_function_without_a_rule_is_named(name):
    class Bent(nn.Module):
        def forward(self, x):
            return STRANGE[name](x)

    net = Net(lambda net, x: net.bent(net.p(x)).flatten(1), p=conv(), bent=Bent())
    with pytest.warns(UserWarning, match=f"there is no rule for {name} in layer 'bent'"):
        pellucid.lrp(net, X, 1, rules=EPSILON)
    beside = Net(lambda net, x: net.p(x).flatten(1) + 0 * net.bent(net.p(x).detach()).sum(), p=conv(), bent=Bent())
    pellucid.lrp(beside, X, 1, rules=EPSILON)
    unused = Net(lambda net, x: (net.p(x).flatten(1), net.bent(net.p(x)))[0], p=conv(), bent=Bent())
    pellucid.lrp(unused, X, 1, rules=EPSILON)


@pytest.mark.parametrize("form", ["var, sqrt", "std", "mean of squares", "rsqrt", "norm", "exp"])
def test_statistics_that_only_divide_are_constants(form):
    """A layer norm in plain code is the layer norm of torch."""

    def normed(y):
        mean = y.mean(-1, keepdim=True)
        if form == "var, sqrt":
            return (y - mean) / (y.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
        if form == "std":
            return (y - mean) / y.std(-1, unbiased=False, keepdim=True)
        if form == "norm":
            return (y - mean) / (y - mean).norm(dim=-1, keepdim=True) * y.shape[-1] ** 0.5
        if form == "exp":
            return y / (1 + torch.exp(-y))
        square = ((y - mean) ** 2).mean(-1, keepdim=True) + 1e-5
        return (y - mean) * torch.rsqrt(square) if form == "rsqrt" else (y - mean) / square.sqrt()

    net = Net(lambda net, x: normed(net.p(x).flatten(2)).flatten(1), p=conv())
    of_torch = F.silu if form == "exp" else lambda y: F.layer_norm(y, y.shape[-1:], eps=1e-5 if form[0] != "s" else 0)
    reference = Net(lambda net, x: of_torch(net.p(x).flatten(2)).flatten(1), p=conv())
    start = image(256, seed=5)
    found = pellucid.lrp(net, X, lambda out: (out * start).sum(1), rules=EXACT).values
    close(found, shares(reference, X, EXACT, start), 1e-3)


# --- guided backpropagation and deconvnet ------------------------------------------------------------------

RECTIFIERS = {
    "module": nn.ReLU(),
    "in place": nn.ReLU(True),
    "function": F.relu,
    "torch": torch.relu,
    "clamp_min": lambda y: y.clamp_min(0),
    "tensor": lambda y: y.relu(),
    "tensor in place": lambda y: y.relu_(),
    "clamp": lambda y: y.clamp(min=0),
    "by position": lambda y: y.clamp(0),
    "clamp_": lambda y: y.clamp_(min=0),
    "threshold": lambda y: F.threshold(y, 0, 0),
}


@pytest.mark.parametrize("name", RECTIFIERS)
def test_rectifiers_wherever_they_are_called(name):
    act, x = RECTIFIERS[name], image(2, 3, 8, 8, signed=True)
    torch.manual_seed(0)
    layers = {"a": nn.Conv2d(3, 4, 3), "b": nn.Conv2d(4, 4, 3), "l": nn.Linear(4, 3)}
    net = Net(lambda net, x: net.l(act(net.b(act(net.a(x)))).mean((2, 3))), **layers)

    def slow(guided):
        """By hand: R <- R+ (and 1[input > 0] R+ if guided)."""
        first = net.a(x).detach()
        second = net.b(first.relu()).detach()
        g = net.l.weight[1][:, None, None].expand_as(second) / second[0, 0].numel()
        g = g.clamp(min=0) * ((second > 0) if guided else 1)
        g = F.conv_transpose2d(g, net.b.weight)
        g = g.clamp(min=0) * ((first > 0) if guided else 1)
        return F.conv_transpose2d(g, net.a.weight)

    close(pellucid.guided_backprop(net, x, 1).values, slow(True))
    close(pellucid.deconvnet(net, x, 1).values, slow(False))


def test_a_network_without_rectifiers_is_told():
    net = Net(lambda net, x: net.p(x).mean((2, 3)), p=conv())
    with pytest.warns(UserWarning, match="no function of the network has a rule"):
        pellucid.guided_backprop(net, X, 1)
    assert guided() != deconv()


# --- relevance of layers, through channels, of nothing -----------------------------------------------------


def two_layers():
    torch.manual_seed(0)
    layers = {"a": nn.Conv2d(3, 4, 3), "b": nn.Conv2d(4, 5, 3), "l": nn.Linear(5, 3)}
    return Net(lambda net, x: net.l(F.relu(net.b(F.relu(net.a(x)))).mean((2, 3))), **layers)


def test_the_relevance_of_a_layer_by_hand():
    net = two_layers()
    inner = net.a(X).detach()
    (slope,) = torch.autograd.grad(net.l(F.relu(net.b(F.relu(inner.requires_grad_()))).mean((2, 3)))[:, 2].sum(), inner)
    found = pellucid.lrp(net, X, 2, rules=EXACT, layer="a")
    close(found.values, (inner * slope).detach())
    close(found.convergence_delta, (inner * slope).flatten(1).sum(1).detach() - net(X)[:, 2].detach())


def test_what_passes_the_channels_adds_up():
    net = two_layers()
    for rules in (EXACT, "EPSILON_PLUS_FLAT"):
        whole = pellucid.lrp(net, X, 2, rules=rules).values
        parts = [pellucid.lrp(net, X, 2, rules=rules, channels={"b": n}).values for n in range(5)]
        close(sum(parts), whole)
        close(parts[0] + parts[3], pellucid.lrp(net, X, 2, rules=rules, channels={"b": [0, 3]}).values)
        pairs = sum(pellucid.lrp(net, X, 2, rules=rules, channels={"a": n, "b": 1}).values for n in range(4))
        close(pairs, parts[1])
    masked = Net(lambda net, x: net.l((F.relu(net.b(F.relu(net.a(x)))) * net.m[:, None, None]).mean((2, 3))),
                 m=torch.tensor([0.0, 1, 0, 0, 0]), a=net.a, b=net.b, l=net.l)  # fmt: skip
    close(pellucid.lrp(net, X, 2, rules=EXACT, channels={"b": 1}).values, plain(masked, X, torch.tensor([0.0, 0, 1])))


def test_a_channel_that_does_not_exist():
    with pytest.raises(ValueError, match="channels 0 to 4, got 5"):
        pellucid.lrp(two_layers(), X, 2, channels={"b": 5})


def test_the_gap_is_what_biases_take():
    net = two_layers()
    found = pellucid.lrp(net, X, 1)
    close(found.convergence_delta, found.values.flatten(1).sum(1) - net(X)[:, 1].detach())
    for layer in (net.a, net.b, net.l):
        layer.bias = None
    assert (
        pellucid.lrp(net, X, 1, rules="EXCITATION_BACKPROP").convergence_delta.abs().max() < 1e-3 * net(X).abs().max()
    )


def test_an_objective_of_zero_has_no_relevance():
    net = Net(lambda net, x: F.relu(net.p(x) - 100 * x[:, :1, :1, :1].detach().round()).mean((2, 3)), p=conv())
    x = X.clone()
    x[:, 0, 0, 0] = 1.0
    with pytest.raises(ValueError, match="is 0 for every image"):
        pellucid.lrp(net, x, 1)
    x[1, 0, 0, 0] = 0.0
    with pytest.warns(UserWarning, match="is 0 for image 0 of the batch"):
        found = pellucid.lrp(net, x, 1).values
    assert not found[0].any() and found[1].any()


def test_words_are_given_once():
    """A warning for a whole pass, not for each call."""
    net = Net(lambda net, x: net.p(x.sin()).cos().sin().flatten(1), p=conv())
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        pellucid.lrp(net, X, 1, rules={"product": share(), **EPSILON})
    assert len([w for w in seen if "there is no rule" in str(w.message)]) == 1
