# ruff: noqa: E501 - one line for each graph
"""Each rule against onnxruntime, for other batch sizes than the one it was imported with."""

import numpy as np
import pytest
import torch

import pellucid

onnx = pytest.importorskip("onnx")
parser = pytest.importorskip("onnx.parser")
runtime = pytest.importorskip("onnxruntime")  # onnx's own reference has other numbers for a few operators

rng = np.random.default_rng(0)
SIDE = 6


def floats(*shape):
    return rng.normal(0, 0.4, shape).astype(np.float32)


WEIGHTS = {
    "w": floats(4, 3, 3, 3), "b": floats(4), "deep": floats(3, 1, 3, 3), "up": floats(3, 2, 3, 3), "m": floats(6, 5),
    "five": floats(5), "c3": floats(3), "v3": np.abs(floats(3)) + 0.5, "slope": np.abs(floats(3, 1, 1)), "row": floats(1, 1, 6),
    "k": floats(108, 4), "kt": floats(4, 108), "places": floats(3, 6, 6), "line": floats(3, 3, 3), "cls": floats(1, 1, 6), "head": floats(5, 4), "table": floats(6, 6),
    "row6": floats(6), "whole": floats(3, 6, 6), "c": floats(1), "two": np.float32([2.0]), "half": np.array(0.5, np.float32), "ratio": np.array(0.5, np.float32),
    "last": np.array([-1]), "first": np.array([0]), "front": np.array([0, 1]), "nan": np.array(np.nan, np.float32), "window": np.ones((1, 1, 1, 2, 2, 1), np.float32),
}  # fmt: skip

