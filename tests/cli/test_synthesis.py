"""`pellucid visualize`, `invert`, `dream`, `texture` and `style`, from words to pictures."""

import json

import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from pellucid.cli import main
from pellucid.files.images import read_image, write_image
from pellucid.model.training import steps_in
from pellucid.shapes import scenes
from pellucid.synthesis import Decoder, StyleNetwork
from pellucid.synthesis.training.training import Squares


def call(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def photo(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_image(scenes(1).images[0], tmp_path / "scene.png")
    write_image(scenes(2).images[1], tmp_path / "style.png")
    return tmp_path / "scene.png"


@pytest.mark.slow
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
        (["texture", "scene.png", "--size", "40"], "texture.png"),
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
    side = 64 if "--longest" in arguments else 40 if {"size=40", "40"} & {*arguments} else 96
    assert read_image(photo.parent / output).shape == (3, side, side)


def test_a_video_of_the_way_or_the_extra_that_it_needs(photo, monkeypatch):
    import sys

    pytest.importorskip("imageio_ffmpeg")

    ascent = ("visualize", "--model", "shapes", "--target", "star", "--steps", "5", "--film")
    assert call(*ascent, "way.mp4").exit_code == 0 and (photo.parent / "way.mp4").stat().st_size > 1000
    dreamed = call(
        "dream", "scene.png", "--model", "shapes", "--steps", "4", "--option", "zoom=3", "--film", "zoom.gif"
    )
    with Image.open("zoom.gif") as film:
        assert dreamed.exit_code == 0 and film.n_frames == 4
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
        (["visualize", "--target", "star", "--option", "transforms=3"], "which only Python can give"),
        (["invert", "scene.png", "--layer", "nowhere"], "there is no layer 'nowhere'"),
        (["dream", "none.png"], "none.png"),
    ],
)
def test_mistakes_are_told_in_a_line(photo, arguments, said):
    model = () if arguments[0] == "style" else ("--model", "shapes", "--steps", "3")
    done = call(*arguments, *model)
    assert done.exit_code == 2 and said in done.stderr, done.stderr
    assert sorted(file.name for file in photo.parent.iterdir()) == ["scene.png", "style.png"]


@pytest.mark.slow
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


SMALL = ("--option", "width=4", "--option", "blocks=1", "--option", "size=32", "--option", "batch=2")


def test_a_style_is_added_to_a_network_and_the_first_stays(photo):
    write_image(scenes(3).images[2], photo.parent / "other.png")
    train = ("style", "train", "scene.png", "--model", "shapes", "--steps", "3", *SMALL)
    assert call(*train, "--style", "style.png", "--output", "one.safetensors").exit_code == 0
    more = (*train, "--style", "other.png", "--add-to", "one.safetensors")
    done = call(*more, "--output", "two.safetensors")
    assert done.exit_code == 0 and "styles: style, other" in done.stdout, done.stderr
    image = read_image("scene.png")[None]
    one, two = (StyleNetwork.load(f"{name}.safetensors").paint(image, "style") for name in ("one", "two"))
    torch.testing.assert_close(one, two, rtol=0, atol=1e-6)
    done = call(*more, "--output", "one.safetensors")
    assert done.exit_code == 2 and "--add-to and --output are the same file" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "kept"),
    [
        (("style", "train", "scene.png", "--style", "style.png", "--model", "shapes", *SMALL), "painter"),
        (("generator", "train", "scene.png", "--size", "16", "--option", "width=2", "--option", "length=4"),
         "generator"),
    ],
)  # fmt: skip
def test_a_training_that_is_stopped_goes_on_with_the_same_command(photo, monkeypatch, command, kept):
    draw, calls = Squares.draw, []

    def stopping(*given):
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return draw(*given)

    with monkeypatch.context() as patch:
        patch.setattr(Squares, "draw", stopping)
        done = call(*command, "--steps", "6")
    checkpoint, output = photo.parent / f"{kept}.checkpoint.safetensors", photo.parent / f"{kept}.safetensors"
    assert done.exit_code == 130 and "the same again goes on" in done.stderr, done.stderr
    assert 0 < steps_in(checkpoint) < 6 and output.exists()
    assert call(*command, "--steps", "6").exit_code == 0 and not checkpoint.exists()
    stopped = output.read_bytes()
    assert call(*command, "--steps", "6").exit_code == 0 and output.read_bytes() == stopped


