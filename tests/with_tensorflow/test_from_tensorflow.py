"""TensorFlow's functions, and Keras models on TensorFlow."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
import torch

import pellucid
from pellucid.files.images import write_image
from pellucid.importers import ImportFailed
from pellucid.zoo.saved_model import saved_model
from pellucid.zoo.weights import UnreadableWeights

W = np.random.default_rng(0).normal(size=(3, 5)).astype("float32")
K = np.random.default_rng(1).normal(size=(3, 3, 3, 4)).astype("float32")
D = np.random.default_rng(2).normal(size=(3, 3, 3, 2)).astype("float32")


def flat(x):
    return tf.reshape(x, (tf.shape(x)[0], -1))


def rows(x):
    return tf.reshape(x, (-1, int(np.prod(x.shape[1:]))))


@tf.function(jit_compile=True)
def inner(x):
    return tf.nn.relu(x - 0.5) * 2


def loop(x):
    for _ in tf.range(3):
        x = tf.nn.relu(x * 1.5 - 0.2)
    return rows(x)


def choice(x):
    if tf.constant(2) > 1:
        x = x * 3
    return rows(x)


FUNCTIONS = {
    "a function inside": lambda x: rows(inner(x) + 1),
    "a loop": loop,
    "a choice": choice,
    "colors turned": lambda x: rows(tf.reverse(x, [-1])),
    "mean pool, scaled": lambda x: rows(tf.nn.avg_pool2d(x, 2, 2, "VALID") * 3.0),
    "arithmetic": lambda x: rows((x + 1) * x / (x + 2) - x**3 + tf.square(-x) + tf.math.squared_difference(x, 0.3)),
    "curves": lambda x: rows(tf.exp(x) + tf.math.log(x + 1) + tf.tanh(x) + tf.sigmoid(x) + tf.math.erf(x)),
    "activations": lambda x: rows(tf.nn.relu6(9 * x) + tf.nn.elu(x - 0.5) + tf.nn.leaky_relu(x - 0.5, 0.2)),
    "choices": lambda x: rows(tf.where(x > 0.5, x, 2 * x) + tf.maximum(x, 0.4) + tf.clip_by_value(x, 0.2, 0.8)),
    "shape": flat,
    "turning": lambda x: rows(tf.transpose(x, (0, 2, 3, 1))[:, 1:4, ::2] + 0.0),
    "slices": lambda x: rows(x[:, 1:5:2, ..., 1:]),
    "backward": lambda x: rows(x[..., ::-1]),
    "joining": lambda x: rows(tf.concat([x, tf.pad(x, ((0, 0), (1, 0), (0, 0), (0, 0)))[:, :2]], 1)),
    "splitting": lambda x: rows(tf.split(x, 3, 1)[1]),
    "sums": lambda x: tf.concat([tf.reduce_mean(x, (1, 2)), tf.reduce_max(x, (1, 2)), tf.reduce_sum(x, (2, 3))], 1),
    "dense": lambda x: rows(tf.einsum("nhwc,ck->nhwk", x, W)),
    "matmul": lambda x: tf.reduce_mean(x, (1, 2)) @ W,
    "conv": lambda x: rows(tf.nn.bias_add(tf.nn.conv2d(x, K, 1, "SAME"), W[0][:4])),
    "conv, strided": lambda x: rows(tf.nn.conv2d(x, K, 2, "SAME")),
    "depthwise": lambda x: rows(tf.nn.depthwise_conv2d(x, D, (1, 2, 2, 1), "SAME")),
    "max pool": lambda x: rows(tf.nn.max_pool2d(x, 3, 2, "SAME")),
    "mean pool": lambda x: rows(tf.nn.avg_pool2d(x, 3, 2, "SAME")),
    "mean pool, even": lambda x: rows(tf.nn.avg_pool2d(x, 3, 1, "SAME")),
    "class token": lambda x: rows(tf.concat([tf.tile(W[None, :1, :3], (tf.shape(x)[0], 1, 1)), x[:, 0]], 1)),
    "softmax": lambda x: tf.nn.softmax(flat(x)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_operations(name):
    function = FUNCTIONS[name]
    x = np.random.default_rng(3).random((2, 6, 6, 3)).astype("float32")
    model = pellucid.from_tensorflow(function, x, logits=False)
    for count in (1, 5):
        x = np.random.default_rng(count).random((count, 6, 6, 3)).astype("float32")
        wanted = torch.from_numpy(function(tf.constant(x)).numpy())
        torch.testing.assert_close(model(torch.from_numpy(x).permute(0, 3, 1, 2)), wanted, rtol=1e-5, atol=1e-5)


X = np.random.default_rng(3).random((2, 6, 6, 3)).astype("float32")


def mean(x):
    return tf.reduce_mean(x, (1, 2))


def decides(x):
    if tf.reduce_sum(x) > 3:
        x = -x
    return mean(x)


def repeats(x):
    while tf.reduce_sum(x) < 30:
        x = x + 1
    return mean(x)


def trains(x):
    return mean(tf.compat.v1.nn.fused_batch_norm(x, [1.0] * 3, [0.0] * 3, is_training=True)[0])


def by_hand(x):
    return mean(x * 2.0) if float(tf.reduce_sum(x)) > 0 else mean(x)


def scoped(x):
    with tf.name_scope("body"), tf.name_scope("spectrum"):
        return tf.abs(tf.signal.fft(tf.cast(mean(x), tf.complex64)))


@pytest.mark.parametrize(
    "function, example, error, words",
    [
        (scoped, X, ImportFailed, "layer 'body.spectrum'.*bridge=True.*open an issue.*importers/tensorflow/rules.py"),
        (lambda x: mean(x) - tf.reduce_mean(mean(x), 0), X, ImportFailed, "over the images of the batch"),
        (lambda x: mean(x)[0], X, ImportFailed, "expected N x K"),
        (
            lambda x: mean(x) * tf.random.uniform((3,)),
            X,
            ImportFailed,
            "'RandomUniform'.*random numbers.*as it predicts",
        ),
        (decides, X, ImportFailed, "over the images of the batch"),
        (repeats, X, ImportFailed, "over the images of the batch"),
        (trains, X, ImportFailed, "statistics of the batch: import the network as it predicts"),
        (by_hand, X, ImportFailed, "over the images of the batch"),
        (lambda x: x @ np.ones((7, 2), "float32"), X, ImportFailed, "the function failed"),
        (mean, X[0], ValueError, r"example\[None\]"),
        (mean, np.zeros((1, 3, 4, 3), "float32"), ValueError, "layout="),
    ],
)
def test_what_is_wrong_is_said_in_one_line(function, example, error, words):
    with pytest.raises(error, match=words) as caught:
        pellucid.from_tensorflow(function, example)
    assert "\n" not in str(caught.value)


def test_float64_is_imported_as_such():
    kernel = tf.constant(K, tf.float64)
    x = np.random.default_rng(0).random((2, 6, 6, 3))
    model = pellucid.from_tensorflow(lambda x: mean(tf.nn.conv2d(x, kernel, 1, "VALID")), x)
    assert model.net.difference < 1e-12
    assert {p.dtype for p in model.parameters()} == {torch.float64}


def test_a_keras_model_gives_the_names_and_functions_of_the_jax_import():
    inputs = keras.Input((12, 12, 3))
    x = keras.layers.Conv2D(4, 3, strides=2, padding="same", use_bias=False, name="conv")(inputs)
    x = keras.layers.ReLU(6.0, name="relu")(keras.layers.BatchNormalization(name="norm")(x))
    x = keras.layers.MaxPooling2D(name="pool")(x)
    x = keras.layers.Dense(5, activation="gelu", name="dense")(keras.layers.LayerNormalization(name="layer_norm")(x))
    x = keras.layers.GlobalAveragePooling2D(name="average")(x)
    source = keras.Model(inputs, keras.layers.Dense(3, activation="softmax", name="classes")(x))
    rng = np.random.default_rng(0)
    for weight in source.weights:
        weight.assign(np.abs(weight.numpy() + rng.normal(0, 0.2, weight.shape)) + 0.1)
    model = pellucid.from_keras(source, labels=["a", "b", "c"])
    assert model.net.difference < 1e-5
    images = torch.rand(4, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    wanted = torch.from_numpy(source(images.permute(0, 2, 3, 1).numpy(), training=False).numpy())
    torch.testing.assert_close(model(images).softmax(1), wanted, rtol=1e-4, atol=1e-5)
    names = [layer.name for layer in pellucid.layers(model)]
    assert names == ["conv", "norm", "relu", "pool", "layer_norm", "dense", "average", "classes"], names
    code = model.net.norm.code + model.net.layer_norm.code + model.net.dense.code + model.net.relu.code
    assert all(word in code for word in ("batch_norm", "layer_norm", "gelu", "relu6")), code
    assert pellucid.lrp(model, images, "b").values.isfinite().all()


def test_dense_layers_at_places_and_attention_are_those_of_torch():
    inputs = keras.Input((6, 6, 3))
    x = keras.layers.Dense(8, activation="gelu", name="dense")(inputs)
    tokens = keras.layers.Reshape((36, 8), name="tokens")(x)
    x = keras.layers.MultiHeadAttention(2, 4, name="attention")(tokens, tokens)
    x = keras.layers.Dense(5, name="mixed")(keras.layers.LayerNormalization(name="norm")(x))
    x = keras.layers.GlobalAveragePooling1D(name="average")(x)
    source = keras.Model(inputs, keras.layers.Dense(3, name="classes")(x))
    model = pellucid.from_keras(source)
    dense, mixed = model.net.dense, model.net.mixed
    assert dense.bias.shape == (8,) and mixed.bias.shape == (5,) and "add" not in dense.code + mixed.code
    assert "scaled_dot_product_attention" in model.net.attention.code
    shapes = {layer.name: layer.shape for layer in pellucid.layers(model)}
    assert shapes["dense"] == (8, 6, 6) and shapes["mixed"] == (36, 5)
    images = torch.rand(3, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    wanted = torch.from_numpy(source(images.permute(0, 2, 3, 1).numpy(), training=False).numpy())
    torch.testing.assert_close(model(images), wanted, rtol=1e-4, atol=1e-5)

    plain = pellucid.from_tensorflow(lambda x: source(x, training=False), np.zeros((1, 6, 6, 3), "float32"))
    names = {name for name, _ in plain.net.named_modules()}  # without being told which scopes are layers
    assert {"dense", "attention.query", "mixed", "norm", "classes"} <= names, names
    assert not any("Tensordot" in name or "einsum" in name or "moments" in name for name in names)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    layers = [keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3, name="first"), keras.layers.GlobalMaxPooling2D()]
    source = keras.Sequential([*layers, keras.layers.Dense(2, activation="softmax")])
    source.export(folder / "saved", verbose=False)
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return folder / "saved", images, torch.from_numpy(source(images.permute(0, 2, 3, 1).numpy()).numpy())


def test_what_a_saved_model_serves(folder):
    saved, images, wanted = folder
    served = tf.saved_model.load(saved)
    model = pellucid.from_tensorflow(served.serve, np.random.rand(1, 8, 8, 3).astype("float32"))
    torch.testing.assert_close(model(images).softmax(1), wanted, rtol=1e-4, atol=1e-5)


def test_a_saved_model_is_loaded_as_any_other(folder):
    saved, images, wanted = folder
    model = pellucid.load(saved, labels=["a", "b"])
    torch.testing.assert_close(model(images).softmax(1), wanted, rtol=1e-4, atol=1e-5)
    assert model.name == "saved" and model.labels == ("a", "b") and model.net.difference < 1e-5
    assert "first" in [layer.name.split(".")[-1] for layer in pellucid.layers(model)]
    assert pellucid.lrp(model, images, "b", rules="EPSILON").values.isfinite().all()
    with pytest.raises(ValueError, match="1 labels, and the network has 2"):
        pellucid.load(saved, labels=["a"])
    with pytest.raises(ValueError, match="imported for images 3 x 8 x 8"):
        model(torch.rand(1, 3, 9, 9))


def test_a_saved_model_on_the_command_line(folder, tmp_path):
    saved, images, _ = folder
    write_image(images[0], tmp_path / "noise.png")
    paths = os.pathsep.join([str(Path(pellucid.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])

    def command(*words):
        return subprocess.run(
            [sys.executable, "-m", "pellucid", *map(str, words)], capture_output=True, text=True, cwd=tmp_path,
            check=False, env=os.environ | {"PYTHONPATH": paths},
        )  # fmt: skip

    done = command("layers", saved)
    assert done.returncode == 0 and "4 x 6 x 6" in done.stdout, done.stderr
    done = command(
        "explain", "noise.png", "--model", saved, "--methods", "saliency,lrp", "--option", "lrp.rules=EPSILON",
        "--output", "page.html",
    )  # fmt: skip
    assert done.returncode == 0 and (tmp_path / "page.html").stat().st_size > 1000, done.stderr


def test_a_saved_model_that_reaches_out_is_refused(tmp_path):
    class Reads(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((None, 8, 8, 3), tf.float32)])
        def __call__(self, x):
            length = tf.cast(tf.strings.length(tf.io.read_file("/etc/hostname")), tf.float32)
            return tf.reduce_mean(x, (1, 2)) * length

    module = Reads()
    tf.saved_model.save(module, tmp_path / "reads", signatures=module.__call__.get_concrete_function())
    with pytest.raises(UnreadableWeights, match=r"ReadFile.*trusted=True"):
        pellucid.load(tmp_path / "reads")
    told = {"mean": None, "std": None, "size": None}
    with pytest.raises(ImportFailed, match="'ReadFile'"):
        saved_model(tmp_path / "reads", trusted=True, **told)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "saved_model.pb").write_bytes(b"nothing at all")
    with pytest.raises(UnreadableWeights, match="broken"):
        saved_model(tmp_path / "broken", trusted=False, **told)
