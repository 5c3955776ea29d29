"""A network in torch whose weights are those of one in JAX, both in float64, and what must agree between them."""

from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import pellucid

jax = pytest.importorskip("jax")


@contextmanager
def float64():
    with jax.enable_x64(True):
        yield


def images(size: int = 16, count: int = 2, channels: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.rand(count, channels, size, size, generator=generator, dtype=torch.float64)


def last(x: Tensor) -> np.ndarray:
    """N x C x H x W as N x H x W x C."""
    return x.permute(0, 2, 3, 1).contiguous().numpy()


def shaken(tree, seed: int = 0):
    """Weights away from what they begin with, so that zeros and ones hide nothing; variances stay above zero."""
    rng = np.random.default_rng(seed)

    def one(path, array):
        if not hasattr(array, "shape"):
            return array
        noise = rng.normal(0, 0.2, array.shape)
        word = str(path[-1]) + str(path[-2] if len(path) > 1 else "")
        values = np.asarray(array, dtype=np.float64)
        return jax.numpy.asarray(np.abs(values + noise) + 0.3 if "var" in word else values + noise)

    return jax.tree_util.tree_map_with_path(one, tree)


def conv(weights, bias=None, **options) -> nn.Conv2d:
    """A torch convolution with the weights of one whose kernel is H x W x I x O."""
    kernel = torch.from_numpy(np.array(weights, dtype=np.float64)).permute(3, 2, 0, 1).contiguous()
    groups = options.get("groups", 1)
    layer = nn.Conv2d(kernel.shape[1] * groups, len(kernel), kernel.shape[2:], bias=bias is not None, **options)
    layer.weight.data = kernel
    if bias is not None:
        layer.bias.data = vector(bias)
    return layer


def dense(weights, bias=None) -> nn.Linear:
    """A torch dense layer with the weights of one whose kernel is I x O."""
    kernel = torch.from_numpy(np.array(weights, dtype=np.float64))
    layer = nn.Linear(*kernel.shape, bias=bias is not None)
    layer.weight.data = kernel.T.contiguous()
    if bias is not None:
        layer.bias.data = vector(bias)
    return layer


def batch_norm(scale, bias, mean, var, eps=1e-5) -> nn.BatchNorm2d:
    layer = nn.BatchNorm2d(len(scale), eps=eps).double()
    layer.weight.data, layer.bias.data = vector(scale), vector(bias)
    layer.running_mean, layer.running_var = vector(mean), vector(var)
    return layer


def vector(array) -> Tensor:
    return torch.from_numpy(np.array(array, dtype=np.float64))


class Flat(nn.Module):
    """N x C x H x W flattened with the channels last, as JAX does."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1).flatten(1)


class Pool(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, 2)


def agree(model: pellucid.Classifier, net: nn.Module, x: Tensor, rules=("EPSILON_PLUS_FLAT", "EPSILON_GAMMA_BOX")):
    """Logits, gradients and relevances are those of the network written in torch."""
    net = net.double().eval()
    torch.testing.assert_close(model(x), net(x), rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(model(x[:1]), net(x[:1]), rtol=1e-9, atol=1e-10)
    mine, theirs = (pellucid.saliency(m, x, 1).values for m in (model, net))
    torch.testing.assert_close(mine, theirs, rtol=1e-8, atol=1e-10)
    for name in rules:
        mine, theirs = (pellucid.lrp(m, x, 1, rules=name).values for m in (model, net))
        torch.testing.assert_close(mine, theirs, rtol=1e-7, atol=1e-9 * float(theirs.abs().max()) + 1e-12)
    mine, theirs = (pellucid.guided_backprop(m, x, 1).values for m in (model, net))
    torch.testing.assert_close(mine, theirs, rtol=1e-8, atol=1e-10)
