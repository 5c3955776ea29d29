"""What an audit found: clusters of images that a network judges in a way of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...checks import UnknownName, nearest
from ...display.colors import colorize
from ...methods.result import Call
from ...methods.tabular import Tabular
from ...representation.projections.embedding import Embedding
from ...representation.tsne import tsne

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EXAMPLES = 6


@dataclass(frozen=True, eq=False)
class Cluster:
    """Images of one class whose relevance lies alike, and apart from that of the others.

    label: the class. members: numbers of its images in the audit, the most typical first. share: of the class.
    score: the gap to the rest of the class, in standard deviations of that; about 0 where there is none.
    outlier_score: how far the score is above that of other clusters, and of clouds, in their spread.
    alarm: whether the outlier score reaches the threshold.
    """

    label: str
    members: tuple[int, ...] = field(repr=False)
    share: float
    score: float
    outlier_score: float
    alarm: bool


@dataclass(frozen=True, eq=False)
class AuditedClass:
    """One class of an audit.

    label: its name. members: numbers of its M images. points: M x d, the spectral embedding. eigenvalues: of the
    Laplacian. gap: how many clusters the largest gap among them speaks for. copies: maps that are copies of others.
    """

    label: str
    members: tuple[int, ...] = field(repr=False)
    points: Tensor = field(repr=False)
    eigenvalues: Tensor = field(repr=False)
    gap: int
    copies: int


@dataclass(frozen=True, eq=False)
class CleverHans(Tabular):
    """Clusters of images by where a network looks, the highest outlier score first.

    clusters: of all classes, ranked. classes: each class that was audited.
    maps: N x h x w, the relevance of each image's class, over the sum of its magnitudes.
    pictures: N x 3 x t x u, the images, small, 8 bits. unit: N x D, the maps as they were compared.
    names, files: of the images. labels, predictions: N classes in words.
    threshold: of an alarm. skipped: classes that were left out, with the reason. failures: files, with the reason.
    call: how it was made.
    """

    clusters: tuple[Cluster, ...]
    classes: tuple[AuditedClass, ...]
    maps: Tensor = field(repr=False)
    pictures: Tensor = field(repr=False)
    unit: Tensor = field(repr=False)
    names: tuple[str, ...] = field(repr=False)
    files: tuple[str, ...] = field(repr=False)
    labels: tuple[str, ...] = field(repr=False)
    predictions: tuple[str, ...] = field(repr=False)
    threshold: float
    skipped: Mapping[str, str] = field(default_factory=dict)
    failures: tuple[tuple[str, str], ...] = ()
    call: Call | None = None

    @property
    def alarms(self) -> tuple[Cluster, ...]:
        """The clusters whose outlier score reaches the threshold."""
        return tuple(cluster for cluster in self.clusters if cluster.alarm)

    @property
    def cluster_of(self) -> Tensor:
        """N: the number of each image's cluster in `clusters`, -1 for none."""
        found = torch.full((len(self.names),), -1)
        for number, cluster in reversed(list(enumerate(self.clusters))):
            found[list(cluster.members)] = number
        return found

    def mean_map(self, cluster: Cluster) -> tuple[Tensor, Tensor]:
        """The mean map of a cluster, and of the rest of its class: h x w each."""
        rest = sorted(set(self.audited(cluster.label).members) - set(cluster.members))
        return self.maps[list(cluster.members)].mean(0), self.maps[rest].mean(0)

    def mean_picture(self, cluster: Cluster) -> tuple[Tensor, Tensor]:
        """The mean image of a cluster, and of the rest of its class: 3 x t x u each, in [0, 1]."""
        rest = sorted(set(self.audited(cluster.label).members) - set(cluster.members))
        return self.pictures[list(cluster.members)].float().mean(0) / 255, self.pictures[rest].float().mean(0) / 255

    def audited(self, label: str) -> AuditedClass:
        """One of the classes, by its name.

        Raises:
            UnknownName: if it was not audited.
        """
        known = {one.label: one for one in self.classes}
        if label not in known:
            raise UnknownName(f"the class {label!r} was not audited; {nearest(label, known)}")
        return known[label]

    def embedding(self, label: str | None = None, *, seed: int = 0) -> Embedding:
        """A t-SNE map of the relevance maps of one class, its images colored by their cluster.

        Args:
            label: the class; by default that of the cluster with the highest outlier score.
            seed: of the map.
        """
        audited = self.audited(label if label is not None else self.clusters[0].label if self.clusters else
                               self.classes[0].label)  # fmt: skip
        rows = list(audited.members)
        names = {number: self._short(number) for number, c in enumerate(self.clusters) if c.label == audited.label}
        labels = [names.get(int(number), "none") for number in self.cluster_of[rows]]
        pictures = self.pictures[rows].float() / 255
        return tsne(self.unit[rows], labels=labels, names=[self.names[i] for i in rows], images=pictures, seed=seed)

    def _short(self, number: int) -> str:
        cluster = self.clusters[number]
        return f"{'ALARM ' if cluster.alarm else ''}{number + 1}: {cluster.outlier_score:.1f}"

    def tiles(self, cluster: Cluster, examples: int = EXAMPLES) -> list[tuple[str, Tensor]]:
        """What shows a cluster: mean image and map, those of the rest, and typical examples with their maps."""
        mean, rest = self.mean_map(cluster)
        mine, others = self.mean_picture(cluster)
        members = list(cluster.members[:examples])
        both = colorize(torch.stack([mean, rest])[:, None], signed=True, shared=True)
        shown = [("mean relevance", both[0]), ("of the rest", both[1]), ("mean image", mine), ("of the rest", others)]
        for row, colored in zip(members, colorize(self.maps[members][:, None], signed=True), strict=True):
            name = Path(self.names[row]).name if self.files else f"image {self.names[row]}"
            shown += [(name, self.pictures[row].float() / 255), (f"seen as {self.predictions[row]}", colored)]
        return shown

    def figure(self, *, most: int = 4, examples: int = EXAMPLES) -> Figure:  # type: ignore[override]
        """The clusters with the highest outlier scores, a row each: means, typical images and their maps.

        Args:
            most: clusters. examples: images of each.
        """
        import textwrap

        from matplotlib.figure import Figure

        from ...display.figures import plain

        chosen = self.clusters[:most]
        columns = 2 + examples
        figure = Figure(figsize=(1.35 * columns, 3.1 * max(1, len(chosen)) + 0.5), dpi=130, layout="constrained")
        parts = figure.subfigures(max(1, len(chosen)), 1, squeeze=False)[:, 0]
        for part, cluster in zip(parts, chosen, strict=False):
            tiles = self.tiles(cluster, examples)
            axes = part.subplots(2, columns, squeeze=False)
            places = {0: (1, 0), 1: (1, 1), 2: (0, 0), 3: (0, 1)}
            for axis in axes.flat:
                axis.set_axis_off()
            for number, (title, picture) in enumerate(tiles):
                row, column = places.get(number, (number % 2, number // 2))
                axes[row, column].imshow(picture.permute(1, 2, 0).numpy(), interpolation="nearest")
                title = title if number < 4 else textwrap.shorten(title, 18, placeholder="...")
                axes[row, column].set_title(plain(title), fontsize=7, parse_math=False)
            part.suptitle(plain(self.words(cluster)), fontsize=9, parse_math=False, x=0.02, ha="left",
                          weight="bold" if cluster.alarm else "normal")  # fmt: skip
        said = f"{self.verdict()} {self.call}" if self.call else self.verdict()
        figure.supxlabel(plain("\n".join(textwrap.wrap(said, 130))), fontsize=7, color="0.4", parse_math=False)
        return figure

    def words(self, cluster: Cluster) -> str:
        """What there is to say of a cluster, in a line."""
        alarm = "ALARM: " if cluster.alarm else ""
        return (
            f"{alarm}{cluster.label}: {len(cluster.members)} images ({cluster.share:.0%}), outlier score "
            f"{cluster.outlier_score:.1f}, a gap of {cluster.score:.1f} standard deviations to the rest"
        )

    def verdict(self) -> str:
        """The outcome in a sentence."""
        count, classes = len(self.alarms), len(self.classes)
        over = f"{classes} {'class' if classes == 1 else 'classes'} with {len(self.names)} images"
        if not count:
            return f"No cluster of {over} stands apart (outlier score {self.threshold:g} or more)."
        where = ", ".join(dict.fromkeys(cluster.label for cluster in self.alarms))
        return f"{count} {'cluster stands' if count == 1 else 'clusters stand'} apart among {over}: {where}."

    def rows(self) -> list[dict[str, Any]]:
        """One row for each image: file, class, prediction, cluster, and what is known of that."""
        found = []
        for image, number in enumerate(self.cluster_of.tolist()):
            cluster = self.clusters[number] if number >= 0 else None
            found.append({
                "name": self.names[image],
                "file": self.files[image] if self.files else None,
                "class": self.labels[image],
                "prediction": self.predictions[image],
                "cluster": number + 1 if cluster else None,
                "outlier_score": cluster.outlier_score if cluster else None,
                "score": cluster.score if cluster else None,
                "alarm": bool(cluster and cluster.alarm),
            })  # fmt: skip
        return found

    def __repr__(self) -> str:
        return f"CleverHans({self.verdict()} {self.call})"
