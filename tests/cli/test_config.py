"""`pellucid.toml`: defaults of options, and what such a file may not do."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from pellucid.cli import main
from pellucid.cli.config import ConfigError, defaults
from pellucid.files.images import write_image
from pellucid.shapes import CLASSES, scenes


def call(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def photo(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_image(scenes(1).images[0], tmp_path / "a.png")
    return "a.png"


def said(text):
    """What a file with this text gives each command."""
    Path("pellucid.toml").write_text(text)
    return defaults(Path("pellucid.toml"), main)


def test_a_file_in_the_folder_gives_defaults_and_the_command_line_wins(photo):
    Path("pellucid.toml").write_text(
        'model = "shapes"\nbatch-size = 4\ntarget = "star"\n[explain]\nmethods = ["saliency", "grad_cam"]\n'
        '[explain.option]\nsaliency.sign = "keep"\n'
    )
    done = call("explain", photo, "--target", "ring", "--json")
    assert done.exit_code == 0, done.stderr
    assert done.stderr == (
        "pellucid: from pellucid.toml: --methods saliency,grad_cam --option saliency.sign=keep --model shapes "
        "--batch-size 4\n"
    )
    manifest = json.loads(Path("report.run/manifest.json").read_text())
    assert manifest["options"]["objective"] == 'logit("ring")' and len(manifest["options"]["methods"]) == 2
    assert manifest["options"]["methods"]["saliency"]["sign"] == "keep"
    command = "pellucid explain --methods saliency,grad_cam --option saliency.sign=keep --model shapes --batch-size 4 "
    assert f"{command}{photo} --target ring --json" in Path("report.html").read_text()


def test_help_and_lists_do_without_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("pellucid.toml").write_text("nonsense")
    for arguments in (["--help"], ["explain", "--help"], ["methods", "lrp"], ["models", "shapes"], ["--version"]):
        assert call(*arguments).exit_code == 0


def test_a_command_is_told_nothing_if_there_is_no_file(photo):
    assert call("explain", photo, "--model", "shapes", "--methods", "saliency").stderr == ""


def test_tables_come_before_what_holds_for_all(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (
        "model = 'a'\nseed = 1\n[style]\nseed = 2\n[style.train]\nseed = 3\nlongest = 64\n[features]\nlayer = 'x,y'\n"
    )
    found = said(text)
    assert found["explain"] == {"model": "a", "seed": 1} and found["style"]["transfer"]["seed"] == 2
    assert found["style"]["train"] == {"model": "a", "seed": 3, "longest": 64}
    assert found["features"] == {"model": "a", "layers": ["x,y"]} and found["methods"] == {}


def test_options_are_found_by_all_their_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = said('objective = 3\nlayers = ["a", "b"]\n[audit]\nclass = ["x"]\nmaps = 4\n[spectrum]\ncontrol = false\n')
    assert found["explain"]["target"] == "3" and found["features"]["layers"] == ["a", "b"]
    assert found["audit"] == {"classes": ["x"], "maps": 4} and found["spectrum"] == {"control": False}
    assert "target" not in found["attack"] and "to" not in found["attack"]  # there it would mean another thing
    assert said("[attack]\nto = 'x'\n")["attack"] == {"to": "x"}
    assert "size" not in said("size = 96")["quilt"] and said("[quilt]\nsize = 96")["quilt"] == {"size": 96}


def test_paths_are_seen_from_the_file(photo):
    Path("lab").mkdir()
    Path("lab/classes.txt").write_text("\n".join(name.upper() for name in CLASSES))
    Path("lab/mine.toml").write_text(
        'model = "shapes"\nlabels = "classes.txt"\n'
        '[explain]\noutput = "page.html"\nmethods = "saliency"\ntruth = "none"\n'
    )
    done = call("--config", "lab/mine.toml", "explain", photo, "--json")
    assert done.exit_code == 0, done.stderr
    page = json.loads(done.stdout)
    assert page["output"] == "lab/page.html" and page["images"][0]["labels"][0].isupper()
    assert "from lab/mine.toml: " in done.stderr and "--labels lab/classes.txt" in done.stderr
    Path("lab/net.pt2").write_bytes(b"")
    Path("lab/mine.toml").write_text('model = "net.pt2"\nweights = "random"\n[neighbors]\nquery = ["q.png"]\n')
    found = defaults(Path("lab/mine.toml"), main)
    assert found["explain"] == {"model": "lab/net.pt2", "weights": "random"}
    assert found["neighbors"]["queries"] == ["lab/q.png"]


def test_a_file_that_is_named_comes_instead_of_the_one_in_the_folder(photo):
    Path("pellucid.toml").write_text('model = "nothing"\n')
    Path("mine.toml").write_text('model = "shapes"\n[explain]\nmethods = "saliency"\n')
    assert call("--config", "mine.toml", "explain", photo).exit_code == 0
    done = call("--config", "none.toml", "explain", photo)
    assert done.exit_code == 2 and "cannot read none.toml: No such file" in done.stderr


@pytest.mark.parametrize("table", ["", "[explain]\n", "[style]\n", "[style.train]\n"])
@pytest.mark.parametrize("key", ["trusted", "overwrite", "json"])
def test_what_no_file_may_say(photo, table, key):
    Path("pellucid.toml").write_text(f"{table}{key} = true\n")
    for file in ([], ["--config", "pellucid.toml"]):
        done = call(*file, "explain", photo, "--model", "shapes")
        assert done.exit_code == 2 and f"{key} cannot be set in a file" in done.stderr
        assert f"give --{key} with the command itself" in done.stderr
    assert not Path("report.html").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('modle = "x"', "pellucid.toml: there is no option 'modle' of any command; near it: model.* It may set .*seed"),
        ('[explain]\nclass = "x"', r"pellucid.toml \[explain\]: there is no option 'class' of `pellucid explain`"),
        ("[explian]\nsize = 3", "there is no command 'explian'; near it: explain"),
        ("[style.trian]\nsize = 3", r"\[style\]: there is no command 'trian'; near it: train"),
        ("[explain.size]\na = 3", r"\[explain\]: size: .* is no whole number"),
        ('size = "big"', "size: 'big' is no whole number"),
        ("size = 3.5", "size: 3.5 is no whole number"),
        ("size = true", "size: True is no whole number"),
        ("size = 0", "size: 0 is not in the range x>=1"),
        ("[audit]\nthreshold = 'x'", "threshold: 'x' is no number"),
        ('mean = [0.5, "a"]', "mean: '0.5,a' is no number, nor several"),
        ("mean = [[1]]", r"mean: \[1\] is neither a text nor a number"),
        ("model = ['a', 'b']", r"model: \['a', 'b'\] is a list, expected one value"),
        ("labels = 1979-05-27", "labels: .* is neither a text nor a number"),
        ("[spectrum]\ngray = 'yes'", "gray: 'yes' is neither true nor false"),
        ('[embed]\nmethod = "lrp"', "method: 'lrp' is not one of 'tsne', 'pca'"),
        ('[patches]\nchannels = "x"', "channels: 'x': expected numbers of channels"),
        ("version = true", "there is no option 'version'"),
        ("size 3", 'pellucid.toml is no TOML .*: expected lines such as model = "resnet50"'),
    ],
)
def test_what_is_wrong_is_told_in_words(photo, text, words):
    Path("pellucid.toml").write_text(text)
    with pytest.raises(ConfigError, match=words):
        defaults(Path("pellucid.toml"), main)
    done = call("explain", photo, "--model", "shapes", "--json")
    assert done.exit_code == 2 and done.stderr.startswith("pellucid: error: ") and len(done.stderr.splitlines()) == 1
    assert json.loads(done.stdout)["error"] in done.stderr


def test_what_a_command_cannot_take_is_told_when_it_is_asked_for(photo):
    Path("pellucid.toml").write_text('model = "shapes"\nmethod = "saliency"\n')
    assert call("explain", photo).exit_code == 0
    done = call("embed", photo)
    assert done.exit_code == 2 and "pellucid.toml: method: 'saliency' is not one of 'tsne'" in done.stderr


@pytest.mark.slow
def test_a_default_is_left_out_where_it_has_no_sense(photo, tmp_path):
    for number, image in enumerate(scenes(6).images):
        write_image(image, tmp_path / "photos" / f"{number}.png")
    Path("pellucid.toml").write_text('model = "shapes"\ntarget = "star"\n')
    assert call("features", "photos").exit_code == 0
    done = call("embed", "features.run", "--method", "pca")
    assert done.exit_code == 0, done.stderr
    assert "the model of pellucid.toml is not used: features.run is a run folder" in done.stderr
    assert "pellucid embed features.run --method pca" in Path("embedding.html").read_text()
    done = call("patches", "photos", "--layer", "features.3", "--steps", "0", "--k", "1")
    assert done.exit_code == 0 and "the target of pellucid.toml is not used" in done.stderr, done.stderr
    done = call("generator", "train", "photos", "--size", "16", "--steps", "1", "--option", "batch=2")
    assert done.exit_code == 0 and "the model of pellucid.toml is not used" in done.stderr, done.stderr
    assert call("embed", "features.run", "--model", "shapes").exit_code == 2  # but what was said here and now
