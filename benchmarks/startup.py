"""Processor time of what only tells, beside that of an empty Python: the least of some runs."""

from __future__ import annotations

import resource
import subprocess
import sys

COMMANDS = (
    ["--help"], ["explain", "--help"], ["--version"], ["methods"], ["methods", "lrp"], ["models", "resnet"],
)  # fmt: skip


def processor_seconds(command: list[str], runs: int = 5) -> float:
    """User and system time of a process, the least of some runs."""
    times = []
    for _ in range(runs):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *command], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(times)


def startup() -> None:
    """Print a line for each command, as a ratio to an empty Python."""
    bound = processor_seconds(["-c", ""])
    print(f"| python -c '' | {bound:.3f} s | 1 |")
    for arguments in COMMANDS:
        seconds = processor_seconds(["-m", "pellucid", *arguments])
        print(f"| pellucid {' '.join(arguments)} | {seconds:.3f} s | {seconds / bound:.1f} |")
    seconds = processor_seconds(["-c", "import pellucid"])
    print(f"| import pellucid | {seconds:.3f} s | {seconds / bound:.1f} |")
