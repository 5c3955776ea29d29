"""What gives classes away without a spectrum is called out; what does not is left in peace."""

import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from pellucid import SpectrumClassifier
from pellucid.audit import confounds, halves, labeled_files, split, upsampled_photos
from pellucid.audit.image_files.file_traits import file_traits
from pellucid.audit.upsampled_photos import photo_patches
from pellucid.files.images import to_pil


@pytest.fixture(scope="module")
def patches():
    found = photo_patches(32)
    return found[torch.linspace(0, len(found) - 1, 120).round().long()]


def write(folder, patches, name, **options):
    folder.mkdir(parents=True)
    for number, patch in enumerate(patches):
        to_pil(patch).save(folder / name.format(number), **options)


def called(root, *sizes):
    return confounds(split(root, *(sizes or (70, 10, 40))))


@pytest.mark.slow
def test_a_classifier_that_sees_the_file_format_is_called_out(tmp_path):
    """The same pictures, real ones as PNG and "fake" ones as JPEG: it is right for the wrong reason."""
    patches = photo_patches(32)
    write(tmp_path / "A_real", patches, "{}.png")
    write(tmp_path / "B_fake", patches, "{}.jpg", quality=30)
    parts = split(tmp_path, 300, 60, 160)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # plain sky is the same in several patches
        measured = SpectrumClassifier.fit(parts).evaluate(parts.test)
    assert measured.accuracy.value > 0.8  # compression has a spectrum too
    found = confounds(parts)
    names = {one.name for one in found.flagged}
    assert {"file format", "JPEG quantization", "JPEG subsampling", "bytes a pixel"} <= names
    assert not names & {"width x height", "color mode", "EXIF data", "mean color", "thumbnail of 8 x 8"}
    best = next(one for one in found.found if one.name == "file format")
    assert best.accuracy.value == 1 and best.detail == "real: PNG 100%; fake: JPEG 100%"
    said = found.verdict(measured.accuracy.value)
    assert "does as well as the classifier" in said and "no evidence that it knows fakes" in said
    assert "Bring all files to one format" in said
    assert "| file format | 100.0%" in found.table() and "**flagged**" in found.table()


def test_the_same_files_in_two_halves_are_not_called_out(patches, tmp_path):
    write(tmp_path / "A_real", patches, "{}.png")
    write(tmp_path / "B_fake", patches, "{}.png")
    parts = split(halves(labeled_files(tmp_path).of(0)), 30, 5, 25)
    found = confounds(parts)
    assert not found.flagged and len(found.found) == 11
    assert found.verdict().startswith("No trait that was looked at tells the classes apart")


@pytest.mark.slow
def test_up_sampling_leaves_the_rest_alike(tmp_path):
    found = called(upsampled_photos(tmp_path, ["nearest"], most=120))
    assert [one.kind for one in found.flagged] == ["file and picture"]
    assert "may come from what is to be learned" in found.verdict(1.0)


@pytest.mark.parametrize(
    ("change", "trait"),
    [
        ({"quality": 90}, "JPEG quantization"),
        ({"quality": 75, "subsampling": 0}, "JPEG subsampling"),
        ({"quality": 75, "progressive": True}, "JPEG progressive"),
        ({"quality": 75, "icc_profile": b"profile"}, "color profile"),
        (
            {"quality": 75, "exif": b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x01\0\0\0\0\0\0"},
            "EXIF data",
        ),
    ],
)
def test_each_trait_of_a_file(patches, tmp_path, change, trait):
    write(tmp_path / "A_real", patches[:60], "{}.jpg", quality=75)
    write(tmp_path / "B_fake", patches[:60], "{}.jpg", **change)
    found = called(tmp_path, 30, 5, 25)
    names = [one.name for one in found.flagged]
    assert trait in names and set(names) - {trait} <= {"bytes a pixel"}


def test_size_and_mode(patches, tmp_path):
    write(tmp_path / "A_real", patches[:60], "{}.png")
    (tmp_path / "B_fake").mkdir()
    for number, patch in enumerate(patches[:60]):
        to_pil(patch).convert("L").resize((40, 36)).save(tmp_path / "B_fake" / f"{number}.png")
    found = called(tmp_path, 30, 5, 25)
    by_name = {one.name: one for one in found.found}
    assert by_name["width x height"].flagged and by_name["color mode"].flagged
    assert "fake: 40 x 36 100%" in by_name["width x height"].detail


@pytest.mark.slow
def test_color_and_framing(patches, tmp_path):
    write(tmp_path / "A_real", patches, "{}.png")
    write(tmp_path / "B_fake", patches * 0.8 + torch.tensor([0.2, 0, 0])[:, None, None], "{}.png")
    assert "mean color" in {one.name for one in called(tmp_path).flagged}
    framed = patches.clone()
    framed[:, :, :4], framed[:, :, -4:] = framed[:, :, :4] * 0.5, 1 - (1 - framed[:, :, -4:]) * 0.5
    for file, patch in zip(sorted((tmp_path / "B_fake").iterdir(), key=lambda p: int(p.stem)), framed, strict=True):
        to_pil(patch).save(file)
    assert "thumbnail of 8 x 8" in {one.name for one in called(tmp_path).flagged}


def test_false_alarms_are_rare():
    """Of 40 labelings at random of noise, none should be called out: 11 traits each, at 99.9 %."""
    from pellucid.audit.confounds import _by_regression, _confound

    draw = np.random.default_rng(0)
    alarms = 0
    for _ in range(40):
        x, y, z = draw.normal(size=(60, 20)), draw.integers(0, 2, 60), draw.integers(0, 2, 50)
        said = _by_regression(x, y, draw.normal(size=(50, 20)))
        alarms += _confound("noise", "picture", said, z, np.bincount(z).max() / 50, "").flagged
    assert alarms == 0


def test_broken_files_and_too_few(patches, tmp_path):
    write(tmp_path / "A_real", patches[:12], "{}.png")
    write(tmp_path / "B_fake", patches[:12], "{}.png")
    parts = split(tmp_path, 6, 2, 4)
    parts.train.files[0].write_bytes(b"nothing")
    parts.test.files[0].write_bytes(b"\x89PNG\r\n\x1a\n")
    found = confounds(parts)
    assert [name for name, _ in found.failures] == [str(parts.train.files[0]), str(parts.test.files[0])]
    with pytest.raises(ValueError, match="most is 1"):
        confounds(parts, most=1)
    for file in parts.train.of(0).files:
        file.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="not enough readable images of each class"):
        confounds(parts)


def test_traits_of_odd_files(tmp_path):
    Image.new("P", (4, 4)).save(tmp_path / "a.gif")
    assert file_traits(tmp_path / "a.gif")["color mode"] == "P"
    assert file_traits(tmp_path / "a.gif")["JPEG quantization"] == "none"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        damaged = tmp_path / "b.jpg"
        Image.new("RGB", (8, 8)).save(damaged, exif=b"Exif\0\0MM\0*\0\0\xff\xff")
        assert file_traits(damaged)["EXIF data"] in ("none", "damaged")


def test_saved(patches, tmp_path):
    write(tmp_path / "A_real", patches[:12], "{}.png")
    write(tmp_path / "B_fake", patches[:12], "{}.jpg")
    found = called(tmp_path, 6, 2, 4)
    assert found.save(tmp_path / "c.png").stat().st_size > 1000
    lines = found.save(tmp_path / "c.csv").read_text().splitlines()
    assert lines[0] == "trait,kind,accuracy,low,high,chance,flagged,values" and len(lines) == 12
