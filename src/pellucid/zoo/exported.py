"""Exported programs: checked before they are loaded.

`torch.export.load` unpickles (constants, and example inputs that its restricted unpickler
refuses), evaluates expressions of shapes with Python's eval, calls any function whose dotted path it finds, puts
names into Python source and loads compiled libraries. What follows lets through what a program exported from a
network consists of: plain tensors, and calls of torch's own operations on them.
"""

from __future__ import annotations

import ast
import io
import json
import logging
import math
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..model.classifier import Preprocessing
from .weights import TRUST, UnreadableWeights, first_line

_RECORDS = re.compile(
    r"models/model\.json|data/weights/(model_weights_config\.json|weight_\d+)|data/sample_inputs/model\.pt"
    r"|data/constants/(model_constants_config\.json|tensor_\d+)|extra/.*"
    r"|archive_format|archive_version|byteorder|\.data/(version|serialization_id)"
)
_DYNAMIC = (
    "torch.export.export(net, (images,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},)) with two images or more"
)
_OPERATORS = {"add", "sub", "mul", "floordiv", "truediv", "mod", "neg", "pow", "and_", "or_", "not_"}
_OPERATORS |= {"eq", "ne", "lt", "le", "gt", "ge", "getitem"}
_SYMBOLIC = {"torch.sym_float", "torch.sym_int", "torch.sym_ite", "torch.sym_max", "torch.sym_min", "torch.sym_not"}
_SYMBOLIC |= {"math.ceil", "math.floor", "math.trunc"}
_FILES_OPENED = ("from_file", "save")  # the operations of aten that do
_FUNCTIONS = re.compile(  # of sympy, and torch's additions to it
    "Symbol|Integer|Float|Rational|Add|Mul|Pow|Min|Max|Mod|Abs|Eq|Ne|Lt|Le|Gt|Ge|Equality|Unequality|StrictLessThan"
    "|LessThan|StrictGreaterThan|GreaterThan|And|Or|Not|floor|ceiling|FloorDiv|ModularIndexing|Where|PythonMod|CleanDiv"
    "|CeilToInt|FloorToInt|CeilDiv|PowByNatural|FloatPow|FloatTrueDiv|IntTrueDiv|TruncToFloat|TruncToInt|RoundToInt"
    "|ToFloat|Identity|IsNonOverlappingAndDenseIndicator"
)
_EXPRESSIONS = (
    *(ast.Expression, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.operator, ast.unaryop, ast.boolop),
    *(ast.cmpop, ast.Call, ast.keyword, ast.Name, ast.Load, ast.Constant),
)


class _Unsafe(Exception):
    """What an archive holds beyond tensors and torch's operations."""


def exported(file: Path, device: torch.device, trusted: bool) -> tuple[nn.Module, Preprocessing, int | None]:
    """The network of an exported program, how its images are, and how many classes it has."""
    if not file.is_file():
        raise FileNotFoundError(f"there is no exported program {file}")
    data = file.read_bytes()
    try:
        if not trusted:
            _check_archive(data)
        with _no_warnings_of_torch():
            program = torch.export.load(io.BytesIO(data))
    except _Unsafe as error:
        raise UnreadableWeights(
            f"{file} holds more than a network: {error}. To load it could run code; {TRUST}"
        ) from error
    except Exception as error:  # what torch raises for a damaged archive is not said anywhere
        raise UnreadableWeights(
            f"{file} is no program that this torch ({torch.__version__}) can load ({first_line(error)}). Expected what "
            "torch.export.save writes; one of another version is best exported anew"
        ) from error
    low_high, classes = _signature(program, file)
    tensors = [*program.state_dict.values(), *(c for c in program.constants.values() if isinstance(c, Tensor))]
    if any(tensor.device != device for tensor in tensors):
        from torch.export.passes import move_to_device_pass

        program = move_to_device_pass(program, device)
    net: nn.Module = torch.export.unflatten(program)
    for module in net.modules():
        module.training = False  # what an exported module says of itself is not what it was exported as
        graph = getattr(module, "graph", None)
        for node in graph.nodes if isinstance(graph, torch.fx.Graph) else ():
            node.meta.pop("val", None)  # tensors without content, which cannot be copied or saved
    net.check_input_constraints = False  # type: ignore[assignment] # torch's words for it are its own, and need them
    net.register_forward_pre_hook(partial(_check_shape, low_high))
    _, channels, height, width = (low if low == high else None for low, high in low_high)
    size = (height, width) if height and width else None
    return net, Preprocessing(size, channels=channels or 3), classes


