"""Numbers of other precisions: what is rounding and what a mistake, half precision, float64."""

import numpy as np
import pytest
import torch

import pellucid
from pellucid.importers import ImportFailed

jax = pytest.importorskip("jax")
jnp, lax = jax.numpy, jax.lax

from .twins import float64, last  # noqa: E402

IMAGES = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))
W = np.random.default_rng(1).normal(size=(108, 8)).astype(np.float32)
V = np.random.default_rng(2).normal(size=(8, 3)).astype(np.float32)
KERNEL = np.random.default_rng(3).normal(0, 0.2, size=(3, 3, 3, 8)).astype(np.float32)


def level(x, offset):
    """A layer norm of rows that are nearly constant, with the variance as Flax has it: E[x^2] - E[x]^2."""
    with jax.named_scope("net"):
        with jax.named_scope("dense"):
            h = x.reshape(len(x), -1) @ W + offset
        with jax.named_scope("norm"):
            mean = h.mean(-1, keepdims=True)
            h = (h - mean) * lax.rsqrt((h * h).mean(-1, keepdims=True) - mean * mean + 1e-6)
        with jax.named_scope("activation"):
            h = jnp.tanh(h)
        with jax.named_scope("classes"):
            return h @ V


@pytest.mark.parametrize("jitted", [True, False])
def test_rounding_of_the_source_is_no_mistake(jitted, monkeypatch):
    def function(x):
        return level(x, 1000.0)

    function = jax.jit(function) if jitted else function
    with pytest.warns(UserWarning, match="by rounding alone: where both compute in float64"):
        model = pellucid.from_jax(function, last(IMAGES))
    assert 1e-4 < model.net.difference < 5e-2
    assert all(p.dtype == torch.float32 for p in model.parameters())
    with float64():
        wanted = torch.from_numpy(np.array(level(last(IMAGES.double()), 1000.0)))
    torch.testing.assert_close(model(IMAGES).double(), wanted, rtol=1e-3, atol=1e-3)

    # The same network with one function that is wrong by less than the source rounds.
    from pellucid.importers.jax import rules as jax_rules

    monkeypatch.setitem(jax_rules.RULES, "tanh", jax_rules.elementwise(lambda x: torch.tanh(x) * 1.001))
    with pytest.raises(ImportFailed, match=r"where both compute in float64 .* is layer '(net\.)?activation'"):
        pellucid.from_jax(function, last(IMAGES))


def test_a_network_that_is_nothing_but_rounding_is_refused():
    with pytest.raises(ImportFailed, match="by rounding alone.*nearly constant.*float64.*tolerance="):
        pellucid.from_jax(lambda x: level(x, 20000.0), last(IMAGES))
    with float64():
        model = pellucid.from_jax(lambda x: level(x, 20000.0), last(IMAGES.double()))
    assert model.net.difference < 1e-6


def test_a_layer_norm_of_flax_on_nearly_constant_images():
    linen = pytest.importorskip("flax.linen")
    norm = linen.LayerNorm(use_bias=False, use_scale=False, reduction_axes=(1, 2, 3))
    with pytest.warns(UserWarning, match="by rounding alone"):
        model = pellucid.from_jax(
            lambda x: norm.apply({}, x).reshape(len(x), -1) @ W, 2 + 0.05 * last(IMAGES), layout="NHWC"
        )
    rows = torch.from_numpy(2 + 0.05 * last(IMAGES)).permute(0, 3, 1, 2)
    exact = torch.nn.functional.layer_norm(rows.double(), rows.shape[1:], eps=1e-6)
    wanted = exact.permute(0, 2, 3, 1).flatten(1) @ torch.from_numpy(W).double()
    torch.testing.assert_close(model(rows).double(), wanted, rtol=1e-3, atol=1e-3 * float(wanted.abs().max()))


# Half precision.

HALVES = ["bfloat16", "float16"]


def convolved(x, dtype):
    kernel, v = (jnp.asarray(w, dtype) for w in (KERNEL, V))
    y = lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return jnp.tanh(y).mean((1, 2)) @ v


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("framework", ["jax", "torch"])
def test_half_precision_computes_in_float32(dtype, framework):
    example = jnp.asarray(last(IMAGES), dtype) if framework == "jax" else last(IMAGES)
    if framework == "torch":
        example = torch.from_numpy(example).to(getattr(torch, dtype))

    def function(x):  # refuses images in float32, as a convolution of JAX does
        assert x.dtype == dtype
        return convolved(x, dtype)

    model = pellucid.from_jax(function, example)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert 0 < model.net.difference < 0.05
    rounded = [torch.from_numpy(np.array(jnp.asarray(w, dtype), np.float32)) for w in (KERNEL, V)]
    y = torch.nn.functional.conv2d(IMAGES, rounded[0].permute(3, 2, 0, 1), padding=1)
    torch.testing.assert_close(model(IMAGES), y.tanh().mean((2, 3)) @ rounded[1])
    assert pellucid.lrp(model, IMAGES, 1).values.dtype == torch.float32


