"""Run as a program, with KERAS_BACKEND set: the predictions and maps of a Keras model, into a file.

python maps.py MODEL.keras IMAGES.npy STATE.pt OBJECTIVE LAYER OUT.npz
"""

import copy
import sys

import keras
import numpy as np
import torch

import pellucid
from pellucid import synthesis


def main(model_file: str, images_file: str, state_file: str, objective: int, layer: str, out: str) -> None:
    torch.set_num_threads(1)
    if keras.backend.backend() == "tensorflow":
        pellucid.importers.graph.optional_imports.without_triton()
    model = pellucid.from_keras(keras.models.load_model(model_file, compile=False))
    images = torch.from_numpy(np.load(images_file))
    double = same_to_the_bit(copy.deepcopy(model), torch.load(state_file), images)
    side = images.shape[2] // 4
    maps = {
        "saliency": pellucid.saliency(model, images, objective).values,
        "grad_cam": pellucid.grad_cam(model, images, objective, layer=layer).values,
        "guided_backprop": pellucid.guided_backprop(model, images, objective).values,
        "lrp": pellucid.lrp(model, images, objective, rules="EPSILON_PLUS_FLAT").values,
        "lrp_epsilon": pellucid.lrp(model, images, objective, rules="EPSILON").values,
        "occlusion": pellucid.occlusion(model, images, objective, window=side, stride=side).values,
        "maximize": pellucid.maximize(double, objective, steps=3).images,
        "ascent": pellucid.maximize(
            double, objective, start=images, parametrization=synthesis.Pixels(), optimizer="unit", transforms=(),
            steps=3,
        ).images - images,
    }  # fmt: skip
    with torch.no_grad():
        maps["predictions"] = model(images).softmax(1)
    arrays = {name: values.detach().numpy() for name, values in maps.items()}
    names = np.array([f"{found.name} {sorted(found.shape)}" for found in pellucid.layers(model)])
    np.savez(out, layers=names, backend=keras.backend.backend(), **arrays)


def same_to_the_bit(model, state, images):
    """The network with the weights of another backend's import, in float64, where ascents are compared.

    The backends fold a batch norm with other roundings, and some keep its mean and others have it in the bias. That
    moves a ReLU over its kink now and then, one of five million, where the gradient jumps; from there on two ascents
    are two.
    """
    with torch.no_grad():
        before = model(images)
        model.net.load_state_dict(state)
        torch.testing.assert_close(model(images), before, rtol=1e-3, atol=1e-4)
    return model.double()


if __name__ == "__main__":
    main(*sys.argv[1:4], int(sys.argv[4]), *sys.argv[5:])
