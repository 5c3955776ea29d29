"""compare: one table of time and truth."""

import json
import math
import sys

import pytest
import torch

import pellucid
from pellucid import runfolder
from pellucid.files.images import write_image
from pellucid.metrics import deletion, infidelity, mass_accuracy, sensitivity_max
from pellucid.metrics.compare import Benchmark, compare_rows

from ..nets import small_model, some_images

QUICK = {"steps": 4, "samples": 6, "around": 1}
METHODS = ["saliency", "gradient_x_input"]


def some_masks(count=3):
    return torch.rand(count, 1, 12, 12, generator=torch.Generator().manual_seed(3)) < 0.3


def test_the_table_holds_what_the_measures_say():
    model, images, masks = small_model(), some_images(), some_masks()
    result = pellucid.compare(model, images, METHODS, masks=masks, **QUICK)
    assert result.methods == tuple(METHODS)
    assert list(result.scores) == ["deletion", "insertion", "infidelity", "sensitivity", "mass", "pointing"]
    classes = model(images).argmax(1).tolist()
    for place, name in enumerate(METHODS):
        found = pellucid.CATALOGUE[name].function(model, images, classes)
        expected = {
            "deletion": deletion(model, images, found, pellucid.probability(classes), steps=4).area,
            "infidelity": infidelity(model, images, found, classes, samples=6, scaled=True, relative=True),
            "sensitivity": sensitivity_max(model, images, name, classes, samples=1),
            "mass": mass_accuracy(found, masks),
        }
        for measure, values in expected.items():
            torch.testing.assert_close(result.scores[measure][place].float(), values.float())
        torch.testing.assert_close(result.maps[place], found.values.sum(1).float())
    assert torch.equal(result.forward, torch.ones(2, 3).double())
    assert result.call.objective == "logit(predicted)" and result.names == ("0", "1", "2")


def test_a_batch_is_its_rows_and_the_batch_size_does_not_matter():
    model, images = small_model(), some_images()
    whole = pellucid.compare(model, images, METHODS, **QUICK)
    with pellucid.settings(batch_size=2):
        again = pellucid.compare(model, images, METHODS, **QUICK)
    alone = pellucid.compare(model, images[1:2], METHODS, **QUICK)
    for measure, values in whole.scores.items():
        torch.testing.assert_close(again.scores[measure], values)
        torch.testing.assert_close(alone.scores[measure][:, 0], values[:, 1])


def test_an_objective_of_ones_own():
    model, images = small_model(), some_images()
    result = pellucid.compare(model, images, ["saliency"], "koala", **QUICK, measures=["deletion"])
    found = pellucid.saliency(model, images, "koala")
    torch.testing.assert_close(result.scores["deletion"][0], deletion(model, images, found, "koala", steps=4).area)
    assert list(result.scores) == ["deletion"]


def test_a_method_that_fails_is_told_and_stops_nothing():
    model, images = small_model(), some_images()
    given = {"grad_cam": {"layer": "flatten"}}  # has no places
    result = pellucid.compare(model, images, ["saliency", "grad_cam"], options=given, **QUICK)
    count, why = result.problems["grad_cam"]
    assert count == 3 and "flatten" in why
    assert result.scores["deletion"][1].isnan().all() and result.scores["deletion"][0].isfinite().all()
    assert "failed" in result.table() and result.best("deletion") == "saliency"
    with pytest.raises(ValueError, match="no method works on this model: grad_cam: "):
        pellucid.compare(model, images, ["grad_cam"], options=given, **QUICK)


@pytest.mark.slow
def test_pictures_tables_and_numbers(tmp_path):
    model, images = small_model(), some_images()
    result = pellucid.compare(model, images, METHODS, masks=some_masks(), **QUICK)
    assert result.save(tmp_path / "a.png").stat().st_size > 5_000
    assert result.save(tmp_path / "a.npz").is_file()
    lines = result.save(tmp_path / "a.csv").read_text().splitlines()
    assert len(lines) == 1 + 2 * 3 and lines[0].startswith("image,method,seconds,forward,backward,deletion")
    import pyarrow.parquet as parquet

    table = parquet.read_table(result.save(tmp_path / "a.parquet")).to_pylist()
    assert table[1]["method"] == "gradient_x_input" and 0 <= table[1]["mass"] <= 1
    assert result.table().count("*") == len(result.scores)  # one best for each
    assert len(result.tiles(0)) == 3


