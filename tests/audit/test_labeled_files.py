"""Folders of real and fake images: classes by letter, and splits that depend on names alone."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.audit import halves, labeled_files, split
from pellucid.audit.image_files.file_classes import LabeledFiles


def make(root, **counts):
    for name, count in counts.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            (root / name / f"{number}.png").touch()
    return root


def test_letters_are_classes(tmp_path):
    root = make(tmp_path, A_photos=3, A_more=1, B_gan=2, C_diffusion=4)
    binary = labeled_files(root)
    assert repr(binary) == "LabeledFiles(4 real, 6 fake)"
    assert binary.origins == ("A_more", *["A_photos"] * 3, *["B_gan"] * 2, *["C_diffusion"] * 4)
    each = labeled_files(root, classes="folders")
    assert each.classes == ("A", "B_gan", "C_diffusion") and each.labels == (0,) * 4 + (1,) * 2 + (2,) * 4


def test_folders_by_order(tmp_path):
    root = make(tmp_path, one=2, two=3, three=1)
    found = labeled_files(root / "two", root / "one", root / "three")
    assert found.labels == (0, 0, 0, 1, 1, 1) and found.classes == ("real", "fake")
    assert labeled_files(root / "two", root / "one", classes="folders").classes == ("two", "one")


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ({"A_photos": 2}, "no folder of fake images"),
        ({"B_gan": 2, "C_gan": 1}, "no folder of real images"),
        ({"photos": 2, "B_gan": 1}, "cannot be told by their names \\(photos\\)"),
        ({"": 2}, "holds images of no class \\(0.png, 2 in all\\)"),
        ({"A_photos": 2, "B_gan": 0}, "holds no image"),
    ],
)
def test_what_is_missing_is_said(tmp_path, counts, said):
    with pytest.raises(ValueError, match=said):
        labeled_files(make(tmp_path, **counts))


def test_places_that_make_no_sense(tmp_path):
    root = make(tmp_path, A_photos=2, B_gan=2)
    with pytest.raises(ValueError, match="lies in"):
        labeled_files(root, root / "B_gan")
    with pytest.raises(ValueError, match="is the same"):
        labeled_files(root / "B_gan", root / "B_gan")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        labeled_files(root / "nothing")
    with pytest.raises(ValueError, match="is a file"):
        labeled_files(root / "A_photos" / "0.png", root / "B_gan")
    with pytest.raises(ValueError, match="expected 'binary'"):
        labeled_files(root, classes="each")


@settings(max_examples=25)
@given(
    counts=st.lists(st.integers(6, 30), min_size=2, max_size=4),
    sizes=st.tuples(*[st.integers(1, 2)] * 3),
    seed=st.integers(0, 5),
)
def test_splits(counts, sizes, seed):
    names = [chr(65 + i) for i in range(len(counts))]
    pairs = [(f"{name}/{i}", name) for name, count in zip(names, counts, strict=True) for i in range(count)]
    files = LabeledFiles(
        tuple(Path(file) for file, _ in pairs), tuple(int(o != "A") for _, o in pairs), ("real", "fake"),
        tuple(o for _, o in pairs),
    )  # fmt: skip
    parts = split(files, *sizes, seed=seed)
    for part, size in zip((parts.train, parts.validation, parts.test), sizes, strict=True):
        assert {name: part.origins.count(name) for name in names} == dict.fromkeys(names, size)
    chosen = parts.train.files + parts.validation.files + parts.test.files
    assert len(set(chosen)) == len(chosen) == sum(sizes) * len(names)
    assert split(files, *sizes, seed=seed) == parts
    # A generator more changes nothing for the others.
    fewer = split(files.rows([i for i, o in enumerate(files.origins) if o in "AB"]), *sizes, seed=seed)
    assert fewer.test.files == tuple(f for f in parts.test.files if str(f)[0] in "AB")


def test_the_seed_counts(tmp_path):
    root = make(tmp_path, A_photos=20, B_gan=20)
    assert split(root, 10, 5, 5).test != split(root, 10, 5, 5, seed=1).test
    usual = split(root)
    assert [len(part) for part in (usual.train, usual.validation, usual.test)] == [28, 4, 8]


def test_the_same_picture_in_two_forms_stays_in_one_set(tmp_path):
    root = make(tmp_path, A_png=30, B_jpeg=30)
    for file in (root / "B_jpeg").iterdir():
        file.rename(file.with_suffix(".jpg"))
    parts = split(root, 15, 5, 10, seed=3)
    for part in (parts.train, parts.validation, parts.test):
        assert [f.stem for f in part.of(0).files] == [f.stem for f in part.of(1).files]


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ((18, 2, 1), "A_photos has 20 images, too few for 18 to train"),
        ((0, 1, 1), "train is 0"),
        ((5, None, 1), "all three numbers"),
    ],
)
def test_sizes_that_do_not_fit(tmp_path, sizes, said):
    with pytest.raises(ValueError, match=said):
        split(make(tmp_path, A_photos=20, B_gan=30), *sizes)


def test_one_image_is_too_few(tmp_path):
    with pytest.raises(ValueError, match="a folder has 1 image: training, validation and test need one each"):
        split(make(tmp_path, A_photos=1, B_gan=9))


def test_halves(tmp_path):
    real = labeled_files(make(tmp_path, A_photos=21, B_gan=2)).of(0)
    cut = halves(real, seed=4)
    assert cut.labels.count(0) == cut.labels.count(1) == 10 and set(cut.files) < set(real.files)
    assert cut == halves(real, seed=4) != halves(real, seed=5)
    with pytest.raises(ValueError, match="there are 1 files"):
        halves(real.rows([0]))
