# ruff: noqa: E501 - one line for each function
"""Each rule against JAX itself, the lengths of the batch left open."""

import numpy as np
import pytest
import torch

import pellucid

jax = pytest.importorskip("jax")
jnp, lax = jax.numpy, jax.lax

rng = np.random.default_rng(0)
W = rng.normal(size=(3, 5))
SIDE = 6


def rows(x):
    return x.reshape(len(x), -1)


def window(x, init, function, size, stride, padding):
    return lax.reduce_window(x, init, function, (1, size, size, 1), (1, stride, stride, 1), padding)


def scanned(x):
    def body(h, w):
        h = jnp.tanh(h @ w)
        return h, h.sum(-1)

    weights = jnp.asarray(np.random.default_rng(1).normal(size=(3, 5, 5)))
    h, seen = lax.scan(body, x.mean((1, 2)) @ W, weights)
    return jnp.concatenate([h, seen.T], 1)


FUNCTIONS = {
    "arithmetic": lambda x: rows((x + 1) * x / (x + 2) - x**3 + (-x) ** 2),
    "powers": lambda x: rows(jnp.sqrt(x + 1) + lax.rsqrt(x + 1) + jnp.cbrt(x) + (x + 1) ** 0.3 + 2.0**x),
    "exponentials": lambda x: rows(jnp.exp(x) + jnp.log(x + 1) + jnp.log1p(x) + jnp.expm1(x) + jnp.exp2(x)),
    "angles": lambda x: rows(jnp.sin(x) + jnp.cos(x) + jnp.tan(x) + jnp.tanh(x) + jnp.arctan2(x, x + 1)),
    "errors": lambda x: rows(lax.erf(x) + lax.erfc(x) + lax.erf_inv(x / 2) + lax.lgamma(x + 1)),
    "choices": lambda x: rows(jnp.where(x > 0.5, x, 2 * x) + jnp.clip(x, 0.2, 0.8) + jnp.minimum(x, 1 - x)),
    "maximum of two": lambda x: rows(jnp.maximum(x, 1 - x) + jnp.maximum(x, 0.4) + jnp.abs(x - 0.5) * jnp.sign(x)),
    "logic": lambda x: rows(jnp.where((x > 0.2) & ~(x >= 0.8) | (x == 0.5), x, 0.0)),
    "rounding": lambda x: rows(x * (jnp.floor(3 * x) + jnp.ceil(x) + jnp.round(4 * x) + x % 0.3)),
    "turning": lambda x: rows(jnp.flip(x, 1).transpose(0, 3, 2, 1)[..., None].swapaxes(1, 4)),
    "cutting": lambda x: rows(x[:, 1:5:2, ::2, 1:] * x[:, -1:, :3, :2]),
    "joining": lambda x: rows(jnp.concatenate([x, x[:, :2], jnp.ones((len(x), 1, SIDE, 3))], 1)),
    "stacking": lambda x: rows(jnp.stack([x, 2 * x], 2).sum(2) + jnp.repeat(x[:, :3], 2, 1) + jnp.tile(x[:, :3], (1, 2, 1, 1))),
    "splitting": lambda x: rows(jnp.split(x, 3, 1)[1] * jnp.split(x, [2, 4], 1)[2]),
    "padding": lambda x: rows(jnp.pad(x, ((0, 0), (1, 2), (0, 1), (0, 0)), constant_values=0.5)),
    "padding inside": lambda x: rows(lax.pad(x, 0.5, ((0, 0, 0), (1, -1, 1), (0, 0, 2), (0, 0, 0)))),
    "mirroring": lambda x: rows(jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")),
    "counting": lambda x: rows(x * jnp.arange(SIDE)[:, None, None] + jnp.linspace(0, 1, 3)),
    "sums": lambda x: jnp.concatenate([x.sum((1, 2)), x.mean((2, 3)), x.max((1, 3)), x.min((1, 2)), x.prod((1, 2))], 1),
    "kept axes": lambda x: rows(x / x.sum(3, keepdims=True) - x.mean((1, 2), keepdims=True)),
    "variance": lambda x: jnp.concatenate([x.var((1, 2)), x.std((2, 3))], 1),
    "running sums": lambda x: rows(jnp.cumsum(x, 1) + lax.cumsum(x, 2, reverse=True) + lax.cumprod(x, 3)),
    "sorting": lambda x: rows(jnp.sort(x, 1)),
    "largest place": lambda x: rows(x)[:, :3] * jnp.argmax(rows(x), 1)[:, None],
    "dense": lambda x: rows(x @ W),
    "dense, turned": lambda x: (W.T @ x.reshape(len(x), -1, 3).swapaxes(1, 2)).mean(2),
    "dense over two axes": lambda x: jnp.einsum("nhwc,wck->nhk", x, np.random.default_rng(1).normal(size=(6, 3, 2))).mean(1),
    "dense to two axes": lambda x: rows(jnp.einsum("nhwc,cab->nhwab", x, np.random.default_rng(1).normal(size=(3, 2, 2)))),
    "product of two": lambda x: rows(jnp.einsum("nhwc,nvwd->nhvcd", x, x)),
    "one weight each": lambda x: rows(jnp.einsum("nhwc,hck->nhwk", x, np.random.default_rng(1).normal(size=(6, 3, 2)))),
    "picking": lambda x: rows(x[:, np.array([0, 3, 3])]) + x[:, 2, 3, 1][:, None],
    "picking pairs": lambda x: rows(x[:, np.array([0, 3]), np.array([1, 2])]),
    "taking": lambda x: rows(jnp.take(x, np.array([2, 0]), axis=2)),
    "a place": lambda x: rows(lax.dynamic_slice_in_dim(x, 2, 3, 1)),
    "an update": lambda x: rows(x.at[:, 1:3].set(0.0)),
    "max pool": lambda x: rows(window(x, -jnp.inf, lax.max, 3, 2, "SAME")),
    "max pool, even": lambda x: rows(window(x, -jnp.inf, lax.max, 2, 2, "VALID")),
    "min pool": lambda x: rows(window(x, jnp.inf, lax.min, 3, 2, "VALID")),
    "sum pool": lambda x: rows(window(x, 0.0, lax.add, 3, 2, "SAME")),
    "mean pool": lambda x: rows(window(x, 0.0, lax.add, 2, 2, "VALID") / 4),
    "pool over rows": lambda x: rows(lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 1, 1), (1, 2, 1, 1), "VALID")),
    "resizing": lambda x: rows(jax.image.resize(x, (len(x), 9, 9, 3), "bilinear")),
    "nearest": lambda x: rows(jax.image.resize(x, (len(x), 12, 12, 3), "nearest")),
    "softmax": lambda x: jax.nn.softmax(rows(x) * 3),
    "log softmax": lambda x: jax.nn.log_softmax(rows(x)),
    "one hot": lambda x: rows(x @ jax.nn.one_hot(np.array([1, 0, 2]), 4)),
    "remat": lambda x: rows(jax.checkpoint(lambda y: jnp.sin(y) @ W)(x)),
    "jit": lambda x: rows(jax.jit(lambda y: jnp.sin(y) @ W)(x)),
    "custom gradient": lambda x: rows(straight(x)),
    "vmap": lambda x: jax.vmap(lambda one: (one @ W).sum((0, 1)))(x),
    "scan": scanned,
    "loop": lambda x: lax.fori_loop(0, 3, lambda i, h: jnp.tanh(h) * (i + 1), rows(x)),
    "while": lambda x: lax.while_loop(lambda s: s[0] < 4, lambda s: (s[0] + 1, jnp.sin(s[1])), (0, rows(x)))[1],
    "cond": lambda x: lax.cond(jnp.asarray(W).sum() > -100, jnp.sin, jnp.cos, rows(x)),
    "switch": lambda x: lax.switch(1, [jnp.sin, jnp.cos, jnp.tan], rows(x)),
    "by half": lambda x: rows(x.astype(jnp.float16).astype(x.dtype) @ W),
    "constants": lambda x: rows(x) * (jnp.linalg.norm(W) + jnp.sort(W.ravel())[3] + jax.random.normal(jax.random.key(0))),
}  # fmt: skip


