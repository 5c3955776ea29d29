"""Saliency, Grad-CAM and LRP on a Keras model, whichever backend Keras runs on.

    python examples/keras_photo.py [model photo.jpg class] [folder]
    KERAS_BACKEND=torch python examples/keras_photo.py MobileNet castle.jpg castle

The model is a .keras file or a name in keras.applications, whose weights Keras then downloads; the class is a label, or
a number. Without arguments a small untrained model looks at a drawn scene, which shows nothing but how it is done.
Written to the folder: keras_photo.png.

Needs: pip install 'pellucid[keras]'
"""

import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import matplotlib

matplotlib.use("agg")
import pellucid

given, folder = sys.argv[1:4] if any(sys.argv[1:2]) else None, Path((sys.argv[4:] or [tempfile.mkdtemp()])[0])
if given is None:
    keras.utils.set_random_seed(0)
    layers = keras.layers
    source = keras.Sequential(
        [
            keras.Input((96, 96, 3)),
            layers.Conv2D(8, 5, strides=2, activation="relu", name="edges"),
            layers.Conv2D(16, 5, strides=2, activation="relu", name="parts"),
            layers.GlobalAveragePooling2D(name="average"),
            layers.Dense(6, activation="softmax", name="classes"),
        ]
    )
elif given[0].endswith(".keras"):
    source = keras.models.load_model(given[0], compile=False)
else:
    source = getattr(keras.applications, given[0])()

# From here on it is a torch network with Keras's layer names; it takes pixels in [0, 1], N x 3 x H x W.
model = pellucid.from_keras(source)
print(f"imported from {keras.backend.backend()}; outputs differ from Keras's by {model.net.difference:.1e}")
images = model.read(given[1]) if given else pellucid.shapes.scenes(1).images
target = None if given is None else int(given[2]) if given[2].isdigit() else given[2]
print(model.predict(images, k=3))

results = [
    pellucid.saliency(model, images, target),
    pellucid.grad_cam(model, images, target),
    pellucid.lrp(model, images, target, rules="EPSILON_PLUS_FLAT"),
]
folder.mkdir(parents=True, exist_ok=True)
pellucid.side_by_side(results, titles=["saliency", "Grad-CAM", "LRP"]).savefig(folder / "keras_photo.png", dpi=110)
print(f"written: {folder / 'keras_photo.png'}")
