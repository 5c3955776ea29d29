"""What the documents say runs, and their table is that of the catalogue."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

import pellucid

ROOT = Path(__file__).parent.parent
SNIPPETS = [
    pytest.param(code, id=f"{path.name}-{number}")
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
    for number, code in enumerate(re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL))
]


@pytest.mark.parametrize("code", SNIPPETS)
def test_snippets_run(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = dict(pellucid.CATALOGUE)
    file = tmp_path / "attribution.sensitivity.py"
    file.write_text(code)
    try:
        runpy.run_path(str(file), run_name="pellucid.attribution.sensitivity")
    finally:
        pellucid.CATALOGUE.clear()
        pellucid.CATALOGUE.update(before)


def test_the_table_of_methods_is_the_catalogue():
    renewed = runpy.run_path(str(ROOT / "scripts" / "methods_table.py"))["renewed"]
    text = (ROOT / "docs" / "methods.md").read_text()
    assert renewed(text) == text
    assert all(f"| `{name}` |" in text for name in pellucid.CATALOGUE)


def test_every_file_that_is_linked_exists():
    for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for link in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
            assert link.startswith("http") or (path.parent / link).exists(), link