@jax.custom_vjp
def straight(x):
    return jnp.floor(3 * x) * x


straight.defvjp(lambda x: (straight(x), None), lambda _, g: (g,))


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_rules(name, layout):
    with jax.enable_x64(True):
        function = FUNCTIONS[name]
        if layout == "NCHW":

            def function(x):
                return FUNCTIONS[name](x.transpose(0, 2, 3, 1))

        if name == "constants":
            with pytest.raises(pellucid.importers.ImportFailed, match="random numbers"):
                pellucid.from_jax(function, pictures(1, layout), layout=layout)
            return
        tolerance = 1e-3 if name == "by half" else None
        model = pellucid.from_jax(function, pictures(1, layout), layout=layout, tolerance=tolerance, logits=False)
        assert model.net.difference < (1e-3 if name == "by half" else 1e-9)
        for count in (1, 5):
            x = pictures(count, layout)
            images = torch.from_numpy(x if layout == "NCHW" else x.transpose(0, 3, 1, 2))
            wanted = torch.from_numpy(np.array(function(jnp.asarray(x))))
            torch.testing.assert_close(model(images), wanted, rtol=tolerance or 1e-9, atol=tolerance or 1e-9)


def pictures(count: int, layout: str) -> np.ndarray:
    x = np.random.default_rng(count).uniform(0.05, 0.95, size=(count, SIDE, SIDE, 3))
    return x.transpose(0, 3, 1, 2).copy() if layout == "NCHW" else x


