"""What a page says about all of its cases, added up while they pass."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from .page_items import Case


@dataclass
class Mean:
    """A mean over the finite values that were added; `value` is NaN before the first."""

    total: float = 0.0
    count: int = 0

    def add(self, value: float) -> None:
        if math.isfinite(value):
            self.total += value
            self.count += 1

    @property
    def value(self) -> float:
        return self.total / self.count if self.count else math.nan


@dataclass
class Summary:
    """Numbers of all cases so far.

    entries: name and `right` of each case. methods: the titles of the panels, in order.
    scores: names, in order. means: by title and group of the panels, then by name of the score.
    """

    entries: list[tuple[str, bool | None]] = field(default_factory=list)
    methods: dict[str, None] = field(default_factory=dict)
    scores: dict[str, None] = field(default_factory=dict)
    means: dict[tuple[str, str], dict[str, Mean]] = field(default_factory=dict)

    def add(self, case: Case) -> None:
        """Count one case in."""
        self.entries.append((case.name, case.right))
        for panel in case.panels:
            self.methods[panel.title] = None
            for name, value in panel.scores.items():
                self.scores[name] = None
                self.means.setdefault((panel.title, panel.group), {}).setdefault(name, Mean()).add(float(value))

    @property
    def count(self) -> int:
        return len(self.entries)

    @property
    def known(self) -> int:
        """How many have a known truth."""
        return sum(right is not None for _, right in self.entries)

    @property
    def right(self) -> int:
        return sum(right is True for _, right in self.entries)

    @property
    def rows(self) -> list[tuple[str, str, list[Mean]]]:
        """Title, group and means in the order of `scores`; the highest first score comes first.

        >>> means = {("a", ""): {"hit": Mean(1, 2)}, ("b", ""): {"hit": Mean(2, 2)}}
        >>> [title for title, _, _ in Summary(scores={"hit": None}, means=means).rows]
        ['b', 'a']
        """
        rows = [
            (title, group, [found.get(name, Mean()) for name in self.scores])
            for (title, group), found in self.means.items()
        ]
        return sorted(rows, key=lambda row: [-mean.value if mean.count else math.inf for mean in row[2]])
