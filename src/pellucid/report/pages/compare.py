"""A page of a comparison: one table of time and truth, and each image with the maps of all methods."""

from __future__ import annotations

from pathlib import Path

from ...metrics import Comparison
from ...metrics.comparison_result import MEASURES
from ...model.classifier import Classifier
from .. import Plate, gallery


def compare_page(
    path: str | Path, model: Classifier, result: Comparison, *, title: str = "", command: str = ""
) -> Path:
    """Write a page of a comparison: one HTML file that needs nothing else, whole or not at all.

    Args:
        path: the file. model: for the head of the page. result: of `pellucid.compare`.
        title: of the page. command: the command or call that made the page.

    Raises:
        OSError: if the file cannot be written.
    """
    plates = [Plate(result.names[number], result.tiles(number)) for number in range(len(result.images))]
    facts = {"Images": str(len(result.names)), "Methods": str(len(result.methods))}
    for measure in result.scores:
        said, more = MEASURES[measure]
        facts[measure.capitalize()] = f"{said}; {'more' if more else 'less'} is better"
    facts["Star"] = "the best by that measure; no measure alone is the truth"
    if result.call:
        facts["Explained"] = result.call.objective
    failures = list(result.failures)
    failures += [(name, f"failed on {count} of {len(result.names)} images: {why}") for name, (count, why) in
                 result.problems.items()]  # fmt: skip
    return gallery(
        path, plates, title=title or f"Which method tells the truth about {model.name}?", model=model, facts=facts,
        table=result.cells(), failures=failures, command=command,
    )  # fmt: skip
