"""How well a classifier tells files apart: confusion, accuracy with its interval, and each origin by itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...display.figures import plain
from ...methods.result import Call
from ...methods.tabular import Tabular

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEVEL = 0.95


@dataclass(frozen=True)
class Proportion:
    """So many of count; low and high are the ends of Wilson's interval for the share (Wilson 1927)."""

    right: int
    count: int
    low: float
    high: float

    @property
    def value(self) -> float:
        return self.right / self.count

    def __str__(self) -> str:
        return f"{self.value:.1%} ({self.low:.1%} to {self.high:.1%})"


def proportion(right: int, count: int, level: float = LEVEL) -> Proportion:
    """A share of some trials, and between what it may lie for other trials of the same kind.

    Args:
        right: of count. count: above 0. level: of the interval.

    >>> print(proportion(95, 100))
    95.0% (88.8% to 97.8%)
    """
    from scipy.stats import binomtest

    ends = binomtest(right, count).proportion_ci(level, "wilson")
    return Proportion(right, count, float(ends.low), float(ends.high))


@dataclass(frozen=True, eq=False)
class Evaluation(Tabular):
    """What a classifier says of files whose classes are known.

    labels: N true classes. probabilities: N x K. classes: K names. files, origins: N of each.
    failures: files that could not be read, and why. level: of the intervals.
    """

    labels: Tensor = field(repr=False)
    probabilities: Tensor = field(repr=False)
    classes: tuple[str, ...]
    files: tuple[str, ...] = field(repr=False)
    origins: tuple[str, ...] = field(repr=False)
    failures: tuple[tuple[str, str], ...] = ()
    level: float = LEVEL
    call: Call | None = None

    @property
    def predicted(self) -> Tensor:
        """N classes."""
        return self.probabilities.argmax(1)

    @property
    def correct(self) -> Tensor:
        """N booleans."""
        return self.predicted == self.labels

    @property
    def accuracy(self) -> Proportion:
        """The share of all files that is correctly classified."""
        return proportion(int(self.correct.sum()), len(self.labels), self.level)

    @property
    def chance(self) -> float:
        """What always saying the most frequent class comes to."""
        return float(torch.bincount(self.labels).max()) / len(self.labels)

    @property
    def confusion(self) -> Tensor:
        """K x K counts: true classes in rows, predicted ones in columns."""
        k = len(self.classes)
        return torch.bincount(self.labels * k + self.predicted, minlength=k * k).reshape(k, k)

    @property
    def by_origin(self) -> dict[str, Proportion]:
        """The share that is correctly classified of each folder, that is of each generator."""
        right = self.correct.tolist()
        found = {}
        for origin in dict.fromkeys(self.origins):
            here = [ok for ok, one in zip(right, self.origins, strict=True) if one == origin]
            found[origin] = proportion(sum(here), len(here), self.level)
        return found

    @property
    def auc(self) -> float | None:
        """For two classes: how probable it is that a fake has a higher score than a real image; else None."""
        if len(self.classes) != 2 or len(self.labels.unique()) < 2:
            return None
        from sklearn.metrics import roc_auc_score

        return float(roc_auc_score(self.labels.numpy(), self.probabilities[:, 1].numpy()))

    def rows(self) -> list[dict[str, Any]]:
        """One row for each file: file, origin, true, predicted, and the probability of each class."""
        columns = zip(
            self.files, self.origins, self.labels.tolist(), self.predicted.tolist(), self.probabilities.tolist(),
            strict=True,
        )  # fmt: skip
        return [
            {
                "file": file, "origin": origin, "true": self.classes[true], "predicted": self.classes[said],
                **{f"probability of {name}": p for name, p in zip(self.classes, values, strict=True)},
            }
            for file, origin, true, said, values in columns
        ]  # fmt: skip

    def table(self) -> str:
        """Origins and the confusion as a table in Markdown."""
        lines = [
            f"| true | {' | '.join(f'taken for {name}' for name in self.classes)} | correctly classified |",
            "|" + "---|" * (len(self.classes) + 2),
        ]
        for name, counts in zip(self.classes, self.confusion.tolist(), strict=True):
            if sum(counts):
                right = proportion(counts[self.classes.index(name)], sum(counts), self.level)
                lines.append(f"| {name} | {' | '.join(map(str, counts))} | {right} |")
        lines.append(f"| all {len(self.labels)} |{' |' * len(self.classes)} {self.accuracy} |")
        return "\n".join(lines)

    def figure(self, **options: Any) -> Figure:
        """The confusion, and the accuracy on each origin with its interval.

        Args:
            options: shown, "all" (the default), "confusion" or "origins".
        """
        shown = options.pop("shown", "all")
        if options or shown not in ("all", "confusion", "origins"):
            said = next(iter(options), f"shown={shown}")
            raise TypeError(f"the figure has no option {said!r}; there is shown, 'all', 'confusion' or 'origins'")
        from matplotlib.figure import Figure

        figure = Figure(figsize=(8.4 if shown == "all" else 4.4, 3.2), dpi=130, layout="constrained")
        axes = list(figure.subplots(1, 2 if shown == "all" else 1, squeeze=False)[0])
        if shown != "origins":
            self._draw_confusion(axes[0])
        if shown != "confusion":
            self._draw_origins(axes[-1])
        return figure

    def _draw_confusion(self, axis: Any) -> None:
        counts = self.confusion
        shares = counts / counts.sum(1, keepdim=True).clamp(min=1)
        axis.imshow(shares.numpy(), cmap="Blues", vmin=0, vmax=1)
        for i, row in enumerate(counts.tolist()):
            for j, count in enumerate(row):
                axis.text(j, i, str(count), ha="center", va="center", color="white" if shares[i, j] > 0.5 else "black")
        places, names = range(len(self.classes)), [plain(name) for name in self.classes]
        axis.set_xticks(places, names, fontsize=8, parse_math=False)
        axis.set_yticks(places, names, fontsize=8, parse_math=False)
        axis.set_xlabel("taken for", fontsize=8)
        axis.set_ylabel("true", fontsize=8)
        axis.spines[:].set_visible(False)

    def _draw_origins(self, axis: Any) -> None:
        origins = list(self.by_origin.items())[::-1]
        for place, (_, one) in enumerate(origins):
            axis.plot([one.low, one.high], [place, place], color="tab:blue", linewidth=2)
            axis.plot([one.value], [place], "o", color="tab:blue")
        names = [plain(name) for name, _ in origins]
        axis.set_yticks(range(len(origins)), names, fontsize=8, parse_math=False)
        axis.set_ylim(-0.6, len(origins) - 0.4)
        axis.set_xlim(min(self.chance, *(one.low for _, one in origins)) - 0.02, 1.01)
        axis.axvline(self.chance, color="0.6", linestyle=":", linewidth=1)
        axis.set_title(
            f"correctly classified, with {self.level:.0%} intervals; dotted: chance", fontsize=8, color="0.4"
        )
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)

    def __repr__(self) -> str:
        return f"Evaluation({len(self.labels)} images, {self.accuracy} correctly classified, chance {self.chance:.1%})"
