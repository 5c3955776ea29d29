"""What does a network think a digit is? The image that each output responds to most, as textbooks climb it, and better.

    python examples/synthesis_digits.py [folder]

A small network learns handwritten digits here; then each of its ten outputs is maximized. Written there: digits.png
with a row for each way of climbing, and digits.gif, the film of the last.

Simonyan, Vedaldi & Zisserman 2014, Deep inside convolutional networks.
"""

import sys
import tempfile
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import nn

import pellucid
from pellucid.synthesis import Pixels, l2, standardize, total_variation

torch.manual_seed(0)
data = load_digits()
images = torch.from_numpy(data.images)[:, None].float() / 16  # N x 1 x 8 x 8
labels = torch.from_numpy(data.target)
net = nn.Sequential(
    nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2),
    nn.Flatten(), nn.Linear(1024, 64), nn.ReLU(), nn.Linear(64, 10),
)  # fmt: skip
optimizer = torch.optim.Adam(net.parameters(), 2e-3)
for _ in range(12):
    for part in torch.randperm(1500).split(50):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(images[part]), labels[part]).backward()
        optimizer.step()
model = pellucid.wrap(net.eval(), size=8, labels=[str(digit) for digit in range(10)])
print(f"right on {(net(images[1500:]).argmax(1) == labels[1500:]).float().mean():.1%} of the rest")

digits = list(range(10))
plain = {"parametrization": Pixels(bounds=None), "optimizer": "ascent", "edits": (), "step": 0.02, "steps": 100}
ways = {
    "textbook": pellucid.maximize(net, digits, start="ones", size=8, **plain | {"edits": standardize()}),
    "probability": pellucid.maximize(model, [pellucid.probability(digit) for digit in digits], **plain | {"step": 1.0}),
    "l2": pellucid.maximize(model, digits, penalties=l2(0.5), **plain),
    "variation": pellucid.maximize(model, digits, penalties=[l2(0.2), total_variation(0.5)], **plain),
    "default": pellucid.maximize(model, digits, steps=100, record_every=4),
}
pictures, titles = [], []
for name, result in ways.items():
    print(f"{name:12} values from {result.values.min():6.2f} to {result.values.max():6.2f}")
    pictures += list(pellucid.display.figures.displayable(result.images))
    titles += [name] + [""] * 9
folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
folder.mkdir(parents=True, exist_ok=True)
pellucid.display.figures.grid(pictures, titles, columns=10, inches=1.1).savefig(folder / "digits.png")
result.film(folder / "digits.gif", scale=8)
print("wrote", folder / "digits.png", "and digits.gif")
