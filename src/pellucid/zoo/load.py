"""`load`: a network by its name or from a file, with what belongs to it.

Reading a file never runs code that is in it, unless the caller says `trusted=True`: weights are read by
safetensors or by torch's restricted unpickler, exported programs after a check of all that they hold.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import torch

from ..importers import from_onnx
from ..model.classifier import Classifier, wrap
from ..model.settings import current
from .exported import exported
from .file_kinds import reader_of
from .separate_process import imported_in_process, needs_process
from .sources import filled, find_source, seeded
from .weights import RANDOM, first_line, read_state, weights_file


def load(
    name: str | Path,
    *,
    weights: str | Path | None = None,
    labels: Sequence[str] | str | Path | None = None,
    mean: Sequence[float] | float | None = None,
    std: Sequence[float] | float | None = None,
    size: int | tuple[int, int] | None = None,
    trusted: bool = False,
) -> Classifier:
    """A network with its weights, its preprocessing and the names of its classes, ready to be looked into.

    It is put on the device of `pellucid.settings(device=...)`, in evaluation mode. Weights are downloaded
    where torchvision and timm keep theirs, once.

    Args:
        name: "shapes" (comes with pellucid), a classifier of torchvision ("resnet50"), one of timm
            ("timm/convnext_tiny.fb_in1k"; `pip install pellucid[timm]`), the file of an exported program
            ("mine.pt2", made by `torch.export.save`), or one that is imported as by `pellucid.from_onnx` ("mine.onnx";
            `pip install pellucid[onnx]`), `pellucid.from_keras` ("mine.keras", "mine.h5"; `pip install
            pellucid[keras]`) or `pellucid.from_tensorflow` (the folder of a SavedModel; `pip install
            pellucid[tensorflow]`), the last two in a process of their own; or the file that `SpectrumClassifier.save`
            wrote ("fakes.safetensors"). `models()` lists the names.
        weights: a file of weights for the network of that name (.safetensors, .pth), which may have another
            number of classes; the name of one of torchvision's weights ("IMAGENET1K_V1"); "random" for a
            network that has learned nothing, the same at every call. By default its best known weights.
        labels: names of the classes, or a text file with one in each line.
        mean, std, size: where the images of a file's network differ from what is usual for it, as for `wrap`.
            An exported program takes pixels in [0, 1] if nothing is said.
        trusted: run the code that a file may contain. Only for files whose maker you trust.

    Returns:
        A `Classifier`: takes images in [0, 1].

    Raises:
        UnknownName: for a name or weights that do not exist; the message offers the nearest.
        ImportError: if timm is asked for and not installed.
        MissingWeights: if weights cannot be downloaded; the message says which, and where to put them.
        UnreadableWeights: for a file that is broken, does not fit the network, or would run code.
        FileNotFoundError: for a file that does not exist.
        ValueError: for labels or options that do not fit the network, or a device that is not there.

    >>> import pellucid
    >>> model = pellucid.load("resnet18", weights="random")
    >>> model.preprocessing.size, model.labels[483]
    ((224, 224), 'castle')
    """
    device = _device()
    path, name = Path(name), str(name)
    suffix = path.suffix.lower()
    if reader := reader_of(path):
        if any(value is not None for value in (weights, mean, std, size)):
            raise ValueError(f"{path} says itself how images enter it: leave out weights, mean, std and size")
        model = reader(path)
        model.labels = model.labels if labels is None else _labels(labels, len(model.labels))
        return model.to(device)
    apart = needs_process(path)
    if (suffix in (".pt2", ".onnx") or apart) and weights is not None:
        raise ValueError(f"{path} has its weights inside: leave out weights=")
    if apart:
        model = imported_in_process(path, trusted=trusted, mean=mean, std=std, size=size)
        if labels is not None:
            with torch.no_grad():
                outputs = model(torch.zeros(1, model.preprocessing.channels, *(model.preprocessing.size or ())))
            model.labels = _labels(labels, outputs.shape[1])
        return model.to(device)
    if suffix == ".onnx":
        given = () if labels is None else _labels(labels, None)
        return from_onnx(path, labels=given, mean=mean, std=std, size=size).to(device)
    if suffix == ".pt2":
        net, how, classes = exported(path, device, trusted)
        usual: tuple[str, ...] = ()
        title = path.stem
    else:
        file = weights_file(weights)
        source = find_source(name, weights, file)
        how, usual, classes, title = source.preprocessing, source.labels, source.classes, name
        if weights == RANDOM:
            net, title = seeded(source.build), f"{name} (random weights)"
        elif file:
            net, classes = filled(source, read_state(file, trusted), file)
            title = f"{name} ({file.name})"
        else:
            net = source.trained()
    names = usual if len(usual) == classes else ()
    if labels is not None:
        names = _labels(labels, classes)
    return wrap(
        net.eval().to(device),
        mean=how.mean if mean is None else mean,
        std=how.std if std is None else std,
        size=how.size if size is None else size,
        resize=how.resize if size is None else None,
        interpolation=how.interpolation,
        channels=how.channels,
        labels=names,
        name=title,
    )


def _labels(labels: Sequence[str] | str | Path, classes: int | None) -> tuple[str, ...]:
    if isinstance(labels, (str, Path)):
        file = Path(labels)
        if not file.is_file():
            raise FileNotFoundError(f"labels={str(labels)!r}: there is no such file; give one, or a list of names")
        try:
            lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines()]
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{file} is no list of labels: it is not UTF-8 text; expected the name of a class in each line"
            ) from error
        labels = [re.sub(r"^n\d{8}\s+", "", line) for line in lines if line]  # ImageNet's lists begin with its numbers
    if classes is not None and len(labels) != classes:
        raise ValueError(f"there are {len(labels)} labels, and the network has {classes} classes")
    return tuple(labels)


def _device() -> torch.device:
    wanted = current().device
    try:
        device = torch.device(wanted)
    except (RuntimeError, TypeError) as error:  # torch's words list all that it was ever built for
        raise ValueError(_no_device(wanted, "torch knows none of that name")) from error
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(_no_device(wanted, first_line(error))) from error
    return device


def _no_device(wanted: str, reason: str) -> str:
    kind = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    here = ["cpu", *(f"{kind.type}:{i}" for i in range(torch.accelerator.device_count()) if kind)]
    return (
        f"the device {wanted!r} cannot be used ({reason}); this machine has {', '.join(here)}: choose as in "
        f"pellucid.settings(device={here[-1]!r})"
    )
