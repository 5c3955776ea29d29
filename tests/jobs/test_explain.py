"""The main job: every image explained or accounted for, whatever happens on the way."""

import dataclasses
import importlib
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import pellucid
from pellucid import runfolder
from pellucid.attribution.ingredients.decorator import attribution
from pellucid.checks import UnknownName
from pellucid.files.images import MissingImage, write_image
from pellucid.methods.registry import CATALOGUE
from pellucid.methods.result import Attribution
from pellucid.model.true_classes import true_classes
from pellucid.runfolder import OtherRun
from pellucid.shapes import CLASSES, MEAN, STD, scenes, trained_network

job = importlib.import_module("pellucid.jobs.explain.job")
explain = job.explain


@pytest.fixture(autouse=True)
def quiet():
    with pellucid.settings(progress=False):
        yield


@pytest.fixture(scope="module")
def model():
    return pellucid.wrap(trained_network(), mean=MEAN, std=STD, size=96, labels=CLASSES, name="shapes")


@pytest.fixture
def photos(tmp_path):
    """Three scenes in the folders of their classes, one of them in another's; a broken file, and an empty one."""
    folder = tmp_path / "photos"
    for i, image in enumerate(scenes(3).images):
        label = CLASSES[int(scenes(3).labels[i])] if i else "arrow"
        (folder / label).mkdir(parents=True, exist_ok=True)
        write_image(image, folder / label / f"{i}.png")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 and no more")
    (folder / "empty.png").touch()
    return folder


def rows_of(folder):
    """All rows without what the clock says."""
    return [{k: v for k, v in row.items() if k not in ("seconds", "modified")} for row in runfolder.each_row(folder)]


@pytest.mark.slow
def test_a_page_with_everything(model, photos, tmp_path):
    done = explain(model, photos, output=tmp_path / "page.html", methods=["saliency", "grad_cam"], command="a command")
    assert done.images == 3 and done.problems == {}
    assert [name for name, _ in done.failures] == ["broken.jpg", "empty.png"]
    assert "damaged" in done.failures[0][1] and "empty (0 bytes)" in done.failures[1][1]
    page = (tmp_path / "page.html").read_text()
    for text in ("a command", "broken.jpg", "arrow/0.png", "What shapes looks at", "predicted less true"):
        assert text in page
    rows = rows_of(done.folder)
    assert [row["name"] for row in rows if not row["problem"]] == sorted(r["name"] for r in rows if not r["problem"])
    wrong = next(row for row in rows if row["name"] == "arrow/0.png")
    assert wrong["true"] == "arrow" != wrong["labels"][0]
    assert [(m["name"], m["title"], m["group"]) for m in wrong["maps"]] == [
        ("saliency", "saliency", "logit"),
        ("saliency.probability", "saliency", "probability"),
        ("grad_cam", "grad_cam", ""),
        ("grad_cam.predicted", "grad_cam: predicted and true", "predicted"),
        ("grad_cam.true", "grad_cam: predicted and true", "true"),
        ("grad_cam.contrast", "grad_cam: predicted and true", "predicted less true"),
    ]
    first = wrong["labels"][0]
    assert [m["objective"] for m in wrong["maps"]] == [
        f'logit("{first}")', f'probability("{first}")', f'logit("{first}")',
        f'logit("{first}")', 'logit("arrow")', f'contrast("{first}", "arrow")',
    ]  # fmt: skip
    right = next(row for row in rows if row["name"].endswith("1.png"))
    assert right["true"] == right["labels"][0] and len(right["labels"]) == 5
    assert [m["name"] for m in right["maps"]] == ["saliency", "saliency.probability", "grad_cam"]


