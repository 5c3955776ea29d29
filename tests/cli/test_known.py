"""What the command line knows without importing: the same as what is there, and at once."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from pellucid import zoo
from pellucid.cli import known, main

ROOT = Path(__file__).parents[2]
CACHE = known.cache  # tests have another one
HEAVY = {"torch", "torchvision", "timm", "numpy", "PIL", "zarr", "pyarrow", "matplotlib", "jinja2", "tqdm", "scipy"}


def call(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def no_index(monkeypatch, tmp_path):
    """As if the package came with the names of other versions, and the user had an empty cache."""
    listed = json.loads((known.HERE / "models.json").read_text())
    listed["versions"]["torchvision"] = "0.1"
    (tmp_path / "models.json").write_text(json.dumps(listed))
    monkeypatch.setattr(known, "HERE", tmp_path)


def test_the_catalogue_in_the_file_is_the_real_one():
    catalogue = runpy.run_path(str(ROOT / "scripts" / "cli_index.py"))["catalogue"]
    real, kept = (json.loads(text) for text in (catalogue(), (known.HERE / "catalogue.json").read_text()))
    differing = [entry["name"] for entry in real + kept if entry not in real or entry not in kept]
    assert real == kept, (
        f"methods have changed ({', '.join(dict.fromkeys(differing)) or 'their order'}): run "
        "`python scripts/cli_index.py`, and commit the files that it writes in src/pellucid/cli"
    )


def test_networks_are_those_of_the_zoo():
    real = [(entry.name, entry.source, entry.size, entry.weights) for entry in zoo.models()]
    assert [(entry.name, entry.source, entry.size, entry.weights) for entry in known.networks()] == real
    assert [entry.name for entry in known.networks("resnet?8")] == ["resnet18"]


def test_networks_of_other_versions_are_looked_up_once(no_index, capsys):
    first = known.networks("resnet1*")
    assert "the names of torchvision" in capsys.readouterr().err
    assert [entry.name for entry in first] == ["resnet101", "resnet152", "resnet18"]
    assert len(list(known.cache().glob("models-*.json"))) == 1
    assert known.networks("resnet1*") == first and capsys.readouterr().err == ""


def test_a_cache_that_is_broken_or_cannot_be_written_is_none(no_index, capsys):
    for text in ("", "[]", '{"versions": 3}', '{"versions": {}, "networks": [["a"]]}'):
        (known.cache() / known._file()).write_text(text)
        assert known._kept(known.versions()) == []
    (known.cache() / known._file()).unlink()
    (known.cache() / known._file()).mkdir()
    assert "resnet18" in [entry.name for entry in known.networks("resnet18")]
    assert "resnet18" in known.names_at_once()


def test_networks_of_what_is_not_installed_are_not_listed(monkeypatch):
    real = known.versions()
    monkeypatch.setattr(known, "versions", lambda: {"torchvision": real["torchvision"]})
    assert {entry.source for entry in known.networks()} == {"pellucid", "torchvision"}


QUICK = [
    ["--help"], ["--version"], ["explain", "--help"], ["style", "train", "--help"], ["methods"], ["methods", "lrp"],
    ["methods", "--json"], ["models", "resnet"], ["models"],
]  # fmt: skip


@pytest.mark.parametrize("arguments", QUICK, ids=" ".join)
def test_what_only_tells_imports_nothing_heavy(arguments, tmp_path_factory):
    """How long it takes is in benchmarks/startup.py; what takes long is what is imported."""
    folder = tmp_path_factory.getbasetemp() / "names"  # of networks of other versions, looked up once for all
    environment = os.environ | {"XDG_CACHE_HOME": str(folder)}
    if arguments[0] == "models":
        subprocess.run([sys.executable, "-m", "pellucid", "models"], env=environment, capture_output=True, check=True)
    command = [sys.executable, "-X", "importtime", "-m", "pellucid", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    modules = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "click" in modules and not modules & HEAVY


@pytest.mark.skipif(sys.platform != "linux", reason="each system has its own place")
def test_the_cache_lies_where_the_system_has_it(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert CACHE() == tmp_path / "pellucid"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert CACHE() == Path.home() / ".cache" / "pellucid"
