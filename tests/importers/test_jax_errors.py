"""What from_jax refuses, and in which words."""

import builtins

import numpy as np
import pytest
import torch

import pellucid
from pellucid.importers import ImportFailed
from pellucid.model.run import ModelError

jax = pytest.importorskip("jax")
jnp, lax = jax.numpy, jax.lax

X = np.random.default_rng(0).random((2, 5, 5, 3)).astype(np.float32)
W = np.random.default_rng(1).normal(size=(75, 2)).astype(np.float32)


def dense(x):
    return x.reshape(len(x), -1) @ W


def refused(function, *words, example=X, error=ImportFailed, **options):
    with pytest.raises(error) as caught:
        pellucid.from_jax(function, example, **options)
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_examples():
    refused(dense, "5 x 5 x 3", "example[None]", example=X[0], error=ValueError)
    refused(dense, "uint8", "divide by 255", example=(X * 255).astype(np.uint8), error=TypeError)
    refused(dense, "empty", example=X[:0], error=ValueError)
    refused(dense, "NaN", example=X * np.nan, error=ValueError)
    refused(3, "function", "int", error=TypeError)
    refused(dense, "a str", "array of floating-point numbers", example="castle.jpg", error=TypeError)
    refused(dense, "a NoneType", example=None, error=TypeError)
    refused(dense, "'HWC'", "NHWC", layout="HWC", error=ValueError)


