"""Networks as they are written in Flax, in its older and its newer library, in float32: outputs, and gradients beside
those of jax.grad."""

import functools

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import pellucid

jax = pytest.importorskip("jax")
linen, nnx = pytest.importorskip("flax.linen"), pytest.importorskip("flax.nnx")
jnp = jax.numpy

from .twins import last  # noqa: E402

SIDE = 32


def filled(shapes):
    """Weights for a tree of shapes: random, variances above zero. Nothing is compiled for it."""
    rng = np.random.default_rng(0)

    def one(path, like):
        if not jnp.issubdtype(like.dtype, jnp.floating):
            return like
        array = rng.normal(0, 1 / max(1, np.prod(like.shape[:-1])) ** 0.5, like.shape)
        return jnp.asarray(np.abs(array) + 0.3 if "var" in str(path[-2:]) else array, jnp.float32)

    return jax.tree_util.tree_map_with_path(one, shapes)


def variables_of(net, **options):
    image = jax.ShapeDtypeStruct((1, SIDE, SIDE, 3), jnp.float32)
    return filled(jax.eval_shape(functools.partial(net.init, **options), jax.random.key(0), image))


def made(kind):
    """A module of the newer library with weights of that sort, in evaluation mode."""
    graph, state = nnx.split(nnx.eval_shape(lambda: kind(nnx.Rngs(0))))
    return nnx.merge(graph, filled(state))


