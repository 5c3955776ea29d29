"""What was finished stays: options are tried before anything on disk changes."""

import dataclasses
import importlib

import pytest
import torch
from torch import nn

import pellucid
from pellucid import runfolder
from pellucid.checks import UnknownName
from pellucid.files.images import write_image
from pellucid.methods.registry import CATALOGUE, of_kind
from pellucid.shapes import CLASSES, MEAN, STD, scenes, trained_network

job = importlib.import_module("pellucid.jobs.explain.job")
rehearsal = importlib.import_module("pellucid.jobs.explain.rehearsal")
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
    (tmp_path / "photos").mkdir()
    for i, image in enumerate(scenes(2).images):
        write_image(image, tmp_path / "photos" / f"{i}.png")
    return tmp_path / "photos"


@pytest.fixture
def finished(model, photos, tmp_path):
    """The settings of a finished page in the default place."""
    settings = {"output": tmp_path / "out" / "page.html", "methods": ["occlusion", "grad_cam"]}
    settings |= {"options": {"occlusion": {"window": 48}}}
    explain(model, photos, **settings)
    return settings


def bytes_of(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "kind", "said"),
    [
        ({"options": {"occlusion": {"window": 999}}}, ValueError, "occlusion: the window is 999 x 999, larger than"),
        ({"options": {"occlusion": {"window": 24, "stride": 48}}}, ValueError, "leaves pixels between windows"),
        ({"options": {"occlusion": {"fill": "pink"}}}, ValueError, "occlusion: the baseline is 'pink'"),
        ({"options": {"occlusion": {"window": "wide"}}}, TypeError, r"occlusion: window is 'wide' \(a str\)"),
        ({"options": {"occlusion": {"widow": 5}}}, UnknownName, "occlusion has no option 'widow'"),
        ({"options": {"grad_cam": {"layer": "nowhere"}}}, UnknownName, "grad_cam: there is no layer 'nowhere'"),
        ({"options": {"grad_cam": {"layer": "classifier"}}}, ValueError, "grad_cam: layer 'classifier' gives"),
        ({"options": {"grad_cam": {"reshape": lambda a: a.flatten()}}}, ValueError, "grad_cam: reshape gave"),
        ({"options": {"grad_cam": {"reshape": lambda a: a["x"]}}}, TypeError, "grad_cam: "),
        ({"methods": ["lrp"], "options": {"lrp": {"layer": "flatten"}}}, ValueError, "lrp: the layer.s activation"),
        ({"methods": ["lrp"], "options": {"lrp": {"rules": "GAMA"}}}, UnknownName, "lrp: there is no set of rules"),
        ({"layer": "nowhere"}, UnknownName, "there is no layer 'nowhere'"),
        ({"layer": "classifier"}, ValueError, "grad_cam: layer 'classifier' gives"),
        ({"objective": "stra"}, UnknownName, "no label 'stra'"),
        ({"seed": "a"}, TypeError, r"occlusion: seed is 'a'"),
        ({"methods": ["smoothgrad"], "options": {"smoothgrad": {"samples": 0}}}, ValueError, "samples is 0"),
        ({"methods": ["smoothgrad"], "options": {"smoothgrad": {"sign": "both"}}}, ValueError, "sign is 'both'"),
        ({"methods": ["smoothgrad"], "options": {"smoothgrad": {"samples": 1, "form": "variance"}}}, ValueError,
         "the variance needs at least 2"),
        ({"methods": ["saliency"], "options": {"saliency": {"channels": "some"}}}, ValueError, "channels is 'some'"),
        ({"methods": ["integrated_gradients"], "options": {"integrated_gradients": {"tolerance": -1.0}}}, ValueError,
         "tolerance is -1.0"),
        ({"methods": ["rise"], "options": {"rise": {"keep": 2.0}}}, ValueError, "rise: keep is 2.0"),
        ({"methods": ["score_cam"], "options": {"score_cam": {"baseline": "pink"}}}, ValueError, "'pink'"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("overwrite", [False, True])
def test_what_was_finished_survives_what_is_wrong(model, photos, finished, changes, kind, said, overwrite):
    place = finished["output"].parent
    before = bytes_of(place)
    assert len(before) > 5
    with pytest.raises(kind, match=said):
        explain(model, photos, **finished | {"options": {}} | changes, overwrite=overwrite)
    assert bytes_of(place) == before
    assert explain(model, photos, **finished).folder.chunks == 1  # and it can be gone on with


@pytest.mark.slow
def test_good_settings_replace_it_and_say_so(model, photos, finished):
    said = []
    done = explain(model, photos, **finished | {"options": {"occlusion": {"window": 32}}}, on_message=said.append)
    assert len(said) == 1 and said[0].endswith("held a finished run with other settings, which is replaced")
    assert done.folder.manifest["options"]["methods"]["occlusion"]["window"] == 32


@pytest.mark.slow
def test_what_was_finished_stays_until_the_new_run_is_written(model, photos, finished, monkeypatch):
    place = finished["output"].parent
    before = bytes_of(place)
    folder = importlib.import_module("pellucid.runfolder.folder")

    def full(*_arguments):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(folder, "_clear", full)
        with pytest.raises(OSError, match="No space left"):
            explain(model, photos, **finished | {"seed": 1})
    assert bytes_of(place) == before
    page = finished["output"].read_bytes()

    def stopped(*_arguments, **_options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(job, "explain_chunk", stopped)
        with pytest.raises(KeyboardInterrupt):
            explain(model, photos, **finished | {"seed": 1})
    assert finished["output"].read_bytes() == page  # until the new one is whole


@pytest.mark.slow
def test_interrupted_in_the_rehearsal_nothing_has_changed(model, photos, finished, monkeypatch):
    before = bytes_of(finished["output"].parent)

    def stopped(*_arguments, **_options):
        raise KeyboardInterrupt

    monkeypatch.setitem(CATALOGUE, "saliency", dataclasses.replace(CATALOGUE["saliency"], function=stopped))
    with pytest.raises(KeyboardInterrupt):
        explain(model, photos, **finished | {"methods": ["saliency"], "options": {}})
    assert bytes_of(finished["output"].parent) == before
    assert not model.net._forward_pre_hooks


def flat_model(**options):
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 94 * 94, 3)).eval()
    return pellucid.wrap(net, size=96, labels=["a", "b", "c"], **options)


@pytest.mark.slow
def test_a_method_that_fails_on_this_model_stops_nothing(photos, tmp_path):
    done = explain(flat_model(), photos, output=tmp_path / "page.html", methods=["saliency", "cam"])
    assert done.problems["cam"][0] == 2 and done.images == 2
    # also where it was given an option, which is not at fault
    done = explain(flat_model(), photos, output=tmp_path / "page.html", methods=["saliency", "cam"],
                   options={"cam": {"layer": "0"}})  # fmt: skip
    assert done.problems["cam"][0] == 2 and "after layer '0'" in done.problems["cam"][1]


def test_no_method_is_left(photos, tmp_path):
    explain(flat_model(), photos, output=tmp_path / "page.html", methods=["saliency"])
    before = bytes_of(tmp_path)
    with pytest.raises(ValueError, match=r"no method is left that works on this model: cam: cam needs a head that"):
        explain(flat_model(), photos, output=tmp_path / "page.html", methods=["cam"])
    assert bytes_of(tmp_path) == before


@pytest.mark.slow
def test_a_layer_for_all_need_not_suit_each(model, photos, tmp_path):
    layer = "features.0"
    done = explain(model, photos, output=tmp_path / "page.html", methods=["cam", "grad_cam"], layer=layer)
    assert set(done.problems) == {"cam"} and layer in done.problems["cam"][1]
    with pytest.raises(ValueError, match=r"cam: .*after layer 'features.0'"):
        explain(model, photos, output=tmp_path / "page.html", methods=["cam"], layer=layer)
    with pytest.raises(ValueError, match=r"^cam: .*after layer 'features.0'"):
        explain(model, photos, output=tmp_path / "page.html", methods=["cam", "grad_cam"],
                options={"cam": {"layer": layer}})  # fmt: skip


@pytest.mark.slow
def test_a_model_of_any_size_is_tried_with_the_first_image_that_it_takes(photos, tmp_path):
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)).eval()
    (photos / "0.jpg").write_bytes(b"broken")
    write_image(torch.rand(3, 2, 2), photos / "00.png")  # too small for the network
    settings = {"output": tmp_path / "page.html", "methods": ["occlusion"]}
    with pytest.raises(ValueError, match="the window is 999 x 999, larger than the image, 96 x 96"):
        explain(pellucid.wrap(net), photos, **settings, options={"occlusion": {"window": 999}})
    assert not (tmp_path / "page.run").exists()
    done = explain(pellucid.wrap(net), photos, **settings)
    assert done.images == 2 and {name for name, _ in done.failures} == {"0.jpg", "00.png"}


