"""Where images lie among each other: the handwritten digits of scikit-learn, by principal components and t-SNE.

    python examples/embedding_digits.py [folder] [how many]

Written there: maps of both methods, and digits.html, a page to walk about the second. Here the vectors are the pixels;
of a network they are `pellucid.features(model, images, "layer")`, which brings names, classes and images along.
"""

import sys
import tempfile
from pathlib import Path

import matplotlib
import torch
from sklearn.datasets import load_digits

matplotlib.use("agg")

import pellucid
from pellucid.report.pages import embedding_page

folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
count = int(sys.argv[2]) if len(sys.argv) > 2 else 1797
folder.mkdir(parents=True, exist_ok=True)

digits = load_digits()
images = torch.from_numpy(digits.images)[:count, None].float() / 16
known = {"labels": digits.target[:count], "images": images, "names": [f"digit {i}" for i in range(count)]}

components = pellucid.pca(images.flatten(1), **known)
print(f"two principal components keep {float(components.variance.sum()):.0%} of the variance")
components.save(folder / "pca.png")

neighbors = pellucid.tsne(images.flatten(1), **known)
neighbors.save(folder / "tsne.png")
neighbors.save(folder / "tsne.csv")
print("wrote", embedding_page(folder / "digits.html", neighbors, title="Handwritten digits"))