def test_weights_in_half_precision_and_images_in_float32():
    linen = pytest.importorskip("flax.linen")
    net = linen.Dense(3, dtype=jnp.bfloat16, param_dtype=jnp.bfloat16)
    variables = {"params": {"kernel": jnp.asarray(W[:, :3], jnp.bfloat16), "bias": jnp.ones(3, jnp.bfloat16)}}
    model = pellucid.from_jax(lambda x: net.apply(variables, x.reshape(len(x), -1)), last(IMAGES), layout="NHWC")
    kernel = torch.from_numpy(np.array(variables["params"]["kernel"], np.float32))
    torch.testing.assert_close(model(IMAGES), IMAGES.permute(0, 2, 3, 1).flatten(1) @ kernel + 1)


def test_a_mistake_that_half_precision_would_hide_is_refused(monkeypatch):
    from pellucid.importers.jax import rules as jax_rules

    monkeypatch.setitem(jax_rules.RULES, "tanh", jax_rules.elementwise(lambda x: torch.tanh(x) * 1.002))
    with pytest.raises(ImportFailed, match="where both compute in float64 by 0.002"):
        pellucid.from_jax(lambda x: convolved(x, "bfloat16"), jnp.asarray(last(IMAGES), jnp.bfloat16))


def test_what_cannot_be_computed_in_float64_is_compared_as_it_is(monkeypatch):
    def function(x):  # truths as numbers: float32 in the import, whatever the weights are
        with jax.named_scope("net"):
            with jax.named_scope("masks"):
                h = (x.reshape(len(x), -1) > 0.5).astype("bfloat16") @ jnp.asarray(W, "bfloat16")
            with jax.named_scope("bent"):
                return jnp.tanh(h / 8)

    assert pellucid.from_jax(function, last(IMAGES), layout="NHWC").net.difference < 0.05
    from pellucid.importers.jax import rules as jax_rules

    monkeypatch.setitem(jax_rules.RULES, "tanh", jax_rules.elementwise(lambda x: torch.tanh(x) * 1.2))
    with pytest.raises(ImportFailed, match=r"more than 0\.05; the first to differ is layer '(net\.)?bent'"):
        pellucid.from_jax(function, last(IMAGES), layout="NHWC")


def test_a_wide_tolerance_is_the_last_word(monkeypatch):
    from pellucid.importers.jax import rules as jax_rules

    monkeypatch.setitem(jax_rules.RULES, "tanh", jax_rules.elementwise(lambda x: torch.tanh(x) * 1.002))
    given = jnp.asarray(last(IMAGES), jnp.bfloat16)
    assert pellucid.from_jax(lambda x: convolved(x, "bfloat16"), given, tolerance=0.1).net.difference < 0.1


@pytest.mark.parametrize("dtype", HALVES)
def test_a_bridge_computes_in_the_precision_of_its_function(dtype):
    def function(x):
        with jax.named_scope("net"):
            with jax.named_scope("low"):
                h = jnp.tanh(x.reshape(len(x), -1) @ jnp.asarray(W, dtype))
            with jax.named_scope("classes"):
                return h @ jnp.asarray(V, dtype)

    given = jnp.asarray(last(IMAGES), dtype)
    model = pellucid.from_jax(function, given, layout="NHWC", bridge=True)
    out = model(IMAGES)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, torch.from_numpy(np.array(function(given), np.float32)), rtol=2e-2, atol=2e-2)
    read = pellucid.run(model, IMAGES, read=["low"]).activations["low"]
    assert read.dtype == getattr(torch, dtype)
    imported = pellucid.from_jax(function, given, layout="NHWC")
    mine, theirs = (pellucid.saliency(m, IMAGES, 1).values for m in (model, imported))
    assert mine.dtype == torch.float32
    torch.testing.assert_close(mine, theirs, rtol=0.1, atol=0.05 * float(theirs.abs().max()))


# Float64.


def wide(x):
    with jax.named_scope("net"):
        with jax.named_scope("first"):
            h = jnp.tanh(x.reshape(len(x), -1) @ W.astype(x.dtype))
        with jax.named_scope("second"):
            return h @ V.astype(x.dtype)


@pytest.mark.parametrize("bridge", [True, False])
def test_float64_stays(bridge):
    images = IMAGES.double()
    with float64():
        model = pellucid.from_jax(wide, last(images), layout="NHWC", bridge=bridge)
        wanted = torch.from_numpy(np.array(wide(last(images))))
        slope = np.array(jax.grad(lambda x: wide(x)[:, 1].sum())(last(images)))
    for read in ([], ["first"]):  # also where JAX has no float64 afterwards
        trace = pellucid.run(model, images.requires_grad_(), read=read)
        torch.testing.assert_close(trace.output, wanted, rtol=1e-12, atol=1e-12)
        (mine,) = torch.autograd.grad(trace.output[:, 1].sum(), trace.images)
        torch.testing.assert_close(mine, torch.from_numpy(slope).permute(0, 3, 1, 2), rtol=1e-12, atol=1e-12)
    assert not jax.config.jax_enable_x64


def test_an_example_in_float64_is_float32_where_jax_has_no_other():
    model = pellucid.from_jax(wide, last(IMAGES.double()), layout="NHWC")
    assert {p.dtype for p in model.parameters()} == {torch.float32}
