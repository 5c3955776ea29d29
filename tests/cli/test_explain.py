"""The command line: what it prints, where, and how it ends."""

import ast
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
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import click
import pytest
import torch
from click.testing import CliRunner

import pellucid
from pellucid import CATALOGUE
from pellucid.cli import main
from pellucid.cli.console import in_flags, typed
from pellucid.files.images import write_image
from pellucid.methods.registry import of_kind
from pellucid.shapes import CLASSES, scenes, trained_network

SOURCE = Path(pellucid.__file__).parents[1]
COMMANDS = tuple(main.commands)


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


WITHIN = [("style", name) for name in ("transfer", "train", "apply")] + [("generator", n) for n in ("train", "draw")]


@pytest.mark.parametrize("command", [(), *((name,) for name in COMMANDS), *WITHIN])
def test_help_has_examples(command):
    done = call(*command, "--help")
    assert done.exit_code == 0 and done.stderr == ""
    assert "Examples:\n  pellucid " in textwrap.dedent(done.stdout).replace("\n    ", "\n  ")
    for example in re.findall(r"^ +pellucid (.*)", done.stdout, re.M):
        name, second, *_ = [*example.split(), ""]
        assert name in COMMANDS
        verb = main.commands[name]
        verb = verb.commands[second] if isinstance(verb, click.Group) else verb
        known = {o for p in verb.params for o in p.opts}
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
    import sys, types
    package = types.ModuleType("pellucid")
    package.__path__ = [{str(SOURCE / "pellucid")!r}]
    sys.modules["pellucid"] = package
    from pellucid.cli import main
    try:
        main(["explain", "--help"])
    except SystemExit as end:
        assert end.code == 0
    heavy = {{"torch", "numpy", "PIL", "zarr", "pyarrow", "matplotlib", "jinja2", "tqdm"}} & set(sys.modules)
    assert not heavy, heavy
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
        (["explain", "photos", "--model", "shapes", "--device", "gpu"],
         "'gpu' cannot be used .*this machine has cpu.*: choose as in --device [a-z:0-9]+$"),
        (["explain", "photos", "--model", "shapes", "--labels", "photos/0.png"],
         "0.png is no list of labels: it is not"),
        (["explain", "photos", "--model", "shapes", "--labels", "photos"],
         "--labels 'photos': there is no such file; give"),
        (["explain", "photos", "--model", "shapes", "--truth", "photos"],
         "photos is a folder, expected a table of true"),
        (["explain", "photos", "--model", "shapes", "--truth", "photos/0.png"], "0.png is not UTF-8 text"),
        (["explain", "photos", "--model", "no.pth"],
         "say of which network they are, --model resnet18 --weights no.pth"),
        (["explain", "photos", "--model", "x.pt2", "--weights", "random"], "leave out --weights"),
        (["explain", "photos", "--model", "shapes", "--methods", "grad_cam", "--layer", "classifier"],
         "grad_cam: layer 'classifier' gives .*`pellucid layers MODEL` lists them.$"),
        (["explain", "photos", "--model", "shapes", "--option", "occlusion.window=999"],
         "occlusion: the window is 999 x"),
        (["explain", "photos", "--model", "shapes", "--option", "occlusion.window=1,2,3"],
         "expected a whole number, numb"),
        (["explain", "photos", "--model", "shapes", "--option", "grad_cam.reshape=foo"],
         "reshape takes a function or None, which only Python can give"),
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


PAIR = int | tuple[int, int] | None


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [("5", int, 5), ("5", float, 5.0), ("1e-3", float, 0.001), ("true", bool, True), ("No", bool, False),
     ("keep", str, "keep"), ("3", Any, 3), ("0.5", Any, 0.5), ("none", Any, None), ("layer4", Any, "layer4"),
     ("black", str | torch.Tensor, "black"), ("3", str | None, "3"), ("None", str | None, None), ("12", PAIR, 12),
     ("12,20", PAIR, (12, 20)), ("12, 20", PAIR, (12, 20)), ("none", PAIR, None), ("1,2", tuple[float, ...], (1, 2)),
     ("b", Literal["a", "b"], "b"), ("2", Literal[1, 2], 2), ("0.5", float | None, 0.5),
     ("1,2.5", Sequence[float], [1.0, 2.5]), ("a", Sequence[str], ["a"]), ("a", str | Sequence[str], "a"),
     ("a, b", str | Sequence[str], ["a", "b"]), ("3", int | Sequence[torch.Tensor], 3)],
)  # fmt: skip
def test_options_have_the_type_that_they_are_declared_with(text, kind, value):
    assert typed(text, kind) == value and type(typed(text, kind)) is type(value)


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [("5.5", int, "a whole number"), ("five", int, "a whole number"), ("x", float, "a number"),
     ("5", bool, "true or false"), ("1,2,3", PAIR, "a whole number, numbers with commas between or none"),
     ("1,b", PAIR, "a whole number, numbers"), ("1,b", Sequence[float], "values with commas"),
     ("x", int | Sequence[torch.Tensor], "^a whole number$"), ("c", Literal["a", "b"], "^a, b$")],
)  # fmt: skip
def test_options_of_another_type_are_refused(text, kind, said):
    with pytest.raises(ValueError, match=said):
        typed(text, kind)


