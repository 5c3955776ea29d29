"""Vectors of layers: against plain passes, in memory and in run folders, with all that can be wrong with files."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
import weakref
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import pellucid
from pellucid import runfolder
from pellucid.checks import UnknownName
from pellucid.files.images import write_image
from pellucid.model.run import counted, run
from pellucid.representation import Measure, features_of, relevance_maps, sweep, top_activations, vectors
from pellucid.representation.features import last_layer
from pellucid.runfolder import FolderInUse, OtherRun

from ..nets import LABELS, small_model, small_net, some_images


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Seven images in two folders, of which one is called like a class of the model; and a damaged one."""
    folder = tmp_path / "photos"
    for place, name in enumerate(["koala/1.png", "koala/2.png", "koala/10.png", "deer/1.png", "deer/2.png", "3.png"]):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_image(some_images(1, place, torch.float32)[0], folder / name)
    (folder / "broken.png").write_bytes(b"no image")
    return folder


def small_chunks(monkeypatch, images: int = 2) -> None:
    monkeypatch.setattr(import_module("pellucid.representation.sweeps.sweep"), "CHUNK_BYTES", images * 3 * 12 * 12 * 4)


def test_means_over_places_are_those_of_a_plain_pass():
    model, images = small_model(), some_images(5)
    found = pellucid.features(model, images, ["conv2", "pool2", "fc"])
    with torch.no_grad():
        trace = run(model, images, read=["conv2", "pool2", "fc"])
    torch.testing.assert_close(found["conv2"].values, trace.activations["conv2"].mean((2, 3)), rtol=1e-12, atol=0)
    assert torch.equal(found["pool2"].values, trace.activations["pool2"].flatten(1))
    assert torch.equal(found["fc"].values, trace.output)
    assert torch.equal(found.predictions, trace.output.argmax(1))
    torch.testing.assert_close(found.scores, trace.output.float().softmax(1).amax(1))
    assert found.layers == ("conv2", "pool2", "fc") and found["conv2"].shape == (5, 5) and len(found) == 5


@pytest.mark.parametrize(
    ("places", "expected"),
    [("max", lambda a: a.amax((2, 3))), ("flatten", lambda a: a.flatten(1)), ("mean", lambda a: a.mean((2, 3)))],
)
def test_what_becomes_of_places(places, expected):
    model, images = small_model(), some_images()
    with torch.no_grad():
        activation = run(model, images, read=["conv1"]).activations["conv1"]
    found = pellucid.features(model, images, "conv1", pooling=places).values
    torch.testing.assert_close(found, expected(activation), rtol=1e-12, atol=0)


def test_tokens_of_a_transformer():
    torchvision = pytest.importorskip("torchvision")
    torch.manual_seed(0)
    net = torchvision.models.VisionTransformer(16, 4, 2, 2, 8, 16, num_classes=3).eval()
    images = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        tokens = run(net, images, read=["encoder"]).activations["encoder"]
    mean = pellucid.features(net, images, "encoder").values
    torch.testing.assert_close(mean, tokens[:, 1:].mean(1))
    assert torch.equal(pellucid.features(net, images, "encoder", pooling="token").values, tokens[:, 0])
    with pytest.raises(ValueError, match="which are no tokens"):
        pellucid.features(net, images, "conv_proj", pooling="token")


def test_pixels_are_a_layer_too():
    model = small_model(dtype=torch.float32)
    images = torch.rand(2, 3, 12, 12)
    assert torch.equal(pellucid.features(model, images, "pixels").values, images.flatten(1))
    large = pellucid.features(pellucid.wrap(small_net(), size=64), torch.rand(1, 3, 64, 64), "pixels")
    assert large.shape == (1, 3 * 32 * 32)


