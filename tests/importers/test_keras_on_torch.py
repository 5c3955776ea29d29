"""Keras models on Keras's torch backend, in a process of their own: Keras has one backend for all of it."""

import importlib.util
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import pellucid

pytestmark = pytest.mark.skipif(importlib.util.find_spec("keras") is None, reason="needs Keras")

HEAD = """
import keras, numpy as np, pellucid, torch
from pellucid.importers import ImportFailed

layers = keras.layers
keras.utils.set_random_seed(0)

def outputs(model, images):
    with torch.no_grad():
        return model(images.permute(0, 2, 3, 1), training=False)

def images(size=12, count=3):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0))
"""


def python(code: str) -> None:
    paths = os.pathsep.join([str(Path(pellucid.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", HEAD + textwrap.dedent(code)], capture_output=True, text=True, timeout=300,
        env=os.environ | {"KERAS_BACKEND": "torch", "PYTHONPATH": paths},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]


def test_models_become_modules_with_keras_names():
    python(
        """
        inputs = keras.Input((12, 12, 3))
        x = layers.Conv2D(4, 3, strides=2, padding="same", use_bias=False, name="conv")(inputs)
        x = layers.ReLU(6.0, name="relu")(layers.BatchNormalization(name="norm")(x))
        x = layers.Dropout(0.5)(layers.MaxPooling2D(3, 1, padding="same", name="pool")(x))
        x = layers.Multiply(name="gate")([x, layers.Conv2D(4, 1, activation="sigmoid", name="weights")(x)])
        x = layers.Concatenate(name="both")([x, layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x)])
        x = layers.Dense(5, activation="gelu", name="dense")(layers.LayerNormalization(name="layer_norm")(x))
        x = layers.GlobalAveragePooling2D(name="average")(x)
        source = keras.Model(inputs, layers.Dense(3, activation="softmax", name="classes")(x))
        rng = np.random.default_rng(0)
        for weight in source.weights:
            weight.assign(np.abs(weight.numpy() + rng.normal(0, 0.2, weight.shape)) + 0.1)
        before = [weight.numpy().copy() for weight in source.weights]
        model = pellucid.from_keras(source, labels=["a", "b", "c"])
        assert model.net.difference < 1e-5
        for count in (1, 5):
            torch.testing.assert_close(
                model(images(count=count)).softmax(1), outputs(source, images(count=count)), rtol=1e-4, atol=1e-6)
        kept = pellucid.from_keras(source, logits=False)
        torch.testing.assert_close(kept(images()), outputs(source, images()), rtol=1e-4, atol=1e-6)
        shapes = {layer.name: (layer.kind, layer.shape) for layer in pellucid.layers(model)}
        assert list(shapes) == ["conv", "norm", "relu", "pool", "weights", "gate", "depthwise", "both", "layer_norm",
                                "dense", "average", "classes"], shapes
        assert shapes["conv"] == ("Conv2D", (4, 6, 6)) and shapes["dense"] == ("Dense", (5, 6, 6))
        code = model.net.norm.code + model.net.layer_norm.code + model.net.dense.code + model.net.relu.code
        assert all(word in code for word in ("batch_norm", "layer_norm", "gelu", "relu6")), code
        inside = keras.Model(source.inputs[0], source.get_layer("norm").output)
        read = pellucid.run(model, images(), read=["norm"]).activations["norm"]
        torch.testing.assert_close(read, outputs(inside, images()).permute(0, 3, 1, 2), rtol=1e-4, atol=1e-5)
        assert pellucid.lrp(model, images(), "b").values.isfinite().all()
        assert pellucid.grad_cam(model, images(), "b", layer="pool").values.isfinite().all()

        for weight, old in zip(source.weights, before):  # the source is as it was, and has weights of its own
            assert (weight.numpy() == old).all() and weight.value.requires_grad == weight.trainable
        wanted = model(images())
        source.get_layer("conv").set_weights([before[0] * 2])
        assert (model(images()) == wanted).all()
        """
    )


def test_attention_channels_first_float64_and_any_size():
    python(
        """
        inputs = keras.Input((8, 8, 3))
        x = layers.Reshape((16, 12), name="patches")(inputs)
        x = layers.MultiHeadAttention(2, 4, name="attention")(x, x)
        source = keras.Model(inputs, layers.Dense(2, name="classes")(layers.GlobalAveragePooling1D()(x)))
        model = pellucid.from_keras(source)
        torch.testing.assert_close(model(images(8)), outputs(source, images(8)), rtol=1e-4, atol=1e-6)
        assert any("attention" in layer.name for layer in pellucid.layers(model))

        first = keras.Sequential([keras.Input((3, 8, 8)), layers.Conv2D(4, 3, data_format="channels_first"),
                                  layers.GlobalMaxPooling2D(data_format="channels_first")])
        keras.config.set_image_data_format("channels_first")
        model = pellucid.from_keras(first)
        torch.testing.assert_close(model(images(8)), first(images(8)), rtol=1e-4, atol=1e-6)
        keras.config.set_image_data_format("channels_last")

        keras.config.set_floatx("float64")
        keras.config.set_dtype_policy("float64")
        inputs = keras.Input((None, None, 3))
        source = keras.Model(inputs, layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(inputs)))
        model = pellucid.from_keras(source, size=10)
        assert {p.dtype for p in model.parameters()} == {torch.float64}
        x = images(10).double()
        torch.testing.assert_close(model(x), outputs(source, x), rtol=1e-6, atol=1e-7)  # Keras's mean is float32
        """
    )


def test_what_cannot_be_imported_is_said():
    python(
        """
        class Odd(layers.Layer):
            def __init__(self, function):
                super().__init__(name="odd")
                self.function = function
            def compute_output_spec(self, x):
                return keras.KerasTensor(x.shape, x.dtype)
            def call(self, x):
                return self.function(x)

        def written(x):
            y = x[:, 0]
            y += 1
            return x

        bad = {
            "looks at the values": lambda x: x if x.sum() > 0 else -x,
            "other outputs for the same": lambda x: x + keras.random.normal((1, 3)),
            "another output in a batch": lambda x: x - keras.ops.mean(x, 0),
            "share": written,
        }
        for words, function in bad.items():
            inputs = keras.Input((8, 8, 3))
            source = keras.Model(inputs, Odd(function)(layers.GlobalAveragePooling2D()(inputs)))
            try:
                pellucid.from_keras(source)
            except ImportFailed as error:
                assert words in str(error), error
            else:
                raise AssertionError(f"not refused: {words}")
        try:
            pellucid.from_keras(source, bridge=True)
        except ValueError as error:
            assert "nothing to bridge" in str(error)
        else:
            raise AssertionError("not refused: bridge")
        """
    )
