"""`load`: the right network, with the right weights, from files that cannot harm."""

import contextlib
import copy
import errno
import http.server
import io
import json
import pickle
import re
import subprocess
import sys
import threading
import urllib.error
import warnings
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from pellucid import shapes
from pellucid.checks import UnknownName
from pellucid.model.run import gradient, run
from pellucid.model.settings import settings
from pellucid.zoo import MissingWeights, UnreadableWeights, exported, load, models, sources
from pellucid.zoo import weights as weights_of

SMALL = "squeezenet1_1"


def untrained(name=SMALL, seed=1, **options):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return torchvision.models.get_model(name, weights=None, **options).eval()


def logits(model, size=64, count=2):
    with torch.no_grad():
        return model(torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0)))


def through(model, net, **options):
    """Whether a classifier computes what a bare network does on the images as the classifier normalizes them."""
    inner = type(model)(net, model.preprocessing)
    return torch.equal(logits(model, **options), logits(inner, **options))


class Harm:
    """Unpickling it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.fixture
def harm(tmp_path):
    return Harm(tmp_path / "harm was done")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """torch's folder of weights, for this test only."""
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def offline(monkeypatch):
    def refuse(*_, **__):
        raise urllib.error.URLError("no network here")

    monkeypatch.setattr("urllib.request.urlopen", refuse)


# Names


@pytest.mark.slow
def test_importing_it_is_light():
    code = "import sys, pellucid.zoo; print({'torchvision', 'timm', 'safetensors'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


def test_shapes():
    model = load("shapes")
    scenes = shapes.scenes(40, seed=7)
    assert model.name == "shapes" and model.labels == shapes.CLASSES and model.preprocessing.size == (96, 96)
    assert (model.predict(scenes.images, k=1).classes[:, 0] == scenes.labels).float().mean() >= 0.9
    assert not any(module.training for module in model.modules())
    assert load("shapes", weights="random").name == "shapes (random weights)"


@pytest.mark.slow
def test_models_are_listed_by_source():
    found = models()
    sources = [entry.source for entry in found]
    assert sources == sorted(sources, key=["pellucid", "torchvision", "timm"].index)
    names = [entry.name for entry in found]
    assert names[0] == "shapes" and set(torchvision.models.list_models(module=torchvision.models)) <= set(names)
    assert all(len(entry.size) == 2 and min(entry.size) > 0 for entry in found)
    assert models("mobilenet_v2")[0].weights == ("IMAGENET1K_V2", "IMAGENET1K_V1")
    assert [entry.name for entry in models("vgg1?")] == ["vgg11", "vgg13", "vgg16", "vgg19"]
    assert models("vgg16")[0].weights == ("IMAGENET1K_V1",)  # the other file has no classifier
    assert models("no such network") == []


def test_random_weights_are_the_same_each_time_and_leave_random_numbers_alone():
    before = torch.get_rng_state()
    first, second = load(SMALL, weights="random"), load(SMALL, weights="random")
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(logits(first), logits(second))
    assert first.name == "squeezenet1_1 (random weights)"
    assert first.labels[483] == "castle" and len(first.labels) == 1000
    assert first.preprocessing.resize == 256 and first.preprocessing.size == (224, 224)
    assert not any(module.training for module in first.modules())


@pytest.mark.parametrize(
    ("name", "size", "resize", "interpolation"),
    [
        ("inception_v3", (299, 299), 342, "bilinear"),
        ("efficientnet_b0", (224, 224), 256, "bicubic"),
        ("swin_v2_t", (256, 256), 260, "bicubic"),
    ],
)
def test_preprocessing_of_torchvision(name, size, resize, interpolation):
    how = sources.find_source(name, None, None).preprocessing
    assert (how.size, how.resize, how.interpolation) == (size, resize, interpolation)
    assert how.mean == (0.485, 0.456, 0.406) and how.channels == 3


