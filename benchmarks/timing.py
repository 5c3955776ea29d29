"""Timing several functions in turn, so that a machine that slows down slows all of them."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping


class Skipped(Exception):
    """A case that cannot be timed here; the message says why."""


def in_turn(
    functions: Mapping[str, Callable[[], object]], seconds: float = 20, most: int = 15
) -> dict[str, list[float]]:
    """Seconds of each function, one after the other, again and again.

    Args:
        functions: by name; each is called once before the clock starts.
        seconds: about how long to go on, after at least three rounds.
        most: rounds at the most.
    """
    for function in functions.values():
        function()
    times: dict[str, list[float]] = {name: [] for name in functions}
    end = time.perf_counter() + seconds
    gc.disable()
    try:
        for number in range(most):
            if number >= 3 and time.perf_counter() > end:
                break
            for name, function in functions.items():
                start = time.perf_counter()
                function()
                times[name].append(time.perf_counter() - start)
            gc.collect()
    finally:
        gc.enable()
    return times


def ratio(times: Mapping[str, list[float]], name: str, to: str) -> float:
    """The median over rounds of one function's time divided by another's in the same round."""
    return statistics.median(a / b for a, b in zip(times[name], times[to], strict=True))
