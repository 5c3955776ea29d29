"""What makes an image an outlier? A one-class SVM learns handwritten digits, among them a few spoilt ones.

    python examples/one_class_svm.py [folder]

Written there: one_class_svm.png with the most outlying images, and below each the pixels that make it so.

Kauffmann, Müller & Montavon 2020, Towards explaining anomalies: a deep Taylor decomposition of one-class models.
"""

import sys
import tempfile
from pathlib import Path

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from sklearn.svm import OneClassSVM

import pellucid

SHOWN = 9

# 1797 digits of 8 x 8 pixels, N x 1 x 8 x 8 in [0, 1]. The SVM sees every other one.
digits = torch.from_numpy(load_digits().images)[:, None] / 16
svm = OneClassSVM(kernel="rbf", gamma=1.0, nu=0.1).fit(digits[::2].flatten(1))

# Of the others, six are spoilt in ways that we know.
images = digits[1::2].clone()
spoilt = {10: "bright spot", 11: "stripe", 150: "negative", 300: "turned", 455: "half", 600: "noise"}
images[10, :, :2, :2] = 1
images[11, :, 4] = 1
images[150] = 1 - images[150]
images[300] = images[300].rot90(1, (1, 2))
images[455, :, :, 5:] = 1
images[600] = torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(0))

# As a network, the SVM's output is the outlier score: a soft minimum of squared distances to its support vectors.
net = pellucid.neuralize(svm, normalize=True)
scores = net(images)[:, 0]
order = scores.argsort(descending=True)[:SHOWN]

# What each pixel adds to the score; the pixels' shares add up to it.
result = pellucid.lrp(net, images[order], 0)
shares = result.values[:, 0]
print(f"the pixels' shares add up to the score; they miss it by {result.convergence_delta.abs().max():.1e} at most")

figure, axes = plt.subplots(2, SHOWN, figsize=(1.5 * SHOWN, 3.6), layout="constrained")
for column, index in enumerate(order.tolist()):
    name = spoilt.get(index, "as it was")
    print(f"image {index:4d}  score {scores[index]:6.2f}  {name}")
    axes[0, column].imshow(images[index, 0], cmap="gray", vmin=0, vmax=1)
    axes[0, column].set_title(f"{name}\nscore {scores[index]:.1f}", fontsize=9)
    axes[1, column].imshow(shares[column], cmap="Reds", vmin=0, vmax=shares[column].max())
for axis in axes.flat:
    axis.set(xticks=[], yticks=[])
figure.suptitle(f"The most outlying of {len(images)} images, and the pixels that make them so (red)", fontsize=11)

folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
folder.mkdir(parents=True, exist_ok=True)
figure.savefig(folder / "one_class_svm.png", dpi=110)
print("wrote", folder / "one_class_svm.png")