@pytest.mark.parametrize(
    ("name", "weights", "says"),
    [
        ("resnt50", None, "near it: resnet50"),
        ("Shapes", None, "near it: shapes"),
        ("timm/resnt18", None, "timm/resnet18"),
        ("timm/resnet18.foo", None, "near it: timm/resnet18"),
        ("resnet18", "IMAGENET1K_V3", "near it: IMAGENET1K_V1"),
        ("resnet18", "randm", "near it: random"),
        ("vgg16", "IMAGENET1K_FEATURES", "IMAGENET1K_V1"),
        ("shapes", "IMAGENET1K_V1", "'random' or a file"),
        ("timm/test_vit", "a1_in1k", "'random' or a file"),
        ("mine.pth", None, "say of which network"),
    ],
)
def test_unknown_names(name, weights, says):
    with pytest.raises(UnknownName, match=says):
        load(name, weights=weights)


def test_a_network_of_no_source_is_offered_timm_names_only_if_timm_is_there(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert {entry.source for entry in models()} == {"pellucid", "torchvision"}
    with pytest.raises(ImportError, match=r"pip install pellucid\[timm\]"):
        load("timm/resnet18")
    with pytest.raises(UnknownName, match="resnet18"):
        load("resnett18")


# Weights that torchvision and timm publish


@pytest.mark.parametrize(
    ("name", "option"),
    [
        (name, "DEFAULT")
        for name in (
            "alexnet", "convnext_tiny", "densenet121", "efficientnet_b1", "efficientnet_v2_s", "googlenet",
            "inception_v3", "maxvit_t", "mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small", "regnet_x_400mf",
            "regnet_y_400mf", "resnet18", "resnext50_32x4d", "shufflenet_v2_x0_5", "squeezenet1_0", "swin_t",
            "swin_v2_t", "vgg11_bn", "vit_b_16", "wide_resnet50_2",
        )
    ]
    + [("vit_b_16", "IMAGENET1K_SWAG_E2E_V1"), ("vit_b_16", "IMAGENET1K_SWAG_LINEAR_V1")],
)  # fmt: skip
def test_networks_are_built_as_torchvision_builds_them_for_its_weights(name, option, monkeypatch):
    weights = torchvision.models.get_model_weights(name)
    chosen = getattr(weights, option)
    monkeypatch.setattr(weights, "get_state_dict", lambda *_, **__: {})
    with torch.device("cpu" if name.startswith("regnet") else "meta"):
        mine = sources.find_source(name, None if option == "DEFAULT" else option, None).build()
        monkeypatch.setattr(nn.Module, "load_state_dict", lambda *_: None)
        theirs = torchvision.models.get_model(name, weights=chosen)
    for heads in ("AuxLogits", "aux1", "aux2"):  # for training only
        theirs._modules.pop(heads, None)
        mine._modules.pop(heads, None)
    assert str(mine) == str(theirs)
    assert {k: v.shape for k, v in mine.state_dict().items()} == {k: v.shape for k, v in theirs.state_dict().items()}
    plain = {k: v for k, v in vars(theirs).items() if isinstance(v, (bool, int, float, str)) and k != "aux_logits"}
    assert {k: vars(mine)[k] for k in plain} == plain


@pytest.mark.slow
@pytest.mark.parametrize("name", [SMALL, "densenet121", "googlenet", "mnasnet0_5", "vit_b_32"])
def test_published_weights_give_what_torchvision_gives(name, hub, monkeypatch):
    if name == "vit_b_32":  # as published: the two layers of each MLP had other names
        state = {k.replace("mlp.0", "mlp.linear_1").replace("mlp.3", "mlp.linear_2"): v
                 for k, v in untrained(name).state_dict().items()}  # fmt: skip
    elif name == "densenet121":
        state = {
            re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", k): v
            for k, v in untrained(name).state_dict().items()
            if not k.endswith("num_batches_tracked")
        }
    elif name == "googlenet":
        state = untrained(name, init_weights=False).state_dict()
        assert any(k.startswith("aux1.") for k in state)
    else:
        state = untrained(name).state_dict()
    weights = torchvision.models.get_model_weights(name)
    file = hub / Path(weights.DEFAULT.url).name
    torch.save(OrderedDict(state), file)
    model = load(name)
    assert model.name == name and len(model.labels) == 1000
    full = OrderedDict(state)
    full._metadata = {"": {"version": 2}}  # mnasnet insists on it
    monkeypatch.setattr(weights, "get_state_dict", lambda *_, **__: full)
    theirs = torchvision.models.get_model(name, weights=weights.DEFAULT).eval()
    assert through(model, theirs, size=224 if name == "vit_b_32" else 64)


@pytest.mark.slow
def test_weights_by_name_bring_their_own_preprocessing(hub):
    weights = torchvision.models.MobileNet_V2_Weights
    state = untrained("mobilenet_v2").state_dict()
    for option in weights:
        torch.save(state, hub / Path(option.url).name)
    assert load("mobilenet_v2").preprocessing.resize == 232
    assert load("mobilenet_v2", weights="IMAGENET1K_V1").preprocessing.resize == 256
    assert load("mobilenet_v2", weights="MobileNet_V2_Weights.IMAGENET1K_V1").preprocessing.resize == 256
    file = hub / Path(weights.IMAGENET1K_V1.url).name  # brought here by hand
    assert load("mobilenet_v2", weights=file).preprocessing.resize == 256


def test_without_network_the_error_says_what_is_wanted_and_where(hub, offline):
    with pytest.raises(MissingWeights) as caught:
        load(SMALL)
    said = str(caught.value)
    url = torchvision.models.SqueezeNet1_1_Weights.DEFAULT.url
    assert url in said and str(hub / Path(url).name) in said and "weights=FILE" in said and "no network here" in said
    assert list(hub.iterdir()) == []


class Server(http.server.BaseHTTPRequestHandler):
    body, length, status = b"", None, 200

    def do_GET(self):
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(self.body) if self.length is None else self.length))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    class Mine(Server):
        pass

    with http.server.HTTPServer(("127.0.0.1", 0), Mine) as listening:
        thread = threading.Thread(target=listening.serve_forever, daemon=True)
        thread.start()
        yield Mine, f"http://127.0.0.1:{listening.server_port}"
        listening.shutdown()
        thread.join()