def test_the_default_layer_is_what_the_last_one_looks_at():
    assert last_layer(small_model()) == "flatten"
    assert pellucid.features(small_model(), some_images()).layers == ("flatten",)
    assert (
        last_layer(nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.Conv2d(2, 2, 1)).eval(), torch.rand(1, 3, 4, 4))
        == "1"
    )


@pytest.mark.parametrize("setting", [{"batch_size": 1}, {"batch_size": 3}, {"memory": 20_000}])
def test_the_batch_size_does_not_matter(setting):
    model, images = small_model(), some_images(7)
    expected = pellucid.features(model, images, ["conv1", "fc"])
    with pellucid.settings(**setting):
        found = pellucid.features(model, images, ["conv1", "fc"])
    for layer in expected.layers:
        torch.testing.assert_close(found[layer].values, expected[layer].values, rtol=1e-12, atol=1e-14)


def test_one_forward_for_all_layers_and_none_beyond_the_last():
    seen: list[str] = []
    model = small_model()
    model.net.fc.register_forward_hook(lambda *_: seen.append("fc"))
    with counted() as passes:
        pellucid.features(model, some_images(6), ["conv1", "conv2"], predict=False)
    assert passes.forward == 6 and passes.backward == 0 and not seen
    assert (pellucid.features(model, some_images(2), "conv1", predict=False).predictions == -1).all()


def test_files_have_names_labels_and_predictions(photos):
    model = small_model()
    found = pellucid.features(model, photos, "conv2")
    assert found.names == ("3.png", "deer/1.png", "deer/2.png", "koala/1.png", "koala/2.png", "koala/10.png")
    assert found.classes == (*LABELS, "deer")
    assert [found.label(i) for i in range(6)] == ["", "deer", "deer", "koala", "koala", "koala"]
    assert found.failures[0][0] == "broken.png" and "not an image" in found.failures[0][1]
    images = torch.stack([model.read_one(file) for file in found.files])
    assert torch.equal(found.values, pellucid.features(model, images, "conv2").values)
    assert torch.equal(found.predictions, model.predict(images, k=1).classes[:, 0])
    assert torch.equal(found.thumbnails([2])[0], images[2])


def test_labels_from_tables_and_tensors(photos, tmp_path):
    model = small_model()
    table = tmp_path / "truth.csv"
    table.write_text("file,label\nkoala/1.png,castle\ndeer/1.png,stag\n3.png,1\n")
    found = pellucid.features(model, photos, "fc", labels=table)
    assert [found.label(i) for i in range(6)] == ["koala", "stag", "", "castle", "", ""]
    assert pellucid.features(model, photos, "fc", labels=None).labels.tolist() == [-1] * 6
    of_tensor = pellucid.features(model, some_images(3), "fc", labels=[2, "stag", -1])
    assert [of_tensor.label(i) for i in range(3)] == ["lamp post", "stag", ""]
    with pytest.raises(ValueError, match="got 2 true classes for 3 images"):
        pellucid.features(model, some_images(3), "fc", labels=[0, 1])


def test_a_run_folder_gives_the_same_and_is_reused(photos, tmp_path, monkeypatch):
    small_chunks(monkeypatch)
    model, place = small_model(), tmp_path / "run"
    expected = pellucid.features(model, photos, ["conv1", "relu2"])
    said: list[str] = []
    first = pellucid.features(model, photos, ["conv1", "relu2"], folder=place)
    with counted() as passes:
        again = pellucid.features(model, photos, ["conv1", "relu2"], folder=place, on_message=said.append)
    assert passes.forward == 0 and "4 of 4 chunks are finished" in said[0]
    for found in (first, again):
        assert found.names == expected.names and found.failures == expected.failures and found.folder == place
        assert torch.equal(found.labels, expected.labels) and torch.equal(found.predictions, expected.predictions)
        torch.testing.assert_close(found.scores, expected.scores)
        for layer in expected.layers:
            assert torch.equal(found[layer].values, expected[layer].values)
            assert found[layer].shape == expected[layer].shape
            assert torch.equal(torch.cat(list(found[layer].blocks())), expected[layer].values)


