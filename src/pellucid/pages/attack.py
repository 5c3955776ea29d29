"""Attacks on photos, and pages of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..adversarial import Attack, Robustness, robustness
from ..adversarial.attack import AMPLIFIED
from ..classifier import Classifier
from ..images import write_image
from ..method import CATALOGUE
from ..pictures import displayable
from ..report import Plate, gallery
from ..report.gallery import MOST_PLATES
from .photos import Photos


def attack_photos(
    model: Classifier,
    taken: Photos,
    *,
    method: str = "pgd",
    target: int | str | None = None,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
) -> Attack:
    """Run one attack, by its name, on photos."""
    given = {**(options or {}), **({} if target is None else {"target": target}), "seed": seed}
    result: Attack = CATALOGUE[method].function(model, taken.images, taken.labels, **given)
    return result


def attack_page(
    path: str | Path, model: Classifier, taken: Photos, result: Attack, *, title: str = "", command: str = ""
) -> Path:
    """A page of an attack: a table of all images, and originals, adversarial images and differences of the first ones.

    Raises:
        OSError: if the file cannot be written.
    """
    assert result.call is not None
    linf, l2 = (result.distance(norm).tolist() for norm in ("linf", "l2"))
    before, after = _predicted(model, result.before), _predicted(model, result.after)
    sure = [f"{value:.1%}" for value in result.confidence_after.tolist()]
    states = ["fooled" if s else "misclassified before" if m else "not fooled"
              for s, m in zip(result.success.tolist(), result.misclassified.tolist(), strict=True)]  # fmt: skip
    rows = [
        [name, was, now, how_sure, state, f"{far * 255:.2f}/255", f"{long:.3f}"]
        for name, was, now, how_sure, state, far, long in zip(
            taken.names, before, after, sure, states, linf, l2, strict=True
        )
    ]
    plates = []
    for i in range(min(len(rows), MOST_PLATES)):
        pair = torch.stack([result.originals[i], result.images[i]]).detach().float().cpu()
        original, adversarial = displayable(pair)
        change = adversarial - original
        tiles = [
            (f"{before[i]}, {float(result.confidence_before[i]):.1%}", original),
            (f"{after[i]}, {sure[i]}", adversarial),
            ("difference; grey is none", (0.5 + change).clamp(0, 1)),
            (f"{AMPLIFIED} x difference", (0.5 + AMPLIFIED * change).clamp(0, 1)),
        ]
        facts = {"largest change of a value": rows[i][5], "l2": rows[i][6], "queries": str(int(result.queries[i]))}
        plates.append(Plate(taken.names[i], tiles, states[i], facts))
    attacked = int((~result.misclassified).sum())
    facts = {
        "Images": str(len(rows)),
        "Fooled": f"{int(result.success.sum())} of {attacked} that were seen rightly",
        "Attack": f"{result.call.method}, {result.call.objective}",
        "Cost": f"{result.call.seconds:.1f} s, {result.call.forward} forward, {result.call.backward} backward",
    }
    head = ["image", "before", "after", "probability", "outcome", "linf", "l2"]
    return gallery(
        path, plates, title=title or f"What fools {model.name}", model=model, facts=facts, table=[head, *rows],
        failures=taken.failures, command=command,
    )  # fmt: skip


def robustness_page(
    path: str | Path, model: Classifier, taken: Photos, result: Robustness, *, title: str = "", command: str = ""
) -> Path:
    """A page of accuracies under attack: the curve, the table, and the images that were fooled at the least budget."""
    assert result.call is not None
    table = [row.strip("| ").split(" | ") for row in result.table().splitlines()]
    table = [[*row, *[""] * (3 - len(row))] for row in (table[0], *table[2:])]
    plates = [Plate("Accuracy over budgets", [("", result.figure())], call=result.call)]
    order = result.broken.argsort()
    for i in [int(i) for i in order if 0 < float(result.broken[i]) < float("inf")][:MOST_PLATES]:
        pair = torch.stack([result.originals[i], result.images[i]]).detach().float().cpu()
        original, adversarial = displayable(pair)
        change = adversarial - original
        after = _predicted(model, model.predict(result.images[i : i + 1], k=1).classes[:, 0])[0]
        tiles = [
            (model.label(int(taken.labels[i])), original),
            (after, adversarial),
            ("difference; grey is none", (0.5 + change).clamp(0, 1)),
            (f"{AMPLIFIED} x difference", (0.5 + AMPLIFIED * change).clamp(0, 1)),
        ]
        plates.append(Plate(taken.names[i], tiles, f"fooled within {_length(float(result.broken[i]), result.norm)}"))
    facts = {"Images": str(len(taken.names)), "Seen rightly": f"{result.accuracy:.1%}", "Attack": result.call.method}
    return gallery(
        path, plates, title=title or f"How robust {model.name} is", model=model, facts=facts, table=table,
        failures=taken.failures, command=command,
    )  # fmt: skip


def save_images(folder: str | Path, model: Classifier, taken: Photos, result: Attack) -> tuple[list[Path], int]:
    """Write the adversarial images as PNG: the files, and how many still fool the network with 8 bits a colour."""
    folder = Path(folder)
    files = []
    for i, name in enumerate(taken.names):
        file = folder / f"{Path(name).with_suffix('')}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        write_image(result.images[i].float().cpu(), file)
        files.append(file)
    rounded = (result.images.float().cpu() * 255).round() / 255
    seen = model.predict(rounded, k=1).classes[:, 0].cpu()
    aims = result.targets
    wrong = seen != result.labels.cpu() if aims is None else seen == aims.cpu()
    return files, int((wrong & result.success.cpu()).sum())


def robust_photos(
    model: Classifier,
    taken: Photos,
    *,
    eps: Sequence[float],
    norm: Any = "linf",
    method: str = "auto_attack",
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
) -> Robustness:
    """Accuracy of photos over budgets.

    Raises:
        ValueError: if the truth of some image is not known.
    """
    if not bool(taken.known.all()):
        name = taken.names[int((~taken.known).nonzero()[0])]
        raise ValueError(
            f"the right class of {name} is not known, and robustness is about right answers: put the images into "
            "folders called like labels, or give a table with truth="
        )
    return robustness(
        model, taken.images, taken.labels, eps=eps, norm=norm, method=method, seed=seed, **(options or {})
    )


def _length(value: float, norm: str) -> str:
    """A distance for people: in linf as parts of 255."""
    return f"{255 * value:.3g}/255" if norm == "linf" else f"{value:.3g}"


def _predicted(model: Classifier, classes: Tensor) -> list[str]:
    return [model.label(int(index)) for index in classes]
