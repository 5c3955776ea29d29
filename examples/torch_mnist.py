"""A network of handwritten digits in PyTorch with its weights in a file; pellucid looks into it.

    python examples/torch_mnist.py [weights.pth mnist.npz] [folder]

The weights are a state_dict: conv1, conv2, conv3 (3 x 3, 32, 64 and 128 wide), fc1 (256), fc2 (10, a sigmoid after
it), trained on (pixel - 33.328) / 78.579 of 0 ... 255. mnist.npz has x_test and y_test, as Keras distributes it.
Without them an untrained network looks at drawn digits, which shows nothing but how it is done. Written to the folder:
torch_mnist.png with what the neuron of the digit 6 wants to see, and which pixels make some digits what they are. It
takes seconds.
"""

import sys
import tempfile
from pathlib import Path

import matplotlib
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

matplotlib.use("agg")
import matplotlib.pyplot as plt

import pellucid
from pellucid.synthesis import Pixels

MEAN, STD = 33.328 / 255, 78.579 / 255
DIGITS = (6, 2, 4, 9)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2, self.conv3 = nn.Conv2d(1, 32, 3), nn.Conv2d(32, 64, 3), nn.Conv2d(64, 128, 3)
        self.fc1, self.fc2 = nn.Linear(1152, 256), nn.Linear(256, 10)

    def forward(self, x):
        x = F.avg_pool2d(F.relu(self.conv1(x)), 2)
        x = F.avg_pool2d(F.relu(self.conv2(x)), 2)
        x = F.relu(self.fc1(F.relu(self.conv3(x)).flatten(1)))
        return torch.sigmoid(self.fc2(x))


def digits_of(file):
    """One image of each of DIGITS, N x 1 x 28 x 28 in [0, 1]."""
    if not file:
        figure = plt.figure(figsize=(1, 1), dpi=28)
        drawn = []
        for digit in DIGITS:
            figure.clear()
            figure.text(0.5, 0.45, str(digit), fontsize=52, ha="center", va="center")
            figure.canvas.draw()
            drawn.append(1 - np.asarray(figure.canvas.buffer_rgba())[..., 0] / 255)
        plt.close(figure)
        return torch.from_numpy(np.stack(drawn)).float()[:, None]
    with np.load(file) as data:
        places = [int(np.flatnonzero(data["y_test"] == digit)[0]) for digit in DIGITS]
        return torch.from_numpy(data["x_test"][places]).float()[:, None] / 255


files, folder = sys.argv[1:3] if len(sys.argv) > 2 else ("", ""), Path((sys.argv[3:] or [tempfile.mkdtemp()])[0])
torch.manual_seed(0)
net = Net().eval()
if files[0]:
    net.load_state_dict(torch.load(files[0], map_location="cpu", weights_only=True))
model = pellucid.wrap(net, mean=[MEAN], std=[STD], size=28, labels=[str(digit) for digit in range(10)])
images = digits_of(files[1])
with torch.no_grad():
    found = model(images).argmax(1)
print(f"the digits {list(DIGITS)} are taken for {found.tolist()}")

# What does the neuron of the 6 want to see? Ascent from an image of ones, on its value before the sigmoid.
six = pellucid.neuron("fc2", 6)
wanted = pellucid.maximize(model, six, start="ones", parametrization=Pixels(), transforms=(), steps=200).images
with torch.no_grad():
    both = torch.cat([torch.ones(1, 1, 28, 28), wanted])
    ones, reached = pellucid.run(model, both, read="fc2").activations["fc2"][:, 6].tolist()
print(f"the neuron of the 6: {ones:.1f} on ones, {reached:.1f} on what was found")

# Which pixels make a digit what it is? Integrated gradients from black, on the same value for the digit itself.
maps = [
    pellucid.integrated_gradients(
        model, image[None], pellucid.neuron("fc2", digit), baseline="black", convergence_delta=True
    )
    for image, digit in zip(images, DIGITS, strict=True)
]
missed = max(float(m.convergence_delta.abs().max()) for m in maps)
print(f"the pixels' shares miss the change of the neurons by {missed:.3f} at most")

figure, axes = plt.subplots(2, 5, figsize=(9, 4), layout="constrained")
axes[0, 0].imshow(wanted[0, 0], cmap="gray")
axes[0, 0].set_title("what the 6 wants", fontsize=9)
axes[1, 0].axis("off")
for column, (image, result) in enumerate(zip(images, maps, strict=True), start=1):
    shares = result.values[0, 0]
    reach = float(shares.abs().max()) or 1.0
    axes[0, column].imshow(image[0], cmap="gray")
    axes[1, column].imshow(shares, cmap="seismic", vmin=-reach, vmax=reach)
for axis in axes.flat:
    axis.set(xticks=[], yticks=[])
folder.mkdir(parents=True, exist_ok=True)
figure.savefig(folder / "torch_mnist.png", dpi=120)
print(f"written: {folder / 'torch_mnist.png'}")