def test_an_early_layer_is_not_read_before_it_is_asked_for(photos, tmp_path, monkeypatch):
    found = pellucid.features(small_model(), photos, ["conv1", "fc"], folder=tmp_path / "run")
    monkeypatch.setattr(runfolder, "blocks", lambda *_: pytest.fail("it was read"))
    assert found["conv1"].shape == (6, 4) and "conv1: 6 x 4" in repr(found)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda: {"model": small_model(seed=5)}, "model.weights was"),
        (lambda: {"layers": "conv1"}, "options.measures was"),
        (lambda: {"pooling": "max"}, "options.measures was"),
        (lambda: {"labels": None}, "options.labels was"),
    ],
)
def test_a_folder_of_another_run_is_refused(photos, tmp_path, change, words):
    given = {"model": small_model(), "images": photos, "layers": "conv2", "folder": tmp_path / "run"}
    expected = pellucid.features(**given).values
    with pytest.raises(OtherRun, match=words):
        pellucid.features(**{**given, **change()})
    assert torch.equal(pellucid.features(**given).values, expected)  # nothing was lost
    assert pellucid.features(**{**given, **change()}, overwrite=True).folder == tmp_path / "run"


def test_another_tensor_is_another_run(tmp_path):
    pellucid.features(small_model(), some_images(3, 1), "fc", folder=tmp_path / "run")
    with pytest.raises(OtherRun, match=r"options\.images was"):
        pellucid.features(small_model(), some_images(3, 2), "fc", folder=tmp_path / "run")


def test_a_file_that_changed_or_was_mended_is_done_again(photos, tmp_path, monkeypatch):
    small_chunks(monkeypatch, 1)
    model, place = small_model(), tmp_path / "run"
    before = pellucid.features(model, photos, "conv2", folder=place)
    write_image(some_images(1, 77, torch.float32)[0], photos / "koala/1.png")
    write_image(some_images(1, 78, torch.float32)[0], photos / "broken.png")
    said: list[str] = []
    with counted() as passes:
        after = pellucid.features(model, photos, "conv2", folder=place, on_message=said.append)
    assert passes.forward == 2 and "2 files have changed" in said[0]
    assert len(after) == 7 and not after.failures
    same = [name for name in before.names if name != "koala/1.png"]
    for name in same:
        one, other = before.values[before.names.index(name)], after.values[after.names.index(name)]
        assert torch.equal(one, other)
    assert torch.equal(after.values, pellucid.features(model, photos, "conv2").values)


def test_a_file_of_numbers_that_was_lost_is_named_and_done_again(photos, tmp_path, monkeypatch):
    small_chunks(monkeypatch)
    model, place = small_model(), tmp_path / "run"
    expected = pellucid.features(model, photos, "conv2", folder=place).values
    (next((place / "arrays" / "vectors.conv2" / "c" / "1").rglob("*"))).unlink()
    with pytest.raises(runfolder.DamagedChunk, match="chunk 1, is done again by the same command"):
        _ = pellucid.features(model, photos, "conv2", folder=place).values
    assert torch.equal(pellucid.features(model, photos, "conv2", folder=place).values, expected)


KILLED = """
import sys, time, torch, pellucid
from pathlib import Path
from tests.nets import small_model
from pellucid.representation import relevance_maps, sweep, vectors
from importlib import import_module
import_module("pellucid.representation.sweeps.sweep").CHUNK_BYTES = 2 * 3 * 12 * 12 * 4
model = small_model()
read = model.read_one
def slow(path):
    time.sleep(0.05)
    return read(path)
model.read_one = slow
torch.set_num_threads(1)
sweep(model, Path(sys.argv[1]), [vectors("relu1", "relu2"), relevance_maps()], folder=sys.argv[2])
"""


