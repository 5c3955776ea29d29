"""Run as a program, with KERAS_BACKEND set: the predictions and maps of a Keras model, into a file.

python maps.py MODEL.keras IMAGES.npy OBJECTIVE LAYER OUT.npz
"""

import sys

import keras
import numpy as np
import torch

import pellucid


def main(model_file: str, images_file: str, objective: int, layer: str, out: str) -> None:
    torch.set_num_threads(1)
    if keras.backend.backend() == "tensorflow":
        pellucid.importers.tensorflow.without_triton()
    model = pellucid.from_keras(keras.models.load_model(model_file, compile=False))
    images = torch.from_numpy(np.load(images_file))
    side = images.shape[2] // 4
    maps = {
        "saliency": pellucid.saliency(model, images, objective).values,
        "grad_cam": pellucid.grad_cam(model, images, objective, layer=layer).values,
        "guided_backprop": pellucid.guided_backprop(model, images, objective).values,
        "lrp": pellucid.lrp(model, images, objective, rules="EPSILON_PLUS_FLAT").values,
        "lrp_epsilon": pellucid.lrp(model, images, objective, rules="EPSILON").values,
        "occlusion": pellucid.occlusion(model, images, objective, window=side, stride=side).values,
        "maximize": pellucid.maximize(model, objective, steps=3, size=images.shape[2]).images,
    }
    with torch.no_grad():
        maps["predictions"] = model(images).softmax(1)
    arrays = {name: values.detach().numpy() for name, values in maps.items()}
    names = np.array([f"{found.name} {sorted(found.shape)}" for found in pellucid.layers(model)])
    np.savez(out, layers=names, backend=keras.backend.backend(), **arrays)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), *sys.argv[4:])
