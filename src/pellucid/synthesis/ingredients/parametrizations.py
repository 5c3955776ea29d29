"""How an image is parametrized decides what ascent finds: pixels, frequencies, a generator, coordinates."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ...checks import check_network
from ...model.run import ModelError, device_and_dtype
from .canvas import Bounds, Canvas, Parameters, check_bounds, noise, squash, unsquash

# The principal axes of the colors of photographs, brightness, yellow-blue, green-magenta (Ruderman, Cronin & Chiao
# 1998, Statistics of cone responses to natural images), by their standard deviations on a hundred photographs.
_AXES = ((1.0, 1.0, 1.0), (1.0, 0.0, -1.0), (1.0, -2.0, 1.0))
_SPREADS = (1.0, 0.25, 0.12)


@dataclass(frozen=True)
class Pixels:
    """The pixels themselves, clipped to their bounds after each step.

    Args:
        bounds: (low, high) of valid pixels; None lets them go anywhere.
        noise: standard deviation of the noise that they begin with.

    >>> Pixels().begin(torch.full((1, 1, 2, 2), 0.5), None, seed=0).images().shape
    torch.Size([1, 1, 2, 2])
    """

    bounds: Bounds = (0.0, 1.0)
    noise: float = 0.1

    def __post_init__(self) -> None:
        check_bounds(self.bounds)

    def begin(self, like: Tensor, start: Tensor | None, seed: int) -> Canvas:
        images = like + self.noise * noise(like, tuple(like.shape[1:]), seed) if start is None else start

        def draw(parameters: Parameters) -> Tensor:
            (pixels,) = parameters
            return pixels.view_as(pixels)  # no leaf: a hook on the images must not stay on the parameters

        def bound(parameters: Parameters) -> None:
            if self.bounds is not None:
                parameters[0].clamp_(*self.bounds)

        canvas = Canvas((images.detach().clone(),), draw, lambda given: (given,), bound if self.bounds else None)
        bound(canvas.parameters)
        return canvas


@dataclass(frozen=True)
class Sigmoid:
    """Pixels = low + (high - low) sigmoid(parameters): always valid, and never quite at the bounds.

    Images to begin with are moved to between 1 % and 99 % of the bounds, where the sigmoid has a gradient.

    >>> Sigmoid().begin(torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2), seed=0).images().max()
    tensor(0.9900)
    """

    bounds: tuple[float, float] = (0.0, 1.0)
    noise: float = 0.1

    def __post_init__(self) -> None:
        check_bounds(self.bounds)

    def begin(self, like: Tensor, start: Tensor | None, seed: int) -> Canvas:
        images = like + self.noise * noise(like, tuple(like.shape[1:]), seed) if start is None else start
        return Canvas(
            (unsquash(images.detach(), self.bounds).clone(),),
            lambda parameters: squash(parameters[0], self.bounds),
            lambda given: (unsquash(given, self.bounds),),
        )


@dataclass(frozen=True)
class Fourier:
    """Frequencies, scaled as in photographs, of decorrelated colors, through a sigmoid (Olah et al. 2017).

    image = squash(colors . irfft2(parameters / f ^ decay)), with f the frequency in cycles per pixel. A step of
    an optimizer then changes slow and fast frequencies, and brightness and hue, as much as photographs do; in
    pixels it changes the fastest most, which is the grain that ascent in pixels gives.

    Args:
        bounds: (low, high) of valid pixels, kept by a sigmoid; None has none.
        decay: how the amplitude falls with the frequency; 0 treats all frequencies alike.
        decorrelate: let the parameters be brightness, yellow-blue and green-magenta; only for 3 channels.
        noise: standard deviation of the parameters to begin with.

    Paper:
        Olah, Mordvintsev & Schubert 2017, Feature visualization.

    >>> start = torch.rand(1, 3, 7, 9) * 0.8 + 0.1
    >>> drawn = Fourier().begin(start, start, seed=0).images()
    >>> bool((drawn - start).abs().max() < 1e-5)
    True
    """

    bounds: Bounds = (0.0, 1.0)
    decay: float = 1.0
    decorrelate: bool = True
    noise: float = 0.01

    def __post_init__(self) -> None:
        check_bounds(self.bounds)

    def begin(self, like: Tensor, start: Tensor | None, seed: int) -> Canvas:
        _, channels, height, width = like.shape
        scale = amplitudes(height, width, self.decay).to(like)[..., None]
        mix = _colors().to(like) if self.decorrelate and channels == 3 else None

        def draw(parameters: Parameters) -> Tensor:
            spectrum = torch.view_as_complex(parameters[0] * scale)
            values = torch.fft.irfft2(spectrum, s=(height, width), norm="ortho")
            if mix is not None:
                values = torch.einsum("ij,njhw->nihw", mix, values)
            return squash(values, self.bounds)

        def read(images: Tensor) -> Parameters:
            values = unsquash(images, self.bounds)
            if mix is not None:
                values = torch.einsum("ij,njhw->nihw", mix.double().inverse().to(values), values)
            return ((torch.view_as_real(torch.fft.rfft2(values, norm="ortho")) / scale).contiguous(),)

        if start is None:
            shape = (channels, height, width // 2 + 1, 2)
            parameters: Parameters = (self.noise * noise(like, shape, seed),)
        else:
            parameters = read(start.detach())
        return Canvas(parameters, draw, read)


@dataclass(frozen=True)
class FixedMagnitude:
    """Frequencies of fixed amplitude, whose phases alone are free (MACO, Fel et al. 2023).

    image = bounds squashed(irfft2(magnitude . exp(i phase))). The amplitudes are those of photographs, so that no
    ascent can end in grain; what is found is where things are.

    Args:
        photos: N x C x H x W of the size of the image, whose mean amplitudes to take; None takes 1 / f.
        bounds: (low, high) of valid pixels.
        contrast: standard deviation of the pixels where no photos are given, as a part of the bounds.

    Paper:
        Fel, Boissin, Boutin, Picard, Novello, Colin, Linsley, Rousseau, Cadène, Goetschalckx, Gardes & Serre 2023,
        Unlocking feature visualization for deep networks with magnitude constrained optimization.

    >>> drawn = FixedMagnitude(contrast=0.1).begin(torch.zeros(1, 3, 32, 32), None, seed=0).images()
    >>> drawn.mean().round(decimals=1), drawn.std().round(decimals=1)
    (tensor(0.5000), tensor(0.1000))
    """

    photos: Tensor | None = field(default=None, repr=False)
    bounds: tuple[float, float] = (0.0, 1.0)
    contrast: float = 0.2

    def __post_init__(self) -> None:
        check_bounds(self.bounds)

    def begin(self, like: Tensor, start: Tensor | None, seed: int) -> Canvas:
        _, channels, height, width = like.shape
        low, high = self.bounds
        middle = (low + high) / 2
        # Amplitudes are those of brightness, yellow-blue and green-magenta: colors of one place stay together.
        mix = _colors().to(like) if channels == 3 else torch.eye(channels).to(like)
        apart = mix.double().inverse().to(like)
        if self.photos is not None:
            if self.photos.ndim != 4 or self.photos.shape[1:] != like.shape[1:]:
                raise ValueError(
                    f"photos has the shape {tuple(self.photos.shape)}, expected N x {channels} x {height} x {width}, "
                    "the size of the image that is made"
                )
            given = torch.einsum("ij,njhw->nihw", apart, self.photos.detach().to(like) - middle)
            magnitude = torch.fft.rfft2(given, norm="ortho").abs().mean(0)
        else:
            magnitude = amplitudes(height, width, 1.0).to(like).expand(channels, -1, -1).clone()
            magnitude[:, 0, 0] = 0
            power = torch.fft.irfft2(magnitude.to(torch.complex64), s=(height, width), norm="ortho").square().mean()
            strength = self.contrast * (high - low) / mix.norm(dim=1).mean()
            magnitude = magnitude * strength / power.sqrt().clamp(min=1e-12).to(like)

        def draw(parameters: Parameters) -> Tensor:
            values = torch.fft.irfft2(torch.polar(magnitude, parameters[0]), s=(height, width), norm="ortho")
            values = torch.einsum("ij,njhw->nihw", mix, values)
            return squash(4 * values / (high - low), self.bounds)  # of slope 1 in the middle

        def read(images: Tensor) -> Parameters:
            values = torch.einsum("ij,njhw->nihw", apart, images - middle)
            return (torch.fft.rfft2(values, norm="ortho").angle(),)

        if start is None:
            parameters: Parameters = (math.pi * noise(like, (channels, height, width // 2 + 1), seed),)
        else:
            parameters = read(start.detach())
        return Canvas(parameters, draw, read)


@dataclass(frozen=True)
class Generator:
    """What a decoder makes of a code: the ascent is over codes, and images look like what it was trained on.

    image = net(code). The decoder's weights stay as they are.

    Args:
        net: a torch module in evaluation mode, from codes N x ... to images N x C x H x W: a `Decoder`, the shapes'
            `pellucid.shapes.generator()`, or any other.
        code: the shape of one code, without N; by default `net.code`.
        bounds: (low, high) of each number of the code, kept by clipping; None has none.
        start: codes to begin with, N x code or 1 x code; None draws them.
        noise: standard deviation of the codes that are drawn.

    Raises:
        ValueError: for a decoder in training mode, images to begin with, or a start of another shape.
        ModelError: if the decoder fails on its codes.

    Paper:
        Nguyen, Dosovitskiy, Yosinski, Brox & Clune 2016, Synthesizing the preferred inputs for neurons in neural
        networks via deep generator networks.

    >>> net = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.Unflatten(1, (1, 2, 2))).eval()
    >>> Generator(net, (2,)).begin(torch.zeros(3, 1, 2, 2), None, seed=0).images().shape
    torch.Size([3, 1, 2, 2])
    """

    net: Callable[[Tensor], Any] = field(repr=False)
    code: tuple[int, ...] = ()
    bounds: Bounds = None
    start: Tensor | None = field(default=None, repr=False)
    noise: float = 1.0

    def __post_init__(self) -> None:
        check_bounds(self.bounds)
        if isinstance(self.net, nn.Module):
            check_network(self.net)
        if not self.code:
            known = getattr(self.net, "code", None)
            if not isinstance(known, tuple):
                raise ValueError("the decoder does not say what its codes are: give their shape, Generator(net, (64,))")
            object.__setattr__(self, "code", known)

    def begin(self, like: Tensor, start: Tensor | None, seed: int) -> Canvas:
        if start is not None:
            raise ValueError(
                "a generator has no way back from an image to a code: leave out start=, or give the code to begin "
                "with as Generator(net, code, start=...)"
            )
        if self.start is None:
            codes = self.noise * noise(like, tuple(self.code), seed)
        else:
            given = self.start.detach().to(like)
            if given.shape[1:] != tuple(self.code) or len(given) not in (1, len(like)):
                raise ValueError(
                    f"Generator(start=...) has the shape {tuple(given.shape)}, expected {len(like)} x "
                    f"{' x '.join(map(str, self.code))}"
                )
            codes = given.expand(len(like), *self.code).clone()

        place = device_and_dtype(self.net)

        def draw(parameters: Parameters) -> Tensor:
            # The decoder may be of another type, or lie elsewhere, than the network that looks at what it draws.
            given = parameters[0].to(*place) if place else parameters[0]
            try:
                images = self.net(given)
            except (RuntimeError, ValueError, TypeError, IndexError, AttributeError) as error:
                raise ModelError(f"the decoder failed on codes of shape {tuple(given.shape)}: {error}") from error
            if not isinstance(images, Tensor) or images.ndim != 4 or len(images) != len(parameters[0]):
                got = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
                raise ValueError(f"the generator gave {got}, expected images N x C x H x W")
            return images.to(like)

        def bound(parameters: Parameters) -> None:
            if self.bounds is not None:
                parameters[0].clamp_(*self.bounds)

        canvas = Canvas((codes,), draw, None, bound if self.bounds else None)
        bound(canvas.parameters)
        return canvas


@dataclass(frozen=True)
class CPPN:
    """A small network from the place of a pixel to its color, whose weights are the parameters.

    Images are smooth and can be drawn at any size: larger ones by more steps between the same ends.

    Args:
        width, depth: neurons in a hidden layer, and hidden layers.
        bounds: (low, high) of valid pixels, kept by a sigmoid.
        extent: how far from the center the corners of a square image lie, in units of the coordinates.

    Paper:
        Stanley 2007, Compositional pattern producing networks; Mordvintsev, Pezzotti, Schubert & Olah 2018,
        Differentiable image parameterizations.

    >>> CPPN(width=4, depth=2).begin(torch.zeros(2, 3, 16, 24), None, seed=0).images().shape
    torch.Size([2, 3, 16, 24])
    """

    width: int = 24
    depth: int = 6
    bounds: tuple[float, float] = (0.0, 1.0)
    extent: float = 1.7

    def __post_init__(self) -> None:
        check_bounds(self.bounds)
        if self.width < 1 or self.depth < 1:
            raise ValueError(f"width and depth are {self.width} and {self.depth}, expected at least 1")

    def begin(self, like: Tensor, start: Tensor | None, seed: int) -> Canvas:
        if start is not None:
            raise ValueError("a CPPN has no way back from an image to its weights: leave out start=")
        _, channels, height, width = like.shape
        longer = max(height, width)
        y, x = (torch.linspace(-1, 1, n).to(like) * self.extent * n / longer for n in (height, width))
        places = torch.stack(torch.meshgrid(y, x, indexing="ij")).flatten(1)  # 2 x (H W)
        places = torch.cat([places, places.square().sum(0, keepdim=True).sqrt()])
        sizes = [len(places)] + [2 * self.width] * self.depth
        parameters: list[Tensor] = []
        for number, size in enumerate(sizes):
            last = number == self.depth
            out = channels if last else self.width
            # Of the two activations the mean square is about 0.6: weights that keep the variance of what goes in.
            spread = 0.3 if last else 1 / math.sqrt(size * (0.6 if number else 0.8))
            parameters.append(spread * noise(like, (out, size), seed + 7919 * (number + 1)))
            parameters.append(0.1 * noise(like, (out, 1), seed + 104729 * (number + 1)))

        def draw(given: Parameters) -> Tensor:
            values = places.expand(len(given[0]), -1, -1)
            for number in range(0, len(given), 2):
                values = torch.baddbmm(given[number + 1], given[number], values)
                if number < len(given) - 2:
                    bent = values.atan()
                    values = torch.cat([bent / 0.67, bent.square() / 0.6 - 0.75], 1)
            return squash(values.view(-1, channels, height, width), self.bounds)

        return Canvas(tuple(parameters), draw)


def amplitudes(height: int, width: int, decay: float) -> Tensor:
    """1 / f ^ decay for each frequency of `rfft2`, H x (W // 2 + 1), with f at least that of one wave an image.

    >>> amplitudes(2, 2, 1.0)
    tensor([[2.0000, 2.0000],
            [2.0000, 1.4142]])
    """
    y, x = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)[None]
    frequency: Tensor = (y.square() + x.square()).sqrt().clamp(min=1 / max(height, width))
    return frequency.pow(-decay)


def _colors() -> Tensor:
    """3 x 3: from brightness, yellow-blue and green-magenta to red, green and blue."""
    axes = torch.tensor(_AXES)
    scaled: Tensor = axes / axes.norm(dim=1, keepdim=True) * torch.tensor(_SPREADS)[:, None]
    return scaled.T
