"""Networks of Flax, Equinox and Haiku against the same networks written in torch, in float64."""

import functools

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import pellucid

jax = pytest.importorskip("jax")
jnp = jax.numpy

from .twins import Flat, Pool, agree, batch_norm, conv, dense, float64, images, last, shaken, vector  # noqa: E402


@pytest.fixture(autouse=True)
def wide():
    with float64():
        yield


def exercise_twin(p) -> nn.Sequential:
    layers = [conv(p["Conv_0"]["kernel"], p["Conv_0"]["bias"], padding=1), nn.ReLU(), Pool()]
    layers += [conv(p["Conv_1"]["kernel"], p["Conv_1"]["bias"], padding=1), nn.ReLU(), Pool(), Flat()]
    layers += [dense(p["Dense_0"]["kernel"], p["Dense_0"]["bias"]), nn.ReLU()]
    return nn.Sequential(*layers, dense(p["Dense_1"]["kernel"], p["Dense_1"]["bias"]))


def test_linen_network_of_the_exercise():
    linen = pytest.importorskip("flax.linen")

    class Net(linen.Module):
        @linen.compact
        def __call__(self, x):
            for width in (4, 6):
                x = linen.avg_pool(linen.relu(linen.Conv(width, (3, 3))(x)), (2, 2), (2, 2))
            x = linen.relu(linen.Dense(8)(x.reshape(len(x), -1)))
            return linen.Dense(3)(x)

    x = images()
    net = Net()
    variables = shaken(net.init(jax.random.key(0), last(x)))
    model = pellucid.from_jax(lambda x: net.apply(variables, x), last(x), labels=["a", "b", "c"])
    assert model.net.difference < 1e-12
    agree(model, exercise_twin(variables["params"]), x)
    assert [layer.name for layer in pellucid.layers(model)] == ["Conv_0", "Conv_1", "Dense_0", "Dense_1"]
    assert model.labels == ("a", "b", "c")
    read = pellucid.run(model, x, read=["Conv_1"]).activations["Conv_1"]
    assert read.shape == (2, 6, 8, 8)  # a picture is N x C x H x W, whatever it is in JAX
    changed = pellucid.run(model, x, edit={"Dense_0": lambda h: h * 0}).output
    torch.testing.assert_close(changed[0], changed[1])


class ResNetTwin(nn.Module):
    def __init__(self, p, s):
        super().__init__()

        def pair(at, number, **options):
            inner, stats = (p[at], s[at]) if at else (p, s)
            norm, averages = inner[f"BatchNorm_{number}"], stats[f"BatchNorm_{number}"]
            made = batch_norm(norm["scale"], norm["bias"], averages["mean"], averages["var"])
            name = f"Conv_{number}" if f"Conv_{number}" in inner else "down"
            return nn.Sequential(conv(inner[name]["kernel"], **options), made)

        self.stem = pair("", 0, padding=1)
        self.first, self.second = pair("Block_0", 0, stride=2), pair("Block_0", 1, padding=1)
        self.down = pair("Block_0", 2, stride=2)
        self.fc = dense(p["Dense_0"]["kernel"], p["Dense_0"]["bias"])

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.stem(x)), 3, 2, ceil_mode=True)
        y = F.relu(self.first(F.pad(x, (0, 1, 0, 1))))  # SAME at stride 2
        return self.fc(F.relu(self.down(x) + self.second(y)).mean((2, 3)))


def test_resnet_with_batch_norm():
    linen = pytest.importorskip("flax.linen")

    class Block(linen.Module):
        @linen.compact
        def __call__(self, x):
            norm = functools.partial(linen.BatchNorm, use_running_average=True)
            y = linen.relu(norm()(linen.Conv(6, (3, 3), (2, 2), use_bias=False)(x)))
            y = norm()(linen.Conv(6, (3, 3), use_bias=False)(y))
            return linen.relu(norm()(linen.Conv(6, (1, 1), (2, 2), use_bias=False, name="down")(x)) + y)

    class Net(linen.Module):
        @linen.compact
        def __call__(self, x):
            x = linen.Conv(4, (3, 3), use_bias=False)(x)
            x = linen.relu(linen.BatchNorm(use_running_average=True)(x))
            x = linen.max_pool(x, (3, 3), (2, 2), "SAME")
            return linen.Dense(3)(Block()(x).mean((1, 2)))

    x = images()
    net = Net()
    variables = shaken(net.init(jax.random.key(0), last(x)))
    model = pellucid.from_jax(lambda x: net.apply(variables, x), last(x))
    agree(model, ResNetTwin(variables["params"], variables["batch_stats"]), x)
    names = [layer.name for layer in pellucid.layers(model)]
    assert names[:2] == ["Conv_0", "BatchNorm_0"] and "Block_0.down" in names
    assert F.batch_norm in functions(model, "BatchNorm_0")


def functions(model, layer):
    return [node.target for node in model.net.get_submodule(layer).graph.nodes if node.op == "call_function"]


