"""The lecture's picture: what has to change in a photo for the network to take it for something else?

    python examples/adversarial_photo.py [photo.jpg model target] [folder]

Without a photo, it takes scenes and the small network that come with pellucid. Written there: adversarial_photo.png
with the photo, the adversarial image, their difference and ten times the difference.

Szegedy, Zaremba, Sutskever, Bruna, Erhan, Goodfellow & Fergus 2014, Intriguing properties of neural networks.
"""

import sys
import tempfile
from pathlib import Path

import matplotlib

matplotlib.use("agg")

import pellucid

given = sys.argv[1:]
if len(given) >= 3:
    model = pellucid.load(given[1])
    images, target = model.read(given[0]), given[2]
    given = given[3:]
else:
    model, target = pellucid.load("shapes"), "star"
    images = pellucid.shapes.scenes(3, seed=5).images

# Ascend the target's log-probability from the photo until the network is fooled, and stop there.
result = pellucid.targeted(model, images, target=target)
print(result)
for i in range(len(images)):
    before, after = (result.class_name(int(classes[i])) for classes in (result.before, result.after))
    print(f"{before} {result.confidence_before[i]:.1%} -> {after} {result.confidence_after[i]:.1%}", end=" ")
    print(f"after {int(result.queries[i])} passes; no value moved by more than", end=" ")
    print(f"{255 * result.distance('linf')[i]:.1f} of 255, and all by {result.distance('l2')[i]:.2f} in l2")

folder = Path(given[0] if given else tempfile.mkdtemp())
folder.mkdir(parents=True, exist_ok=True)
print("wrote", result.save(folder / "adversarial_photo.png"))
