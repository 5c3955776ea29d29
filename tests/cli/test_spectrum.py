"""`pellucid spectrum`, from folders to a page."""

import importlib
import json
import shutil

import pyarrow.parquet
import pytest
from click.testing import CliRunner

from pellucid import SpectrumClassifier
from pellucid.audit import upsampled_photos
from pellucid.cli import main


def call(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return upsampled_photos(tmp_path_factory.mktemp("made"), ["nearest", "bilinear"], size=16, most=60)


@pytest.fixture
def root(made, tmp_path, monkeypatch):
    shutil.copytree(made, tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "photos"


SIZES = ("--train", 36, "--validation", 8, "--test", 16, "--epochs", 10)


@pytest.mark.slow
def test_a_page_and_its_numbers(root):
    done = call("spectrum", root / "A_photos", root / "B_nearest", *SIZES)
    assert done.exit_code == 0, done.stderr
    for said in ("| real |", "wo halves of the real images", "wrote spectrum.html"):
        assert said in done.stdout
    names = {path.name for path in root.parent.iterdir() if path.is_file()}
    assert names == {
        "spectrum.html", "spectrum.parquet", "spectrum.safetensors", "spectrum_confounds.csv", "spectrum_curves.csv",
        "spectrum_spectra.npz", "spectrum_table.csv",
    }  # fmt: skip
    table = pyarrow.parquet.read_table(root.parent / "spectrum.parquet")
    assert table.num_rows == 32 and set(table["true"].to_pylist()) == {"real", "fake"}
    page = (root.parent / "spectrum.html").read_text()
    for said in ("Spectra of real and B_nearest", "Confounds", "Control: two halves", "Weights", "pellucid spectrum",
                 "what each pixel adds", "thumbnail of 8 x 8 alone"):  # fmt: skip
        assert said in page
    assert 'src="http' not in page and page.count("<img") >= 14
    model = SpectrumClassifier.load(root.parent / "spectrum.safetensors")
    assert model.read(root / "A_photos" / "0000.png").shape == (1, 3, 16, 16)


@pytest.mark.slow
def test_a_folder_of_letters_and_one_class_each(root):
    done = call("spectrum", root, *SIZES, "--classes", "folders", "--no-control", "--output", "out/page.html", "--json",
                "--features", "azimuthal", "--gray", "--run", "kept")  # fmt: skip
    assert done.exit_code == 0, done.stderr
    said = json.loads(done.stdout)
    assert list(said["origins"]) == ["A_photos", "B_nearest", "C_bilinear"] and said["control"] is None
    assert said["chance"] == pytest.approx(1 / 3) and len(said["confounds"]) == 11
    assert (root.parent / "out" / "page_curves_2.csv").exists() and not (root.parent / "kept").exists()
    model = SpectrumClassifier.load(root.parent / "out" / "page.safetensors")
    assert model.labels == ("A_photos", "B_nearest", "C_bilinear") and model.net.shape == (1, 16, 16)


@pytest.mark.slow
def test_a_trained_classifier_on_other_files(root):
    assert call("spectrum", root / "A_photos", root / "B_nearest", *SIZES, "--no-control").exit_code == 0
    others = ("spectrum", root / "A_photos", root / "C_bilinear", "--classifier", "spectrum.safetensors")
    done = call(*others)
    assert done.exit_code == 2 and "would be written over" in done.stderr
    done = call(*others, "--output", "others.html", "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["control"] is None
    assert pyarrow.parquet.read_table("others.parquet").num_rows == 120


@pytest.mark.slow
def test_a_stopped_command_goes_on(root, monkeypatch):
    """It says where its work is kept, which is in no other command's way."""
    from pellucid.audit.spectra import training

    command = ("spectrum", root / "A_photos", root / "B_nearest", *SIZES)
    monkeypatch.setattr(training, "EVERY", 0)
    write, calls = training.write_training, []

    def until(path, *arguments):
        write(path, *arguments)
        calls.append(path.name)
        if calls.count("control.safetensors") == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(training, "write_training", until)
    done = call(*command)
    assert done.exit_code == 130 and "kept in spectrum.run: run the same command to go on" in done.stderr
    assert not (root.parent / "spectrum.html").exists()
    monkeypatch.setattr(training, "write_training", write)
    # Another command keeps apart from it, and is not kept from its work.
    other = call(*command[:3], "--crop", 8, *SIZES, "--no-control", "--run", "spectrum.run", "--output", "other.html")
    assert other.exit_code == 0, other.stderr


@pytest.mark.slow
def test_what_is_kept_is_taken(root, monkeypatch):
    from pellucid.audit.spectra import average_spectrum, training

    spectrum_audit = importlib.import_module("pellucid.audit.spectrum_audit")
    command = ("spectrum", root / "A_photos", root / "B_nearest", *SIZES)
    assert call(*command, "--output", "whole.html").exit_code == 0
    monkeypatch.setattr(spectrum_audit, "_examples", stopped)
    assert call(*command).exit_code == 130
    monkeypatch.undo()
    monkeypatch.chdir(root.parent)
    monkeypatch.setattr(spectrum_audit, "confounds", None)
    monkeypatch.setattr(training, "_descend", None)
    monkeypatch.setattr(average_spectrum._Sums, "add", None)
    done = call(*command)
    assert done.exit_code == 0 and "going on with what is kept in spectrum.run" in done.stderr, done.stderr
    assert not (root.parent / "spectrum.run").exists()
    for end in (".parquet", "_confounds.csv", "_curves.csv", "_table.csv"):
        assert (root.parent / f"spectrum{end}").read_bytes() == (root.parent / f"whole{end}").read_bytes()


def stopped(*_arguments):
    raise KeyboardInterrupt


@pytest.mark.slow
def test_it_can_be_explained(root):
    """Its file is a model like others."""
    assert call("spectrum", root / "A_photos", root / "B_nearest", *SIZES, "--no-control").exit_code == 0
    done = call("explain", root / "B_nearest" / "0001.png", "--model", "spectrum.safetensors", "--methods",
                "integrated_gradients,saliency,lrp", "--target", "fake", "--output", "why.html")  # fmt: skip
    assert done.exit_code == 0 and "no rule" not in done.stderr, done.stderr
    page = (root.parent / "why.html").read_text()
    assert "logit(&#34;fake&#34;)" in page or "logit(&quot;fake&quot;)" in page


@pytest.mark.slow
def test_broken_files_are_named_and_told_by_the_exit_code(root):
    (root / "B_nearest" / "0007.png").write_bytes(b"nothing")
    done = call("spectrum", root / "A_photos", root / "B_nearest", *SIZES, "--no-control")
    assert done.exit_code == 1 and "0007.png" in done.stderr
    assert "0007.png" in (root.parent / "spectrum.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["photos/A_photos"], "holds images of no class"),
        (["photos/A_photos", "photos/B_neares"], "did you mean"),
        (["photos", "--train", "90"], "give all three numbers"),
        (["photos", *SIZES[:4], "--test", "50"], "too few for 36 to train"),
        (["photos", *SIZES, "--crop", "64"], "16 x 16 pixels are too few"),
        (["photos", *SIZES, "--features", "wavelets"], "wavelets"),
        (["photos", *SIZES, "--features", "azimuthal", "--network", "cnn"], "the azimuthal average is a curve"),
        (["photos", *SIZES, "--output", "page.txt"], "page.txt"),
        (["photos", *SIZES, "--classifier", "none.safetensors"], "there is no such file"),
    ],
)
def test_mistakes_are_told_in_a_line(root, arguments, said):
    done = call("spectrum", *arguments)
    assert done.exit_code == 2 and said in done.stderr, done.stderr
    assert "Traceback" not in done.stderr and not (root.parent / "spectrum.html").exists()


@pytest.mark.slow
def test_what_users_name_is_escaped(root):
    evil = root / "B_<script>alert(1)<"
    (root / "B_nearest").rename(evil)
    done = call("spectrum", root, *SIZES, "--no-control")
    assert done.exit_code == 0, done.stderr
    page = (root.parent / "spectrum.html").read_text()
    assert "<script" not in page and "&lt;script&gt;" in page
