"""How robust is a network? Its accuracy under attack over budgets.

    python examples/adversarial_robustness.py [folder]

Written there: robustness.png, the accuracy of the small network that comes with pellucid under projected gradient
descent. For figures to publish, leave out method= and steps=: then it is AutoAttack, with the published numbers of
steps.
"""

import sys
import tempfile
from pathlib import Path

import matplotlib

matplotlib.use("agg")

import pellucid

model, scenes = pellucid.load("shapes"), pellucid.shapes.scenes(24)

result = pellucid.robustness(
    model, scenes.images, scenes.labels, eps=[1 / 255, 2 / 255, 4 / 255, 8 / 255, 16 / 255], method="pgd", steps=10
)
print(result.table())
print(f"{result.call.forward} images forward, {result.call.backward} backward, {result.call.seconds:.0f} s")

folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
folder.mkdir(parents=True, exist_ok=True)
print("wrote", result.save(folder / "robustness.png"))
