"""`from_onnx`: an ONNX file, re-expressed in torch operator by operator."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ...model.classifier import Classifier
from ..graph.equivalence import HALF_PRECISION
from ..graph.finish import example_of, finish, pixel_range, wrapped
from ..graph.graph import BatchDim, Graph, ImportFailed, Step, Unknown, Value, tensor
from ..graph.layout import LAYOUTS, by_channels
from .file import Opened, Port, opened
from .layer_names import Names
from .quantized_rules import TOLERANCE as QUANTIZED
from .quantized_rules import quantized
from .reader import Reader
from .reference import Source

TOLERANCE = {"float16": HALF_PRECISION, "bfloat16": HALF_PRECISION, "float32": 1e-4, "float64": 1e-7}  # attributes too
HALVES = {10, 16}  # float16 and bfloat16, as TensorProto.DataType numbers them
KEEPS = frozenset({
    "Add", "Sub", "Mul", "Div", "Pad", "Clip", "Cast", "Identity", "Relu", "Neg", "Max", "Min", "Pow", "Sqrt",
    "BatchNormalization", "QuantizeLinear", "DequantizeLinear",
})  # fmt: skip


def from_onnx(
    path: str | Path,
    example: Any = None,
    *,
    labels: Sequence[str] = (),
    layout: str | None = None,
    mean: Sequence[float] | float | None = None,
    std: Sequence[float] | float | None = None,
    size: int | tuple[int, int] | None = None,
    name: str = "",
    logits: bool = True,
    output_name: str = "",
    tolerance: float | None = None,
) -> Classifier:
    """A network in an ONNX file as a torch network, for every method.

    Each operator is re-expressed in torch functions, and no code of the file is run; onnx is not needed afterwards.
    What is computed from constants alone is computed at once, and what computes a softmax, a layer norm, a GELU or an
    attention becomes that one call, so that rules for layers find them. Layers are called as in the network that was
    exported, as far as the file tells. A quantized network in the QDQ format computes what it computes, with gradients
    straight through the rounding. The batch size is free, also where the file was written for one. The outputs are
    compared with those of onnxruntime, or of onnx itself where that is not installed, on the example and on a random
    batch; `model.net.difference` is the largest difference, over the largest output.

    Args:
        path: an .onnx file; its weights may lie in files beside it.
        example: a batch of images as the network takes them, N x C x H x W or N x H x W x C, to be compared on; by
            default one of random pixels.
        labels: names of the K classes.
        layout: "NHWC" or "NCHW", how the network takes images; by default found from its first convolution.
        mean, std: as for `wrap`: the network is given (pixels - mean) / std, per channel, of pixels in [0, 1]. By
            default pixels as they are. std=1/255 gives it 0 ... 255.
        size: height and width, for a network that takes any.
        name: for titles; by default the file's.
        logits: leave out a softmax that the network ends with, as everywhere in pellucid; False keeps it.
        output_name: the name of the output N x K, where there are several.
        tolerance: for the difference from the outputs of the file; by default 1e-4, in double precision 1e-7, for
            quantized networks and where half precision is in it 0.05.

    Returns:
        A `Classifier` on images N x C x H x W in [0, 1]; `model.net` is the torch network.

    Raises:
        ImportError: if onnx is not installed.
        FileNotFoundError: if there is no such file.
        ImportFailed: for a damaged file, one that names files outside of its folder, one with several inputs or without
            images, an operator without a rule, a network in training mode, or other outputs afterwards; the message
            names the operator, its node and its layer.
        ValueError, TypeError: for an example that is no batch of images, or a layout that cannot be found.

    >>> import onnx.parser, pellucid, tempfile
    >>> text = '''<ir_version: 9, opset_import: ["" : 18]> tiny (float[N,3,8,8] images) => (float[N,3] logits) {
    ...     h = Relu(images)
    ...     pooled = GlobalAveragePool(h)
    ...     logits = Flatten(pooled)
    ... }'''
    >>> path = Path(tempfile.mkdtemp(), "tiny.onnx")
    >>> onnx.save(onnx.parser.parse_model(text), path)
    >>> model = pellucid.from_onnx(path)
    >>> pellucid.saliency(model, torch.rand(1, 3, 8, 8), 0).values.shape
    torch.Size([1, 1, 8, 8])
    """
    file = opened(path)
    port = _chosen(file, output_name)
    batch, axes = _batch(file, example, layout, mean, std, size)
    assert file.images.dtype is not None
    kind = str(file.images.dtype)
    images = tensor(batch).permute(axes).to(torch.float64 if kind == "float64" else torch.float32)
    g = Graph(images.dtype, (images.shape[1], images.shape[2], images.shape[3]))
    known, names = _read(g, file, axes)
    g.output, classes = _rows(g, known[port.name], port.name)
    if labels and len(labels) != classes:
        raise ValueError(f"there are {len(labels)} labels, and the network has {classes} classes")
    source = Source(file, port.name, axes)
    outer = {made for node in file.model.graph.node for made in node.output}

    def values(few: Tensor) -> dict[Any, Tensor]:
        origins = {step.origin[0] for step in g.steps if step.origin is not None}
        return source.values(few, {one: known[one].shape for one in sorted(origins & outer)})

    net = finish(
        g, source, images, values=values, limit=tolerance or _limit(g, file, kind), logits=logits,
        kinds=names.kinds(),
    )  # fmt: skip
    return wrapped(net, batch.shape, axes, mean=mean, std=std, labels=labels, name=name or Path(path).stem)


def _chosen(file: Opened, output_name: str) -> Port:
    """The output that is wanted."""
    names = ", ".join(repr(port.name) for port in file.outputs)
    if output_name:
        found = [port for port in file.outputs if port.name == output_name]
        if not found:
            raise ImportFailed(f"the model has no output {output_name!r}, it has {names}")
    elif len(file.outputs) != 1:
        raise ImportFailed(f"the model has {len(file.outputs)} outputs ({names}): say which, as in output_name='...'")
    else:
        found = file.outputs
    if found[0].dtype is not None and str(found[0].dtype) not in TOLERANCE:
        raise ImportFailed(
            f"the output {found[0].name!r} is of {found[0].dtype}, as of the numbers of classes, through which no "
            "gradients go: export the network with its scores, before the step that chooses (ArgMax)"
        )
    return found[0]


def _batch(
    file: Opened, example: Any, layout: str | None, mean: Any, std: Any, size: int | tuple[int, int] | None
) -> tuple[np.ndarray[Any, Any], tuple[int, ...]]:
    """A batch of images as the model takes them, and the axes of N, C, H, W in it."""
    port = file.images
    if str(port.dtype) not in TOLERANCE:
        raise ImportFailed(
            f"the input {port.name!r} takes {port.dtype or 'no numbers'}, expected floating-point numbers, through "
            "which gradients go: export the network without the step that makes them"
        )
    batch = None if example is None else example_of(example)
    declared = port.lengths or (None if batch is None else (None,) * 4)
    if declared is None or len(declared) != 4:
        stated = (
            "of no stated shape: give an example" if declared is None else f"{_shape(declared)}, expected N x C x H x W"
        )
        raise ImportFailed(f"the input {port.name!r} is no batch of images: it is {stated}")
    axes = _axes(file, declared if batch is None else batch.shape, layout)
    if batch is None:
        sides = (size, size) if isinstance(size, int) else size or (None, None)
        given = {0: 1} | dict(zip(axes[2:], sides, strict=True))
        lengths = [given.get(axis) if length is None or axis == 0 else length for axis, length in enumerate(declared)]
        if None in lengths:
            raise ImportFailed(
                f"the input {port.name!r} takes images of any size, {_shape(declared)}: give size=, height and "
                "width in pixels, or an example"
            )
        low, high = pixel_range(mean, std)
        wanted = [length for length in lengths if length is not None]
        batch = np.random.default_rng(0).uniform(low, high, wanted).astype(np.float32)
    shape = tuple(batch.shape)
    if any(n not in (None, got) for n, got in zip(declared[1:], shape[1:], strict=True)):
        raise ValueError(f"the example has the shape {_shape(shape)}, and the model takes {_shape(declared)}")
    if size is not None and tuple(shape[axis] for axis in axes[2:]) != (
        (size, size) if isinstance(size, int) else size
    ):
        raise ValueError(f"size is {size}, and the model takes {_shape(declared)}")
    return batch, axes


def _axes(file: Opened, shape: Sequence[int | None], layout: str | None) -> tuple[int, ...]:
    """The axes of N, C, H, W, from where the first convolution has its channels, or from how many colors there are."""
    if layout is not None and layout not in LAYOUTS:
        raise ValueError(f"layout is {layout!r}, expected 'NHWC' or 'NCHW'")
    places: dict[str, tuple[int, ...]] = {file.images.name: (0, 1, 2, 3)}
    for node in file.model.graph.node:
        at = next((places[name] for name in node.input if name in places), None)
        if at is None:
            continue
        if node.op_type == "Conv":
            found = {1: "NCHW", 3: "NHWC"}.get(at[1])
            if found is None:
                raise ValueError(f"the model takes channels on axis {at[1]} of its images: expected NHWC or NCHW")
            if layout not in (None, found):
                raise ValueError(f"layout is {layout!r}, but the first convolution takes {found}")
            return LAYOUTS[found]
        if node.op_type == "Transpose":
            moves = next((list(a.ints) for a in node.attribute if a.name == "perm"), [3, 2, 1, 0])
            places[node.output[0]] = tuple(at[axis] for axis in moves)
        elif node.op_type in KEEPS:
            places[node.output[0]] = at
    return by_channels(tuple(n or 0 for n in shape), layout)


def _read(g: Graph, file: Opened, axes: tuple[int, ...]) -> tuple[dict[str, Any], Names]:
    """What each name of the model stands for; the graph is filled."""
    known: dict[str, Any] = {file.images.name: g.batch(axes)}
    names = Names(file.model.graph)
    batch_size = file.images.lengths[axes[0]] if file.images.lengths else None
    Reader(g, file.version, batch_size, names).read(file.model.graph, known)
    g.scope = ()
    return known, names


def _limit(g: Graph, file: Opened, kind: str) -> float:
    """How far outputs may differ, by the coarsest numbers that the file computes with; the import does in float32."""
    if any(step.function is quantized for step in g.steps):
        return QUANTIZED
    kinds = {weight.data_type for weight in file.model.graph.initializer}
    kinds |= {a.i for node in file.model.graph.node if node.op_type == "Cast" for a in node.attribute if a.name == "to"}
    return TOLERANCE["float16" if kinds & HALVES else kind]


def _rows(g: Graph, out: Any, name: str) -> tuple[Step, int]:
    """The output as N x K, and K; further axes of length 1 are dropped, before a softmax that comes last."""
    if isinstance(out, Unknown):
        raise ImportFailed(out.reason)
    if not isinstance(out, Value) or not isinstance(out.held, Step):
        raise ImportFailed("the model does not look at the images: its output is a constant")
    shape = out.shape
    if len(shape) < 2 or shape[0] != BatchDim(1) or any(n != 1 for n in shape[2:]) or isinstance(shape[1], BatchDim):
        words = " x ".join("N" if n == BatchDim(1) else str(n) for n in shape)
        raise ImportFailed(f"the output {name!r} is {words}, expected N x K, one row for each image")
    held = g.plain(out)
    if len(shape) > 2:
        assert isinstance(held, Step)
        last = held.function if held.function in (F.softmax, F.log_softmax) and held.args[1] == 1 else None
        flat = g.reshaped(held.args[0] if last else held, shape[:2])
        held = g.call(last, flat, 1) if last else flat
    assert isinstance(held, Step)
    return held, shape[1]


def _shape(lengths: Sequence[int | None]) -> str:
    return " x ".join("?" if n is None else str(n) for n in lengths)
