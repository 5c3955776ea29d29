"""Gradients through an imported network over those through the same network written in torch, beside JAX's own.

JAX is timed with jit, its compilation before the clock starts, and gives its gradient of the same batch.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.convnext import CNBlockConfig, ConvNeXt

import pellucid

from .cases import Functions

SIDE, COUNT = 96, 8
TARGET = 6


def gradient(net: nn.Module, images: Tensor) -> Tensor:
    x = images.clone().requires_grad_()
    return torch.autograd.grad(net(x)[:, TARGET].sum(), x)[0]


def in_flax(make: Callable[[], Any], twin: Callable[[], nn.Module], side: int, channels: int, count: int) -> Functions:
    """A network of Flax (its module, made by `make`), imported, beside its twin in torch."""
    import jax
    import jax.numpy as jnp

    images = torch.rand(count, channels, side, side, generator=torch.Generator().manual_seed(1))
    inputs = jnp.asarray(images.permute(0, 2, 3, 1).numpy())
    module = make()
    rng = np.random.default_rng(0)

    def drawn(path: Any, like: Any) -> Any:  # to draw weights as the module would takes JAX a minute
        array = rng.normal(0, max(1, np.prod(like.shape[:-1])) ** -0.5, like.shape)
        return jnp.asarray(abs(array) + 0.3 if "var" in str(path[-1]) else array, like.dtype)

    shapes = jax.eval_shape(module.init, jax.random.key(0), inputs[:1])
    variables = jax.tree_util.tree_map_with_path(drawn, shapes)
    model = pellucid.from_jax(lambda x: module.apply(variables, x), np.asarray(inputs[:1]))
    source = jax.jit(jax.grad(lambda x: module.apply(variables, x)[:, TARGET].sum()))
    net = twin().eval()
    for weight in net.parameters():
        weight.requires_grad_(False)
    return {
        "lower bound": lambda: gradient(net, images),
        "imported": lambda: gradient(model, images),
        "JAX, jit": lambda: source(inputs).block_until_ready(),
    }


def cnn() -> Functions:
    from flax import linen

    class Net(linen.Module):
        @linen.compact
        def __call__(self, x: Any) -> Any:
            for width in (32, 64, 128):
                x = linen.avg_pool(linen.relu(linen.Conv(width, (3, 3))(x)), (2, 2), (2, 2))
            return linen.Dense(10)(linen.relu(linen.Dense(256)(x.reshape(len(x), -1))))

    def twin() -> nn.Module:
        layers: list[nn.Module] = []
        for before, after in ((1, 32), (32, 64), (64, 128)):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2)]
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(1152, 256), nn.ReLU(), nn.Linear(256, 10))

    return in_flax(Net, twin, 28, 1, 64)


def resnet() -> Functions:
    from flax import linen

    conv = partial(linen.Conv, use_bias=False)
    norm = partial(linen.BatchNorm, use_running_average=True)

    class Block(linen.Module):
        width: int
        stride: int

        @linen.compact
        def __call__(self, x: Any) -> Any:
            y = conv(self.width, (3, 3), (self.stride, self.stride), padding=1)(x)
            y = norm()(conv(self.width, (3, 3), padding=1)(linen.relu(norm()(y))))
            if x.shape != y.shape:
                x = norm()(conv(self.width, (1, 1), (self.stride, self.stride))(x))
            return linen.relu(x + y)

    class Net(linen.Module):
        @linen.compact
        def __call__(self, x: Any) -> Any:
            x = linen.relu(norm()(conv(64, (7, 7), (2, 2), padding=3)(x)))
            x = linen.max_pool(x, (3, 3), (2, 2), [(1, 1), (1, 1)])
            for width in (64, 128, 256, 512):
                x = Block(width, 1)(Block(width, 1 if width == 64 else 2)(x))
            return linen.Dense(1000)(x.mean((1, 2)))

    return in_flax(Net, torchvision.models.resnet18, SIDE, 3, COUNT)


def vit() -> Functions:
    from flax import linen

    class Block(linen.Module):
        @linen.compact
        def __call__(self, x: Any) -> Any:
            y = linen.LayerNorm()(x)
            x = x + linen.MultiHeadDotProductAttention(3, deterministic=True)(y, y)
            y = linen.gelu(linen.Dense(768)(linen.LayerNorm()(x)), approximate=False)
            return x + linen.Dense(192)(y)

    class Net(linen.Module):
        @linen.compact
        def __call__(self, x: Any) -> Any:
            import jax.numpy as jnp

            x = linen.Conv(192, (16, 16), (16, 16))(x).reshape(len(x), -1, 192)
            token = self.param("cls", linen.initializers.normal(), (1, 1, 192))
            x = jnp.concatenate([jnp.broadcast_to(token, (len(x), 1, 192)), x], 1)
            x = x + self.param("position", linen.initializers.normal(), (1, x.shape[1], 192))
            for _ in range(6):
                x = Block()(x)
            return linen.Dense(1000)(linen.LayerNorm()(x)[:, 0])

    def twin() -> nn.Module:
        return torchvision.models.VisionTransformer(SIDE, 16, 6, 3, 192, 768)

    return in_flax(Net, twin, SIDE, 3, COUNT)


def convnext() -> Functions:
    from flax import linen

    norm = partial(linen.LayerNorm, epsilon=1e-6)

    class Net(linen.Module):
        @linen.compact
        def __call__(self, x: Any) -> Any:
            x = norm()(linen.Conv(48, (4, 4), (4, 4))(x))
            for width in (48, 96, 192):
                if width != 48:
                    x = linen.Conv(width, (2, 2), (2, 2))(norm()(x))
                for number in range(2):
                    y = linen.Conv(width, (7, 7), padding=3, feature_group_count=width)(x)
                    y = linen.gelu(linen.Dense(4 * width)(norm()(y)), approximate=False)
                    scale = self.param(f"scale_{width}_{number}", linen.initializers.ones_init(), (width,))
                    x = x + scale * linen.Dense(width)(y)
            return linen.Dense(1000)(norm()(x.mean((1, 2))))

    def twin() -> nn.Module:
        return ConvNeXt([CNBlockConfig(48, 96, 2), CNBlockConfig(96, 192, 2), CNBlockConfig(192, None, 2)])

    return in_flax(Net, twin, SIDE, 3, COUNT)


def exported(name: str) -> Functions:
    """A network of torchvision, exported to ONNX and imported again, beside itself."""
    images = torch.rand(COUNT, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    options = {"image_size": SIDE} if name.startswith("vit") else {}
    net = torchvision.models.get_model(name, weights=None, **options).eval()
    path = Path(tempfile.mkdtemp(), f"{name}.onnx")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net, (images[:2],), path, dynamo=False, input_names=["images"], dynamic_axes={"images": {0: "N"}}
        )
    model = pellucid.from_onnx(path)
    for weight in net.parameters():
        weight.requires_grad_(False)
    return {"lower bound": lambda: gradient(net, images), "imported": lambda: gradient(model, images)}


CASES: dict[str, Callable[[], Functions]] = {
    "import:jax:cnn": cnn,
    "import:jax:resnet18": resnet,
    "import:jax:vit": vit,
    "import:jax:convnext": convnext,
    "import:onnx:resnet18": partial(exported, "resnet18"),
    "import:onnx:mobilenet_v3_small": partial(exported, "mobilenet_v3_small"),
    "import:onnx:swin_t": partial(exported, "swin_t"),
}
