"""Run folders: nothing lost or doubled, whatever happens in between."""

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import pellucid
from pellucid import runfolder
from pellucid.runfolder import FolderInUse, OtherRun, begin, failures, finished, pending, read, span, write_chunk

ITEMS = [f"photos/{i}.jpg" for i in range(10)]


def settings(**changes):
    given = {"verb": "double", "model": {"name": "net", "weights": "0" * 64}, "items": ITEMS}
    given |= {"options": {"method": {"samples": 25}}, "seed": 0, "chunk": 4}
    return given | changes


def work(folder, number):
    """What any engine would call."""
    items = span(folder, number)
    values = [np.full((2, 3), i, np.float32) for i in items]
    rows = [{"file": folder.items[i], "score": i / 2, "labels": ["a"] * (i % 3)} for i in items]
    write_chunk(folder, number, rows, {"double": values})


def run_all(path, **changes):
    with begin(path, **settings(**changes)) as folder:
        for number in pending(folder):
            work(folder, number)
    return read(path)


def test_what_is_written_is_read_back(tmp_path):
    folder = run_all(tmp_path / "run")
    assert finished(folder) == [0, 1, 2] and pending(folder) == []
    table = runfolder.rows(folder)
    assert table["item"].to_pylist() == list(range(10))
    assert table["file"].to_pylist() == ITEMS
    assert table["labels"].to_pylist()[:3] == [[], ["a"], ["a", "a"]]
    array = runfolder.arrays(folder)["double"]
    assert array.shape == (10, 2, 3) and array.chunks == (4, 2, 3) and array.dtype == np.float32
    assert array.metadata.zarr_format == 3 and array.shards is None
    assert (array[:] == np.arange(10)[:, None, None]).all()
    rows, arrays = runfolder.read_chunk(folder, 2)
    assert [row["item"] for row in rows] == [8, 9]
    assert [value[0, 0] for value in arrays["double"]] == [8, 9]


def test_the_manifest_is_small_and_says_what_was_asked(tmp_path):
    folder = run_all(tmp_path / "run", items=[f"{i}.jpg" for i in range(5000)], chunk=5000)
    text = (folder.path / "manifest.json").read_text()
    manifest = json.loads(text)
    assert len(text) < 1000
    assert manifest["model"]["weights"] == "0" * 64 and manifest["options"] == {"method": {"samples": 25}}
    assert manifest["items"]["count"] == 5000 and manifest["seed"] == 0 and manifest["pellucid"] == pellucid.__version__
    assert "1 of 1 chunks" in repr(folder)


def test_a_run_goes_on_where_it_was(tmp_path):
    path = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt), begin(path, **settings()) as folder:
        work(folder, 1)
        raise KeyboardInterrupt
    with begin(path, **settings(chunk=99)) as folder:  # the size of a chunk is the folder's own
        assert pending(folder) == [0, 2]
        work(folder, 0)
        work(folder, 0)
        work(folder, 2)
    assert runfolder.rows(read(path))["item"].to_pylist() == list(range(10))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": {"name": "net", "weights": "1" * 64}}, "model.weights was 000000000000..., is now 111111111111..."),
        ({"model": {"name": "other", "weights": "0" * 64}}, "model.name was net, is now other"),
        ({"options": {"method": {"samples": 50}}}, "options.method.samples was 25, is now 50"),
        ({"options": {}}, "options.method.samples was 25, is now absent"),
        ({"seed": 1}, "seed was 0, is now 1"),
        ({"verb": "triple"}, "verb was double, is now triple"),
        ({"ragged": True}, "ragged was False, is now True"),
        ({"items": [*ITEMS, "new.jpg"]}, "1 items more, such as 'new.jpg'"),
        ({"items": ["new.jpg", *ITEMS[2:]]}, "2 items fewer, such as 'photos/0.jpg' and 1 items more"),
        ({"items": ITEMS[::-1]}, "the items are the same, in another order"),
    ],
)
def test_another_run_is_not_mixed_in(tmp_path, changes, said):
    path = tmp_path / "run"
    run_all(path)
    with pytest.raises(OtherRun) as error, begin(path, **settings(**changes)):
        pass
    assert said in str(error.value) and "overwrite" in str(error.value) and "finished run" in str(error.value)
    assert error.value.finished
    assert pending(read(path)) == []
    with begin(path, **settings(**changes), overwrite=True) as folder:
        assert len(pending(folder)) == folder.chunks
        assert runfolder.arrays(folder) == {}


