"""A TensorFlow function behind autograd functions: for what cannot be re-expressed in torch.

The graph is cut at the layers that somebody looks at. What lies between two cuts is one function of TensorFlow, which
computes its own gradient.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
import torch.utils.dlpack
from torch import Tensor, nn

from ..graph.bridge import add_layers, watched
from ..graph.modules import attribute, common
from ..graph.optional_imports import library
from .reader import scope_of

Scope = tuple[str, ...]


class TensorFlowBridge(nn.Module):
    """A frozen TensorFlow function as a torch module. TensorFlow computes the outputs and the gradients.

    Its layers are modules without weights: they can be read and edited, and gradients taken at them. Pictures are
    N x C x H x W there. N is open in the graph, so that batches need no padding.

    Args:
        made: the frozen function.
        axes: where N, C, H, W are among the axes of its images.
        layers: which of its name scopes are layers; all if there are none.
    """

    def __init__(self, made: Any, axes: tuple[int, ...], layers: Collection[str]) -> None:
        super().__init__()
        self.made = made
        self.axes = axes
        self.back = tuple(torch.tensor(axes).argsort().tolist())
        self.dtype = getattr(torch, made.inputs[0].dtype.name)
        self.cuts = _cuts(made, layers)
        self.pieces: dict[tuple[tuple[str, ...], str], Any] = {}
        add_layers(self, self.cuts)

    def forward(self, images: Tensor) -> Tensor:
        given, known = [images.permute(self.back).to(self.dtype)], list[str]()
        for name, tensor in self.cuts.items():
            layer = self.get_submodule(name)
            if not watched(layer):
                continue
            value = self.piece(tuple(known), tensor)(*given)
            axes = self.axes if value.ndim == 4 else tuple(range(value.ndim))
            shown: Tensor = layer(value.permute(axes))
            given.append(shown.permute(tuple(map(axes.index, range(value.ndim)))).to(value))
            known.append(tensor)
        out: Tensor = self.piece(tuple(known), self.made.outputs[0].name)(*given)
        return out.to(images.dtype)

    def piece(self, known: tuple[str, ...], wanted: str) -> Any:
        """The function from the images and the values of some tensors to another tensor."""
        if (known, wanted) not in self.pieces:
            find = self.made.graph.get_tensor_by_name
            feeds = [self.made.inputs[0], *map(find, known)]
            self.pieces[known, wanted] = _Piece(self.made.prune(feeds, find(wanted)))
        return self.pieces[known, wanted]


class _Piece:
    """A part of a graph, and its gradient, each compiled once."""

    def __init__(self, function: Any) -> None:
        tf = library("tensorflow", "tensorflow")

        def pull(g: Any, *given: Any) -> Any:
            with tf.GradientTape() as tape:
                for value in given:
                    tape.watch(value)
                out = function(*given)
            return tape.gradient(out, given, g, unconnected_gradients=tf.UnconnectedGradients.ZERO)

        self.plain = function
        self.pull = tf.function(pull, reduce_retracing=True)

    def __call__(self, *given: Tensor) -> Tensor:
        out: Tensor = TensorFlowFunction.apply(self, *given)
        return out


class TensorFlowFunction(torch.autograd.Function):
    """The output of a TensorFlow function, and its vector-Jacobian product; first derivatives only."""

    @staticmethod
    def forward(ctx: Any, piece: _Piece, *given: Tensor) -> Tensor:
        ctx.piece = piece
        ctx.save_for_backward(*given)
        out = piece.plain(*map(_tensorflow, given))
        return _torch(out[0] if isinstance(out, (list, tuple)) else out)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        slopes = ctx.piece.pull(_tensorflow(g), *map(_tensorflow, ctx.saved_tensors))
        return (None, *map(_torch, slopes))


def _cuts(made: Any, layers: Collection[str]) -> dict[str, str]:
    """By layer, the tensor that it ends with: the last in it of floating-point numbers with a row for each image."""
    depends, last = {made.inputs[0].name}, dict[Scope, tuple[int, str]]()
    for place, op in enumerate(made.graph.get_operations()):
        if not any(x.name in depends for x in op.inputs):
            continue
        scope = scope_of(op.name, layers)
        for out in op.outputs:
            depends.add(out.name)
            if out.dtype.is_floating and out.shape.rank not in (None, 0, 1) and out.shape[0] is None:
                last |= {scope[:end]: (place, out.name) for end in range(1, len(scope) + 1)}
    root = common([scope for scope in last if not any(other[: len(scope)] == scope != other for other in last)])
    ends = sorted(last.items(), key=lambda item: (item[1][0], -len(item[0])))
    return {".".join(map(attribute, scope[len(root) :])): name for scope, (_, name) in ends if len(scope) > len(root)}


def _tensorflow(tensor: Tensor) -> Any:
    dlpack = library("tensorflow", "tensorflow").experimental.dlpack
    return dlpack.from_dlpack(tensor.detach().contiguous().__dlpack__())


def _torch(array: Any) -> Tensor:
    dlpack = library("tensorflow", "tensorflow").experimental.dlpack
    return torch.utils.dlpack.from_dlpack(dlpack.to_dlpack(array)).clone()  # its own memory must not be written into
