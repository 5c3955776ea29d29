"""How few dimensions do? DeepMDS beside principal components, classical and metric multidimensional scaling.

    python examples/embedding_deep_mds.py [folder] [points] [steps] [vectors.npz]

On a Swiss roll and on the handwritten digits of scikit-learn, or on the vectors of one layer that
`pellucid.features(...).save("vectors.npz")` has written. Printed: the stress sqrt(sum (d - d')^2 / sum d^2) of the
distances, their correlation, how many of the ten nearest neighbors stay among the ten nearest, and how often the
nearest neighbor is of the same class. Written into the folder: the stress after each stage.
"""

import sys
import tempfile
import warnings
from pathlib import Path

import matplotlib
import numpy as np
import torch
from sklearn.datasets import load_digits, make_swiss_roll
from sklearn.manifold import MDS

matplotlib.use("agg")

import pellucid

folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
count = int(sys.argv[2]) if len(sys.argv) > 2 else 1000
steps = int(sys.argv[3]) if len(sys.argv) > 3 else 600
folder.mkdir(parents=True, exist_ok=True)


def classical(points, dimensions):
    """Classical scaling: the eigenvectors of the doubly centered squared distances."""
    squared = torch.cdist(points, points).square()
    centered = -(squared - squared.mean(0) - squared.mean(1, keepdim=True) + squared.mean()) / 2
    values, vectors = torch.linalg.eigh(centered)
    return vectors[:, -dimensions:] * values[-dimensions:].clamp(min=0).sqrt()


def metric(points, dimensions):
    """Metric scaling by majorization of the stress (SMACOF), which places these points and no others."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.from_numpy(MDS(dimensions, n_init=1, max_iter=200, random_state=0).fit_transform(points.numpy()))


def judged(points, places, classes):
    """Stress, correlation, neighbors kept, and nearest neighbors of the same class."""
    far, near = torch.pdist(points), torch.pdist(places.double())
    stress = ((far - near).square().sum() / far.square().sum()).sqrt()
    correlation = torch.corrcoef(torch.stack([far, near]))[0, 1]
    before, after = (
        (torch.cdist(x, x) + torch.eye(len(x)) * 1e12).topk(10, largest=False).indices
        for x in (points, places.double())
    )
    kept = (before[:, :, None] == after[:, None]).any(2).double().mean()
    same = (classes == classes[after[:, 0]]).double().mean() if classes is not None else float("nan")
    return f"{stress:.3f} | {correlation:.3f} | {kept:.1%} | {same:.1%}".replace("nan%", "")


if len(sys.argv) > 4:
    with np.load(sys.argv[4]) as file:
        (layer,) = [name for name in file.files if name.startswith("values.")]
        points, classes = torch.from_numpy(file[layer][:count]).double(), torch.from_numpy(file["labels"][:count])
    sets = [(layer.removeprefix("values."), points, classes, [2, 8, 16])]
else:
    roll, _ = make_swiss_roll(count, random_state=0)
    digits = load_digits()
    classes = torch.from_numpy(digits.target[:count])
    sets = [
        ("Swiss roll", torch.from_numpy(roll), None, [2]),
        ("digits", torch.from_numpy(digits.data[:count]), classes, [2, 8, 16]),
    ]
print("| points | dimensions | method | stress | correlation | neighbors kept | nearest of the same class |")
print("|---|---|---|---|---|---|---|")
for name, points, classes, widths in sets:
    print(f"| {name} | {points.shape[1]} | as they are | {judged(points, points, classes)} |")
    for width in widths:
        deep = pellucid.deep_mds(points, width, steps=steps)
        places = {
            "PCA": pellucid.pca(points, width).values,
            "classical MDS": classical(points, width),
            "metric MDS": metric(points, width),
            "DeepMDS": deep.values,
        }
        for method, found in places.items():
            print(f"| {name} | {width} | {method} | {judged(points, found, classes)} |", flush=True)
        deep.save(folder / f"{name} {width}.png", stages=True)
