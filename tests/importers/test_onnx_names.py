"""What layers are called, by what those who exported a network left in its file."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import pellucid

onnx = pytest.importorskip("onnx")
parser = pytest.importorskip("onnx.parser")

rng = np.random.default_rng(0)


def floats(*shape):
    return rng.normal(0, 0.4, shape).astype(np.float32)


def imported(tmp_path, nodes, weights, shape=("N", 8, 8, 3), told=None):
    """The model of nodes (operator, name, inputs, output, attributes), from `x` to `out`."""
    helper = onnx.helper
    made = [helper.make_node(op, inputs, [output], name=name, **attributes)
            for op, name, inputs, output, attributes in nodes]  # fmt: skip
    for node in made:
        for key, value in (told or {}).get(node.name, {}).items():
            node.metadata_props.add(key=key, value=value)
    kind = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        made, "net", [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("out", kind, ("N", None))],
        [onnx.numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items()],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), tmp_path / "n.onnx")
    return pellucid.from_onnx(tmp_path / "n.onnx")


def kinds(model) -> dict:
    return {layer.name: layer.kind for layer in pellucid.layers(model)}


def functions(model) -> list:
    graphs = [module.graph for module in model.net.modules() if hasattr(module, "graph")]
    return [node.target for graph in graphs for node in graph.nodes if node.op in ("call_function", "call_method")]


NET = "functional_1"
OF_TENSORFLOW = [
    ("Transpose", f"{NET}/norm_1/batchnorm/mul__10", ["x"], "t", {"perm": [0, 3, 1, 2]}),
    ("Conv", "Conv__39", ["t", f"{NET}/stem_1/convolution/merged:0", "b"], "c", {"strides": [2, 2]}),
    ("Clip", f"{NET}/cut_1/Relu6", ["c", "zero", "six"], "r", {}),
    ("Transpose", "Transpose__54", ["r"], "last", {"perm": [0, 2, 3, 1]}),
    ("ReduceMean", f"{NET}/ln_1/moments/mean", ["last"], "m", {"axes": [-1]}),
    ("Sub", f"{NET}/ln_1/moments/SquaredDifference", ["last", "m"], "d", {}),
    ("Mul", f"{NET}/ln_1/moments/SquaredDifference__2", ["d", "d"], "q", {}),
    ("ReduceMean", f"{NET}/ln_1/moments/variance", ["q"], "v", {"axes": [-1]}),
    ("Add", f"{NET}/ln_1/add", ["v", "eps"], "e", {}),
    ("Sqrt", f"{NET}/ln_1/Rsqrt", ["e"], "s", {}),
    ("Reciprocal", f"{NET}/ln_1/Rsqrt__27", ["s"], "i", {}),
    ("Mul", f"{NET}/ln_1/mul", ["i", "gamma"], "k", {}),
    ("Mul", f"{NET}/ln_1/mul_2", ["last", "k"], "y", {}),
    ("Neg", f"{NET}/ln_1/Neg", ["m"], "n", {}),
    ("Mul", f"{NET}/ln_1/mul_1", ["n", "k"], "z", {}),
    ("Add", f"{NET}/ln_1/add_1", ["z", "beta"], "g", {}),
    ("Add", f"{NET}/ln_1/add_2", ["y", "g"], "w", {}),
    ("ReduceMean", f"{NET}/pool_1/Mean", ["w"], "p", {"axes": [1, 2], "keepdims": 0}),
    ("MatMul", f"{NET}/add_1_2/MatMul", ["p", "dense"], "o", {}),
    ("Add", f"{NET}/add_1_2/BiasAdd", ["o", "b5"], "out", {}),
]
WEIGHTS = {
    f"{NET}/stem_1/convolution/merged:0": floats(4, 3, 3, 3), "b": floats(4), "zero": np.float32(0),
    "six": np.float32(6), "eps": np.float32(1e-3), "gamma": floats(4), "beta": floats(4),
    "dense": floats(4, 5), "b5": floats(5),
}  # fmt: skip


def test_of_tf2onnx(tmp_path):
    """The number behind all names is that of a second trace; what tf2onnx put in is called after its weights."""
    model = imported(tmp_path, OF_TENSORFLOW, WEIGHTS)
    assert kinds(model) == {"stem": "Conv", "cut": "Clip", "ln": "ln", "pool": "pool", "add_1": "MatMul"}
    assert {F.conv2d, F.relu6, F.layer_norm, F.linear} <= set(functions(model))


def test_what_a_converter_put_into_an_attention_is_in_it(tmp_path):
    """tf2onnx writes the products of an einsum with names of its own."""

    def head(name, turn):
        return [
            ("MatMul", f"net/mha/{name}/MatMul", ["h", f"w{name}"], f"m{name}", {}),
            ("Reshape", f"net/mha/{name}/Reshape_1", [f"m{name}", "heads"], f"r{name}", {}),
            ("Transpose", f"Transpose__{ord(name)}", [f"r{name}"], f"t{name}", turn),
        ]

    wide = {"perm": [0, 2, 1, 3]}
    nodes = [
        ("Reshape", "net/flat/Reshape", ["x", "places"], "h", {}),
        *head("q", wide),
        *head("k", {"perm": [0, 2, 3, 1]}),
        *head("v", wide),
        ("MatMul", "MatMul__187", ["tq", "tk"], "scores", {}),
        ("Mul", "net/mha/Mul", ["scores", "scale"], "scaled", {}),
        ("Softmax", "net/mha/Softmax", ["scaled"], "soft", {"axis": -1}),
        ("MatMul", "MatMul__190", ["soft", "tv"], "mixed", {}),
        ("Transpose", "Transpose__12", ["mixed"], "back", wide),
        ("Reshape", "net/mha/Reshape_9", ["back", "rows"], "joined", {}),
        ("ReduceMean", "net/pool/Mean", ["joined"], "out", {"axes": [1], "keepdims": 0}),
    ]
    weights = {f"w{name}": floats(3, 6) for name in "qkv"} | {
        "places": np.array([-1, 64, 3]), "heads": np.array([-1, 64, 2, 3]), "rows": np.array([-1, 64, 6]),
        "scale": np.float32(0.5),
    }  # fmt: skip
    model = imported(tmp_path, nodes, weights)
    assert F.scaled_dot_product_attention in functions(model)
    assert set(kinds(model)) == {"flat", "mha.q", "mha.k", "mha.v", "mha", "pool"}


@pytest.mark.parametrize("named", [True, False])
def test_of_files_without_scopes(named, tmp_path):
    """As of jax2onnx, or of Keras on torch: what computes one activation is one layer, and a bias is in its own."""
    nodes = [
        ("Transpose", "node_Transpose_0", ["x"], "t", {"perm": [0, 3, 1, 2]}),
        ("Conv", "node_Conv_1", ["t", "w"], "c", {"pads": [1, 1, 1, 1]}),
        ("Transpose", "node_Transpose_2", ["c"], "l", {"perm": [0, 2, 3, 1]}),
        ("Reshape", "node_Reshape_3", ["b", "to"], "b4", {}),
        ("Add", "node_Add_4", ["l", "b4"], "a", {}),
        ("Sigmoid", "node_Sigmoid_5", ["a"], "s", {}),
        ("Mul", "node_Mul_6", ["a", "s"], "silu", {}),
        ("Pow", "node_Pow_7", ["silu", "three"], "p", {}),
        ("Mul", "node_Mul_8", ["p", "k"], "p2", {}),
        ("Add", "node_Add_9", ["silu", "p2"], "p3", {}),
        ("Mul", "node_Mul_10", ["p3", "root"], "p4", {}),
        ("Tanh", "node_Tanh_11", ["p4"], "p5", {}),
        ("Add", "node_Add_12", ["p5", "one"], "p6", {}),
        ("Mul", "node_Mul_13", ["silu", "p6"], "p7", {}),
        ("Mul", "node_Mul_14", ["p7", "half"], "gelu", {}),
        ("ReduceMean", "node_ReduceMean_15", ["gelu"], "m", {"axes": [1, 2], "keepdims": 0}),
        ("MatMul", "node_MatMul_16", ["m", "dense"], "o", {}),
        ("Add", "node_Add_17", ["o", "b5"], "out", {}),
    ]
    nodes = nodes if named else [(op, "", *rest) for op, _, *rest in nodes]
    weights = {
        "w": floats(4, 3, 3, 3), "b": floats(4), "to": np.array([1, 1, 1, 4]), "three": np.float32(3),
        "k": np.float32(0.044715), "root": np.float32((2 / np.pi) ** 0.5), "one": np.float32(1),
        "half": np.float32(0.5), "dense": floats(4, 5), "b5": floats(5),
    }  # fmt: skip
    model = imported(tmp_path, nodes, weights)
    end = (1, 5, 11, 16) if named else (0, 0, 0, 0)
    names = [f"{kind}_{n}" for kind, n in zip(("Conv", "Sigmoid", "Tanh", "MatMul"), end, strict=True)]
    assert list(kinds(model)) == names
    assert {F.silu, F.gelu, F.conv2d, F.linear} <= set(functions(model))
    assert torch.add not in functions(model)  # the biases are in their layers


def test_classes_that_torch_keeps(tmp_path):
    def beside(*scopes):
        names, classes = [""], ["mine.Net"]
        for name, kind in scopes:
            names.append(name)
            classes.append(kind)
        return {"pkg.torch.onnx.name_scopes": str([*names, "op"]),
                "pkg.torch.onnx.class_hierarchy": str([*classes, "aten.op"])}  # fmt: skip

    block = ("block", "mine.Squeeze")
    told = {
        "a": beside(("stem", "torch.nn.modules.conv.Conv2d")),
        "b": beside(block, ("block.act", "torch.nn.modules.activation.SiLU")),
        "c": beside(block, ("block.act", "torch.nn.modules.activation.SiLU")),
        "d": beside(block),
        "e": {"pkg.torch.onnx.name_scopes": "no list", "pkg.torch.onnx.class_hierarchy": "["},
    }
    nodes = [
        ("Conv", "a", ["x", "stem.weight"], "c", {}),
        ("Sigmoid", "b", ["c"], "s", {}),
        ("Mul", "c", ["c", "s"], "m", {}),
        ("GlobalAveragePool", "d", ["m"], "p", {}),
        ("Flatten", "e", ["p"], "out", {}),
    ]
    model = imported(tmp_path, nodes, {"stem.weight": floats(4, 3, 3, 3)}, shape=("N", 3, 8, 8))
    assert kinds(model) == {"stem": "Conv", "b": "Sigmoid", "d": "GlobalAveragePool"}  # without what is told
    model = imported(tmp_path, nodes, {"stem.weight": floats(4, 3, 3, 3)}, shape=("N", 3, 8, 8), told=told)
    assert kinds(model) == {"stem": "Conv2d", "block.act": "SiLU", "block": "Squeeze"}


def test_a_layer_that_is_interrupted_again_and_again(tmp_path):
    """Each part of it is a call of its own, none in the place of another."""
    functions_ = ("Sin", "Cos", "Tanh", "Sigmoid", "Exp", "Sqrt", "Neg")
    nodes, before = [], "x"
    for number, (kind, layer) in enumerate(zip(functions_, "ababababa", strict=False)):
        nodes += [
            ("Identity", f"/{layer}/Identity_{number}", [before], f"i{number}", {}),
            (kind, f"/{layer}/{kind}", [f"i{number}"], f"v{number}", {}),
        ]
        before = f"v{number}"
    nodes += [("Flatten", "/Flatten", [before], "out", {})]
    model = imported(tmp_path, nodes, {}, shape=("N", 3, 5, 5))
    x = torch.rand(2, 3, 5, 5)
    wanted = -torch.sqrt(torch.exp(torch.sigmoid(torch.tanh(torch.cos(torch.sin(x))))))
    torch.testing.assert_close(model(x), wanted.flatten(1))
    assert {"a", "b", "a_call2", "a_call3", "a_call4", "b_call2", "b_call3"} == set(kinds(model))
