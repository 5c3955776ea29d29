"""Training a decoder on images, so that an ascent can keep to what images are like."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..methods.verb import verb
from ..model.classifier import Classifier
from ..model.run import Model, device_of, run
from ..model.settings import current
from ..model.training import Checkpoint
from ..runfolder import hash_of
from .ingredients.canvas import stream
from .ingredients.decoder import Decoder, Encoder
from .ingredients.objectives import content
from .training.training import Photos, Squares, train


@torch.inference_mode(False)
@verb(paper="Dosovitskiy & Brox 2016, Generating images with perceptual similarity metrics")
def train_generator(
    photos: Photos,
    *,
    size: int = 64,
    channels: int = 3,
    length: int = 64,
    width: int = 24,
    model: Model | None = None,
    layers: str | Sequence[str] = (),
    feature_weight: float = 1.0,
    mirror: bool = False,
    batch: int = 32,
    step: float = 2e-3,
    steps: int = 4000,
    checkpoint: str | Path | None = None,
    every: int = 500,
    seed: int = 0,
) -> Decoder:
    """A decoder whose codes, drawn from a normal distribution, give images like those it was trained on.

    The decoder of a variational autoencoder, trained on D / 2 log e + KL: D numbers an image, KL how far its code is
    from a standard normal one, and e the error of what is decoded: the mean squared one, in units of the variance of
    the photos, and with a model that of its features as well (`content`). Which photos a step sees depends on the seed
    and the number of the step alone, so that a training that was killed goes on from its checkpoint.

    Args:
        photos: images N x C x H x W in [0, 1], or files and folders.
        size: height and width of the images, from 8; squares of this size are cut from the photos.
        channels: 3, or 1 for gray.
        length: numbers of a code.
        width: channels of the finest maps of the decoder.
        model: a network or a `Classifier` whose features the decoded image must share, which keeps edges sharp
            (Dosovitskiy & Brox 2016, Generating images with perceptual similarity metrics).
        layers: of the model.
        feature_weight: of the error of features beside that of pixels.
        mirror: let half of the squares be mirrored; not for digits.
        batch: images in a step.
        step: Adam's highest learning rate; it falls to a hundredth.
        steps: how many.
        checkpoint: a .safetensors file, written every so many steps and gone on from if it is there.
        every: steps between two of those.
        seed: of weights, squares and codes.

    Returns:
        A `Decoder` in evaluation mode; after Ctrl-C, as far as it got, and written to its checkpoint.

    Raises:
        ValueError: for options out of their range, a checkpoint of another training, or a loss that became NaN.

    Warns:
        UserWarning: if it was interrupted.

    Paper:
        Kingma & Welling 2014, Auto-encoding variational Bayes; Rybkin, Daniilidis & Levine 2021, Simple and effective
        VAE training with calibrated decoders.

    >>> import pellucid
    >>> decoder = train_generator(pellucid.shapes.scenes(4).images, size=16, length=4, width=2, batch=2, steps=2)
    >>> decoder(torch.zeros(1, 4)).shape
    torch.Size([1, 3, 16, 16])
    """
    names = (layers,) if isinstance(layers, str) else tuple(layers)
    if min(steps, batch, every) < 1 or not step > 0 or feature_weight < 0:
        raise ValueError("expected at least one step and one image a batch, a step above 0, and a weight from 0")
    if (model is None) != (not names):
        raise ValueError("model and layers go together: give both, for the error of features, or neither")
    if model is not None:
        wanted = model.preprocessing.channels if isinstance(model, Classifier) else channels
        if wanted != channels:
            raise ValueError(f"the model takes {wanted} channels, the decoder draws {channels}")
    squares = Squares(photos, size, channels, room=1.15 if mirror else 1.0, mirror=mirror)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        decoder = Decoder(length, size=size, channels=channels, width=width)
        encoder = Encoder(length, size=size, channels=channels, width=width)
    place = device_of(model) if model is not None else torch.device(current().device)
    decoder, encoder = decoder.to(place), encoder.to(place)
    trained = {f"decoder.{n}": p for n, p in decoder.named_parameters()}
    trained |= {f"encoder.{n}": p for n, p in encoder.named_parameters()}
    looks = squares.draw(16, stream(seed, -1))
    variance = float(looks.var(0).mean()) or 1.0
    asked = [names, feature_weight, mirror, batch, step, steps, seed, variance]
    recipe = hash_of(["decoder", decoder.about(), asked])
    kept = None if checkpoint is None else Checkpoint(Path(checkpoint), recipe, lambda: trained, every=every)

    def error(given: Tensor, drawn: Tensor) -> Tensor:
        found = (drawn - given).square().mean() / variance
        if model is None:
            return found
        goal = content(names, given).bind(model, batch)
        return found - feature_weight * goal(run(model, drawn, read=goal.reads, to_output=False)).mean()

    def loss_of(done: int) -> Tensor:
        draw = stream(seed, done)
        given = squares.draw(batch, draw).to(place)
        mean, spread = encoder(given)
        codes = mean + torch.randn(mean.shape, generator=draw).to(place) * (spread / 2).exp()
        apart = (mean.square() + spread.exp() - spread - 1).sum(1).mean() / 2
        loss: Tensor = error(given, decoder(codes)).clamp(min=1e-8).log() / 2 + apart / given[0].numel()
        return loss

    train(loss_of, trained, steps=steps, step=step, kept=kept, word="loss per number")
    return decoder.eval()