def test_download_is_kept_and_not_made_twice(hub, server):
    import hashlib

    handler, address = server
    handler.body = bytes(range(256)) * 8000  # two blocks
    name = f"net-{hashlib.sha256(handler.body).hexdigest()[:8]}.pth"
    assert weights_of.download("net", f"{address}/{name}").read_bytes() == handler.body
    handler.status = 500
    assert weights_of.download("net", f"{address}/{name}") == hub / name
    assert [path.name for path in hub.iterdir()] == [name]


@pytest.mark.parametrize(
    ("body", "length", "status", "says"),
    [
        (b"half", 8, 200, "damaged or incomplete"),
        (b"other", None, 200, "damaged or incomplete"),
        (b"", None, 404, "Not Found"),
    ],
)
def test_download_that_fails_leaves_nothing(hub, server, body, length, status, says):
    handler, address = server
    handler.body, handler.length, handler.status = body, length, status
    with pytest.raises(MissingWeights, match=says):
        weights_of.download("net", f"{address}/net-12345678.pth")
    assert list(hub.iterdir()) == []


def test_download_interrupted_by_the_user_leaves_nothing(hub, server, monkeypatch):
    def interrupt(_):
        raise KeyboardInterrupt

    handler, address = server
    handler.body = b"something"
    monkeypatch.setattr(weights_of, "_received", interrupt)
    with pytest.raises(KeyboardInterrupt):
        weights_of.download("net", f"{address}/net-12345678.pth")
    assert list(hub.iterdir()) == []


def test_timm(tmp_path, monkeypatch):
    import timm

    model = load("timm/test_resnet", weights="random")
    assert model.labels[483] == "castle" and model.preprocessing.size == (160, 160)
    assert model.preprocessing.interpolation == "bilinear" and model.preprocessing.resize == 168
    assert torch.equal(logits(model), logits(load("timm/test_resnet", weights="random")))
    before = torch.get_rng_state()
    net = timm.create_model("test_resnet", num_classes=3).eval()
    torch.set_rng_state(before)
    save_file(net.state_dict(), tmp_path / "mine.safetensors")
    mine = load("timm/test_resnet", weights=tmp_path / "mine.safetensors", labels=["a", "b", "c"])
    assert through(mine, net) and mine.labels == ("a", "b", "c")
    whole = timm.create_model("test_resnet").eval()
    save_file(whole.state_dict(), tmp_path / "model.safetensors")
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: str(tmp_path / "model.safetensors"))
    assert through(load("timm/test_resnet.r160_in1k"), whole)