# The operators from x, N x 3 x 6 x 6, to h, which is flattened. By default of set 17.
GRAPHS = {
    "arithmetic": "one = Constant <value_float=1.0>() a = Add(x, one) b2 = Mul(a, x) d = Sub(b2, c) e = Div(d, a) h = Neg(e)",
    "curves": "a = Exp(x) b2 = Log(a) s = Sqrt(x) t = Tanh(s) u = Erf(t) r = Reciprocal(a) y = Sum(a, b2, u, r) z = Sigmoid(y) h = Pow(z, two)",
    "angles": "a = Sin(x) b2 = Cos(a) t = Atan(b2) u = Sinh(t) h = Sum(a, b2, t, u)",
    "activations": "a = Sub(x, half) l = LeakyRelu <alpha=0.2>(a) e = Elu <alpha=0.5>(a) s = Selu(a) p = Softplus(a) q = Softsign(a) h = Sum(l, e, s, p, q)",
    "more activations": "a = Sub(x, half) l = HardSigmoid(a) s = HardSwish(a) t = ThresholdedRelu <alpha=0.2>(a) c4 = Celu <alpha=2.0>(a) h = Sum(l, s, t, c4)",
    "another selu": "a = Sub(x, half) h = Selu <alpha=2.0, gamma=1.5>(a)",
    "prelu": "a = Sub(x, half) h = PRelu(a, slope)",
    "prelu at each place": "a = Sub(x, half) h = PRelu(a, places)",
    "clips": "low = Constant <value_float=0.2>() high = Constant <value_float=0.7>() a = Clip(x, low, high) b2 = Clip(x, low) h = Add(a, b2)",
    "relu6": "ten = Constant <value_float=10.0>() zero = Constant <value_float=0.0>() top = Constant <value_float=6.0>() a = Mul(x, ten) h = Clip(a, zero, top)",
    "choices": "g = Greater(x, half) l = LessOrEqual(x, half) n = Not(g) o = And(l, n) a = Mul(x, two) h = Where(o, a, x)",
    "top_activations": "a = Max(x, half) i = Sub(half, x) b2 = Min(x, i, half) m2 = Mean(a, b2) h = Add(m2, x)",
    "rounding": "a = Mul(x, two) f = Floor(a) c4 = Ceil(a) r = Round(a) d = Mod <fmod=1>(x, half) s = Sum(f, c4, r, d) h = Mul(s, x)",
    "casts": "g = Greater(x, half) f = Cast <to=1>(g) i = Cast <to=7>(x) j = Cast <to=1>(i) a = Add(f, j) h = Add(a, x)",
    "softmax": "a = Softmax <axis=1>(x) b2 = LogSoftmax <axis=-1>(x) h = Add(a, b2)",
    "softmax over the rest": (11, "h = Softmax <axis=1>(x)"),
    "dropout": "h = Dropout(x, ratio)",
    "old dropout": (9, "h = Dropout <ratio=0.5>(x)"),
    "turning": "t = Transpose <perm=[0,3,1,2]>(x) a = Add(t, row) u = Transpose <perm=[0,2,3,1]>(a) h = Mul(u, x)",
    "channels last and back": "t = Transpose <perm=[0,2,3,1]>(x) a = Add(t, c3) r = Relu(a) u = Transpose <perm=[0,3,1,2]>(r) h = Conv(u, w, b)",
    "a shape that is computed": "s = Shape(x) z = Constant <value_ints=[0]>() n = Gather <axis=0>(s, z) rest = Constant <value_ints=[-1,6]>() to = Concat <axis=0>(n, rest) r = Reshape(x, to) h = ReduceMax <axes=[1]>(r)",
    "a shape by hand": "to = Constant <value_ints=[-1,9,12]>() r = Reshape(x, to) to2 = Constant <value_ints=[0,-1,3,4]>() h = Reshape(r, to2)",
    "a count of elements": "s = Shape <start=1, end=3>(x) p = ReduceProd <keepdims=0>(s) f = Cast <to=1>(p) h = Div(x, f)",
    "a class token": "s = Shape(x) z = Constant <value_int=0>() n = Gather <axis=0>(s, z) zz = Constant <value_ints=[0]>() n1 = Unsqueeze(n, zz) one = Constant <value_ints=[1,6]>() to = Concat <axis=0>(n1, one) token = Expand(cls, to) i = Constant <value_int=1>() part = Gather <axis=1>(x, i) h = Concat <axis=1>(token, part)",
    "zeros for each image": "s = Shape(x) o = ConstantOfShape <value = float[1] {2.0}>(s) h = Concat <axis=1>(x, o)",
    "flatten": "f = Flatten <axis=1>(x) h = MatMul(f, k)",
    "squeezes": "a = Constant <value_ints=[1, -1]>() u = Unsqueeze(x, a) h = Squeeze(u, a)",
    "old squeezes": (11, "u = Unsqueeze <axes=[1, 5]>(x) h = Squeeze <axes=[1]>(u)"),
    "joining": "a = Add(x, half) t = Transpose <perm=[0,2,3,1]>(x) u = Relu(t) v = Transpose <perm=[0,3,1,2]>(u) h = Concat <axis=1>(a, v)",
    "splitting": "s = Constant <value_ints=[2,4]>() a, b2 = Split <axis=2>(x, s) p, q, r = Split <axis=1>(b2) h = Concat <axis=2>(a, b2)",
    "uneven split": (18, "p = Constant <value_ints=[0,0,0,0,0,0,1,0]>() y = Pad(x, p) a, b2, c4, d = Split <axis=2, num_outputs=4>(y) e = Concat <axis=1>(a, c4) f = Concat <axis=1>(d, d) h = Concat <axis=2>(e, f)"),
    "slices": "s = Constant <value_ints=[1,-4]>() e = Constant <value_ints=[9223372036854775807,-1]>() a = Constant <value_ints=[1,3]>() h = Slice(x, s, e, a)",
    "strided slices": "s = Constant <value_ints=[0]>() e = Constant <value_ints=[9999]>() a = Constant <value_ints=[2]>() t = Constant <value_ints=[2]>() h = Slice(x, s, e, a, t)",
    "backward slices": "s = Constant <value_ints=[-1]>() e = Constant <value_ints=[-9223372036854775807]>() a = Constant <value_ints=[1]>() t = Constant <value_ints=[-1]>() h = Slice(x, s, e, a, t)",
    "old slices": (9, "h = Slice <axes=[2], starts=[1], ends=[4]>(x)"),
    "gathers": "i = Constant <value_ints=[2,-3,0]>() a = Gather <axis=1>(x, i) j = Constant <value = int64[2,2] {0,1,2,3}>() h = Gather <axis=3>(a, j)",
    "known places": "t = Transpose <perm=[2,3,0,1]>(x) i = Constant <value = int64[2,3,2] {0,0,0,1,5,-1,1,1,2,2,3,3}>() g = GatherND(t, i) h = Transpose <perm=[2,3,0,1]>(g)",
    "a choice that is known": "t = Constant <value = bool {1}>() s = Shape(x) e = Expand(nan, s) a = Where(t, x, e) n = Not(t) h = Where(n, e, a)",
    "axes put in between channels last": "t = Transpose <perm=[0,2,3,1]>(x) r = Relu(t) o = Constant <value_ints=[1]>() u = Unsqueeze(r, o) v = Squeeze(u, o) w2 = Unsqueeze(v, last) z = Squeeze(w2, last) h = Transpose <perm=[0,3,1,2]>(z)",
    "sums over many sides": "t = Transpose <perm=[0,2,3,1]>(x) u = Unsqueeze(t, first) v = Unsqueeze(u, first) s = Conv <strides=[1,2,2,1], pads=[0,1,0,0,0,0,1,0]>(v, window) q = Squeeze(s, front) d = Div(q, two) h = Transpose <perm=[0,3,1,2]>(d)",
    "casts to the same": "a = Cast <to=1>(x) w1 = Conv(a, w) d = Cast <to=1>(w1) t = Constant <value_ints=[1,4,1,1]>() b4 = Reshape(b, t) h = Add(d, b4)",
    "tiles": "t = Constant <value_ints=[1,2,1,3]>() h = Tile(x, t)",
    "expanding": "i = Constant <value_int=0>() g = Gather <axis=1>(x, i) o = Constant <value_ints=[1]>() u = Unsqueeze(g, o) to = Constant <value_ints=[1,4,1,1]>() h = Expand(u, to)",
    "padding": "p = Constant <value_ints=[0,0,1,2,0,1,0,3]>() h = Pad(x, p, half)",
    "reflected padding": "p = Constant <value_ints=[0,0,1,2,0,0,0,3]>() a = Pad <mode=\"reflect\">(x, p) h = Pad <mode=\"edge\">(a, p)",
    "old padding": (9, "h = Pad <pads=[0,0,1,2,0,1,0,3], value=0.5>(x)"),
    "reductions": "a = ReduceMean <axes=[2,3]>(x) b2 = ReduceSum(x, last) c4 = ReduceL2 <axes=[1], keepdims=1>(x) d = ReduceLogSumExp <axes=[1]>(x) e = ReduceL1 <axes=[3]>(x) f = ReduceMin <axes=[1]>(x) h = Sum(a, b2, c4, d, e, f)",
    "more reductions": "a = ReduceSumSquare <axes=[2,3], keepdims=0>(x) b2 = ReduceProd <axes=[2,3], keepdims=0>(x) c4 = ReduceLogSum <axes=[2,3], keepdims=0>(x) h = Sum(a, b2, c4)",
    "reductions of set 18": (18, "h = ReduceMean <keepdims=0>(x, last)"),
    "places": "a = ArgMax <axis=1>(x) f = Cast <to=1>(a) h = Mul(x, f)",
    "running sums": "a = Constant <value_int=2>() u = CumSum(x, a) d = CumSum <reverse=1>(x, a) h = Add(u, d)",
    "spaces": "d = SpaceToDepth <blocksize=2>(x) e = DepthToSpace <blocksize=2>(d) f = DepthToSpace <blocksize=2, mode=\"CRD\">(d) h = Add(e, f)",
    "conv": "h = Conv <pads=[1,1,1,1], strides=[2,2]>(x, w, b)",
    "conv, uneven": "h = Conv <pads=[0,1,2,1], dilations=[2,1]>(x, w)",
    "conv, same": "a = Conv <auto_pad=\"SAME_UPPER\", strides=[2,2]>(x, w, b) d = Conv <auto_pad=\"SAME_LOWER\", strides=[2,2]>(x, w) h = Sub(a, d)",
    "conv, depthwise": "h = Conv <group=3, pads=[1,1,1,1]>(x, deep)",
    "conv of a line": "to = Constant <value_ints=[0,3,-1]>() r = Reshape(x, to) h = Conv(r, line)",
    "transposed conv": "a = ConvTranspose <strides=[2,2], pads=[1,1,1,1], output_padding=[1,1]>(x, up) d = ConvTranspose <strides=[2,2], pads=[0,0,1,1]>(x, up) h = Add(a, d)",
    "gemm": "f = Flatten(x) h = Gemm <alpha=0.5, beta=2.0, transB=1>(f, kt, b)",
    "gemm without weights": "f = Flatten(x) g = Gemm(f, k) t = Relu(g) h = Gemm <transB=1>(t, head)",
    "matmul": "h = MatMul(x, m)",
    "matmul from the left": "t = Transpose <perm=[1,0]>(m) h = MatMul(t, x)",
    "matmul of two": "t = Transpose <perm=[0,1,3,2]>(x) h = MatMul(x, t)",
    "einsum": "h = Einsum <equation=\"nchw, wk -> nchk\">(x, m)",
    "batch norm": "h = BatchNormalization <epsilon=0.01>(x, c3, v3, c3, v3)",
    "instance norm": "h = InstanceNormalization(x, v3, c3)",
    "group norm": (21, "h = GroupNormalization <num_groups=3>(x, v3, c3)"),
    "layer norm": "h = LayerNormalization <axis=-1, epsilon=0.1>(x, row6, row6)",
    "layer norm over all": "h = LayerNormalization <axis=1>(x, whole)",
    "rms norm": (23, "h = RMSNormalization(x, row6)"),
    "lrn": "h = LRN <size=3, alpha=0.5>(x)",
    "a length, divided by": "n = ReduceL2 <axes=[1]>(x) n2 = Clip(n, half) s = Shape(x) e = Expand(n2, s) a = Div(x, e) l = ReduceL2 <axes=[2]>(x) b2 = Div(x, l) d = ReduceL2 <axes=[1]>(a) f = Div(x, d) h = Sum(a, b2, f)",
    "lp norm": "h = LpNormalization <axis=1>(x)",
    "max pool": "h = MaxPool <kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]>(x)",
    "max pool, uneven": "a = MaxPool <kernel_shape=[2,2], pads=[0,0,1,1]>(x) d = MaxPool <kernel_shape=[3,2], ceil_mode=1, strides=[2,2]>(x) c4 = Flatten(d) h = Flatten(a)",
    "mean pool": "h = AveragePool <kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]>(x)",
    "mean pool, padded": "h = AveragePool <kernel_shape=[3,3], pads=[1,1,1,1], count_include_pad=1>(x)",
    "mean pool, uneven": "h = AveragePool <kernel_shape=[2,2], auto_pad=\"SAME_UPPER\">(x)",
    "global pools": "a = GlobalAveragePool(x) d = GlobalMaxPool(x) h = Add(a, d)",
    "global pool of a line": "to = Constant <value_ints=[0,3,-1]>() r = Reshape(x, to) h = GlobalAveragePool(r)",
    "nearest": "s = Constant <value = float[4] {1,1,2,3}>() n = Constant <value = float[0] {}>() h = Resize <mode=\"nearest\", coordinate_transformation_mode=\"asymmetric\", nearest_mode=\"floor\">(x, n, s)",
    "bilinear": "s = Constant <value_ints=[9,11]>() sh = Shape <end=2>(x) to = Concat <axis=0>(sh, s) h = Resize <mode=\"linear\", coordinate_transformation_mode=\"half_pixel\">(x, , , to)",
    "bilinear to the corners": "s = Constant <value = float[4] {1,1,2,1.5}>() n = Constant <value = float[0] {}>() h = Resize <mode=\"linear\", coordinate_transformation_mode=\"align_corners\">(x, n, s)",
    "cubic": "s = Constant <value = float[4] {1,1,2,2}>() n = Constant <value = float[0] {}>() h = Resize <mode=\"cubic\">(x, n, s)",
    "old upsampling": (9, "s = Constant <value = float[4] {1,1,2,2}>() h = Upsample <mode=\"nearest\">(x, s)"),
    "attention": (23, "h = Attention <scale=0.3>(x, x, x)"),
    "a branch": "t = Constant <value = bool {1}>() a = If (t) <then_branch = yes () => (float[N,3,6,6] y) { y = Relu(x) }, else_branch = no () => (float[N,3,6,6] z) { z = Neg(x) }> h = Add(a, x)",
    "by onnx itself": "i = Constant <value_ints=[2,0,1]>() d = Constant <value_int=3>() v = Constant <value = float[2] {0,1}>() hot = OneHot(i, d, v) r = ReduceSum(hot, first) t = Concat <axis=1>(r, r) e = Trilu(table) f = Mul(e, t) h = Mul(x, f)",
}  # fmt: skip


