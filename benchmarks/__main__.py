"""python -m benchmarks [METHOD ...]: a table of times and ratios; `memory` for the memory of many steps,
`startup` for the time of what only tells."""

from __future__ import annotations

import argparse
import platform
import statistics
import sys

import torch

import pellucid

from . import adversarial, cases, importers, importers_tensorflow, relevance, representation, synthesis
from .memory import peak
from .startup import startup
from .timing import Skipped, in_turn, ratio

CASES = {
    **cases.CASES,
    **relevance.CASES,
    **adversarial.CASES,
    **synthesis.CASES,
    **representation.CASES,
    **importers.CASES,
    **importers_tensorflow.CASES,
}


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="METHOD", help="all of them if none is given")
    parser.add_argument("--seconds", type=float, default=20, help="how long to measure each, after three rounds")
    given = parser.parse_args(arguments)
    names = given.names
    unknown = [name for name in names if name not in (*CASES, "memory", "startup")]
    if unknown:
        sys.exit(f"no benchmark {unknown[0]!r}; there are {', '.join(CASES)}, memory, startup")
    machine = f"{torch.get_num_threads()} threads, {platform.machine()}, Python {platform.python_version()}"
    print(f"torch {torch.__version__}, {machine}")
    print(
        "resnet18 unless another is named, random weights, 224 x 224; median over rounds of times in the same round\n"
    )
    print("| method | tool | seconds | over the lower bound |\n|---|---|---|---|")
    with pellucid.settings(progress=False):
        for name in names or CASES:
            if name in ("memory", "startup"):
                continue
            try:
                times = in_turn(CASES[name](), given.seconds)
            except Skipped as reason:
                print(f"| {name} | skipped: {reason} | | |", flush=True)
                continue
            for tool in times:
                over = ratio(times, tool, "lower bound")
                print(f"| {name} | {tool} | {statistics.median(times[tool]):.3f} | {over:.2f} |", flush=True)
    if not names or "memory" in names:
        few, many = peak(50), peak(1000)
        print(
            f"\nPeak memory of integrated gradients: {few / 2**20:.0f} MiB with 50 steps, {many / 2**20:.0f} with 1000"
        )
    if not names or "startup" in names:
        print("\n| command | processor time | over an empty Python |\n|---|---|---|")
        startup()


if __name__ == "__main__":
    main(sys.argv[1:])