@contextmanager
def _no_warnings_of_torch() -> Iterator[None]:
    """torch 2.14 logs a wrong format where it unpickles what is trusted, which shows a traceback of the logging."""
    logger = logging.getLogger("torch._export.serde.serialize")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _signature(program: Any, file: Path) -> tuple[list[tuple[int, float]], int | None]:
    """Least and largest of each of N, C, H, W, and the number of classes."""
    nodes = {node.name: node for node in program.graph.nodes}
    inputs = [nodes[name].meta["val"] for name in program.graph_signature.user_inputs if name in nodes]
    outputs = [nodes[name].meta["val"] for name in program.graph_signature.user_outputs if name in nodes]
    if [getattr(value, "ndim", 0) for value in inputs] != [4] or not outputs:
        raise UnreadableWeights(
            f"{file}: the program takes {len(inputs)} inputs of {[getattr(v, 'ndim', 0) for v in inputs]} dimensions; "
            "expected one batch of images, N x C x H x W"
        )
    for node in program.graph.nodes:
        schema = getattr(node.target, "_schema", None)
        for argument, value in zip(schema.arguments, node.args, strict=False) if schema else ():
            if value and argument.name in ("train", "training", "dropout_p"):
                raise UnreadableWeights(
                    f"{file} was exported in training mode ({node.name} is): dropout would be random and batch norm "
                    "would mix the images. Call net.eval() before torch.export.export"
                )
    ranges = []
    for length in inputs[0].shape:
        if isinstance(length, int):
            ranges.append((length, float(length)))
        else:
            bounds = program.range_constraints.get(length.node.expr)
            low, high = (0, math.inf) if bounds is None else (int(bounds.lower), float(bounds.upper))
            ranges.append((low if low > 2 else 1, high))  # 2 is what torch says where it tried no 1
    shape = outputs[0].shape
    return ranges, shape[1] if len(shape) == 2 and isinstance(shape[1], int) else None