def model_of(name: str):
    """The parsed model of a graph, with its weights."""
    opset, text = GRAPHS[name] if isinstance(GRAPHS[name], tuple) else (17, GRAPHS[name])
    body = text + " out = Flatten(h)"
    source = f'<ir_version: 8, opset_import: ["" : {opset}]> g (float[N,3,6,6] x) => (float[N,K] out) {{ {body} }}'
    model = parser.parse_model(source)
    used = {name for node in model.graph.node for name in node.input}
    model.graph.initializer.extend(onnx.numpy_helper.from_array(a, n) for n, a in WEIGHTS.items() if n in used)
    return model


@pytest.mark.parametrize("name", GRAPHS)
def test_rules(name, tmp_path):
    source = model_of(name)
    onnx.save(source, tmp_path / "net.onnx")
    model = pellucid.from_onnx(tmp_path / "net.onnx", logits=False)
    session = runtime.InferenceSession(source.SerializeToString(), providers=["CPUExecutionProvider"])
    for count in (1, 5):
        x = np.random.default_rng(count).random((count, 3, SIDE, SIDE)).astype(np.float32)
        wanted = torch.from_numpy(session.run(None, {"x": x})[0])
        torch.testing.assert_close(model(torch.from_numpy(x)), wanted, rtol=2e-5, atol=2e-5)