@pytest.mark.slow
def test_nothing_is_lost_or_doubled_by_kill_9(tmp_path, monkeypatch):
    small_chunks(monkeypatch)
    photos, place = tmp_path / "photos", tmp_path / "run"
    photos.mkdir()
    for number in range(24):
        write_image(some_images(1, number, torch.float32)[0], photos / f"{number}.png")
    measures = [vectors("relu1", "relu2"), relevance_maps()]
    expected = sweep(small_model(), photos, measures)
    root = str(Path(__file__).parents[2])
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(photos), str(place)],
        cwd=root, env={**os.environ, "PYTHONPATH": os.pathsep.join([root, *sys.path])},
    )  # fmt: skip
    end = time.monotonic() + 300
    while len(list(place.glob("rows/[0-9]*.parquet"))) < 3 and time.monotonic() < end:
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.005)
    with pytest.raises(FolderInUse):
        sweep(small_model(), photos, measures, folder=place)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = len(list(place.glob("rows/[0-9]*.parquet")))
    assert 3 <= done < 12
    with counted() as passes:
        found = sweep(small_model(), photos, measures, folder=place)
    assert passes.forward == passes.backward == 24 - 2 * done
    assert found.names == expected.names and not found.failures
    for name, values in expected.arrays.items():
        torch.testing.assert_close(found.arrays[name], values, rtol=1e-9, atol=1e-12)


def test_ctrl_c_keeps_what_is_finished(photos, tmp_path, monkeypatch):
    small_chunks(monkeypatch)
    model, place = small_model(), tmp_path / "run"
    calls = 0

    def rows(seen):
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return {"sum": seen.trace.images.sum((1, 2, 3))}

    with pytest.raises(KeyboardInterrupt):
        sweep(model, photos, [Measure("sum of pixels", rows)], folder=place)
    with counted() as passes:
        found = sweep(model, photos, [Measure("sum of pixels", rows)], folder=place)
    assert passes.forward == 3 and len(found) == 6


def test_one_pass_serves_vectors_and_relevance(tmp_path):
    model, images = small_model(), some_images(4)
    with counted() as passes:
        found = sweep(model, images, [vectors("conv1", "relu2"), relevance_maps(), relevance_maps("relu2")])
    assert (passes.forward, passes.backward) == (4, 4)
    expected = pellucid.lrp(model, images, rules="EPSILON_PLUS_FLAT").values.sum(1, keepdim=True)
    torch.testing.assert_close(found.arrays["relevance"], expected, rtol=1e-9, atol=1e-12)
    inner = pellucid.lrp(model, images, rules="EPSILON_PLUS_FLAT", layer="relu2").values.sum(1, keepdim=True)
    torch.testing.assert_close(found.arrays["relevance.relu2"], inner, rtol=1e-9, atol=1e-12)
    seen = features_of(found, ["conv1", "relu2"])
    assert torch.equal(seen["conv1"].values, pellucid.features(model, images, "conv1").values)
    with pytest.raises(UnknownName, match="the sweep has no vectors of 'fc'"):
        features_of(found, ["fc"])


def test_relevance_with_bounds_and_a_class():
    model, images = small_model(), some_images(3)
    rules = {**pellucid.rules.EPSILON_GAMMA_BOX, "first": pellucid.rules.z_box(0.0, 1.0)}
    found = sweep(model, images, [relevance_maps()], objective="koala", rules=rules)
    expected = pellucid.lrp(model, images, "koala", rules=rules).values.sum(1, keepdim=True)
    torch.testing.assert_close(found.arrays["relevance"], expected, rtol=1e-9, atol=1e-12)


def test_rules_that_go_past_a_layer_say_so():
    with pytest.raises(pellucid.RuleError, match="'conv1': a rule joins it to the batch norm behind it"):
        sweep(small_model(), some_images(2), [relevance_maps("conv1")])


