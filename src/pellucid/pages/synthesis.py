"""Pages of images that a model made."""

from __future__ import annotations

from pathlib import Path

from ..classifier import Classifier
from ..pictures import displayable
from ..report import Plate, gallery
from ..report.gallery import MOST_PLATES
from ..synthesis import Synthesis


def synthesis_page(
    path: str | Path, model: Classifier, result: Synthesis, *, title: str = "", command: str = ""
) -> Path:
    """A page of images that a model made, and of the objective on the way.

    Raises:
        OSError: if the file cannot be written.
    """
    assert result.call is not None
    images = displayable(result.images.cpu())
    titles = [*result.titles, *[""] * (len(images) - len(result.titles))]
    notes = []
    for row in range(len(images)):
        dead = len(result.dead) > row and bool(result.dead[row])
        value = f"{float(result.values[row]):.4g}" if len(result.values) > row else ""
        notes.append("no gradient was found: this is noise" if dead else value)
    tiles = [(f"{t}: {n}" if t and n else t or n, image) for t, n, image in zip(titles, notes, images, strict=True)]
    shown = min(len(tiles), MOST_PLATES)
    plates = [Plate(result.call.method, tiles[start : min(start + 8, shown)]) for start in range(0, shown, 8)]
    if result.history.shape[1] > 1:
        plates.append(Plate("The objective on the way", [("", result.figure(history=True))], call=result.call))
    facts = {"Images": str(len(images)), "Steps": f"{result.steps}{', interrupted' if result.interrupted else ''}"}
    return gallery(
        path, plates, title=title or f"What {model.name} wants to see", model=model, facts=facts, command=command
    )
