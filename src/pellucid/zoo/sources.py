"""Networks by name: those of pellucid, torchvision and timm, with what their weights say about images and labels."""

from __future__ import annotations

import importlib.util
import math
import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .. import shapes
from ..checks import UnknownName, nearest
from ..model.classifier import Preprocessing
from .weights import (
    PREFIXES,
    RANDOM,
    SUFFIXES,
    TIMEOUT,
    MissingWeights,
    UnreadableWeights,
    download,
    first_line,
    read_state,
    shape_text,
    shorten,
)


@dataclass(frozen=True)
class Entry:
    """A network that `load` knows by name.

    name: for `load`. source: "pellucid", "torchvision" or "timm". size: height and width of its images with
        its usual weights. weights: what else `weights` may name, the default first.
    """

    name: str
    source: str
    size: tuple[int, int]
    weights: tuple[str, ...] = ()


def models(pattern: str = "") -> list[Entry]:
    """The networks that `load` knows by name: pellucid's own, torchvision's, and timm's if it is installed.

    Nothing is built and nothing downloaded.

    Args:
        pattern: a part of the name, or a whole name with * and ? in it; all by default.

    >>> [entry.name for entry in models("resnet?8")]
    ['resnet18']
    >>> models("shapes")
    [Entry(name='shapes', source='pellucid', size=(96, 96), weights=())]
    """
    wanted = pattern if set(pattern) & set("*?[") else f"*{pattern}*"
    found = [Entry("shapes", "pellucid", (96, 96))] if fnmatchcase("shapes", wanted) else []
    for name in _torchvision_names():
        if fnmatchcase(name, wanted):
            options = _torchvision_weights(name)
            size = _torchvision_preprocessing(options[0]).size or (0, 0)
            found.append(Entry(name, "torchvision", size, tuple(option.name for option in options)))
    for name in _timm_names(pretrained=True):
        if fnmatchcase(name, wanted):
            _, height, width = _import_timm().get_pretrained_cfg(name.removeprefix("timm/")).input_size
            found.append(Entry(name, "timm", (height, width)))
    return found


@dataclass(frozen=True)
class Source:
    """How to get one network that has a name.

    build: makes it untrained, with the usual number of classes or the one given. trained: makes it with its
        usual weights. classes: the usual number. rename: brings the names of a file's weights up to date.
    """

    build: Callable[..., nn.Module]
    trained: Callable[[], nn.Module]
    preprocessing: Preprocessing
    labels: tuple[str, ...]
    classes: int
    rename: Callable[[dict[str, Tensor]], dict[str, Tensor]] = dict


def find_source(name: str, weights: str | Path | None, file: Path | None) -> Source:
    option = None if file or weights in (None, RANDOM) else str(weights)
    if name in _torchvision_names():
        return _torchvision(name, option, file)
    if option is not None:
        raise UnknownName(f"weights={option!r}: {name} takes {RANDOM!r} or a file ({', '.join(SUFFIXES)})")
    if name == "shapes":
        how = Preprocessing((96, 96), mean=shapes.MEAN, std=shapes.STD)
        return Source(
            lambda _=None: shapes.ShapesNet(), shapes.trained_network, how, shapes.CLASSES, len(shapes.CLASSES)
        )
    if name.startswith("timm/"):
        return _timm(name)
    raise UnknownName(_unknown(name))


def _unknown(name: str) -> str:
    suffix = Path(name).suffix.lower()
    if suffix in SUFFIXES:
        return f"{name!r} is a file of weights: say of which network they are, load('resnet18', weights={name!r})"
    known = ["shapes", *_torchvision_names(), *_timm_names(pretrained=False)]
    return f"there is no network {name!r}; {nearest(name, known)}. pellucid.zoo.models() lists all"


def _torchvision_names() -> list[str]:
    from torchvision import models as torchvision

    return list(torchvision.list_models(module=torchvision))


