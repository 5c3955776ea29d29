"""An ONNX model run as it is, to compare with: by onnxruntime where that is installed, else by onnx itself."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..graph.graph import BatchDim, ImportFailed, Shape, first_line, tensor
from ..graph.layout import to_source
from ..graph.optional_imports import library
from .file import Opened

Arrays = list[np.ndarray[Any, Any]]


class Source:
    """The source network, from and to torch tensors.

    Args:
        file: the model.
        output: the name of the output wanted.
        axes: where N, C, H, W are among the axes of its images.
    """

    def __init__(self, file: Opened, output: str, axes: tuple[int, ...]) -> None:
        self.file = file
        self.axes = axes
        self.batch_size = file.images.lengths[axes[0]] if file.images.lengths else None
        self.run = runner(file.content, file.images.name, [output])

    def __call__(self, images: Tensor) -> Tensor:
        return torch.cat([tensor(out) for (out,) in self._runs(self.run, images)])[: len(images)].flatten(1)

    def values(self, images: Tensor, shapes: Mapping[str, Shape]) -> dict[Any, Tensor]:
        """What the source has for some of its names.

        Args:
            shapes: of these, so that the parts of a batch can be joined where the model takes few images at once.
        """
        names = list(shapes)
        model = type(self.file.model)()
        model.CopyFrom(self.file.model)
        del model.graph.output[:]
        model.graph.output.extend(library("onnx", "onnx").ValueInfoProto(name=name) for name in names)
        runs = self._runs(runner(model.SerializeToString(), self.file.images.name, names), images)
        found: dict[Any, Tensor] = {}
        for name, parts in zip(names, zip(*runs, strict=True), strict=True):
            axis = next((i for i, length in enumerate(shapes[name]) if isinstance(length, BatchDim)), None)
            if axis is not None:
                length = shapes[name][axis]
                assert isinstance(length, BatchDim)
                whole = torch.cat([tensor(part) for part in parts], axis)
                found[name] = whole.narrow(axis, 0, min(length.at(len(images)), whole.shape[axis]))
        return found

    def _runs(self, run: Callable[[np.ndarray[Any, Any]], Arrays], images: Tensor) -> list[Arrays]:
        """The outputs for so many images at a time as the model takes."""
        size = self.batch_size or len(images)
        missing = -len(images) % size
        images = torch.cat([images, images[-1:].expand(missing, *images.shape[1:])])
        return [run(to_source(part, self.axes, self.file.images.dtype)) for part in images.split(size)]


def runner(model: bytes, name: str, outputs: Sequence[str]) -> Callable[[np.ndarray[Any, Any]], Arrays]:
    """A function that runs a model.

    Args:
        model: of onnx, as bytes.
        name: of its input.
        outputs: names of those wanted.

    Raises:
        ImportFailed: if it cannot be run.
    """
    session = _session(model)

    def run(images: np.ndarray[Any, Any]) -> Arrays:
        try:
            made: Arrays = session.run(list(outputs), {name: images})
        except Exception as error:  # onnxruntime has kinds of its own
            raise _not_run(error) from error
        return made

    return run


def _session(model: bytes) -> Any:
    if importlib.util.find_spec("onnxruntime") is None:
        return _reference(model)
    try:
        runtime = library("onnxruntime", "onnx")
        options = runtime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = torch.get_num_threads()
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
        return runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        if "NOT_IMPLEMENTED" in str(error):  # onnxruntime has not all operators for double precision
            return _reference(model)
        raise _not_run(error) from error


def _reference(model: bytes) -> Any:
    try:
        return library("onnx.reference", "onnx").ReferenceEvaluator(model)
    except Exception as error:
        raise _not_run(error) from error


def _not_run(error: Exception) -> ImportFailed:
    return ImportFailed(f"the model cannot be run as it is, to compare with: {first_line(error)}")
