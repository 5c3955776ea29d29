# ruff: noqa: E501 - one line for each function
"""TensorFlow's functions, and Keras models on TensorFlow: in a process of their own, for a process has one backend."""

import importlib.util
import os
import subprocess
import sys
import textwrap

import pytest

if importlib.util.find_spec("tensorflow") is None:
    pytest.skip("TensorFlow is not installed", allow_module_level=True)


def python(code: str) -> str:
    """Run code where Keras is on TensorFlow."""
    words = {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    head = "import numpy as np, torch, tensorflow as tf, keras, pellucid\nfrom pellucid.importers import ImportFailed\n"
    done = subprocess.run(
        [sys.executable, "-c", head + textwrap.dedent(code)],
        capture_output=True, text=True, env=os.environ | words, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_operations():
    out = python(
        """
        W = np.random.default_rng(0).normal(size=(3, 5)).astype("float32")
        K = np.random.default_rng(1).normal(size=(3, 3, 3, 4)).astype("float32")
        D = np.random.default_rng(2).normal(size=(3, 3, 3, 2)).astype("float32")
        flat = lambda x: tf.reshape(x, (tf.shape(x)[0], -1))
        rows = lambda x: tf.reshape(x, (-1, int(np.prod(x.shape[1:]))))
        functions = {
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
        for name, function in functions.items():
            x = np.random.default_rng(3).random((2, 6, 6, 3)).astype("float32")
            model = pellucid.from_tensorflow(function, x, logits=False)
            for count in (1, 5):
                x = np.random.default_rng(count).random((count, 6, 6, 3)).astype("float32")
                wanted = torch.from_numpy(function(tf.constant(x)).numpy())
                torch.testing.assert_close(model(torch.from_numpy(x).permute(0, 3, 1, 2)), wanted, rtol=1e-5, atol=1e-5)
            print(name, "agrees")
        """
    )
    assert out.count("agrees") == 21


def test_errors():
    python(
        """
        x = np.random.default_rng(3).random((2, 6, 6, 3)).astype("float32")

        def refused(function, *words, error=ImportFailed, example=x, **options):
            try:
                pellucid.from_tensorflow(function, example, **options)
            except error as caught:
                for word in words:
                    assert word in str(caught), caught
                assert "\\n" not in str(caught)
            else:
                raise AssertionError(f"not refused: {words}")

        mean = lambda x: tf.reduce_mean(x, (1, 2))
        with_fft = lambda x: tf.abs(tf.signal.fft(tf.cast(mean(x), tf.complex64)))

        def scoped(x):
            with tf.name_scope("body"), tf.name_scope("spectrum"):
                return with_fft(x)

        refused(scoped, "layer 'body.spectrum'", "tensorflow_rules.py")
        refused(lambda x: mean(x) - tf.reduce_mean(mean(x), 0), "over the images of the batch")
        refused(lambda x: mean(x)[0], "expected N x K")
        refused(lambda x: mean(x) * tf.random.uniform((3,)), "'RandomUniform'")
        refused(lambda x: mean(x), "example[None]", error=ValueError, example=x[0])
        refused(lambda x: mean(x), "layout=", error=ValueError, example=np.zeros((1, 3, 4, 4), "float32")[:, :, :, :3])
        refused(lambda x: x @ np.ones((7, 2), "float32"), "the function failed")
        """
    )


def test_a_keras_model_gives_the_names_and_functions_of_the_jax_import():
    python(
        """
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
        """
    )


def test_a_saved_model(tmp_path):
    python(
        f"""
        source = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3), keras.layers.GlobalMaxPooling2D()])
        source.export({str(tmp_path / "saved")!r}, verbose=False)
        served = tf.saved_model.load({str(tmp_path / "saved")!r})
        model = pellucid.from_tensorflow(served.serve, np.random.rand(1, 8, 8, 3).astype("float32"))
        images = torch.rand(2, 3, 8, 8)
        wanted = torch.from_numpy(source(images.permute(0, 2, 3, 1).numpy()).numpy())
        torch.testing.assert_close(model(images), wanted, rtol=1e-4, atol=1e-5)
        """
    )
