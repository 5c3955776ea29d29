"""Keras models, imported through Keras's JAX backend."""

import os

import numpy as np
import pytest
import torch

import pellucid
from pellucid.importers import ImportFailed

from .. import real

jax = pytest.importorskip("jax")
os.environ.setdefault("KERAS_BACKEND", "jax")
keras = pytest.importorskip("keras")
if keras.backend.backend() != "jax":
    pytest.skip("Keras runs on another backend in this process", allow_module_level=True)


def shaken(model):
    rng = np.random.default_rng(0)
    for weight in model.weights:
        noise = rng.normal(0, 0.2, weight.shape)
        weight.assign(np.abs(weight.numpy() + noise) + 0.3 if "variance" in weight.path else weight.numpy() + noise)
    return model


def outputs(model, images):
    last = images.permute(0, 2, 3, 1).numpy()
    return torch.from_numpy(np.array(model(last, training=False)))


def small():
    inputs = keras.Input((12, 12, 3), name="pixels")
    x = keras.layers.Conv2D(4, 3, padding="same", use_bias=False, name="conv")(inputs)
    x = keras.layers.ReLU(6.0, name="relu")(keras.layers.BatchNormalization(name="norm")(x))
    x = keras.layers.Dropout(0.5)(keras.layers.MaxPooling2D(name="pool")(x))
    x = keras.layers.Dense(5, activation="gelu", name="dense")(keras.layers.LayerNormalization(name="layer_norm")(x))
    x = keras.layers.GlobalAveragePooling2D(name="average")(x)
    return shaken(keras.Model(inputs, keras.layers.Dense(3, activation="softmax", name="classes")(x)))


def test_a_functional_model():
    source = small()
    model = pellucid.from_keras(source, labels=["a", "b", "c"])
    assert model.net.difference < 1e-5
    images = torch.rand(4, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(model(images).softmax(1), outputs(source, images), rtol=1e-4, atol=1e-6)
    kept = pellucid.from_keras(source, logits=False)
    torch.testing.assert_close(kept(images), outputs(source, images), rtol=1e-4, atol=1e-6)
    shapes = {layer.name: layer.shape for layer in pellucid.layers(model)}
    assert shapes["conv"] == (4, 12, 12) and shapes["dense"] == (5, 6, 6) and shapes["classes"] == (3,)
    assert {"norm", "relu", "pool", "layer_norm", "average"} <= set(shapes)
    with_hook = pellucid.run(model, images, read=["norm"]).activations["norm"]
    inside = keras.Model(source.inputs[0], source.get_layer("norm").output)
    torch.testing.assert_close(with_hook, outputs(inside, images).permute(0, 3, 1, 2), rtol=1e-4, atol=1e-5)
    for method in (pellucid.lrp, pellucid.guided_backprop, pellucid.grad_cam):
        assert method(model, images, "b").values.isfinite().all()


def test_a_sequential_and_a_subclassed_model():
    layers = [keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3, activation="relu"), keras.layers.Flatten()]
    source = shaken(keras.Sequential([*layers, keras.layers.Dense(2)]))
    assert pellucid.from_keras(source).net.difference < 1e-5

    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.first = keras.layers.Dense(3)

        def call(self, x):
            return self.first(x)

    with pytest.raises(ImportFailed, match="no input shape"):
        pellucid.from_keras(Net())


def test_any_size():
    inputs = keras.Input((None, None, 3))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3)(inputs))
    source = keras.Model(inputs, keras.layers.Dense(2)(x))
    with pytest.raises(ImportFailed, match="any size: give size="):
        pellucid.from_keras(source)
    assert pellucid.from_keras(source, size=16).preprocessing.size == (16, 16)


def test_what_is_no_keras_model():
    with pytest.raises(TypeError, match=r"keras.Model, got a Linear"):
        pellucid.from_keras(torch.nn.Linear(2, 2))
    a = keras.Input((4, 4, 3))
    with pytest.raises(ImportFailed, match="1 inputs and 2 outputs"):
        pellucid.from_keras(keras.Model(a, [keras.layers.Flatten()(a), keras.layers.GlobalAveragePooling2D()(a)]))


def test_a_model_in_float64():
    policy, kind = keras.config.dtype_policy(), keras.config.floatx()
    with jax.enable_x64(True):
        try:
            keras.config.set_floatx("float64")
            keras.config.set_dtype_policy("float64")
            source = small()
            model = pellucid.from_keras(source)
        finally:
            keras.config.set_floatx(kind)
            keras.config.set_dtype_policy(policy)
        assert {weight.dtype for weight in model.net.parameters()} == {torch.float64}
        images = torch.rand(2, 3, 12, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        # Keras computes averages and batch norms in float32 all the same.
        torch.testing.assert_close(model(images).softmax(1), outputs(source, images), rtol=1e-5, atol=1e-6)


def test_a_layer_called_like_a_word_of_python():
    layers = [keras.Input((8, 8, 3)), keras.layers.Lambda(lambda x: 2 * x, name="lambda"), keras.layers.Flatten()]
    model = pellucid.from_keras(shaken(keras.Sequential([*layers, keras.layers.Dense(2)])))
    assert "lambda_" in [layer.name for layer in pellucid.layers(model)]


def test_mobilenet_with_its_weights():
    with np.load(real.path("mobilenet/mobilenet_v1_0.75_224.npz")) as file:
        source = keras.applications.MobileNet(alpha=0.75, weights=None)
        for weight in source.weights:
            other = weight.path.replace("/kernel", "/depthwise_kernel")
            weight.assign(file[weight.path if weight.path in file.files else other])
    model = pellucid.from_keras(source)
    image = real.castle()
    predicted = torch.from_numpy(np.array(source(image.permute(0, 2, 3, 1).numpy() * 2 - 1, training=False)))
    torch.testing.assert_close(model(image).softmax(1), predicted, rtol=1e-3, atol=1e-4)
    assert model.predict(image, k=1).labels == [["castle"]]
    for method in (pellucid.saliency, pellucid.grad_cam, pellucid.guided_backprop, pellucid.lrp):
        assert method(model, image, "castle").values.isfinite().all()