def test_layouts():
    kernel = np.ones((3, 3, 3, 2), np.float32)

    def network(x):
        y = lax.conv_general_dilated(x * 2 - 1, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return y.mean((1, 2))

    assert pellucid.from_jax(network, X).preprocessing.channels == 3
    refused(network, "layout is 'NCHW'", "takes NHWC", layout="NCHW", error=ValueError)
    turned = np.ascontiguousarray(X.transpose(0, 3, 1, 2))
    refused(network, "failed on a batch of shape N x 3 x 5 x 5", "It works on N x 5 x 5 x 3", example=turned)
    wide = np.ones((1, 5, 5, 6), np.float32)
    refused(lambda x: x.sum((1, 2)), "say layout='NHWC'", example=wide, error=ValueError)
    assert pellucid.from_jax(lambda x: x.sum((1, 2)), wide, layout="NCHW").preprocessing.size == (5, 6)


def test_outputs():
    refused(lambda x: dense(x)[0], "expected N x K", "jax.vmap")
    refused(lambda x: x.reshape(-1) @ W, "It works on one image: give jax.vmap")
    refused(lambda x: {"logits": dense(x)}, "dict", "function(x)['logits']")
    refused(lambda x: dense(x).argmax(1, keepdims=True), "returns int32", "argmax")
    for bridge in (True, False):
        refused(lambda x: jnp.fft.fft(dense(x)), "returns complex64", "jnp.abs", bridge=bridge)
    refused(lambda x: jnp.ones((len(x), 2)), "does not look at the images")


def test_what_the_user_wrote_wrong():
    refused(lambda x: x @ np.ones((7, 2), np.float32), "failed on a batch of shape N x 5 x 5 x 3")

    def branching(x):
        return dense(x) if x.sum() > 0 else -dense(x)

    line = branching.__code__.co_firstlineno + 1
    for bridge in (True, False):
        refused(branching, "decides by the images", f"in line {line} of test_jax_errors.py", "jnp.where", bridge=bridge)
    refused(lambda x: dense(x)[dense(x) > 0][None], "cannot be traced", "fulfill a condition")
    refused(lambda x: dense(x) * len(jnp.nonzero(x)), "cannot be traced", "makes numbers of the images")
    refused(lambda x: dense(x) * float(x.max()), "cannot be traced", "leave them arrays", "nor bridge=True")
    refused(lambda x: dense(np.sin(x)), "gives the images to numpy", "write it with jax.numpy")
    refused(lambda x: dense(x) if len(x) == 3 else -dense(jnp.sin(x)), "something else for 3 images than for 4")


def test_modules_that_are_no_function_of_images_yet():
    linen, equinox = pytest.importorskip("flax.linen"), pytest.importorskip("equinox")
    refused(linen.Dense(2), "without its weights", "module.apply(variables, x)")
    refused(lambda x, train: dense(x), "required positional argument", "lambda x: function(x, train=False)")
    dropout = equinox.nn.Dropout(0.5)
    refused(lambda x: dense(dropout(x)), "equinox.nn.inference_mode")
    refused(lambda x: linen.Dropout(0.5, deterministic=False).apply({}, dense(x)), "train=False")


def test_control_flow_that_depends_on_the_images():
    refused(lambda x: lax.cond(x.sum() > 0, jnp.sin, jnp.cos, dense(x)), "each image must be computed by itself")

    def turns(x):
        turned = lax.while_loop(lambda s: s[0] < 3, lambda s: (s[0] + s[1][0, 0], s[1]), (0.0, dense(x)))
        return turned[0] * turned[1]

    refused(turns, "a part of the images")
    refused(
        jax.vmap(lambda x: lax.while_loop(lambda s: s.sum() < 9, lambda s: 2 * s + 1, jnp.abs(x.reshape(-1) @ W))),
        "'while'", "decides by the images", "bridge=True",
    )  # fmt: skip
    choice = jax.vmap(lambda x: lax.cond(x.sum() > 37, jnp.sin, jnp.cos, x.reshape(-1) @ W))
    assert pellucid.from_jax(choice, X).net.difference < 1e-5  # both branches, and a choice
    refused(lambda x: lax.map(lambda one: one.sum((0, 1)), x), "one by one", "jax.vmap")


def test_random_numbers_and_batch_statistics():
    key = jax.random.key(0)
    refused(lambda x: dense(x) * jax.random.bernoulli(key, 0.5, (len(x), 2)), "random numbers", "train=False")
    refused(lambda x: dense(x) - dense(x).mean(0), "each image must be computed by itself", "use_running_average")
    refused(lambda x: jnp.sort(dense(x), 0), "each image must be computed by itself")


def test_an_unsupported_primitive_is_named_with_its_layer_and_where_a_rule_belongs():
    def network(x):
        with jax.named_scope("body"), jax.named_scope("spectrum"):
            return jnp.abs(jnp.fft.fft(dense(x)))

    refused(
        network,
        "'fft'",
        "layer 'body.spectrum'",
        "importers/jax/rules.py",
        "see CONTRIBUTING",
        "open an issue",
        "bridge=True",
    )


def test_a_value_that_cannot_be_had_is_no_error_where_it_is_not_needed():
    def network(x):
        h = dense(x)
        jnp.abs(jnp.fft.fft(h))
        return h

    assert pellucid.from_jax(network, X).net.difference < 1e-6


def test_a_difference_is_an_error_that_names_the_layer(monkeypatch):
    from pellucid.importers.jax import rules as jax_rules

    wrong = jax_rules.elementwise(lambda x: torch.tanh(x) * 1.01)
    monkeypatch.setitem(jax_rules.RULES, "tanh", wrong)

    def network(x):
        with jax.named_scope("net"):
            with jax.named_scope("first"):
                x = jnp.sin(dense(x))
            with jax.named_scope("second"):
                x = jnp.tanh(x)
            with jax.named_scope("third"):
                return jnp.cos(x)

    refused(network, "differs from the source", "layer 'net.second'")


def test_other_sizes_are_refused():
    model = pellucid.from_jax(dense, X, layout="NHWC")
    with pytest.raises(ModelError, match="imported for images 3 x 5 x 5"):
        pellucid.saliency(model, torch.rand(1, 3, 6, 6), 0)


def test_without_jax(monkeypatch):
    real = builtins.__import__
    monkeypatch.setitem(__import__("sys").modules, "jax", None)
    with pytest.raises(ImportError, match=r"pip install 'pellucid\[jax\]'"):
        pellucid.from_jax(dense, X)
    assert builtins.__import__ is real


def test_labels_mean_and_std():
    model = pellucid.from_jax(dense, 255 * X, layout="NHWC", std=1 / 255, labels=["a", "b"], name="mine")
    images = torch.from_numpy(X).permute(0, 3, 1, 2)
    torch.testing.assert_close(model(images), torch.from_numpy(np.array(dense(255 * X))), rtol=1e-4, atol=1e-3)
    assert model.predict(images, k=1).labels[0][0] in "ab"
    assert model.name == "mine"


def test_a_last_softmax_is_left_out():
    images = torch.from_numpy(X).permute(0, 3, 1, 2)
    plain, cut, kept = (
        pellucid.from_jax(function, X, layout="NHWC", **options)(images)
        for function, options in (
            (dense, {}),
            (lambda x: jax.nn.softmax(dense(x)), {}),
            (lambda x: jax.nn.softmax(dense(x)), {"logits": False}),
        )
    )
    torch.testing.assert_close(cut, plain)
    torch.testing.assert_close(kept, plain.softmax(1))


def test_shared_layers_and_loops_keep_their_names():
    weights = np.random.default_rng(1).normal(size=(3, 3, 3)).astype(np.float32)

    def network(x):
        def body(h, w):
            with jax.named_scope("layer"):
                return jnp.tanh(h @ w), None

        with jax.named_scope("head"):
            shared = jnp.sin(x)
        with jax.named_scope("body"):
            h, _ = lax.scan(body, shared.mean((1, 2)), weights)
        with jax.named_scope("head"):
            return jnp.sin(h)

    model = pellucid.from_jax(network, X, layout="NHWC")
    names = [layer.name for layer in pellucid.layers(model)]
    assert [n for n in names if "layer" in n] == ["body.0.layer", "body.1.layer", "body.2.layer"]
    assert "head#2" in names


def test_it_goes_where_it_is_sent():
    model = pellucid.from_jax(dense, X, layout="NHWC")
    images = torch.from_numpy(X).permute(0, 3, 1, 2)
    torch.testing.assert_close(model.double()(images.double()), model(images.double()))
    import copy

    torch.testing.assert_close(copy.deepcopy(model)(images.double()), model(images.double()))
    assert not any(p.requires_grad for p in model.parameters())