CONVOLUTIONS = {
    "same": ({"padding": "SAME"}, (3, 3, 3, 4)),
    "valid": ({"padding": "VALID"}, (3, 2, 3, 4)),
    "strided": ({"padding": "SAME", "window_strides": (2, 2)}, (3, 3, 3, 4)),
    "dilated": ({"padding": "SAME", "rhs_dilation": (2, 2)}, (3, 3, 3, 4)),
    "depthwise": ({"padding": "SAME", "feature_group_count": 3}, (3, 3, 1, 6)),
    "transposed": ({"padding": ((1, 2), (2, 1)), "lhs_dilation": (2, 2), "window_strides": (1, 1)}, (3, 3, 3, 4)),
    "cropping": ({"padding": ((-1, 0), (1, 1))}, (3, 3, 3, 4)),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions(name):
    options, shape = CONVOLUTIONS[name]
    options.setdefault("window_strides", (1, 1))
    with jax.enable_x64(True):
        kernel = jnp.asarray(np.random.default_rng(2).normal(size=shape))

        def function(x):
            return rows(lax.conv_general_dilated(x, kernel, dimension_numbers=("NHWC", "HWIO", "NHWC"), **options))

        model = pellucid.from_jax(function, pictures(2, "NHWC"))  # the layout is found
        assert model.net.difference < 1e-12


ACTIVATIONS = {
    "gelu": {"approximate": False}, "silu": {}, "softplus": {}, "elu": {}, "selu": {}, "relu6": {}, "mish": {},
    "hard_sigmoid": {}, "hard_swish": {}, "hard_tanh": {}, "sigmoid": {}, "soft_sign": {},
    "leaky_relu": {"negative_slope": 0.2}, "relu": {},
}  # fmt: skip
TORCH = {"hard_sigmoid": "hardsigmoid", "hard_swish": "hardswish", "hard_tanh": "hardtanh", "soft_sign": "softsign"}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_known_by_what_they_compute(name):
    function = getattr(jax.nn, name)
    with jax.enable_x64(True):
        model = pellucid.from_jax(
            lambda x: rows(function(5 * (x - 0.5), **ACTIVATIONS[name])), pictures(2, "NHWC"), layout="NHWC"
        )
    assert model.net.difference < 1e-6
    called = [getattr(node.target, "__name__", "") for node in model.net.graph.nodes if node.op == "call_function"]
    assert TORCH.get(name, name) in called
    assert len(called) <= 3


def test_what_looks_like_an_activation_is_none():
    with jax.enable_x64(True):
        model = pellucid.from_jax(lambda x: rows(x * jax.nn.sigmoid(1.01 * x)), pictures(2, "NHWC"), layout="NHWC")
    called = [getattr(node.target, "__name__", "") for node in model.net.graph.nodes if node.op == "call_function"]
    assert "silu" not in called and "sigmoid" in called


def test_a_number_is_clamped_and_a_relu_known_by_name():
    with jax.enable_x64(True):
        model = pellucid.from_jax(lambda x: rows(jnp.maximum(x, 0.0)), pictures(2, "NHWC"), layout="NHWC")
    assert [node.target for node in model.net.graph.nodes if node.op == "call_function"] == [torch.clamp]


NORMS = {
    "layer_norm": lambda x: (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-5),
    "rms_norm": lambda x: x * lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-6),
    "group_norm": lambda x: (x - x.mean((1, 2), keepdims=True)) * lax.rsqrt(x.var((1, 2), keepdims=True) + 1e-3),
}


@pytest.mark.parametrize("name", NORMS)
def test_norms_are_known_by_what_they_compute(name):
    scale = np.random.default_rng(0).normal(size=3)
    with jax.enable_x64(True):
        model = pellucid.from_jax(lambda x: rows(NORMS[name](x) * scale), pictures(2, "NHWC"), layout="NHWC")
    assert model.net.difference < 1e-9
    assert name in [getattr(node.target, "__name__", "") for node in model.net.graph.nodes]