@pytest.mark.slow
def test_the_numbers_are_those_of_the_methods(model, photos, tmp_path):
    done = explain(model, photos, output=tmp_path / "numbers", format="npz", methods=["saliency", "smoothgrad"],
                   options={"smoothgrad": {"samples": 3}}, seed=5)  # fmt: skip
    found = {p.relative_to(tmp_path / "numbers").as_posix() for p in (tmp_path / "numbers").rglob("*.npz")}
    assert found == {f"{row['name'][:-4]}.npz" for row in rows_of(done.folder) if not row["problem"]}
    for name in found:
        image = model.read(photos / name.replace(".npz", ".png"))
        with np.load(tmp_path / "numbers" / name) as file:
            row = json.loads(str(file["row"]))
            assert (torch.from_numpy(file["image"]) == (image[0] * 255).round()).all()
            wanted = pellucid.smoothgrad(model, image, samples=3, seed=5).values[0]
            assert torch.allclose(torch.from_numpy(file["smoothgrad"]), wanted, atol=1e-5 * wanted.abs().max())
            assert np.abs(file["saliency"] - pellucid.saliency(model, image).values[0].numpy()).max() < 1e-5
            best = model.predict(image)
            assert row["labels"] == best.labels[0] and np.allclose(row["probabilities"], best.probabilities[0])


@pytest.mark.slow
def test_pictures(model, photos, tmp_path):
    explain(model, photos, output=tmp_path / "out", format="png", methods=["saliency"])
    pictures = list((tmp_path / "out").rglob("*.png"))
    assert len(pictures) == 3 and all(p.read_bytes()[:4] == b"\x89PNG" for p in pictures)


def test_a_map_that_looks_at_no_class_says_so(model, photos, tmp_path):
    done = explain(model, photos, output=tmp_path / "page.html", methods=["eigen_cam", "grad_cam"], objective="star")
    for row in rows_of(done.folder):
        assert [m["objective"] for m in row["maps"]] in ([], ["", 'logit("star")'])
    page = (tmp_path / "page.html").read_text()
    assert page.count("looks at no class") == page.count('<span class="what">explains</span>') == 3
    assert "eigen_cam: what stands out in arrow/0.png" in page


def test_a_new_method_that_looks_at_no_class_gets_one_map(model, photos, tmp_path, monkeypatch):
    """Its traits say so: no list of names knows it."""
    for name in [*CATALOGUE, "contours"]:
        monkeypatch.setitem(CATALOGUE, name, CATALOGUE.get(name))

    @attribution(paper="Nobody 2020, Contours", one_pass=True, gradient=False, objective=False)
    def contours(model, images, objective):
        """How far each pixel is from its neighbor."""
        pellucid.run(model, images)
        return Attribution(images - images.roll(1, 3))

    done = explain(model, photos, output=tmp_path / "page.html", methods=["contours", "saliency"])
    for row in rows_of(done.folder):
        if row["maps"]:
            assert [m["name"] for m in row["maps"]][:3] == ["contours", "saliency", "saliency.probability"]
            assert next(m for m in row["maps"] if m["name"] == "contours")["objective"] == ""


def test_a_single_file_and_names_that_differ_in_their_suffix_only(model, tmp_path):
    image = scenes(1).images[0]
    for name in ("a.png", "a.bmp", "b.png"):
        write_image(image, tmp_path / name)
    files = [tmp_path / name for name in ("a.png", "a.bmp", "b.png", "a.png")]
    explain(model, files, output=tmp_path / "out", format="npz", methods=["saliency"])
    assert {p.name for p in (tmp_path / "out").glob("*.npz")} == {"a.png.npz", "a.bmp.npz", "b.npz"}
    assert explain(model, str(tmp_path / "b.png"), output=tmp_path / "one.html", methods=["saliency"]).images == 1


@pytest.mark.slow
def test_the_same_again_computes_nothing(model, photos, tmp_path, monkeypatch):
    settings = {"output": tmp_path / "page.html", "methods": ["saliency"]}
    first = explain(model, photos, **settings)
    before = rows_of(first.folder)
    (tmp_path / "page.html").unlink()
    monkeypatch.setattr(job, "explain_chunk", None)
    said = []
    again = explain(model, photos, **settings, on_message=said.append)
    assert rows_of(again.folder) == before and again.failures == first.failures
    assert (tmp_path / "page.html").is_file()
    assert "1 of 1 chunks are finished already" in said[0]


