"""The command line: what it prints, where, and how it ends."""

import dataclasses
import importlib
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

import pellucid
from pellucid.cli import main
from pellucid.images import write_image
from pellucid.method import CATALOGUE
from pellucid.shapes import CLASSES, scenes, trained_network

SOURCE = Path(pellucid.__file__).parents[1]
COMMANDS = ("explain", "demo", "methods", "models", "layers")


def call(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def python(*arguments, **options):
    environment = os.environ | {"PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=environment, **options,
    )  # fmt: skip


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Two scenes and a broken file; the working folder is above them."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for i, image in enumerate(scenes(2).images):
        write_image(image, tmp_path / "photos" / f"{i}.png")
    (tmp_path / "photos" / "bad.png").write_bytes(b"nothing")
    return tmp_path / "photos"


# help


@pytest.mark.parametrize("command", [(), *((name,) for name in COMMANDS)])
def test_help_has_examples(command):
    done = call(*command, "--help")
    assert done.exit_code == 0 and done.stderr == ""
    assert "Examples:\n  pellucid " in textwrap.dedent(done.stdout).replace("\n    ", "\n  ")
    for example in re.findall(r"^ +pellucid (.*)", done.stdout, re.M):
        name = example.split()[0]
        assert name in COMMANDS
        known = {o for p in main.commands[name].params for o in p.opts}
        assert set(re.findall(r"--[a-z-]+", example)) <= known


@pytest.mark.parametrize("command", [(), ("explain",), ("demo",)])
def test_help_tells_the_exit_codes(command):
    assert all(f"\n    {code} " in call(*command, "--help").stdout for code in (0, 1, 2, 130))


def test_without_a_command_help_is_shown():
    assert call().stdout == call("--help").stdout and call().exit_code == 0


def test_version():
    assert call("--version").stdout == f"pellucid {pellucid.__version__}\n"


def test_the_command_line_itself_imports_nothing_heavy():
    """What `pellucid --help` costs beyond importing the package."""
    code = f"""
    import sys, time, types
    package = types.ModuleType("pellucid")
    package.__path__ = [{str(SOURCE / "pellucid")!r}]
    sys.modules["pellucid"] = package
    start = time.perf_counter()
    from pellucid.cli import main
    try:
        main(["explain", "--help"])
    except SystemExit as end:
        assert end.code == 0
    heavy = {{"torch", "numpy", "PIL", "zarr", "pyarrow", "matplotlib", "jinja2", "tqdm"}} & set(sys.modules)
    assert not heavy, heavy
    assert time.perf_counter() - start < 2  # 0.1 on an idle machine
    """
    process = python("-c", textwrap.dedent(code))
    out, error = process.communicate()
    assert process.returncode == 0, error
    assert out.startswith("Usage: pellucid explain")


# lists


def test_methods_are_listed():
    done = call("methods")
    assert done.exit_code == 0 and all(f"  {name} " in done.stdout for name in CATALOGUE)
    assert CATALOGUE["saliency"].summary in done.stdout and CATALOGUE["saliency"].paper in done.stdout
    assert "samples = 25" in call("methods", "smoothgrad").stdout
    listed = json.loads(call("methods", "--json").stdout)
    assert {entry["name"] for entry in listed} == set(CATALOGUE)
    assert all(set(entry) == {"name", "family", "summary", "paper", "options"} for entry in listed)


def test_models_are_listed():
    assert [line.split()[0] for line in call("models", "resnet?8").stdout.splitlines()] == ["resnet18"]
    (entry,) = json.loads(call("models", "shapes", "--json").stdout)
    assert entry["name"] == "shapes" and entry["size"] == [96, 96]
    done = call("models", "nosuchmodel")
    assert done.exit_code == 2 and "no model is called like 'nosuchmodel'" in done.stderr
    assert json.loads(call("models", "nosuchmodel", "--json").stdout) == []


def test_layers_are_listed():
    done = call("layers", "shapes")
    assert done.exit_code == 0 and done.stdout.splitlines()[-1].split() == ["classifier", "Linear", "10"]
    listed = json.loads(call("layers", "shapes", "--json").stdout)
    assert listed[-1] == {"name": "classifier", "kind": "Linear", "shape": [10]}
    assert "512 x 13 x 13" in call("layers", "squeezenet1_0", "--weights", "random").stdout


# errors


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["explian"], "No such command 'explian'"),
        (["explain", "photos"], "Missing option '--model'.*`pellucid explain --help` shows how"),
        (["explain", "--model", "shapes"], "Missing argument 'IMAGE|FOLDER...'"),
        (["explain", "photos", "--model", "shaped"], "no network 'shaped'; near it: shapes"),
        (["explain", "photo", "--model", "shapes"], "photo: does not exist; did you mean photos?"),
        (["explain", "photos", "--model", "shapes", "--methods", "gradcam"], "no method 'gradcam'; near it: grad_cam"),
        (["explain", "photos", "--model", "shapes", "--target", "stra"], "no label 'stra'; near it: star"),
        (["explain", "photos", "--model", "shapes", "--target", "77"], "class 77 is out of range"),
        (["explain", "photos", "--model", "shapes", "--layer", "conv"], "conv"),
        (["explain", "photos", "--model", "shapes", "--weights", "no.pth"], "no.pth"),
        (["explain", "photos", "--model", "no.pt2"], "no.pt2"),
        (["explain", "photos", "--model", "shapes", "--truth", "no.csv"], "no table of true classes no.csv"),
        (["explain", "photos", "--model", "shapes", "--output", "photos"], "is a folder"),
        (["explain", "photos", "--model", "shapes", "--output", "/proc/x/p.html"], "cannot write into /proc/x"),
        (["explain", "photos", "--model", "shapes", "--format", "gif"], "Invalid value for '--format'"),
        (["explain", "photos", "--model", "shapes", "--batch-size", "0"], "Invalid value for '--batch-size'"),
        (["explain", "photos", "--model", "shapes", "--mean", "a,b"], "'a,b' is no number"),
        (["explain", "photos", "--model", "shapes", "--device", "warp"], "warp"),
        (["explain", "photos", "--model", "shapes", "--option", "samples=5"], "expected method.name=value"),
        (["explain", "photos", "--model", "shapes", "--option", "smothgrad.samples=5"], "near it: smoothgrad"),
        (["explain", "photos", "--model", "shapes", "--option", "smoothgrad.sample=5"], "near it: samples"),
        (["explain", "photos", "--model", "shapes", "--option", "smoothgrad.samples=x"], "expected a whole number"),
        (["methods", "gradcam"], "no method 'gradcam'; near it: grad_cam"),
        (["layers", "resnet81"], "no network 'resnet81'"),
        (["demo", "--output", "photos"], "is a folder"),
    ],
)  # fmt: skip
def test_errors_are_one_line(photos, arguments, said):
    done = call(*arguments)
    assert done.exit_code == 2
    assert done.stdout == ""
    lines = [line for line in done.stderr.splitlines() if line]
    assert len(lines) <= 2 and lines[0].startswith("pellucid: error: "), done.stderr
    assert re.search(said.replace("|", r"\|").replace("...", r"\.\.\."), lines[0]), done.stderr
    as_json = call(*arguments, "--json")
    assert as_json.exit_code == 2 and json.loads(as_json.stdout)["error"] in lines[0]
    assert not Path("report.run").exists() or said in ("conv",)


