"""Accuracy under attack, over budgets: the curve that a robustness claim rests on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..checks import warn
from ..methods.options import to_record
from ..methods.registry import find
from ..methods.result import Call, Result
from ..methods.verb import verb
from ..model.batches import progress
from ..model.run import Model
from ..objectives import Target
from .attack.budgets import Norm
from .attack.result import Attack

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EPS = (2 / 255, 4 / 255, 8 / 255, 16 / 255)


@dataclass(frozen=True, eq=False)
class Robustness(Result):
    """How many images a network classifies correctly under attacks of growing budgets.

    budgets: E numbers, from small to large. broken: N numbers, the least of them at which the image was fooled; 0 for
        those that were misclassified before, infinite for those that stand.
    images: N x C x H x W, where the image was fooled first; as it was for all others. originals: as they were.
    attacks: one `Attack` for each budget, of the images that still stood.
    norm: of the budgets. level: of the confidence intervals.
    """

    budgets: Tensor
    broken: Tensor
    images: Tensor = field(repr=False)
    originals: Tensor = field(repr=False)
    attacks: tuple[Attack, ...] = field(repr=False)
    norm: str
    level: float
    call: Call | None = None

    @property
    def accuracy(self) -> float:
        """The share of images correctly classified without any attack."""
        return float((self.broken > 0).double().mean())

    @property
    def robust_accuracy(self) -> Tensor:
        """The share of images correctly classified at each budget: E numbers that fall."""
        return (self.broken[None] > self.budgets[:, None]).double().mean(1)

    @property
    def intervals(self) -> Tensor:
        """E x 2: between what the accuracy at each budget may lie, for other images of the same kind."""
        return self._interval(self.robust_accuracy)

    def _interval(self, share: Tensor) -> Tensor:
        return interval(share, len(self.broken), self.level)

    def figure(self, **options: Any) -> Figure:
        """The accuracy over budgets, with its confidence interval.

        Args:
            options: of the curve, as for matplotlib's `plot`: color, label, ...
        """
        from matplotlib.figure import Figure

        figure = Figure(figsize=(5.2, 3.6), dpi=130, layout="constrained")
        axis = figure.subplots()
        in_steps = self.norm == "linf" and float(self.budgets[-1]) < 1
        x = [0.0, *((255 if in_steps else 1) * self.budgets).tolist()]
        shares = torch.cat([torch.tensor([self.accuracy], dtype=torch.float64), self.robust_accuracy])
        low, high = (100 * self._interval(shares)).T.tolist()
        options = {"color": "tab:red", "marker": "o", **options}
        axis.plot(x, (100 * shares).tolist(), clip_on=False, **options)
        axis.fill_between(x, low, high, color=options["color"], alpha=0.15, linewidth=0)
        axis.set(
            xlabel=f"budget in {self.norm}{', of 255 steps' if in_steps else ''}", ylabel="correctly classified, %",
            ylim=(0, 100), xlim=(0, x[-1]),
        )  # fmt: skip
        axis.spines[["top", "right"]].set_visible(False)
        axis.set_title(f"{len(self.broken)} images, intervals of {self.level:.0%}", fontsize=9)
        if self.call:
            figure.supxlabel(f"{self.call.method} on {self.call.model}", fontsize=7, color="0.4", parse_math=False)
        return figure

    def table(self) -> str:
        """Budgets, accuracies and intervals as a table in Markdown."""
        lines = [f"| budget ({self.norm}) | correctly classified | {self.level:.0%} interval |", "|---|---|---|"]
        ((low, high),) = self._interval(torch.tensor([self.accuracy])).tolist()
        lines.append(f"| 0 | {self.accuracy:.1%} | {low:.1%} to {high:.1%} |")
        for eps, share, (low, high) in zip(
            self.budgets.tolist(), self.robust_accuracy.tolist(), self.intervals.tolist(), strict=True
        ):
            said = (
                f"{eps * 255:g}/255" if self.norm == "linf" and abs(eps * 255 - round(eps * 255)) < 1e-6 else f"{eps:g}"
            )
            lines.append(f"| {said} | {share:.1%} | {low:.1%} to {high:.1%} |")
        return "\n".join(lines)

    def __repr__(self) -> str:
        said = ", ".join(
            f"{v:.1%} at {e:.3g}" for e, v in zip(self.budgets.tolist(), self.robust_accuracy, strict=True)
        )
        return f"Robustness({len(self.broken)} images, {self.norm}: {self.accuracy:.1%} at 0, {said})"


def interval(share: Tensor, count: int, level: float = 0.95) -> Tensor:
    """Wilson's interval for shares of so many trials, n x 2, which holds also near 0 and 1.

    >>> interval(torch.tensor([0.5]), 100).round(decimals=3)
    tensor([[0.4040, 0.5960]])
    """
    z = NormalDist().inv_cdf(0.5 + level / 2)
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * (share * (1 - share) / count + z**2 / (4 * count**2)).sqrt()
    return torch.stack([(middle - half).clamp(min=0), (middle + half).clamp(max=1)], 1)


@verb()
def robustness(
    model: Model,
    images: Tensor,
    labels: Target,
    *,
    eps: Sequence[float] = EPS,
    norm: Norm = "linf",
    method: str = "auto_attack",
    level: float = 0.95,
    seed: int = 0,
    **options: Any,
) -> Robustness:
    """Accuracy under attack, over budgets.

    Budgets are tried from small to large, each on the images that stood the one before: what a small change fools is
    fooled within a larger budget too. Attacks that look for the least change run once, and their distances are
    compared with all budgets.

    Args:
        model: a network or a `Classifier`.
        images: N x C x H x W in [0, 1].
        labels: the right class of each image, by index or label.
        eps: budgets, above 0, in units of pixels.
        norm: of the budgets: "linf", "l2" or "l1", as far as the attack knows it.
        method: the name of an attack, such as "auto_attack", "pgd", "fgsm", "apgd", "square", "deepfool".
        level: of the confidence intervals, in (0, 1).
        seed: for the attack.
        options: further ones of the attack; with `folder`, each budget is kept in a folder of its own inside it.

    Returns:
        A `Robustness`: accuracies and intervals, a curve, and the attacks.

    Raises:
        UnknownName: if there is no such attack.
        ValueError: for budgets that are not above 0, missing labels, or what the attack refuses.

    Warns:
        UserWarning: for an accuracy that no network can have, at budgets within which any image can be made gray.

    >>> import pellucid
    >>> model, scenes = pellucid.load("shapes"), pellucid.shapes.scenes(4)
    >>> result = pellucid.robustness(
    ...     model, scenes.images, scenes.labels, eps=[4 / 255, 16 / 255], method="pgd", steps=5
    ... )
    >>> len(result.attacks), bool(result.robust_accuracy[0] >= result.robust_accuracy[1])
    (2, True)
    """
    entry = find("attack", method)
    budgets = sorted({float(value) for value in eps})
    if not budgets or not budgets[0] > 0:
        raise ValueError(f"eps is {list(eps)!r}, expected one budget or more, all above 0")
    if not 0 < level < 1:
        raise ValueError(f"level is {level:g}, expected a share in (0, 1), such as 0.95")
    if labels is None:
        raise ValueError("robustness needs the right classes: what a network predicts is always right for itself")
    known = entry.options
    given = {**options, "seed": seed, **({"norm": norm} if "norm" in known else {})}
    if "norm" not in known and norm != "l2":
        raise ValueError(f"{method} looks for the least change in l2: say norm='l2'")
    attacks: list[Attack] = []
    broken, found = torch.full((len(images),), torch.inf, dtype=torch.float64), images.detach().clone()
    with progress(len(budgets) if "eps" in known else 1, "robustness", unit="budget") as advance:
        left = torch.arange(len(images))
        right: Any = labels
        for budget in budgets if "eps" in known else [None]:
            if not len(left):
                break
            mine = given if budget is None else {**given, "eps": budget}
            if given.get("folder") is not None:
                mine["folder"] = Path(given["folder"], f"{norm}-{'least' if budget is None else f'{budget:.6g}'}")
            result = entry.function(model, images[left], right, **mine)
            attacks.append(result)
            broken[left[result.misclassified]] = 0
            at = result.distance(norm) if budget is None else torch.full((len(left),), budget, dtype=torch.float64)
            broken[left[result.success]] = at[result.success]
            found[left] = torch.where(result.success[:, None, None, None].to(found.device), result.images, found[left])
            stands = ~(result.success | result.misclassified)
            left, right = left[stands], result.labels[stands]
            advance(1)
    record = Call(
        method=f"robustness, {method}",
        options={
            "eps": tuple(budgets),
            "norm": norm,
            "level": level,
            **{k: to_record(v) for k, v in given.items() if k != "folder"},
        },
        objective="away from the label",
        paper=entry.paper,
    )
    most = budgets[-1]
    share = float((broken > most).double().mean())
    if norm == "linf" and most >= 0.5 and share > 0.5:
        warn(
            f"{share:.0%} of the images are correctly classified at {most:g} in linf, within which any image can be "
            "made plain gray: the attack is too weak, or the gradients of the network are masked"
        )
    return Robustness(
        torch.tensor(budgets, dtype=torch.float64), broken, found, images.detach(), tuple(attacks), norm, level, record
    )
