"""Quilting a texture pixel by pixel from its nearest neighborhoods; no network is needed."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..checks import check_images
from ..methods.result import Call
from ..methods.verb import verb
from ..model.batches import progress
from .ascent.result import Synthesis

AT_ONCE = 64  # pixels filled together: none lies in the window of another


@verb(paper="Efros & Leung 1999, Texture synthesis by non-parametric sampling")
def quilt(
    sample: Tensor,
    *,
    size: int | tuple[int, int] | None = None,
    window: int = 11,
    tolerance: float = 0.1,
    sigma: float | None = None,
    seed: int = 0,
) -> Synthesis:
    """More of a texture: each new pixel is one of the sample whose surroundings look like those already there.

    From a 3 x 3 piece of the sample outwards: for the pixel with most known neighbors, all windows of the sample are
    compared with what is known of its window, by the sum of squared differences under a Gaussian; of those within
    (1 + tolerance) of the least, one is drawn, and its middle is the pixel. Pixels whose windows do not hold one
    another are filled at a time, which changes nothing but the order.

    Args:
        sample: 1 x C x h x w, at least as large as the window.
        size: height and width of what is made; by default those of the sample.
        window: side of the neighborhood, odd; as large as the largest regular feature of the texture.
        tolerance: how much worse than the best a neighborhood may be; 0 takes the best.
        sigma: of the Gaussian, in pixels; window / 6.4 by default.
        seed: of the draws.

    Returns:
        A `Synthesis` of one image, all of whose pixels are pixels of the sample.

    Raises:
        ValueError: for a sample smaller than the window, an even window, or a negative tolerance.

    Paper:
        Efros & Leung 1999, Texture synthesis by non-parametric sampling.

    >>> stripes = torch.tensor([0.0, 1.0]).repeat(8).expand(1, 1, 16, 16)
    >>> quilt(stripes, size=8, window=5).images[0, 0, 0].diff().abs().unique()
    tensor([1.])
    """
    check_images(sample)
    if len(sample) != 1:
        raise ValueError(f"quilt takes one sample, got {len(sample)}")
    height, width = (size, size) if isinstance(size, int) else size or (sample.shape[2], sample.shape[3])
    if window < 3 or window % 2 == 0:
        raise ValueError(f"window is {window}, expected an odd number from 3")
    if min(sample.shape[2:]) < window:
        raise ValueError(
            f"the sample is {sample.shape[2]} x {sample.shape[3]}, smaller than the window of {window}: take a smaller "
            "window"
        )
    if not tolerance >= 0 or (sigma is not None and not sigma > 0) or min(height, width) < 3:
        raise ValueError("expected a tolerance from 0, a sigma above 0, and a size of at least 3")
    interrupted = False
    generator = torch.Generator().manual_seed(seed)
    spread = sigma or window / 6.4
    canvas = _Quilt(sample[0].detach().cpu().float(), height, width, window, spread, tolerance, generator)
    try:
        with progress(height * width, "quilt", "pixel") as advance:
            while more := canvas.fill():
                advance(more)
    except KeyboardInterrupt:
        interrupted = True
    y, x = canvas.sources
    image = sample.detach()[:, :, y.clamp(min=0).to(sample.device), x.clamp(min=0).to(sample.device)]
    known = (y >= 0).to(sample.device)
    image = torch.where(known, image, sample.mean((2, 3), keepdim=True))
    options = {"size": (height, width), "window": window, "tolerance": tolerance, "sigma": sigma, "seed": seed}
    call = Call(options=options, objective=f"a sample of {sample.shape[2]} x {sample.shape[3]}", model="no network")
    steps = int(known.sum())
    return Synthesis(image, titles=("quilt",), steps=steps, seed=seed, interrupted=interrupted, call=call)


class _Quilt:
    """The image as it grows: what is known, and from which pixel of the sample it was taken."""

    def __init__(
        self,
        sample: Tensor,
        height: int,
        width: int,
        window: int,
        sigma: float,
        tolerance: float,
        generator: torch.Generator,
    ) -> None:
        self.reach, self.window, self.tolerance, self.generator = window // 2, window, tolerance, generator
        channels = len(sample)
        self.sample = sample
        self.patches = F.unfold(sample[None], window)[0].T.contiguous()  # P x (C window^2)
        self.squares = self.patches.square()
        across = sample.shape[2] - window + 1
        places = torch.arange(len(self.patches))
        self.centers = torch.stack([places // across, places % across]) + self.reach
        offsets = torch.arange(window) - self.reach
        line = torch.exp(-offsets.square() / (2 * sigma**2))
        self.weights = (line[:, None] * line).flatten().repeat(channels)
        self.image = torch.zeros(channels, height + 2 * self.reach, width + 2 * self.reach)  # with a margin
        self.known = torch.zeros(height + 2 * self.reach, width + 2 * self.reach, dtype=torch.bool)
        self.inside = torch.zeros_like(self.known)
        self.inside[self.reach : self.reach + height, self.reach : self.reach + width] = True
        self.source = torch.full((2, *self.known.shape), -1)
        self._plant(height, width)

    @property
    def sources(self) -> Tensor:
        """2 x height x width: row and column in the sample; -1 where nothing is known yet."""
        r = self.reach
        return self.source[:, r : self.source.shape[1] - r, r : self.source.shape[2] - r]

    def _plant(self, height: int, width: int) -> None:
        """A 3 x 3 piece of the sample in the middle."""
        y, x = (int(torch.randint(n - 2, (), generator=self.generator)) for n in self.sample.shape[1:])
        top, left = self.reach + height // 2 - 1, self.reach + width // 2 - 1
        self.image[:, top : top + 3, left : left + 3] = self.sample[:, y : y + 3, x : x + 3]
        self.known[top : top + 3, left : left + 3] = True
        piece = torch.stack(torch.meshgrid(torch.arange(y, y + 3), torch.arange(x, x + 3), indexing="ij"))
        self.source[:, top : top + 3, left : left + 3] = piece

    def fill(self) -> int:
        """Fill the pixels with most known neighbors that do not see one another; how many, 0 at the end."""
        known = self.known.float()[None, None]
        near = F.max_pool2d(known, 3, 1, 1)[0, 0].bool() & ~self.known & self.inside
        if not near.any():
            return 0
        counts = F.avg_pool2d(known, self.window, 1, self.reach)[0, 0].mul(self.window**2)
        places = near.nonzero()
        order = counts[near].argsort(descending=True, stable=True)
        places = self._apart(places[order])
        y, x = places.unbind(1)
        offsets = torch.arange(self.window) - self.reach
        rows = (y[:, None] + offsets)[:, :, None].expand(-1, -1, self.window).flatten(1)
        columns = (x[:, None] + offsets)[:, None].expand(-1, self.window, -1).flatten(1)
        there = self.known[rows, columns].float().repeat(1, len(self.image))  # K x (C window^2)
        values = self.image[:, rows, columns].transpose(0, 1).flatten(1)
        weights = there * self.weights
        weighted = weights * values
        # sum of w (s - t)^2 for every window s of the sample: two matrix products.
        distance = torch.addmm(weights @ self.squares.T, weighted, self.patches.T, alpha=-2)
        distance += (weighted * values).sum(1, keepdim=True)
        distance = distance.clamp_(min=0) / weights.sum(1, keepdim=True)
        least = distance.amin(1, keepdim=True)
        near_best = distance <= least * (1 + self.tolerance) + 1e-7
        chances = torch.rand(near_best.shape, generator=self.generator) * near_best
        pick = chances.argmax(1)
        origin = self.centers[:, pick]
        self.image[:, y, x] = self.sample[:, origin[0], origin[1]]
        self.source[:, y, x] = origin
        self.known[y, x] = True
        return len(places)

    def _apart(self, places: Tensor) -> Tensor:
        """Places, in their order, none of which lies in the window of one that is kept."""
        free = torch.ones_like(self.known)
        kept = []
        for y, x in places.tolist():
            if free[y, x]:
                kept.append((y, x))
                if len(kept) == AT_ONCE:
                    break
                r = self.reach
                free[max(0, y - r) : y + r + 1, max(0, x - r) : x + r + 1] = False
        return torch.tensor(kept)
