"""Attacks on photos, and pages of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...adversarial import Attack, Robustness, robustness
from ...adversarial.attack.result import AMPLIFIED
from ...display.figures import displayable
from ...files.images import write_image
from ...methods.registry import CATALOGUE
from ...model.classifier import Classifier
from .. import Plate, gallery
from ..gallery import MOST_PLATES
from .photos import Photos


def attack_photos(
    model: Classifier,
    taken: Photos,
    *,
    method: str = "pgd",
    target: int | str | None = None,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
    folder: str | Path | None = None,
) -> Attack:
    """Run one attack, by its name, on photos; with a folder, finished ones are kept there."""
    given = {**(options or {}), **({} if target is None else {"target": target}), "seed": seed, "folder": folder}
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
    states = _outcomes(model, result)
    rows = [
        [name, was, now, how_sure, state, f"{far * 255:.2f}/255", f"{long:.3f}"]
        for name, was, now, how_sure, state, far, long in zip(
            taken.names, before, after, sure, states, linf, l2, strict=True
        )
    ]
    plates = []
    # What was fooled first; what was wrong before any attack last.
    order = sorted(range(len(rows)), key=lambda i: (bool(result.misclassified[i]), not bool(result.success[i])))
    for i in order[:MOST_PLATES]:
        pair = (result.originals[i], result.images[i])
        names = (f"{before[i]}, {float(result.confidence_before[i]):.1%}", f"{after[i]}, {sure[i]}")
        facts = {"largest change of a value": rows[i][5], "l2": rows[i][6], "queries": str(int(result.queries[i]))}
        if result.success_under_transforms is not None and not result.misclassified[i]:
            facts["fooled in views"] = f"{float(result.success_under_transforms[i]):.0%}"
        plates.append(Plate(taken.names[i], _tiles(*pair, *names), states[i], facts))
    attacked = int((~result.misclassified).sum())
    facts = {
        "Images": str(len(rows)),
        "Fooled": f"{int(result.success.sum())} of {attacked} that were correctly classified",
        "Attack": f"{result.call.method}, {result.call.objective}{_budget(result)}",
        "Cost": f"{result.call.seconds:.1f} s, {result.call.forward} forward, {result.call.backward} backward",
    }
    head = ["image", "before", "after", "probability", "outcome", "largest change", "l2"]
    facts |= {"Not read": f"{len(taken.failures)}, at the end of the page"} if taken.failures else {}
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
        after = _predicted(model, model.predict(result.images[i : i + 1], k=1).classes[:, 0])[0]
        tiles = _tiles(result.originals[i], result.images[i], model.label(int(taken.labels[i])), after)
        plates.append(Plate(taken.names[i], tiles, f"fooled within {_length(float(result.broken[i]), result.norm)}"))
    facts = {"Images": str(len(taken.names)), "Correctly classified": f"{result.accuracy:.1%}",
             "Attack": result.call.method.removeprefix("robustness, ")}  # fmt: skip
    facts |= {"Not read": f"{len(taken.failures)}, at the end of the page"} if taken.failures else {}
    return gallery(
        path, plates, title=title or f"How robust {model.name} is", model=model, facts=facts, table=table,
        failures=taken.failures, command=command,
    )  # fmt: skip


def save_images(folder: str | Path, model: Classifier, taken: Photos, result: Attack) -> tuple[list[Path], int]:
    """Write the adversarial images as PNG: the files, and how many still fool the network with 8 bits a color."""
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
    folder: str | Path | None = None,
) -> Robustness:
    """Accuracy of photos over budgets; with a folder, finished ones are kept there.

    Raises:
        ValueError: if the truth of some image is not known.
    """
    if not bool(taken.known.all()):
        name = taken.names[int((~taken.known).nonzero()[0])]
        raise ValueError(
            f"the right class of {name} is not known, and robustness is about right answers: put the images into "
            "folders called like labels, or give a table with labels="
        )
    return robustness(
        model, taken.images, taken.labels, eps=eps, norm=norm, method=method, seed=seed, folder=folder,
        **(options or {}),
    )  # fmt: skip


def _tiles(original: Tensor, found: Tensor, before: str, after: str) -> list[tuple[str, Tensor]]:
    """What is shown of an image: before, after, the difference and ten times it; one picture where nothing changed."""
    original, adversarial = displayable(torch.stack([original, found]).detach().float().cpu())
    change = adversarial - original
    if not change.any():
        return [(before, original)]
    return [
        (before, original),
        (after, adversarial),
        ("difference; gray is none", (0.5 + change).clamp(0, 1)),
        (f"{AMPLIFIED} x difference", (0.5 + AMPLIFIED * change).clamp(0, 1)),
    ]


def _outcomes(model: Classifier, result: Attack) -> list[str]:
    """What became of each image, in words."""
    said = []
    for i, label in enumerate(_predicted(model, result.labels)):
        if result.misclassified[i]:
            said.append(f"seen wrongly before: it is {label}" if result.targets is None else "of that class before")
        else:
            said.append("fooled" if result.success[i] else "not fooled")
    return said


def _budget(result: Attack) -> str:
    assert result.call is not None
    options = result.call.options
    if "eps" not in options:
        return ""
    return f", within {_length(options['eps'], options.get('norm', 'linf'))} ({options.get('norm', 'linf')})"


def _length(value: float, norm: str) -> str:
    """A distance for people: in linf as parts of 255."""
    return f"{255 * value:.3g}/255" if norm == "linf" else f"{value:.3g}"


def _predicted(model: Classifier, classes: Tensor) -> list[str]:
    return [model.label(int(index)) for index in classes]