class ViTTwin(nn.Module):
    def __init__(self, p):
        super().__init__()
        self.patch = conv(p["patch"]["kernel"], p["patch"]["bias"], stride=4)
        self.cls, self.position = (nn.Parameter(vector(p[name])) for name in ("cls", "position"))
        self.norms = nn.ModuleList(self.norm(p[f"LayerNorm_{i}"]) for i in range(3))
        a = p["attention"]
        self.q, self.k, self.v = (
            dense(np.reshape(a[n]["kernel"], (8, 8)), np.reshape(a[n]["bias"], 8)) for n in ("query", "key", "value")
        )
        self.out = dense(np.reshape(a["out"]["kernel"], (8, 8)), a["out"]["bias"])
        self.up, self.low, self.fc = (dense(p[n]["kernel"], p[n]["bias"]) for n in ("up", "low", "fc"))

    def norm(self, p):
        norm = nn.LayerNorm(8, eps=1e-6)
        norm.weight.data, norm.bias.data = vector(p["scale"]), vector(p["bias"])
        return norm

    def forward(self, x):
        x = self.patch(x).permute(0, 2, 3, 1).flatten(1, 2)
        x = torch.cat([self.cls.expand(len(x), -1, -1), x], 1) + self.position
        y = self.norms[0](x)
        q, k, v = (layer(y).unflatten(2, (2, 4)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        x = x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        x = x + self.low(F.gelu(self.up(self.norms[1](x))))
        return self.fc(self.norms[2](x)[:, 0])


def test_vision_transformer():
    linen = pytest.importorskip("flax.linen")

    class Net(linen.Module):
        @linen.compact
        def __call__(self, x):
            x = linen.Conv(8, (4, 4), (4, 4), padding="VALID", name="patch")(x).reshape(len(x), -1, 8)
            cls = self.param("cls", linen.initializers.normal(), (1, 1, 8))
            x = jnp.concatenate([jnp.broadcast_to(cls, (len(x), 1, 8)), x], 1)
            x = x + self.param("position", linen.initializers.normal(), (1, x.shape[1], 8))
            y = linen.LayerNorm()(x)
            x = x + linen.MultiHeadDotProductAttention(2, deterministic=True, name="attention")(y, y)
            y = linen.gelu(linen.Dense(16, name="up")(linen.LayerNorm()(x)), approximate=False)
            x = x + linen.Dense(8, name="low")(y)
            return linen.Dense(3, name="fc")(linen.LayerNorm()(x)[:, 0])

    x = images()
    net = Net()
    variables = shaken(net.init(jax.random.key(0), last(x)))
    model = pellucid.from_jax(lambda x: net.apply(variables, x), last(x))
    agree(model, ViTTwin(variables["params"]), x, rules=("ATTNLRP", "CP_LRP"))
    assert F.scaled_dot_product_attention in functions(model, "attention")
    assert functions(model, "LayerNorm_0") == [F.layer_norm]
    assert F.gelu in [node.target for node in model.net.graph.nodes]


def test_nnx():
    nnx = pytest.importorskip("flax.nnx")

    class Net(nnx.Module):
        def __init__(self, rngs):
            self.conv = nnx.Conv(3, 4, (3, 3), rngs=rngs, param_dtype=float)
            self.norm = nnx.BatchNorm(4, rngs=rngs, param_dtype=float)
            self.blocks = nnx.List([nnx.Linear(4, 5, rngs=rngs, param_dtype=float)])

        def __call__(self, x):
            x = nnx.relu(self.norm(self.conv(x)))
            return self.blocks[0](x.mean((1, 2)))

    x = images()
    net = Net(nnx.Rngs(0))
    net.eval()
    rng = np.random.default_rng(0)
    net.norm.mean[...] = jnp.asarray(rng.normal(size=4), net.norm.mean.dtype)
    net.norm.var[...] = jnp.asarray(rng.uniform(0.5, 2, size=4), net.norm.var.dtype)
    kinds = {type(net.conv), type(net.norm), type(net)}
    model = pellucid.from_jax(net, last(x))
    assert {type(net.conv), type(net.norm), type(net)} == kinds  # the caller's module is as it was
    twin = nn.Sequential(
        conv(net.conv.kernel[...], net.conv.bias[...], padding=1),
        batch_norm(net.norm.scale[...], net.norm.bias[...], net.norm.mean[...], net.norm.var[...]),
        nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        dense(net.blocks[0].kernel[...], net.blocks[0].bias[...]),
    )  # fmt: skip
    agree(model, twin, x)
    assert [(layer.name, layer.kind) for layer in pellucid.layers(model)] == [
        ("conv", "Conv"), ("norm", "BatchNorm"), ("blocks.0", "Linear")
    ]  # fmt: skip
    closed = pellucid.from_jax(lambda x: jax.nn.softmax(net(x)), last(x))  # found where a function refers to it
    assert [layer.name for layer in pellucid.layers(closed)] == ["conv", "norm", "blocks.0"]


def test_nnx_in_training_is_refused():
    nnx = pytest.importorskip("flax.nnx")
    norm = nnx.BatchNorm(3, rngs=nnx.Rngs(0))
    with jax.enable_x64(False), pytest.raises(pellucid.importers.ImportFailed, match=r"model.eval\(\)"):
        pellucid.from_jax(lambda x: norm(x).mean((1, 2)), last(images().float()), layout="NHWC")


def test_equinox():
    equinox = pytest.importorskip("equinox")

    class Net(equinox.Module):
        conv: equinox.nn.Conv2d
        pool: equinox.nn.MaxPool2d
        norm: equinox.nn.GroupNorm
        dense: list

        def __init__(self, key):
            self.conv = equinox.nn.Conv2d(3, 4, 3, padding=1, key=key)
            self.pool = equinox.nn.MaxPool2d(2, 2)
            self.norm = equinox.nn.GroupNorm(2, 4)
            self.dense = [equinox.nn.Linear(256, 6, key=key), equinox.nn.Linear(6, 3, key=key)]

        def __call__(self, x):
            x = self.norm(self.pool(jax.nn.relu(self.conv(x))))
            return self.dense[1](jax.nn.relu(self.dense[0](x.reshape(-1))))

    x = images()
    net = shaken(Net(jax.random.key(0)))
    model = pellucid.from_jax(jax.vmap(net), x.numpy())
    group = nn.GroupNorm(2, 4)
    group.weight.data, group.bias.data = vector(net.norm.weight), vector(net.norm.bias)
    first = nn.Conv2d(3, 4, 3, padding=1)
    first.weight.data, first.bias.data = vector(net.conv.weight), vector(net.conv.bias).flatten()
    twin = nn.Sequential(
        first, nn.ReLU(), nn.MaxPool2d(2), group, nn.Flatten(),
        dense(net.dense[0].weight.T, net.dense[0].bias), nn.ReLU(), dense(net.dense[1].weight.T, net.dense[1].bias),
    )  # fmt: skip
    agree(model, twin, x)
    assert [layer.name for layer in pellucid.layers(model)] == ["conv", "pool", "norm", "dense.0", "dense.1"]


def test_haiku():
    haiku = pytest.importorskip("haiku")

    def forward(x, training=False):
        x = jax.nn.relu(haiku.Conv2D(4, 3, name="first")(x))
        x = haiku.BatchNorm(True, True, 0.9)(x, training)
        x = haiku.LayerNorm(-1, True, True)(x)
        return haiku.Linear(3)(haiku.avg_pool(x, 2, 2, "VALID").mean((1, 2)))

    x = images()
    net = haiku.without_apply_rng(haiku.transform_with_state(forward))
    params, state = net.init(jax.random.key(0), last(x), True)
    params, state = shaken(params), shaken(state)
    model = pellucid.from_jax(lambda x: net.apply(params, state, x)[0], last(x))

    class Norm(nn.LayerNorm):
        def forward(self, x):
            return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    layer = Norm(4)
    layer.weight.data, layer.bias.data = (vector(params["layer_norm"][key]) for key in ("scale", "offset"))
    mean, var = (state[f"batch_norm/~/{key}_ema"]["average"].ravel() for key in ("mean", "var"))
    scale, offset = (params["batch_norm"][key].ravel() for key in ("scale", "offset"))
    twin = nn.Sequential(
        conv(params["first"]["w"], params["first"]["b"], padding=1), nn.ReLU(),
        batch_norm(scale, offset, mean, var), layer,
        Pool(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), dense(params["linear"]["w"], params["linear"]["b"]),
    )  # fmt: skip
    agree(model, twin, x)
    assert [layer.name for layer in pellucid.layers(model)] == ["first", "batch_norm", "layer_norm", "linear"]
    assert F.layer_norm in functions(model, "layer_norm")


def test_a_convnext_block():
    linen = pytest.importorskip("flax.linen")

    class Net(linen.Module):
        @linen.compact
        def __call__(self, x):
            x = linen.LayerNorm()(linen.Conv(4, (4, 4), (4, 4))(x))
            y = linen.LayerNorm()(linen.Conv(4, (3, 3), feature_group_count=4)(x))
            y = linen.Dense(4)(linen.gelu(linen.Dense(8)(y)))
            x = x + y * self.param("gamma", linen.initializers.normal(), (4,))
            return linen.Dense(3)(linen.GroupNorm(num_groups=2)(x).mean((1, 2)))

    x = images()
    net = Net()
    variables = shaken(net.init(jax.random.key(0), last(x)))
    model = pellucid.from_jax(lambda x: net.apply(variables, x), last(x))
    gradient = jax.jacobian(lambda x: net.apply(variables, x)[:, 1].sum())(last(x.detach()))
    x.requires_grad_()
    (mine,) = torch.autograd.grad(model(x)[:, 1].sum(), x)
    theirs = torch.from_numpy(np.array(gradient)).permute(0, 3, 1, 2)
    torch.testing.assert_close(mine, theirs, rtol=1e-7, atol=1e-10)
    shapes = {layer.name: layer.shape for layer in pellucid.layers(model)}
    assert shapes["Dense_1"] == (8, 4, 4) or shapes["Dense_0"] == (8, 4, 4)  # a dense layer at each place: a picture
    assert functions(model, "GroupNorm_0") == [F.group_norm]
