"""What an attack works on: images of one batch, their classes, and the network seen through its passes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ...model.run import Model, ModelError, count_backward, run
from .losses import LossFunction, without_class
from .transformations import Transformations

DIAGNOSTICS = ("zero_gradient", "no_progress", "gradient_masked")
"""What is noted of an image: its gradient is zero, its steps made no progress, only an attack without gradients
fooled it."""
THROUGH = 1000  # streams of draws from here on are those of views
FRESH = 50  # views that show what survives a camera


@dataclass(frozen=True, eq=False)
class Case:
    """Images to be changed until the network is fooled.

    images: n x C x H x W on the network's device, in the type that the caller gave.
    labels: n classes. targets: n classes to be taken for, or None.
    any_class: the targets only aim the loss, and any class but the label will do.
    low, high: bounds of pixels.
    seed: for all draws, which are the same for every image, so that no image depends on its batch.
    queries: counts of passes by image of the batch, shared with every part. places: which of these is which image.
    advance: moves the progress bar on, by a share of the work on this batch.
    opening: the pass over the images of the whole batch, if it was kept: where its graph begins, and the outputs.
    last: the images seen last without a graph, and their outputs.
    signs: what is noted of each image of the batch, N x len(SIGNS) booleans, or None.
    looked: whether a gradient was taken: one entry then.
    transformations: what the network sees instead of the images themselves; None for these.
    turns: how often views were drawn: one entry each time.
    """

    model: Model
    images: Tensor
    labels: Tensor
    targets: Tensor | None
    low: float
    high: float
    seed: int
    queries: Tensor
    places: Tensor
    advance: Callable[[float], None]
    opening: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    any_class: bool = False
    last: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    signs: Tensor | None = None
    looked: list[bool] = field(default_factory=list)
    transformations: Transformations | None = None
    turns: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.images)

    def part(self, chosen: Tensor) -> Case:
        """The same for some of the images, by index or mask."""
        return replace(
            self,
            images=self.images[chosen],
            labels=self.labels[chosen],
            targets=None if self.targets is None else self.targets[chosen],
            places=self.places[chosen],
            opening=[],
        )

    def aimed(self, targets: Tensor) -> Case:
        """The same with a loss that aims at targets, where any wrong class will do."""
        return replace(self, targets=targets, any_class=True)

    def generator(self, stream: int = 0) -> torch.Generator:
        """A source of draws on the CPU; another for each stream."""
        return torch.Generator().manual_seed((self.seed * 1_000_003 + stream * 7919 + 1) % 2**63)

    def note(self, sign: str, chosen: Tensor) -> None:
        """Note a sign of some of the images, by a mask."""
        if self.signs is not None:
            self.signs[self.places[chosen], DIAGNOSTICS.index(sign)] = True

    def outputs(self, images: Tensor) -> Tensor:
        """The network's outputs, n x K in float32 or float64, without a graph."""
        if self.transformations is not None:
            with torch.no_grad():
                return _together([self._asked(seen) for seen in self._seen(self.transformations, images)])
        if self.last and self.last[0][0].shape == images.shape and torch.equal(self.last[0][0], images):
            return self.last[0][1]
        with torch.no_grad():
            outputs = self._asked(images)
        self.last[:] = [(images, outputs)]
        return outputs

    def fooled(self, outputs: Tensor) -> Tensor:
        """Whether each output is what the attack is after: another class than the label, or the target."""
        predicted = outputs.argmax(1)
        if self.targets is None or self.any_class:
            return predicted != self.labels
        return predicted == self.targets

    def runners_up(self, outputs: Tensor, most: int) -> Tensor:
        """The classes nearest to the label, by their outputs: n x k; the target alone where there is one."""
        if self.targets is not None and not self.any_class:
            return self.targets[:, None]
        return without_class(outputs, self.labels).topk(min(most, outputs.shape[1] - 1), 1).indices

    def gradient(self, images: Tensor, loss: LossFunction) -> tuple[Tensor, Tensor, Tensor]:
        """The gradient of a loss with respect to the images: gradient, outputs, and the n losses.

        Through views, these are means over some; outputs are then the logarithm of the mean probabilities.
        """
        if self.transformations is not None:
            return self._slope_through(self.transformations, images, loss)
        start, outputs = self.graph(images)
        chosen = self.places if len(start) != len(self.images) else slice(None)
        with torch.enable_grad():
            values = loss(outputs, self.labels, self.targets)
            slope = self.backward(values, start)[chosen]
        return slope, outputs.detach(), values.detach()

    def _slope_through(
        self, views: Transformations, images: Tensor, loss: LossFunction
    ) -> tuple[Tensor, Tensor, Tensor]:
        total, outputs, values = torch.zeros_like(images), [], []
        with torch.inference_mode(False), torch.enable_grad():
            start = images.detach().requires_grad_()
            for seen in self._seen(views, start):
                answer = self._asked(seen)
                value = loss(answer, self.labels, self.targets)
                total += self.backward(value, start)
                outputs.append(answer.detach())
                values.append(value.detach())
        return total / len(values), _together(outputs), torch.stack(values).mean(0)

    def _seen(self, views: Transformations, images: Tensor) -> Iterator[Tensor]:
        """The images in some views, which are the same for every image and others at every turn."""
        self.turns.append(1)
        yield from views.of(images, self.generator(THROUGH + len(self.turns)), self.low, self.high)

    def share_fooled(self, views: Transformations, images: Tensor) -> Tensor:
        """The share of fresh views of each image that fool the network: n numbers."""
        many, fresh = replace(views, samples=FRESH), self.generator(THROUGH)
        with torch.no_grad():
            seen = [self.fooled(self._asked(view)) for view in many.of(images, fresh, self.low, self.high)]
        return torch.stack(seen).double().mean(0)

    def _asked(self, images: Tensor) -> Tensor:
        self.queries.index_add_(0, self.places, torch.ones_like(self.places))
        return as_outputs(run(self.model, images).output)

    def graph(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """A pass that can be differentiated: the images where its graph begins, and the n outputs.

        The first may have more rows, those of the whole batch, of which `places` are these.
        """
        if self.opening and images is self.images:
            start, outputs = self.opening.pop()
            with torch.enable_grad():
                return start, outputs if len(start) == len(images) else outputs[self.places]
        self.queries.index_add_(0, self.places, torch.ones_like(self.places))
        return differentiable(self.model, images)

    def backward(self, values: Tensor, start: Tensor, *, keep: bool = False) -> Tensor:
        """The gradient of n values with respect to the images that a pass began with."""
        slope = None
        if values.requires_grad:
            (slope,) = torch.autograd.grad(values.sum(), start, retain_graph=keep, allow_unused=True)
        if slope is None:
            raise ModelError(
                "there is no gradient from the outputs back to the images: the network cuts it (detach, argmax, "
                "no_grad, rounding, a model that is no torch module). Attacks that see only outputs work on it: "
                "pellucid.square, pellucid.hop_skip_jump"
            )
        count_backward(len(start))
        if not self.looked:
            self.looked.append(True)
            self._check_slope(slope if len(slope) == len(self) else slope[self.places])
        return slope

    def _check_slope(self, slope: Tensor) -> None:
        """Refuse a gradient that is no number; note where it is exactly zero."""
        sizes = slope.flatten(1).abs().amax(1)
        if not sizes.isfinite().all():
            raise ModelError(
                "the gradient of the outputs with respect to the images is NaN or infinite, though the outputs are "
                "not: a root of zero, a division by zero or an overflow on the way back. Attacks that see only "
                "outputs work on it: pellucid.square, pellucid.hop_skip_jump"
            )
        self.note("zero_gradient", sizes == 0)

    def steps(self, count: int, share: float = 1.0) -> Iterator[int]:
        """0 ... count-1, moving the progress bar on; `share` of the attack's work is in these steps."""
        for number in range(count):
            yield number
            self.advance(share / count)


def _together(outputs: list[Tensor]) -> Tensor:
    """The logarithm of the mean probabilities of several answers."""
    return torch.stack(outputs).log_softmax(2).logsumexp(0) - math.log(len(outputs))


def differentiable(model: Model, images: Tensor) -> tuple[Tensor, Tensor]:
    """A pass with its graph: the images where it begins, and the outputs."""
    with torch.inference_mode(False), torch.enable_grad():
        start = (images.clone() if images.is_inference() else images.detach()).requires_grad_()
        return start, as_outputs(run(model, start).output)


def as_outputs(output: Any) -> Tensor:
    """The outputs as N x K of enough digits.

    Raises:
        ValueError: for anything but N x K with two classes or more.
    """
    if not isinstance(output, Tensor) or output.ndim != 2:
        got = f"the shape {tuple(output.shape)}" if isinstance(output, Tensor) else f"a {type(output).__name__}"
        raise ValueError(
            f"an attack needs a network that returns one number for each class, N x K; this one returns {got}: "
            "wrap it in a torch.nn.Module that picks them out"
        )
    if output.shape[1] < 2:
        raise ValueError(
            "the network has a single output, and there is no second class to be taken for: wrap it in a "
            "torch.nn.Module that returns two, such as torch.cat([-z, z], 1)"
        )
    return output.to(torch.promote_types(output.dtype, torch.float32))
