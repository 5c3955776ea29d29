"""Files of a run that were cut off, as after a crash of the machine: noticed, named, and done again."""

import importlib

import numpy as np
import pytest

import pellucid
from pellucid import runfolder
from pellucid.files.images import write_image
from pellucid.jobs.explain import explain
from pellucid.runfolder import DamagedChunk, begin, pending, read, span, write_chunk
from pellucid.shapes import scenes

job = importlib.import_module("pellucid.jobs.explain.job")
CUTS = (0.0, 0.5, 0.99)


def cut(file, share):
    """Keep a share of a file's bytes."""
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * share)])
    assert len(file.read_bytes()) < len(whole)


def work(folder, number):
    items = span(folder, number)
    arrays = {"map": [np.random.default_rng(i).random((3, 4)) for i in items], "score": [float(i) for i in items]}
    write_chunk(folder, number, [{"score": i / 2, "problem": None} for i in items], arrays)


@pytest.fixture(params=[False, True], ids=["even", "ragged"])
def folder(request, tmp_path):
    given = {"verb": "v", "model": {}, "options": {}, "seed": 0, "chunk": 4, "ragged": request.param}
    with begin(tmp_path / "run", items=[f"{i}.png" for i in range(10)], **given) as folder:
        for number in pending(folder):
            work(folder, number)
    return folder


