"""AttnLRP and CP-LRP on a transformer, against their published formulas, relevance by relevance.

The formulas are those of Achtibat et al. 2024 (AttnLRP) and Ali et al. 2022 (CP-LRP), written out below for a block of
a vision transformer: what each step hands back is relevance itself, not a gradient.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import pellucid
from pellucid.rules import ATTNLRP, CP_LRP, epsilon, norm

from .networks import agree, scattered

EPS = 1e-6
WIDTH, HEADS, TOKENS = 12, 3, 9


class Block(nn.Module):
    """Attention and a perceptron, each behind a layer norm and beside a shortcut."""

    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.q, self.k, self.v, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.fc1, self.fc2 = nn.Linear(WIDTH, 20), nn.Linear(20, WIDTH)
        self.fused = fused

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm1(x)
        q, k, v = (heads(layer(h)) for layer in (self.q, self.k, self.v))
        if self.fused:
            mixed = F.scaled_dot_product_attention(q, k, v)
        else:
            mixed = ((q @ k.transpose(2, 3)) / q.shape[3] ** 0.5).softmax(-1) @ v
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class Transformer(nn.Module):
    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, WIDTH, 4, 4)
        self.block = Block(fused)
        self.head = nn.Linear(WIDTH, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.block(self.patches(x).flatten(2).transpose(1, 2)).mean(1))


def heads(x: Tensor) -> Tensor:
    return x.unflatten(2, (HEADS, -1)).transpose(1, 2)


def stable(z: Tensor) -> Tensor:
    return z + EPS * torch.where(z >= 0, 1.0, -1.0)


def of_linear(layer: nn.Module, x: Tensor, relevance: Tensor) -> Tensor:
    """R_j = sum_k x_j w_jk R_k / (y_k + eps)."""
    return x * (relevance / stable(layer(x)) @ layer.weight)


def of_norm(layer: nn.LayerNorm, x: Tensor, relevance: Tensor) -> Tensor:
    """The same for x -> (x - mean) w / std + b, whose standard deviation is a constant."""
    deviation = (x.var(-1, unbiased=False, keepdim=True) + layer.eps).sqrt()
    matrix = torch.eye(WIDTH, dtype=x.dtype) - 1 / WIDTH
    return x * ((relevance / stable(layer(x)) * layer.weight / deviation) @ matrix)


def of_sum(a: Tensor, b: Tensor, relevance: Tensor) -> tuple[Tensor, Tensor]:
    share = relevance / stable(a + b)
    return a * share, b * share


def of_product(a: Tensor, b: Tensor, relevance: Tensor) -> tuple[Tensor, Tensor]:
    """R_a = a * (R / 2 (a b)) b', and alike for b: half for each factor."""
    share = relevance / (2 * (a @ b))
    return a * (share @ b.transpose(-1, -2)), b * (a.transpose(-1, -2) @ share)


def of_softmax(x: Tensor, relevance: Tensor) -> Tensor:
    """R_i = x_i (R_i - s_i sum_j R_j)."""
    return x * (relevance - x.softmax(-1) * relevance.sum(-1, keepdim=True))


def by_formulas(net: Transformer, images: Tensor, target: int, constant_attention: bool) -> Tensor:
    """The relevance of the patches' embedding, N x tokens x width."""
    block = net.block
    x = net.patches(images).flatten(2).transpose(1, 2)
    h1 = block.norm1(x)
    q, k, v = (heads(layer(h1)) for layer in (block.q, block.k, block.v))
    scores = q @ k.transpose(2, 3) / q.shape[3] ** 0.5
    weights = scores.softmax(-1)
    mixed = weights @ v
    joined = mixed.transpose(1, 2).flatten(2)
    attended = block.out(joined)
    x2 = x + attended
    h2 = block.norm2(x2)
    inner = block.fc1(h2)
    active = F.gelu(inner)
    more = block.fc2(active)
    x3 = x2 + more
    pooled = x3.mean(1)
    out = net.head(pooled)

    relevance = of_linear(net.head, pooled, out * F.one_hot(torch.tensor(target), 5))
    relevance = x3 / TOKENS * (relevance / stable(pooled))[:, None]
    r2, r_more = of_sum(x2, more, relevance)
    r_more = of_linear(block.fc2, active, r_more)  # which gelu passes on
    r2 = r2 + of_norm(block.norm2, x2, of_linear(block.fc1, h2, r_more))
    r1, r_attended = of_sum(x, attended, r2)
    r_mixed = of_linear(block.out, joined, r_attended).unflatten(2, (HEADS, -1)).transpose(1, 2)
    r_weights, r_v = of_product(weights, v, r_mixed)
    if constant_attention:
        r_h = of_linear(block.v, h1, flat(2 * r_v))
    else:
        r_q, r_k = of_product(q, k.transpose(2, 3), of_softmax(scores, r_weights))
        r_h = of_linear(block.v, h1, flat(r_v))
        r_h = r_h + of_linear(block.q, h1, flat(r_q)) + of_linear(block.k, h1, flat(r_k.transpose(2, 3)))
    return r1 + of_norm(block.norm1, x, r_h)


def flat(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(2)


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "in parts"])
@pytest.mark.parametrize("preset", [ATTNLRP, CP_LRP], ids=["AttnLRP", "CP-LRP"])
def test_the_published_formulas(preset, fused):
    torch.manual_seed(2)
    net = scattered(Transformer(fused)).double()
    images = torch.randn(2, 3, 12, 12, dtype=torch.float64)
    exact = {"linear": epsilon(EPS), "norm": epsilon(EPS), "sum": norm(EPS), "average": norm(EPS)}
    rules = {**preset, **exact}
    found = pellucid.lrp(net, images, 3, rules=rules, layer="patches").values.flatten(2).transpose(1, 2)
    with torch.no_grad():
        expected = by_formulas(net, images, 3, preset is CP_LRP)
    agree(found, expected, 1e-9)


@pytest.mark.parametrize("preset", [ATTNLRP, CP_LRP], ids=["AttnLRP", "CP-LRP"])
def test_all_ways_of_writing_an_attention(preset):
    """torch's module, its functional form, the fused function and the parts of it have the same relevance."""
    torch.manual_seed(2)
    module = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True).eval().double()

    class Net(nn.Module):
        def __init__(self, need_weights: bool | None) -> None:
            super().__init__()
            self.attention, self.need_weights = module, need_weights
            self.eval()

        def forward(self, x: Tensor) -> Tensor:
            x = x.flatten(2).transpose(1, 2)
            if self.need_weights is not None:
                return self.attention(x, x, x, need_weights=self.need_weights)[0].sum(1)
            q, k, v = (heads(t) for t in F.linear(x, module.in_proj_weight, module.in_proj_bias).chunk(3, -1))
            mixed = ((q @ k.transpose(2, 3)) / q.shape[3] ** 0.5).softmax(-1) @ v
            return module.out_proj(flat(mixed)).sum(1)

    images = torch.randn(2, WIDTH, 3, 3, dtype=torch.float64)
    expected = pellucid.lrp(Net(None), images, 3, rules=preset).values
    for need_weights in (True, False):
        agree(pellucid.lrp(Net(need_weights), images, 3, rules=preset).values, expected, 1e-12)