def test_timm_without_network(offline, monkeypatch):
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)
    with pytest.raises(MissingWeights, match=r"huggingface.co/timm/test_vit.r160_in1k.*weights=FILE"):
        load("timm/test_vit")


# Weights in files


def save(state, path):
    if path.suffix == ".safetensors":
        save_file({k: v.contiguous() for k, v in state.items()}, path)
    else:
        torch.save(state, path)
    return path


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".bin"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "net.", "model.module."])
def test_file_of_weights(tmp_path, suffix, prefix):
    net = untrained()
    file = save({prefix + k: v for k, v in net.state_dict().items()}, tmp_path / f"w{suffix}")
    before = torch.get_rng_state()
    model = load(SMALL, weights=str(file))
    assert torch.equal(before, torch.get_rng_state())
    assert through(model, net) and model.labels[483] == "castle" and model.name == f"squeezenet1_1 (w{suffix})"


@pytest.mark.parametrize("key", ["state_dict", "model", "net", "model_state_dict"])
def test_checkpoint(tmp_path, key):
    net = untrained()
    torch.save({"epoch": 3, key: net.state_dict(), "optimizer": {"lr": 0.1}}, tmp_path / "last.ckpt")
    assert through(load(SMALL, weights=tmp_path / "last.ckpt"), net)


@pytest.mark.slow
@pytest.mark.parametrize("name", [SMALL, "shufflenet_v2_x0_5", "densenet121", "inception_v3"])
def test_number_of_classes_is_that_of_the_file(tmp_path, name):
    net = untrained(name, num_classes=5, **({"init_weights": False} if name == "inception_v3" else {}))
    file = save(net.state_dict(), tmp_path / "five.pth")
    model = load(name, weights=file)
    if name == "inception_v3":
        net.transform_input = True  # as everybody who began with torchvision's weights has it
    assert through(model, net, size=96) and model.labels == ()
    assert load(name, weights=file, labels=list("abcde")).labels == tuple("abcde")


def test_weights_of_half_precision_become_whole(tmp_path):
    file = save({k: v.half() for k, v in untrained().state_dict().items()}, tmp_path / "half.safetensors")
    assert logits(load(SMALL, weights=file)).dtype == torch.float32


def test_weights_that_do_not_fit(tmp_path):
    state = untrained().state_dict()
    first, *_ = state
    renamed = {("stem" + k if k == first else k): v for k, v in state.items()}
    with pytest.raises(UnreadableWeights, match=rf"{first} missing; stem{first} not expected"):
        load(SMALL, weights=save(renamed, tmp_path / "renamed.pth"))
    with pytest.raises(UnreadableWeights, match=r"features.0.weight is 1 x 3 x 3, expected 64 x 3 x 3 x 3"):
        load(SMALL, weights=save({**state, first: state[first][0, :1]}, tmp_path / "cut.pth"))
    with pytest.raises(UnreadableWeights, match=r"conv1.0.weight, .* and \d+ more not expected"):
        load(SMALL, weights=save(untrained("shufflenet_v2_x0_5").state_dict(), tmp_path / "other.pth"))
    state[first][0] = torch.nan
    with pytest.raises(UnreadableWeights, match=f"'{first}' holds NaN"):
        load(SMALL, weights=save(state, tmp_path / "nan.safetensors"))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"hello, this is text\n", b"PK\3\4 cut", b"\x80\x02}q\x00.", b"\x80"])
def test_files_that_are_no_weights(tmp_path, suffix, content):
    file = tmp_path / f"w{suffix}"
    file.write_bytes(content)
    with pytest.raises(UnreadableWeights, match=r"w\.(pth|safetensors)"):
        load(SMALL, weights=file)


