"""Which frequencies real and fake images have on average, and where they differ."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..checks import warn
from ..display.figures import plain as printable
from ..files.images import Size
from ..methods.options import to_record
from ..methods.result import Call
from ..methods.tabular import Tabular
from ..methods.verb import verb
from .image_files.pixels import Reading
from .spectra.average_spectrum import AverageSpectrum, Images, average_spectrum
from .spectra.fourier import EPS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAPER = (
    "Frank, Eisenhofer, Schönherr, Fischer, Kolossa & Holz 2020, Leveraging frequency analysis for deep fake image "
    "recognition"
)


@dataclass(frozen=True, eq=False)
class MeanSpectra(Tabular):
    """The mean log-spectra of real and of fake images.

    real, fake: an `AverageSpectrum` each: means and standard deviations of the spectrum, of its row average and of its
        average over directions.
    names: what the two are called.
    """

    real: AverageSpectrum
    fake: AverageSpectrum
    names: tuple[str, str] = ("real", "fake")
    call: Call | None = None

    @property
    def difference(self) -> Tensor:
        """fake - real, C x H x W, frequency 0 in the middle: log of the ratio of amplitudes."""
        return self.fake.mean - self.real.mean

    @property
    def significance(self) -> Tensor:
        """The difference over its standard error, C x H x W: beyond 5 or so it is no accident."""
        error = self.real.std.square() / self.real.count + self.fake.std.square() / self.fake.count
        return self.difference / error.sqrt().clamp(min=torch.finfo(error.dtype).tiny)

    @property
    def failures(self) -> tuple[tuple[str, str], ...]:
        """Files that could not be read, and why."""
        return self.real.failures + self.fake.failures

    def tensors(self) -> dict[str, Tensor]:
        """All means and standard deviations, by name: real_mean, real_std, real_rows, ..."""
        names = ("mean", "std", "rows", "rows_std", "circles", "circles_std")
        sides = {"real": self.real, "fake": self.fake}
        values = {f"{side}_{name}": getattr(one, name) for side, one in sides.items() for name in names}
        return {**values, "difference": self.difference}

    def rows(self) -> list[dict[str, Any]]:
        """The row averages as rows of a table: frequency in cycles per pixel, channel, mean and std of both."""
        channels, width = self.real.rows.shape
        numbers = zip(*(t.tolist() for t in (self.real.rows, self.real.rows_std, self.fake.rows, self.fake.rows_std)),
                      strict=True)  # fmt: skip
        return [
            {
                "channel": channel, "frequency": (place - width // 2) / width, "real_mean": a, "real_std": b,
                "fake_mean": c, "fake_std": d,
            }
            for channel, four in zip(range(channels), numbers, strict=True)
            for place, (a, b, c, d) in enumerate(zip(*four, strict=True))
        ]  # fmt: skip

    def figure(self, **options: Any) -> Figure:
        """Both mean spectra, their difference, and both row averages with a band of one standard deviation.

        Spectra are means over channels; so is the band, of the channels' standard deviations.

        Args:
            options: shown, "all" (the default), "real", "fake", "difference" or "curves"; curve, "rows" (the default)
                or "circles".
        """
        curve, shown = options.pop("curve", "rows"), options.pop("shown", "all")
        if options:
            raise TypeError(f"the figure has no option {next(iter(options))!r}; there are curve and shown")
        if curve not in ("rows", "circles"):
            raise ValueError(f"curve is {curve!r}, expected 'rows' or 'circles'")
        parts = ("real", "fake", "difference")
        if shown not in ("all", "curves", *parts):
            raise ValueError(f"shown is {shown!r}, expected 'all', 'curves', {', '.join(map(repr, parts))}")
        from matplotlib.figure import Figure

        if shown == "curves":
            figure = Figure(figsize=(4.8, 3.2), dpi=130, layout="constrained")
            self._draw_curve(figure.subplots(), curve)
        elif shown in parts:
            figure = Figure(figsize=(3.6, 3.0), dpi=130, layout="constrained")
            self._draw_spectrum(figure, figure.subplots(), shown)
        else:
            figure = Figure(figsize=(9.6, 7.0), dpi=130, layout="constrained")
            upper, lower = figure.subfigures(2, 1, squeeze=False, height_ratios=[0.85, 1])[:, 0]
            for axis, part in zip(upper.subplots(1, 3), parts, strict=True):
                self._draw_spectrum(upper, axis, part)
            self._draw_curve(lower.subplots(), curve)
            if self.call:
                figure.supxlabel(printable(str(self.call)), fontsize=7, color="0.4", parse_math=False, wrap=True)
        return figure

    def _draw_spectrum(self, figure: Any, axis: Any, part: str) -> None:
        real, fake = self.real.mean.mean(0).numpy(), self.fake.mean.mean(0).numpy()
        if part == "difference":
            values, title, colors = fake - real, f"{self.names[1]} - {self.names[0]}", "seismic"
            # Frequencies that one side lacks altogether are off by 25 or so, and would leave all else white.
            usual, most = np.percentile(np.abs(values), [75, 99.8])
            high = max(min(float(most), 5 * float(usual)), 1e-12)
            low = -high
        else:
            values, side, name = (real, self.real, 0) if part == "real" else (fake, self.fake, 1)
            title, colors = f"{self.names[name]} ({side.count})", "magma"
            low, high = np.percentile(np.concatenate([real.ravel(), fake.ravel()]), [0.2, 99.8])
            low = max(low, np.percentile(real, 0.2) - 2)
        drawn = axis.imshow(
            values, cmap=colors, vmin=low, vmax=high, extent=(-0.5, 0.5, 0.5, -0.5),
            aspect=values.shape[0] / values.shape[1], interpolation="nearest",
        )  # fmt: skip
        axis.set_title(printable(title), fontsize=9, parse_math=False)
        axis.set_xticks([-0.5, 0, 0.5])
        axis.set_yticks([-0.5, 0, 0.5])
        axis.tick_params(labelsize=7)
        axis.set_xlabel("cycles per pixel", fontsize=7)
        figure.colorbar(drawn, ax=axis, shrink=0.8).ax.tick_params(labelsize=7)

    def _draw_curve(self, axis: Any, curve: str) -> None:
        short = min(self.real.mean.shape[1:])
        for side, name, color in ((self.real, self.names[0], "tab:blue"), (self.fake, self.names[1], "tab:orange")):
            mean, std = getattr(side, curve).mean(0), getattr(side, f"{curve}_std").mean(0)
            count = len(mean)
            steps = np.arange(count)
            x = (steps - count // 2) / count if curve == "rows" else steps / short
            axis.plot(x, mean, color=color, label=name, linewidth=1.2)
            axis.fill_between(x, mean - std, mean + std, color=color, alpha=0.2, linewidth=0)
        axis.set_xlabel(
            "horizontal frequency, cycles per pixel" if curve == "rows" else "frequency, cycles per pixel", fontsize=8
        )
        axis.set_ylabel("mean of log |F|" + (" over rows" if curve == "rows" else " over directions"), fontsize=8)
        axis.tick_params(labelsize=7)
        axis.spines[["top", "right"]].set_visible(False)
        axis.margins(x=0)
        least = float((getattr(self.real, curve).mean(0) - getattr(self.real, f"{curve}_std").mean(0)).min())
        axis.set_ylim(bottom=max(axis.get_ylim()[0], least - 3))  # what is lacking altogether lies at log eps
        axis.set_title("mean over images; bands are one standard deviation", fontsize=8, color="0.4")
        for text in axis.legend(fontsize=8, frameon=False).get_texts():
            text.set_parse_math(False)

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self.real.mean.shape))
        return f"MeanSpectra({shape}, {self.real.count} {self.names[0]}, {self.fake.count} {self.names[1]})"


@verb(paper=PAPER)
def mean_spectra(
    real: Images,
    fake: Images,
    *,
    eps: float = EPS,
    crop: Size | None = None,
    resize: Size | None = None,
    channels: int = 3,
    checkpoint: str | Path | None = None,
) -> MeanSpectra:
    """The mean and the standard deviation of the log-spectra of real and of fake images, and what lies between them.

    mean = (1 / N) sum over images of log(|F| + eps). Images are read one after another, in memory that does not grow
    with their number; sums are float64 and kept as means and squared distances from them (Chan, Golub & LeVeque 1983),
    so that nothing is lost where the spread is small beside the mean. All images have one size.

    Args:
        real, fake: a folder (or files) each, or N x C x H x W.
        eps: as for `log_spectrum`.
        crop: the square, or height and width, that is cut from the center of files; pixels stay as they are.
        resize: the shorter side that files are scaled to first, or height and width; scaling has a spectrum of its own.
        channels: 3, or 1 for gray.
        checkpoint: a folder to keep the sums in; the same call goes on from there after an interruption.

    Returns:
        `MeanSpectra`: .real, .fake (each with .mean, .std, .rows, .circles), .difference, .significance, .show().

    Raises:
        FileNotFoundError: for a folder that does not exist, or one without images.
        ValueError: for images of different sizes, NaN, or none that can be read.

    Warns:
        UserWarning: if files cannot be read; `.failures` names all.

    Paper:
        Frank, Eisenhofer, Schönherr, Fischer, Kolossa & Holz 2020, Leveraging frequency analysis for deep fake image
        recognition.

    >>> import pellucid
    >>> images = pellucid.shapes.scenes(4).images
    >>> every_other_row_twice = images[:, :, ::2].repeat_interleave(2, 2)
    >>> found = pellucid.mean_spectra(images, every_other_row_twice)
    >>> found, found.difference.shape
    (MeanSpectra(3 x 96 x 96, 4 real, 4 fake), torch.Size([3, 96, 96]))
    """
    reading = Reading(crop, resize, channels)
    folder = None if checkpoint is None else Path(checkpoint)
    sides: list[AverageSpectrum] = []
    size = None
    for images, name in ((real, "real"), (fake, "fake")):
        kept = None if folder is None else folder / f"{name}.safetensors"
        one = average_spectrum(images, eps=eps, reading=reading, size=size, checkpoint=kept, label=f"spectra, {name}")
        if sides and one.mean.shape != sides[0].mean.shape:
            shapes = [" x ".join(map(str, side.mean.shape)) for side in (sides[0], one)]
            raise ValueError(f"real images are {shapes[0]} and fake ones {shapes[1]}: they must have one shape")
        sides.append(one)
        size = (one.mean.shape[1], one.mean.shape[2])
    options = {"eps": eps, "crop": crop, "resize": resize, "channels": channels}
    call = Call(
        options={name: to_record(value) for name, value in options.items()},
        objective="fake",
        model="real",
    )
    found = MeanSpectra(sides[0], sides[1], call=call)
    if found.failures:
        name, reason = found.failures[0]
        warn(f"{len(found.failures)} files could not be read and are left out, the first: {name}: {reason}")
    return found
