"""An ONNX file, read without running code and without reading outside of its folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..graph.graph import ImportFailed, first_line
from ..graph.optional_imports import library

OLDEST = 7  # the set of operators from which on they broadcast as numpy does
NEWER = 13  # what older files are converted to
OTHERS = {  # what is taken for an ONNX file, by its first bytes
    b"PK": "it is a zip archive, as torch.save and Keras write them; torch.onnx.export and model.export write ONNX",
    b"\x89HDF": "it is an HDF5 file, as Keras writes them: from_keras and load take it as .h5",
    b"version https://git-lfs": "it is a pointer of git lfs, not the file: run 'git lfs pull'",
    b"<": "it is a web page: the download failed",
}
MOST = 2**31 - 1  # bytes of one message of protobuf


@dataclass(frozen=True)
class Port:
    """What goes in or out: its name, its lengths (None for open ones, or for all), the type of its numbers."""

    name: str
    lengths: tuple[int | None, ...] | None
    dtype: Any


@dataclass(frozen=True, eq=False)
class Opened:
    """An ONNX model with its weights in it.

    model: of onnx. content: the same as bytes. images: its one input. outputs: all of them. version: of the set of
    operators.
    """

    model: Any
    content: bytes
    images: Port
    outputs: list[Port]
    version: int


def opened(path: str | Path) -> Opened:
    """The model in a file, with the weights that lie in files beside it.

    Raises:
        FileNotFoundError: if there is no such file.
        ImportError: if onnx is not installed.
        ImportFailed: for a damaged file, one that names files outside of its folder, or one without one input.
    """
    onnx = library("onnx", "onnx")
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}{' (it is a folder)' if path.is_dir() else ''}")
    try:
        content = path.read_bytes()
        model = onnx.load_model_from_string(content)
    except Exception as error:  # protobuf has kinds of its own
        kind = next((kind for start, kind in OTHERS.items() if content.lstrip().startswith(start)), first_line(error))
        raise ImportFailed(f"{path} is no ONNX file, or is damaged: {kind}") from error
    if not model.graph.node and not model.graph.output:
        raise ImportFailed(f"{path} is no ONNX file, or is damaged: it holds no network")
    outer = [tensor for tensor in _tensors(model) if tensor.data_location == onnx.TensorProto.EXTERNAL]
    for tensor in outer:
        _bring(tensor, path)
    if len(content) + sum(len(tensor.raw_data) for tensor in outer) > MOST:
        raise ImportFailed(f"{path} holds more than 2 GB of weights, which cannot be run for comparison")
    content = model.SerializeToString() if outer else content  # slow, for large networks
    _check_operators(model, path)
    try:
        onnx.checker.check_model(content)
        changed = bool(model.functions) or _version(model) < OLDEST
        if model.functions:
            model = library("onnx.inliner", "onnx").inline_local_functions(model)
        if _version(model) < OLDEST:
            model = library("onnx.version_converter", "onnx").convert_version(model, NEWER)
        content = model.SerializeToString() if changed else content
    except Exception as error:  # onnx has several kinds, none of them common to all
        raise ImportFailed(f"{path} is damaged, or not of a version that can be read: {first_line(error)}") from error
    weights = {tensor.name for tensor in model.graph.initializer}
    weights |= {tensor.values.name for tensor in model.graph.sparse_initializer}
    inputs = [_port(value) for value in model.graph.input if value.name not in weights]
    if len(inputs) != 1:
        names = ", ".join(repr(port.name) for port in inputs) or "none"
        raise ImportFailed(
            f"{path} has {len(inputs)} inputs ({names}), expected one, a batch of images: export it "
            "with the others fixed, by a module that takes images only"
        )
    return Opened(model, content, inputs[0], [_port(value) for value in model.graph.output], _version(model))


def _check_operators(model: Any, path: Path) -> None:
    """Refuse a file with operators that ONNX has not: tf2onnx leaves what it cannot convert, with a warning only."""
    onnx, version = library("onnx", "onnx"), _version(model)
    newest = onnx.defs.onnx_opset_version()
    if version > newest:
        raise ImportFailed(
            f"{path} is of version {version} of ONNX's operators, and the onnx that is installed, {onnx.__version__}, "
            f"knows those up to {newest}: install a newer onnx, or export with opset_version={newest} or less"
        )
    for node in model.graph.node:
        if node.domain in ("", "ai.onnx") and not onnx.defs.has(node.op_type, version):
            said = f"{path} has the operator {node.op_type!r} (node {node.name!r}), which ONNX has not"
            if onnx.defs.has(node.op_type, newest):
                raise ImportFailed(
                    f"{said} in version {version} of its operators, only in later ones: export it with a later opset, "
                    "or, where onnxruntime optimized the file, import the one from before"
                )
            raise ImportFailed(
                f"{said}: what wrote the file could not convert it and left it as it was. Import the model itself "
                "(from_keras, from_tensorflow, from_jax), or write that part of it in other words (Keras's exact GELU "
                "is such an operator, the approximate one is not)"
            )


def _version(model: Any) -> int:
    return next((int(used.version) for used in model.opset_import if used.domain in ("", "ai.onnx")), 1)


def _port(value: Any) -> Port:
    onnx = library("onnx", "onnx")
    kind = value.type.tensor_type
    lengths = None
    if kind.HasField("shape"):
        lengths = tuple(
            int(d.dim_value) if d.HasField("dim_value") and d.dim_value > 0 else None for d in kind.shape.dim
        )
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type) if kind.elem_type else None
    return Port(value.name, lengths, dtype)


def _tensors(message: Any) -> Iterator[Any]:
    """All tensors in a message of ONNX, however deep."""
    onnx = library("onnx", "onnx")
    waiting = [message]
    while waiting:
        one = waiting.pop()
        if isinstance(one, onnx.TensorProto):
            yield one
            continue
        for field, value in one.ListFields():
            if field.message_type is not None:
                waiting += [value] if hasattr(value, "ListFields") else list(value)


def _bring(tensor: Any, path: Path) -> None:
    """Put the numbers of a tensor into it that lie in a file beside the model's; in place.

    Raises:
        ImportFailed: if that file is not in the folder, not there, or too short.
    """
    keys = {entry.key: entry.value for entry in tensor.external_data}
    location = keys.get("location", "")
    folder = path.parent.resolve()
    words = f"the weights {tensor.name!r} of {path}"
    try:
        file = (folder / location).resolve()
        offset, length = int(keys.get("offset", 0)), int(keys.get("length", -1))
    except (ValueError, OSError, RuntimeError) as error:
        raise ImportFailed(f"{words} are said to lie at a place that is none: {first_line(error)}") from error
    if not file.is_relative_to(folder) or not location:
        raise ImportFailed(f"{words} are said to lie at {location!r}, outside of its folder: they are not read")
    if not file.is_file():
        raise ImportFailed(f"{words} are said to lie in {location!r}, which is not beside it: bring both files")
    size = file.stat().st_size
    length = size - offset if length < 0 else length
    if offset < 0 or offset + length > size:
        raise ImportFailed(
            f"{words} are said to lie at bytes {offset} to {offset + length} of {location!r}, which has {size}: "
            "it is damaged, or of another model"
        )
    with file.open("rb") as source:
        source.seek(offset)
        tensor.raw_data = source.read(length)
    del tensor.external_data[:]
    tensor.data_location = library("onnx", "onnx").TensorProto.DEFAULT