def test_files_of_other_things(tmp_path):
    torch.save([1, 2], tmp_path / "list.pth")
    torch.save({"epoch": 1, "loss": 0.5}, tmp_path / "log.pth")
    torch.save({}, tmp_path / "nothing.pth")
    for name, says in {"list": "a list", "log": "'epoch', 'loss'", "nothing": "holds nothing"}.items():
        with pytest.raises(UnreadableWeights, match=says):
            load(SMALL, weights=tmp_path / f"{name}.pth")
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pth"):
        load(SMALL, weights=tmp_path / "nowhere.pth")
    with pytest.raises(FileNotFoundError, match="folder"):
        load(SMALL, weights=tmp_path)
    (tmp_path / "mine.pt2").write_bytes(b"x")
    with pytest.raises(UnreadableWeights, match="exported program"):
        load(SMALL, weights=tmp_path / "mine.pt2")


def test_torchscript_is_told_apart(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)).save(tmp_path / "script.pt")
    with pytest.raises(UnreadableWeights, match="TorchScript"):
        load(SMALL, weights=tmp_path / "script.pt")


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickle_that_would_run_code_is_refused(tmp_path, harm, legacy):
    state = {**untrained().state_dict(), "harm": harm}
    torch.save(state, tmp_path / "evil.pth", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(UnreadableWeights, match=r"would run code.*trusted=True"):
        load(SMALL, weights=tmp_path / "evil.pth")
    assert not harm.path.exists()


def test_a_plain_pickle_is_refused(tmp_path, harm):
    (tmp_path / "evil.pth").write_bytes(pickle.dumps(harm))
    with pytest.raises(UnreadableWeights):
        load(SMALL, weights=tmp_path / "evil.pth")
    assert not harm.path.exists()


def test_a_whole_network_is_taken_only_if_trusted(tmp_path):
    net = untrained()
    torch.save(net, tmp_path / "whole.pth")
    with pytest.raises(UnreadableWeights, match="torchvision.models.squeezenet.SqueezeNet"):
        load(SMALL, weights=tmp_path / "whole.pth")
    assert through(load(SMALL, weights=tmp_path / "whole.pth", trusted=True), net)


def test_a_download_that_would_run_code_is_refused_as_well(hub, harm):
    url = torchvision.models.SqueezeNet1_1_Weights.DEFAULT.url
    torch.save({"harm": harm}, hub / Path(url).name)
    with pytest.raises(UnreadableWeights, match="would run code"):
        load(SMALL)
    assert not harm.path.exists()


def test_labels(tmp_path):
    file = tmp_path / "labels.txt"
    file.write_text("n01440764 tench, Tinca tinca\n" + "\n".join(f"class {i}" for i in range(999)) + "\n\n")
    assert load(SMALL, weights="random", labels=file).index("tench") == 0
    assert load(SMALL, weights="random", labels=str(file)).labels[1] == "class 0"
    with pytest.raises(ValueError, match="2 labels, and the network has 1000"):
        load(SMALL, weights="random", labels=["cat", "dog"])
    with pytest.raises(FileNotFoundError, match="list of names"):
        load(SMALL, weights="random", labels="cat")


def test_preprocessing_can_be_overruled():
    how = load(SMALL, weights="random", mean=0.5, std=[0.2, 0.2, 0.2], size=64).preprocessing
    assert how.mean == (0.5,) * 3 and how.std == (0.2,) * 3 and how.size == (64, 64) and how.resize is None


@pytest.mark.slow
def test_device_comes_from_the_settings(program):
    with settings(device="meta"):
        assert next(load("shapes").parameters()).device.type == "meta"
        assert next(load(program).parameters()).device.type == "meta"
    with settings(device="no such device"), pytest.raises(ValueError, match=r"'no such device'.*settings"):
        load("shapes")


# Exported programs


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Dropout())
        self.head = nn.Linear(4, 3)
        self.register_buffer("shift", torch.tensor([0.0, 1, 2]))

    def forward(self, images):
        x = self.body(images)
        return self.head(x.mean((2, 3)).view(images.shape[0], -1)) + self.shift


ANY = ({0: torch.export.Dim.DYNAMIC},)


def export(path, net=None, shape=(2, 3, 8, 8), dynamic=ANY):
    program = torch.export.export(net or Net().eval(), (torch.rand(shape),), dynamic_shapes=dynamic)
    torch.export.save(program, path)
    return path


@pytest.fixture(scope="module")
def original():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = Net()
        net(torch.rand(8, 3, 8, 8))  # batch norm that does something
        return net.eval()


