"""`pellucid attack` and `pellucid robustness`, from files to a page."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import pellucid
from pellucid.cli import main
from pellucid.files.images import write_image
from pellucid.shapes import CLASSES, scenes


def call(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Four scenes in folders called like their classes, and a broken file; the working folder is above them."""
    monkeypatch.chdir(tmp_path)
    drawn = scenes(4)
    for i, (image, label) in enumerate(zip(drawn.images, drawn.labels.tolist(), strict=True)):
        folder = tmp_path / "photos" / CLASSES[label]
        folder.mkdir(parents=True, exist_ok=True)
        write_image(image, folder / f"{i}.png")
    (tmp_path / "photos" / "bad.png").write_bytes(b"nothing")
    return tmp_path / "photos"


@pytest.mark.slow
def test_a_page_of_what_fools_a_model(photos):
    done = call("attack", photos, "--model", "shapes", "--to", "star", "--json")
    assert done.exit_code == 1, done.stderr  # the broken file
    said = json.loads(done.stdout)
    others = [image for image in said["images"] if image["before"] != "star"]
    assert others and all(image["after"] == "star" and image["fooled"] and image["l2"] > 0 for image in others)
    assert [failure["name"] for failure in said["failed"]] == [str(photos / "bad.png")] and "bad.png" in done.stderr
    page = (photos.parent / "attack.html").read_text()
    assert page.count("<img") == 4 * 4 and "10 x difference" in page and "bad.png" in page
    assert 'src="http' not in page and "pellucid attack" in page


@pytest.mark.slow
def test_a_budget_holds_and_numbers_are_kept(photos):
    options = ("--eps", "4/255", "--option", "steps=4", "--option", "random_start=false", "--format", "npz")
    done = call("attack", photos, "--model", "shapes", "--output", "numbers.npz", *options)
    assert done.exit_code == 1 and "images fooled)" in done.stdout
    with np.load("numbers.npz") as file:
        change = np.abs(file["images"].astype(float) - file["originals"])
        record = json.loads(str(file["call"]))
    assert 0 < change.max() <= 4 / 255 and record["method"] == "pgd" and record["options"]["steps"] == 4


@pytest.mark.slow
def test_images_of_8_bits(photos):
    done = call("attack", photos, "--model", "shapes", "--eps", "24/255", "--format", "png", "--output", "fooled")
    assert "with 8 bits a color" in done.stdout
    files = sorted((photos.parent / "fooled").rglob("*.png"))
    assert len(files) == 4
    model = pellucid.load("shapes")
    wrong = [model.predict(model.read(file), k=1).labels[0][0] != file.parent.name for file in files]
    count = int(done.stdout.split("with 8 bits a color, ")[1].split()[0])
    assert sum(wrong) == count > 0
    with Image.open(files[0]) as picture:
        assert picture.size == (96, 96)


@pytest.mark.slow
def test_how_robust_a_model_is(photos):
    (photos / "bad.png").unlink()
    options = ("--method", "pgd", "--option", "steps=5", "--eps", "1/255,32/255")
    done = call("robustness", photos, "--model", "shapes", *options, "--json")
    assert done.exit_code == 0, done.stderr
    said = json.loads(done.stdout)
    shares = [said["accuracy"], *(budget["accuracy"] for budget in said["budgets"])]
    assert shares == sorted(shares, reverse=True) and shares[0] == 1 and shares[-1] < 1
    page = (photos.parent / "robustness.html").read_text()
    assert "Accuracy over budgets" in page and "1/255" in page and "fooled within 32/255" in page


def stop_at(monkeypatch, number, error=KeyboardInterrupt):
    """Interrupt the work when a chunk of that number is about to be written."""
    from pellucid.adversarial.attack import resumable

    write = resumable.write_chunk

    def stopping(folder, at, *rest):
        if at == number:
            raise error
        write(folder, at, *rest)

    monkeypatch.setattr(resumable, "write_chunk", stopping)


def asked(monkeypatch):
    """How many images each call of the network sees from now on."""
    import pellucid.adversarial.attack.case as place

    seen, run = [], place.run
    monkeypatch.setattr(
        place, "run", lambda model, images, **more: seen.append(len(images)) or run(model, images, **more)
    )
    return seen


SLOW = ("--method", "pgd", "--option", "steps=3", "--batch-size", "1", "--eps", "16/255", "--format", "npz")


@pytest.mark.slow
def test_ctrl_c_loses_nothing(photos, monkeypatch):
    (photos / "bad.png").unlink()
    whole = call("attack", photos, "--model", "shapes", *SLOW, "--output", "whole.npz")
    assert whole.exit_code == 0, whole.stderr
    with monkeypatch.context() as patch:
        stop_at(patch, 2)
        done = call("attack", photos, "--model", "shapes", *SLOW, "--output", "twice.npz")
    assert done.exit_code == 130 and "what is finished is kept in twice.run: run the same command" in done.stderr
    seen = asked(monkeypatch)
    done = call("attack", photos, "--model", "shapes", *SLOW, "--output", "twice.npz")
    assert done.exit_code == 0 and "going on with what is kept in twice.run: 2 of 4 images are done" in done.stderr
    assert len(seen) == 2 * 4  # of the two images that were missing: three steps and the look
    with np.load("whole.npz") as one, np.load("twice.npz") as other:
        assert all(np.array_equal(one[name], other[name], equal_nan=True) for name in one.files if name != "call")
        calls = [json.loads(str(file["call"])) for file in (one, other)]
    assert calls[0] | {"seconds": 0} == calls[1] | {"seconds": 0}
    seen.clear()
    assert call("attack", photos, "--model", "shapes", *SLOW, "--output", "twice.npz").exit_code == 0 and not seen


