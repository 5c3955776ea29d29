"""The images nearest to an image, as a layer sees them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from ..display import figures
from ..files.tables import TABLES, write_table
from ..methods.result import Call, Result
from ..methods.verb import verb
from ..model.batches import progress
from .sweeps.features_result import Features

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Metric = Literal["l2", "cosine"]
Engine = Literal["torch", "faiss"]
MORE = 16  # candidates beyond k, among which the exact distances decide
BLOCK = 2**24  # distances in memory at once
MOST_ROWS, MOST_LETTERS = 12, 14


@dataclass(frozen=True, eq=False, repr=False)
class Neighbors(Result):
    """The k nearest of N points to each of Q queries, the nearest first; of equally near ones the earlier.

    indices: Q x k, rows of the points. distances: Q x k, in float64: Euclidean, or 1 - cosine.
    metric: "l2" or "cosine". queries: Q, the rows of the points that they are; -1 for others.
    features, asked: what the points and the queries are, if they were `Features`.
    call: how it was made.
    """

    indices: Tensor
    distances: Tensor
    metric: str
    queries: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))
    features: Features | None = None
    asked: Features | None = None
    call: Call | None = None

    def figure(self, *, beside: Neighbors | None = None, most: int = MOST_ROWS, **options: Any) -> Figure:
        """Each query with the images nearest to it.

        Args:
            beside: the neighbors of the same queries in another space, such as that of pixels; shown to the right.
            most: queries that are shown.
            options: those of `pellucid.display.figures.grid`.

        Raises:
            ValueError: if the images are not known, or `beside` is about other queries.
        """
        shown = min(most, len(self.indices))
        tiles, titles, notes, per_row = [], [], [], 0
        for row in range(shown):
            made = self.tiles(row, beside)
            per_row = len(made)
            tiles += [image for _, _, image in made]
            titles += [title if row == 0 else "" for title, _, _ in made]
            notes += [note for _, note, _ in made]
        caption = str(self.call) if self.call else ""
        if shown < len(self.indices):
            caption = f"the first {shown} of {len(self.indices)} queries. {caption}"
        options.setdefault("caption", caption)
        options.setdefault("inches", 1.15)
        return figures.grid(tiles, titles, notes, columns=per_row, **options)

    def tiles(self, row: int, beside: Neighbors | None = None) -> list[tuple[str, str, Tensor]]:
        """A query and its neighbors for people: title, note and picture of each."""
        if self.features is None:
            raise ValueError("the images of these points are not known: ask with Features instead of bare numbers")
        if beside is not None and (len(beside.indices) != len(self.indices) or beside.features is None):
            raise ValueError("the neighbors beside are those of other queries, or of points without images")
        query = int(self.queries[row])
        source = self.features if query >= 0 else self.asked
        if source is None:
            raise ValueError("the images of the queries are not known: give them as Features, or as rows")
        number = query if query >= 0 else row
        made = [("query", self._note(source, number), source.thumbnails([number])[0])]
        for found in (self, *([beside] if beside is not None else [])):
            features = found.features
            assert features is not None
            space = features.layers[0]
            rows = found.indices[row].tolist()
            images = features.thumbnails(rows)
            for place, (index, far, image) in enumerate(zip(rows, found.distances[row].tolist(), images, strict=True)):
                made.append((f"by {space}" if place == 0 else "", f"{self._note(features, index)} {far:.3g}", image))
        return made

    def rows(self) -> list[dict[str, Any]]:
        """A row for each pair of query and neighbor."""
        made = []
        for row, (indices, distances) in enumerate(zip(self.indices.tolist(), self.distances.tolist(), strict=True)):
            query = int(self.queries[row])
            source = self.features if query >= 0 else self.asked
            number = query if query >= 0 else row
            for rank, (index, far) in enumerate(zip(indices, distances, strict=True)):
                made.append(
                    {
                        "query": source.names[number] if source is not None else str(number),
                        "rank": rank,
                        "neighbor": self.features.names[index] if self.features is not None else str(index),
                        "row": index,
                        "distance": far,
                        "label": self.features.label(index) if self.features is not None else "",
                        "prediction": self.features.prediction(index) if self.features is not None else "",
                    }
                )
        return made

    def save(self, path: str | Path, **options: Any) -> Path:
        """Write the neighbors, whole or not at all: .parquet or .csv for a row for each pair, .npz, or a picture."""
        path = Path(path)
        if path.suffix.lower() in TABLES:
            return write_table(path, self.rows())
        return super().save(path, **options)

    def agreement(self) -> float:
        """The share of neighbors that have the query's true class, where both are known: 1 is all.

        Raises:
            ValueError: if the true class of no query is known.
        """
        if self.features is None:
            raise ValueError("the classes of these points are not known: ask with Features instead of bare numbers")
        mine = torch.full((len(self.indices),), -1)
        inside = self.queries >= 0
        mine[inside] = self.features.labels[self.queries[inside]]
        if self.asked is not None:
            known = {name: index for index, name in enumerate(self.features.classes)}
            for row in (~inside).nonzero().flatten().tolist():
                mine[row] = known.get(self.asked.label(row), -1)
        theirs = self.features.labels[self.indices]
        counted = (mine >= 0)[:, None] & (theirs >= 0)
        if not bool(counted.any()):
            raise ValueError("no true class is known: give them with labels=, or put the images into folders")
        return float((mine[:, None] == theirs)[counted].double().mean())

    def _note(self, source: Features, number: int) -> str:
        name = source.label(number) or source.prediction(number) or source.names[number]
        first = name.partition(",")[0]  # of several names of a class
        return first if len(first) <= MOST_LETTERS else f"{first[: MOST_LETTERS - 1]}…"

    def __repr__(self) -> str:
        return f"Neighbors({' x '.join(map(str, self.indices.shape))}, {self.metric}, {self.call})"


@verb()
def neighbors(
    points: Features | Tensor | Any,
    queries: Features | Tensor | Any = None,
    k: int = 5,
    *,
    metric: Metric = "l2",
    include_self: bool = True,
    engine: Engine = "torch",
) -> Neighbors:
    """The k points nearest to each query: exact, and of equally near ones the earlier.

    Distances of candidates are computed as differences in float64, so that a copy has the distance 0; candidates are
    found by products, and where rounding could have hidden one, all distances are computed.

    Args:
        points: `Features` of one layer, or N x D numbers.
        queries: rows of the points (whole numbers), or others: `Features`, or Q x D numbers; by default all points.
        k: how many.
        metric: "l2", or "cosine" for 1 - cosine; a vector of zeros has the distance 1 to all.
        include_self: False leaves out the query's own row; for queries that are rows of the points.
        engine: what finds candidates: "torch", or "faiss" if it is installed.

    Returns:
        `Neighbors`.

    Raises:
        ValueError: for a k larger than the number of points, NaN, or shapes that do not fit.
        ImportError: for engine="faiss" without faiss.

    >>> points = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 3.0]])
    >>> neighbors(points, [0], k=2, include_self=False).indices
    tensor([[1, 2]])
    """
    for name, value, kinds in (("metric", metric, Metric), ("engine", engine, Engine)):
        if value not in get_args(kinds):
            raise ValueError(f"{name} is {value!r}, expected {' or '.join(map(repr, get_args(kinds)))}")
    features = points if isinstance(points, Features) else None
    base = _numbers(points, "points")
    asked = queries if isinstance(queries, Features) else None
    rows, wanted = _queries(base, queries)
    available = len(base) - (not include_self and bool((rows >= 0).any()))
    if not isinstance(k, int) or isinstance(k, bool) or k < 1:
        raise ValueError(f"k is {k!r}, expected a whole number above 0")
    if k > available:
        others = " others" if available < len(base) else ""
        raise ValueError(
            f"k is {k}, but there {'is' if available == 1 else 'are'} only {available}{others}: ask for fewer"
        )
    if not include_self and bool((rows < 0).any()):
        raise ValueError("a query's own row cannot be left out: these queries are no rows of the points")
    finder = _Finder(base, metric, engine)
    indices, distances = finder.nearest(wanted, k, rows if not include_self else torch.full_like(rows, -1))
    about = features.call.model if features is not None and features.call is not None else "points"
    layer = features.layers[0] if features is not None else f"{base.shape[1]} numbers"
    options = {"k": k, "metric": metric, "include_self": include_self, "engine": engine}
    call = Call(options=options, objective=layer, model=about)
    return Neighbors(indices, distances, metric, rows, features, asked, call)


class _Finder:
    """Exact neighbors among some points."""

    def __init__(self, base: Tensor, metric: str, engine: str) -> None:
        self.base, self.metric, self.engine = base, metric, engine
        # Around the mean numbers are small, and their products lose fewer digits; the differences stay.
        self.center = base.double().mean(0) if metric == "l2" else torch.zeros(base.shape[1], dtype=torch.float64)
        self.moved = self._moved(base)
        self.squares = self.moved.square().sum(1)
        self.index = self._index() if engine == "faiss" else None

    def _moved(self, points: Tensor) -> Tensor:
        """As candidates are looked for: around the mean, or of length 1."""
        if self.metric == "l2":
            return points - self.center.to(points.dtype)
        return torch.nn.functional.normalize(points, dim=1, eps=1e-30)

    def _index(self) -> Any:
        try:
            import faiss
        except ImportError as error:
            raise ImportError(
                "engine='faiss' needs faiss: pip install 'pellucid[faiss]', or leave engine out"
            ) from error
        index = faiss.IndexFlatL2(self.base.shape[1])
        index.add(np.ascontiguousarray(self.moved.float().numpy()))
        return index

    def nearest(self, queries: Tensor, k: int, left_out: Tensor) -> tuple[Tensor, Tensor]:
        count = len(self.base)
        indices = torch.empty(len(queries), k, dtype=torch.long)
        distances = torch.empty(len(queries), k, dtype=torch.float64)
        size = max(1, min(len(queries), BLOCK // count))
        with progress(len(queries), "neighbors", "query") as advance:
            for start in range(0, len(queries), size):
                part = slice(start, start + size)
                indices[part], distances[part] = self._some(queries[part], k, left_out[part])
                advance(len(indices[part]))
        return indices, distances

    def _some(self, queries: Tensor, k: int, left_out: Tensor) -> tuple[Tensor, Tensor]:
        many = min(len(self.base), k + 1 + MORE)
        moved = self._moved(queries)
        own = moved.square().sum(1)
        if self.index is not None:
            found, order = self.index.search(np.ascontiguousarray(moved.float().numpy()), many)
            near, candidates = torch.from_numpy(found), torch.from_numpy(order)
        else:
            near, candidates = torch.addmm(self.squares, moved, self.moved.T, alpha=-2).topk(many, 1, largest=False)
            near = near + own[:, None]
        exact = self._exact(queries, candidates)
        exact = exact.masked_fill(candidates == left_out[:, None], float("inf"))
        indices, distances = _sorted(candidates, exact, k)
        if many < len(self.base):
            # What was not among the candidates is no nearer than the last of them, but for the error of the products.
            worst = near[:, -1].double()
            scale = (own + self.squares.max()).double()
            slack = 4 * (self.base.shape[1] ** 0.5 + 8) * torch.finfo(self._precision()).eps * scale
            last = distances[:, -1]
            kth = last.square() if self.metric == "l2" else 2 * last
            for row in (kth >= worst - slack).nonzero().flatten().tolist():
                everything = torch.arange(len(self.base))[None]
                far = torch.cat([self._exact(queries[row : row + 1], part) for part in everything.split(65536, 1)], 1)
                if int(left_out[row]) >= 0:
                    far[0, left_out[row]] = float("inf")
                indices[row : row + 1], distances[row : row + 1] = _sorted(everything, far, k)
        return indices, distances

    def _precision(self) -> torch.dtype:
        return torch.float32 if self.index is not None else self.moved.dtype

    def _exact(self, queries: Tensor, candidates: Tensor) -> Tensor:
        """Distances of each query to its candidates, in float64."""
        made = []
        step = max(1, 2**22 // max(1, candidates.shape[1] * self.base.shape[1]))
        for query, among in zip(queries.split(step), candidates.split(step), strict=True):
            near = self.base[among].double()
            one = query.double()[:, None]
            if self.metric == "l2":
                made.append((near - one).square().sum(2).sqrt())
            else:
                lengths = near.square().sum(2).sqrt() * one.square().sum(2).sqrt()
                cosine = (near * one).sum(2) / lengths.clamp(min=1e-300)
                made.append((1 - cosine.clamp(-1, 1)).where(lengths > 0, 1.0))
        return torch.cat(made)


def _sorted(candidates: Tensor, distances: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k nearest; of equally near ones the earlier."""
    by_index = candidates.argsort(1)
    candidates, distances = candidates.gather(1, by_index), distances.gather(1, by_index)
    order = distances.argsort(dim=1, stable=True)[:, :k]
    return candidates.gather(1, order), distances.gather(1, order)