@pytest.fixture(scope="module")
def program(original, tmp_path_factory):
    return export(tmp_path_factory.mktemp("pt2") / "mine.pt2", original)


def test_exported_program_is_the_network(program, original):
    before = torch.get_rng_state()
    model = load(program, labels=["a", "b", "c"])
    assert torch.equal(before, torch.get_rng_state())
    assert model.name == "mine" and model.preprocessing.size == (8, 8) and model.labels == ("a", "b", "c")
    assert model.preprocessing.mean is None
    assert not any(module.training for module in model.modules())
    for count in (1, 2, 5):
        assert through(model, original, size=8, count=count)
    assert {name for name, _ in original.named_modules()} <= {name for name, _ in model.net.named_modules()}
    assert set(original.state_dict()) - {"body.1.num_batches_tracked"} <= set(model.net.state_dict())


def test_layers_of_an_exported_program_can_be_read_and_differentiated(program, original):
    from pellucid.objectives import logit

    model, images = load(program), torch.rand(3, 3, 8, 8)
    for name in ("body.0", "body.2", "body", "head"):
        mine, theirs = (run(net, images, read=[name]).activations[name] for net in (model, original))
        assert torch.equal(mine, theirs)
        slopes = [gradient(net, images, logit(1).bind(net, 3), at=name)[0] for net in (model.net, original)]
        assert torch.equal(*slopes)
    slopes = [gradient(net, images, logit(1).bind(net, 3))[0] for net in (model, original)]
    assert torch.equal(*slopes) and slopes[0].abs().max() > 0
    edited = [run(net, images, edit={"body.0": torch.zeros_like}).output for net in (model, original)]
    assert torch.equal(*edited)


def test_exported_program_can_be_copied(program):
    model = load(program)
    assert torch.equal(logits(copy.deepcopy(model), size=8), logits(model, size=8))


def test_exported_program_takes_preprocessing(program):
    how = load(str(program), mean=[0.5, 0.5, 0.5], std=0.25).preprocessing
    assert how.mean == (0.5,) * 3 and how.std == (0.25,) * 3
    with pytest.raises(ValueError, match="leave out weights"):
        load(program, weights="random")
    with pytest.raises(ValueError, match="2 labels, and the network has 3"):
        load(program, labels=["a", "b"])


@pytest.mark.slow
def test_exported_program_of_fixed_size(tmp_path):
    model = load(export(tmp_path / "fixed.pt2", dynamic=None))
    assert logits(model, size=8, count=2).shape == (2, 3)
    with pytest.raises(ValueError, match=r"batches of 2, and got 3.*Dim\.DYNAMIC"):
        logits(model, size=8, count=3)
    with pytest.raises(ValueError, match="H = 8, and got H = 9"):
        logits(model, size=9, count=2)
    dims = {0: torch.export.Dim("n"), 2: torch.export.Dim("h", min=6, max=20), 3: torch.export.Dim.DYNAMIC}
    model = load(export(tmp_path / "free.pt2", dynamic=(dims,)))
    assert model.preprocessing.size is None
    assert logits(model, size=12, count=1).shape == (1, 3)
    with pytest.raises(ValueError, match="H = 6 to 20, and got H = 30"):
        logits(model, size=30, count=2)


@pytest.mark.slow
def test_exported_in_training_mode(tmp_path):
    with pytest.raises(UnreadableWeights, match=r"training mode.*net\.eval"):
        load(export(tmp_path / "training.pt2", Net()))


def test_exported_program_that_takes_no_images(tmp_path):
    path = export(tmp_path / "vectors.pt2", nn.Linear(4, 2), shape=(2, 4))
    with pytest.raises(UnreadableWeights, match="expected one batch of images"):
        load(path)


@pytest.mark.parametrize("content", [b"", b"text", b"PK\3\4 cut"])
def test_files_that_are_no_programs(tmp_path, content):
    (tmp_path / "x.pt2").write_bytes(content)
    with pytest.raises(UnreadableWeights, match="torch.export.save"):
        load(tmp_path / "x.pt2")
    with pytest.raises(FileNotFoundError, match="exported program"):
        load(tmp_path / "nowhere.pt2")