def test_a_traceback_on_demand(photos, monkeypatch):
    arguments = ("explain", photos, "--model", "shaped")
    assert "no network" in str(call("--traceback", *arguments).exception)
    monkeypatch.setenv("PELLUCID_TRACEBACK", "1")
    assert "no network" in str(call(*arguments).exception)


def test_our_own_mistakes_are_not_hidden(photos, monkeypatch):
    def broken(*_arguments, **_options):
        raise KeyError("x")

    monkeypatch.setattr("pellucid.zoo.load", broken)
    assert isinstance(call("explain", photos, "--model", "shapes").exception, KeyError)


@pytest.mark.parametrize(
    ("text", "default", "value"),
    [("5", 25, 5), ("5", 0.5, 5.0), ("1e-3", 0.5, 0.001), ("true", False, True), ("No", True, False),
     ("keep", "absolute", "keep"), ("3", None, 3), ("0.5", None, 0.5), ("none", None, None), ("layer4", None, "layer4"),
     ("black", "mean", "black")],
)  # fmt: skip
def test_options_have_the_type_of_their_default(text, default, value):
    from pellucid.cli import _typed

    assert _typed(text, default) == value and type(_typed(text, default)) is type(value)


@pytest.mark.parametrize(("text", "default"), [("5.5", 25), ("five", 25), ("x", 0.5), ("5", True)])
def test_options_of_another_type_are_refused(text, default):
    from pellucid.cli import _typed

    with pytest.raises(ValueError, match=r"a whole number|a number|true or false"):
        _typed(text, default)


