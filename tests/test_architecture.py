"""Imports point downwards only, and importing pellucid is light."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import pellucid

ROOT = Path(pellucid.__file__).parent

# Each floor may import from those before it; a file of a family also from its own folder, in no circle.
FLOORS = [
    ["names"],
    ["checks", "display", "files", "rules", "shapes", "version"],
    ["model"],
    ["importers", "objectives", "runfolder"],
    ["methods", "zoo"],
    ["adversarial", "attribution", "representation", "synthesis"],
    ["audit", "metrics"],
    ["catalogue"],
    ["report"],
    ["jobs"],
    ["cli"],
    ["__init__", "__main__"],
]
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}


def parts(path: Path) -> tuple[str, ...]:
    return path.relative_to(ROOT).with_suffix("").parts


def imported(path: Path, source: str | None = None) -> set[tuple[str, ...]]:
    """The modules of pellucid that a file imports, anywhere in it, as paths below the package."""
    here, found = parts(path), set()
    for node in ast.walk(ast.parse(source or path.read_text())):
        if isinstance(node, ast.ImportFrom):
            module = tuple(node.module.split(".")) if node.module else ()
            if node.level:
                base = here[: len(here) - node.level]
                target = base + module
            elif module[:1] == ("pellucid",):
                target = module[1:]
            else:
                continue
            # "from . import pictures" names a module, "from .run import run" something in one.
            found |= {target + (name.name,) for name in node.names} if not module or not target else {target}
        elif isinstance(node, ast.Import):
            found |= {tuple(n.name.split("."))[1:] for n in node.names if n.name.split(".")[0] == "pellucid"}
    return found


FILES = sorted(ROOT.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: "/".join(parts(p)))
def test_imports_point_downwards(path):
    me = parts(path)
    for target in imported(path):
        if not target or target[0] not in FLOOR:
            assert me[0] == "cli", f"{me} imports the whole package"
        elif target[0] == me[0] and len(me) > 1:
            continue  # inside one folder: no circles, below
        else:
            assert FLOOR[target[0]] < FLOOR[me[0]], f"{'/'.join(me)} imports {'/'.join(target)}, which lies above it"


def test_every_file_has_its_floor():
    assert {parts(path)[0] for path in FILES} <= set(FLOOR)


def test_the_table_of_the_house_has_these_floors():
    page = (Path(__file__).parent.parent / "docs" / "how-it-works.md").read_text()
    rows = re.findall(r"^\| (`.*?`) \|", page.partition("## The house")[2], re.MULTILINE)
    assert [re.findall(r"`(\w+)/?`", row) for row in rows] == FLOORS[::-1]


def test_folders_of_the_house_are_marked_as_such():
    page = (Path(__file__).parent.parent / "docs" / "how-it-works.md").read_text()
    named = {name: bool(slash) for name, slash in re.findall(r"`(\w+)(/?)`", page.partition("| floor |")[2])}
    assert {name: named[name] for name in FLOOR} == {name: (ROOT / name).is_dir() for name in FLOOR}


@pytest.mark.slow
def test_no_circles_inside_a_folder():
    import graphlib

    graph = {parts(path): {t for t in imported(path) if t != parts(path)} for path in FILES}
    list(graphlib.TopologicalSorter(graph).static_order())


FAMILIES = ("adversarial", "attribution", "audit", "representation", "synthesis")
# Verbs that are made of others.
MADE_OF_VERBS = {
    ("adversarial", "auto_attack"), ("synthesis", "train_style"),
}  # fmt: skip


def verbs(family: str) -> set[tuple[str, ...]]:
    return {parts(p) for p in (ROOT / family).glob("*.py") if p.name != "__init__.py"}


@pytest.mark.parametrize("family", FAMILIES)
def test_methods_are_apart_from_machinery(family):
    """What verbs share lies one folder deeper, and knows none of them."""
    for path in FILES:
        if parts(path)[0] == family and len(parts(path)) > 2:
            assert not imported(path) & verbs(family), path


@pytest.mark.parametrize("family", ["adversarial", "attribution", "synthesis"])
def test_a_method_imports_no_other(family):
    for me in verbs(family) - MADE_OF_VERBS:
        assert not imported(ROOT.joinpath(*me).with_suffix(".py")) & verbs(family), me


@pytest.mark.parametrize("family", FAMILIES)
def test_a_file_of_a_verb_is_named_after_it(family):
    import importlib

    for me in verbs(family):
        module = importlib.import_module(".".join(["pellucid", *me]))
        name = me[-1]
        words = "".join(word.capitalize() for word in name.split("_"))
        assert callable(getattr(module, name, getattr(module, f"{name}s", getattr(module, words, None)))), me


def test_the_test_can_fail():
    assert imported(ROOT / "run.py", "from .methods import method") == {("methods",)}
    assert imported(ROOT / "attribution" / "cam.py", "from ..report import page") == {("report",)}
    assert imported(ROOT / "checks.py", "def f():\n    import pellucid.cli") == {("cli",)}


def test_files_fit_in_ones_head():
    long = {"/".join(parts(p)): n for p in FILES if (n := len(p.read_text().splitlines())) > 450}
    assert not long


def loaded(code: str) -> set[str]:
    """The modules of a process that has run this."""
    process = [sys.executable, "-c", f"import sys\n{code}\nprint(*sys.modules)"]
    return set(subprocess.run(process, capture_output=True, text=True, check=True).stdout.split())


HEAVY = {"torchvision", "matplotlib", "sklearn", "scipy", "openTSNE", "timm", "cv2", "zarr", "pyarrow", "jinja2",
         "click", "jax", "keras", "onnx", "onnxruntime", "tensorflow"}  # fmt: skip


def test_importing_pellucid_imports_nothing_heavy():
    assert not loaded("import pellucid; pellucid.__version__; dir(pellucid)") & (HEAVY | {"torch", "numpy", "PIL"})


@pytest.mark.slow
def test_what_everyone_uses_imports_torch_and_nothing_heavy():
    modules = loaded("import pellucid; pellucid.CATALOGUE, pellucid.load, pellucid.Classifier")
    assert "torch" in modules and not modules & HEAVY
