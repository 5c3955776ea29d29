"""Each framework's importer stands by itself: what they share is in `graph`, and Keras loads the one that it needs."""

import ast
from pathlib import Path

import pytest

import pellucid.importers
from pellucid.importers.graph import elementwise, reductions

ROOT = Path(pellucid.importers.__file__).parent
READERS = ("jax", "onnx", "tensorflow", "torch")
FOLDERS = (*READERS, "keras")


def targets(folder: str, source: str, *, lazy: bool = True) -> set[str]:
    """The folders of other importers that a file imports from; without `lazy`, only outside of its functions."""

    def imports(node):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, (ast.Import, ast.ImportFrom)):
                yield child
            if lazy or not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
                yield from imports(child)

    found = set()
    for node in imports(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [name.name for name in node.names]
        else:
            here = ("pellucid", "importers", folder)[: 4 - node.level] if node.level else ()
            module = ".".join((*here, *((node.module,) if node.module else ())))
            names = [f"{module}.{name.name}" for name in node.names]
        for name in names:
            parts = name.split(".")
            if parts[:2] == ["pellucid", "importers"] and len(parts) > 2 and parts[2] in (*FOLDERS, "graph"):
                found.add(parts[2])
    return found - {folder}


@pytest.mark.parametrize("folder", READERS)
def test_a_reader_passes_through_no_other_folder(folder):
    for path in (ROOT / folder).glob("*.py"):
        assert targets(folder, path.read_text()) <= {"graph"}, path


def test_what_is_shared_knows_no_framework():
    for path in (ROOT / "graph").glob("*.py"):
        assert not targets("graph", path.read_text()), path


def test_keras_loads_the_reader_of_the_backend_in_use_only():
    sources = [path.read_text() for path in (ROOT / "keras").glob("*.py")]
    assert {name for source in sources for name in targets("keras", source, lazy=False)} == {"graph"}
    assert {name for source in sources for name in targets("keras", source)} == {"graph", "jax", "tensorflow", "torch"}


def test_the_test_can_fail():
    assert targets("onnx", "from ..jax.reader import read") == {"jax"}
    assert targets("onnx", "from ..jax.reader import read", lazy=False) == {"jax"}
    assert targets("onnx", "from .. import torch") == {"torch"}
    assert targets("onnx", "from ...importers.keras import from_keras") == {"keras"}
    assert targets("onnx", "def f():\n    import pellucid.importers.tensorflow.reader") == {"tensorflow"}
    assert targets("keras", "def f():\n    from ..jax.reader import read", lazy=False) == set()
    assert targets("onnx", "from .rules import RULES\nfrom ...model.classifier import wrap") == set()


def test_the_tables_name_each_operation_once():
    for framework in ("onnx", "tensorflow", "jax"):
        rows = (*elementwise.TABLE, *reductions.REDUCTIONS, *reductions.CUMULATIVE)
        names = [name for row in rows for name in getattr(row, framework).split()]
        assert len(names) == len(set(names)) > 20
        assert elementwise.named(framework, rows).keys() == set(names)


def test_a_row_of_the_table_is_all_that_torch_and_onnx_need():
    from pellucid.importers.onnx.rules import RULES
    from pellucid.importers.torch.rules import CURVES, PAIRS

    assert elementwise.named("onnx").keys() <= RULES.keys()
    for row in elementwise.TABLE:
        assert row.function in (*CURVES.values(), *PAIRS.values())
