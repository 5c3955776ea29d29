"""TensorFlow functions behind autograd functions."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import torch

import pellucid
from pellucid.importers import ImportFailed
from pellucid.rules import RuleError


@pytest.fixture(scope="module")
def source():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, activation="relu", name="first")(inputs)
    x = keras.layers.Add(name="sum")([x, keras.layers.Conv2D(4, 3, padding="same", name="side")(x)])
    x = keras.layers.GlobalAveragePooling2D(name="average")(x)
    return keras.Model(inputs, keras.layers.Dense(2, name="classes")(x))


IMAGES = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def spectral(x):
    """No rule is known for it."""
    return tf.abs(tf.signal.fft(tf.cast(tf.tanh(tf.reduce_mean(x, 1)[:, :, 0]), tf.complex64)))


def test_what_cannot_be_imported_can_be_bridged():
    x = IMAGES.permute(0, 2, 3, 1).numpy()
    with pytest.raises(ImportFailed, match=r"'FFT'.*bridge=True"):
        pellucid.from_tensorflow(spectral, x)
    model = pellucid.from_tensorflow(spectral, x, bridge=True)
    for count in (1, 2, 3):
        torch.testing.assert_close(model(IMAGES[:count]), torch.from_numpy(spectral(x[:count]).numpy()))
    pixels = IMAGES.clone().requires_grad_()
    (mine,) = torch.autograd.grad(model(pixels)[:, 1].sum(), pixels)
    with tf.GradientTape() as tape:
        given = tf.constant(x)
        tape.watch(given)
        out = spectral(given)[:, 1]
    theirs = torch.from_numpy(tape.gradient(out, given).numpy()).permute(0, 3, 1, 2)
    torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-7)


def test_its_layers_are_those_of_the_import(source):
    bridged, imported = pellucid.from_keras(source, bridge=True), pellucid.from_keras(source)
    torch.testing.assert_close(bridged(IMAGES), imported(IMAGES), rtol=1e-4, atol=1e-6)
    found, wanted = ([(layer.name, layer.shape) for layer in pellucid.layers(m)] for m in (bridged, imported))
    assert found == wanted and [name for name, _ in found] == ["first", "side", "sum", "average", "classes"]
    for method in (pellucid.saliency, pellucid.integrated_gradients, pellucid.smoothgrad, pellucid.occlusion):
        torch.testing.assert_close(
            method(bridged, IMAGES, 1).values, method(imported, IMAGES, 1).values, rtol=1e-3, atol=1e-6
        )
    mine, theirs = (pellucid.grad_cam(m, IMAGES, 1, layer="sum").values for m in (bridged, imported))
    torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-6)
    neuron = pellucid.neuron("first", 2, 3, 1)
    mine, theirs = (pellucid.saliency(m, IMAGES, neuron).values for m in (bridged, imported))
    torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-6)


def test_its_layers_can_be_edited(source):
    bridged, imported = pellucid.from_keras(source, bridge=True), pellucid.from_keras(source)
    edit = {"first": lambda x: x * torch.tensor([1.0, 0, 2, 0])[:, None, None], "average": lambda x: x + 1}
    mine, theirs = (pellucid.run(m, IMAGES, edit=edit).output for m in (bridged, imported))
    torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


def test_rules_refuse_it_with_the_reason(source):
    model = pellucid.from_keras(source, bridge=True)
    for method in (pellucid.lrp, pellucid.guided_backprop, pellucid.deeplift):
        with pytest.raises(RuleError, match="TensorFlowFunction.*custom autograd function"):
            method(model, IMAGES, 1)


def test_images_that_are_not_computed_each_by_itself_are_refused():
    x = np.random.default_rng(0).random((2, 4, 5, 3)).astype("float32")
    with pytest.raises(ImportFailed, match="another output in a batch than alone"):
        pellucid.from_tensorflow(lambda x: x[:, 0, 0] - tf.reduce_mean(x[:, 0, 0], 0), x, bridge=True, layout="NHWC")
