"""What `import pellucid` offers: all of it, by the right names, imported when it is first used."""

from __future__ import annotations

import ast
import inspect
import pickle
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import pellucid

STUB = Path(pellucid.__file__).with_suffix(".pyi")
MODULES = {"adversarial", "attribution", "audit", "importers", "metrics", "objectives", "report", "representation",
           "rules", "shapes", "synthesis", "zoo"}  # fmt: skip


def fresh(code: str) -> str:
    """What a new process prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_stub_names_everything_once():
    listed = [alias for node in ast.parse(STUB.read_text()).body if isinstance(node, ast.ImportFrom)
              for alias in node.names]  # fmt: skip
    assert all(alias.name == alias.asname for alias in listed), "write `from .place import name as name`"
    assert sorted(alias.name for alias in listed) == pellucid.__all__ == dir(pellucid)


def test_all_methods_are_there():
    """Each verb is in the top namespace, or in that of its family."""
    for name, entry in pellucid.CATALOGUE.items():
        home = pellucid if name in pellucid.__all__ else getattr(pellucid, entry.family)
        assert callable(getattr(home, name)) and callable(entry.function)


@pytest.mark.parametrize("name", pellucid.__all__)
def test_a_name_is_what_it_says(name):
    value = getattr(pellucid, name)
    assert isinstance(value, ModuleType) == (name in MODULES)
    if inspect.isroutine(value) or inspect.isclass(value):
        assert value.__name__ == name


@pytest.mark.slow
def test_the_catalogue_is_whole_at_first_sight():
    families = "print(sorted({entry.family for entry in CATALOGUE.values()}), len(CATALOGUE))"
    whole = fresh(f"from pellucid import CATALOGUE; {families}")
    assert whole == f"{sorted({e.family for e in pellucid.CATALOGUE.values()})} {len(pellucid.CATALOGUE)}"
    assert fresh(f"import pellucid.zoo; CATALOGUE = pellucid.CATALOGUE; {families}") == whole


@pytest.mark.slow
@pytest.mark.parametrize("first", ["zoo", "metrics", "cli", "audit", "jobs.explain", "methods.registry", "model.run"])
def test_a_part_may_be_imported_first(first):
    said = fresh(f"import pellucid.{first}; import pellucid; print(pellucid.run.__name__, pellucid.layers.__name__, "
                 "pellucid.explain.__name__, pellucid.compare.__name__, pellucid.patch.__name__)")  # fmt: skip
    assert said == "run layers explain compare patch"


@pytest.mark.slow
@pytest.mark.parametrize("part", ["audit", "metrics", "jobs.explain", "jobs.demo"])
def test_parts_that_look_methods_up_have_them(part):
    """They know methods by name alone, so that something that they import must bring them."""
    code = f"import pellucid.{part}; from pellucid.methods.registry import CATALOGUE; print(*CATALOGUE)"
    wanted = {name for name, entry in pellucid.CATALOGUE.items() if entry.family == "attribution"}
    assert wanted <= set(fresh(code).split())


@pytest.mark.slow
def test_all_is_imported_by_a_star():
    assert fresh("from pellucid import *; print(saliency.__name__, metrics.__name__)") == "saliency pellucid.metrics"


@pytest.mark.slow
def test_what_was_pickled_is_read_where_nothing_is_imported_yet(tmp_path):
    (tmp_path / "views").write_bytes(pickle.dumps((pellucid.Transformations, pellucid.saliency, pellucid.settings)))
    assert "Transformations" in fresh(f"import pickle; print(pickle.load(open({str(tmp_path / 'views')!r}, 'rb')))")


@pytest.mark.slow
def test_a_classifier_of_spectra_is_read_where_only_the_zoo_is_imported(tmp_path):
    """Its reader lies in a part that nothing else would import."""
    from pellucid.audit.spectra.network import SpectrumNet
    from pellucid.audit.spectrum_classifier import Reading

    file = tmp_path / "fakes.safetensors"
    net = SpectrumNet("spectrum", "linear", (3, 8, 8), 2)
    pellucid.SpectrumClassifier(net, Reading(), ["real", "fake"]).save(file)
    code = f"import pellucid; print(type(pellucid.load({str(file)!r})).__name__)"
    assert fresh(code) == "SpectrumClassifier"


def test_what_there_is_not_is_told_with_what_is_near():
    with pytest.raises(AttributeError, match="pellucid has no 'gradcam'; near it: grad_cam"):
        getattr(pellucid, "gradcam")  # noqa: B009 - not there, as mypy sees
    with pytest.raises(ImportError, match="cannot import name 'gradcam'"):
        exec("from pellucid import gradcam")
