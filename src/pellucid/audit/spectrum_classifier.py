"""Real or fake, by the spectrum: a small classifier whose every weight is a frequency."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..attribution.integrated_gradients import integrated_gradients
from ..checks import check_images
from ..display.colors import colorize
from ..display.figures import grid
from ..files.images import Size
from ..files.tensors import read_tensors, write_tensors
from ..methods.result import Attribution, Call
from ..model.classifier import Classifier, Preprocessing
from ..model.settings import current
from ..objectives import ObjectiveLike
from ..zoo.file_kinds import READERS
from .image_files.evaluation import Evaluation
from .image_files.file_classes import Classes, LabeledFiles, Split
from .image_files.pixels import Reading, at_once, check_size, each_image
from .image_files.split_pixels import read_apart
from .labeled_files import labeled_files, split
from .mean_spectra import PAPER
from .spectra.checkpoint import Epoch, check_training, recipe
from .spectra.fourier import check_eps, mirrored_sum, radii
from .spectra.network import Features, Head, SpectrumNet, Window, check_kind
from .spectra.training import train

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Files = LabeledFiles | str | Path | Sequence[str | Path]
_KIND = "a spectrum classifier"
_BATCH = 64


class SpectrumClassifier(Classifier):
    """Tells real images from fake ones, or generators from one another, by their frequencies.

    logits = W (log(|F(window x image)| + eps) - mean) / std + b, with the mean and the standard deviation of each
    frequency over the training images. It is a `Classifier`: images in [0, 1] in, logits out, so that every attribution
    works on it and goes back through the Fourier transform to the pixels. Made by `SpectrumClassifier.fit` or `.load`;
    `pellucid.load` knows its files too.

    Attributes:
        labels: names of the classes, real first.
        reading: how files become pixels.
        history: of the training, an `Epoch` each. best: the number of the one whose weights these are.
        about: how it was trained.

    Paper:
        Frank, Eisenhofer, Schönherr, Fischer, Kolossa & Holz 2020, Leveraging frequency analysis for deep fake image
        recognition; Durall, Keuper & Keuper 2020 for the azimuthal average.
    """

    net: SpectrumNet

    def __init__(self, net: SpectrumNet, reading: Reading, classes: Sequence[str], name: str = "") -> None:
        how = Preprocessing(size=(net.shape[1], net.shape[2]), channels=reading.channels)
        super().__init__(net.eval(), how, classes, name or f"{net.features}, {net.kind}")
        self.reading = reading
        self.history: tuple[Epoch, ...] = ()
        self.best = 0
        self.about: dict[str, Any] = {}

    @classmethod
    @torch.inference_mode(False)
    @torch.enable_grad()
    def fit(
        cls,
        files: Split | Files,
        *,
        features: Features = "spectrum",
        network: Head = "linear",
        classes: Classes = "binary",
        window: Window = "hann",
        eps: float | None = None,
        crop: Size | None = None,
        resize: Size | None = None,
        channels: int = 3,
        epochs: int = 100,
        patience: int = 3,
        weight_decay: float = 0.0,
        rate: float = 1e-3,
        batch: int = 64,
        checkpoint: str | Path | None = None,
        seed: int = 0,
    ) -> SpectrumClassifier:
        """Train a classifier on folders of real and fake images.

        Cross-entropy, each class counting alike; it stops when the validation loss no longer falls and keeps the
        weights of the best epoch. One layer is fitted by L-BFGS (Nocedal 1980), ten steps over all images in an epoch;
        convolutions by AdamW, one pass over shuffled batches in an epoch. The test files are looked at only to keep
        what is the same picture out of the others.

        Args:
            files: a `pellucid.audit.split`, or folders for it, which are split by its defaults.
            features: "spectrum" (log-amplitudes), "azimuthal" (their mean over directions), or "pixels".
            network: "linear", one layer; or "cnn", three convolutions and one layer.
            classes: as for `labeled_files`, where folders are given.
            window: "hann" fades images out towards their borders before the Fourier transform, which takes the step
                from the right border to the left one for a part of the picture; or "none". Pixels have none.
            eps: added to amplitudes; by default sqrt(sum of window^2 / 12) / 255, the amplitude of rounding to 8 bits,
                for what is below that is noise.
            crop, resize, channels: as for `mean_spectra`.
            epochs: at most. patience: how many without a better one end it.
            weight_decay: for one layer, this times half the sum of the squared weights is added to the loss; for
                convolutions that of AdamW.
            rate, batch: of convolutions alone: of learning, and images in a step.
            checkpoint: a .safetensors file to keep the training in, every few seconds. The same call goes on from
                there after an interruption or a kill, and ends as if there had been none.
            seed: of the order and, for convolutions, the first weights; where folders are given also of their split.

        Returns:
            The classifier in evaluation mode, on the device of `pellucid.settings`. After Ctrl-C without a checkpoint,
            that of the best epoch so far.

        Raises:
            FileNotFoundError: for a folder that does not exist.
            ValueError: for options out of their range, images of different sizes, classes without an image, or a
                checkpoint of another training.

        Warns:
            UserWarning: of files that cannot be read, and of pictures that are in more than one of the three sets: they
                are left out of training.

        >>> import tempfile
        >>> from pellucid.files.images import write_image
        >>> from pellucid.shapes import scenes
        >>> root = Path(tempfile.mkdtemp())
        >>> for number, image in enumerate(scenes(12).images[:, :, :32, :32]):
        ...     write_image(image, root / "A_scenes" / f"{number}.png")
        ...     twice = image[:, ::2, ::2].repeat_interleave(2, 1).repeat_interleave(2, 2)
        ...     write_image(twice, root / "B_upsampled" / f"{number}.png")
        >>> model = SpectrumClassifier.fit(split(root, 8, 2, 2), epochs=3)
        >>> model.labels, model(scenes(1).images[:, :, :32, :32]).shape
        (('real', 'fake'), torch.Size([1, 2]))
        """
        check_kind(features, network, window)
        _check_training(eps, epochs, patience, weight_decay, rate, batch)
        parts = files if isinstance(files, Split) else split(files, classes=classes, seed=seed)
        reading = Reading(crop, resize, channels)
        how: dict[str, Any] = {
            "epochs": epochs, "patience": patience, "rate": rate, "weight_decay": weight_decay, "batch": batch,
            "seed": seed,
        }  # fmt: skip
        made_of, kept = "", None
        if checkpoint is not None:
            made_of, kept = recipe(parts, [features, network, window, eps, asdict(reading), how]), Path(checkpoint)
            check_training(kept, made_of)
        learned, held_out, failures, duplicates = read_apart(parts, reading)
        shape = (learned[0].values.shape[1], learned[0].values.shape[2], learned[0].values.shape[3])
        start = time.perf_counter()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            net = SpectrumNet(features, network, shape, len(parts.classes), eps, window).eval()
        history, best = train(
            net, learned, held_out, **how, device=torch.device(current().device), checkpoint=kept, made_of=made_of
        )
        model = cls(net, reading, parts.classes)
        model.history, model.best = tuple(history), best
        model.about = {
            "trained_on": len(learned[0]), "validated_on": len(held_out[0]), **how, "split_seed": parts.seed,
            "seconds": time.perf_counter() - start, "failures": failures, "duplicates": duplicates,
        }  # fmt: skip
        return model

    def evaluate(self, files: Files, *, classes: Classes | None = None) -> Evaluation:
        """What it says of files whose classes are known.

        Args:
            files: the test part of a split, or folders as for `labeled_files`.
            classes: as for `labeled_files`, where folders are given; by default what fits the classes.

        Returns:
            An `Evaluation`: .accuracy and .by_origin with confidence intervals, .confusion, .auc, .table().

        Raises:
            ValueError: for files of other classes or sizes.

        >>> import tempfile
        >>> from pellucid.audit import upsampled_photos
        >>> parts = split(upsampled_photos(tempfile.mkdtemp(), ["nearest"], size=16, most=40), 24, 4, 12)
        >>> model = SpectrumClassifier.fit(parts, epochs=2)
        >>> model.evaluate(parts.test)
        Evaluation(24 images, 100.0% (86.2% to 100.0%) correctly classified, chance 50.0%)
        """
        if not isinstance(files, LabeledFiles):
            paths = [files] if isinstance(files, (str, Path)) else list(files)
            usual: Classes = "binary" if len(self.labels) == 2 else "folders"
            files = labeled_files(*paths, classes=classes or usual)
        if tuple(files.classes) != self.labels:
            raise ValueError(
                f"the files are of {', '.join(files.classes)}; the classifier knows {', '.join(self.labels)}"
            )
        start = time.perf_counter()
        device = self.net.mean.device
        rows: list[int] = []
        group: list[Tensor] = []
        parts: list[Tensor] = []
        failures: list[tuple[str, str]] = []

        def look() -> None:
            with torch.no_grad():
                parts.append(self(torch.stack(group).to(device)).double().softmax(1).cpu())
            group.clear()

        size = (self.net.shape[1], self.net.shape[2])
        for number, image, reason in each_image(files.files, self.reading, size=size, label="evaluate"):
            if image is None:
                failures.append((str(files.files[number]), reason))
                continue
            rows.append(number)
            group.append(image)
            if len(group) == at_once(image.numel(), _BATCH):
                look()
        if group:
            look()
        if not rows:
            raise ValueError(f"none of {len(files)} images can be read: {failures[0][1] if failures else 'no files'}")
        seen = files.rows(rows)
        call = Call("evaluate", {}, "class", self.name, PAPER, time.perf_counter() - start, len(rows), 0)
        return Evaluation(
            torch.tensor(seen.labels), torch.cat(parts), seen.classes, tuple(map(str, seen.files)), seen.origins,
            tuple(failures), call=call,
        )  # fmt: skip

    def explain(self, images: Tensor, objective: ObjectiveLike = None, *, steps: int = 32) -> Attribution:
        """Which pixels make an image's spectrum what it is: integrated gradients through the Fourier transform.

        The path goes from what has the same phases and the mean amplitudes of the training images to the image itself,
        both under the window. Amplitudes then change along a line and phases stay, so that few steps add up to the
        change of the objective; from black or gray they would not, since log |F| falls without end where nothing is
        left.

        Args:
            images: N x C x H x W in [0, 1].
            objective: what to explain; None is the predicted class.
            steps: along the path.

        Returns:
            An `Attribution` with its convergence delta.

        Raises:
            ValueError: for images of another shape, NaN, or an unknown objective.

        Paper:
            Sundararajan, Taly & Yan 2017, Axiomatic attribution for deep networks.

        >>> import tempfile
        >>> from pellucid.audit import upsampled_photos
        >>> parts = split(upsampled_photos(tempfile.mkdtemp(), ["nearest"], size=16, most=20), 14, 2, 4)
        >>> model = SpectrumClassifier.fit(parts, epochs=1)
        >>> found = model.explain(model.read(list(parts.test.files[:2])), "fake")
        >>> found.values.shape, bool((found.gap.abs() < 0.01).all())
        (torch.Size([2, 3, 16, 16]), True)
        """
        start = self.baseline(images)
        inner = Classifier(self.net.without_window(), self.preprocessing, self.labels, self.name)
        found: Attribution = integrated_gradients(
            inner, self.net.under_window(images), objective, baseline=start, steps=steps, convergence_delta=True
        )
        assert found.call is not None
        options = {**found.call.options, "baseline": "phases of the image, mean amplitudes"}
        return replace(found, images=images.detach(), call=replace(found.call, options=options))

    def baseline(self, images: Tensor) -> Tensor:
        """What the network sees under its window, with the mean amplitudes of the training images and its own phases.

        Of pixels, their mean.
        """
        check_images(images, channels=self.net.shape[0])
        mean = self.net.mean.detach().to(images)
        if self.net.features == "pixels":
            return mean.expand_as(images)
        width = images.shape[3]
        spectrum = torch.fft.rfft2(self.net.under_window(images.detach()))
        if self.net.features == "azimuthal":
            own = (spectrum.abs() + self.net.eps).log()
            circles = radii(images.shape[2], width).to(images.device)
            wanted = own + (mean - self.net.seen(images))[..., circles]
        elif self.net.kind == "cnn":
            wanted = torch.fft.ifftshift(mean, (1, 2))[..., : width // 2 + 1]
        else:
            wanted = mean
        amplitudes = (wanted.exp() - self.net.eps).clamp(min=0)
        phases = torch.where(spectrum.abs() > 0, spectrum / spectrum.abs().clamp(min=1e-30), 1)
        made: Tensor = torch.fft.irfft2(amplitudes * phases, s=images.shape[2:])
        return made

    def weights(self) -> Tensor:
        """What each normalized element adds to a class, less the mean over classes.

        Returns:
            K x C x H x W: of the spectrum by frequency, with 0 in the middle; of pixels by place. K x C x R of the
            azimuthal average, by frequency.

        Raises:
            ValueError: for a network of convolutions.
        """
        return self.net.weight_pictures().cpu()

    def contributions(self, images: Tensor, objective: int | None = None) -> Tensor:
        """What each frequency (or pixel) of an image adds to a class: weights x normalized elements.

        Their sum, with what the biases add, is the logit less the mean of all logits.

        Args:
            images: N x C x H x W in [0, 1].
            objective: a class, of all images; None is the predicted class of each.

        Returns:
            N x C x H x W (frequency 0 in the middle), or N x C x R.
        """
        check_images(images, channels=self.net.shape[0], pixels=True)
        with torch.no_grad():
            images = images.to(self.net.mean)
            seen = self.net.normalized(self.net.seen(images))
            if self.net.kind != "linear":
                raise ValueError("a network of convolutions adds nothing frequency by frequency: use explain")
            weight = self.net.linear.weight.reshape(-1, *self.net.size)
            weight = weight - weight.mean(0)
            classes = self(images).argmax(1) if objective is None else torch.full((len(images),), objective)
            found = weight[classes] * seen
        return mirrored_sum(found, images.shape[3]) if self.net.features == "spectrum" else found

    def figure(self) -> Figure:
        """Its weights as pictures, one for each class: red speaks for it, blue against it."""
        weights = self.weights()
        if weights.ndim == 3:
            return self._curves(weights)
        pictures = list(colorize(weights.float(), signed=True, shared=True))
        where = "frequency 0 in the middle" if self.net.features == "spectrum" else "pixels"
        return grid(pictures, list(self.labels), columns=4, caption=f"weights of {self.name}; {where}", inches=3.0)

    def _curves(self, weights: Tensor) -> Figure:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6, 3.4), dpi=130, layout="constrained")
        axis = figure.subplots()
        for name, curve in zip(self.labels, weights.mean(1), strict=True):
            axis.plot([i / min(self.net.shape[1:]) for i in range(len(curve))], curve, label=name)
        axis.axhline(0, color="0.6", linewidth=0.6)
        axis.set_xlabel("frequency, cycles per pixel", fontsize=8)
        axis.set_ylabel("weight, mean over channels", fontsize=8)
        for text in axis.legend(fontsize=8, frameon=False).get_texts():
            text.set_parse_math(False)
        return figure

    def read_one(self, path: str | Path) -> Tensor:
        """One file as it was read in training: C x H x W in [0, 1].

        Raises:
            ValueError: for another size.
        """
        image = self.reading.one(Path(path))
        check_size(Path(path), (image.shape[1], image.shape[2]), (self.net.shape[1], self.net.shape[2]))
        return image

    def save(self, path: str | Path) -> Path:
        """Write it to a .safetensors file, whole or not at all.

        Raises:
            ValueError: for another ending.
        """
        net = self.net
        about = {
            "features": net.features, "network": net.kind, "shape": net.shape, "eps": net.eps, "window": net.windowed,
            "classes": self.labels, "reading": asdict(self.reading), "name": self.name, "best": self.best,
            "about": self.about, "history": [asdict(epoch) for epoch in self.history],
        }  # fmt: skip
        return write_tensors(path, _KIND, net.state_dict(), about)

    @classmethod
    def load(cls, path: str | Path) -> SpectrumClassifier:
        """A classifier from a file that `save` wrote; no code in the file is run.

        Raises:
            FileNotFoundError: if there is none.
            ValueError: if the file is damaged or something else.
        """
        tensors, about = read_tensors(path, _KIND)
        try:
            channels, height, width = about["shape"]
            with torch.random.fork_rng(devices=[]):
                net = SpectrumNet(
                    about["features"], about["network"], (channels, height, width), len(about["classes"]), about["eps"],
                    about["window"],
                )  # fmt: skip
            net.load_state_dict(tensors)
            how = about["reading"]
            crop, resize = (tuple(how[k]) if isinstance(how[k], list) else how[k] for k in ("crop", "resize"))
            model = cls(net, Reading(crop, resize, how["channels"]), about["classes"], about["name"])
            model.history = tuple(Epoch(**epoch) for epoch in about["history"])
            model.best, model.about = about["best"], about["about"]
        except (KeyError, TypeError, RuntimeError, ValueError) as error:
            raise ValueError(f"{path} does not fit together: {' '.join(str(error).split())[:200]}") from error
        model.to(current().device)
        return model.eval()


READERS[_KIND] = SpectrumClassifier.load


def _check_training(
    eps: float | None, epochs: int, patience: int, weight_decay: float, rate: float, batch: int
) -> None:
    if eps is not None:
        check_eps(eps)
    for name, value in (("epochs", epochs), ("patience", patience), ("batch", batch)):
        if value < 1:
            raise ValueError(f"{name} is {value}, expected at least 1")
    if not 0 <= weight_decay < float("inf"):
        raise ValueError(f"weight_decay is {weight_decay}, expected 0 or a number above it")
    if not 0 < rate < float("inf"):
        raise ValueError(f"rate is {rate}, expected a number above 0")
