"""Which networks are fooled by images that were made against another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..methods.options import to_record
from ..methods.registry import find
from ..methods.result import Call, Result
from ..methods.verb import verb
from ..model.batches import batched, progress
from ..model.classifier import Classifier, classifier, name_of
from ..model.run import Model, device_of, run
from ..objectives import Target
from .attack.case import as_outputs
from .attack.result import Attack

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class Transfer(Result):
    """How often images made against one network fool another.

    rates: M x M; row i, column j: of the images that both networks classify correctly, the share that network j sees
        wrongly (with targets: as the target) after the attack on network i. NaN where there are none.
    counts: M x M, of how many images that is.
    images: N x C x H x W, the originals. attacks: one for each network. names: of the networks.
    """

    rates: Tensor
    counts: Tensor
    images: Tensor = field(repr=False)
    attacks: tuple[Attack, ...] = field(repr=False)
    names: tuple[str, ...]
    call: Call | None = None

    def figure(self, **options: Any) -> Figure:
        """The matrix, made against in rows, tried on in columns.

        Args:
            options: those of matplotlib's `imshow`: cmap, ...
        """
        from matplotlib.figure import Figure

        m = len(self.names)
        figure = Figure(figsize=(1.2 * m + 2.2, 0.9 * m + 1.6), dpi=130, layout="constrained")
        axis = figure.subplots()
        axis.imshow(self.rates.numpy(), **{"vmin": 0, "vmax": 1, "cmap": "Reds", **options})
        for i in range(m):
            for j in range(m):
                rate = float(self.rates[i, j])
                axis.text(j, i, f"{rate:.0%}\nof {int(self.counts[i, j])}", ha="center", va="center", fontsize=8,
                          color="white" if rate > 0.6 else "black")  # fmt: skip
        axis.set_xticks(range(m), self.names, rotation=30, ha="right", parse_math=False)
        axis.set_yticks(range(m), self.names, parse_math=False)
        axis.set(xlabel="tried on", ylabel="made against")
        if self.call:
            figure.supxlabel(str(self.call), fontsize=7, color="0.4", parse_math=False)
        return figure

    def __repr__(self) -> str:
        rows = [
            f"{name}: {', '.join(f'{v:.0%}' for v in row)}"
            for name, row in zip(self.names, self.rates.tolist(), strict=True)
        ]
        return f"Transfer({'; '.join(rows)})"


@verb(paper="Szegedy et al. 2014, Intriguing properties of neural networks")
def transfer(
    models: Mapping[str, Model] | Sequence[Model],
    images: Tensor,
    labels: Target,
    *,
    method: str = "pgd",
    seed: int = 0,
    **options: Any,
) -> Transfer:
    """Make adversarial images against each of several networks, and try them on all.

    Args:
        models: networks or `Classifier`s of the same classes, by name or in a list. Those that want images of another
            size get them scaled.
        images: N x C x H x W in [0, 1].
        labels: the right class of each image, by index or label.
        method: the name of an attack.
        seed: for the attack.
        options: further ones of the attack, among them `target`.

    Returns:
        A `Transfer`: the matrix of rates, and the attacks.

    Raises:
        UnknownName: if there is no such attack.
        ValueError: for fewer than two networks, missing labels, or what the attack refuses.

    Szegedy et al. 2014, Intriguing properties of neural networks.

    >>> import pellucid
    >>> model, scenes = pellucid.load("shapes"), pellucid.shapes.scenes(2)
    >>> result = pellucid.transfer({"one": model, "again": model}, scenes.images, scenes.labels, method="fgsm")
    >>> result.rates.shape
    torch.Size([2, 2])
    """
    entry = find("attack", method)
    pairs = list(models.items()) if isinstance(models, Mapping) else [(name_of(m), m) for m in models]
    if len(pairs) < 2:
        raise ValueError(f"got {len(pairs)} network, expected two or more to transfer between")
    if labels is None:
        raise ValueError("transfer needs the right classes: networks that disagree have no predicted class in common")
    with progress(len(pairs), "transfer", unit="network") as advance:
        attacks = []
        for _, model in pairs:
            attacks.append(entry.function(model, _fitted(images, model), labels, seed=seed, **options))
            advance(1)
        right, goal = attacks[0].labels, attacks[0].targets
        seen = torch.stack([attack.before == right for attack in attacks])
        rates = torch.full((len(pairs), len(pairs)), torch.nan, dtype=torch.float64)
        counts = torch.zeros(len(pairs), len(pairs), dtype=torch.long)
        for i, attack in enumerate(attacks):
            for j, (_, model) in enumerate(pairs):
                both = seen[i] & seen[j] & ~attack.misclassified & ~attacks[j].misclassified
                after = attack.after if i == j else _predicted(model, _fitted(attack.images, model))
                fooled = after != right if goal is None else after == goal
                counts[i, j] = both.sum()
                rates[i, j] = fooled[both].double().mean()
    record = Call(
        method=f"transfer, {method}",
        options={**{k: to_record(v) for k, v in options.items()}, "seed": seed},
        objective=attacks[0].call.objective,
        model=", ".join(name for name, _ in pairs),
        paper=entry.paper,
    )
    return Transfer(rates, counts, images.detach(), tuple(attacks), tuple(name for name, _ in pairs), record)


def _fitted(images: Tensor, model: Model) -> Tensor:
    """The images at the size that a `Classifier` takes."""
    known = classifier(model)
    size = known.preprocessing.size if isinstance(known, Classifier) else None
    if size is None or tuple(images.shape[2:]) == tuple(size):
        return images
    return F.interpolate(images, size=size, mode="bilinear", antialias=True).clamp(0, 1)


def _predicted(model: Model, images: Tensor) -> Tensor:
    found = torch.zeros(len(images), dtype=torch.long)

    def step(part: slice) -> None:
        found[part] = as_outputs(run(model, images[part]).output).argmax(1).cpu()

    with torch.no_grad():
        batched(step, len(images), like=images, label="predict", device=device_of(model))
    return found
