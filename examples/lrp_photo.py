"""From plain gradients to LRP with a rule for each depth, on one photograph.

    python examples/lrp_photo.py [photo] [model] [class] [folder]
    python examples/lrp_photo.py castle.jpg vgg16 castle

Without arguments it explains a scene of the built-in network, which needs no download. The rules are z-box for pixels,
gamma falling from 1 to 0.01 with depth, and dense layers plain. Written: lrp_photo.png.

Montavon, Binder, Lapuschkin, Samek & Müller 2019, Layer-wise relevance propagation: an overview.
"""

import sys
import tempfile
from pathlib import Path

import matplotlib

matplotlib.use("agg")
import pellucid
from pellucid.rules import BASE, EPSILON, GAMMA_SCHEDULE, GAMMA_SCHEDULE_VGG16, gamma, z_box

photo, name, target, where, *_ = [*sys.argv[1:], *("", "", "", "")[len(sys.argv) - 1 :]]
model = pellucid.load(name or "shapes")
images = model.read(photo) if photo else pellucid.shapes.scenes(1).images
target = target or None  # None is the predicted class
print(model.predict(images, k=3).labels[0])

schedule = GAMMA_SCHEDULE_VGG16 if name == "vgg16" else GAMMA_SCHEDULE
results = {"gradient x input": pellucid.gradient_x_input(model, images, target)}
for title, rules in {
    "LRP-epsilon": EPSILON,
    "LRP-gamma everywhere": {**BASE, "conv": gamma(0.25), "linear": gamma(0.25), "first": z_box()},
    "a rule for each depth": schedule,
}.items():
    results[title] = pellucid.lrp(model, images, target, rules=rules)
    total, gap = float(results[title].values.sum()), float(results[title].convergence_delta)
    print(f"{title}: relevance {total:.2f} of {total - gap:.2f}")

folder = Path(where or tempfile.mkdtemp())
folder.mkdir(parents=True, exist_ok=True)
pellucid.side_by_side(list(results.values()), list(results)).savefig(folder / "lrp_photo.png", dpi=110)
print("wrote", folder / "lrp_photo.png")
