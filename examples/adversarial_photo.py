"""The lecture's picture: what has to change in a photo for the network to take it for something else?

    python examples/adversarial_photo.py [MODEL PHOTO TARGET [PHOTO TARGET ...]] [FOLDER]

as in: squeezenet1_0 elephants.jpg koala schooner.jpg castle. Without photos, it takes scenes and the small network that
come with pellucid. Written into the folder: adversarial_photo.png with each photo, the adversarial image, their
difference and ten times the difference; and adversarial_photo_sure.png, where the network is made sure within 8/255.

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
    model, pairs = pellucid.load(given[0]), list(zip(given[1::2], given[2::2], strict=False))
    images, target = model.read([photo for photo, _ in pairs]), [label for _, label in pairs]
    given = given[1 + 2 * len(pairs) :]
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

# Just fooled is hardly sure; many small steps within 8/255 of each value make it so.
sure = pellucid.pgd(model, images, target=target, eps=8 / 255, steps=20)
print(sure)
print("wrote", sure.save(folder / "adversarial_photo_sure.png"))
