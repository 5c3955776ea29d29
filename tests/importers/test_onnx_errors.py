"""What from_onnx refuses, and in which words; what it takes that is out of the ordinary."""

import copy

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import pellucid
from pellucid.importers import ImportFailed

onnx = pytest.importorskip("onnx")
parser = pytest.importorskip("onnx.parser")

HEAD = '<ir_version: 8, opset_import: ["" : 17]>'
POOL = "p = GlobalAveragePool(x) out = Flatten(p)"


def file(tmp_path, body=POOL, images="float[N,3,6,6] x", out="float[N,3] out", head=HEAD, weights=()):
    """The file of a graph."""
    model = parser.parse_model(f"{head} g ({images}) => ({out}) {{ {body} }}")
    model.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in dict(weights).items())
    return written(model, tmp_path)


def written(model, folder, **options):
    onnx.save(model, folder / "net.onnx", **options)
    return folder / "net.onnx"


def refused(path, *words, error=ImportFailed, **options):
    with pytest.raises(error) as caught:
        pellucid.from_onnx(path, **options)
    for word in words:
        assert word in str(caught.value), str(caught.value)
    assert "\n" not in str(caught.value)


def test_files(tmp_path):
    refused(tmp_path / "none.onnx", "no file", error=FileNotFoundError)
    refused(tmp_path, "a folder", error=FileNotFoundError)
    (tmp_path / "net.onnx").write_bytes(b"PK\x03\x04 no protobuf at all")
    refused(tmp_path / "net.onnx", "no ONNX file, or is damaged")
    (tmp_path / "net.onnx").write_bytes(b"")
    refused(tmp_path / "net.onnx", "holds no network")
    whole = file(tmp_path, "c = Conv(x, w) p = GlobalAveragePool(c) out = Flatten(p)",
                 weights={"w": np.ones((3, 3, 3, 3), np.float32)}).read_bytes()  # fmt: skip
    (tmp_path / "net.onnx").write_bytes(whole[: len(whole) // 2])
    refused(tmp_path / "net.onnx", "damaged")


@pytest.mark.parametrize(
    ("start", "word"),
    [(b"PK\x03\x04", "torch.save"), (b"\x89HDF\r\n", "HDF5"), (b"version https://git-lfs.github.com", "git lfs pull"),
     (b"<html>", "web page")],
)  # fmt: skip
def test_other_files(start, word, tmp_path):
    (tmp_path / "net.onnx").write_bytes(start + b"\xff" * 60)
    refused(tmp_path / "net.onnx", "no ONNX file", word)


def test_operators_that_onnx_has_not(tmp_path):
    """tf2onnx leaves what it cannot convert; onnxruntime writes operators into sets that do not have them."""
    erfc = onnx.load(file(tmp_path, "e = Erf(x) p = GlobalAveragePool(e) out = Flatten(p)"))
    erfc.graph.node[0].op_type, erfc.graph.node[0].name = "Erfc", "m1/Gelu/Erfc"
    refused(written(erfc, tmp_path), "'Erfc'", "node 'm1/Gelu/Erfc'", "from_keras", "approximate")
    old = '<ir_version: 8, opset_import: ["" : 14]>'
    norm = file(tmp_path, "e = LayerNormalization(x, s) p = GlobalAveragePool(e) out = Flatten(p)", head=old,
                weights={"s": np.ones(6, np.float32)})  # fmt: skip
    refused(norm, "'LayerNormalization'", "version 14", "later opset", "optimized")
    refused(file(tmp_path, head='<ir_version: 8, opset_import: ["" : 99]>'), "version 99", "install a newer onnx")


def test_damaged_graphs(tmp_path):
    refused(file(tmp_path, "p = GlobalAveragePool(q) out = Flatten(p)"), "damaged", "q")
    model = onnx.load(file(tmp_path, "c = Conv(x, w) p = GlobalAveragePool(c) out = Flatten(p)",
                           weights={"w": np.ones((3, 3, 3, 3), np.float32)}))  # fmt: skip
    model.graph.initializer[0].raw_data = b"1234"
    refused(written(model, tmp_path), "damaged")
    del model.graph.node[0].input[1]
    refused(written(model, tmp_path), "damaged")


def outer(tmp_path, **keys):
    """A file whose weights lie beside it, and are said to lie somewhere else."""
    path = file(tmp_path, "c = Conv(x, w) p = GlobalAveragePool(c) out = Flatten(p)",
                weights={"w": np.random.default_rng(0).normal(size=(3, 3, 3, 3)).astype(np.float32)})  # fmt: skip
    folder = tmp_path / "model"
    folder.mkdir(exist_ok=True)
    (folder / "weights.bin").unlink(missing_ok=True)  # onnx would write behind what is there
    model = onnx.load(path)
    path = written(model, folder, save_as_external_data=True, location="weights.bin", size_threshold=0)
    model = onnx.load(path, load_external_data=False)
    for entry in model.graph.initializer[0].external_data:
        entry.value = str(keys.pop(entry.key, entry.value))
    for key, value in keys.items():
        model.graph.initializer[0].external_data.add(key=key, value=str(value))
    path.write_bytes(model.SerializeToString())
    return path


def test_weights_beside_the_file(tmp_path):
    model = pellucid.from_onnx(outer(tmp_path))
    assert model.net.difference < 1e-5
    (tmp_path / "secret").write_bytes(b"0" * 400)
    for place in ("../secret", str(tmp_path / "secret"), "../../etc/passwd", "a/../../secret"):
        refused(outer(tmp_path, location=place), "outside of its folder", "not read")
    (tmp_path / "model" / "link").symlink_to(tmp_path / "secret")
    refused(outer(tmp_path, location="link"), "outside of its folder")
    refused(outer(tmp_path, location="other.bin"), "bring both files", "'w'")
    refused(outer(tmp_path, location=""), "outside of its folder")
    refused(outer(tmp_path, location="."), "bring both files")
    refused(outer(tmp_path, offset=100), "which has 324")
    refused(outer(tmp_path, offset=-1), "damaged, or of another model")
    refused(outer(tmp_path, offset="one"), "a place that is none")
    refused(outer(tmp_path, length=12), "damaged")


def test_inputs(tmp_path):
    refused(file(tmp_path, "p = GlobalAveragePool(x) f = Flatten(p) out = Add(f, y)",
                 images="float[N,3,6,6] x, float[N,3] y"), "2 inputs ('x', 'y')", "expected one")  # fmt: skip
    refused(file(tmp_path, "out = Relu(x)", images="float[N,3] x"), "no batch of images", "? x 3")
    refused(file(tmp_path, "f = Cast <to=1>(x) p = GlobalAveragePool(f) out = Flatten(p)", images="uint8[N,3,6,6] x"),
            "uint8", "floating")  # fmt: skip
    refused(file(tmp_path, images="float[N,3,H,W] x"), "any size", "? x 3 x ? x ?", "size=")
    assert pellucid.from_onnx(tmp_path / "net.onnx", size=(6, 8)).preprocessing.size == (6, 8)
    assert pellucid.from_onnx(tmp_path / "net.onnx", np.ones((1, 3, 5, 7), np.float32)).preprocessing.size == (5, 7)
    refused(file(tmp_path), "size is 8", "? x 3 x 6 x 6", error=ValueError, size=8)
    refused(
        file(tmp_path), "1 x 3 x 7 x 7", "? x 3 x 6 x 6", example=np.ones((1, 3, 7, 7), np.float32), error=ValueError
    )
    refused(file(tmp_path), "example[None]", example=np.ones((3, 6, 6), np.float32), error=ValueError)
    refused(file(tmp_path), "'HWC'", layout="HWC", error=ValueError)
    refused(file(tmp_path, images="float[N,6,6,6] x"), "say layout=", error=ValueError)
    refused(file(tmp_path, "c = Conv(x, w) p = GlobalAveragePool(c) out = Flatten(p)",
                 weights={"w": np.ones((3, 3, 3, 3), np.float32)}), "'NHWC'", "takes NCHW", layout="NHWC",
            error=ValueError)  # fmt: skip


def test_outputs(tmp_path):
    two = file(tmp_path, f"{POOL} other = Neg(out)", out="float[N,3] out, float[N,3] other")
    refused(two, "2 outputs ('out', 'other')", "output_name='...'")
    refused(two, "no output 'third'", "'out', 'other'", output_name="third")
    images = torch.rand(2, 3, 6, 6)
    torch.testing.assert_close(pellucid.from_onnx(two, output_name="other")(images), -images.mean((2, 3)))
    refused(file(tmp_path, "out = Relu(x)", out="float[N,3,6,6] out"), "'out' is N x 3 x 6 x 6", "expected N x K")
    refused(file(tmp_path, "out = Constant <value = float[1,3] {1,2,3}>()"), "does not look at the images")
    chosen = "p = GlobalAveragePool(x) f = Flatten(p) out = ArgMax <axis=1>(f)"
    refused(file(tmp_path, chosen, out="int64[N,1] out"), "'out' is of int64", "scores")
    refused(file(tmp_path), "2 labels", "3 classes", labels=["a", "b"], error=ValueError)
    path = file(tmp_path, "p = GlobalAveragePool(x) out = Softmax <axis=1>(p)", out="float[N,3,1,1] out")
    torch.testing.assert_close(pellucid.from_onnx(path)(images), images.mean((2, 3)))
    kept = pellucid.from_onnx(path, logits=False)
    torch.testing.assert_close(kept(images), images.mean((2, 3)).softmax(1))


def test_an_operator_without_a_rule_is_named_with_its_node_its_layer_and_where_a_rule_belongs(tmp_path):
    model = onnx.load(file(tmp_path, "d = Det(x) out = Relu(d)"))
    model.graph.node[0].name = "/body/head/Det"
    refused(
        written(model, tmp_path),
        "'Det'",
        "node '/body/head/Det'",
        "layer 'body.head'",
        "importers/onnx/rules.py",
        "see CONTRIBUTING",
        "Simplify the export",
        "open an issue",
    )
    custom = '<ir_version: 8, opset_import: ["" : 17, "com.mine" : 1]>'
    refused(file(tmp_path, "p = com.mine.Fancy(x) out = Flatten(p)", head=custom), "'com.mine.Fancy'", "no rule")


def test_what_to_do_about_operators_of_runtimes_quantized_ones_and_loops(tmp_path):
    own = '<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>'
    body = "f = com.microsoft.QuickGelu(x) p = GlobalAveragePool(f) out = Flatten(p)"
    refused(file(tmp_path, body, head=own), "'com.microsoft.QuickGelu'", "from before it was optimized")
    body = "q, s, z = DynamicQuantizeLinear(x) d = DequantizeLinear(q, s, z) p = GlobalAveragePool(d) out = Flatten(p)"
    refused(file(tmp_path, body), "'DynamicQuantizeLinear'", "QDQ format")
    loop = ("c = Constant <value_int=3>() t = Constant <value = bool {1}>() y = Loop (c, t, x) <body = b (int64 i, "
            "bool k, float[N,3,6,6] a) => (bool l, float[N,3,6,6] r) { l = Identity(k) r = Relu(a) }> "
            "p = GlobalAveragePool(y) out = Flatten(p)")  # fmt: skip
    refused(file(tmp_path, loop), "'Loop'", "torch.jit.script")


def test_a_number_of_images_that_was_written_into_an_open_file(tmp_path):
    """As len(x) in a network that torch's older exporter traces."""
    tokens = {"tokens": np.ones((2, 1, 6, 6), np.float32)}
    body = "c = Concat <axis=1>(tokens, x) p = GlobalAveragePool(c) out = Flatten(p)"
    path = file(tmp_path, body, out="float[N,4] out", weights=tokens)
    refused(path, "any number of images", "a constant for 2", "x.shape[0]")
    path = file(tmp_path, body, images="float[2,3,6,6] x", out="float[2,4] out", weights=tokens)
    assert pellucid.from_onnx(path)(torch.rand(5, 3, 6, 6)).shape == (5, 4)


def test_what_is_not_needed_is_no_error(tmp_path):
    assert pellucid.from_onnx(file(tmp_path, f"d = Det(x) {POOL}")).net.difference < 1e-6


def test_training_and_randomness(tmp_path):
    three = {"s": np.ones(3, np.float32)}
    body = "b, m, v = BatchNormalization <training_mode=1>(x, s, s, s, s) p = GlobalAveragePool(b) out = Flatten(p)"
    refused(file(tmp_path, body, weights=three), "evaluation mode", "BatchNormalization")
    with pytest.raises(ImportFailed) as caught:  # no rule would help
        pellucid.from_onnx(tmp_path / "net.onnx")
    assert "contribute a rule" not in str(caught.value)
    on = {"ratio": np.array(0.5, np.float32), "on": np.array(True)}
    refused(file(tmp_path, "d = Dropout(x, ratio, on) p = GlobalAveragePool(d) out = Flatten(p)", weights=on),
            "dropout is on", "evaluation mode")  # fmt: skip
    body = "n = RandomNormalLike(x) a = Add(n, x) p = GlobalAveragePool(a) out = Flatten(p)"
    refused(file(tmp_path, body), "random numbers", "evaluation mode")


def test_what_mixes_the_images(tmp_path):
    body = "p = GlobalAveragePool(x) f = Flatten(p) m = ReduceMean <axes=[0]>(f) out = Sub(f, m)"
    refused(file(tmp_path, body), "over the images of the batch")
    weights = {"i": np.array([0]), "to": np.array([3, -1])}
    refused(file(tmp_path, "g = Gather <axis=0>(x, i) a = Add(g, x) p = GlobalAveragePool(a) out = Flatten(p)",
                 weights=weights), "over the images of the batch")  # fmt: skip
    refused(file(tmp_path, "t = Transpose <perm=[1,0,2,3]>(x) out = Reshape(t, to)", out="float[3,N] out",
                 weights=weights), "expected N x K")  # fmt: skip


def test_decisions(tmp_path):
    branches = ("then_branch = yes () => (float[N,3,6,6] y) { y = Relu(x) }, "
                "else_branch = no () => (float[N,3,6,6] z) { z = Neg(x) }")  # fmt: skip
    body = f"s = ReduceSum <keepdims=0>(x) c = Greater(s, t) a = If (c) <{branches}> {POOL.replace('(x)', '(a)')}"
    refused(file(tmp_path, body, weights={"t": np.array(0.0, np.float32)}), "'ReduceSum'", "over the images")


@pytest.mark.slow
def test_a_difference_is_an_error_that_names_the_layer(tmp_path, monkeypatch):
    from pellucid.importers.onnx import rules as onnx_rules

    monkeypatch.setitem(onnx_rules.RULES, "Tanh", onnx_rules.elementwise(lambda x: torch.tanh(x) * 1.01))
    for images in ("float[N,3,6,6] x", "float[2,3,6,6] x"):
        body = f"a = Sin(x) b = Tanh(a) c = Cos(b) {POOL.replace('(x)', '(c)')}"
        model = onnx.load(file(tmp_path, body, images))
        for node, name in zip(model.graph.node, ("/first/Sin", "/second/Tanh", "/third/Cos", "/p", "/f"), strict=True):
            node.name = name
        refused(written(model, tmp_path), "differs from the source", "layer 'second'")


def test_without_onnx(monkeypatch, tmp_path):
    path = file(tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    refused(path, "pip install 'pellucid[onnx]'", error=ImportError)


def test_without_onnxruntime(monkeypatch, tmp_path):
    import importlib.util

    path = file(tmp_path)
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else found(name))
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    assert pellucid.from_onnx(path).net.difference < 1e-6


def test_half_and_double_precision(tmp_path):
    images = torch.rand(2, 3, 6, 6)
    for kind, dtype in (("float16", torch.float32), ("double", torch.float64)):
        path = file(tmp_path, images=f"{kind}[N,3,6,6] x", out=f"{kind}[N,3] out")
        model = pellucid.from_onnx(path)
        torch.testing.assert_close(model(images.to(dtype)), images.to(dtype).mean((2, 3)))
    weight = np.random.default_rng(0).normal(0, 0.4, (3, 3, 3, 3))
    body = "c = Conv(h, w) t = HardSwish(c) p = GlobalAveragePool(t) f = Flatten(p)"
    half = {"w": weight.astype(np.float16)}
    path = file(tmp_path, f"h = Cast <to=10>(x) {body} out = Cast <to=1>(f)", weights=half)
    model = pellucid.from_onnx(path)  # float32 on the outside only
    assert 1e-5 < model.net.difference < 5e-3
    wanted = F.hardswish(F.conv2d(images, torch.from_numpy(half["w"]).float())).mean((2, 3))
    torch.testing.assert_close(model(images), wanted)
    kinds = {"images": "double[N,3,6,6] x", "out": "double[N,3] out"}
    path = file(tmp_path, f"h = Identity(x) {body} out = Identity(f)", weights={"w": weight}, **kinds)
    assert pellucid.from_onnx(path).net.difference < 1e-7


def test_functions_of_a_file_and_old_sets_of_operators(tmp_path):
    text = """<ir_version: 8, opset_import: ["" : 17, "local" : 1]>
        g (float[N,3,6,6] x) => (float[N,3] out) { p = local.pooled(x) out = Flatten(p) }
        <domain: "local", opset_import: ["" : 17]> pooled (a) => (b) { c = Relu(a) b = GlobalAveragePool(c) }"""
    images = torch.rand(2, 3, 6, 6)
    model = pellucid.from_onnx(written(parser.parse_model(text), tmp_path))
    torch.testing.assert_close(model(images), images.mean((2, 3)))
    old = '<ir_version: 3, opset_import: ["" : 6]>'
    body = "b = BatchNormalization <is_test=1>(x, s, s, s, s) p = GlobalAveragePool(b) out = Flatten(p)"
    path = file(tmp_path, body, images="float[2,3,6,6] x, float[3] s", out="float[2,3] out", head=old,
                weights={"s": np.ones(3, np.float32)})  # fmt: skip
    torch.testing.assert_close(pellucid.from_onnx(path)(images), (images.mean((2, 3)) - 1) / (1 + 1e-5) ** 0.5 + 1)


def test_load(tmp_path):
    path = file(tmp_path)
    (tmp_path / "labels.txt").write_text("a\nb\nc\n")
    model = pellucid.load(path, labels=tmp_path / "labels.txt", mean=0.5, std=0.5)
    images = torch.rand(2, 3, 6, 6)
    torch.testing.assert_close(model(images), 2 * images.mean((2, 3)) - 1)
    assert model.labels == ("a", "b", "c") and model.preprocessing.size == (6, 6)
    with pytest.raises(ValueError, match="leave out weights="):
        pellucid.load(path, weights="random")
    with pytest.raises(FileNotFoundError):
        pellucid.load(tmp_path / "none.onnx")


def test_the_command_line(tmp_path, capsys):
    from pellucid.cli import main

    def said(path) -> str:
        with pytest.raises(SystemExit):
            main(["layers", str(path)])
        out, err = capsys.readouterr()
        return out + err

    assert "GlobalAveragePool" in said(file(tmp_path))
    told = said(file(tmp_path, images="float[N,3,H,W] x"))
    assert "any size" in told and "--size" in told and "size=" not in told


def test_it_goes_where_it_is_sent(tmp_path):
    model = pellucid.from_onnx(file(tmp_path))
    images = torch.rand(2, 3, 6, 6)
    torch.testing.assert_close(copy.deepcopy(model).double()(images.double()).float(), model(images))
    assert not model.training and not any(p.requires_grad for p in model.parameters())
