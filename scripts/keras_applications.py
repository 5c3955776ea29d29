"""Import a network of each family of keras.applications: how far its outputs are from Keras's, and what a pass costs.

    KERAS_BACKEND=jax python scripts/keras_applications.py [--size 96] [NAME ...]

Random weights, statistics and biases. A row for each: the largest difference of outputs over the largest output, the
time of a forward pass over that of the source framework's own compiled function (Keras's own pass on torch), the
number of layers, and how long the import took. All run on one core, in turns; times are of the processor.
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
from collections.abc import Callable
from time import process_time
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ["CUDA_VISIBLE_DEVICES"] = ""
if hasattr(os, "sched_setaffinity"):  # before the frameworks count the cores
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})

import numpy as np
import torch

import pellucid
from pellucid.importers.graph.optional_imports import library, without_triton

SIZES = {  # the smallest that Keras allows, or that leaves more than one place before the last average
    "MobileNet": 64, "MobileNetV2": 64, "MobileNetV3Small": 64, "EfficientNetB0": 64, "EfficientNetV2B0": 64,
    "ConvNeXtTiny": 64, "DenseNet121": 64, "InceptionV3": 75, "InceptionResNetV2": 75, "NASNetMobile": 64,
    "ResNet50": 64, "ResNet50V2": 64, "VGG16": 64, "Xception": 71,
}  # fmt: skip
IMAGES, PASSES = 16, 5


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("names", nargs="*", default=SIZES, metavar="NAME")
    arguments.add_argument("--size", type=int, help="height and width of the images (default 64 to 75)")
    given = arguments.parse_args()
    torch.set_num_threads(1)
    backend = os.environ["KERAS_BACKEND"]
    if backend == "tensorflow":
        tf = library("tensorflow", "tensorflow")
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        without_triton()
    print(f"| on {backend} | pixels | difference | time | layers | seconds to import |\n|---|---|---|---|---|---|")
    for name in given.names:
        print(row(name, given.size or SIZES[name]), flush=True)
        library("keras", "keras").utils.clear_session(free_memory=True)
        gc.collect()


def row(name: str, size: int) -> str:
    """One network, as a row of the table."""
    keras = library("keras", "keras")
    keras.utils.set_random_seed(0)
    try:
        source = getattr(keras.applications, name)(weights=None, input_shape=(size, size, 3))
    except ValueError as error:
        return f"| {name} | {size} | Keras refuses: {str(error).splitlines()[0]} |"
    shake(source)
    start = process_time()
    try:
        model = pellucid.from_keras(source)
    except pellucid.importers.ImportFailed as error:
        return f"| {name} | {size} | refused: {error} |"
    took = process_time() - start
    batch = np.random.default_rng(0).random((IMAGES, size, size, 3)).astype(np.float32)
    images = torch.from_numpy(batch).permute(0, 3, 1, 2).contiguous()
    theirs, ours = compiled(source, batch), model.net
    ratios = []
    with torch.no_grad():
        theirs(), ours(images)
        for _ in range(PASSES):
            start = process_time()
            theirs()
            middle = process_time()
            ours(images)
            ratios.append((process_time() - middle) / (middle - start))
    layers = len(pellucid.layers(model))
    difference, ratio = model.net.difference, statistics.median(ratios)
    return f"| {name} | {size} | {difference:.1e} | {ratio:.2f} | {layers} | {took:.0f} |"


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
