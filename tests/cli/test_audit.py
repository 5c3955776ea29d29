"""`pellucid audit` and `pellucid compare`, from files to a page."""

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
    """Scenes of two classes, most of them squares, and a broken file; the working folder is above them."""
    monkeypatch.chdir(tmp_path)
    drawn = scenes(140, seed=3)
    for i, (image, label) in enumerate(zip(drawn.images, drawn.labels.tolist(), strict=True)):
        if CLASSES[label] in ("square", "star"):
            folder = tmp_path / "photos" / CLASSES[label]
            folder.mkdir(parents=True, exist_ok=True)
            write_image(image, folder / f"{i}.png")
    (tmp_path / "photos" / "star" / "bad.png").write_bytes(b"nothing")
    for file in sorted((tmp_path / "photos" / "star").glob("*.png"))[4:]:
        if file.name != "bad.png":
            file.unlink()  # too few to audit
    return tmp_path / "photos"


@pytest.mark.slow
def test_an_audit_of_a_folder(photos):
    options = ("--model", "shapes", "--method", "gradient_x_input")
    done = call("audit", photos, *options, "--json")
    assert done.exit_code == 1, done.output  # the broken file
    said = json.loads(done.stdout)
    assert {cluster["class"] for cluster in said["clusters"]} == {"square"} and "star" in said["skipped"]
    assert not any(cluster["alarm"] for cluster in said["clusters"])
    assert [failure["name"] for failure in said["failed"]] == ["star/bad.png"] and "star is left out" in done.stderr
    page = (photos.parent / "audit.html").read_text()
    assert "stands apart" in page and "star/bad.png" in page and "mean relevance" in page and 'src="http' not in page
    with (photos.parent / "audit.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["class"] for row in rows} == {"square", "star"} and len(rows) == said["images"]
    assert (photos.parent / "audit.run" / "manifest.json").is_file()
    (photos / "star" / "bad.png").unlink()
    again = call("audit", photos / "square", *options, "--output", "again.html", "--table", "again.parquet")
    assert again.exit_code == 0, again.output
    assert again.stdout.startswith("No cluster of 1 class with 14 images stands apart")
    assert (photos.parent / "again.parquet").is_file()


@pytest.mark.slow
def test_a_finished_audit_is_read_and_one_of_other_settings_replaced(photos):
    (photos / "star" / "bad.png").unlink()
    options = ("--model", "shapes", "--class", "square", "--method", "saliency")
    assert call("audit", photos, *options).exit_code == 0
    again = call("audit", photos, *options, "--threshold", "0.1", "--transform", "frequencies")
    assert again.exit_code == 0 and "1 of 1 chunks are finished already" in again.stderr
    other = call("audit", photos, "--model", "shapes", "--class", "square", "--method", "gradient_x_input")
    assert other.exit_code == 0 and "held a finished run with other settings" in other.stderr


@pytest.mark.slow
def test_what_was_explained_is_audited(photos):
    explained = ("explain", photos, "--model", "shapes", "--methods", "gradient_x_input", "--output", "report.html")
    assert call(*explained).exit_code == 1  # the broken file
    options = ("--model", "shapes", "--method", "gradient_x_input", "--class", "square")
    images, run = call("audit", photos, *options, "--json"), call("audit", "report.run", *options, "--json")
    assert images.exit_code == run.exit_code == 0, run.output
    expected, found = json.loads(images.stdout), json.loads(run.stdout)
    assert found["run"] == "report.run" and found["images"] == 14
    names = [sorted(Path(name).name for c in said["clusters"] for name in c["images"]) for said in (expected, found)]
    assert names[0] == names[1] and len(expected["clusters"]) == len(found["clusters"])
    assert (photos.parent / "audit.html").is_file()
    for given, said in ((["--run", "x"], "leave out --run"), (["--overwrite"], "leave out --overwrite"),
                        (["--method", "lrp"], "has no maps of lrp: name a method that it has, gradient_x_input"),
                        (["--truth", "truth.csv"], "true classes of its own"),
                        ([photos], "is audited alone")):  # fmt: skip
        done = call("audit", "report.run", *options, *given)
        assert done.exit_code == 2 and said in done.stderr, done.output


@pytest.mark.slow
def test_a_comparison(photos):
    files = sorted((photos / "square").glob("*.png"))[:2]
    options = ("--methods", "saliency,grad_cam", "--steps", "3", "--samples", "3", "--around", "1")
    done = call("compare", *files, photos / "star" / "bad.png", "--model", "shapes", *options, "--json")
    assert done.exit_code == 1, done.output  # the broken file
    said = json.loads(done.stdout)
    assert [method["method"] for method in said["methods"]] == ["saliency", "grad_cam"]
    assert all(0 <= method["deletion"] <= 1 and method["seconds"] > 0 for method in said["methods"])
    page = (photos.parent / "compare.html").read_text()
    assert page.count("<img") == 2 * 3 and "bad.png" in page and "pellucid compare" in page
    text = call("compare", *files, "--model", "shapes", *options, "--measures", "deletion", "--output", "b.html",
                "--table", "b.parquet")  # fmt: skip
    assert text.exit_code == 0 and "| method | ms an image | forward | backward | deletion |" in text.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["audit", "photos", "--method", "salency"], "there is no method 'salency'; near it: saliency"),
        (["audit", "photos", "--class", "sqare"], "there is no label 'sqare'; near it: square"),
        (["audit", "photos", "--option", "rule=x"], "lrp has no option 'rule'; near it: rules"),
        (["audit", "photos", "--output", "page.txt"], "page.txt"),
        (["audit", "photos", "--table", "table.txt"], "table.txt is no name for a table"),
        (["audit", "nothing"], "nothing"),
        (["audit", "photos/star"], "no class can be audited"),
        (["compare", "photos", "--methods", "salency"], "there is no method 'salency'; near it: saliency"),
        (["compare", "photos", "--measures", "delition"], "there is no measure 'delition'; near it: deletion"),
        (["compare", "photos", "--measures", "mass"], "mass needs masks"),
        (["compare", "photos", "--masks", "nothing"], "there is no folder of masks nothing"),
    ],
)
def test_mistakes_are_told_in_a_line(photos, arguments, said):
    (photos / "star" / "bad.png").unlink()
    done = call(*arguments, "--model", "shapes")
    assert done.exit_code == 2 and said in done.stderr, done.output
    assert "Traceback" not in done.stderr and not (photos.parent / "audit.html").exists()
    assert "masks=" not in done.stderr