def _queries(base: Tensor, queries: Any) -> tuple[Tensor, Tensor]:
    """The rows of the points that the queries are, -1 for others; and the queries themselves."""
    if queries is None:
        return torch.arange(len(base)), base
    if isinstance(queries, int):
        queries = [queries]
    whole = isinstance(queries, Sequence) and not isinstance(queries, str) and all(
        isinstance(row, (int, np.integer)) and not isinstance(row, bool) for row in queries
    )  # fmt: skip
    if not whole and isinstance(queries, (Tensor, np.ndarray)):
        whole = queries.ndim == 1 and (
            queries.dtype in (torch.int64, torch.int32) if isinstance(queries, Tensor) else queries.dtype.kind in "iu"
        )
    if whole:
        rows = torch.as_tensor(queries).long()
        if not len(rows):
            raise ValueError("there are no queries: give at least one row")
        if int(rows.min()) < 0 or int(rows.max()) >= len(base):
            wrong = int(rows.min()) if int(rows.min()) < 0 else int(rows.max())
            raise ValueError(f"there is no row {wrong}: there are {len(base)} points, counted from 0")
        return rows, base[rows]
    found = _numbers(queries, "queries")
    if found.shape[1] != base.shape[1]:
        raise ValueError(
            f"the queries have {found.shape[1]} numbers each and the points {base.shape[1]}: take both from one layer"
        )
    return torch.full((len(found),), -1), found.to(torch.promote_types(found.dtype, base.dtype))


def _numbers(given: Any, what: str) -> Tensor:
    """N x D floating numbers on the CPU."""
    values = given.values if isinstance(given, Features) else given
    found = values.detach().cpu() if isinstance(values, Tensor) else torch.as_tensor(np.asarray(values))
    found = found if found.dtype == torch.float64 else found.float()
    if found.ndim != 2 or 0 in found.shape:
        shape = " x ".join(map(str, found.shape)) or "a single number"
        raise ValueError(f"the {what} have the shape {shape}, expected N x D: a row for each")
    finite = found.isfinite().all(1)
    if not bool(finite.all()):
        row = int((~finite).nonzero()[0])
        name = f" ({given.names[row]})" if isinstance(given, Features) else ""
        raise ValueError(f"row {row}{name} of the {what} has NaN or infinity: leave it out")
    return found