def test_a_run_goes_on_where_it_was(tmp_path, monkeypatch):
    model = small_model(dtype=torch.float32)
    photos = tmp_path / "photos"
    photos.mkdir()
    for number, image in enumerate(some_images(10)):
        write_image(image.float(), photos / f"{number}.png")
    (photos / "bad.png").write_bytes(b"nothing")
    expected = pellucid.compare(model, photos, METHODS, **QUICK)
    done = []
    module = sys.modules["pellucid.metrics.compare"]
    whole = module.compare_chunk

    def once(race, source, masks, folder, number):
        if done:
            raise KeyboardInterrupt
        done.append(number)
        whole(race, source, masks, folder, number)

    monkeypatch.setattr(module, "compare_chunk", once)
    with pytest.raises(KeyboardInterrupt):
        pellucid.compare(model, photos, METHODS, folder=tmp_path / "run", **QUICK)
    assert runfolder.finished(runfolder.read(tmp_path / "run")) == [0]
    monkeypatch.setattr(module, "compare_chunk", whole)
    said = []
    result = pellucid.compare(model, photos, METHODS, folder=tmp_path / "run", on_message=said.append, **QUICK)
    assert any("1 of 2 chunks are finished already" in line for line in said)
    assert [name for name, _ in result.failures] == ["bad.png"]
    for measure, values in expected.scores.items():
        torch.testing.assert_close(result.scores[measure], values)
    torch.testing.assert_close(result.maps, expected.maps)
    with pytest.raises(runfolder.OtherRun):
        pellucid.compare(model, photos, ["saliency"], folder=tmp_path / "run", **QUICK)


def test_masks_from_a_folder(tmp_path):
    model = small_model(dtype=torch.float32)
    (tmp_path / "photos").mkdir()
    for number, image in enumerate(some_images(3)):
        write_image(image.float(), tmp_path / "photos" / f"{number}.png")
    masks = some_masks()
    (tmp_path / "masks").mkdir()
    for number in (0, 2):
        write_image(masks[number].float().expand(3, -1, -1), tmp_path / "masks" / f"{number}.png")
    result = pellucid.compare(model, tmp_path / "photos", ["saliency"], masks=tmp_path / "masks", **QUICK)
    assert result.names == ("0.png", "2.png")
    assert result.failures == (("1.png", "there is no mask for it"),)
    images = model.read(tmp_path / "photos" / "0.png", tmp_path / "photos" / "2.png")
    expected = mass_accuracy(pellucid.saliency(model, images), masks[[0, 2]])
    torch.testing.assert_close(result.scores["mass"][0].float(), expected)


def test_the_function_for_one_batch_is_pure():
    model, images = small_model(), some_images()
    race = Benchmark(model, {"saliency": {}}, None, ("deletion",), 4, 6, 1, 0)
    rows, maps = compare_rows(race, images, None)
    again, _ = compare_rows(race, images, None)
    assert [row["saliency"]["deletion"] for row in rows] == [row["saliency"]["deletion"] for row in again]
    assert maps[0]["saliency"].shape == (12, 12) and json.dumps(rows) and math.isfinite(rows[0]["saliency"]["seconds"])


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"methods": ["salency"]}, KeyError, "near it: saliency"),
        ({"methods": []}, ValueError, "no method was named"),
        ({"measures": ["delition"]}, KeyError, "near it: deletion"),
        ({"measures": ["mass"]}, ValueError, "mass needs masks"),
        ({"steps": 0}, ValueError, "steps is 0"),
        ({"masks": torch.ones(3, 1, 12, 12)}, ValueError, "expected torch.bool"),
        ({"masks": torch.ones(2, 1, 12, 12).bool()}, ValueError, "shape"),
        ({"options": {"saliency": {"sgin": "keep"}}, "methods": ["saliency"]}, TypeError, "near it: sign"),
        ({"options": {"lrp": {}}, "methods": ["saliency"]}, ValueError, "not among the methods"),
    ],
)
def test_refused(options, error, said):
    given = {"methods": METHODS, **QUICK, **options}
    with pytest.raises(error, match=said):
        pellucid.compare(small_model(), some_images(), **given)


def test_images_that_the_model_cannot_take():
    with pytest.raises(ValueError, match="divide by 255"):
        pellucid.compare(small_model(), 255 * some_images(), METHODS, **QUICK)
    with pytest.raises(ValueError, match="NaN"):
        pellucid.compare(small_model(), some_images() * torch.nan, METHODS, **QUICK)
