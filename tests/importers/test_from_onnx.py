"""Networks exported from torch to ONNX, and imported again: outputs, gradients, relevances and names of the source."""

import copy
import warnings

import numpy as np
import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

import pellucid

onnx = pytest.importorskip("onnx")

SIDE = 64


def shaken(net: nn.Module, seed: int = 0) -> nn.Module:
    """Batch norms and biases away from what they begin with, so that zeros and ones hide nothing."""
    generator = torch.Generator().manual_seed(seed)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.copy_(torch.randn(module.running_mean.shape, generator=generator) * 0.1)
            module.running_var.copy_(torch.rand(module.running_var.shape, generator=generator) + 0.5)
    with torch.no_grad():
        for name, weight in net.named_parameters():
            if name.endswith("bias") or not weight.any():
                weight.copy_(torch.randn(weight.shape, generator=generator) * 0.1)
    return net.eval()


def images(side: int = SIDE, count: int = 2) -> torch.Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(1))


def exported(net: nn.Module, path, side: int = SIDE, open_: bool = True, **options):
    """The file of a network, with the batch size open or 2."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        axes = {"dynamic_axes": {"images": {0: "N"}}} if open_ else {}
        torch.onnx.export(net, (images(side),), path, dynamo=False, input_names=["images"], **axes, **options)
    return path


def agree(model, net, x, rules=("EPSILON_PLUS_FLAT", "EPSILON_GAMMA_BOX")):
    """Outputs to 1e-5; in float64, which leaves no rounding to hide behind, gradients and relevances to 1e-5."""

    def close(mine, theirs, limit):
        difference, largest = (float(t.detach().abs().max()) for t in (mine - theirs, theirs))
        assert difference <= limit * largest

    assert model.net.difference < 1e-5
    for part in (x, x[:1]):
        close(model(part), net(part), 1e-5)
    model, net, x = copy.deepcopy(model).double(), copy.deepcopy(net).double(), x.double()
    for method in (pellucid.saliency, pellucid.guided_backprop):
        close(*(method(m, x, 1).values for m in (model, net)), 1e-5)
    for name in rules:
        close(*(pellucid.lrp(m, x, 1, rules=name).values for m in (model, net)), 1e-5)


def functions(model) -> set:
    """The functions that a model calls."""
    graphs = [module.graph for module in model.net.modules() if hasattr(module, "graph")]
    return {node.target for graph in graphs for node in graph.nodes if node.op == "call_function"}


def vgg() -> nn.Module:
    net = torchvision.models.vgg11_bn(weights=None, init_weights=False)
    net.avgpool, net.classifier = nn.AdaptiveAvgPool2d(2), nn.Linear(2048, 5)
    return net


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "vgg11_bn", "squeezenet1_1"])
def test_networks_of_torchvision(name, tmp_path):
    torch.manual_seed(0)
    net = vgg() if name == "vgg11_bn" else torchvision.models.get_model(name, weights=None, num_classes=5)
    net, x = shaken(net), images()
    opset = 13 if name == "mobilenet_v3_small" else 20  # before 14 a hard swish is a product
    model = pellucid.from_onnx(exported(net, tmp_path / "net.onnx", opset_version=opset))
    agree(model, net, x)
    mine, theirs = ({layer.name for layer in pellucid.layers(m, x)} for m in (model, net))
    convolutions = {n for n, m in net.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear))}
    assert convolutions <= mine & theirs
    wanted = {"mobilenet_v3_small": {F.hardswish, F.hardsigmoid, F.conv2d, F.linear}}.get(name, {F.conv2d, F.relu})
    assert wanted <= functions(model)


class Transformer(nn.Module):
    """A small vision transformer with a class token, of torch's own blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 24, 16, 16)
        self.cls = nn.Parameter(torch.randn(1, 1, 24))
        self.position = nn.Parameter(torch.randn(1, 17, 24))
        self.norms = nn.ModuleList(nn.LayerNorm(24) for _ in range(3))
        self.attention = nn.MultiheadAttention(24, 3, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(24, 48), nn.GELU(), nn.Linear(48, 24))
        self.head = nn.Linear(24, 4)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(x.shape[0], -1, -1), x], 1) + self.position
        y = self.norms[0](x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        x = x + self.mlp(self.norms[1](x))
        return self.head(self.norms[2](x)[:, 0])


@pytest.mark.slow
@pytest.mark.parametrize("opset", [14, 17, 20])
@pytest.mark.parametrize("open_", [True, False])
def test_a_vision_transformer(opset, open_, tmp_path):
    """Layer norm is one operator from opset 17 on, GELU from 20 on: before, they are known by what they compute."""
    torch.manual_seed(0)
    net, x = shaken(Transformer()), images(count=3)
    model = pellucid.from_onnx(exported(net, tmp_path / "net.onnx", opset_version=opset, open_=open_))
    agree(model, net, x, rules=("ATTNLRP", "CP_LRP"))
    assert {F.layer_norm, F.gelu, F.scaled_dot_product_attention, F.linear} <= functions(model)
    shapes = {layer.name: layer.shape for layer in pellucid.layers(model)}
    assert shapes["attention"] == (17, 24) and shapes["mlp.0"] == (17, 48) and shapes["norms.0"] == (17, 24)


class Block(nn.Module):
    """Of ConvNeXt: depthwise convolution, layer norm over channels, dense layers at each place, a scale."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.up, self.down = nn.Linear(width, 3 * width), nn.Linear(3 * width, width)
        self.gamma = nn.Parameter(torch.rand(width))

    def forward(self, x):
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.down(F.gelu(self.up(y))) * self.gamma
        return x + y.permute(0, 3, 1, 2)


@pytest.mark.slow
@pytest.mark.parametrize("opset", [13, 20])
def test_a_convnext(opset, tmp_path):
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 4, 4), Block(8), nn.GroupNorm(2, 8), Block(8), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    net, x = shaken(nn.Sequential(*layers, nn.Linear(8, 4))), images()
    model = pellucid.from_onnx(exported(net, tmp_path / "net.onnx", opset_version=opset))
    agree(model, net, x)
    assert {F.layer_norm, F.gelu, F.group_norm, F.linear} <= functions(model)
    assert {"1.depthwise", "1.norm", "1.up", "3.down"} <= {layer.name for layer in pellucid.layers(model)}


def test_batch_norms_that_the_exporter_left(tmp_path):
    torch.manual_seed(0)
    net = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU6(), nn.Conv2d(4, 3, 3, 2))
    net = shaken(nn.Sequential(*net, nn.LeakyReLU(0.2), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Softmax(1)))
    path = exported(net, tmp_path / "net.onnx", training=torch.onnx.TrainingMode.PRESERVE)
    model = pellucid.from_onnx(path, images().numpy(), labels=["a", "b", "c"])
    agree(model, net[:-1].eval(), images())  # without the softmax
    assert {F.batch_norm, F.relu6} <= functions(model)
    kept = pellucid.from_onnx(path, logits=False)
    torch.testing.assert_close(kept(images()), net(images()))
    assert model.labels == ("a", "b", "c") and model.name == "net"


def test_a_file_of_tensorflow(tmp_path):
    """Channels last, turned at the borders of each convolution; a dense layer as a product and a sum."""
    rng = np.random.default_rng(0)
    kernels = [rng.normal(0, 0.3, size).astype(np.float32) for size in ((4, 3, 3, 3), (6, 4, 3, 3))]
    dense, bias = rng.normal(size=(6, 5)).astype(np.float32), rng.normal(size=5).astype(np.float32)
    shift = rng.normal(size=(1, 1, 1, 4)).astype(np.float32)
    nodes = [
        ("Transpose", "first/Conv2D__5", ["image"], ["t"], {"perm": [0, 3, 1, 2]}),
        ("Conv", "model/first/Conv2D", ["t", "k0"], ["c"], {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
        ("Transpose", "model/first/Conv2D__6", ["c"], ["c_last"], {"perm": [0, 2, 3, 1]}),
        ("Add", "model/first/BiasAdd", ["c_last", "shift"], ["b"], {}),
        ("Relu", "model/first/Relu", ["b"], ["r"], {}),
        ("Transpose", "model/second/Conv2D__9", ["r"], ["r_first"], {"perm": [0, 3, 1, 2]}),
        ("Conv", "model/second/Conv2D", ["r_first", "k1"], ["d"], {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
        ("Transpose", "model/second/Conv2D__10", ["d"], ["d_last"], {"perm": [0, 2, 3, 1]}),
        ("ReduceMean", "model/pool/Mean", ["d_last"], ["m"], {"axes": [1, 2], "keepdims": 0}),
        ("MatMul", "model/dense/MatMul", ["m", "dense"], ["p"], {}),
        ("Add", "model/dense/BiasAdd", ["p", "bias"], ["logits"], {}),
        ("Softmax", "model/dense/Softmax", ["logits"], ["out"], {"axis": -1}),
    ]
    weights = {"k0": kernels[0], "k1": kernels[1], "dense": dense, "bias": bias, "shift": shift}
    path = saved(tmp_path / "net.onnx", nodes, weights, ("unk__1", 15, 15, 3), ("unk__2", 5), opset=13)
    model = pellucid.from_onnx(path)
    first = nn.Conv2d(3, 4, 3, 2, padding=1)
    second = nn.Conv2d(4, 6, 3, 2, bias=False)
    last = nn.Linear(6, 5)
    for weight, array in (
        (first.weight, kernels[0]), (first.bias, shift.ravel()), (second.weight, kernels[1]), (last.weight, dense.T),
        (last.bias, bias),
    ):  # fmt: skip
        weight.data = torch.from_numpy(array.copy())
    pads = nn.ZeroPad2d((0, 1, 0, 1))
    net = nn.Sequential(first, nn.ReLU(), pads, second, nn.AdaptiveAvgPool2d(1), nn.Flatten(), last).eval()
    agree(model, net, images(15))
    assert [layer.name for layer in pellucid.layers(model)] == ["first", "second", "pool", "dense"]
    (name,) = [n for n, p in model.net.named_parameters() if p.shape == (4,)]
    assert name == "first.bias"  # it is the convolution's own


def saved(path, nodes, weights, images_, out, opset=17, ir=8, **options):
    """A file of nodes (operator, name, inputs, outputs, attributes)."""
    helper = onnx.helper
    made = [helper.make_node(op, inputs, outputs, name=name, **attributes)
            for op, name, inputs, outputs, attributes in nodes]  # fmt: skip
    graph = helper.make_graph(
        made, "net",
        [helper.make_tensor_value_info(nodes[0][2][0], onnx.TensorProto.FLOAT, images_)],
        [helper.make_tensor_value_info(nodes[-1][3][0], onnx.TensorProto.FLOAT, out)],
        [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)
    onnx.save(model, path, **options)
    return path
