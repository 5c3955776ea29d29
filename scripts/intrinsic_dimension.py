"""Estimates of intrinsic dimension on shapes whose dimension is known, beside scikit-dimension's, as a table.

    python scripts/intrinsic_dimension.py [--points 1000] [--spread 10] [--figure docs/intrinsic_dimension.png]

The second table says whether the standard errors are right: the spread of the estimates over sets of other points of
the same shape, and the mean of the errors told. With a figure, the sweeps of the last shape are drawn into it.
"""

from __future__ import annotations

import argparse
import importlib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import pellucid
from pellucid.representation.intrinsic_dimension import SWEEPS, sweeps_figure

Points = np.ndarray[Any, np.dtype[np.float64]]
WIDE = 64  # dimensions of the space that the shapes lie in


def turned(points: Points, generator: np.random.Generator) -> Points:
    """The points in a space of more dimensions, turned at random."""
    axes: Points = np.linalg.qr(generator.normal(size=(WIDE, WIDE)))[0][:, : points.shape[1]]
    return points @ axes.T


def swiss_roll(count: int, _dimension: int, generator: np.random.Generator) -> Points:
    angle = 1.5 * np.pi * (1 + 2 * generator.random(count))
    return np.stack([angle * np.cos(angle), 21 * generator.random(count), angle * np.sin(angle)], 1)


def sphere(count: int, dimension: int, generator: np.random.Generator) -> Points:
    points: Points = generator.normal(size=(count, dimension + 1))
    found: Points = points / np.linalg.norm(points, axis=1, keepdims=True)
    return found


def cube(count: int, dimension: int, generator: np.random.Generator) -> Points:
    return generator.random((count, dimension))


def normal(count: int, dimension: int, generator: np.random.Generator) -> Points:
    return generator.normal(size=(count, dimension))


SHAPES: list[tuple[str, Callable[[int, int, np.random.Generator], Points], int]] = [
    ("Swiss roll", swiss_roll, 2),
    ("sphere", sphere, 2),
    ("cube", cube, 2),
    ("sphere", sphere, 5),
    ("cube", cube, 5),
    ("sphere", sphere, 10),
    ("cube", cube, 10),
    ("sphere", sphere, 16),
    ("cube", cube, 16),
    ("normal distribution", normal, 16),
]


def peers(points: Points) -> list[float]:
    """What scikit-dimension says: maximum likelihood, two nearest neighbors, the correlation integral, local PCA."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        skdim = importlib.import_module("skdim")
        found = [
            skdim.id.MLE(neighborhood_based=True).fit(points, n_neighbors=20, comb="mle"),
            skdim.id.TwoNN().fit(points),
            skdim.id.CorrInt().fit(points),
            skdim.id.lPCA().fit(points),
        ]
    return [float(one.dimension_) for one in found]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--points", type=int, default=1000)
    parser.add_argument("--spread", type=int, default=0, help="sets of points for the second table")
    parser.add_argument("--shapes", type=int, default=len(SHAPES), help="only the first of them")
    parser.add_argument("--figure", type=Path)
    given = parser.parse_args()

    print("| shape | true | graph | mle | twonn | scikit-dimension: MLE, k = 20 | TwoNN | CorrInt | local PCA |")
    print("|---|---|---|---|---|---|---|---|---|")
    last = []
    for name, shape, dimension in SHAPES[: given.shapes]:
        generator = np.random.default_rng(0)
        points = turned(shape(given.points, dimension, generator), generator)
        drawn = given.figure and (name, dimension) == (SHAPES[given.shapes - 1][0], SHAPES[given.shapes - 1][2])
        last = [
            pellucid.intrinsic_dimension(points, method, subsets=20 if drawn else 0)  # type: ignore[arg-type]
            for method in SWEEPS
        ]
        own = [f"{one.dimension:.1f} ({float(one.values.min()):.1f} to {float(one.values.max()):.1f})" for one in last]
        print(f"| {name} | {dimension} | {' | '.join(own)} | {' | '.join(f'{v:.1f}' for v in peers(points))} |")
    if given.figure:
        sweeps_figure(last).savefig(given.figure)

    if given.spread:
        print("\n| method | k | estimate, mean | spread over sets of points | standard error told |")
        print("|---|---|---|---|---|")
        for method, ks in SWEEPS.items():
            generator = np.random.default_rng(1)
            sets = [turned(cube(given.points, 5, generator), generator) for _ in range(given.spread)]
            made = [
                pellucid.intrinsic_dimension(one, method, ks[1:4:2])  # type: ignore[arg-type]
                for one in sets
            ]
            for at, k in enumerate(ks[1:4:2]):
                values = np.array([float(one.values[at]) for one in made])
                told = np.mean([float(one.errors[at]) for one in made])
                print(f"| {method} | {k} | {values.mean():.2f} | {values.std(ddof=1):.3f} | {told:.3f} |")


if __name__ == "__main__":
    main()
