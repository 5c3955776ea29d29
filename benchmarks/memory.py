"""The peak memory of integrated gradients with few and with many steps, each in a process of its own."""

from __future__ import annotations

import resource
import subprocess
import sys


def peak(steps: int) -> int:
    """Bytes that a fresh process takes at most."""
    found = subprocess.run(
        [sys.executable, "-m", "benchmarks.memory", str(steps)], capture_output=True, text=True, check=True
    )
    return int(found.stdout)


if __name__ == "__main__":
    import torch

    import pellucid

    from .cases import TARGET, network, photos

    with pellucid.settings(progress=False):
        pellucid.integrated_gradients(network(), photos(1), TARGET, baseline=torch.zeros(3), steps=int(sys.argv[1]))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
