"""`pellucid features`, `neighbors`, `patches` and `activations`, from files to a page and a table."""

import csv
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from pellucid.cli import main
from pellucid.files.images import write_image
from pellucid.shapes import CLASSES, scenes


def call(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Eight scenes in folders called like their classes, and a broken file; the working folder is above them."""
    monkeypatch.chdir(tmp_path)
    drawn = scenes(8)
    for i, (image, label) in enumerate(zip(drawn.images, drawn.labels.tolist(), strict=True)):
        folder = tmp_path / "photos" / CLASSES[label % 4]
        folder.mkdir(parents=True, exist_ok=True)
        write_image(image, folder / f"{i}.png")
    (tmp_path / "photos" / "bad.png").write_bytes(b"nothing")
    return tmp_path / "photos"


@pytest.mark.slow
def test_vectors_to_a_page_and_a_table(photos):
    parquet = pytest.importorskip("pyarrow.parquet")
    given = ("features", photos, "--model", "shapes", "--layers", "features.3,flatten")
    done = call(*given, "--json")
    assert done.exit_code == 1, done.stderr  # the broken file
    said = json.loads(done.stdout)
    assert said["layers"] == {"features.3": [8, 48], "flatten": [8, 72]}
    assert said["failed"][0]["name"] == "bad.png" and "bad.png" in done.stderr
    table = parquet.read_table("features.parquet").to_pylist()
    assert len(table) == 8 and len(table[0]["flatten"]) == 72 and table[0]["label"] in CLASSES
    page = Path("features.html").read_text()
    assert "features.3" in page and "bad.png" in page and "pellucid features" in page and 'src="http' not in page
    again = call(*given, "--table", "x.csv")
    assert "1 of 1 chunks are finished already" in again.stderr and "wrote features.html and x.csv" in again.stdout
    with Path("x.csv").open() as file:
        assert len(next(csv.DictReader(file))) == 5 + 48 + 72


@pytest.mark.slow
def test_another_layer_replaces_the_run_beside_the_page_and_not_a_named_one(photos):
    assert call("features", photos, "--model", "shapes", "--layers", "pool").exit_code == 1
    done = call("features", photos, "--model", "shapes", "--layers", "flatten")
    assert "held a finished run with other settings, which is replaced" in done.stderr
    named = ("--run", "kept", "--model", "shapes")
    assert call("features", photos, "--layers", "pool", *named).exit_code == 1
    refused = call("features", photos, "--layers", "flatten", *named)
    assert refused.exit_code == 2 and "other settings" in refused.stderr
    assert call("features", photos, "--layers", "flatten", *named, "--overwrite").exit_code == 1


@pytest.mark.slow
def test_neighbors_beside_those_by_pixels(photos):
    done = call("neighbors", photos, "--model", "shapes", "--k", "3", "--table", "near.csv")
    assert done.exit_code == 1 and "8 queries among 8 images" in done.stdout
    page = Path("neighbors.html").read_text()
    assert page.count(">nearest by flatten") == 8 and page.count(">nearest by pixels") == 8
    assert "Of the query" in page
    with Path("near.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8 * 3 and all(row["query"] != row["neighbor"] for row in rows)
    file = sorted(photos.glob("*/*.png"))[2]
    one = call("neighbors", photos, "--model", "shapes", "--query", file, "--k", "2", "--json")
    found = json.loads(one.stdout)["neighbors"]
    assert len(found) == 2 and found[0]["query"] == f"{file.parent.name}/{file.name}"


@pytest.mark.slow
@pytest.mark.parametrize("by", ["activation", "relevance"])
def test_patches_beside_what_a_channel_wants(photos, by):
    given = ["patches", photos, "--model", "shapes", "--layer", "features.2", "--channels", "3,5", "--k", "4"]
    done = call(*given, "--by", by, "--steps", "2", "--table", "patches.csv")
    assert done.exit_code == 1, done.stderr
    page = Path("patches.html").read_text()
    assert page.count("<img") == 4 and "channel 3" in page and "synthesized" in page and "A place sees" in page
    with Path("patches.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["channel"] for row in rows] == ["3"] * 4 + ["5"] * 4
    values = [float(row["value"]) for row in rows[:4]]
    assert values == sorted(values, reverse=True)
    more = call(*given[:-4], "--by", by, "--steps", "0", "--k", "4", "--channels", "1", "--json")
    assert "chunks are finished already" in more.stderr  # one pass serves all channels
    assert {row["channel"] for row in json.loads(more.stdout)["patches"]} == {1}


@pytest.mark.slow
def test_filters_and_activations_to_zoom_into(photos):
    file = sorted(photos.glob("*/*.png"))[0]
    done = call("activations", file, "--model", "shapes", "--layers", "features.0,features.2", "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["layers"] == {"features.0": [1, 16, 48, 48], "features.2": [1, 40, 24, 24]}
    page = Path("activations.html").read_text()
    assert "16 filters of 3 x 3" in page and 'class="larger"' in page and "<script" not in page


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["features", "photos", "--model", "shapes", "--layers", "conv9"], "there is no layer 'conv9'"),
        (["features", "photos", "--model", "shapes", "--table", "x.doc"], "let it end in .csv, .parquet, .npz"),
        (["features", "nowhere", "--model", "shapes"], "does not exist"),
        (["neighbors", "photos", "--model", "shapes", "--k", "8"], "an image has only 7 others"),
        (["neighbors", "photos", "--model", "shapes", "--query", "x.png"], "--query x.png is not among the images"),
        (["patches", "photos", "--model", "shapes", "--layer", "features.2", "--channels", "99"], "no channel 99"),
        (["patches", "photos", "--model", "shapes", "--layer", "features.2", "--channels", "a"], "expected numbers"),
        (["patches", "photos", "--model", "shapes", "--layer", "pool", "--target", "star"], "goes with --by relevance"),
        (["patches", "photos", "--model", "shapes", "--layer", "features.2.conv", "--by", "relevance"], "joins it to"),
        (["activations", "photos/bad.png", "--model", "shapes"], "bad.png"),
    ],
)
def test_wrong_input_is_said_in_a_line(photos, arguments, words):
    done = call(*arguments)
    assert done.exit_code == 2 and words in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
