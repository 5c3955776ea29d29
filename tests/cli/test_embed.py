"""`pellucid embed` and `pellucid dimension`, from files to a page and a table."""

import csv
import json
import re

import pytest
import torch
from click.testing import CliRunner
from pyarrow import parquet

from pellucid.cli import main
from pellucid.files.images import write_image
from pellucid.shapes import CLASSES, scenes


def call(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Thirty scenes in folders called like their classes, and a broken file."""
    place = tmp_path_factory.mktemp("embed")
    drawn = scenes(30)
    for i, (image, label) in enumerate(zip(drawn.images, drawn.labels.tolist(), strict=True)):
        folder = place / "photos" / CLASSES[label]
        folder.mkdir(parents=True, exist_ok=True)
        write_image(image, folder / f"{i}.png")
    (place / "photos" / "bad.png").write_bytes(b"nothing")
    return place / "photos"


@pytest.fixture
def here(photos, monkeypatch):
    monkeypatch.chdir(photos.parent)
    return photos.parent


@pytest.mark.slow
def test_a_page_a_table_and_a_run_folder_that_needs_no_model_later(here):
    done = call("embed", "photos", "--model", "shapes", "--layer", "pool", "--method", "pca", "--dimensions", "3")
    assert done.exit_code == 1, done.stderr  # the broken file
    assert "wrote embedding.html and embedding.csv (30 images, pool)" in done.stdout and "bad.png" in done.stderr
    page = (here / "embedding.html").read_text()
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])
    assert len(data["places"]) == 3 and len(data["places"][0]) == 30 == len(data["names"])
    assert sorted(i for group in data["groups"] for i in group["points"]) == list(range(30))
    assert {group["name"] for group in data["groups"]} <= set(CLASSES)
    assert page.count('class="sheet"') == 1 and "bad.png" in page and "pellucid embed photos" in page
    with (here / "embedding.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 30 and all(row["name"].startswith(row["label"]) for row in rows)
    assert (here / rows[0]["file"]).is_file()

    again = call("embed", "embedding.run", "--method", "pca", "--dimensions", "3", "--table", "more/places.parquet",
                 "--output", "again.html", "--json")  # fmt: skip
    assert again.exit_code == 1, again.stderr
    said = json.loads(again.stdout)
    assert said["layer"] == "pool" and said["points"] == 30 and said["failed"][0]["name"].endswith("bad.png")
    table = parquet.read_table(here / "more" / "places.parquet").to_pydict()
    assert table["label"] == [row["label"] for row in rows]
    torch.testing.assert_close(torch.tensor(table["x"]), torch.tensor([float(row["x"]) for row in rows]))


@pytest.mark.slow
def test_the_dimension_on_the_page_and_alone(here):
    done = call("embed", "photos", "--model", "shapes", "--layer", "pool", "--method", "tsne", "--option", "steps=20",
                "--option", "perplexity=5", "--dimension")  # fmt: skip
    assert done.exit_code == 1, done.stderr
    assert "| k | dimension |" in done.stdout and "points joined" in done.stdout
    assert (here / "embedding.html").read_text().count("Intrinsic dimension, ") >= 3
    done = call("dimension", "embedding.run", "--method", "mle", "--k", "3,6", "--json")
    said = json.loads(done.stdout)["dimensions"]["mle"]
    assert said["k"] == [3, 6] and all(low < value < high for value, (low, high) in zip(
        said["values"], said["intervals"], strict=True))  # fmt: skip
    assert (here / "dimension.png").stat().st_size > 5000


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["embed", "photos"], "give --model"),
        (["embed", "photos", "--model", "shapes", "--method", "tnse"], "'tnse' is not one of 'tsne'"),
        (["embed", "photos", "--model", "shapes", "--layer", "pol"], "there is no layer 'pol'; near it: pool"),
        (["embed", "photos", "--model", "shapes", "--option", "perplexty=5"], "no option 'perplexty'; near it: perp"),
        (["embed", "photos", "--model", "shapes", "--option", "perplexity=20"], "perplexity is 20, and there are 30"),
        (["embed", "photos", "--model", "shapes", "--table", "x.txt"], "let it end in .csv or .parquet"),
        (["embed", "photos", "--model", "shapes", "--method", "pca", "--dimensions", "99"], "at most 29 dimensions"),
        (["dimension", "photos", "--model", "shapes", "--k", "3"], "expected several"),
        (["dimension", "photos", "--model", "shapes", "--k", "a"], "whole numbers with commas between"),
        (["dimension", "photos", "--model", "shapes", "--k", "4,40", "--method", "mle"], "k has 40, and there are 30"),
        (["dimension", "photos", "--model", "shapes", "--output", "x.txt"], "let it end in .png, .svg or .pdf"),
    ],
)
def test_mistakes_are_told_in_a_line(here, tmp_path, arguments, said):
    place = (
        []
        if "--output" in arguments
        else ["--output", tmp_path / ("page.html" if arguments[0] == "embed" else "d.png")]
    )
    done = call(*arguments, *place)
    assert done.exit_code == 2 and said in done.stderr, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_run_folders_that_do_not_fit(here):
    call("embed", "photos", "--model", "shapes", "--layer", "pool", "--method", "pca")
    done = call("embed", "embedding.run", "--model", "shapes")
    assert done.exit_code == 2 and "is a run folder, which has its vectors already: leave --model out" in done.stderr
    done = call("embed", "embedding.run", "--layer", "pol")
    assert done.exit_code == 2 and "has no vectors of layer 'pol'; near it: pool" in done.stderr