@pytest.mark.slow
def test_styles_in_regions_and_in_shares(photo):
    mask = torch.zeros(1, 8, 8)
    mask[:, :, :4] = 1
    write_image(mask, photo.parent / "left.png")
    write_image(1 - mask, photo.parent / "right.png")
    both = ("style", "transfer", "scene.png", "style.png", "scene.png", "--model", "shapes", "--steps", "4")
    for name, more in {
        "even": (), "shares": ("--option", "mixture=0.9,0.1"), "masks": ("--mask", "left.png", "--mask", "right.png")
    }.items():  # fmt: skip
        done = call(*both, *more, "--output", f"{name}.png")
        assert done.exit_code == 0, done.stderr
    even, shares, masks = (read_image(f"{name}.png") for name in ("even", "shares", "masks"))
    assert not torch.equal(even, shares) and not torch.equal(even, masks)
    done = call(*both, "--mask", "left.png")
    assert done.exit_code == 2 and "masks has 1 entries for 2 styles" in done.stderr


@pytest.mark.slow
def test_a_decoder_learns_images_draws_and_is_climbed_over(photo):
    (photo.parent / "photos").mkdir()
    for number, image in enumerate(scenes(4).images):
        write_image(image, photo.parent / "photos" / f"{number}.png")
    options = ("--size", "32", "--option", "width=2", "--option", "length=4", "--option", "batch=2", "--steps", "3")
    done = call("generator", "train", "photos", *options, "--output", "net.safetensors", "--report", "net.html")
    assert done.exit_code == 0 and "wrote net.safetensors, net.html (codes of 4 numbers)" in done.stdout, done.stderr
    assert (photo.parent / "net.html").read_text().count("<img") == 24
    assert call("generator", "draw", "net.safetensors", "--count", "3").exit_code == 0
    assert read_image("drawn.png").shape == (3, 32, 3 * 32 + 2)
    climb = ("visualize", "--model", "shapes", "--target", "star", "--steps", "3")
    done = call(*climb, "--generator", "net.safetensors", "--output", "codes.png")
    assert done.exit_code == 0 and read_image("codes.png").shape == (3, 32, 32), done.stderr
    done = call(*climb, "--generator", "shapes", "--option", "count=2", "--output", "two.png")
    assert done.exit_code == 0 and read_image("two.png").shape == (3, 96, 193), done.stderr
    done = call(*climb, "--generator", "scene.png")
    assert done.exit_code == 2 and "ends in .safetensors" in done.stderr
    done = call("generator", "train", "photos", "--layers", "features.1", *options)
    assert done.exit_code == 2 and "model and layers go together" in done.stderr
    shared = ("generator", "train", "photos", "--model", "shapes", "--layers", "features.1", *options[4:])
    assert call(*shared).exit_code == 0 and Decoder.load("generator.safetensors").size == 96


def test_a_quilt_needs_no_model(photo):
    small = ("quilt", "scene.png", "--longest", "20", "--size", "16", "--option", "window=5")
    done = call(*small, "--report", "page.html", "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout) == {"output": ["quilt.png", "page.html"], "interrupted": False}
    assert read_image("quilt.png").shape == (3, 16, 16)
    page = (photo.parent / "page.html").read_text()
    assert page.count("<img") == 2 and "A texture, quilted" in page and "no network" in page
    for more, said in {
        ("--option", "window=4"): "window is 4, expected an odd number from 3",
        ("--option", "windw=5"): "quilt has no option 'windw'; near it: window",
    }.items():
        done = call(*small, *more)
        assert done.exit_code == 2 and said in done.stderr


def test_one_picture_for_each_kind_of_thing_that_a_class_is(photo):
    for number, image in enumerate(scenes(6).images):
        write_image(image, photo.parent / "some" / f"{number}.png")
    facets = ("visualize", "--model", "shapes", "--target", "star", "--facets", "some", "--steps", "3")
    done = call(*facets, "--option", "facets=2", "--json")
    assert done.exit_code == 0, done.stderr
    said = json.loads(done.stdout)
    assert len(said["images"]) == 2 and said["images"][0]["of"].startswith('logit("star"), facet 1 (')
    assert read_image("visualize.png").shape == (3, 96, 193)
    done = call(*facets, "--generator", "shapes")
    assert done.exit_code == 2 and "leave one of them out" in done.stderr
    done = call(*facets, "--target", "star,ring")
    assert done.exit_code == 2 and "--facets takes one target, got 2" in done.stderr


@pytest.mark.slow
def test_trainings_speak_to_machines(photo):
    options = ("--steps", "2", "--json")
    done = call("style", "train", "scene.png", "--style", "style.png", "--model", "shapes", *options, *SMALL)
    assert json.loads(done.stdout) == {"output": ["painter.safetensors"], "styles": ["style"], "interrupted": False}
    done = call("style", "apply", "scene.png", "--network", "painter.safetensors", "--json")
    assert json.loads(done.stdout) == {"output": ["painted.png"], "style": "style"}
    done = call("generator", "train", "scene.png", "--size", "16", "--option", "length=4", *options)
    assert json.loads(done.stdout) == {"output": ["generator.safetensors"], "code": 4, "interrupted": False}
    done = call("generator", "draw", "generator.safetensors", "--json")
    assert json.loads(done.stdout) == {"output": ["drawn.png"], "images": 20}
