"""What all commands have in common: their pages of help, the names of their options, and how they stop."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import pellucid
from pellucid.cli import main
from pellucid.cli.command import ROOMS, Option, stopping_at_once
from pellucid.files.images import read_image, write_image
from pellucid.shapes import scenes

SOURCE = Path(pellucid.__file__).parents[1]


def call(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def all_commands(group=main, lead=()):
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from all_commands(command, (*lead, name))
        else:
            yield (*lead, name), command


COMMANDS = dict(all_commands())


@pytest.fixture
def photo(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_image(scenes(1).images[0], tmp_path / "a.png")
    return "a.png"


# help


@pytest.mark.parametrize("group", [(), ("style",), ("generator",)])
def test_commands_are_listed_by_question_each_in_a_line(group):
    shown = call(*group, "--help").stdout
    assert "..." not in shown.partition("\n")[2] and "Other commands" not in shown
    listed = main
    for name in group:
        listed = listed.commands[name]
    for name, command in listed.commands.items():
        assert re.search(rf"^  {name} +{re.escape(command.short_help)}$", shown, re.M)
    headings = ["Which pixels mattered", "What a unit wants to see", "What fools it", "How it sees the world",
                "Whether it cheats", "What there is"]  # fmt: skip
    assert group or re.findall(r"^(W.*|H.*):$", shown, re.M) == headings


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_options_stand_in_rooms_with_their_defaults(command):
    shown = call(*command, "--help").stdout
    headings = re.findall(r"^(\w.*):$", shown, re.M)
    assert [heading for heading in headings if heading in ROOMS] == [room for room in ROOMS if room in headings]
    assert all(isinstance(one, Option) for one in COMMANDS[command].params if isinstance(one, click.Option))
    words = " ".join(shown.split())
    for one in COMMANDS[command].params:
        if isinstance(one, Option) and isinstance(one.default, (int, float, str, Path)) and not one.is_flag:
            assert f"[default: {one.default}" in words or one.default == ""


def test_a_name_has_one_meaning_and_one_spelling():
    shown = {name for command in COMMANDS.values() for one in command.params for name in one.opts
             if isinstance(one, Option) and not one.hidden}  # fmt: skip
    assert not shown & {"--layers", "--objective", "--report", "--options"}
    for command in COMMANDS.values():
        options = {one.spelling: one for one in command.params if isinstance(one, Option)}
        for name, other in (("--layer", "--layers"), ("--target", "--objective"), ("--option", "--options"),
                            ("--method", "--methods"), ("--methods", "--method")):  # fmt: skip
            assert name not in options or other in options[name].former or other in options


# what options were called before


@pytest.mark.slow
@pytest.mark.parametrize("spelling", [["--layer", "features.3,flatten"], ["--layers", "features.3,flatten"],
                                      ["--layer", "features.3", "--layers", "flatten"]])  # fmt: skip
def test_layers(photo, spelling):
    done = call("features", photo, "--model", "shapes", *spelling)
    assert done.exit_code == 0, done.stderr


def test_objective_is_target(photo):
    one = call("explain", photo, "--model", "shapes", "--method", "saliency", "--objective", "stra")
    assert one.exit_code == 2 and "no label 'stra'; near it: star" in one.stderr
    other = call("visualize", "--model", "shapes", "--objective", "stra")
    assert other.exit_code == 2 and "no label 'stra'" in other.stderr


@pytest.mark.parametrize(
    ("given", "picture", "page"),
    [
        ([], "quilt.png", None),
        (["--output", "a.jpg"], "a.jpg", None),
        (["--output", "page.html"], None, "page.html"),
        (["--output", "b.png", "--output", "page.html"], "b.png", "page.html"),
        (["--output", "page.htm", "--output", "b.png"], "b.png", "page.htm"),
        (["--report", "page.html"], "quilt.png", "page.html"),  # as it was
        (["--report", "page.html", "--output", "b.png"], "b.png", "page.html"),
    ],
)
def test_pictures_and_pages_are_outputs(photo, given, picture, page):
    done = call("quilt", photo, "--longest", "8", "--size", "9", "--option", "window=3", *given)
    assert done.exit_code == 0, done.stderr
    made = {path.name for path in Path.cwd().iterdir()} - {photo}
    assert made == {name for name in (picture, page) if name}
    if picture:
        assert read_image(picture).shape == (3, 9, 9)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--output", "b.txt"], "b.txt: expected a file that ends in .png, .*, .html"),
        (["--output", "b.png", "--output", "c.png"], "--output b.png and c.png are for the same thing"),
        (["--output", "b.html", "--report", "c.html"], "--output b.html and c.html are for the same thing"),
        (["--output", "no/b.png"], "no/b.png: there is no folder no"),
    ],
)
def test_outputs_that_cannot_be(photo, given, words):
    done = call("quilt", photo, *given)
    assert done.exit_code == 2 and re.search(words, done.stderr)


# stopping


SLOW = """
import sys, time
print("importing", flush=True)
try:
    time.sleep(60)
except KeyboardInterrupt:
    raise ImportError("numpy.core failed to import")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("where", ["torch", "click"])
def test_ctrl_c_while_importing_ends_in_a_word(tmp_path, where):
    (tmp_path / "slow").mkdir()
    slow = SLOW if where == "torch" else SLOW.replace('ImportError("numpy.core failed to import")', "")
    (tmp_path / "slow" / f"{where}.py").write_text(slow)
    process = subprocess.Popen(
        [sys.executable, "-m", "pellucid", "explain", "a.png", "--model", "shapes"], cwd=tmp_path, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={"PYTHONPATH": f"{tmp_path / 'slow'}:{SOURCE}"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    assert process.stdout.readline() == "importing\n"
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=30)
    assert process.returncode == 130 and error == "pellucid: stopped\n" and out == ""


def test_an_error_that_ctrl_c_has_led_to_is_no_error(photo, monkeypatch):
    def load(*_arguments, **_options):
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as stop:
            raise ImportError("half imported") from stop

    monkeypatch.setattr("pellucid.zoo.load", load)
    done = call("features", photo, "--model", "shapes")
    assert done.exit_code == 130 and done.stderr == "pellucid: stopped\n"


def test_a_handler_of_somebody_else_is_left_alone():
    def mine(*_arguments):
        pass

    usual = signal.signal(signal.SIGINT, mine)
    try:
        with stopping_at_once():
            assert signal.getsignal(signal.SIGINT) is mine
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with stopping_at_once():
            assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, usual)