def test_a_measure_is_a_pure_function_and_its_mistakes_are_told():
    twice = Measure("twice", lambda seen: {"a": seen.trace.images})
    with pytest.raises(ValueError, match="twice gave 3 rows of 'a' for 3 images, or gave it twice"):
        sweep(small_model(), some_images(3), [twice, twice])
    with pytest.raises(ValueError, match="there is nothing to compute"):
        sweep(small_model(), some_images(3), [])


def test_what_is_taken_of_a_layer_on_the_way_is_what_a_plain_pass_gives():
    net = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(inplace=True), nn.Conv2d(2, 2, 3), nn.Flatten()).double().eval()
    images, sizes = some_images(3), []

    def at(layer, activation, size):
        sizes.append(size)
        return {f"{layer}.least": activation.flatten(1).amin(1)}

    least = Measure("smallest number", at=at, reads=frozenset({"0", "1"}))
    trace = run(net, images, read=["0", "1"])
    beside = Measure("all", lambda seen: {"all": seen.trace.activations["0"]}, reads=frozenset({"0"}))
    for measures in ([least], [least, beside], [least, relevance_maps()]):  # on the way, or after it
        found = sweep(net, images, measures, objective=0)
        for layer, values in trace.activations.items():  # of "0" before the ReLU writes into it
            torch.testing.assert_close(found.arrays[f"{layer}.least"], values.flatten(1).amin(1))
    assert set(sizes) == {(12, 12)} and bool((found.arrays["0.least"] < 0).all())
    assert torch.equal(sweep(net, images, [least, beside]).arrays["all"], trace.activations["0"])


def test_nothing_of_an_activation_is_kept_after_its_layer():
    held, kept = [], []

    class Watch(nn.Module):
        def forward(self, x):
            kept.append(held[-1]() is not None)  # beside what the network itself holds
            return x.mean((2, 3))

    def hold(_module, _inputs, out):
        held.append(weakref.ref(out))

    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 3), Watch(), nn.Linear(2, 2)).eval()
    net[0].register_forward_hook(hold)
    sweep(net, some_images(2, dtype=torch.float32), [vectors("0"), top_activations("0")])
    assert kept == [False]


def test_images_of_different_sizes(tmp_path):
    model = pellucid.wrap(small_net())
    for place, size in enumerate([(12, 12), (12, 16), (20, 12)]):
        write_image(torch.rand(3, *size), tmp_path / f"{place}.png")
    assert pellucid.features(model, tmp_path, "conv2").shape == (3, 5)  # a mean over places has no size
    for folder in (None, tmp_path / "run"):
        with pytest.raises(ValueError, match=r"differ in size: vectors\.conv2 is 240 for 1\.png and 180 for 0\.png"):
            pellucid.features(model, tmp_path, "conv2", pooling="flatten", folder=folder)


def test_nan_in_weights_and_in_one_image(tmp_path):
    model = small_model(dtype=torch.float32)
    with torch.no_grad():
        model.net.conv2.weight[0, 0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match=r"the weight 'conv2\.weight' holds NaN"):
        pellucid.features(model, some_images(2, dtype=torch.float32), "conv2")

    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Identity()

        def forward(self, x):
            return self.inner(x.mean((2, 3)) / (x.amin((1, 2, 3)) > 0.5)[:, None])

    images = torch.rand(3, 3, 4, 4)
    images[1] = 0.75
    found = pellucid.features(Odd().eval(), images, "inner")
    assert found.names == ("1",) and [name for name, _ in found.failures] == ["0", "2"]
    assert "is NaN or infinite for this image" in found.failures[0][1]


def test_a_folder_with_one_image_and_one_without(tmp_path):
    write_image(torch.rand(3, 12, 12), tmp_path / "one.png")
    assert pellucid.features(small_model(), tmp_path, "fc").shape == (1, 3)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no image"):
        pellucid.features(small_model(), tmp_path / "empty", "fc")
    (tmp_path / "one.png").write_bytes(b"gone")
    with pytest.raises(ValueError, match=r"none of 1 images can be used: one\.png: is not an image"):
        pellucid.features(small_model(), tmp_path, "fc")


