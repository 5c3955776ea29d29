"""What every attack returns: the images before and after, whether the network was fooled, and how far they moved."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...display import figures
from ...methods.result import Call, Result
from .budgets import distances

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ALL_NORMS = ("linf", "l2", "l1", "l0")
AMPLIFIED = 10


@dataclass(frozen=True, eq=False)
class Attack(Result):
    """Images that were changed to fool a network.

    images: N x C x H x W, the adversarial images; where no attack succeeded, the last attempt.
    originals: N x C x H x W, as they were.
    success: N booleans: correctly classified before and misclassified after; with targets, seen as the target only
        after.
    misclassified: N booleans: wrong before any attack (with targets: seen as the target already). Such images
        come back unchanged and are no success.
    labels: N classes, the right ones. targets: N classes to be taken for, or None.
    before, after: N classes, as predicted.
    confidence_before, confidence_after: N numbers, the probabilities of these.
    queries: N whole numbers, how often the network saw the image or a variant of it, before a last look that confirms.
    success_under_transforms: N shares, of 50 fresh views of each image (`pellucid.Transformations`) those that fool the
        network, NaN where there was no attack; None for attacks without views.
    names: of the classes, by index; may be empty.
    call: how it was made, with the images sent forward and backward and the seed.
    """

    images: Tensor
    originals: Tensor = field(repr=False)
    success: Tensor
    misclassified: Tensor
    labels: Tensor
    targets: Tensor | None
    before: Tensor
    after: Tensor
    confidence_before: Tensor
    confidence_after: Tensor
    queries: Tensor
    success_under_transforms: Tensor | None = field(repr=False, default=None)
    names: tuple[str, ...] = field(repr=False, default=())
    call: Call | None = None

    @property
    def success_rate(self) -> float:
        """The share fooled of the images that were not misclassified before; NaN if all were."""
        attacked = int((~self.misclassified).sum())
        return int(self.success.sum()) / attacked if attacked else float("nan")

    @property
    def accuracy(self) -> float:
        """The share of images that the network classifies correctly before the attack."""
        return float((self.before == self.labels).double().mean())

    @property
    def robust_accuracy(self) -> float:
        """The share of images that the network classifies correctly before and after the attack."""
        return float(((self.before == self.labels) & (self.after == self.labels)).double().mean())

    @property
    def forward(self) -> int:
        """Images sent forward through the network."""
        return self.call.forward if self.call else 0

    @property
    def backward(self) -> int:
        """Images sent backward through the network."""
        return self.call.backward if self.call else 0

    @property
    def seed(self) -> int | None:
        """What random draws came from."""
        return self.call.options.get("seed") if self.call else None

    def distance(self, norm: str = "linf") -> Tensor:
        """How far each image moved, N numbers in float64, in units of pixels.

        Args:
            norm: "linf" (largest change), "l2", "l1" (sum of changes) or "l0" (how many values changed).

        Raises:
            ValueError: for another norm.
        """
        if norm not in ALL_NORMS:
            raise ValueError(f"norm is {norm!r}, expected one of {', '.join(ALL_NORMS)}")
        return distances(self.originals, self.images, norm)

    @property
    def distances(self) -> dict[str, Tensor]:
        """How far each image moved, by norm."""
        return {norm: self.distance(norm) for norm in ALL_NORMS}

    def tensors(self) -> dict[str, Tensor]:
        """The fields that are tensors, by name, and the distances."""
        return {**super().tensors(), **{f"distance_{norm}": value for norm, value in self.distances.items()}}

    def class_name(self, index: int) -> str:
        """The name of a class; its number where it has no name."""
        return self.names[index] if 0 <= index < len(self.names) else str(index)

    def _short_name(self, index: Tensor) -> str:
        """The first of the names that a label lists."""
        return self.class_name(int(index)).partition(", ")[0]

    def figure(self, *, most: int = 8, successes: bool = False, **options: Any) -> Figure:
        """A row for each image: original, adversarial image, their difference and ten times the difference.

        Differences are shown around mid-gray: gray is no change, brighter is more, darker is less.

        Args:
            most: rows at the most.
            successes: only images that fooled the network.
            options: those of `pellucid.display.figures.grid`.
        """
        chosen = self.success.nonzero().flatten() if successes else torch.arange(len(self.images))
        shown = chosen[:most].tolist()
        if not shown:
            raise ValueError("no image fooled the network: there is nothing to show with successes=True")
        tiles: list[Tensor] = []
        titles: list[str] = []
        size = {norm: value.tolist() for norm, value in self.distances.items()}
        for i in shown:
            pair = torch.stack([self.originals[i], self.images[i]]).detach().float().cpu()
            original, adversarial = figures.displayable(pair)
            change = adversarial - original
            tiles += [original, adversarial, 0.5 + change, 0.5 + AMPLIFIED * change]
            state = "" if self.success[i] else ", misclassified before" if self.misclassified[i] else ", not fooled"
            titles += [
                f"{self._short_name(self.before[i])} {float(self.confidence_before[i]):.1%}",
                f"{self._short_name(self.after[i])} {float(self.confidence_after[i]):.1%}{state}",
                f"change: linf {size['linf'][i]:.2g}, l2 {size['l2'][i]:.2g}",
                f"{AMPLIFIED} x difference",
            ]
        left = len(chosen) - len(shown)
        caption = f"{self.call or ''}{f', and {left} more images' if left else ''}"
        return figures.grid(tiles, titles, **{"columns": 4, "caption": caption, **options})

    def __repr__(self) -> str:
        attacked = int((~self.misclassified).sum())
        said = f"{int(self.success.sum())} of {attacked} fooled"
        if attacked < len(self.images):
            already = "misclassified" if self.targets is None else "of the target class"
            said += f", {len(self.images) - attacked} {already} before"
        return f"Attack({said}, {self.call})"
