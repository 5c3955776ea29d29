"""`pellucid visualize`, `invert`, `dream`, `texture` and `style`, from words to pictures."""

import json

import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from pellucid.cli import main
from pellucid.images import read_image, write_image
from pellucid.shapes import scenes


def call(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def photo(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_image(scenes(1).images[0], tmp_path / "scene.png")
    write_image(scenes(2).images[1], tmp_path / "style.png")
    return tmp_path / "scene.png"


def test_units_and_classes_side_by_side(photo):
    places = ("--report", "page.html", "--film", "way.gif", "--output", "units.png")
    done = call("visualize", "--model", "shapes", "--target", "star,features.5:3", "--steps", "20", "--json", *places)
    assert done.exit_code == 0, done.stderr
    said = json.loads(done.stdout)
    assert [image["of"] for image in said["images"]] == ['logit("star")', 'channel("features.5", 3)']
    assert said["steps"] == 20 and said["output"] == ["units.png", "way.gif", "page.html"]
    assert read_image(photo.parent / "units.png").shape == (3, 96, 193)  # two, and a line between
    page = (photo.parent / "page.html").read_text()
    assert page.count("<img") == 3 and "The objective on the way" in page
    with Image.open("way.gif") as film:
        assert film.n_frames == 21


@pytest.mark.parametrize(
    ("arguments", "output"),
    [
        (["invert", "scene.png", "--layer", "features.2"], "invert.png"),
        (["dream", "scene.png", "--layer", "features.4", "--guide", "scene.png"], "dream.png"),
        (["dream", "scene.png", "--option", "octaves=2", "--longest", "64"], "dream.png"),
        (["texture", "scene.png", "--option", "size=40"], "texture.png"),
        (["style", "transfer", "scene.png", "style.png", "--output", "painted.png"], "painted.png"),
        (
            [
                "style",
                "transfer",
                "scene.png",
                "style.png",
                "style.png",
                "--option",
                "style_weight=3",
                "--output",
                "painted.png",
            ],
            "painted.png",
        ),
    ],
)
def test_pictures_of_pictures(photo, arguments, output):
    done = call(*arguments, "--model", "shapes", "--steps", "4")
    assert done.exit_code == 0 and f"wrote {output}" in done.stdout, done.stderr
    side = 64 if "--longest" in arguments else 40 if "size=40" in arguments else 96
    assert read_image(photo.parent / output).shape == (3, side, side)


def test_a_video_of_the_way_or_the_extra_that_it_needs(photo, monkeypatch):
    import sys

    import imageio_ffmpeg  # noqa: F401

    ascent = ("visualize", "--model", "shapes", "--target", "star", "--steps", "5", "--film")
    assert call(*ascent, "way.mp4").exit_code == 0 and (photo.parent / "way.mp4").stat().st_size > 1000
    dreamt = call("dream", "scene.png", "--model", "shapes", "--steps", "4", "--option", "zoom=3", "--film", "zoom.gif")
    with Image.open("zoom.gif") as film:
        assert dreamt.exit_code == 0 and film.n_frames == 4
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    done = call(*ascent, "more.mp4")
    assert done.exit_code != 0 and "pip install 'pellucid[film]'" in done.stderr
    assert not (photo.parent / "more.mp4").exists()


def test_the_same_seed_the_same_picture(photo):
    for name in ("a.png", "b.png"):
        assert call("visualize", "--model", "shapes", "--target", "4", "--steps", "5", "--output", name).exit_code == 0
    assert torch.equal(read_image("a.png"), read_image("b.png"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["visualize", "--target", "stra"], "there is no label 'stra'; near it: star"),
        (["visualize", "--target", "features.99:1"], "there is no layer 'features.99'"),
        (["visualize", "--target", "star", "--output", "a.txt"], "a.txt: expected a file that ends in .png"),
        (["visualize", "--target", "star", "--film", "a.mp3"], "a.mp3: expected a file that ends in .gif"),
        (["style", "apply", "scene.png", "--network", "a.safetensors", "--report", "a.txt"], "ends in .html"),
        (["visualize", "--target", "star", "--output", "no/a.png"], "there is no folder no"),
        (["visualize", "--target", "star", "--option", "stepp=1"], "maximize has no option 'stepp'; near it: step"),
        (["visualize", "--target", "star", "--option", "edits=3"], "which only Python can give"),
        (["invert", "scene.png", "--layer", "nowhere"], "there is no layer 'nowhere'"),
        (["dream", "none.png"], "none.png"),
    ],
)
def test_mistakes_are_told_in_a_line(photo, arguments, said):
    model = () if arguments[0] == "style" else ("--model", "shapes", "--steps", "3")
    done = call(*arguments, *model)
    assert done.exit_code == 2 and said in done.stderr, done.stderr
    assert sorted(file.name for file in photo.parent.iterdir()) == ["scene.png", "style.png"]


def test_a_network_learns_a_style_and_paints(photo):
    options = ("--option", "width=4", "--option", "blocks=1", "--option", "size=32", "--option", "batch=2")
    train = ("style", "train", "scene.png", "--style", "style.png", "--model", "shapes", "--steps", "3", *options)
    done = call(*train, "--output", "painter.safetensors", "--report", "learned.html")
    assert done.exit_code == 0 and "styles: style" in done.stdout, done.stderr
    found = sorted(file.name for file in photo.parent.iterdir())
    assert found == ["learned.html", "painter.safetensors", "scene.png", "style.png"]
    assert (photo.parent / "learned.html").read_text().count("<img") == 3  # the style, a photo, and it painted
    painting = ("style", "apply", "scene.png", "--network", "painter.safetensors")
    done = call(*painting, "--style", "style", "--report", "page.html")
    page = (photo.parent / "page.html").read_text()
    assert page.count("<img") == 2 and "pellucid style apply scene.png" in page
    assert done.exit_code == 0 and read_image(photo.parent / "painted.png").shape == (3, 96, 96), done.stderr
    done = call("style", "apply", "scene.png", "--network", "painter.safetensors", "--style", "stile")
    assert done.exit_code == 2 and "there is no style 'stile'; near it: style" in done.stderr
    done = call("style", "apply", "scene.png", "--network", "scene.png")
    assert done.exit_code == 2 and "Traceback" not in done.stderr
