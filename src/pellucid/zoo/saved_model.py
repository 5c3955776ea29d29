"""SavedModel folders of TensorFlow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..importers import ImportFailed, from_tensorflow
from ..importers.graph.finish import image_shape, pixel_range
from ..importers.graph.optional_imports import library, without_triton
from ..model.classifier import Classifier
from .weights import UnreadableWeights

FILE = "saved_model.pb"
# What a graph can do besides computing: TensorFlow's own list of what to look for in a model of others, and Python.
REACHES_OUT = ("ReadFile", "WriteFile", "MatchingFiles", "PrintV2", "PyFunc", "PyFuncStateless", "EagerPyFunc")


def is_saved_model(path: Path) -> bool:
    """Whether a path is a folder that TensorFlow saved a model in."""
    return (path / FILE).is_file()


def saved_model(path: Path, *, trusted: bool, mean: Any, std: Any, size: Any) -> Classifier:
    """What a SavedModel serves, as a torch network.

    Args:
        path: the folder.
        trusted: also where its graph reads or writes files or calls Python.
        mean, std, size: as for `load`.

    Raises:
        ImportError: if TensorFlow is not installed.
        ImportFailed: as for `from_tensorflow`.
        UnreadableWeights: for a broken folder, or a graph that reaches out, unless it is trusted.
    """
    tf = library("tensorflow", "tensorflow")
    without_triton()
    _check(path, trusted)
    try:
        loaded = tf.saved_model.load(str(path))
    except (OSError, ValueError, KeyError, tf.errors.OpError) as error:
        raise UnreadableWeights(f"{path} is no SavedModel that TensorFlow can read: {str(error)[:300]}") from error
    served = loaded.signatures.get("serving_default")
    if served is None:
        raise ImportFailed(f"{path} serves nothing: save it with a signature, as model.export(folder) of Keras does")
    inputs = served.structured_input_signature[1]
    if len(inputs) != 1 or len(served.structured_outputs) != 1:
        raise ImportFailed(
            f"{path} serves {len(inputs)} inputs and {len(served.structured_outputs)} outputs, expected one of each"
        )
    ((name, spec),) = inputs.items()
    (result,) = served.structured_outputs
    low, high = pixel_range(mean, std)
    stated = None if spec.shape.rank is None else spec.shape.as_list()
    example = np.random.default_rng(0).uniform(low, high, (1, *image_shape(stated, size)))
    batch = example.astype(spec.dtype.as_numpy_dtype)
    layout = "NHWC" if batch.shape[-1] in (1, 3) else None
    return from_tensorflow(
        lambda x: served(**{name: x})[result], batch, layout=layout, mean=mean, std=std, name=path.resolve().name
    )


def _check(path: Path, trusted: bool) -> None:
    """Read which operations a folder has, without running any."""
    proto = library("tensorflow.core.protobuf.saved_model_pb2", "tensorflow").SavedModel()
    try:
        proto.ParseFromString((path / FILE).read_bytes())
    except Exception as error:  # of protobuf, which may be one of several libraries
        raise UnreadableWeights(f"{path} is no SavedModel that can be read: {FILE} is broken") from error
    for meta in proto.meta_graphs:
        nodes = [*meta.graph_def.node, *(n for f in meta.graph_def.library.function for n in f.node_def)]
        found = sorted({node.op for node in nodes if node.op in REACHES_OUT})
        if found and not trusted:
            raise UnreadableWeights(
                f"{path} does more than compute ({', '.join(found)}): it is not run unless you trust whoever made it: "
                "load(..., trusted=True)"
            )