def rewrite(path, target, change):
    """A copy of an exported program with other records: `change` takes and returns them, by name."""
    reader = torch._C.PyTorchFileReader(str(path))
    records = {name: reader.get_record(name) for name in reader.get_all_records()}
    change(records)
    writer = torch._C.PyTorchFileWriter(str(target))
    for name, data in records.items():
        if name != ".data/serialization_id":
            writer.write_record(name, data, len(data))
    writer.write_end_of_file()
    return target


def in_program(edit):
    """A change of the program's text."""

    def change(records):
        text = json.loads(records["models/model.json"])
        edit(text)
        records["models/model.json"] = json.dumps(text).encode()

    return change


def in_config(kind, **entry):
    def change(records):
        name = f"data/{kind}/model_{kind}_config.json"
        config = json.loads(records[name])
        config["config"]["evil"] = {"is_param": False, "use_pickle": True, "tensor_meta": None, **entry}
        records[name] = json.dumps(config).encode()

    return change


def saved(content):
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def attacks(harm):
    """Ways to run code with a .pt2: what to change in the file, by what it is."""
    touch = f"__import__('pathlib').Path({str(harm.path)!r}).touch()"

    def node(**values):
        return in_program(lambda text: text["graph_module"]["graph"]["nodes"][0].update(values))

    def metadata(**values):
        return in_program(lambda text: text["graph_module"]["graph"]["nodes"][0]["metadata"].update(values))

    def shape(text):
        sizes = text["graph_module"]["graph"]["tensor_values"]["images"]["sizes"]
        sizes[0] = {"as_expr": {"expr_str": touch, "hint": {"as_int": 2}}}

    def parameter(text):
        name = f"images=({touch})"
        renamed = json.dumps(text).replace('"name": "images"', f'"name": {json.dumps(name)}')
        renamed = renamed.replace('"images": {', f"{json.dumps(name)}: {{")
        text.update(json.loads(renamed))

    def tree(text):
        context = json.dumps([{"__enum__": True, "fqn": "antigravity:X", "name": "x"}])
        spec = [1, {"type": "builtins.dict", "context": context, "children_spec": []}]
        text["graph_module"]["module_call_graph"][0]["signature"]["in_spec"] = json.dumps(spec)

    def record(name, data):
        return lambda records: records.update({name: data})

    def both(*changes):
        return lambda records: [change(records) for change in changes]

    return {
        "example inputs": record("data/sample_inputs/model.pt", saved(((harm,), {}))),
        "weight": both(in_config("weights", path_name="weight_99"), record("data/weights/weight_99", saved(harm))),
        "tensor": both(in_config("constants", path_name="tensor_99"), record("data/constants/tensor_99", saved(harm))),
        "constant": both(
            in_config("constants", path_name="opaque_obj_0"),
            record("data/constants/opaque_obj_0", pickle.dumps(harm)),
        ),
        "old weights": record("data/weights/model.pt", saved({"evil": harm})),
        "library": record("data/aotinductor/model/evil.so", b"\x7fELF"),
        "second program": record("models/other.json", b"{}"),
        "function": node(target="torch.os.system"),
        "method": node(target="torch.ops.aten.conv2d.__init__"),
        "file": node(target="torch.ops.aten.from_file.default"),
        "custom": node(target="torch.ops.mine.op.default"),
        "operator": node(target="_operator.methodcaller"),
        "shape": in_program(shape),
        "parameter": in_program(parameter),
        "tree": in_program(tree),
        "modules": metadata(nn_module_stack=f"L,x\\'+{touch}+\\',torch.nn.Linear"),
    }


REASONS = {
    "example inputs": "example inputs are not tensors",
    "weight": "'evil' is pickled",
    "tensor": "'evil' is pickled",
    "constant": "the entry 'data/constants/opaque_obj_0'",
    "old weights": "the entry 'data/weights/model.pt'",
    "library": "the entry 'data/aotinductor/model/evil.so'",
    "second program": "the entry 'models/other.json'",
    "function": "'torch.os.system' as 'target'",
    "method": "'torch.ops.aten.conv2d.__init__' as 'target'",
    "file": "'torch.ops.aten.from_file.default' as 'target'",
    "custom": "'torch.ops.mine.op.default' as 'target'",
    "operator": "'_operator.methodcaller' as 'target'",
    "shape": "as 'expr_str'",
    "parameter": "images=",
    "tree": "as 'in_spec'",
    "modules": "as 'metadata.nn_module_stack'",
}


