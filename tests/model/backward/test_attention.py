"""Attention: the fused functions, as the steps that they are made of."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import pellucid
from pellucid.rules import ATTNLRP, gradient, stop

from .nets import EXACT, Net, close, image, plain, run, shares

SIGNED = {"signed": True}


def weights(*shape, seed=1):
    return image(*shape, seed=seed, signed=True)


def by_steps(q, k, v, mask=None, causal=False, scale=None):
    scores = (q * (scale or 1 / math.sqrt(q.shape[-1]))) @ k.mT
    if causal:
        mask = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool).tril()
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + mask
    return scores.softmax(-1) @ v


BOOL, FLOAT = image(5, 5, seed=8) > 0.4, image(5, 5, seed=8)
BOOL[:, 0] = True


@pytest.mark.parametrize(
    "options", [{}, {"attn_mask": BOOL}, {"attn_mask": FLOAT}, {"is_causal": True}, {"scale": 0.3}], ids=str
)
@pytest.mark.parametrize(
    "rules", [EXACT, {**EXACT, "softmax": stop()}, {**EXACT, "product": gradient()}], ids=["attn", "cp", "plain"]
)
def test_attention_is_its_steps(options, rules):
    x = image(2, 3, 5, 4, **SIGNED)
    names = {"attn_mask": "mask", "is_causal": "causal", "scale": "scale"}
    steps = {names[key]: value for key, value in options.items()}
    for pick in (lambda x: (x[:, :1], x[:, 1:2], x[:, 2:]), lambda x: (x, x, x),
                 lambda x: (x, x, x.detach()), lambda x: (x, weights(2, 3, 5, 4), x)):  # fmt: skip
        fused = Net(lambda _, x: F.scaled_dot_product_attention(*pick(x), **options))
        slow = Net(lambda _, x: by_steps(*pick(x), **steps))
        if rules.get("softmax") == stop() and not pick(image(1, 3, 5, 4).requires_grad_())[2].requires_grad:
            continue
        close(shares(fused, x, rules), shares(slow, x, rules))


def test_grouped_queries():
    x = image(2, 6, 5, 4, **SIGNED)
    fused = Net(lambda _, x: F.scaled_dot_product_attention(x[:, :4], x[:, 4:], x[:, 4:], enable_gqa=True))
    slow = Net(lambda _, x: by_steps(x[:, :4], *[x[:, 4:].repeat_interleave(2, 1)] * 2))
    close(shares(fused, x, EXACT), shares(slow, x, EXACT))


# --- torch.nn.MultiheadAttention ---------------------------------------------------------------------------

HEADS = {
    "plain": {},
    "sequence first": {"batch_first": False},
    "bias of keys": {"add_bias_kv": True},
    "a zero": {"add_zero_attn": True},
    "both": {"add_bias_kv": True, "add_zero_attn": True},
    "no bias": {"bias": False},
    "other widths": {"kdim": 4, "vdim": 6},
}
PADDING = torch.tensor([[False] * 5, [False, True, False, False, True]])
CALLS = {
    "plain": {},
    "mask": {"attn_mask": ~BOOL},
    "floating mask": {"attn_mask": FLOAT},
    "mask of each head": {"attn_mask": (image(4, 5, 5, seed=9) > 0.7) & ~torch.eye(5, dtype=torch.bool)},
    "padding": {"key_padding_mask": PADDING},
    "both": {"attn_mask": FLOAT, "key_padding_mask": PADDING.double() * -3},
    "causal": {"attn_mask": torch.ones(5, 5).triu(1).bool(), "is_causal": True},
    "all weights": {"average_attn_weights": False},
}


def many_headed(module, options, need, picks=None):
    """N x 1 x 5 x 8 images as five words of eight numbers."""

    def forward(net, x):
        x = x[:, 0] if module.batch_first else x[:, 0].transpose(0, 1)
        q, k, v = picks(x) if picks else (x, x, x)
        out, seen = net.a(q, k, v, need_weights=need, **options)
        out = out if module.batch_first else out.transpose(0, 1)
        return out if seen is None else out + 0 * seen.detach().sum()

    return Net(forward, a=module)


@pytest.mark.parametrize("make", HEADS)
@pytest.mark.parametrize("options", CALLS)
def test_multi_head_attention(make, options):
    torch.manual_seed(0)
    module = nn.MultiheadAttention(8, 2, **{"batch_first": True, **HEADS[make]})
    if module.out_proj.bias is not None:
        nn.init.normal_(module.out_proj.bias)
    x, start = image(2, 1, 5, 8, **SIGNED), image(5, 8, seed=3)
    picks = (lambda x: (x, x[..., :4], x[..., 2:])) if make == "other widths" else None
    found = []
    for need in (True, False):
        net = many_headed(module, CALLS[options], need, picks)
        given = x.clone().requires_grad_()
        torch.testing.assert_close(run(net, given, rules=EXACT).output, net(x), rtol=1e-12, atol=1e-12)
        found.append(pellucid.lrp(net, x, lambda out: (out * start).flatten(1).sum(1), rules=EXACT).values)
        ordinary = dict.fromkeys(("conv", "linear", "norm", "softmax", "product", "sum"), gradient())
        same = pellucid.lrp(net, x, lambda out: (out * start).flatten(1).sum(1), rules=ordinary).values
        close(same, plain(net, x, start))
    if options != "causal" or make not in ("bias of keys", "a zero", "both"):  # torch itself masks these differently
        close(*found)


def test_many_heads_are_dense_layers_around_an_attention():
    torch.manual_seed(0)
    module, x = nn.MultiheadAttention(8, 2, batch_first=True), image(2, 1, 5, 8, **SIGNED)

    def slow(net, x):
        q, k, v = F.linear(x[:, 0], net.in_proj_weight, net.in_proj_bias).view(2, 5, 3, 2, 4).permute(2, 0, 3, 1, 4)
        return net.out_proj(by_steps(q, k, v).transpose(1, 2).flatten(2))

    reference = Net(lambda net, x: slow(net.a, x), a=module)
    for rules in (ATTNLRP, EXACT):
        expected = pellucid.lrp(reference, x, lambda out: out[:, 1].sum(1), rules=rules).values
        for need in (True, False):
            net = many_headed(module, {}, need)
            close(pellucid.lrp(net, x, lambda out: out[:, 1].sum(1), rules=rules).values, expected, 1e-6)


def test_without_a_batch():
    net = Net(
        lambda net, x: torch.stack([net.a(row[0], row[0], row[0])[0] for row in x]), a=nn.MultiheadAttention(8, 2)
    )
    many = many_headed(net.a, {}, True)
    x = image(2, 1, 5, 8, **SIGNED)
    expected = pellucid.lrp(many, x, lambda out: out[:, 1].sum(1), rules=ATTNLRP).values
    close(pellucid.lrp(net, x, lambda out: out[:, 1].sum(1), rules=ATTNLRP).values, expected, 1e-5)


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("act", ["relu", "gelu"])
def test_encoder_layers(first, batch_first, act):
    """Also where torch would take a fused fast path: evaluation without gradients."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, activation=act, norm_first=first, batch_first=batch_first)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = nn.TransformerEncoder(layer, 2)

    def forward(net, x):
        x = x[:, 0] if batch_first else x[:, 0].transpose(0, 1)
        x = net.e(x)
        return net.h(x.mean(1 if batch_first else 0))

    net, x = Net(forward, e=whole, h=nn.Linear(8, 3)), image(3, 1, 5, 8, **SIGNED)
    for frozen in (False, True):
        net.requires_grad_(not frozen)
        with torch.no_grad():
            fast = net(x)
        found = run(net, x.clone().requires_grad_(), rules=ATTNLRP)
        torch.testing.assert_close(found.output, fast, rtol=1e-12, atol=1e-12)
        result = pellucid.lrp(net, x, 1, rules=ATTNLRP)
        alone = torch.cat([pellucid.lrp(net, row[None], 1, rules=ATTNLRP).values for row in x])
        close(result.values, alone, 1e-4)
    if batch_first:  # pellucid wants the batch first in an activation
        inner = pellucid.lrp(net, x, 1, rules=ATTNLRP, layer="e.layers.0")
        assert inner.values.shape == (3, 5, 8) and inner.values.isfinite().all()