@pytest.mark.slow
def test_kill_9_loses_nothing(photos):
    (photos / "bad.png").unlink()
    arguments = ["attack", photos, "--model", "shapes", *SLOW, "--option", "steps=20", "--output", "killed.npz"]
    command = [sys.executable, "-m", "pellucid", *map(str, arguments)]
    found = os.environ | {"PYTHONPATH": str(Path(pellucid.__file__).parents[1])}
    job = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=found)
    rows = photos.parent / "killed.run" / "rows"
    end = time.monotonic() + 300
    while not list(rows.glob("0*.parquet")) and time.monotonic() < end and job.poll() is None:
        time.sleep(0.02)
    job.kill()
    job.wait()
    assert 1 <= len(list(rows.glob("0*.parquet"))) < 4, "it was not killed in the middle"
    done = call(*arguments)
    assert done.exit_code == 0 and "going on with what is kept" in done.stderr
    whole = call(*arguments[:-1], "whole.npz")
    assert whole.exit_code == 0
    with np.load("whole.npz") as one, np.load("killed.npz") as other:
        assert np.array_equal(one["images"], other["images"])


@pytest.mark.slow
def test_another_run_makes_room_when_it_is_finished(photos, monkeypatch):
    (photos / "bad.png").unlink()
    common = ("attack", photos, "--model", "shapes", "--batch-size", "1", "--method", "fgsm")
    assert call(*common, "--eps", "2/255").exit_code == 0
    done = call(*common, "--eps", "4/255")
    assert done.exit_code == 0 and "held a finished run with other settings, which is replaced" in done.stderr
    with monkeypatch.context() as patch:
        stop_at(patch, 3)
        assert call(*common, "--eps", "8/255").exit_code == 130
    done = call(*common, "--eps", "2/255")
    assert done.exit_code == 2 and "a run that is 75 % finished with other settings: options.eps" in done.stderr
    assert "--overwrite" in done.stderr and "--run" in done.stderr
    assert call(*common, "--eps", "2/255", "--overwrite").exit_code == 0
    elsewhere = ("--run", "mine")
    assert call(*common, "--eps", "2/255", *elsewhere).exit_code == 0
    done = call(*common, "--eps", "4/255", *elsewhere)  # one that was named is never replaced
    assert done.exit_code == 2 and "a finished run with other settings" in done.stderr


@pytest.mark.slow
def test_robustness_goes_on(photos, monkeypatch):
    (photos / "bad.png").unlink()
    options = ("--method", "pgd", "--option", "steps=3", "--eps", "1/255,8/255", "--batch-size", "1", "--json")
    whole = json.loads(call("robustness", photos, "--model", "shapes", *options, "--output", "whole.html").stdout)
    with monkeypatch.context() as patch:
        stop_at(patch, 3)
        done = call("robustness", photos, "--model", "shapes", *options)
    assert done.exit_code == 130 and "kept in robustness.run" in done.stderr
    assert not (photos.parent / "robustness.html").exists()
    done = call("robustness", photos, "--model", "shapes", *options)
    assert done.exit_code == 0 and "3 of 4 images are done" in done.stderr
    again = json.loads(done.stdout)
    assert again["budgets"] == whole["budgets"]
    seen = asked(monkeypatch)
    assert call("robustness", photos, "--model", "shapes", *options).exit_code == 0 and not seen
    changed = [*options[:3], "steps=2", *options[4:]]
    done = call("robustness", photos, "--model", "shapes", *changed)
    assert done.exit_code == 0 and "which is replaced" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--eps", "8"], "eps is 8: in linf any image lies within 1 of any other: for 8 steps of 255 say 8/255"),
        (["--eps", "wide"], "'wide' is no budget: expected a number such as 8/255 or 0.5"),
        (["--method", "pdg"], "there is no attack 'pdg'; near it: pgd"),
        (["--method", "saliency"], "there is no attack 'saliency'"),
        (["--method", "deepfool", "--eps", "8/255"], "deepfool has no eps: it looks for the least change"),
        (["--option", "step=3"], "pgd has no option 'step'; near it: steps"),
        (["--option", "steps"], "expected name=value, as in steps=100"),
        (["--option", "steps=many"], "steps=many: expected a whole number (by default"),
        (["--to", "stra"], "there is no label 'stra'; near it: star"),
        (["--output", "page.txt"], "page.txt"),
    ],
)
def test_mistakes_are_told_in_a_line(photos, arguments, said):
    done = call("attack", photos, "--model", "shapes", *arguments)
    assert done.exit_code == 2 and said in done.stderr, done.stderr
    assert "Traceback" not in done.stderr and not (photos.parent / "attack.html").exists()


def test_robustness_needs_the_truth(photos, tmp_path):
    write_image(torch.rand(3, 96, 96), tmp_path / "other.png")
    done = call("robustness", tmp_path / "other.png", "--model", "shapes", "--method", "fgsm")
    assert done.exit_code == 2 and "the right class of other.png is not known" in done.stderr
    assert "--truth" in done.stderr