def test_overwrite_begins_anew_even_with_the_same_settings(tmp_path):
    run_all(tmp_path / "run")
    with begin(tmp_path / "run", **settings(), overwrite=True) as folder:
        assert pending(folder) == [0, 1, 2]


def test_an_unfinished_run_says_how_far_it_is(tmp_path):
    with begin(tmp_path / "run", **settings()) as folder:
        work(folder, 0)
    with (
        pytest.raises(OtherRun, match="a run that is 33 % finished") as error,
        begin(tmp_path / "run", **settings(seed=1)),
    ):
        pass
    assert not error.value.finished


def test_a_run_of_which_nothing_is_finished_makes_room(tmp_path):
    path = tmp_path / "run"
    with begin(path, **settings()):
        pass
    with begin(path, **settings(seed=1, items=ITEMS[:6])) as folder:
        assert folder.manifest["seed"] == 1 and folder.items == tuple(ITEMS[:6]) and pending(folder) == [0, 1]
        with pytest.raises(FolderInUse), begin(path, **settings(seed=2)):
            pass  # not while it is being worked on
        work(folder, 1)
    with (
        pytest.raises(OtherRun, match="50 % finished with other settings: 4 items more"),
        begin(path, **settings(seed=1)),
    ):
        pass
    many = tmp_path / "many"
    with begin(many, **settings(items=[str(i) for i in range(300)], chunk=1)) as folder:
        work(folder, 0)
    with pytest.raises(OtherRun, match="a run that is 1 % finished"), begin(many, **settings()):
        pass  # one of 300 chunks is something


def test_foreign_folders_are_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    for overwrite in (False, True):
        with (
            pytest.raises(FileExistsError, match=r"not a run folder and holds 'thesis.tex'"),
            begin(tmp_path, **settings(), overwrite=overwrite),
        ):
            pass
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(OSError, match="is a file, expected a folder"), begin(tmp_path / "thesis.tex", **settings()):
        pass


def test_a_damaged_manifest_is_told(tmp_path):
    path = tmp_path / "run"
    run_all(path)
    (path / "manifest.json").write_text('{"format": 1')
    with pytest.raises(ValueError, match=r"manifest.json is damaged"):
        read(path)
    with pytest.raises(ValueError, match=r"manifest.json is damaged"), begin(path, **settings()):
        pass
    with begin(path, **settings(), overwrite=True) as folder:
        assert pending(folder) == [0, 1, 2]


def test_reading_what_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="not a run folder"):
        read(tmp_path)
    with begin(tmp_path / "run", **settings()) as folder:
        assert runfolder.rows(folder).num_rows == 0 and runfolder.arrays(folder) == {} and failures(folder) == []
        with pytest.raises(FileNotFoundError, match=r"chunk 0 of .* is not finished"):
            runfolder.read_chunk(folder, 0)
        with pytest.raises(IndexError, match=r"there is no chunk 3: .* has 3"):
            span(folder, 3)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"items": []}, "at least one item"),
        ({"items": ["a", "b", "a"]}, "'a' occurs twice"),
        ({"chunk": 0}, "chunk is 0"),
        ({"chunk": 2.5}, "chunk is 2.5"),
    ],
)
def test_senseless_settings(tmp_path, changes, said):
    with pytest.raises(ValueError, match=said), begin(tmp_path / "run", **settings(**changes)):
        pass
    assert not (tmp_path / "run").exists()


def test_failures_and_missing_arrays(tmp_path):
    with begin(tmp_path / "run", **settings()) as folder:
        rows = [{"problem": None, "label": "x"}] * 3 + [{"problem": "is damaged"}]
        values = [np.ones(2, np.float32)] * 3 + [None]
        write_chunk(folder, 0, rows, {"values": values, "counts": [np.int64(3), None, None, None]})
        write_chunk(folder, 1, [{"problem": "cannot be read"}] * 4)
        write_chunk(folder, 2, [{"score": 1.5, "names": []}] * 2, {"values": values[:2]})
    assert failures(folder) == [(ITEMS[i], "is damaged" if i == 3 else "cannot be read") for i in range(3, 8)]
    table = runfolder.rows(folder)
    assert table["label"].to_pylist() == ["x"] * 3 + [None] * 7
    assert table["score"].to_pylist() == [None] * 8 + [1.5] * 2
    stored = runfolder.arrays(folder)
    assert np.isnan(stored["values"][:]).all(1).tolist() == [False] * 3 + [True] * 5 + [False] * 2
    assert stored["counts"][:].tolist() == [3] + [0] * 9


