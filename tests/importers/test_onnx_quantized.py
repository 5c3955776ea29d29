"""Quantized networks in the QDQ format: rounded as onnxruntime rounds them, with gradients straight through."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import pellucid
from pellucid.importers import ImportFailed

onnx = pytest.importorskip("onnx")
parser = pytest.importorskip("onnx.parser")
runtime = pytest.importorskip("onnxruntime")

HEAD = '<ir_version: 10, opset_import: ["" : 21]>'
rng = np.random.default_rng(0)
SCALES = {
    "sx": np.float32(1 / 255), "sh": np.float32(0.01), "zx": np.uint8(0), "zh": np.uint8(0), "zs": np.int8(3),
    "zw": np.uint16(30000), "half": np.float32(1e-4), "s8": np.full(8, 0.1, np.float32), "z8": np.zeros(8, np.uint8),
}  # fmt: skip
WEIGHTS = {
    "w8": rng.integers(-127, 128, (4, 3, 3, 3), dtype=np.int8), "sw": rng.uniform(0.001, 0.004, 4).astype(np.float32),
    "zero4": np.zeros(4, np.int8), "b32": rng.integers(-900, 900, 4, dtype=np.int32), "sb": np.float32(1e-4),
    "wf": rng.normal(0, 0.5, (5, 4)).astype(np.float32), "sf": np.float32(0.01), "zf": np.int8(0),
}  # fmt: skip


def file(tmp_path, body, out="float[N,K] out"):
    model = parser.parse_model(f"{HEAD} g (float[N,3,8,8] x) => ({out}) {{ {body} }}")
    used = {name for node in model.graph.node for name in node.input}
    arrays = {name: np.asarray(array) for name, array in (SCALES | WEIGHTS).items() if name in used}
    model.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in arrays.items())
    onnx.save(model, tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


def of_onnx(path, x):
    """What onnxruntime computes without joining operators to ones of whole numbers."""
    options = runtime.SessionOptions()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {"x": x.numpy()})[0])


CONVOLUTION = """
    q = QuantizeLinear(x, sx, zx) d = DequantizeLinear(q, sx, zx)
    w = DequantizeLinear <axis=0>(w8, sw, zero4) b = DequantizeLinear <axis=0>(b32, sb)
    c = Conv <pads=[1,1,1,1]>(d, w, b)
    p = QuantizeLinear(c, sh, zh) h = DequantizeLinear(p, sh, zh)
    m = GlobalAveragePool(h) f = Flatten(m) wq = QuantizeLinear(wf, sf, zf) wd = DequantizeLinear(wq, sf, zf)
    out = Gemm <transB=1>(f, wd)
"""


def test_a_network_with_weights_for_each_channel(tmp_path):
    """A ReLU that the quantizer dropped, as its range ends at zero, is there again."""
    path = file(tmp_path, CONVOLUTION)
    model = pellucid.from_onnx(path)
    x = torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(model(x), of_onnx(path, x), rtol=1e-4, atol=1e-4)
    calls = [node.target for module in model.net.modules() if hasattr(module, "graph") for node in module.graph.nodes]
    assert F.conv2d in calls and calls.count(F.relu) == 1 and F.linear in calls
    weights = {tuple(p.shape): p for p in model.parameters()}
    each = torch.from_numpy(WEIGHTS["sw"]).view(-1, 1, 1, 1)
    torch.testing.assert_close(weights[4, 3, 3, 3], torch.from_numpy(WEIGHTS["w8"]) * each)
    rounded = torch.from_numpy(WEIGHTS["wf"]).div(0.01).round().clamp(-128, 127) * 0.01
    torch.testing.assert_close(weights[5, 4], rounded)


def test_gradients_are_those_of_the_float_network(tmp_path):
    path = file(tmp_path, CONVOLUTION)
    model = pellucid.from_onnx(path)
    weights = {tuple(p.shape): p for p in model.parameters()}
    bias = torch.from_numpy(WEIGHTS["b32"]) * 1e-4
    x = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(1)).clamp(0.01, 0.99)
    inner = torch.round(x * 255) / 255
    inner.requires_grad_(True)
    hidden = F.conv2d(inner, weights[4, 3, 3, 3], bias, padding=1)
    out = F.linear(F.relu(hidden).clamp(max=2.55).mean((2, 3)), weights[5, 4])
    (wanted,) = torch.autograd.grad(out[:, 1].sum(), inner)
    got = pellucid.gradient_x_input(model, x, 1, baseline="black").values
    torch.testing.assert_close(got, wanted * x, rtol=1e-4, atol=1e-6)
    for method in (pellucid.guided_backprop, pellucid.lrp, pellucid.grad_cam):
        assert method(model, x, 1).values.abs().sum() > 0


@pytest.mark.parametrize("zero", ["zs", "zw"])
def test_ranges(zero, tmp_path):
    scale = "half" if zero == "zw" else "sh"
    path = file(tmp_path, f"y = Sub(x, sf) q = QuantizeLinear(y, {scale}, {zero}) r = MaxPool <kernel_shape=[2,2]>(q) "
                f"d = DequantizeLinear(r, {scale}, {zero}) m = Relu(d) out = Flatten(m)")  # fmt: skip
    if zero == "zw":  # onnxruntime has no max pool of 16 bits
        path = file(tmp_path, "q = QuantizeLinear(x, half, zw) d = DequantizeLinear(q, half, zw) out = Flatten(d)")
    model = pellucid.from_onnx(path)
    x = 6 * torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    apart = (model(x) - of_onnx(path, x)).abs()
    assert apart.max() <= 1.01 * SCALES[scale] and (apart > 1e-5).float().mean() < 0.01  # numbers between two steps


def test_what_has_no_rule(tmp_path):
    other = "q = QuantizeLinear(x, sx, zx) d = DequantizeLinear(q, sh, zh) out = Flatten(d)"
    with pytest.raises(ImportFailed, match="behind a QuantizeLinear of the same scale"):
        pellucid.from_onnx(file(tmp_path, other))
    channels = "q = QuantizeLinear <axis=2>(x, s8, z8) d = DequantizeLinear <axis=2>(q, s8, z8) out = Flatten(d)"
    with pytest.raises(ImportFailed, match="one scale for all"):
        pellucid.from_onnx(file(tmp_path, channels))
