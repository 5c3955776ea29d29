"""What do the ten classes of the small network look like to it, and what does each layer keep of a picture?

    python examples/synthesis_shapes.py [folder]

Written there: classes.png, channels.png, inversion.png, quilt.png, and classes.gif, the film of the ascent.

Olah, Mordvintsev & Schubert 2017, Feature visualization; Mahendran & Vedaldi 2015, Understanding deep image
representations by inverting them; Efros & Leung 1999, Texture synthesis by non-parametric sampling.
"""

import sys
import tempfile
from pathlib import Path

import pellucid
from pellucid.shapes import CLASSES

folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
model = pellucid.load("shapes")
scene = pellucid.shapes.scenes(1, seed=3).images

classes = pellucid.maximize(model, list(CLASSES), steps=100, record_every=4)
sure = model.predict(classes.images, k=1)
for name, label, p in zip(CLASSES, sure.labels, sure.probabilities[:, 0].tolist(), strict=True):
    print(f"made for {name:10} taken for {label[0]:10} p = {p:.3f}")
classes.save(folder / "classes.png")
classes.film(folder / "classes.gif")

depths = [f"features.{depth}:{channel}" for depth in (1, 4, 7) for channel in (3, 8, 13, 21)]
pellucid.maximize(model, depths, steps=60).save(folder / "channels.png", columns=4)

layers = [f"features.{depth}" for depth in range(8)]
inverted = pellucid.invert(model, scene, layers, steps=120)
print("what is lost at each layer:", ", ".join(f"{error:.2f}" for error in inverted.error.tolist()))
inverted.save(folder / "inversion.png", columns=4)

pellucid.quilt(scene[:, :, :40, :40], size=80, window=9).save(folder / "quilt.png", plain=True)
print("wrote classes, channels, inversion and quilt to", folder)