def test_a_chunk_that_is_done_again_leaves_nothing_of_the_old(tmp_path):
    folder = run_all(tmp_path / "run")
    runfolder.forget(folder, [1])
    assert pending(folder) == [1]
    write_chunk(folder, 1, [{"problem": "is gone"}] * 4)
    values = runfolder.arrays(folder)["double"][:]
    assert np.isnan(values[4:8]).all() and np.isfinite(values[[0, 1, 2, 3, 8, 9]]).all()


def test_ragged_arrays(tmp_path):
    with begin(tmp_path / "run", **settings(ragged=True)) as folder:
        shapes = [(1, 4, 6), (3, 2, 2), None, ()]
        values = [None if s is None else np.random.default_rng(0).random(s, np.float32) for s in shapes]
        write_chunk(folder, 0, [{}] * 4, {"map": values})
        for _ in range(2):
            back = runfolder.read_chunk(folder, 0)[1]["map"]
            assert [None if v is None else v.shape for v in back] == shapes
            assert all(v is None or (v == w).all() for v, w in zip(back, values, strict=True))
            write_chunk(folder, 0, [{}] * 4, {"map": values})
        write_chunk(folder, 0, [{}] * 4)
        assert runfolder.read_chunk(folder, 0)[1]["map"] == [None] * 4


def test_wrong_rows_and_arrays_are_refused(tmp_path):
    with begin(tmp_path / "run", **settings()) as folder:
        with pytest.raises(ValueError, match="chunk 0 has 4 items, got 3 of rows"):
            write_chunk(folder, 0, [{}] * 3)
        with pytest.raises(ValueError, match="got 1 of map"):
            write_chunk(folder, 0, [{}] * 4, {"map": [np.ones(2)]})
        with pytest.raises(ValueError, match="expected letters, digits"):
            write_chunk(folder, 0, [{}] * 4, {"../map": [np.ones(2)] * 4})
        with pytest.raises(ValueError, match=r"'map' has items of 2 float64, got one of 3 float64.*ragged"):
            write_chunk(folder, 0, [{}] * 4, {"map": [np.ones(2), np.ones(3), None, None]})
        assert pending(folder) == [0, 1, 2]


def test_tensors_and_numbers_are_arrays_too(tmp_path):
    with begin(tmp_path / "run", **settings(chunk=10)) as folder:
        write_chunk(folder, 0, [{}] * 10, {"map": list(torch.rand(10, 2)), "score": [float(i) for i in range(10)]})
    assert runfolder.arrays(folder)["map"].dtype == np.float32
    assert runfolder.arrays(folder)["score"][:].tolist() == list(range(10))


def test_options_may_be_tensors(tmp_path):
    def given(value):
        return settings(options={"background": torch.full((2, 3), value)})

    with begin(tmp_path / "run", **given(0.0)) as folder:
        assert folder.manifest["options"]["background"].startswith("tensor 2 x 3 ")
        work(folder, 0)
    with begin(tmp_path / "run", **given(0.0)):
        pass
    with pytest.raises(OtherRun, match=r"options.background was tensor 2 x 3"), begin(tmp_path / "run", **given(1e-9)):
        pass


def test_names_of_any_kind_survive(tmp_path):
    items = ["grün.jpg", "line\nbreak.png", "\udcff.png", "東京.png", "a'b\"c"]
    with begin(tmp_path / "run", **settings(items=items)) as folder:
        assert read(folder.path).items == tuple(items)
    (folder.path / "items.json").write_text("[]")
    runfolder.folder._items.cache_clear()
    with pytest.raises(ValueError, match=r"items.json is damaged or was changed"):
        read(folder.path).items  # noqa: B018


# two runs, and runs that die