@pytest.mark.slow
def test_files_that_changed_are_done_again(model, photos, tmp_path):
    settings = {"output": tmp_path / "page.html", "methods": ["saliency"]}
    explain(model, photos, **settings)
    write_image(scenes(4).images[3], photos / "broken.jpg")
    said = []
    done = explain(model, photos, **settings, on_message=said.append)
    assert [name for name, _ in done.failures] == ["empty.png"] and done.images == 4
    assert "1 file has changed since, such as broken.jpg" in said[0]
    (photos / "broken.jpg").unlink()
    (photos / "broken.jpg").write_bytes(b"")
    done = explain(model, photos, **settings)
    assert len(done.failures) == 2
    stored = runfolder.arrays(done.folder)["saliency"]
    gone = [row["item"] for row in rows_of(done.folder) if row["problem"]]
    assert np.isnan(stored[:][gone]).all()


@pytest.mark.slow
def test_an_unfinished_run_of_something_else_is_kept(model, photos, tmp_path, monkeypatch):
    settings = {"output": tmp_path / "page.html", "methods": ["saliency"]}
    for number in range(6):  # more than one chunk
        write_image(torch.full((3, 96, 96), 0.5), photos / f"gray{number}.png")
    compute, done = job.explain_chunk, []

    def interrupted(*arguments, **options):
        if len(done) == finished:
            raise KeyboardInterrupt
        done.append(arguments)
        compute(*arguments, **options)

    def begun(**options):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(job, "explain_chunk", interrupted)
            explain(model, photos, **settings, **options)

    finished = 0
    begun(seed=5)  # of which nothing is finished, so that it makes room
    finished = 1
    begun()
    with pytest.raises(OtherRun, match=r"50 % finished with other settings: seed was 0, is now 1"):
        explain(model, photos, **settings, seed=1)
    with pytest.raises(OtherRun, match=r"options.methods.saliency.sign was absolute, is now keep"):
        explain(model, photos, **settings, options={"saliency": {"sign": "keep"}})
    assert explain(model, photos, **settings, seed=1, overwrite=True).images == 9


@pytest.mark.slow
def test_a_finished_run_of_something_else_is_replaced_unless_it_was_named(model, photos, tmp_path):
    settings = {"output": tmp_path / "page.html", "methods": ["saliency"]}
    explain(model, photos, **settings)
    said = []
    explain(model, photos, **settings, seed=1, on_message=said.append)
    assert "held a finished run with other settings" in said[0]
    kept = tmp_path / "kept"
    explain(model, photos, **settings, run=kept)
    with pytest.raises(OtherRun, match="seed was 0, is now 2"):
        explain(model, photos, **settings, run=kept, seed=2)
    other = pellucid.wrap(nn.Sequential(nn.Flatten(), nn.Linear(3 * 96 * 96, 10)).eval(), size=96, labels=CLASSES)
    with pytest.raises(OtherRun, match=r"model.name was shapes, is now Sequential.*model.weights was"):
        explain(other, photos, **settings, run=kept)
    done = explain(model, photos, output=tmp_path / "maps", format="npz", methods=["saliency"], run=kept)
    assert len(list((tmp_path / "maps").rglob("*.npz"))) == done.images == 3


def test_a_method_that_fails_leaves_the_others(model, photos, tmp_path):
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 94 * 94, 3)).eval()
    flat = pellucid.wrap(net, size=96, labels=["a", "b", "c"])
    said = []
    done = explain(flat, photos, output=tmp_path / "page.html", methods=["saliency", "cam"], on_message=said.append)
    assert done.problems["cam"][0] == 3 and "average" in done.problems["cam"][1]
    assert done.images == 3 and len(said) == 1 and said[0].startswith("cam: ")
    page = (tmp_path / "page.html").read_text()
    assert "Problem:" in page and page.count("saliency") > 3


def test_one_image_that_a_network_cannot_take_does_not_spoil_its_batch(tmp_path):
    class Picky(nn.Module):
        """NaN for an image that is black."""

        def forward(self, x):
            return x.mean((2, 3)) / (x.sum((1, 2, 3)) > 0)[:, None]

    for i, image in enumerate(torch.rand(3, 3, 8, 8)):
        write_image(image * (i != 1), tmp_path / f"{i}.png")
    done = explain(pellucid.wrap(Picky().eval(), size=8), tmp_path, output=tmp_path / "p.html", methods=["saliency"])
    assert done.images == 2 and done.failures == (("1.png", "the network returns NaN or infinity"),)


