"""Every function of torch that networks are made of: the same forward bit by bit, the right backward."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from pellucid.rules import (
    EPSILON,
    EXCITATION_BACKPROP,
    RuleError,
    epsilon,
    gamma,
    pass_through,
    share,
    z_plus,
    zero,
)

from .nets import EXACT, Net, close, image, plain, shares

SIGNED = {"signed": True}
GAMMA = {**EXACT, "conv": gamma(0.4), "linear": gamma(0.4)}


def weights(*shape, seed=1):
    return image(*shape, seed=seed, signed=True)


# --- linear maps -------------------------------------------------------------------------------------------

CONVOLUTIONS = {
    "1d": lambda: nn.Sequential(nn.Flatten(2), nn.Conv1d(4, 6, 4, 3, 2, 2, 2)),
    "2d": lambda: nn.Conv2d(4, 6, (3, 2), (2, 1), (1, 2), (1, 2), 2),
    "3d": lambda: nn.Sequential(nn.Unflatten(1, (4, 1)), nn.Conv3d(4, 2, (1, 3, 3), padding=(0, 1, 1))),
    "depthwise": lambda: nn.Conv2d(4, 8, 3, groups=4),
    "same": lambda: nn.Conv2d(4, 3, 3, padding="same", dilation=2),
    "same, even": lambda: nn.Conv2d(4, 3, (2, 4), padding="same"),
    "valid": lambda: nn.Conv2d(4, 3, 2, padding="valid"),
    "reflect": lambda: nn.Conv2d(4, 3, 3, padding=2, padding_mode="reflect"),
    "replicate": lambda: nn.Conv2d(4, 3, 3, padding=1, padding_mode="replicate"),
    "circular": lambda: nn.Conv2d(4, 3, 3, padding=1, padding_mode="circular"),
    "transposed 1d": lambda: nn.Sequential(nn.Flatten(2), nn.ConvTranspose1d(4, 6, 3, 2, 1, 1, 2)),
    "transposed 2d": lambda: nn.ConvTranspose2d(4, 6, 3, 2, (1, 0), 1, 2, dilation=2),
    "transposed 3d": lambda: nn.Sequential(nn.Unflatten(1, (4, 1)), nn.ConvTranspose3d(4, 2, (1, 2, 2))),
    "without a batch": lambda: Net(lambda net, x: torch.stack([net.c(v) for v in x]), c=nn.Conv2d(4, 3, 3, padding=1)),
    "unfolded": lambda: nn.Sequential(nn.Unfold(3), nn.Flatten(), nn.Linear(36 * 30, 2)),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
@pytest.mark.filterwarnings("ignore:Using padding='same'")
def test_convolutions(name):
    torch.manual_seed(0)
    net, x = CONVOLUTIONS[name]().double().eval(), image(2, 4, 7, 8, **SIGNED)
    start = image(*net(x).shape[1:], seed=3)
    close(shares(net, x, EXACT, start), plain(net, x, start))
    found = shares(net, x, {"conv": z_plus(), "linear": z_plus()}, start)
    assert (found - plain(net, x, start)).abs().max() > 0.01 * found.abs().max()  # the rule was at work


A, B = weights(5, 6), weights(2, 6, 3, seed=2)
PRODUCTS = {
    "linear": lambda x: F.linear(x, A),
    "matmul": lambda x: torch.matmul(x, A.T),
    "matmul, weight first": lambda x: torch.matmul(A, x.mT).mT,
    "@": lambda x: x @ A.T,
    "weight @": lambda x: (A @ x.mT).mT,
    "mm": lambda x: torch.stack([torch.mm(row[0], A.T) for row in x])[:, None],
    "mv": lambda x: torch.stack([torch.stack([torch.mv(A, v) for v in row[0]]) for row in x])[:, None],
    "bmm": lambda x: torch.bmm(x[:, 0], A.T.expand(2, -1, -1))[:, None],
    "einsum": lambda x: torch.einsum("nchd,kd->nchk", x, A),
    "einsum of a list": lambda x: torch.einsum("kd,nchd->nchk", [A, x]),
    "tensordot": lambda x: torch.tensordot(x, A, dims=([3], [1])),
    "inner": lambda x: torch.inner(x, A),
    "addmm": lambda x: torch.stack([torch.addmm(torch.zeros(5).double(), row[0], A.T) for row in x])[:, None],
    "addmm by name": lambda x: torch.addmm(mat2=A.T, input=torch.zeros(5).double(), mat1=x.flatten(0, 2)).view(
        2, 1, 4, 5
    ),
    "baddbmm": lambda x: torch.baddbmm(torch.zeros(5).double(), x[:, 0], A.T.expand(2, -1, -1))[:, None],
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_products_with_weights_are_dense_layers(name):
    x = image(2, 1, 4, 6, **SIGNED)
    reference, net = (Net(lambda _, x, f=f: f(x)) for f in (PRODUCTS["linear"], PRODUCTS[name]))
    for rules in (EXACT, GAMMA, EXCITATION_BACKPROP):
        close(shares(net, x, rules), shares(reference, x, rules))


@pytest.mark.parametrize("beta", [1, 0.5])
def test_fused_products_count_their_bias_as_a_dense_layer_does(beta):
    b, x = weights(5, seed=4), image(2, 1, 2, 3, **SIGNED)
    dense = Net(lambda _, x: F.linear(x.flatten(1), A, b * beta))
    fused = Net(lambda _, x: torch.addmm(b, x.flatten(1), A.T, beta=beta))
    for rules in (EXACT, GAMMA if beta == 1 else EPSILON):
        close(shares(fused, x, rules), shares(dense, x, rules), 1e-4)


def test_products_of_activations_share_by_half():
    x = image(2, 2, 4, 4, **SIGNED)
    none = torch.zeros(4, 4).double()
    for multiply in (torch.matmul, torch.mul, torch.bmm, lambda a, b: torch.einsum("nij,njk->nik", a, b),
                     lambda a, b: a @ b, lambda a, b: torch.baddbmm(none, a, b)):  # fmt: skip
        net = Net(lambda _, x: multiply(x[:, 0], x[:, 1]))
        found = shares(net, x, EXACT)
        close(found, plain(net, x) / 2)
        close(found[:, 0].sum((1, 2)), found[:, 1].sum((1, 2)))
        close(found.flatten(1).sum(1), net(x).flatten(1).sum(1))
    close(shares(Net(lambda _, x: x[:, 0] @ x[:, 0]), x, EXACT).flatten(1).sum(1), (x[:, 0] @ x[:, 0]).sum((1, 2)))


def test_bilinear():
    x, module = image(2, 2, 1, 3, **SIGNED), nn.Bilinear(3, 3, 4, bias=False)
    net = Net(lambda net, x: net.b(x[:, 0, 0], x[:, 1, 0]), b=module)
    close(shares(net, x, EXACT), plain(net, x) / 2)
    fixed = weights(2, 3)
    one = Net(lambda net, x: net.b(x[:, 0, 0], fixed), b=module)
    close(shares(one, x, EXACT), plain(one, x))


# --- normalization -----------------------------------------------------------------------------------------


def norm(module):
    for name in ("running_mean", "weight", "bias"):
        if getattr(module, name, None) is not None:
            nn.init.normal_(getattr(module, name))
    if getattr(module, "running_var", None) is not None:
        nn.init.uniform_(module.running_var, 0.5, 2)
    return module.double().eval()


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("kind", ["conv", "transposed", "linear"])
@pytest.mark.parametrize("written", ["", "in place"])
def test_batch_norm_joins_the_map_before_it(kind, biased, written):
    """As one layer with the products of the weights, made here by hand."""
    torch.manual_seed(0)
    x = image(2, 4, 3, 3, **SIGNED)
    bn = norm((nn.BatchNorm1d if kind == "linear" else nn.BatchNorm2d)(6))
    scale = bn.weight / (bn.running_var + bn.eps).sqrt()
    if kind == "linear":
        module = nn.Linear(36, 6, biased).double()
        w = module.weight * scale[:, None]
    elif kind == "conv":
        module = nn.Conv2d(4, 6, 3, padding=1, groups=2, bias=biased).double()
        w = module.weight * scale[:, None, None, None]
    else:
        module = nn.ConvTranspose2d(4, 6, 2, groups=2, bias=biased).double()
        w = module.weight * torch.stack([scale[:3]] * 2 + [scale[3:]] * 2)[:, :, None, None]
    b = (module.bias if biased else 0) * scale + bn.bias - bn.running_mean * scale
    joined = {
        "linear": lambda x: F.linear(x.flatten(1), w, b),
        "conv": lambda x: F.conv2d(x, w, b, padding=1, groups=2),
        "transposed": lambda x: F.conv_transpose2d(x, w, b, groups=2),
    }[kind]
    flat = kind == "linear"
    net = Net(lambda net, x: net.n(net.m(x.flatten(1) if flat else x)).relu(), m=module, n=bn)
    if written:
        net.body = lambda net, x: F.relu(net.n(net.m(x.flatten(1) if flat else x)), inplace=True)
    reference = Net(lambda _, x: joined(x).relu())
    for rules in (GAMMA, {**EXACT, "conv": z_plus(), "linear": z_plus()}, {**EXACT, "conv": epsilon(bias=False)}):
        close(shares(net, x, rules), shares(reference, x, rules), 1e-6)


def test_batch_norm_behind_something_reshaped_is_a_layer_of_its_own():
    net = Net(lambda net, x: net.n(net.l(x).flatten(0, 2)).view(2, -1), l=nn.Linear(4, 5), n=norm(nn.BatchNorm1d(5)))
    x = image(2, 3, 2, 4, **SIGNED)
    close(shares(net, x, {**EXACT, "linear": zero()}), plain(net, x))


def detached(x, axes, centered=True, eps=1e-5):
    mean = x.mean(axes, keepdim=True) if centered else 0
    square = ((x - mean) ** 2).mean(axes, keepdim=True).detach()
    return (x - mean) / (square + eps).sqrt()


W3, B3 = weights(4, 1, 1), weights(4, 1, 1, seed=2)
NORMS = {
    "batch": (lambda: nn.BatchNorm2d(4), None),
    "layer": (lambda: nn.LayerNorm([3, 5]), lambda m, x: detached(x, (2, 3)) * m.weight + m.bias),
    "layer, plain": (
        lambda: nn.LayerNorm(5, elementwise_affine=False, eps=1e-3), lambda m, x: detached(x, 3, eps=1e-3)),
    "group": (lambda: nn.GroupNorm(2, 4), lambda m, x: detached(x.view(2, 2, -1), 2).view_as(x)
              * m.weight.view(-1, 1, 1) + m.bias.view(-1, 1, 1)),
    "instance": (lambda: nn.InstanceNorm2d(4, affine=True), lambda m, x: detached(x, (2, 3))
                 * m.weight.view(-1, 1, 1) + m.bias.view(-1, 1, 1)),
    "instance with its own statistics": (lambda: nn.InstanceNorm2d(4, track_running_stats=True), None),
    "rms": (lambda: nn.RMSNorm(5, eps=1e-4), lambda m, x: detached(x, 3, False, 1e-4) * m.weight),
}  # fmt: skip


@pytest.mark.parametrize("name", NORMS)
def test_norms_with_their_statistics_fixed(name):
    torch.manual_seed(0)
    make, by_hand = NORMS[name]
    module, x = norm(make()), image(2, 4, 3, 5, **SIGNED)
    net, start = Net(lambda net, x: net.n(x), n=module), image(4, 3, 5, seed=4)
    reference = net if by_hand is None else Net(lambda net, x: by_hand(net.n, x), n=module)
    close(shares(net, x, EXACT, start), plain(reference, x, start))
    passed = shares(net, x, {"norm": pass_through()}, start)
    close(passed, net(x).detach() * start)


# --- pooling, resampling, shapes ---------------------------------------------------------------------------

LINEAR_OR_CHOICE = {
    "max": nn.MaxPool2d(2),
    "max, overlapping": nn.MaxPool2d(3, 1, 1),
    "max, indices": Net(lambda _, x: F.max_pool2d(x, 2, return_indices=True)[0]),
    "max 1d": Net(lambda _, x: F.max_pool1d(x.flatten(2), 3)),
    "max 3d": Net(lambda _, x: F.max_pool3d(x[:, None], 2)),
    "adaptive max": nn.AdaptiveMaxPool2d(2),
    "average": nn.AvgPool2d(3, 2, 1, count_include_pad=False),
    "average 1d": Net(lambda _, x: F.avg_pool1d(x.flatten(2), 3)),
    "average 3d": Net(lambda _, x: F.avg_pool3d(x[:, None], 2)),
    "adaptive average": nn.AdaptiveAvgPool2d((2, 3)),
    "mean": Net(lambda _, x: x.mean((2, 3))),
    "amax": Net(lambda _, x: x.amax((2, 3))),
    "lp": nn.LPPool2d(2, 2),
    "bilinear": Net(lambda _, x: F.interpolate(x, scale_factor=1.7, mode="bilinear", align_corners=False)),
    "bicubic": Net(lambda _, x: F.interpolate(x, (5, 9), mode="bicubic")),
    "nearest": nn.Upsample(scale_factor=2),
    "padded": Net(lambda _, x: F.pad(x, (1, 2, 0, 1), value=3.0)),
    "reflected": nn.ReflectionPad2d(2),
    "unshuffled": nn.PixelUnshuffle(2),
    "dropout": nn.Sequential(nn.Dropout(0.5), nn.Dropout2d(0.5, inplace=True), nn.AlphaDropout()),
    "rolled": Net(lambda _, x: x.roll((1, 2), (2, 3)).flip(1).permute(0, 2, 3, 1)),
    "maxout": Net(lambda _, x: torch.maximum(x[:, :2], x[:, 2:])),
    "relu": Net(lambda _, x: torch.where(x > 0, x, 0.1 * x)),
}


@pytest.mark.parametrize("name", LINEAR_OR_CHOICE)
def test_what_is_linear_or_a_choice(name):
    net, x = LINEAR_OR_CHOICE[name].double().eval(), image(2, 4, 6, 6, **SIGNED)
    x = x.abs() if name == "lp" else x
    start = image(*net(x).shape[1:], seed=3) + 0.1
    found = shares(net, x, EXACT, start)
    close(found, plain(net, x, start), 1e-5)  # norm() stabilizes
    if name != "padded":
        close(found.flatten(1).sum(1), (net(x) * start).flatten(1).sum(1).detach(), 1e-4)


# --- activations -------------------------------------------------------------------------------------------

BENT = [
    nn.ReLU(), nn.ReLU(True), nn.ReLU6(), nn.ReLU6(True), nn.LeakyReLU(0.2), nn.LeakyReLU(0.2, True), nn.PReLU(),
    nn.RReLU(), nn.RReLU(inplace=True), nn.ELU(), nn.ELU(inplace=True), nn.CELU(0.5), nn.CELU(0.5, True), nn.SELU(),
    nn.SELU(True), nn.GELU(), nn.GELU("tanh"), nn.SiLU(), nn.SiLU(True), nn.Mish(), nn.Mish(True), nn.Hardswish(),
    nn.Hardswish(True), nn.Hardsigmoid(), nn.Hardsigmoid(True), nn.Sigmoid(), nn.Tanh(), nn.Softplus(2),
    nn.Softsign(), nn.Hardtanh(-0.5, 1), nn.Hardtanh(-0.5, 1, True), nn.Threshold(0.1, 2), nn.Threshold(0.1, 2, True),
    nn.Hardshrink(), nn.Softshrink(), nn.Tanhshrink(), nn.LogSigmoid(),
]  # fmt: skip
CALLS = {
    "relu_": lambda x: x.relu_(), "F.relu_": F.relu_, "torch.relu": torch.relu, "clamp": lambda x: x.clamp(min=0),
    "clamp_min_": lambda x: x.clamp_min_(0), "clamp(0, 6)": lambda x: x.clamp(0, 6), "tanh_": lambda x: x.tanh_(),
    "by position": lambda x: F.leaky_relu(x, 0.3, True), "sigmoid_": torch.sigmoid_, "square": lambda x: x**2,
    "**=": lambda x: x.__ipow__(2), "clamp(-1)": lambda x: x.clamp_min(-1), "elu_": F.elu_,
}  # fmt: skip


@pytest.mark.parametrize("bend", [*BENT, *CALLS], ids=str)
def test_activations_pass_relevance_on(bend):
    bend = CALLS[bend] if isinstance(bend, str) else bend.double().eval()
    x = image(2, 3, 4, 4, **SIGNED)
    net, start = Net(lambda net, x: bend(x * 1.0)), image(3, 4, 4, seed=3)
    close(shares(net, x, EXACT, start), net(x) * start)
    # Between two layers, the first of which is needed again in the backward.
    layers = {"c": nn.Conv2d(3, 4, 3), "d": nn.Conv2d(4, 2, 2)}
    deep = Net(lambda net, x: net.d(bend(net.c(x))), **layers)
    copied = Net(lambda net, x: net.d(bend(net.c(x).clone())), **layers)
    close(shares(deep, x, GAMMA), shares(copied, x, GAMMA))


def test_a_gate_takes_nothing_but_what_it_is_told():
    """GLU is a product with a gate; so is x sigmoid(x), which then is SiLU, in any spelling."""
    x = image(2, 4, 3, 3, **SIGNED)
    glu = Net(lambda _, x: F.glu(x, 1))
    close(shares(glu, x, EXACT), torch.cat([glu(x), torch.zeros_like(glu(x))], 1))
    half = shares(glu, x, {**EXACT, "product": share(gate=0.5)})
    close(half, torch.cat([glu(x), glu(x)], 1) / 2)
    for spelling in (lambda x: x * x.sigmoid(), lambda x: x.sigmoid() * x, lambda x: x.sigmoid().mul_(x)):
        close(shares(Net(lambda _, x: spelling(x)), x, EXACT), F.silu(x))
    quotient = Net(lambda _, x: x / (1 + (-x).exp()))
    close(shares(quotient, x, EXACT), F.silu(x))

    def excite(times):
        def forward(_, x):
            gate = x.flip(1).mean((2, 3), keepdim=True).sigmoid()
            return times(x * 1.0, gate)

        return Net(forward)

    def gate_first(y, gate):
        gate = gate.expand_as(y).clone()
        gate *= y
        return gate

    for gate in (0.0, 0.3):
        rules = {**EXACT, "product": share(gate=gate)}
        expected = shares(excite(torch.mul), x, rules)
        for times in (lambda y, g: y.mul_(g), lambda y, g: g * y, gate_first):
            close(shares(excite(times), x, rules), expected)


# --- all together ---------------------------------------------------------------------------------------


@pytest.mark.slow
@given(st.lists(st.integers(1, 5), min_size=1, max_size=3), st.integers(0, 99), st.sampled_from([0.0, 0.3, 2.0]))
@settings(max_examples=25)
def test_without_biases_relevance_is_kept(widths, seed, value):
    """Convolution, sum, pooling, product with a gate, dense layer: the pixels' relevance is the output."""
    torch.manual_seed(seed)
    sizes = [2, *widths]
    parts = {f"c{n}": nn.Conv2d(a, b, 3, padding=1, bias=False) for n, (a, b) in enumerate(pairwise(sizes))}

    def forward(net, x):
        for n in range(len(widths)):
            y = getattr(net, f"c{n}")(x)
            x = F.silu(y) + F.relu(y) if n % 2 else F.gelu(y) * y.mean((2, 3), keepdim=True).sigmoid()
        return net.l(F.max_pool2d(x, 2).flatten(1))

    net = Net(forward, l=nn.Linear(4 * widths[-1], 3, bias=False), **parts)
    x, start = image(2, 2, 4, 4, seed=seed, signed=True), image(3, seed=seed)
    for rule in (zero(), gamma(value), z_plus() if value else epsilon()):
        if rule.name == "z_plus":
            continue  # outputs below zero have nothing that speaks for them
        found = shares(net, x, {**EXACT, "conv": rule, "linear": rule}, start)
        close(found.flatten(1).sum(1), (net(x) * start).sum(1).detach(), 1e-3)


@pytest.mark.parametrize("make", [nn.LSTM, nn.GRU, nn.RNN, nn.LSTMCell, nn.GRUCell, nn.RNNCell])
def test_recurrent_layers_are_refused_in_words(make):
    def forward(net, x):
        out = net.r(x[:, 0, 0] if "Cell" in make.__name__ else x[:, 0])
        return (out[0] if isinstance(out, tuple) else out).flatten(1)

    net = Net(forward, r=make(4, 3))
    with pytest.raises(RuleError, match="layer 'r' calls .* recurrent"):
        shares(net, image(2, 1, 3, 4), EPSILON)