# the main job


def test_explain_writes_a_page_and_says_what_failed(photos):
    done = call("explain", "photos", "--model", "shapes", "--methods", "saliency,grad_cam")
    assert done.exit_code == 1
    assert done.stdout == "wrote report.html (2 images; numbers in report.run)\n"
    assert "1 file could not be explained" in done.stderr and "bad.png: is not an image" in done.stderr
    page = Path("report.html").read_text()
    assert "pellucid explain photos --model shapes --methods saliency,grad_cam" in page


def test_explain_for_machines(photos):
    done = call("explain", "photos/0.png", "--model", "shapes", "--methods", "saliency", "--json", "--seed", "3",
                "--option", "saliency.sign=keep", "--target", "star", "--output", "out/page.html",
                "--title", "Mine")  # fmt: skip
    assert done.exit_code == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["output"] == "out/page.html" and said["run"] == "out/page.run" and said["failed"] == []
    (image,) = said["images"]
    assert image["name"] == "0.png" and image["labels"][0] in CLASSES and image["problem"] is None
    manifest = json.loads(Path("out/page.run/manifest.json").read_text())
    assert manifest["seed"] == 3 and manifest["options"]["objective"] == 'logit("star")'
    assert manifest["options"]["methods"] == {"saliency": {"sign": "keep", "channels": "max"}}
    assert "<title>Mine</title>" in Path("out/page.html").read_text()


def test_a_method_that_was_asked_for_and_fails_is_told_by_the_exit_code(photos, monkeypatch):
    def fails(*_arguments, **_options):
        raise ValueError("not on this network")

    monkeypatch.setitem(CATALOGUE, "saliency", dataclasses.replace(CATALOGUE["saliency"], function=fails))
    done = call("explain", "photos/0.png", "--model", "shapes", "--methods", "saliency,grad_cam")
    assert done.exit_code == 1 and "saliency failed for 2 maps: not on this network" in done.stderr
    assert "wrote report.html" in done.stdout


def test_another_run_is_not_thrown_away(photos):
    arguments = ("explain", "photos/0.png", "--model", "shapes", "--methods", "saliency", "--run", "kept")
    assert call(*arguments).exit_code == 0
    done = call(*arguments, "--seed", "1")
    assert done.exit_code == 2 and "seed was 0, is now 1" in done.stderr and "--overwrite" in done.stderr
    assert call(*arguments, "--seed", "1", "--overwrite").exit_code == 0


