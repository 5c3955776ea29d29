"""Training a style network on photographs, so that one pass does what an optimization did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from ..checks import check_images
from ..methods.verb import verb
from ..model.classifier import Classifier
from ..model.run import Model, device_of, run
from ..model.training import Checkpoint
from ..runfolder import hash_of
from .ascent import layers_by_scale
from .ingredients.canvas import stream
from .ingredients.objectives import content, style
from .ingredients.penalties import total_variation
from .style_network import StyleNetwork
from .training.training import Photos, Squares, train


@torch.inference_mode(False)
@verb(paper=("Johnson, Alahi & Fei-Fei 2016, Perceptual losses for real-time style transfer and super-resolution"))
def train_style(
    model: Model,
    photos: Photos,
    styles: Mapping[str, Tensor],
    *,
    begin: StyleNetwork | None = None,
    checkpoint: str | Path | None = None,
    every: int = 100,
    width: int = 16,
    blocks: int = 4,
    content_layers: str | Sequence[str] = (),
    style_layers: str | Sequence[str] = (),
    content_weight: float = 1.0,
    style_weight: float = 10.0,
    variation: float = 0.01,
    size: int = 128,
    batch: int = 4,
    step: float = 1e-3,
    steps: int = 2000,
    seed: int = 0,
) -> StyleNetwork:
    """A network that paints photographs in one of some styles in one pass.

    Minimizes the objective of `style_transfer` over photographs and styles, step by step with Adam. Which photos and
    which style a step sees depends on the seed and the number of the step alone, so that a training that was killed
    goes on from its checkpoint as if nothing had happened.

    Args:
        model: a network or a `Classifier`, by whose layers content and style are told; the training is on its device.
        photos: images N x C x H x W, or files and folders.
        styles: images 1 x C x h x w by name.
        begin: a trained network to add these styles to: its own styles and weights stay, only gains and biases of
            the new ones are trained.
        checkpoint: a .safetensors file, written every so many steps and gone on from if it is there.
        every: steps between two of those.
        width, blocks: size of a new network.
        content_layers, style_layers, content_weight, style_weight, variation: as for `style_transfer`.
        size: side of the squares that photos are cropped to, and longer side of the styles, in pixels.
        batch: photos in a step.
        step: Adam's highest learning rate; it falls to a hundredth.
        steps: how many; part of what a checkpoint is of, as the rate depends on it.
        seed: of weights, crops and choices.

    Returns:
        A `StyleNetwork` in evaluation mode; after Ctrl-C, as far as it got, and written to its checkpoint.

    Raises:
        ValueError: for options out of their range, a checkpoint of another training, or a loss that became NaN.

    Warns:
        UserWarning: if it was interrupted.

    Paper:
        Johnson, Alahi & Fei-Fei 2016, Perceptual losses for real-time style transfer and super-resolution; Dumoulin,
        Shlens & Kudlur 2017, A learned representation for artistic style.

    >>> import pellucid
    >>> model, scenes = pellucid.load("shapes"), pellucid.shapes.scenes(3).images
    >>> small = {"width": 2, "blocks": 1, "size": 32, "batch": 1, "steps": 2}
    >>> network = train_style(model, scenes[:2], {"disc": scenes[2:]}, **small)
    >>> grown = train_style(model, scenes[:2], {"other": scenes[:1]}, begin=network, **small)  # the first one stays
    >>> grown.styles, grown.paint(scenes, [0.5, 0.5]).shape
    (('disc', 'other'), torch.Size([3, 3, 96, 96]))
    """
    if not isinstance(styles, Mapping):
        raise TypeError(f"styles is a {type(styles).__name__}, expected images by name, as in {{'waves': image}}")
    names = list(styles)
    if not names or min(steps, batch, every) < 1 or size < 20 or not step > 0:
        raise ValueError("expected at least one style, one step, one photo a batch, and a size from 20 pixels")
    channels = model.preprocessing.channels if isinstance(model, Classifier) else 3
    for one in styles.values():
        check_images(one, channels=channels, pixels=True)
    squares = Squares(photos, size, channels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = begin.with_styles(names) if begin else StyleNetwork(names, width=width, blocks=blocks, channels=channels)
    place = device_of(model) or torch.device("cpu")
    net = net.to(place)
    first = len(net.styles) - len(names)
    trained = {n: p for n, p in net.named_parameters() if not begin or ".norm." in n}
    asked = [content_layers, style_layers, content_weight, style_weight, variation, size, batch, step, steps, seed]
    looks = [float(one.double().square().sum()) for one in styles.values()]
    recipe = hash_of(["style network", net.about(), asked, looks, first])
    kept = None if checkpoint is None else Checkpoint(Path(checkpoint), recipe, net.state_dict, every=every)

    samples = [_fitted(one, size) for one in styles.values()]
    example = torch.zeros(1, channels, size, size) + 0.5
    inside = ((content_layers,) if isinstance(content_layers, str) else tuple(content_layers)) or (
        layers_by_scale.content_layer(model, example),
    )
    across = (
        (style_layers,) if isinstance(style_layers, str) else tuple(style_layers)
    ) or layers_by_scale.style_layers(model, example)
    goals = [style(across, one).bind(model, batch) for one in samples]
    smooth = total_variation(variation * 100 / example.numel()).bind(model, batch) if variation else None

    def loss_of(done: int) -> Tensor:
        given = squares.draw(batch, stream(seed, done)).to(place)
        number = done % len(names)
        shares = F.one_hot(torch.full((batch,), first + number), len(net.styles)).to(given)
        painted = net(given, shares)
        goal = content(inside, given).bind(model, batch)
        trace = run(model, painted, read={*goal.reads, *goals[number].reads}, to_output=False)
        loss = -content_weight * goal(trace).mean() - style_weight * goals[number](trace).mean()
        return loss if smooth is None else loss + smooth(trace).mean()

    def hold() -> None:
        """The styles that were there stay as they were."""
        for parameter in trained.values() if begin else ():
            assert parameter.grad is not None
            parameter.grad[:first] = 0

    train(loss_of, trained, steps=steps, step=step, kept=kept, before=hold)
    return net.eval()


def _fitted(one: Tensor, size: int) -> Tensor:
    factor = size / max(one.shape[2:])
    sides = tuple(max(16, round(side * factor)) for side in one.shape[2:])
    return F.interpolate(one.detach().float(), sides, mode="bilinear", align_corners=False, antialias=True)
