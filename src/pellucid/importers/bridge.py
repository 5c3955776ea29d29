"""A JAX function behind one autograd function: for what cannot be re-expressed in torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.utils.dlpack
from torch import Tensor, nn

from .library import library


class Bridge(nn.Module):
    """A JAX function as a torch module without layers. JAX computes the outputs and the gradients.

    Batches are padded to powers of two, so that JAX compiles few programs.

    Args:
        function: of a batch of images, as `axes` says.
        axes: where N, C, H, W are among its axes.
        dtype: of its images, in JAX.
    """

    def __init__(self, function: Callable[[Any], Any], axes: tuple[int, ...], dtype: torch.dtype) -> None:
        super().__init__()
        jax = library("jax", "jax")
        self.back = torch.tensor(axes).argsort().tolist()
        self.dtype = dtype
        self.plain = jax.jit(function)
        self.forwards = jax.jit(lambda x: jax.vjp(function, x))
        self.backwards = jax.jit(lambda pull, g: pull(g)[0])

    def forward(self, images: Tensor) -> Tensor:
        count = len(images)
        x = images.permute(self.back).to(self.dtype)
        missing = (1 << (count - 1).bit_length()) - count
        x = torch.cat([x, x[-1:].expand(missing, *x.shape[1:])]) if missing else x
        out: Tensor = JaxFunction.apply(x, self)
        return out[:count].to(images.dtype)


class JaxFunction(torch.autograd.Function):
    """The outputs of a JAX function, and its vector-Jacobian product; first derivatives only."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, bridge: Bridge) -> Tensor:
        ctx.bridge = bridge
        if not x.requires_grad:
            return _torch(bridge.plain(_jax(x)))
        out, ctx.pull = bridge.forwards(_jax(x))
        return _torch(out)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        return _torch(ctx.bridge.backwards(ctx.pull, _jax(g))), None


def _jax(tensor: Tensor) -> Any:
    return library("jax.dlpack", "jax").from_dlpack(tensor.detach().contiguous())


def _torch(array: Any) -> Tensor:
    return torch.utils.dlpack.from_dlpack(array).clone()  # JAX's own memory must not be written into
