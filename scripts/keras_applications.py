"""Import a network of each family of keras.applications: how far its outputs are from Keras's, and what a pass costs.

    KERAS_BACKEND=jax python scripts/keras_applications.py [--size 96] [NAME ...]

Random weights, one thread. A row for each: the largest difference of outputs over the largest output, and the time of a
forward pass over that of the source framework's own compiled function, the least of several passes in alternation.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Callable
from time import perf_counter
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

import numpy as np
import torch

import pellucid
from pellucid.importers.library import library
from pellucid.importers.tensorflow import without_triton

NAMES = (
    "MobileNet", "MobileNetV2", "MobileNetV3Small", "EfficientNetB0", "EfficientNetV2B0", "ConvNeXtTiny", "DenseNet121",
    "InceptionV3", "InceptionResNetV2", "NASNetMobile", "ResNet50", "ResNet50V2", "VGG16", "Xception",
)  # fmt: skip
IMAGES, PASSES = 4, 7


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("names", nargs="*", default=NAMES, metavar="NAME")
    arguments.add_argument("--size", type=int, default=96, help="height and width of the images (default 96)")
    given = arguments.parse_args()
    if os.environ["KERAS_BACKEND"] == "tensorflow":
        tf = library("tensorflow", "tensorflow")
        tf.config.threading.set_intra_op_parallelism_threads(1)
        without_triton()
    torch.set_num_threads(1)
    print(f"| keras.applications | difference | time | layers | on {os.environ['KERAS_BACKEND']}, {given.size} pixels")
    for name in given.names:
        print(row(name, given.size), flush=True)
        library("keras", "keras").utils.clear_session(free_memory=True)
        gc.collect()


def row(name: str, size: int) -> str:
    """One network, as a row of the table."""
    keras = library("keras", "keras")
    keras.utils.set_random_seed(0)
    try:
        source = getattr(keras.applications, name)(weights=None, input_shape=(size, size, 3))
    except ValueError as error:
        return f"| {name} | Keras refuses: {str(error).splitlines()[0]} |"
    shake(source)
    start = perf_counter()
    try:
        model = pellucid.from_keras(source)
    except pellucid.importers.ImportFailed as error:
        return f"| {name} | refused: {error} |"
    took = perf_counter() - start
    batch = np.random.default_rng(0).random((IMAGES, size, size, 3)).astype(np.float32)
    images = torch.from_numpy(batch).permute(0, 3, 1, 2).contiguous()
    theirs, ours = compiled(source, batch), model.net
    seconds: tuple[list[float], list[float]] = ([], [])
    with torch.no_grad():
        for _ in range(PASSES):
            for run, times in zip((theirs, lambda: ours(images)), seconds, strict=True):
                start = perf_counter()
                run()
                times.append(perf_counter() - start)
    ratio = min(seconds[1]) / min(seconds[0])
    count = len(pellucid.layers(model))
    print(f"{name}: imported in {took:.0f} s, a pass {min(seconds[1]):.3f} s", file=sys.stderr)
    return f"| {name} | {model.net.difference:.1e} | {ratio:.2f} | {count} |"


def shake(model: Any) -> None:
    """Statistics and biases away from zero and one, so that they hide nothing."""
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if len(weight.shape) == 1:
            noise = rng.normal(0, 0.1, weight.shape)
            values = np.asarray(library("keras", "keras").ops.convert_to_numpy(weight)) + noise
            weight.assign(np.abs(values) + 0.1 if "variance" in weight.path else values)


def compiled(model: Any, batch: Any) -> Callable[[], Any]:
    """A pass of the source framework's own compiled function."""
    backend = os.environ["KERAS_BACKEND"]

    def function(x: Any) -> Any:
        return model(x, training=False)

    if backend == "jax":
        jitted = library("jax", "jax").jit(function)
        return lambda: jitted(batch).block_until_ready()
    if backend == "tensorflow":
        tf = library("tensorflow", "tensorflow")
        graph, constant = tf.function(function), tf.constant(batch)
        return lambda: graph(constant).numpy()
    tensor = torch.from_numpy(batch)
    return lambda: function(tensor)


if __name__ == "__main__":
    main()
