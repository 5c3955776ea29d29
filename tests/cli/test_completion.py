"""What a shell offers after TAB: asked through the variables of click, and by a real bash."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import pellucid
from pellucid.cli import completion, known, main

SOURCE = Path(pellucid.__file__).parents[1]
BASH = shutil.which("bash")


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A working folder with files of models."""
    (tmp_path / "here" / "nets").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    for name in ("mine.pt2", "notes.txt", "nets/other.onnx"):
        Path(name).write_bytes(b"")
    return tmp_path


def offered(*words):
    """What is offered for the last word."""
    asked = {"_PELLUCID_COMPLETE": "bash_complete", "COMP_CWORD": str(len(words))}
    asked["COMP_WORDS"] = " ".join(["pellucid", *words])
    lines = CliRunner(env=asked).invoke(main, [], prog_name="pellucid").stdout.splitlines()
    return [line.split(",", 1)[1] for line in lines if line.startswith("plain,")]


def test_commands_and_options():
    assert offered("exp") == ["explain"] and offered("style", "tr") == ["train", "transfer"]
    assert offered("explain", "--ov") == ["--overwrite"]
    assert offered("features", "--lay") == ["--layer"]  # not what it was called before


def test_models_are_names_and_files(home):
    assert offered("explain", "a.png", "--model", "resnet1") == ["resnet101", "resnet152", "resnet18"]
    assert "timm/resnet18.a1_in1k" in offered("explain", "--model", "timm/resnet18")
    assert offered("layers", "shap") == ["shapes"]
    assert offered("explain", "--model", "mi") == [*offered("models", "mi")] and "mine.pt2" in offered("layers", "mi")
    assert offered("explain", "--model", "nets/o") == ["nets/other.onnx"]
    assert "notes.txt" not in offered("explain", "--model", "no")


def test_models_of_versions_that_are_not_kept_are_offered_at_once(home, monkeypatch):
    monkeypatch.setattr(known, "versions", lambda: {"torchvision": "99.0"})
    assert offered("explain", "--model", "resnet1") == ["resnet101", "resnet152", "resnet18"]


def test_methods():
    assert offered("explain", "--methods", "smoo") == ["smoothgrad"]
    assert offered("explain", "--methods", "lrp,smoo") == ["lrp,smoothgrad"]
    assert "lrp,lrp" not in offered("explain", "--methods", "lrp,l") and "all" in offered("compare", "--methods", "a")
    assert offered("attack", "--method", "pg") == ["pgd"] and offered("audit", "--method", "pg") == []
    assert offered("attack", "--method", "pat") == [] and offered("explain", "--methods", "grabc") == []
    assert offered("embed", "--method", "t") == ["tsne"] and "pgd" in offered("methods", "p")


def test_words():
    assert offered("explain", "--truth", "fol") == ["folders"] and offered("explain", "--device", "cu")[0] == "cuda"
    assert offered("completion", "z") == ["zsh"]


def test_layers_of_a_network_that_was_loaded_once(home):
    asked = ("invert", "a.png", "--model", "shapes", "--layer")
    assert offered(*asked, "cl") == []
    assert CliRunner().invoke(main, ["layers", "shapes"]).exit_code == 0
    assert offered(*asked, "cl") == ["classifier"]
    assert "classifier,flatten" in offered(*asked, "classifier,f")
    assert offered("dream", "a.png", "--layer", "cl") == []  # of which model, is not said yet
    (known.cache() / "layers" / "shapes.json").write_text("{")
    assert offered(*asked, "cl") == []
    completion.keep_layers("mine.pt2", None)  # a file may change: nothing is kept of it


def test_files_are_the_shells_own_affair(home):
    asked = {"_PELLUCID_COMPLETE": "bash_complete", "COMP_CWORD": "2", "COMP_WORDS": "pellucid explain a"}
    assert CliRunner(env=asked).invoke(main, [], prog_name="pellucid").stdout == "file,a\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script(shell):
    done = CliRunner().invoke(main, ["completion", shell])
    assert done.exit_code == 0 and f"_PELLUCID_COMPLETE={shell}_complete" in done.stdout


@pytest.mark.slow
@pytest.mark.skipif(BASH is None, reason="needs bash")
def test_a_real_bash_completes(home):
    (home / "bin").mkdir()
    program = home / "bin" / "pellucid"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m pellucid "$@"\n')
    program.chmod(0o755)
    path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
    lines = """
    eval "$(pellucid completion bash)"
    complete -p pellucid
    ask() {
        COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
        _pellucid_completion pellucid
        echo "${COMPREPLY[@]}"
    }
    ask pellucid rob
    ask pellucid explain a.png --model squeezenet1_
    ask pellucid explain a.png --methods lrp,integ
    ask pellucid attack --method hop
    """
    done = subprocess.run([BASH, "--norc", "-c", lines], capture_output=True, text=True, check=False,
                          env=os.environ | {"PATH": path, "PYTHONPATH": str(SOURCE)})  # fmt: skip
    assert done.returncode == 0 and done.stderr == "", done.stderr
    registered, *said = done.stdout.splitlines()
    assert "_pellucid_completion" in registered
    assert said == ["robustness", "squeezenet1_0 squeezenet1_1", "lrp,integrated_gradients", "hop_skip_jump"]
