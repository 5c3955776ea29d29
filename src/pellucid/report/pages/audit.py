"""A page of an audit: the clusters that stand apart, what the network looks at in them, and all others in a table."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from ...audit import CleverHans
from ...model.classifier import Classifier
from .. import Plate, gallery

MOST_QUIET = 6  # clusters without an alarm that are shown
MOST_ROWS = 20  # of the table, unless there are more alarms
LEAST = 240  # pixels of a picture on the page


def audit_page(
    path: str | Path, model: Classifier, result: CleverHans, *, title: str = "", command: str = "", seed: int = 0
) -> Path:
    """Write a page of an audit: one HTML file that needs nothing else, whole or not at all.

    Args:
        path: the file. model: for the head of the page. result: of `pellucid.clever_hans`.
        title: of the page. command: the command or call that made the page. seed: of the map of the images.

    Raises:
        OSError: if the file cannot be written.
    """
    quiet = [cluster for cluster in result.clusters if not cluster.alarm]
    plates = []
    for cluster in [*result.alarms, *quiet[:MOST_QUIET]]:
        other = sum(result.predictions[row] != cluster.label for row in cluster.members)
        facts = {
            "Outlier score": f"{cluster.outlier_score:.1f}",
            "Gap to the rest": f"{cluster.score:.1f} standard deviations",
            "Images": f"{len(cluster.members)}, {cluster.share:.0%} of the class",
            "Taken for another class": f"{other / len(cluster.members):.0%}",
        }
        verdict = "stands apart: look at it" if cluster.alarm else "nothing out of the ordinary"
        number = result.clusters.index(cluster) + 1
        tiles = [(caption, _large(picture)) for caption, picture in result.tiles(cluster, 4)]
        plates.append(Plate(f"{cluster.label}, cluster {number}", tiles, verdict, facts))
    labels = list(dict.fromkeys(cluster.label for cluster in result.clusters))
    for label in (list(dict.fromkeys(c.label for c in result.alarms)) or labels)[:3]:
        if len(result.audited(label).members) >= 10:
            picture = result.embedding(label, seed=seed).figure()
            title_of = f"{label}: its relevance maps, like beside like"
            plates.append(Plate(title_of, [("", picture)], "t-SNE; colors are clusters"))
    head = ["class", "cluster", "images", "of the class", "outlier score", "gap", "alarm"]
    rows = [
        [c.label, str(number), str(len(c.members)), f"{c.share:.1%}", f"{c.outlier_score:.2f}", f"{c.score:.2f}",
         "yes" if c.alarm else ""]
        for number, c in enumerate(result.clusters[: max(MOST_ROWS, len(result.alarms))], 1)
    ]  # fmt: skip
    facts = {
        "Outcome": result.verdict(),
        "Images": f"{len(result.names)} of {len(result.classes)} classes",
        "Clusters": f"{len(result.clusters)}"
        + (f", the first {len(rows)} below" if len(rows) < len(result.clusters) else ""),
        "Alarm": f"from an outlier score of {result.threshold:g}",
    }
    if result.call:
        facts["Maps"] = str(result.call.options["method"])
        facts["Cost"] = f"{result.call.seconds:.1f} s, {result.call.forward} forward, {result.call.backward} backward"
    left_out = [(label, f"not audited: {reason}") for label, reason in result.skipped.items()]
    return gallery(
        path, plates, title=title or f"Does {model.name} look at the right evidence?", model=model, facts=facts,
        table=[head, *rows], failures=[*result.failures, *left_out], command=command,
    )  # fmt: skip


def _large(picture: Tensor) -> Tensor:
    """A small picture with its pixels repeated, whose colors no compression of the page mixes."""
    times = max(1, LEAST // max(picture.shape[1:]))
    return picture.repeat_interleave(times, 1).repeat_interleave(times, 2)
