"""Layers to compare images by, where none are named: one at each resolution of the network."""

from __future__ import annotations

from torch import Tensor, nn

from ...model.activation_maps import grid
from ...model.classifier import network
from ...model.layers import layers
from ...model.run import Model
from ..ingredients.objectives import IMAGE

# Gatys, Ecker & Bethge 2016: conv1_1 ... conv5_1 and conv4_2 of VGG-19, as torchvision names them.
VGG19_STYLE = ("features.0", "features.5", "features.10", "features.19", "features.28")
VGG19_CONTENT = "features.21"
MOST = 5


def style_layers(model: Model, image: Tensor) -> tuple[str, ...]:
    """Up to five layers, from fine to coarse: at each resolution the first of those with most channels.

    Before them comes "image", the image itself, where the first layer has a stride and sees pixels badly. For VGG-19
    they are those of the paper.

    Args:
        model: a network or a `Classifier`.
        image: 1 x C x H x W, to see the resolutions by.

    Raises:
        ValueError: for a network without layers that lie over the image.
    """
    if _is_vgg19(model):
        return VGG19_STYLE
    best: dict[int, tuple[int, str]] = {}
    for one in layers(model, image[:1]):
        found = grid((1, *one.shape), tuple(image.shape[2:]))
        if found is None or min(found[1:3]) < 4 or one.kind in ("Dropout", "Identity", "Sequential"):
            continue
        layout, height, _, _ = found
        channels = one.shape[0] if layout == "NCHW" else one.shape[-1]
        # Ceiling and padding make 56 and 57 of one resolution.
        key = next((known for known in best if abs(known - height) <= 2), height)
        if key not in best or channels > best[key][0]:
            best[key] = channels, one.name
    if not best:
        raise ValueError(
            f"no layer of the network has 4 x 4 places or more for an image of {image.shape[2]} x {image.shape[3]}: "
            "take a larger image, or name the layers to compare by"
        )
    names = tuple(name for _, name in list(best.values())[-MOST:])
    return names if max(best) > 0.75 * image.shape[2] else (IMAGE, *names)


def content_layer(model: Model, image: Tensor) -> str:
    """A layer that knows what is where and no longer each pixel: the last but one of `style_layers`.

    For VGG-19 it is conv4_2, as in the paper.
    """
    if _is_vgg19(model):
        return VGG19_CONTENT
    names = [name for name in style_layers(model, image) if name != IMAGE]
    return names[-2] if len(names) > 1 else names[0]


def _is_vgg19(model: Model) -> bool:
    net = network(model)
    features = getattr(net, "features", None)
    if not isinstance(features, nn.Sequential) or len(features) < 37:
        return False
    convolutions = [str(i) for i, module in enumerate(features) if isinstance(module, nn.Conv2d)]
    return len(convolutions) == 16 and {"0", "5", "10", "19", "21", "28"} <= set(convolutions)