@pytest.mark.parametrize(
    "kind", [torch.Tensor, torch.Tensor | None, Callable[[int], int] | None, Sequence[torch.Tensor]]
)
def test_options_that_no_text_can_give(kind):
    with pytest.raises(TypeError):
        typed("x", kind)


def test_a_pair_of_numbers(photos):
    done = call("explain", "photos/0.png", "--model", "shapes", "--methods", "occlusion", "--option",
                "occlusion.window=48,32", "--option", "occlusion.stride=48,32")  # fmt: skip
    assert done.exit_code == 0, done.stderr
    manifest = json.loads(Path("report.run/manifest.json").read_text())
    assert manifest["options"]["methods"]["occlusion"]["window"] == [48, 32]


# messages of the library, in the words of the command line


@pytest.mark.parametrize(
    ("said", "here"),
    [
        ("'a.pth' is a file of weights: say of which network they are, load('resnet18', weights='a.pth')",
         "'a.pth' is a file of weights: say of which network they are, --model resnet18 --weights a.pth"),
        ("timm has no weights for x: load('timm/x', weights='random'), or give a file of your own",
         "timm has no weights for x: --model timm/x --weights random, or give a file of your own"),
        ("bring the file and load('timm/x', weights=FILE)", "bring the file and give --model timm/x --weights FILE"),
        ("an exported program, with its network inside: load('a b.pt2')",
         "an exported program, with its network inside: --model a b.pt2"),
        ("or, if you trust whoever made it, load(..., trusted=True)",
         "or, if you trust whoever made it, give --trusted"),
        ("weights='V9': shapes takes 'random'", "--weights 'V9': shapes takes 'random'"),
        ("this model has no labels, give an index or wrap(labels=...)",
         "this model has no labels, give an index or --labels FILE"),
        ("there is no layer 'x'; near it: y. pellucid.layers(model) lists all",
         "there is no layer 'x'; near it: y. `pellucid layers MODEL` lists all"),
        ("choose a layer before pooling (pellucid.layers lists them), or say how with reshape=, a function from that "
         "to N x C x h x w", "choose a layer before pooling (`pellucid layers MODEL` lists them)"),
        ("name one with layer=, and how it lies with reshape=", "name one with --layer"),
        ("or pellucid.settings(batch_size=4) if", "or --batch-size 4 if"),
        ("choose as in pellucid.settings(device='cuda:0')", "choose as in --device cuda:0"),
        ("Choose another folder, or overwrite this one (overwrite=True, --overwrite)",
         "Choose another folder (--run), or overwrite this one (--overwrite)"),
        ("rules is 'x', expected a mapping such as {'conv': pellucid.rules.gamma(0.25)} or a name: near it: EPSILON",
         "rules is 'x', expected a name: near it: EPSILON"),
        ("nothing to change: a=3, layers of paint", "nothing to change: a=3, layers of paint"),
    ],
)  # fmt: skip
def test_python_becomes_flags(said, here):
    assert in_flags(said) == here


# What Python alone can do, or what no command can come to.
NOT_HERE = (
    "bare network", "images[", "images.", ".eval()", "torch.export", "explain takes a Classifier", "ragged=True",
    "the objective is a 'X'; expected", "objective=lambda", "use pellucid.wrap in Python", "keras.models.load_model",
    "pellucid.display.colors.", "crop='X'", "Scenes(", "needs --option", "say bounds=", "with successes=True",
)  # fmt: skip


