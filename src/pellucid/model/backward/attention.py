"""Attention: fused functions taken apart as far as rules need it."""

# ruff: noqa: ARG001 - the signatures are those of torch

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .function_kinds import tensors
from .products import weighted
from .watch import Watch


def scaled_dot_product(watch: Watch, func: Any, args: Any, kwargs: Any) -> Any:
    """softmax(q k') v: two products and a softmax.

    With half of a product's relevance for each factor, v has one half, q and k a quarter each; where the softmax
    is a constant, v has all.
    """
    if not any(map(watch.depends, tensors((*args, *kwargs.values())))):
        return func(*args, **kwargs)

    def named(query: Tensor, key: Tensor, value: Tensor, *rest: Any, **more: Any) -> Any:
        return query, key, value, rest, more

    q, k, v, rest, more = named(*args, **kwargs)
    softmax, product = watch.rule_of("softmax", func), watch.rule_of("product", func)
    scores = watch.depends(q) + watch.depends(k)
    if softmax is not None and softmax.on == "stop":
        q, k = q.detach(), k.detach()
    elif product is not None and product.name == "share":
        part = 0.5 if scores and watch.depends(v) else 1.0
        q, k = (weighted(t, part / max(1, scores)) if watch.depends(t) else t for t in (q, k))
        v = weighted(v, part) if watch.depends(v) else v
    return watch.acknowledge(func(q, k, v, *rest, **more))


def multi_head(watch: Watch, func: Any, args: Any, kwargs: Any) -> Any:
    """F.multi_head_attention_forward, in sight: dense layers, products and a softmax."""
    if not any(map(watch.depends, tensors((*args, *kwargs.values())))):
        return func(*args, **kwargs)
    with watch:
        return _multi_head(*args, **kwargs)


def _multi_head(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    training: bool = True,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Tensor | None = None,
    k_proj_weight: Tensor | None = None,
    v_proj_weight: Tensor | None = None,
    static_k: Tensor | None = None,
    static_v: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:
    lone = query.dim() == 2
    if lone:
        query, key, value = query.unsqueeze(1), key.unsqueeze(1), value.unsqueeze(1)
        key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
    length, count, width = query.shape
    q, k, v = _projected(
        query, key, value, in_proj_weight, in_proj_bias,
        (q_proj_weight, k_proj_weight, v_proj_weight) if use_separate_proj_weight else None,
    )  # fmt: skip
    if bias_k is not None and bias_v is not None:
        k, v = (torch.cat([t, b.expand(1, count, -1)]) for t, b in ((k, bias_k), (v, bias_v)))
    heads = width // num_heads
    q, k, v = (t.reshape(-1, count * num_heads, t.shape[-1] // num_heads).transpose(0, 1) for t in (q, k, v))
    k, v = (k if static_k is None else static_k), (v if static_v is None else static_v)
    if add_zero_attn:
        k, v = (torch.cat([t, t.new_zeros(len(t), 1, t.shape[2])], dim=1) for t in (k, v))
    q, k, v = (t.view(count, num_heads, t.shape[1], heads) for t in (q, k, v))
    causal = is_causal and key_padding_mask is None and not need_weights  # torch then leaves the mask aside
    mask = _mask(None if causal else attn_mask, key_padding_mask, count, num_heads, length, k.shape[2], q)
    weights = None
    if need_weights:
        scores = (q * heads**-0.5) @ k.transpose(2, 3)
        weights = (scores if mask is None else scores + mask).softmax(-1)
        out = weights @ v
        weights = weights.mean(1) if average_attn_weights else weights
    else:
        out = F.scaled_dot_product_attention(q, k, v, mask, 0.0, causal)
    out = F.linear(out.permute(2, 0, 1, 3).reshape(length * count, width), out_proj_weight, out_proj_bias)
    out = out.view(length, count, -1)
    if lone:
        return out.squeeze(1), None if weights is None else weights.squeeze(0)
    return out, weights


def _projected(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    separate: tuple[Tensor | None, Tensor | None, Tensor | None] | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values, each L x N x E."""
    if separate is None and key is value and query is key and weight is not None:
        joined = F.linear(query, weight, bias)
        q, k, v = joined.chunk(3, -1)
        return q, k, v
    weights = separate if separate is not None else weight.chunk(3) if weight is not None else ()
    biases = (None, None, None) if bias is None else bias.chunk(3)
    q, k, v = (F.linear(x, w, b) for x, w, b in zip((query, key, value), weights, biases, strict=True) if w is not None)
    return q, k, v


def _mask(
    mask: Tensor | None,
    padding: Tensor | None,
    count: int,
    heads: int,
    length: int,
    source: int,
    like: Tensor,
) -> Tensor | None:
    """Both masks as one that is added to the scores, N x heads x L x S."""
    total = None
    if mask is not None:
        mask = mask if mask.dim() == 2 else mask.view(count, heads, *mask.shape[1:])
        total = _added(mask, like).expand(count, heads, *mask.shape[-2:])
    if padding is not None:
        more = _added(padding, like).view(count, 1, 1, -1)
        total = more if total is None else total + more
    if total is None:
        return None
    missing = source - total.shape[-1]  # bias_k and the zero are seen by all
    total = F.pad(total, (0, missing)) if missing else total
    return total.expand(count, heads, length, source)


def _added(mask: Tensor, like: Tensor) -> Tensor:
    if mask.dtype == torch.bool:
        return torch.zeros_like(mask, dtype=like.dtype).masked_fill(mask, float("-inf"))
    return mask.to(like.dtype)