@pytest.mark.slow
def test_it_is_cheap(model):
    """A few passes for each method, whatever it costs in earnest."""
    chosen = {name: dict(entry.options) for name, entry in of_kind("attribution").items()}
    for options in chosen.values():
        options |= {name: 10**6 for name in ("samples", "steps") if name in options}
    seen = []
    handle = model.net.register_forward_pre_hook(lambda _net, inputs: seen.append(len(inputs[0])))
    try:
        rehearsal.rehearse_methods(job.Job(model, chosen, None, {}, {}, {}), [], None, everything=True)
    finally:
        handle.remove()
    assert sum(seen) <= (rehearsal.MOST_PASSES + 2) * len(chosen)
    assert len(model.net._forward_pre_hooks) == 0


def test_the_same_again_is_not_tried_again(model, photos, finished, monkeypatch):
    monkeypatch.setattr(job, "rehearse_methods", None)
    assert explain(model, photos, **finished).images == 2


def test_a_run_folder_knows_whose_it_is(tmp_path):
    given = {"verb": "v", "model": {}, "items": ["a", "b"], "options": {"x": 1}, "seed": 0}
    assert not runfolder.holds(tmp_path / "run", **given)
    with runfolder.begin(tmp_path / "run", **given):
        assert runfolder.holds(tmp_path / "run", **given)
        assert not runfolder.holds(tmp_path / "run", **given | {"seed": 1})
    (tmp_path / "run" / "manifest.json").write_text("{")
    assert not runfolder.holds(tmp_path / "run", **given)