def child(code, *arguments, **options):
    body = "import os, sys, time\nimport numpy as np\nfrom pellucid import runfolder\n" + textwrap.dedent(code)
    environment = os.environ | {"PYTHONPATH": str(Path(runfolder.__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", body, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=environment, **options,
    )  # fmt: skip


HOLD = """
with runfolder.begin(sys.argv[1], verb="v", model={}, items=["a", "b"], options={}, seed=0, chunk=1):
    print("in", flush=True)
    time.sleep(60)
"""


@pytest.mark.slow
def test_two_runs_are_kept_apart_and_a_killed_one_leaves_no_lock(tmp_path):
    path = tmp_path / "run"
    given = {"verb": "v", "model": {}, "items": ["a", "b"], "options": {}, "seed": 0, "chunk": 1}
    process = child(HOLD, path)
    try:
        assert process.stdout.readline() == "in\n"
        for overwrite in (False, True):
            with (
                pytest.raises(FolderInUse, match=rf"in use by process {process.pid}, since 20.*wait for it"),
                begin(path, **given, overwrite=overwrite),
            ):
                pass
        assert pending(read(path)) == [0, 1]  # reading needs no lock
    finally:
        process.kill()
        process.communicate()
    with (
        begin(path, **given) as folder,
        pytest.raises(FolderInUse, match=f"process {os.getpid()}"),
        begin(path, **given),
    ):
        pass
    with begin(path, **given):
        assert folder.chunks == 2


BUSY = """
def work(folder, number):
    items = runfolder.span(folder, number)
    maps = [np.random.default_rng(i).random((3, 64, 64), np.float32) for i in items]
    marks = [np.random.default_rng(i).random((64, 64), np.float32) for i in items]
    runfolder.write_chunk(folder, number, [{"file": folder.items[i], "mean": float(m.mean())} for i, m in
        zip(items, maps)], {"maps": maps, "marks": marks})

items = [f"{i}.png" for i in range(160)]
with runfolder.begin(sys.argv[1], verb="v", model={}, items=items, options={}, seed=0, chunk=4) as folder:
    for number in runfolder.pending(folder):
        work(folder, number)
        print(number, flush=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_killed_again_and_again_it_ends_as_if_never_interrupted(tmp_path):
    broken, smooth = tmp_path / "broken", tmp_path / "smooth"
    kills, done = 0, []
    while True:
        process = child(BUSY, broken)
        seen = []
        for line in process.stdout:
            seen.append(int(line))
            if len(seen) == 9 + kills and kills < 2:
                time.sleep(0.001 * kills)  # in the midst of the next chunk, at another place each time
                process.send_signal(signal.SIGKILL)
                break
        rest = process.communicate()
        done += seen + [int(n) for n in rest[0].split()]
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, rest
        kills += 1
        folder = read(broken)
        for number in finished(folder):  # every chunk that counts as finished is whole
            rows, arrays = runfolder.read_chunk(folder, number)
            assert len(rows) == 4 and np.isfinite(arrays["maps"]).all() and np.isfinite(arrays["marks"]).all()
    assert kills == 2
    assert set(range(40)) >= set(done) and len(done) == len(set(done))  # nothing that was told is done twice
    assert child(BUSY, smooth).communicate()[1] == ""
    assert files(broken) == files(smooth)


def files(path):
    """All bytes of a folder, apart from the text of the lock."""
    return {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file() and p.name != "lock"}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="resource limits")
def test_a_full_disk_keeps_what_was_finished(tmp_path):
    """A limit on the size of files stands for the disk; the array of chunk 1 does not fit."""
    code = """
    import resource
    items = [f"{i}.png" for i in range(4)]
    with runfolder.begin(sys.argv[1], verb="v", model={}, items=items, options={}, seed=0, chunk=2) as folder:
        for number in runfolder.pending(folder):
            size = len(sys.argv) > 2 and number and 20000
            if size:
                resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
            noise = np.random.default_rng(number).random((2, 100, 100))
            runfolder.write_chunk(folder, number, [{"mean": 1.0}] * 2, {"noise": list(noise)})
    """
    process = child(code, tmp_path / "run", "full")
    error = process.communicate()[1]
    assert process.returncode == 1
    assert re.search(r"OSError: cannot write chunk 1 into .*run: File too large\. What was finished stays", error), (
        error
    )
    assert finished(read(tmp_path / "run")) == [0]
    assert child(code, tmp_path / "run").communicate()[1] == ""
    assert finished(read(tmp_path / "run")) == [0, 1]
    assert not [name for name in files(tmp_path / "run") if "partial" in name or "/." in name]


def test_rows_that_do_not_fit_are_told_the_same_way(tmp_path, monkeypatch):
    def full(*_arguments, **_options):
        raise OSError(28, "No space left on device")

    with begin(tmp_path / "run", **settings()) as folder:
        work(folder, 0)
        monkeypatch.setattr("pyarrow.parquet.write_table", full)
        with pytest.raises(OSError, match=r"cannot write chunk 1 .*No space left on device\. What was finished stays"):
            work(folder, 1)
    assert finished(folder) == [0]
    assert [p.name for p in (folder.path / "rows").iterdir()] == ["00000000.parquet"]


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="cannot make the run folder"), begin(tmp_path / "file" / "run", **settings()):
        pass


def test_leftovers_of_a_killed_run_are_swept(tmp_path):
    folder = run_all(tmp_path / "run")
    before = files(folder.path)
    (folder.path / "rows" / ".00000001-abc.parquet").touch()
    (folder.path / "arrays" / "double" / "c" / "0" / "0" / "0.123.partial").touch()
    with begin(folder.path, **settings()) as folder:
        assert pending(folder) == []
    assert files(folder.path) == before


@pytest.mark.slow
def test_workers_may_begin_an_array_at_the_same_time(tmp_path):
    code = """
    folder = runfolder.read(sys.argv[1])
    sys.stdin.readline()
    for number in map(int, sys.argv[2:]):
        items = runfolder.span(folder, number)
        runfolder.write_chunk(folder, number, [{}] * len(items), {"a": [np.full(5, i, np.int32) for i in items]})
    """
    with begin(tmp_path / "run", **settings()) as folder:
        workers = [child(code, folder.path, *numbers, stdin=subprocess.PIPE) for numbers in ((0, 2), (1,))]
        for worker in workers:
            assert worker.communicate("go\n")[1] == ""
    assert pending(folder) == []
    assert (runfolder.arrays(folder)["a"][:] == np.arange(10)[:, None]).all()


# what a model is


def test_the_weights_hash_sees_every_weight_and_name():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()
    first = runfolder.weights_hash(net)
    assert first == runfolder.weights_hash(pellucid.wrap(net, mean=0.5, std=0.5)) and len(first) == 64
    seen = {first}
    with torch.no_grad():
        for tensor in net.state_dict().values():
            tensor.view(-1)[-1:] += 1
            seen.add(runfolder.weights_hash(net))
    assert len(seen) == 1 + len(net.state_dict())
    renamed = nn.Sequential()
    renamed.add_module("first", net[0])
    assert runfolder.weights_hash(renamed) != runfolder.weights_hash(nn.Sequential(net[0]))
    assert runfolder.weights_hash(lambda x: x) == ""


@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16, torch.float16])
def test_the_weights_hash_takes_all_types(kind):
    net = nn.Linear(3, 2).to(kind)
    assert runfolder.weights_hash(net) == runfolder.weights_hash(net)
    assert runfolder.weights_hash(net) != runfolder.weights_hash(nn.Linear(3, 2))


def test_a_model_is_described_by_all_that_belongs_to_it():
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 2)).eval()
    one = runfolder.describe_model(pellucid.wrap(net, size=2, labels=["a", "b"], name="mine"))
    assert one["name"] == "mine" and one["kind"].endswith("Sequential") and one["preprocessing"]["size"] == (2, 2)
    for changes in ({"mean": 0.5}, {"labels": ["a", "c"]}, {"name": "yours"}):
        assert one != runfolder.describe_model(
            pellucid.wrap(net, **{"size": 2, "labels": ["a", "b"], "name": "mine"} | changes)
        )


def test_an_option_that_is_none_is_not_one_that_is_absent(tmp_path):
    settings = {"verb": "v", "model": {}, "items": ["a"], "seed": 0}
    with begin(tmp_path / "run", options={"a": {"x": 1}}, **settings) as folder:
        write_chunk(folder, 0, [{"file": "a"}])
    for options in ({"a": {"x": 1}, "b": {"layer": None}}, {"a": {"x": 1}, "b": {}}):
        with pytest.raises(OtherRun, match="b"), begin(tmp_path / "run", options=options, **settings):
            pass