@pytest.mark.slow
def test_any_size_is_taken_by_a_model_without_one(photos, tmp_path):
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)).eval()
    write_image(torch.rand(3, 20, 30), photos / "small.png")
    done = explain(pellucid.wrap(net), photos, output=tmp_path / "page.html", methods=["saliency", "grad_cam"])
    assert done.images == 4 and done.folder.manifest["ragged"] and done.folder.manifest["chunk"] == 1
    stored = runfolder.arrays(done.folder)["grad_cam"]
    small = next(row["item"] for row in rows_of(done.folder) if row["name"] == "small.png")
    assert stored[f"{small:08}"].shape == (1, 20, 30)


def test_nothing_can_be_read(model, tmp_path):
    (tmp_path / "a.png").write_bytes(b"nothing")
    done = explain(model, tmp_path / "a.png", output=tmp_path / "page.html", methods=["saliency"])
    assert done.images == 0 and len(done.failures) == 1
    assert "none could be read" in (tmp_path / "page.html").read_text()


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names of files that are no text")
@pytest.mark.parametrize("format", ["html", "npz"])
def test_names_of_any_kind(model, tmp_path, format):
    names = [b"\xff\xfe.png", "東京 <b>&.png".encode(), b"line\nbreak.png", b"quote'\".png"]
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in names:
        write_image(scenes(1).images[0], tmp_path / "photo.png")
        (tmp_path / "photo.png").rename(folder / os.fsdecode(name))
    output = tmp_path / ("page.html" if format == "html" else "out")
    done = explain(model, folder, output=output, format=format, methods=["saliency"], command=os.fsdecode(names[0]))
    assert done.images == 4
    if format == "html":
        assert "\\udcff\\udcfe.png" in output.read_text() and "<b>" not in output.read_text()


def test_a_network_with_one_output(photos, tmp_path):
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 96 * 96, 1)).eval()
    done = explain(pellucid.wrap(net, size=96), photos, output=tmp_path / "page.html", methods=["saliency"])
    assert done.problems == {} and all(len(row["maps"]) == 1 for row in rows_of(done.folder) if not row["problem"])


@pytest.mark.parametrize(
    ("objective", "text"),
    [("star", 'logit("star")'), (3, "logit(3)"), ("features.0:2", 'channel("features.0", 2)'),
     (pellucid.contrast("star", "ring"), 'contrast("star", "ring")')],
)  # fmt: skip
def test_a_chosen_objective(model, photos, tmp_path, objective, text):
    done = explain(model, photos, output=tmp_path / "page.html", methods=["saliency"], objective=objective)
    made = [made for row in rows_of(done.folder) for made in row["maps"]]
    assert len(made) == 3 and {m["objective"] for m in made} == {text}
    image = model.read(photos / "arrow" / "0.png")
    wanted = pellucid.saliency(model, image, objective).values[0].numpy()
    item = next(row["item"] for row in rows_of(done.folder) if row["name"] == "arrow/0.png")
    assert np.allclose(runfolder.arrays(done.folder)["saliency"][item], wanted, atol=1e-6)


def test_maps_are_scored_where_the_object_is_known(model, tmp_path):
    scene = scenes(1)
    write_image(scene.images[0], tmp_path / "scene.png")
    done = explain(model, tmp_path / "scene.png", output=tmp_path / "p.html", methods=["saliency"],
                   masks={str(tmp_path / "scene.png"): scene.masks[0]})  # fmt: skip
    (row,) = rows_of(done.folder)
    scores = {score["name"]: score["value"] for score in row["maps"][0]["scores"]}
    assert set(scores) == {"mass on the object", "peak on the object"} and 0.1 < scores["mass on the object"] <= 1