def agree(function, *wanted, absent=()):
    """Outputs to 1e-5 and gradients to 1e-4 of the largest, for batches of other sizes than the example's."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(4, 3, SIDE, SIDE, generator=generator)
    model = pellucid.from_jax(function, last(images))

    def source(x):
        out = function(x)
        return (out[:, 1] * jnp.arange(1, len(x) + 1)).sum(), out

    gradient, outputs = jax.jit(jax.grad(source, has_aux=True))(last(images))
    outputs, gradient = torch.from_numpy(np.array(outputs)), torch.from_numpy(np.array(gradient)).permute(0, 3, 1, 2)
    for count in (1, 4):
        x = images[:count].clone().requires_grad_()
        mine = model(x)
        assert float((mine.detach() - outputs[:count]).abs().max()) <= 1e-5 * float(outputs.abs().max())
        (mine,) = torch.autograd.grad((mine[:, 1] * torch.arange(1.0, count + 1)).sum(), x)
        assert float((mine - gradient[:count]).abs().max()) <= 1e-4 * float(gradient.abs().max())
    graphs = [module.graph for module in model.net.modules() if hasattr(module, "graph")]
    called = {node.target for graph in graphs for node in graph.nodes if node.op == "call_function"}
    assert set(wanted) <= called and not called & set(absent)
    return model


MADE_OF_SUMS = (torch.sum, torch.rsqrt, torch.exp, torch.erf, torch.sqrt)  # what a recognized function leaves none of


class Residual(linen.Module):
    width: int
    stride: int

    @linen.compact
    def __call__(self, x, train: bool):
        conv = functools.partial(linen.Conv, use_bias=False)
        norm = functools.partial(linen.BatchNorm, use_running_average=not train, momentum=0.9, epsilon=1e-5)
        y = linen.relu(norm()(conv(self.width, (3, 3), (self.stride, self.stride))(x)))
        y = norm(scale_init=linen.initializers.zeros_init())(conv(self.width, (3, 3))(y))
        if x.shape != y.shape:
            x = norm(name="norm_proj")(conv(self.width, (1, 1), (self.stride, self.stride), name="conv_proj")(x))
        return linen.relu(x + y)


class ResNet(linen.Module):
    @linen.compact
    def __call__(self, x, train: bool):
        x = linen.Conv(8, (7, 7), (2, 2), padding=[(3, 3), (3, 3)], use_bias=False, name="conv_init")(x)
        x = linen.relu(linen.BatchNorm(use_running_average=not train, name="bn_init")(x))
        x = linen.max_pool(x, (3, 3), strides=(2, 2), padding="SAME")
        for width, stride in ((8, 1), (16, 2), (32, 2)):
            x = Residual(width, stride)(x, train)
        return linen.Dense(5)(jnp.mean(x, axis=(1, 2)))


def resnet():
    net = ResNet()
    return net, variables_of(net, train=False)


def test_resnet():
    net, variables = resnet()
    model = agree(lambda x: net.apply(variables, x, train=False), F.conv2d, F.max_pool2d, F.linear, F.relu)
    names = [layer.name for layer in pellucid.layers(model)]
    assert {"conv_init", "bn_init", "Residual_1.conv_proj", "Residual_2.BatchNorm_1", "Dense_0"} <= set(names)


def test_resnet_while_it_trains():
    net, variables = resnet()
    example = np.zeros((1, SIDE, SIDE, 3), np.float32)

    def refused(function, *words):
        with pytest.raises(pellucid.importers.ImportFailed) as caught:
            pellucid.from_jax(function, example)
        assert all(word in str(caught.value) for word in words), caught.value

    refused(lambda x: net.apply(variables, x, train=True), "train=False")
    refused(lambda x: net.apply(variables, x, train=True, mutable=["batch_stats"])[0], "use_running_average=True")
    refused(lambda x: net.apply(variables, x, train=False, mutable=["batch_stats"]), "tuple", "choose it")


class Encoder(linen.Module):
    @linen.compact
    def __call__(self, x, train: bool):
        y = linen.LayerNorm()(x)
        y = linen.MultiHeadDotProductAttention(4, dropout_rate=0.1, deterministic=not train)(y, y)
        x = x + linen.Dropout(0.1, deterministic=not train)(y)
        y = linen.gelu(linen.Dense(64)(linen.LayerNorm()(x)))
        return x + linen.Dropout(0.1, deterministic=not train)(linen.Dense(32)(y))


class Transformer(linen.Module):
    @linen.compact
    def __call__(self, x, train: bool = False):
        x = linen.Conv(32, (8, 8), (8, 8), padding="VALID", name="embedding")(x)
        x = x.reshape(len(x), -1, 32)
        token = self.param("cls", linen.initializers.normal(), (1, 1, 32))
        x = jnp.concatenate([jnp.tile(token, (len(x), 1, 1)), x], axis=1)
        x = x + self.param("position", linen.initializers.normal(0.02), (1, x.shape[1], 32))
        for _ in range(2):
            x = Encoder()(x, train)
        return linen.Dense(5, name="head")(linen.LayerNorm(name="norm")(x)[:, 0])


def test_vision_transformer():
    net = Transformer()
    variables = variables_of(net)
    model = agree(
        lambda x: net.apply(variables, x), F.scaled_dot_product_attention, F.layer_norm, F.gelu, absent=MADE_OF_SUMS
    )
    shapes = {layer.name: layer.shape for layer in pellucid.layers(model)}
    assert shapes["embedding"] == (32, 4, 4) and shapes["Encoder_1"] == (17, 32)
    with pytest.raises(pellucid.importers.ImportFailed, match="random numbers.*train=False"):
        rngs = {"dropout": jax.random.key(1)}
        pellucid.from_jax(lambda x: net.apply(variables, x, train=True, rngs=rngs), np.zeros((1, 32, 32, 3), "float32"))


class ConvNeXt(linen.Module):
    @linen.compact
    def __call__(self, x):
        x = linen.LayerNorm(epsilon=1e-6)(linen.Conv(12, (4, 4), (4, 4), name="stem")(x))
        for width in (12, 24):
            if x.shape[-1] != width:
                x = linen.Conv(width, (2, 2), (2, 2))(linen.LayerNorm(epsilon=1e-6)(x))
            y = linen.Conv(width, (7, 7), padding=3, feature_group_count=width)(x)
            y = linen.Dense(4 * width)(linen.LayerNorm(epsilon=1e-6)(y))
            y = linen.Dense(width)(linen.gelu(y, approximate=False))
            x = x + y * self.param(f"gamma_{width}", linen.initializers.constant(0.1), (width,))
        return linen.Dense(5, name="head")(linen.LayerNorm()(x.mean((1, 2))))


def test_convnext():
    net = ConvNeXt()
    variables = variables_of(net)
    model = agree(lambda x: net.apply(variables, x), F.conv2d, F.layer_norm, F.gelu, F.linear, absent=MADE_OF_SUMS)
    assert {layer.name for layer in pellucid.layers(model)} >= {"stem", "Conv_0", "Dense_3", "LayerNorm_4", "head"}


# The newer library.


class NewResidual(nnx.Module):
    def __init__(self, before, width, stride, rngs):
        self.conv1 = nnx.Conv(before, width, (3, 3), strides=(stride, stride), use_bias=False, rngs=rngs)
        self.norm1, self.norm2 = nnx.BatchNorm(width, rngs=rngs), nnx.BatchNorm(width, rngs=rngs)
        self.conv2 = nnx.Conv(width, width, (3, 3), use_bias=False, rngs=rngs)
        self.proj = nnx.Conv(before, width, (1, 1), strides=(stride, stride), rngs=rngs)

    def __call__(self, x):
        y = self.norm2(self.conv2(nnx.relu(self.norm1(self.conv1(x)))))
        return nnx.relu(self.proj(x) + y)


class NewResNet(nnx.Module):
    def __init__(self, rngs):
        self.stem = nnx.Conv(3, 8, (7, 7), strides=(2, 2), use_bias=False, rngs=rngs)
        self.norm = nnx.BatchNorm(8, rngs=rngs)
        self.blocks = nnx.List([NewResidual(8, 8, 1, rngs), NewResidual(8, 16, 2, rngs)])
        self.dropout = nnx.Dropout(0.2, rngs=rngs)
        self.head = nnx.Linear(16, 5, rngs=rngs)

    def __call__(self, x):
        x = nnx.max_pool(nnx.relu(self.norm(self.stem(x))), (3, 3), strides=(2, 2), padding="SAME")
        for block in self.blocks:
            x = block(x)
        return self.head(self.dropout(x.mean((1, 2))))


def test_nnx_resnet():
    net = made(NewResNet)
    with pytest.raises(pellucid.importers.ImportFailed, match=r"model\.eval\(\)"):
        pellucid.from_jax(net, np.zeros((1, SIDE, SIDE, 3), np.float32))
    net.eval()
    model = agree(net, F.conv2d, F.max_pool2d, F.linear, F.relu)
    names = {layer.name for layer in pellucid.layers(model)}
    assert {"stem", "norm", "blocks.0.conv1", "blocks.1.proj", "head"} <= names


class NewTransformer(nnx.Module):
    def __init__(self, rngs):
        self.embedding = nnx.Conv(3, 32, (8, 8), strides=(8, 8), padding="VALID", rngs=rngs)
        self.token = nnx.Param(jnp.ones((1, 1, 32)))
        self.position = nnx.Param(jax.random.normal(jax.random.key(1), (1, 17, 32)))
        self.norm1, self.norm2, self.norm3 = (nnx.LayerNorm(32, rngs=rngs) for _ in range(3))
        self.attention = nnx.MultiHeadAttention(4, 32, decode=False, rngs=rngs)
        self.up, self.down = nnx.Linear(32, 64, rngs=rngs), nnx.Linear(64, 32, rngs=rngs)
        self.head = nnx.Linear(32, 5, rngs=rngs)

    def __call__(self, x):
        x = self.embedding(x).reshape(len(x), -1, 32)
        x = jnp.concatenate([jnp.broadcast_to(self.token[...], (len(x), 1, 32)), x], 1) + self.position[...]
        x = x + self.attention(self.norm1(x))
        x = x + self.down(nnx.gelu(self.up(self.norm2(x)), approximate=False))
        return self.head(self.norm3(x)[:, 0])


def test_nnx_vision_transformer():
    net = made(NewTransformer)
    net.eval()
    model = agree(net, F.scaled_dot_product_attention, F.layer_norm, F.gelu, absent=MADE_OF_SUMS)
    assert {"embedding", "norm1", "up", "head"} <= {layer.name for layer in pellucid.layers(model)}


class NewConvNeXt(nnx.Module):
    def __init__(self, rngs):
        self.stem = nnx.Conv(3, 12, (4, 4), strides=(4, 4), rngs=rngs)
        self.depthwise = nnx.Conv(12, 12, (7, 7), feature_group_count=12, rngs=rngs)
        self.norm, self.last = nnx.LayerNorm(12, rngs=rngs), nnx.LayerNorm(12, rngs=rngs)
        self.up, self.down = nnx.Linear(12, 48, rngs=rngs), nnx.Linear(48, 12, rngs=rngs)
        self.gamma = nnx.Param(jnp.full((12,), 0.1))
        self.head = nnx.Linear(12, 5, rngs=rngs)

    def __call__(self, x):
        x = self.stem(x)
        y = self.down(nnx.gelu(self.up(self.norm(self.depthwise(x)))))
        return self.head(self.last((x + y * self.gamma[...]).mean((1, 2))))


def test_nnx_convnext():
    net = made(NewConvNeXt)
    model = agree(net, F.conv2d, F.layer_norm, F.gelu, F.linear, absent=MADE_OF_SUMS)
    assert {layer.name: layer.shape for layer in pellucid.layers(model)}["depthwise"] == (12, 8, 8)
