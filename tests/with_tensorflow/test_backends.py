"""One Keras model on its three backends, a process for each: the same predictions, layers and maps."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import torch

import pellucid

from .. import real

BACKENDS = ("tensorflow", "jax", "torch")


def imported(folder, model, images, objective, layer):
    """What maps.py finds on each backend."""
    model.save(folder / "model.keras")
    np.save(folder / "images.npy", images.numpy())
    torch.save(pellucid.from_keras(model).net.state_dict(), folder / "state.pt")
    source = Path(pellucid.__file__).parents[1]
    paths = os.pathsep.join([str(source), os.environ.get("PYTHONPATH", "")])
    running = {
        backend: subprocess.Popen(
            [sys.executable, Path(__file__).with_name("maps.py"), folder / "model.keras", folder / "images.npy",
             folder / "state.pt", str(objective), layer, folder / f"{backend}.npz"],
            env=os.environ | {"KERAS_BACKEND": backend, "PYTHONPATH": paths},
            stderr=subprocess.PIPE, text=True,
        )
        for backend in BACKENDS
    }  # fmt: skip
    for process in running.values():
        said = process.communicate(timeout=900)[1]
        assert process.returncode == 0, said[-3000:]
    return {backend: dict(np.load(folder / f"{backend}.npz")) for backend in BACKENDS}


def agree(found, tolerance):
    first = found["tensorflow"]
    for backend in BACKENDS:
        assert found[backend].pop("backend") == backend
    for other in (found["jax"], found["torch"]):
        assert other.pop("layers").tolist() == first["layers"].tolist()
        assert np.abs(other["predictions"] - first["predictions"]).max() < 1e-4
        for name, values in other.items():
            assert values.shape == first[name].shape and np.abs(values).max() > 0, name
            near = 1e-9 if name in ("maximize", "ascent") else tolerance  # with the same weights, in float64
            assert np.abs(values - first[name]).max() <= near * np.abs(first[name]).max(), name


def test_a_small_network(tmp_path):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((24, 24, 3))
    x = keras.layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False, name="conv")(inputs)
    x = keras.layers.ReLU(6.0, name="relu")(keras.layers.BatchNormalization(name="norm")(x))
    x = keras.layers.DepthwiseConv2D(3, padding="same", activation="relu", name="depthwise")(x)
    x = keras.layers.Add(name="add")([x, keras.layers.Conv2D(8, 1, name="side")(x)])
    x = keras.layers.AveragePooling2D(2, name="pool")(x)
    x = keras.layers.Dense(6, activation="gelu", name="dense")(keras.layers.LayerNormalization(name="layer_norm")(x))
    x = keras.layers.Dropout(0.5)(keras.layers.GlobalAveragePooling2D(name="average")(x))
    model = keras.Model(inputs, keras.layers.Dense(4, activation="softmax", name="classes")(x))
    rng = np.random.default_rng(0)
    for weight in model.weights:
        noise = rng.normal(0, 0.2, weight.shape)
        weight.assign(np.abs(weight.numpy() + noise) + 0.3 if "variance" in weight.path else weight.numpy() + noise)
    images = torch.rand(2, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    agree(imported(tmp_path, model, images, 1, "add"), 2e-4)


def test_mobilenet_with_its_weights(tmp_path):
    with np.load(real.path("mobilenet/mobilenet_v1_0.75_224.npz")) as file:
        model = keras.applications.MobileNet(alpha=0.75, weights=None)
        for weight in model.weights:
            other = weight.path.replace("/kernel", "/depthwise_kernel")
            weight.assign(file[weight.path if weight.path in file.files else other])
    found = imported(tmp_path, model, real.castle(), real.CASTLE, "conv_pw_13_relu")
    predicted = model(real.castle().permute(0, 2, 3, 1).numpy() * 2 - 1, training=False).numpy()
    assert np.abs(found["jax"]["predictions"] - predicted).max() < 1e-4 and predicted.argmax() == real.CASTLE
    agree(found, 1e-3)