def _torchvision_weights(name: str) -> list[Any]:
    """The weights of a network of torchvision that can classify, the default first."""
    from torchvision import models as torchvision

    options = torchvision.get_model_weights(name)
    return sorted((w for w in options if w.meta.get("categories")), key=lambda w: w != options.DEFAULT)


def _torchvision_preprocessing(option: Any) -> Preprocessing:
    how = option.transforms()
    size = (how.crop_size * 2)[:2]
    mean, std = tuple(how.mean), tuple(how.std)
    return Preprocessing((size[0], size[1]), how.resize_size[0], how.interpolation.value, mean, std)


def _torchvision(name: str, option: str | None, file: Path | None) -> Source:
    from torchvision import models as torchvision

    options = _torchvision_weights(name)
    chosen = options[0]
    if option is not None:
        named = {w.name: w for w in options} | {str(w): w for w in options}
        if option not in named:
            known = [*(w.name for w in options), RANDOM]
            raise UnknownName(f"{name} has no weights {option!r}; {nearest(option, known)}, or give a file")
        chosen = named[option]
    elif file:
        chosen = next((w for w in options if file.name == Path(w.url).name), chosen)
    usual: dict[str, Any] = {}
    if name in ("googlenet", "inception_v3"):  # their weights want ImageNet's normalization undone inside
        usual = {"transform_input": True, "aux_logits": False, "init_weights": False}
    elif name.startswith("vit_"):
        usual = {"image_size": chosen.meta["min_size"][0]}

    def build(classes: int | None = None) -> nn.Module:
        number = {} if classes is None else {"num_classes": classes}
        net: nn.Module = torchvision.get_model(name, weights=None, **usual, **number)
        return net

    def rename(state: dict[str, Tensor]) -> dict[str, Tensor]:
        if "aux_logits" in usual:  # the heads that only training needs
            return {k: v for k, v in state.items() if not k.startswith(("aux1.", "aux2.", "AuxLogits."))}
        if name.startswith("densenet"):  # names with two dots, from before torch 0.4
            return {re.sub(r"(denselayer\d+\.(?:norm|relu|conv))\.([12])\.", r"\1\2.", k): v for k, v in state.items()}
        return state

    def trained() -> nn.Module:
        path = download(name, chosen.url)
        return filled(source, read_state(path, trusted=False), path)[0]

    labels = tuple(chosen.meta["categories"])
    source = Source(build, trained, _torchvision_preprocessing(chosen), labels, len(labels), rename)
    return source


def _timm_names(pretrained: bool) -> list[str]:
    if importlib.util.find_spec("timm") is None:
        return []
    timm = _import_timm()
    return [f"timm/{name}" for name in (timm.list_pretrained() if pretrained else timm.list_models())]


def _import_timm() -> Any:
    try:
        import timm
    except ImportError as error:
        raise ImportError("networks of timm need timm, which is not installed: pip install pellucid[timm]") from error
    return timm


def _timm(name: str) -> Source:
    timm = _import_timm()
    plain = name.removeprefix("timm/")
    if not timm.is_model(plain):
        known = [*_timm_names(pretrained=True), *_timm_names(pretrained=False)]
        raise UnknownName(f"there is no network {name!r}; {nearest(name, known)}")
    try:
        config = timm.get_pretrained_cfg(plain, allow_unregistered=False)
    except RuntimeError as error:
        tags = [n for n in _timm_names(pretrained=True) if n.startswith(name.partition(".")[0] + ".")]
        raise UnknownName(f"timm has no weights {name!r}; {nearest(name, tags)}") from error

    def build(classes: int | None = None) -> nn.Module:
        number = {} if classes is None else {"num_classes": classes}
        net: nn.Module = timm.create_model(plain, pretrained=False, **number)
        return net

    def trained() -> nn.Module:
        if not config.has_weights:
            raise MissingWeights(
                f"timm has no weights for {plain}: load({name!r}, weights={RANDOM!r}), or give a file of your own"
            )
        try:
            overlay = _timm_cached(config)
            return seeded(lambda: timm.create_model(plain, pretrained=True, pretrained_cfg_overlay=overlay))
        except Exception as error:  # huggingface_hub has a dozen kinds
            place = f"https://huggingface.co/{config.hf_hub_id}" if config.hf_hub_id else config.url
            raise MissingWeights(
                f"the weights of {name} could not be downloaded ({first_line(error)}). They are at {place}: connect "
                f"this machine, or bring the file and load({name!r}, weights=FILE)"
            ) from error

    how = timm.data.resolve_data_config(pretrained_cfg=config.to_dict())
    channels, *size = how["input_size"]
    resize: int | str = math.floor(min(size) / how["crop_pct"])
    if how["crop_mode"] == "squash":
        resize = "squash"
    preprocessing = Preprocessing(
        (size[0], size[1]), resize, how["interpolation"], tuple(how["mean"]), tuple(how["std"]), channels
    )
    subset = timm.data.infer_imagenet_subset(config.to_dict())
    labels = tuple(timm.data.ImageNetInfo(subset).label_descriptions()) if subset else ()
    return Source(build, trained, preprocessing, labels, config.num_classes)