def test_weights_labels_and_batches_from_the_command_line(photos):
    torch.save(trained_network().state_dict(), "mine.pth")
    Path("classes.txt").write_text("\n".join(f"class {i}" for i in range(10)))
    done = call("explain", "photos/0.png", "--model", "shapes", "--weights", "mine.pth", "--labels", "classes.txt",
                "--batch-size", "2", "--methods", "saliency", "--format", "npz", "--output", "out",
                "--json")  # fmt: skip
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["images"][0]["labels"][0].startswith("class ")
    assert Path("out/0.npz").is_file()


def test_an_exported_program(photos):
    from torch.export import export, save

    save(export(trained_network(), (torch.zeros(1, 3, 96, 96),)), "mine.pt2")
    done = call("explain", "photos/0.png", "--model", "mine.pt2", "--methods", "saliency", "--mean", "0.5", "--std",
                "0.25", "--size", "96", "--json")  # fmt: skip
    assert done.exit_code == 0, done.stderr
    predicted = json.loads(done.stdout)["images"][0]["classes"][0]
    assert predicted == int(scenes(1).labels[0])


def test_labels_that_are_numbers_come_before_indices():
    from pellucid.cli import _target

    model = pellucid.wrap(torch.nn.Identity(), labels=["1", "0"])
    assert _target("1", model) == "1" and _target("7", model) == 7 and _target(None, model) is None


# real processes


def test_stdout_holds_json_and_nothing_else(photos):
    process = python("-m", "pellucid", "explain", "photos", "--model", "shapes", "--json", "--methods", "smoothgrad",
                     "--option", "smoothgrad.samples=200", cwd=photos.parent)  # fmt: skip
    out, error = process.communicate()
    assert process.returncode == 1, error
    assert [image["problem"] is None for image in json.loads(out)["images"]] == [True, True, False]
    assert "Traceback" not in error and "Warning" not in error


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_interrupted_it_keeps_what_is_finished_and_says_how_to_go_on(photos):
    for i, image in enumerate(scenes(12, seed=2).images):
        write_image(image, photos / f"more-{i}.png")
    process = python(
        "-m", "pellucid", "explain", "photos", "--model", "shapes", "--methods", "smoothgrad", "--option",
        "smoothgrad.samples=100", cwd=photos.parent, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    rows = photos.parent / "report.run" / "rows"
    while not list(rows.glob("0*.parquet")) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, error = process.communicate()
    assert process.returncode == 130, error
    assert out == "" and "Traceback" not in error
    assert "stopped; what is finished is kept in report.run: run the same command to go on" in error
    assert len(list(rows.glob("0*.parquet"))) == 1 and not Path("report.html").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="pipes")
def test_a_closed_pipe_is_no_error(photos):
    with python("-m", "pellucid", "models") as process:
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 1  # click's way


# the demo


def test_the_demo_scores_every_method(tmp_path, monkeypatch):
    module = importlib.import_module("pellucid.explain.demo")
    monkeypatch.setattr(module, "OPTIONS", {"rise": {"samples": 20}, "expected_gradients": {"samples": 5}})
    monkeypatch.setattr(module, "PLAIN", 1)
    done = call("demo", "--output", tmp_path / "demo" / "index.html", "--json")
    assert done.exit_code == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["problems"] == {} and set(said["scores"]) == set(CATALOGUE)
    assert said["scores"]["integrated_gradients"]["mass on the object"] > 0.4
    right = [image["labels"][0] == image["true"] for image in said["images"]]
    assert right == [True, True, False]  # one object, two objects, and one that is taken for the other
    page = (tmp_path / "demo" / "index.html").read_text()
    assert "predicted less true" in page and all(name in page for name in CATALOGUE)
    assert len(list((tmp_path / "demo" / "index.scenes").glob("*.png"))) == 3
    again = call("demo", "--output", tmp_path / "demo" / "index.html", "--seed", "0")
    assert again.exit_code == 0 and f"wrote {tmp_path}/demo/index.html" in again.stdout
    assert "integrated_gradients" in again.stdout and "####" in again.stdout