def test_a_file_that_is_named_twice_counts_once(photos):
    both = [photos / "3.png", photos / "koala", photos / "." / "koala" / "1.png"]
    assert pellucid.features(small_model(), both, "fc").shape == (4, 3)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda m, i: pellucid.features(m, i, "conv9"), UnknownName, "no layer 'conv9'; near it"),
        (lambda m, i: pellucid.features(m, i, []), ValueError, "expected the name of a layer"),
        (lambda m, i: pellucid.features(m, i, "fc", pooling="sum"), ValueError, "pooling is 'sum', expected 'mean'"),
        (lambda m, _: pellucid.features(m, 3, "fc"), TypeError, "images is a int, expected a tensor"),
        (lambda _, __: pellucid.features(small_net(), "photos", "fc"), TypeError, "cannot read files"),
        (lambda m, i: pellucid.features(m, i * 255, "fc"), ValueError, "divide by 255"),
        (lambda m, i: pellucid.features(m, i, "fc", labels={"a": 1}), TypeError, "these images are a tensor"),
        (lambda m, i: pellucid.features(m.train(), i, "fc"), ValueError, "training mode"),
        (lambda m, i: pellucid.features(m, i, ["fc", "conv1"]).values, ValueError, r"pick one, as in features\['fc'\]"),
        (lambda m, i: pellucid.features(m, i, "fc")["conv1"], UnknownName, "no vectors of layer 'conv1'"),
    ],
)
def test_bad_input_is_refused_in_words(call, error, words):
    with pytest.raises(error, match=words):
        call(small_model(), some_images(2))


def test_the_model_is_as_it_was(photos):
    model = small_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    sweep(model, photos, [vectors("conv1"), relevance_maps()])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())
    assert torch.equal(state, torch.get_rng_state())


def test_half_precision_is_kept_as_float32(tmp_path):
    model = small_model(dtype=torch.bfloat16)
    found = pellucid.features(model, some_images(2, dtype=torch.float32), ["conv1", "fc"], folder=tmp_path / "run")
    assert found["conv1"].values.dtype == torch.float32 and found["conv1"].values.isfinite().all()


def test_all_that_it_can_be_saved_as(photos, tmp_path):
    h5py = pytest.importorskip("h5py")
    parquet = pytest.importorskip("pyarrow.parquet")
    found = pellucid.features(small_model(), photos, ["conv1", "fc"], folder=tmp_path / "run")
    with np.load(found.save(tmp_path / "x.npz")) as file:
        assert np.array_equal(file["values.fc"], found["fc"].values.numpy())
        assert list(file["names"]) == list(found.names) and json.loads(str(file["call"]))["method"] == "features"
    with h5py.File(found.save(tmp_path / "x.h5")) as file:
        assert np.array_equal(file["values"]["conv1"][:], found["conv1"].values.numpy())
        assert [name.decode() for name in file["names"][:]] == list(found.names)
        assert np.array_equal(file["labels"][:], found.labels.numpy())
    table = parquet.read_table(found.save(tmp_path / "x.parquet")).to_pylist()
    assert table[1]["name"] == "deer/1.png" and table[1]["label"] == "deer" and len(table[1]["fc"]) == 3
    with found.save(tmp_path / "x.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows[3]["label"] == "koala" and float(rows[3]["fc.2"]) == found["fc"].values[3, 2].item()
    assert found.save(tmp_path / "x.png").stat().st_size > 10_000
    with pytest.raises(ValueError, match=r"cannot save as 'x\.doc'"):
        found.save(tmp_path / "x.doc")


def test_h5py_is_asked_for_in_words(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match="pip install 'pellucid"):
        pellucid.features(small_model(), some_images(2), "fc").save(tmp_path / "x.h5")
