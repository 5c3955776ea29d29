"""What a page is made of: images, and maps of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from ..methods.result import Attribution
from ..model.classifier import Predictions


@dataclass(frozen=True)
class Panel:
    """One map of one image.

    title: of the method; panels of a case with the same title stand side by side.
    attribution: of one image; its call has no objective if the map looks at no class.
    scores: what was measured of it, by name: {"on the object": 0.83}.
    group: what sets it apart from others of the same title: "predicted" and "true", "logit" and "probability".
    """

    title: str
    attribution: Attribution
    scores: Mapping[str, float] = field(default_factory=dict)
    group: str = ""

    def __post_init__(self) -> None:
        shape = tuple(self.attribution.values.shape)
        if len(shape) != 4 or shape[0] != 1:
            raise ValueError(
                f"panel {self.title!r} has values of shape {shape}, expected those of one image, 1 x C x H x W: "
                "attribute the images one by one, or make a panel of each row"
            )


@dataclass(frozen=True)
class Case:
    """One image and what was found out about it.

    name: of its file. image: C x H x W in [0, 1]. predictions: of this one image.
    true: its label, where it is known. panels: one for each map.
    problem: what went wrong with it, if anything did.
    """

    name: str
    image: Tensor = field(repr=False)
    predictions: Predictions
    true: str | None = None
    panels: Sequence[Panel] = ()
    problem: str = ""

    def __post_init__(self) -> None:
        if self.image.ndim != 3:
            shape = tuple(self.image.shape)
            raise ValueError(f"case {self.name!r} has an image of shape {shape}, expected one image C x H x W")
        if len(self.predictions.labels) != 1:
            count = len(self.predictions.labels)
            raise ValueError(f"case {self.name!r} has predictions of {count} images, expected those of one")

    @property
    def right(self) -> bool | None:
        """Whether the most probable class is the true one; None where the truth is not known.

        A label that lists several names ("tench, Tinca tinca") is right for each of them.
        """
        return None if self.true is None else same(self.true, self.predictions.labels[0][0])


def same(true: str, label: str) -> bool:
    """Whether a true label is the one of a model, which may list several names.

    >>> same("Tinca tinca", "tench, Tinca tinca")
    True
    """
    return true == label or true.casefold() in (name.casefold() for name in label.split(", "))