def test_warnings_are_kept_and_told_once(model, photos, tmp_path, monkeypatch):
    entry = CATALOGUE["saliency"]

    def warned(*arguments, **options):
        warnings.warn("something\nis odd", UserWarning, stacklevel=1)
        warnings.warn("for programmers", DeprecationWarning, stacklevel=1)
        return entry.function(*arguments, **options)

    monkeypatch.setitem(CATALOGUE, "saliency", dataclasses.replace(entry, function=warned))
    said = []
    done = explain(model, photos, output=tmp_path / "page.html", methods=["saliency"], on_message=said.append)
    assert said == ["saliency: something is odd"]
    assert all(m["warnings"] == ["something is odd"] for row in rows_of(done.folder) for m in row["maps"])
    assert "something is odd" in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize(
    ("changes", "kind", "said"),
    [
        ({"methods": ["salience"]}, UnknownName, "no method 'salience'; near it: saliency"),
        ({"methods": []}, ValueError, "no method was named"),
        ({"options": {"saliency": {"sing": 1}}}, UnknownName, "saliency has no option 'sing'; near it: sign"),
        ({"options": {"occlusion": {"window": 3}}}, ValueError, "options for occlusion are given, but it is not"),
        ({"layer": "features.0"}, ValueError, "none of the methods looks at one: saliency"),
        ({"methods": ["grad_cam"], "layer": "feature"}, UnknownName, "feature"),
        ({"objective": "stra"}, UnknownName, "no label 'stra'; near it: star"),
        ({"objective": 10}, ValueError, "class 10 is out of range"),
        ({"objective": "features.9:1"}, UnknownName, "features.9"),
        ({"format": "pdf"}, ValueError, "format is 'pdf', expected html, png or npz"),
        ({"output": "page.png"}, ValueError, "let it end in .html"),
        ({"output": "page.html", "format": "png"}, ValueError, "is not a folder"),
        ({"output": "photos/out", "format": "png"}, ValueError, "would be taken for images next time"),
        ({"output": "."}, IsADirectoryError, "give the name of a page"),
        ({"paths": "foto"}, MissingImage, "did you mean photos"),
        ({"labels": {"x.png": "star"}}, ValueError, "none of the 5 images is named in the table.*'x.png'"),
        ({"labels": {"0.png": "sun"}}, UnknownName, "in the table of true classes: there is no label 'sun'"),
        ({"labels": "truth.csv"}, FileNotFoundError, "no table of true classes truth.csv"),
    ],
)
def test_what_is_wrong_is_said_before_any_work(model, photos, tmp_path, monkeypatch, changes, kind, said):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(job, "explain_chunk", None)
    given = {"paths": "photos", "output": "page.html", "methods": ["saliency"]} | changes
    with pytest.raises(kind, match=said):
        explain(model, **given)
    assert not Path("page.html").exists() and not Path("page.run").exists()


def test_what_is_no_classifier_is_told(photos):
    with pytest.raises(TypeError, match=r"got a Linear: pellucid.wrap"):
        explain(nn.Linear(1, 1), photos, output="page.html")


def test_an_output_that_cannot_be_written(model, photos, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"cannot write into .*file"):
        explain(model, photos, output=tmp_path / "file" / "page.html")


def test_defaults_are_in_the_catalogue():
    assert list(job.choose(None, {}, None, 0)) == list(job.DEFAULTS)
    chosen = job.choose(["grad_cam", "smoothgrad"], {"smoothgrad": {"seed": 4}}, "layer4", 7)
    assert chosen["grad_cam"]["layer"] == "layer4" and chosen["smoothgrad"]["seed"] == 4


# true classes


def test_truth_by_folder_is_what_was_written(model):
    files = [Path("photos/star/1.png"), Path("Star/1.png"), Path("1.png"), Path("/photos/stars/1.png")]
    star = CLASSES.index("star")
    assert true_classes(model, files, "folders") == [star, star, None, None]
    net = pellucid.wrap(nn.Identity(), labels=["tabby, tabby cat", "crane", "crane"])
    files = [Path("tabby_cat/1.png"), Path("Tabby/1.png"), Path("crane/1.png")]
    assert true_classes(net, files, "folders") == [0, 0, None]  # two classes are called crane
    assert true_classes(net, files, None) == [None] * 3


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.csv", "file,label\na/1.png,star\n2.png,ring\n"),
        ("t.csv", "label;name\nstar;a/1.png\nring;2.png\n"),
        ("t.csv", "\ufeffa/1.png, star\n\nb/2.png, ring\nelse.png,heart\n"),
        ("t.tsv", "path\ttrue\n1.png\tstar\n2.png\tring\n"),
        ("t.json", '{"a/1.png": "star", "2.png": "ring"}'),
        ("t.json", '[{"file": "1.png", "label": "star"}, {"file": "./b/2.png", "label": "ring"}]'),
    ],
)
def test_tables_of_truth(model, tmp_path, name, text):
    (tmp_path / name).write_text(text)
    files = [Path("photos/a/1.png"), Path("photos/b/2.png"), Path("photos/b/3.png")]
    assert true_classes(model, files, tmp_path / name) == [CLASSES.index("star"), CLASSES.index("ring"), None]