@pytest.mark.parametrize("kind", REASONS)
def test_exported_program_that_would_run_code_is_refused(tmp_path, harm, program, kind):
    evil = rewrite(program, tmp_path / "evil.pt2", attacks(harm)[kind])
    with pytest.raises(UnreadableWeights, match=r"could run code.*trusted=True") as caught:
        load(evil)
    assert REASONS[kind] in str(caught.value)
    assert not harm.path.exists()


@pytest.mark.parametrize("kind", ["example inputs", "weight", "constant", "shape", "old weights"])
def test_those_attacks_are_real(tmp_path, harm, program, kind):
    evil = rewrite(program, tmp_path / "evil.pt2", attacks(harm)[kind])
    with contextlib.suppress(Exception):
        torch.export.load(evil)
    assert harm.path.exists()


def test_a_file_may_run_code_if_it_is_trusted(tmp_path, harm, program):
    evil = rewrite(program, tmp_path / "evil.pt2", attacks(harm)["example inputs"])
    assert logits(load(evil, trusted=True), size=8).shape == (2, 3)
    assert harm.path.exists()


def test_checks_in_source_form_are_never_run(tmp_path, harm, program):
    touch = f"__import__('pathlib').Path({str(harm.path)!r}).touch()"
    evil = rewrite(program, tmp_path / "evil.pt2", in_program(lambda text: text.update(guards_code=[touch])))
    assert logits(load(evil), size=8).shape == (2, 3)
    assert not harm.path.exists()


def test_archives_that_two_readers_read_differently_are_refused(tmp_path, harm, program):
    for name in ("mine/models/model.json", "version"):
        evil = tmp_path / "evil.pt2"
        evil.write_bytes(program.read_bytes())
        with zipfile.ZipFile(evil, "a") as archive, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the second entry with that name
            archive.writestr(name, b"{}")
        with pytest.raises(UnreadableWeights, match=r"evil\.pt2"):
            load(evil)
    with zipfile.ZipFile(tmp_path / "old.pt2", "w") as archive:
        archive.writestr("version", "8.1")
        archive.writestr("serialized_exported_program.json", "{}")
        archive.writestr("serialized_constants.pt", saved({"evil": harm}))
    with pytest.raises(UnreadableWeights, match="export it anew"):
        load(tmp_path / "old.pt2")
    assert not harm.path.exists()


@pytest.mark.parametrize(
    ("text", "fine"),
    [
        ("Symbol('s77', positive=True, integer=True)", True),
        ("Add(Mul(Integer(2), Symbol('s0', integer=True)), Integer(-1))", True),
        ("s0*2 + FloorDiv(s1, 2)", True),
        ("exit()", False),
        ("Symbol('x').__class__", False),
        ("Symbol('__import__(1)')", False),
        ("[].append(1)", False),
        ("(lambda: 1)()", False),
        ("1 # exit()", False),
        ("f'{s0}'", False),
        ("s0\nexit()", False),
        ("(" * 5000, False),
    ],
)
def test_expressions_of_lengths(text, fine):
    assert exported._arithmetic(text) == fine


def test_real_weights_by_file(tmp_path):
    from .. import real

    with_padding = real.squeezenet()
    file = save(with_padding.net.state_dict(), tmp_path / "caffe.safetensors")
    model = load("squeezenet1_0", weights=file, mean=with_padding.preprocessing.mean, std=1 / 255, size=227)
    model.net.classifier[1].padding = (1, 1)
    assert torch.equal(model(real.castle(227)), with_padding(real.castle(227)))
    assert model.predict(real.castle(227)).labels[0][0] == "castle"


def test_permission(tmp_path, monkeypatch):
    file = save(untrained().state_dict(), tmp_path / "w.pth")

    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied", str(file))

    monkeypatch.setattr(torch, "load", refuse)
    with pytest.raises(PermissionError, match=r"w\.pth"):
        load(SMALL, weights=file)
