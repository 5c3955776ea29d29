"""A Flax network learns handwritten digits in JAX; pellucid looks into it.

    python examples/jax_mnist.py mnist.npz [folder]

mnist.npz has x_train, y_train, x_test, y_test, as Keras distributes it. Written to the folder: jax_mnist.png with what
the neuron of the digit 6 wants to see, and which pixels make some digits what they are. It takes five minutes on one
core, nearly all of it the training.

Needs: pip install 'pellucid[jax]'
"""

import sys
import tempfile
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import optax
import torch
from flax import linen as nn

matplotlib.use("agg")
import matplotlib.pyplot as plt

import pellucid
from pellucid.synthesis import Pixels

MEAN, STD = 0.1307, 0.3081
BATCH, EPOCHS = 64, 3


class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
        for width in (32, 64, 128):
            x = nn.avg_pool(nn.relu(nn.Conv(width, (3, 3))(x)), (2, 2), (2, 2))
        x = nn.relu(nn.Dense(256)(x.reshape(len(x), -1)))
        return nn.sigmoid(nn.Dense(10)(x))


if len(sys.argv) < 2:
    sys.exit(__doc__)
folder = Path(sys.argv[2] if len(sys.argv) > 2 else tempfile.mkdtemp())
with np.load(sys.argv[1]) as file:
    data = {name: file[name] for name in ("x_train", "y_train", "x_test", "y_test")}


def pixels(images):
    """N x 28 x 28 of 0 ... 255 as the network takes them, N x 28 x 28 x 1."""
    return (images[..., None].astype(np.float32) / 255 - MEAN) / STD


# Training, as anyone would write it in JAX.
net = Net()
weights = net.init(jax.random.key(0), jnp.zeros((1, 28, 28, 1)))
steps = len(data["x_train"]) // BATCH
optimizer = optax.adam(optax.cosine_decay_schedule(1e-3, EPOCHS * steps))
state = optimizer.init(weights)


@jax.jit
def step(weights, state, images, digits):
    def loss(weights):
        p = jnp.clip(net.apply(weights, images), 1e-6, 1 - 1e-6)
        wanted = jax.nn.one_hot(digits, 10)
        return -(wanted * jnp.log(p) + (1 - wanted) * jnp.log(1 - p)).sum(1).mean()

    updates, state = optimizer.update(jax.grad(loss)(weights), state)
    return optax.apply_updates(weights, updates), state


start = time.perf_counter()
for epoch in range(EPOCHS):
    order = np.random.default_rng(epoch).permutation(len(data["x_train"]))
    for rows in order[: steps * BATCH].reshape(steps, BATCH):
        weights, state = step(weights, state, pixels(data["x_train"][rows]), data["y_train"][rows])
predict = jax.jit(lambda x: net.apply(weights, x).argmax(1))
batches = np.array_split(np.arange(len(data["x_test"])), 20)
found = np.concatenate([predict(pixels(data["x_test"][rows])) for rows in batches])
print(
    f"{(found == data['y_test']).mean():.2%} of the test digits, after {time.perf_counter() - start:.0f} s of training"
)

# The same network in torch. It takes pixels in [0, 1], N x 1 x 28 x 28.
model = pellucid.from_jax(
    lambda x: net.apply(weights, x), pixels(data["x_test"][:1]), mean=MEAN, std=STD, labels=[str(d) for d in range(10)]
)
print(f"imported; outputs differ from JAX's by {model.net.difference:.1e}")
print(pellucid.layers(model))

# What does the neuron of the 6 want to see? Ascent from an image of ones, on its value before the sigmoid.
six = pellucid.neuron("Dense_1", 6)
wanted = pellucid.maximize(model, six, start="ones", parametrization=Pixels(), transforms=(), steps=200).images

# Which pixels make a digit what it is? Integrated gradients from black, on the same value for the digit itself.
shown = [int(np.flatnonzero(data["y_test"] == digit)[0]) for digit in (6, 2, 4, 9)]
images = torch.from_numpy(data["x_test"][shown]).float()[:, None] / 255
maps = [
    pellucid.integrated_gradients(
        model, image[None], pellucid.neuron("Dense_1", digit), baseline="black", convergence_delta=True
    )
    for image, digit in zip(images, (6, 2, 4, 9), strict=True)
]
missed = max(float(m.convergence_delta.abs().max()) for m in maps)
print(f"the pixels' shares miss the change of the neurons by {missed:.3f} at most")

figure, axes = plt.subplots(2, 5, figsize=(9, 4), layout="constrained")
axes[0, 0].imshow(wanted[0, 0], cmap="gray")
axes[0, 0].set_title("what the 6 wants", fontsize=9)
axes[1, 0].axis("off")
for column, (image, result) in enumerate(zip(images, maps, strict=True), start=1):
    shares = result.values[0, 0]
    reach = float(shares.abs().max())
    axes[0, column].imshow(image[0], cmap="gray")
    axes[1, column].imshow(shares, cmap="seismic", vmin=-reach, vmax=reach)
for axis in axes.flat:
    axis.set(xticks=[], yticks=[])
folder.mkdir(parents=True, exist_ok=True)
figure.savefig(folder / "jax_mnist.png", dpi=120)
print(f"written: {folder / 'jax_mnist.png'}")