def test_tables_may_hold_indices(model, tmp_path):
    assert true_classes(model, [Path("1.png")], {"1.png": 3}) == [3]
    (tmp_path / "t.csv").write_text("1.png,3\n")
    assert true_classes(model, [Path("1.png")], tmp_path / "t.csv") == [3]
    with pytest.raises(UnknownName, match="class 10 .* is out of range: the model has 10 classes"):
        true_classes(model, [Path("1.png")], {"1.png": 10})


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("t.csv", "", "which is empty"),
        ("t.csv", "1.png\n", "line 1: expected a file and a label, got '1.png'"),
        ("t.json", "{", "is not a table of true classes"),
        ("t.json", "[1]", "is not a table of true classes"),
        ("t.json", '{"1.png": null}', "the label of '1.png' is None"),
    ],
)
def test_tables_that_are_none(model, tmp_path, name, text, said):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=said):
        true_classes(model, [Path("1.png")], tmp_path / name)


# killed


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_killed_in_the_middle_it_ends_as_if_never_interrupted(model, tmp_path):
    """A real process, killed by SIGKILL while it works, then started again, against one that ran through."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for i, image in enumerate(scenes(20, seed=1).images):
        write_image(image, photos / f"{i}.png")
    (photos / "7b.png").write_bytes(b"broken")
    command = [sys.executable, "-m", "pellucid", "explain", str(photos), "--model", "shapes", "--batch-size", "16",
               "--methods", "saliency,smoothgrad,grad_cam", "--output"]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(Path(pellucid.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    options = {"env": environment, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([*command, str(tmp_path / "broken.html")], **options)
    rows = tmp_path / "broken.run" / "rows"
    while not list(rows.glob("0*.parquet")) and process.poll() is None:
        time.sleep(0.005)
    time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "broken.html").exists()
    folder = runfolder.read(tmp_path / "broken.run")
    before = runfolder.finished(folder)
    assert before and len(before) < folder.chunks == 3
    stamp = (rows / "00000000.parquet").stat().st_mtime_ns
    again = subprocess.run([*command, str(tmp_path / "broken.html")], **options, check=False)
    assert again.returncode == 1, again.stderr  # one file is broken
    assert "7b.png: is not an image" in again.stderr
    assert (rows / "00000000.parquet").stat().st_mtime_ns == stamp  # not done twice
    through = subprocess.run([*command, str(tmp_path / "smooth.html")], **options, check=False)
    assert through.returncode == 1
    one, other = folder, runfolder.read(tmp_path / "smooth.run")
    assert rows_of(one) == rows_of(other) and len(rows_of(one)) == 21
    arrays, others = runfolder.arrays(one), runfolder.arrays(other)
    assert set(arrays) == set(others) == {"image", "saliency", "saliency.probability", "smoothgrad", "grad_cam"}
    for name, array in arrays.items():
        assert array[:].tobytes() == others[name][:].tobytes(), name
    assert (tmp_path / "broken.html").stat().st_size == pytest.approx(
        (tmp_path / "smooth.html").stat().st_size, rel=0.01
    )


@pytest.mark.slow
def test_other_methods_are_another_run(model, tmp_path):
    scene = tmp_path / "scene.png"
    write_image(pellucid.shapes.scenes(1).images[0], scene)
    for methods in (["saliency"], ["saliency", "grad_cam"], ["grad_cam", "saliency"]):
        done = pellucid.explain(model, scene, output=tmp_path / "page.html", methods=methods)
        found = [made["name"] for row in runfolder.each_row(done.folder) for made in row["maps"]]
        assert [name for name in found if name in methods] == methods


def test_pictures_never_replace_the_photos(model, tmp_path):
    scene = tmp_path / "scene.png"
    write_image(pellucid.shapes.scenes(1).images[0], scene)
    before = scene.read_bytes()
    with pytest.raises(ValueError, match="its picture would replace it"):
        pellucid.explain(model, scene, output=tmp_path, format="png", methods=["saliency"])
    assert scene.read_bytes() == before
