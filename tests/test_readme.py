"""What the documents say runs, and their table is that of the catalogue."""

from __future__ import annotations

import doctest
import re
import runpy
from pathlib import Path

import pytest

import pellucid

ROOT = Path(__file__).parent.parent
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md")))
SNIPPETS = [
    pytest.param(code, id=f"{path.name}-{number}", marks=() if path.name == "CONTRIBUTING.md" else pytest.mark.slow)
    for path in PAGES
    for number, code in enumerate(re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL))
]


@pytest.fixture
def catalogue(monkeypatch):
    """The catalogue, to which a snippet may add a method, and the rules of ONNX."""
    from pellucid.importers.onnx.rules import RULES

    before = dict(pellucid.CATALOGUE), dict(RULES)
    yield before[0]
    for now, old in zip((pellucid.CATALOGUE, RULES), before, strict=True):
        now.clear()
        now.update(old)


@pytest.mark.parametrize("code", SNIPPETS)
def test_snippets_run(code, catalogue, tmp_path, monkeypatch):
    """A snippet that begins with the name of a file of the package runs as if it were there, with its docstrings."""
    monkeypatch.chdir(tmp_path)
    place = re.match(r"# src/(\S+)\.py\n", code)
    name = place[1].replace("/", ".") if place else "__main__"
    file = tmp_path / "snippet.py"
    file.write_text(code)
    try:
        found = runpy.run_path(str(file), run_name=name)
    except ModuleNotFoundError as error:
        if (error.name or "pellucid").startswith("pellucid"):
            raise
        pytest.skip(f"needs {error.name}")
    for method in pellucid.CATALOGUE.keys() - catalogue.keys():
        entry = pellucid.CATALOGUE[method]
        for home in (pellucid, getattr(pellucid, entry.family)):
            monkeypatch.setattr(home, method, entry.function, raising=False)
    mine = [value for value in found.values() if getattr(value, "__module__", None) == name]
    for value in mine if place else ():
        for example in doctest.DocTestFinder(recurse=False).find(value, globs=found):
            runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
            assert runner.run(example).failed == 0, example.name


def test_the_table_of_methods_is_the_catalogue():
    renewed = runpy.run_path(str(ROOT / "scripts" / "methods_table.py"))["renewed"]
    text = (ROOT / "docs" / "methods.md").read_text()
    assert renewed(text) == text
    assert all(f"| `{name}` |" in text for name in pellucid.CATALOGUE)


def test_every_file_that_is_linked_exists():
    for path in PAGES:
        for link in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
            assert link.startswith("http") or (path.parent / link).exists(), link


def test_the_citation_and_the_changelog_have_the_version():
    assert f"version: {pellucid.__version__} " in (ROOT / "CITATION.cff").read_text()
    assert f"## [{pellucid.__version__}]" in (ROOT / "CHANGELOG.md").read_text()
