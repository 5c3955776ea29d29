"""What gives classes away, as a result: each trait by itself, and a verdict on all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...display.figures import plain
from ...methods.result import Call
from ...methods.tabular import Tabular
from .evaluation import Proportion

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FILE, PICTURE, BOTH = "file", "picture", "file and picture"
SURE = 0.999  # of the intervals: about ten traits are looked at, and a false alarm should be rare


@dataclass(frozen=True)
class Confound:
    """How well one trait alone tells the classes apart.

    name: of the trait. kind: "file" (how it was written), "picture" (what it shows, coarsely), or "file and picture".
    accuracy: on the test files, of a rule learned on the training files. chance: what the most frequent class comes to.
    detail: the commonest values in each class.
    """

    name: str
    kind: str
    accuracy: Proportion
    chance: float
    detail: str

    @property
    def flagged(self) -> bool:
        """Whether it tells more than chance, beyond doubt."""
        return self.accuracy.low > self.chance


@dataclass(frozen=True, eq=False)
class Confounds(Tabular):
    """Traits that should say nothing of the class, and what they say.

    found: all traits, the strongest first. classes: names. failures: files that could not be read, and why.
    """

    found: tuple[Confound, ...]
    classes: tuple[str, ...]
    failures: tuple[tuple[str, str], ...] = ()
    call: Call | None = None

    @property
    def flagged(self) -> tuple[Confound, ...]:
        """Those that tell the classes apart."""
        return tuple(one for one in self.found if one.flagged)

    def verdict(self, accuracy: float | None = None) -> str:
        """What that means, in a sentence or two.

        Args:
            accuracy: of the classifier that is under suspicion.
        """
        if not self.flagged:
            return "No trait that was looked at tells the classes apart: neither the files nor coarse colors."
        names = ", ".join(f"{one.name} ({one.accuracy.value:.0%})" for one in self.flagged)
        if all(one.kind == BOTH for one in self.flagged):
            return (
                f"Of the traits that were looked at only one tells the classes apart: {names}. Images with less detail "
                "take less room, so that it may come from what is to be learned."
            )
        said = f"The classes differ in more than what is to be learned. What tells them apart alone: {names}."
        best = self.flagged[0]
        if accuracy is not None and best.accuracy.high >= accuracy:
            said += (
                f" {best.name[:1].upper()}{best.name[1:]} does as well as the classifier ({accuracy:.1%}): its "
                "accuracy is no evidence that it knows fakes."
            )
        elif accuracy is not None:
            said += f" How much of the classifier's {accuracy:.1%} rests on that is not known."
        files = [one.name for one in self.flagged if one.kind == FILE]
        if files:
            said += " Bring all files to one format, size and compression first, from originals, and train again."
        return said

    def table(self) -> str:
        """All traits as a table in Markdown."""
        lines = ["| trait alone | correctly classified | chance | | values |", "|---|---|---|---|---|"]
        for one in self.found:
            mark = "**flagged**" if one.flagged else ""
            lines.append(f"| {one.name} | {one.accuracy} | {one.chance:.1%} | {mark} | {one.detail} |")
        return "\n".join(lines)

    def rows(self) -> list[dict[str, Any]]:
        """One row for each trait, for a table file."""
        return [
            {
                "trait": one.name, "kind": one.kind, "accuracy": one.accuracy.value, "low": one.accuracy.low,
                "high": one.accuracy.high, "chance": one.chance, "flagged": one.flagged, "values": one.detail,
            }
            for one in self.found
        ]  # fmt: skip

    def figure(self, **options: Any) -> Figure:
        """How well each trait alone tells the classes apart, with intervals; red ones are flagged."""
        if options:
            raise TypeError(f"the figure has no option {next(iter(options))!r}; it has none")
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6.4, 0.6 + 0.3 * len(self.found)), dpi=130, layout="constrained")
        axis = figure.subplots()
        for place, one in enumerate(self.found[::-1]):
            color = "tab:red" if one.flagged else "tab:blue"
            axis.plot([one.accuracy.low, one.accuracy.high], [place, place], color=color, linewidth=2)
            axis.plot([one.accuracy.value], [place], "o", color=color)
        names = [plain(one.name) for one in self.found[::-1]]
        axis.set_yticks(range(len(names)), names, fontsize=8, parse_math=False)
        if self.found:
            axis.axvline(self.found[0].chance, color="0.6", linestyle=":", linewidth=1)
        axis.set_xlim(min([0.3, *(one.accuracy.low - 0.02 for one in self.found)]), 1.02)
        axis.tick_params(labelsize=8)
        axis.set_xlabel(f"correctly classified by this alone, with {SURE:.1%} intervals; dotted: chance", fontsize=8)
        axis.spines[["top", "right"]].set_visible(False)
        return figure

    def __repr__(self) -> str:
        return f"Confounds({len(self.flagged)} of {len(self.found)} traits flagged)"
