"""Objectives about whole activations: like those of an image, in a style, unlike one another.

They read layers, and combine with all other objectives. Those that compare with an image look at it once, when they
are bound to a model.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ...checks import check_images
from ...model.activation_maps import as_maps
from ...model.classifier import Classifier
from ...model.run import Model, Trace, run
from ...objectives.algebra import Objective, Term

Layers = str | Sequence[str]
IMAGE = "image"  # the layer that is the image itself


def cosine(layer: str, vector: Tensor | Sequence[float]) -> Objective:
    """The mean over all places of the cosine between the activation and a vector over channels, in [-1, 1].

    Where `pellucid.direction` grows with the size of the activation, this asks for the direction alone.

    Args:
        layer: a layer's name.
        vector: one number per channel, not all 0.

    >>> cosine("layer3", [1.0, -1.0])
    cosine("layer3", <2 numbers>)
    """
    weights = torch.as_tensor(vector).detach()
    if weights.ndim != 1 or not weights.any():
        raise ValueError(f"a direction is a vector over channels that is not 0, got the shape {tuple(weights.shape)}")

    def of(trace: Trace) -> Tensor:
        values = maps_of(trace, layer)
        if values.shape[1] != len(weights):
            raise ValueError(f"layer {layer!r} has {values.shape[1]} channels, the direction has {len(weights)}")
        return F.cosine_similarity(values, weights.to(values)[:, None, None], 1, 1e-8).flatten(1).mean(1)

    text = f'cosine("{layer}", <{len(weights)} numbers>)'
    return Objective(text, lambda _model, _count: Term(of, lambda: text), reads=frozenset([layer]))


def caricature(layer: str, image: Tensor, power: float = 1.0) -> Objective:
    """What a layer sees in an image, more of it: the mean over places of <a, b> max(cos(a, b), 0.1)^power.

    a is the activation, b that of the image.

    Args:
        layer: a layer's name.
        image: N x C x H x W or 1 x C x H x W, of the size of what is made.
        power: 0 asks for size alone, more for the direction.

    Paper:
        Carter, Armstrong, Schubert, Johnson & Olah 2019, Activation atlas (the objective).

    >>> import pellucid
    >>> model, scenes = pellucid.load("shapes"), pellucid.shapes.scenes(1)
    >>> found = pellucid.maximize(model, caricature("features.4", scenes.images), start=scenes.images, steps=3)
    >>> bool(found.values[0] > found.history[0, 0])
    True
    """
    text = f'caricature("{layer}")'

    def prepare(model: Model, _count: int) -> Term:
        wanted = maps_of(_trace(model, image, [layer]), layer)

        def of(trace: Trace) -> Tensor:
            values = maps_of(trace, layer)
            target = _match(wanted, values, trace.rows, layer)
            product = (values * target).sum(1)
            cos = product / (values.norm(dim=1) * target.norm(dim=1)).clamp(min=1e-8)
            weighted: Tensor = product * cos.clamp(min=0.1).pow(power)
            return weighted.flatten(1).mean(1)

        return Term(of, lambda: text)

    return Objective(text, prepare, reads=frozenset([layer]))


def guided(layer: str, image: Tensor) -> Objective:
    """Let each place of a layer look like the place of a guide that it resembles most: mean over p of max_q <a_p, b_q>.

    Args:
        layer: a layer's name.
        image: 1 x C x h x w, of any size.

    Paper:
        Mordvintsev, Olah & Tyka 2015, Inceptionism: going deeper into neural networks.

    >>> guided("layer3", torch.rand(1, 3, 32, 32))
    guided("layer3")
    """
    text = f'guided("{layer}")'
    _single(image, "a guide")

    def prepare(model: Model, _count: int) -> Term:
        wanted = maps_of(_trace(model, image, [layer]), layer)[0].flatten(1)  # C x Q

        def of(trace: Trace) -> Tensor:
            values = maps_of(trace, layer).flatten(2)
            return torch.einsum("ncp,cq->npq", values, wanted.to(values)).amax(2).mean(1)

        return Term(of, lambda: text)

    return Objective(text, prepare, reads=frozenset([layer]))


def content(layers: Layers, image: Tensor, *, weights: Sequence[float] = (), relative: bool = True) -> Objective:
    """How near activations are to those of an image: minus the sum over layers of w |a - b|^2 / |b|^2.

    Args:
        layers: names of layers, or one.
        image: N x C x H x W or 1 x C x H x W, of the size of what is made.
        weights: one for each layer; 1 by default.
        relative: divide by |b|^2 (Mahendran & Vedaldi 2015); False halves instead (Gatys, Ecker & Bethge 2016).

    >>> net, image = torch.nn.Sequential(torch.nn.Flatten()), torch.ones(1, 1, 2, 2)
    >>> goal = content("0", image).bind(net.eval(), 1)
    >>> goal(run(net, torch.tensor([[[[1.0, 1.0], [1.0, 3.0]]]]), read=["0"]))  # |a - b|^2 = 4, |b|^2 = 4
    tensor([-1.])
    """
    names, shares = _weighted(layers, weights)
    text = f"content({', '.join(names)})"

    def prepare(model: Model, _count: int) -> Term:
        wanted = {name: value.flatten(1) for name, value in _trace(model, image, names).activations.items()}

        def of(trace: Trace) -> Tensor:
            total = torch.zeros(())
            for name, share in zip(names, shares, strict=True):
                values = trace.activations[name].flatten(1)
                target = _match(wanted[name], values, trace.rows, name)
                error = (values - target).square().sum(1)
                scale = target.square().sum(1).clamp(min=1e-30) if relative else 2.0
                total = total.to(error) + share * error / scale
            return -total

        return Term(of, lambda: text)

    return Objective(text, prepare, reads=frozenset(names))


def style(
    layers: Layers,
    image: Tensor,
    *,
    weights: Sequence[float] = (),
    mask: Tensor | None = None,
    image_mask: Tensor | None = None,
    relative: bool = True,
) -> Objective:
    """How near the Gram matrices of layers are to those of an image: minus the sum over layers of w |G - A|^2 / |A|^2.

    G = F F' / M for activations F, channels x M places, so that images of any two sizes compare.

    Args:
        layers: names of layers, or one. "image" is the image itself, whose Gram matrix (with a channel of ones) says
            its mean color and how its colors vary together; networks whose first layer has a stride see that badly.
        image: 1 x C x h x w, of any size.
        weights: one for each layer; one of their number each by default.
        mask: H x W in [0, 1], where in what is made the style is wanted (Gatys et al. 2017).
        image_mask: h x w in [0, 1], the part of the image whose style it is.
        relative: divide by |A|^2; False divides by 4 C^2 as the paper does, C the number of channels.

    Paper:
        Gatys, Ecker & Bethge 2015, Texture synthesis using convolutional neural networks.

    >>> import pellucid
    >>> model, two = pellucid.load("shapes"), pellucid.shapes.scenes(2).images
    >>> goal = style(["image", "features.1", "features.4"], two[:1]).bind(model, 2)
    >>> goal(run(model, two, read=goal.reads)) > -0.01  # 0 for the image itself
    tensor([ True, False])
    """
    names, shares = _weighted(layers, weights)
    shares = shares if weights else [1 / len(names)] * len(names)
    text = f"style({', '.join(names)})"
    reads = frozenset(name for name in names if name != IMAGE)
    _single(image, "a style")

    def prepare(model: Model, _count: int) -> Term:
        trace = _trace(model, image, list(reads))
        wanted = {name: gram(maps_of(trace, name), image_mask) for name in names}

        def of(trace: Trace) -> Tensor:
            total = torch.zeros(())
            for name, share in zip(names, shares, strict=True):
                values = maps_of(trace, name)
                target = wanted[name].to(values)
                if target.shape[1] != values.shape[1]:
                    raise ValueError(f"layer {name!r} has {values.shape[1]} channels, the style's {target.shape[1]}")
                error = (gram(values, mask) - target).flatten(1).square().sum(1)
                scale = target.square().sum().clamp(min=1e-30) if relative else 4.0 * values.shape[1] ** 2
                total = total.to(error) + share * error / scale
            return -total

        return Term(of, lambda: text)

    return Objective(text, prepare, reads=reads)


def diversity(layer: str) -> Objective:
    """How unlike the images of a batch are: minus the mean cosine of an image's Gram matrix with those of the others.

    For `maximize(..., count=4)`: the images of one objective that show different things.

    Paper:
        Olah, Mordvintsev & Schubert 2017, Feature visualization.

    >>> diversity("layer3")
    diversity("layer3")
    """
    text = f'diversity("{layer}")'

    def of(trace: Trace) -> Tensor:
        if len(trace.rows) < 2:
            raise ValueError(f"{text} compares the images of a batch, and there is one: maximize(..., count=4)")
        flat = F.normalize(gram(maps_of(trace, layer)).flatten(1), dim=1)
        alike = flat @ flat.T
        return -(alike.sum(1) - alike.diagonal()) / (len(alike) - 1)

    return Objective(
        text, lambda _model, _count: Term(of, lambda: text), reads=frozenset([layer]), batch_dependent=True
    )


def gram(values: Tensor, mask: Tensor | None = None) -> Tensor:
    """F F' / M for activations N x C x h x w: N x C x C; with a mask, over places weighted by it.

    >>> gram(torch.tensor([[[[1.0, 2.0]], [[0.0, 1.0]]]]))
    tensor([[[2.5000, 1.0000],
             [1.0000, 0.5000]]])
    """
    flat = values.flatten(2)
    if mask is None:
        return torch.bmm(flat, flat.mT) / flat.shape[2]
    small = F.interpolate(mask.to(values)[None, None].float(), values.shape[2:], mode="area").to(values).flatten()
    if not small.any():
        raise ValueError(f"the mask is empty on a layer of {values.shape[2]} x {values.shape[3]} places")
    return torch.bmm(flat * small, flat.mT) / small.sum()


def maps_of(trace: Trace, layer: str) -> Tensor:
    """The activation of a layer as N x C x h x w; a layer without places has one."""
    if layer == IMAGE and layer not in trace.activations:
        return torch.cat([trace.images, torch.ones_like(trace.images[:, :1])], 1)
    values = trace.activations[layer]
    maps = as_maps(values, trace.images.shape[2:])
    if maps is None:
        if values.ndim != 2:
            raise ValueError(f"layer {layer!r} gives {tuple(values.shape)}, expected maps N x C x h x w")
        return values[..., None, None]
    return maps


def _trace(model: Model, image: Tensor, layers: Sequence[str]) -> Trace:
    channels = model.preprocessing.channels if isinstance(model, Classifier) else None
    check_images(image, channels=channels, pixels=isinstance(model, Classifier))
    if not layers:
        return Trace(image.detach(), None, {}, torch.arange(len(image)))
    with torch.no_grad():
        return run(model, image.detach(), read=layers, to_output=False)


def _single(image: Tensor, what: str) -> None:
    if image.ndim == 4 and len(image) != 1:
        raise ValueError(f"{what} is one image, 1 x C x H x W, got {len(image)}")


def _match(wanted: Tensor, values: Tensor, rows: Tensor, layer: str) -> Tensor:
    """The rows of what is wanted that belong to those of the values."""
    if wanted.shape[1:] != values.shape[1:]:
        raise ValueError(
            f"layer {layer!r} gives {tuple(values.shape[1:])}, and {tuple(wanted.shape[1:])} for the image that it is "
            "compared with: both must have the same height and width"
        )
    return (wanted if len(wanted) == 1 else wanted[rows.to(wanted.device)]).to(values)


def _weighted(layers: Layers, weights: Sequence[float]) -> tuple[list[str], list[float]]:
    names = [layers] if isinstance(layers, str) else list(layers)
    if not names:
        raise ValueError("there are no layers: name at least one")
    if weights and len(weights) != len(names):
        raise ValueError(f"got {len(weights)} weights for {len(names)} layers")
    return names, [float(w) for w in weights] or [1.0] * len(names)