def array_file(folder, name, item):
    if folder.manifest["ragged"]:
        return next((folder.path / "arrays" / name / f"{item:08}" / "c").parent.glob("c/0/0")) if name == "map" else (
            folder.path / "arrays" / name / f"{item:08}" / "c"
        )  # fmt: skip
    return folder.path / "arrays" / name / "c" / str(item // 4) / ("0/0" if name == "map" else "")


@pytest.mark.parametrize("share", CUTS)
def test_rows_that_are_cut_off(folder, share):
    file = folder.path / "rows" / "00000001.parquet"
    cut(file, share)
    for reading in (
        lambda: runfolder.rows(folder),
        lambda: list(runfolder.each_row(folder)),
        lambda: runfolder.failures(folder),
        lambda: runfolder.read_chunk(folder, 1),
    ):
        with pytest.raises(
            DamagedChunk, match=r"rows/00000001.parquet is damaged \(.*is done again by the same"
        ) as error:
            reading()
        assert error.value.file == file and error.value.number == 1 and "\n" not in str(error.value)
    assert len(list(runfolder.each_row(folder, [0, 2]))) == 6
    work(folder, 1)
    assert runfolder.rows(folder).num_rows == 10


@pytest.mark.parametrize("share", CUTS)
@pytest.mark.parametrize(("name", "item"), [("map", 0), ("map", 9), ("score", 5)])
def test_arrays_that_are_cut_off(folder, share, name, item):
    before = [runfolder.read_chunk(folder, number)[1] for number in range(3)]
    file = array_file(folder, name, item)
    cut(file, share)
    with pytest.raises(DamagedChunk, match=rf"arrays/{name}/.* is damaged \(.*\): what belongs to it, chunk") as error:
        runfolder.read_chunk(folder, item // 4)
    assert error.value.number == item // 4
    assert file == error.value.file or error.value.file in file.parents
    work(folder, item // 4)
    for number in range(3):
        again = runfolder.read_chunk(folder, number)[1]
        assert all((a == b).all() for n in again for a, b in zip(again[n], before[number][n], strict=True))


def test_a_description_that_is_cut_off(folder):
    cut(folder.path / "arrays" / "map" / "zarr.json", 0.5)
    with pytest.raises(ValueError, match=r"map/zarr.json is damaged .* overwrite this run"):
        runfolder.read_chunk(folder, 0)


def test_what_the_system_refuses_is_no_damage(folder, monkeypatch):
    from pyarrow import parquet

    def refused(*_arguments):
        raise PermissionError(13, "Permission denied", "x")

    monkeypatch.setattr(parquet, "ParquetFile", refused)
    with pytest.raises(PermissionError):
        runfolder.rows(folder)


# the main job


@pytest.fixture
def finished(tmp_path):
    """A finished page of ten images in two chunks, and its numbers."""
    (tmp_path / "photos").mkdir()
    for i, image in enumerate(scenes(10).images):
        write_image(image, tmp_path / "photos" / f"{i}.png")
    with pellucid.settings(progress=False):
        yield lambda **more: explain(pellucid.load("shapes"), tmp_path / "photos", output=tmp_path / "page.html",
                                     methods=["saliency", "grad_cam"], **more)  # fmt: skip


FILES = ("rows/00000001.parquet", "arrays/saliency/c/1/0/0/0", "arrays/image/c/0/0/0/0")


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("format", ["html", "npz"])
def test_the_job_does_it_again(finished, tmp_path, name, format):
    run = finished().folder
    before = [runfolder.read_chunk(run, number) for number in range(2)]
    cut(run.path / name, 0.6)
    said = []
    if format == "npz":
        again = explain(pellucid.load("shapes"), tmp_path / "photos", output=tmp_path / "maps", format="npz",
                        methods=["saliency", "grad_cam"], run=run.path, on_message=said.append)  # fmt: skip
        assert len(list((tmp_path / "maps").glob("*.npz"))) == 10
    else:
        again = finished(on_message=said.append)
    assert again.images == 10 and again.failures == ()
    count = 8 if "c/0" in name else 2
    assert f"{run.path / name} is damaged: its {count} images are done again" in said
    for number in range(2):
        rows, arrays = runfolder.read_chunk(read(run.path), number)
        assert [row["labels"] for row in rows] == [row["labels"] for row in before[number][0]]
        assert all(np.allclose(a, b) for n in arrays for a, b in zip(arrays[n], before[number][1][n], strict=True))
    said.clear()
    finished(on_message=said.append)
    assert not any("damaged" in line for line in said)


@pytest.mark.slow
def test_several_at_once(finished):
    run = finished().folder
    for name in FILES:
        cut(run.path / name, 0.3)
    said = []
    assert finished(on_message=said.append).images == 10
    assert sum("is damaged" in line for line in said) == 2  # the rows of chunk 1, with which its arrays are new too


@pytest.mark.slow
def test_what_is_damaged_at_once_again_is_not_done_for_ever(finished, monkeypatch):
    run = finished().folder
    real = job.explain_chunk

    def breaking(work, folder, number, **options):
        real(work, folder, number, **options)
        cut(folder.path / "arrays" / "saliency" / "c" / str(number) / "0" / "0" / "0", 0.5)

    cut(run.path / FILES[1], 0.5)
    monkeypatch.setattr(job, "explain_chunk", breaking)
    with pytest.raises(DamagedChunk, match=r"saliency/c/1/0/0/0 is damaged"):
        finished()


def test_arrays_whose_file_is_lost(folder):
    file = array_file(folder, "map", 5)
    file.unlink()
    with pytest.raises(DamagedChunk, match="missing") as found:
        runfolder.read_chunk(folder, 1)
    assert found.value.number == 1
    runfolder.read_chunk(folder, 0)


def test_arrays_of_zeros_are_no_lost_files(tmp_path):
    given = {"verb": "v", "model": {}, "options": {}, "seed": 0, "chunk": 2, "items": ["a", "b", "c"]}
    with begin(tmp_path / "run", **given) as folder:
        write_chunk(folder, 0, [{}, {}], {"count": [np.zeros(3, int), None]})
        write_chunk(folder, 1, [{}], {"count": [None]})
    first, second = runfolder.read_chunk(folder, 0)[1]["count"]
    assert first.tolist() == [0, 0, 0] and second is None
    assert runfolder.read_chunk(folder, 1)[1] == {"count": [None]}