def _timm_cached(config: Any) -> dict[str, Any]:
    """What makes timm take the file that it has; asked itself, it tries a dead network for a minute first."""
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    if not config.hf_hub_id or config.hf_hub_filename or config.custom_load:
        return {}
    from huggingface_hub import hf_hub_url, try_to_load_from_cache

    file = try_to_load_from_cache(config.hf_hub_id, "model.safetensors")
    if isinstance(file, str):
        return {"file": file}
    try:
        urlopen(Request(hf_hub_url(config.hf_hub_id, "model.safetensors"), method="HEAD"), timeout=TIMEOUT).close()
    except HTTPError as error:  # it is there, and will tell timm more
        error.close()
    return {}


def filled(source: Source, state: dict[str, Tensor], file: Path) -> tuple[nn.Module, int]:
    """The network with the weights of a file, with as many classes as these have."""
    net = seeded(source.build)
    expected, classes = net.state_dict(), source.classes
    state = {name.replace("_orig_mod.", ""): tensor for name, tensor in state.items()}  # torch.compile
    for prefix in PREFIXES * 2:
        if all(name.startswith(prefix) for name in state) and not any(name.startswith(prefix) for name in expected):
            state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    state = source.rename(state)
    common = [(tensor.shape, expected[name].shape) for name, tensor in state.items() if name in expected]
    heads = {a[0] for a, b in common if a != b and a[1:] == b[1:] and b[0] == classes}
    if len(heads) == 1:
        classes = heads.pop()
        net = seeded(partial(source.build, classes))
        expected = net.state_dict()
    differing = [
        f"{name} is {shape_text(tensor)}, expected {shape_text(expected[name])}"
        for name, tensor in state.items()
        if name in expected and tensor.shape != expected[name].shape
    ]
    missing, unexpected = list(expected), list(state)
    if not differing:
        given = OrderedDict(state)
        # Some modules of torchvision ask by which version of themselves the weights were written.
        given._metadata = {"": {"version": getattr(net, "_version", 1)}}  # type: ignore[attr-defined]
        try:
            missing, unexpected = net.load_state_dict(given, strict=False)
        except (RuntimeError, ValueError) as error:
            raise UnreadableWeights(f"{file} does not fit the network: {first_line(error)}") from error
    else:
        missing = [name for name in expected if name not in state]
        unexpected = [name for name in state if name not in expected]
    faults = [("missing", missing), ("not expected", unexpected), ("of another shape", differing)]
    told = [f"{shorten(names)} {what}" for what, names in faults if names]
    if told:
        raise UnreadableWeights(
            f"{file} does not fit the network: {'; '.join(told)}. Is it the right name? A changed head or layer "
            "cannot be guessed: build that network yourself and use pellucid.wrap"
        )
    return net, classes


def seeded(build: Callable[..., nn.Module]) -> nn.Module:
    """What `build` gives with random numbers of its own: the same every time, and the caller's stay as they are."""
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(0)
        return build()