@pytest.mark.slow
def test_no_message_speaks_python_on_the_command_line():
    """All texts of the library that look like Python are known to the table of flags."""
    python = re.compile(
        r"\b(load|wrap|settings|layers|models)\(|\bpellucid\.\w+|=(True|False)\b|"
        r"\b(weights|labels|mean|std|size|trusted|overwrite|layer|reshape|device|batch_size|memory|run|truth|format|"
        r"options|methods|objective|rule|resize|crop)=(?!=)"
    )
    found = []
    for path in sorted((SOURCE / "pellucid").rglob("*.py")):
        place = path.relative_to(SOURCE / "pellucid").as_posix()
        if place.startswith(("cli/", "model/backward/", "rules/", "importers/")):
            # its own, and what is given in Python alone
            continue
        tree = ast.parse(path.read_text())
        documented = [n for n in ast.walk(tree) if isinstance(n, (ast.Module, ast.FunctionDef, ast.ClassDef))]
        skipped = {id(n.body[0].value) for n in documented if n.body and isinstance(n.body[0], ast.Expr)}
        skipped |= {id(part) for n in ast.walk(tree) if isinstance(n, ast.JoinedStr) for part in n.values}
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                text = "".join(part.value if isinstance(part, ast.Constant) else "'X'" for part in node.values)
                text = text.replace("batch_size='X'", "batch_size=3")
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in skipped:
                text = node.value
            else:
                continue
            here = in_flags(text)
            if python.search(here) and not any(words in here for words in NOT_HERE):
                found.append(f"{place}:{node.lineno}: {here}")
    assert not found, "\n".join(found)


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


@pytest.mark.slow
def test_an_exported_program(photos):
    from torch.export import export, save

    save(export(trained_network(), (torch.zeros(1, 3, 96, 96),)), "mine.pt2")
    done = call("explain", "photos/0.png", "--model", "mine.pt2", "--methods", "saliency", "--mean", "0.5", "--std",
                "0.25", "--size", "96", "--json")  # fmt: skip
    assert done.exit_code == 0, done.stderr
    predicted = json.loads(done.stdout)["images"][0]["classes"][0]
    assert predicted == int(scenes(1).labels[0])


def test_labels_that_are_numbers_come_before_indices():
    from pellucid.cli.group import target as _target

    model = pellucid.wrap(torch.nn.Identity(), labels=["1", "0"])
    assert _target("1", model) == "1" and _target("7", model) == 7 and _target(None, model) is None


# real processes


@pytest.mark.slow
def test_stdout_holds_json_and_nothing_else(photos):
    process = python("-m", "pellucid", "explain", "photos", "--model", "shapes", "--json", "--methods", "smoothgrad",
                     "--option", "smoothgrad.samples=200", cwd=photos.parent)  # fmt: skip
    out, error = process.communicate()
    assert process.returncode == 1, error
    assert [image["problem"] is None for image in json.loads(out)["images"]] == [True, True, False]
    assert "Traceback" not in error and "Warning" not in error


@pytest.mark.slow
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


@pytest.mark.slow
def test_the_demo_scores_every_method(tmp_path, monkeypatch):
    module = importlib.import_module("pellucid.jobs.demo")
    monkeypatch.setattr(module, "OPTIONS", {"rise": {"samples": 20}, "expected_gradients": {"samples": 5}})
    monkeypatch.setattr(module, "PLAIN", 1)
    done = call("demo", "--output", tmp_path / "demo" / "index.html", "--json")
    assert done.exit_code == 0, done.stderr
    said = json.loads(done.stdout)
    attributions = set(of_kind("attribution"))
    assert said["problems"] == {} and set(said["scores"]) == attributions
    assert said["scores"]["integrated_gradients"]["mass on the object"] > 0.4
    right = [image["labels"][0] == image["true"] for image in said["images"]]
    assert right == [True, True, False]  # one object, two objects, and one that is taken for the other
    page = (tmp_path / "demo" / "index.html").read_text()
    assert "predicted less true" in page and all(name in page for name in attributions)
    assert len(list((tmp_path / "demo" / "index.scenes").glob("*.png"))) == 3
    again = call("demo", "--output", tmp_path / "demo" / "index.html", "--seed", "0")
    assert again.exit_code == 0 and f"wrote {tmp_path}/demo/index.html" in again.stdout
    assert "integrated_gradients" in again.stdout and "####" in again.stdout
