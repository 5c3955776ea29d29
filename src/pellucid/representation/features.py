"""What the layers of a network hold for many images: one vector for each image and layer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ..methods.verb import verb
from ..model.classifier import Classifier, network
from ..model.layers import layers as listed
from ..model.run import Model
from .sweeps.features_result import Features, features_of
from .sweeps.image_source import Images, Labels
from .sweeps.sweep import Say, record, sweep
from .sweeps.vectors import Pooling, check_pooling, vectors

if TYPE_CHECKING:
    pass


@verb()
def features(
    model: Model,
    images: Images,
    layers: str | Sequence[str] | None = None,
    *,
    pooling: Pooling = "mean",
    labels: Labels = "folders",
    predict: bool = True,
    folder: str | Path | None = None,
    overwrite: bool = False,
    on_message: Say | None = None,
) -> Features:
    """The vector that each layer holds for each image: the mean of its activation over places.

    One forward pass for all layers. With a folder, chunks of images are computed and kept one after the other, in
    bounded memory; an interrupted run resumes, and one that is finished is read, if model,
    weights and files are the same. Files that cannot be read are named and left out.

    Args:
        model: a network or a `Classifier`; the latter where files are to be read.
        images: a folder, files, or a tensor N x C x H x W.
        layers: their names (`pellucid.layers(model)` lists them), or "pixels" for the images themselves, averaged down
            to 32 x 32; by default the layer that the last one with weights looks at.
        pooling: what becomes of a layer's places: "mean"; "max" of each channel; "flatten" keeps all; "token" takes
            the class token of a transformer.
        labels: the true classes. Of files: "folders" takes the names of their folders; a table: a dict, or a .csv or
            .json file of files and labels; None. Of a tensor: N classes, by index or name.
        predict: False ends the pass at the last of the layers and predicts no class.
        folder: where to keep it, as arrays in Zarr and rows in Parquet (see `pellucid.runfolder`); by default nowhere.
        overwrite: throw away what the folder holds, and begin anew.
        on_message: called with a line of text for what is worth knowing, such as what is finished already.

    Returns:
        `Features`.

    Raises:
        UnknownName: for a layer that does not exist.
        ValueError, TypeError: for images that the model cannot take, or options that make no sense.
        OtherRun: the folder holds a run of another model, or with other files or options.

    >>> import pellucid
    >>> model, scenes = pellucid.load("shapes"), pellucid.shapes.scenes(4)
    >>> found = pellucid.features(model, scenes.images, ["features.3", "pool"], labels=scenes.labels)
    >>> found.layers, found["pool"].shape
    (('features.3', 'pool'), (4, 72))
    """
    check_pooling(pooling)
    chosen = chosen_layers(model, images, layers)
    swept = sweep(
        model, images, [vectors(*chosen, pooling=pooling)],
        predict=predict, labels=labels, folder=folder, overwrite=overwrite, on_message=on_message,
    )  # fmt: skip
    made = record("features", model, swept, {"pooling": pooling}, ", ".join(chosen))
    return features_of(swept, chosen, made)


def last_layer(model: Model, images: Tensor | None = None) -> str:
    """The layer before the last one with a matrix or kernel of weights: what a classifier decides by.

    Raises:
        ValueError: if no layer comes before it.

    >>> import pellucid
    >>> last_layer(pellucid.load("shapes"))
    'flatten'
    """
    net, found = network(model), listed(model, images)
    weighted = [
        place for place, layer in enumerate(found)
        if net is not None and _weight_axes(net.get_submodule(layer.name.partition("#")[0])) > 1
    ]  # fmt: skip
    place = (weighted[-1] if weighted else len(found) - 1) - 1
    if place < 0:
        raise ValueError("no layer comes before the last one with weights: say which layer is meant")
    return found[place].name


def chosen_layers(model: Model, images: Images, layers: str | Sequence[str] | None) -> tuple[str, ...]:
    """The layers that someone means: by default the one that the last layer with weights looks at."""
    if layers is None:
        first = images[:1].detach() if isinstance(images, Tensor) else None
        if first is None and isinstance(model, Classifier) and model.preprocessing.size is None:
            raise ValueError("say which layers: without a size the model cannot be looked through")
        return (last_layer(model, first),)
    chosen = (layers,) if isinstance(layers, str) else tuple(dict.fromkeys(layers))
    if not chosen or not all(isinstance(layer, str) for layer in chosen):
        raise ValueError(f"layers is {layers!r}, expected the name of a layer, or several")
    return chosen


def _weight_axes(module: Any) -> int:
    weight = getattr(module, "weight", None)
    return weight.ndim if isinstance(weight, Tensor) else 0