def _check_shape(expected: list[tuple[int, float]], _net: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """A hook before the network: its program is valid for the lengths that it was exported for, and no others."""
    for axis, length, (low, high) in zip("NCHW", inputs[0].shape, expected, strict=True):
        if not low <= length <= high:
            wanted = f"{low}" if low == high else f"{low} to {high:g}"
            if axis == "N":
                raise ValueError(
                    f"this program was exported for batches of {wanted}, and got {length}: export it for any, "
                    f"{_DYNAMIC}, or pellucid.settings(batch_size={low}) if the images come in whole batches"
                )
            raise ValueError(f"this program was exported for {axis} = {wanted}, and got {axis} = {length}")


def _check_archive(data: bytes) -> None:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        listed = archive.namelist()
    if "serialized_exported_program.json" in listed:
        raise _Unsafe("it is of a format that torch gave up with 2.8 and that is not checked (export it anew)")
    reader = torch._C.PyTorchFileReader(io.BytesIO(data))
    records = reader.get_all_records()
    if sorted(name.partition("/")[2] for name in listed) != sorted(set(records)):
        raise _Unsafe("its table of contents can be read in two ways")
    for name in records:
        if not _RECORDS.fullmatch(name):
            raise _Unsafe(f"the entry {name!r}")
    for kind in ("weights", "constants"):
        config = json.loads(reader.get_record(f"data/{kind}/model_{kind}_config.json"))["config"]
        for name, entry in config.items():
            if entry["use_pickle"] or not re.fullmatch(r"(weight|tensor)_\d+", entry["path_name"]):
                raise _Unsafe(f"{name!r} is pickled")
    inputs = reader.get_record("data/sample_inputs/model.pt")
    if inputs:
        try:
            torch.load(io.BytesIO(inputs), weights_only=True)
        except Exception as error:
            raise _Unsafe("its example inputs are not tensors") from error
    _check_words(json.loads(reader.get_record("models/model.json")), "")


def _check_words(value: Any, key: str) -> None:
    """Refuse a program in which a text is not what texts at that place are."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if not _PLAIN.fullmatch(name):
                raise _Unsafe(f"the name {name!r}")
            _check_words(inner, f"metadata.{name}" if key == "metadata" else name)
    elif isinstance(value, list):
        for inner in value:
            _check_words(inner, key)
    elif isinstance(value, str):
        allowed = _WORDS.get(key, _PLAIN.fullmatch)
        if not allowed(value):
            raise _Unsafe(f"{value[:80]!r} as {key!r}")


def _operation(text: str) -> bool:
    """Whether a text names one of torch's operations on tensors, or of arithmetic on lengths."""
    library, _, name = text.rpartition(".")
    if text in _SYMBOLIC or (library == "_operator" and name in _OPERATORS):
        return True
    match = re.fullmatch(r"torch\.ops\.(aten|torchvision)\.(\w+)\.(\w+)", text)
    if not match or match[2] in _FILES_OPENED:
        return False
    if match[1] == "torchvision":
        import torchvision  # noqa: F401 - makes its operations known
    overload = getattr(getattr(getattr(torch.ops, match[1]), match[2], None), match[3], None)
    return isinstance(overload, torch._ops.OpOverload)


def _arithmetic(text: str) -> bool:
    """Whether a text is an expression of lengths, harmless to `eval`."""
    if not (text.isascii() and text.isprintable()) or "#" in text:
        return False
    try:
        nodes = list(ast.walk(ast.parse(text, mode="eval")))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    for node in nodes:
        called = isinstance(node, ast.Call) and not (
            isinstance(node.func, ast.Name) and _FUNCTIONS.fullmatch(node.func.id)
        )
        quoted = isinstance(node, ast.Constant) and isinstance(node.value, str) and not _PLAIN.fullmatch(node.value)
        if not isinstance(node, _EXPRESSIONS) or called or quoted or isinstance(getattr(node, "value", 0), bytes):
            return False
    return True


def _tree(text: str) -> bool:
    """Whether a text describes tuples, lists and dicts of tensors."""

    def plain(node: Any) -> bool:
        names = json.loads(node["context"] or "null") or []
        kinds = (None, "builtins.tuple", "builtins.list", "builtins.dict")
        words = isinstance(names, list) and all(isinstance(n, str) and _PLAIN.fullmatch(n) for n in names)
        return node["type"] in kinds and words and all(map(plain, node["children_spec"]))

    try:
        version, root = json.loads(text)
        return version == 1 and plain(root)
    except (ValueError, TypeError, KeyError, RecursionError):
        return False


def _anything(_: str) -> bool:
    return True


_PLAIN = re.compile(r"(?!__)[\w -]*([.@](?!__)[\w -]+)*", re.ASCII)  # a name, with dots and numbers of calls
_MODULES = re.compile(r"[\w.,;@<>$ -]*", re.ASCII)
_WORDS: dict[str, Callable[[str], Any]] = {
    "target": _operation,
    "as_operator": _operation,
    "expr_str": _arithmetic,
    "in_spec": _tree,
    "out_spec": _tree,
    "name": str.isidentifier,
    "as_name": str.isidentifier,
    "as_string": _anything,  # arguments of operations; torch quotes them
    "as_strings": _anything,
    "torch_version": _anything,
    "guards_code": _anything,  # source of checks, which runs with program.module() and not with unflatten
    "metadata.stack_trace": _anything,
    "metadata.torch_fn": _anything,
    "metadata.custom": _anything,
    "metadata.from_node": _anything,
    "metadata.nn_module_stack": _MODULES.fullmatch,
    "metadata.source_fn_stack": _MODULES.fullmatch,
}
