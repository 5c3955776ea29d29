"""Real and fake images by their spectra, all in one go: means, a classifier, and whether to trust it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..files.images import Size
from ..methods.result import Attribution, Call
from ..methods.verb import verb
from .confounds import confounds
from .image_files.confounds_result import Confounds
from .image_files.evaluation import Evaluation
from .image_files.file_classes import Classes, LabeledFiles, Split
from .image_files.pixels import Reading
from .labeled_files import halves, labeled_files, split
from .mean_spectra import PAPER, MeanSpectra
from .spectra.average_spectrum import AverageSpectrum, average_spectrum
from .spectra.checkpoint import recipe
from .spectra.network import Features, Head, Window, check_kind
from .spectra.resumable import CONFOUNDS, CONTROL, TRAINING, kept_confounds, kept_in
from .spectra.resumable import spectra as spectra_file
from .spectrum_classifier import SpectrumClassifier

FEW = 0.2  # an interval so wide says nothing; that of 100 images is narrower
_OF_EACH = 2  # examples of each origin that are correctly classified
_WRONG = 4  # and as many that are not, in all


@dataclass(frozen=True, eq=False)
class Example:
    """An image of the test set explained.

    image: C x H x W. file, origin, true, predicted: what it is and was taken for, with probability.
    attribution: of the predicted class, to the pixels. frequencies: what each frequency adds, H x W or None.
    """

    image: Tensor = field(repr=False)
    file: str
    origin: str
    true: str
    predicted: str
    probability: float
    attribution: Attribution = field(repr=False)
    frequencies: Tensor | None = field(repr=False)


@dataclass(frozen=True, eq=False)
class SpectrumAudit:
    """What `spectrum_audit` found.

    parts: the split. spectra: for each generator, its mean spectrum beside that of the real images.
    classifier, evaluation: trained, and measured on the test files. control: the evaluation of the same training on two
    halves of the real images, or None. confounds: traits that give the classes away without a spectrum.
    examples: images of the test set explained.
    """

    parts: Split
    spectra: dict[str, MeanSpectra]
    classifier: SpectrumClassifier
    evaluation: Evaluation
    control: Evaluation | None
    confounds: Confounds
    examples: tuple[Example, ...]

    @property
    def failures(self) -> tuple[tuple[str, str], ...]:
        """Files that could not be read, each once."""
        about = [tuple(pair) for pair in self.classifier.about.get("failures", ())]
        sides = [pair for one in self.spectra.values() for pair in one.failures]
        found = dict([*about, *sides, *self.evaluation.failures, *self.confounds.failures])
        return tuple(sorted(found.items()))

    @property
    def control_holds(self) -> bool | None:
        """Whether chance lies in the control's interval; None without a control."""
        if self.control is None:
            return None
        return self.control.accuracy.low <= self.control.chance <= self.control.accuracy.high

    def verdict(self) -> str:
        """What the numbers mean, in a few sentences."""
        share, chance = self.evaluation.accuracy, self.evaluation.chance
        seen = f"{share} of {share.count} test images are correctly classified."
        if share.low > chance:
            said = f"The classes can be told apart: {seen}"
        elif share.high - share.low > FEW:
            said = f"Whether the classes can be told apart cannot be said from so few images: {seen}"
        else:
            said = f"The classes cannot be told apart: {seen}"
        if self.control is not None:
            half = self.control.accuracy
            said += (
                f" Two halves of the real images are not told apart ({half}), as it should be."
                if self.control_holds
                else f" But two halves of the real images are told apart too, or confused beyond chance ({half}): "
                "look for duplicates and for series of the same scene."
            )
        return f"{said} {self.confounds.verdict(share.value)}"


@verb(paper=PAPER)
def spectrum_audit(
    *folders: str | Path,
    train: int | None = None,
    validation: int | None = None,
    test: int | None = None,
    classes: Classes = "binary",
    features: Features = "spectrum",
    network: Head = "linear",
    window: Window = "hann",
    classifier: SpectrumClassifier | None = None,
    crop: Size | None = None,
    resize: Size | None = None,
    channels: int = 3,
    epochs: int = 100,
    control: bool = True,
    checkpoint: str | Path | None = None,
    on_message: Callable[[str], object] | None = None,
    seed: int = 0,
) -> SpectrumAudit:
    """Mean spectra, a classifier measured on files that it has not seen, a negative control, and confounds.

    Args:
        folders: as for `labeled_files`: one with sub-folders `A_...` (real) and other letters, or real and fake ones.
        train, validation, test, classes: as for `split`.
        features, network, window, epochs: as for `SpectrumClassifier.fit`.
        classifier: one that was trained before; nothing is trained then, and it is measured on all files.
        crop, resize, channels: as for `mean_spectra`; those of the classifier where one is given.
        control: train on two halves of the real images too, which nothing should tell apart.
        checkpoint: a folder to keep confounds, sums of mean spectra and trainings in, every few seconds: after an
            interruption or a kill the same call goes on from there, and ends as if there had been none. What is kept
            of other files or options stays apart.
        on_message: called with a line of text if it goes on from there.
        seed: of the split, the training and the control.

    Raises:
        FileNotFoundError, ValueError: as those functions do.
        FolderInUse: another process works in the checkpoint's folder.

    >>> import tempfile
    >>> from pellucid.audit import upsampled_photos
    >>> root = upsampled_photos(tempfile.mkdtemp(), ["nearest"], size=16, most=20)
    >>> found = spectrum_audit(root, train=12, validation=3, test=5, epochs=1, control=False)
    >>> found.evaluation.accuracy.count, found.spectra
    (10, {'B_nearest': MeanSpectra(3 x 16 x 16, 20 real, 20 B_nearest)})
    """
    check_kind(features, network, window)
    files = labeled_files(*folders, classes=classes)
    parts = split(files, train, validation, test, seed=seed)
    reading = classifier.reading if classifier else Reading(crop, resize, channels)
    how: dict[str, Any] = {"crop": reading.crop, "resize": reading.resize, "channels": reading.channels}
    options: dict[str, Any] = {
        "features": features, "network": network, "window": window, "epochs": epochs, "seed": seed, **how,
    }  # fmt: skip
    half: Evaluation | None = None
    made_of = "" if checkpoint is None else recipe(parts, [options, list(map(str, files.files))])
    with kept_in(None if checkpoint is None else Path(checkpoint), made_of) as place:
        if on_message is not None and place is not None and any(place.iterdir()):
            on_message(f"going on with what is kept in {checkpoint}")
        spectra = _spectra(files, reading, place)
        found = kept_confounds(place and place / CONFOUNDS, lambda: confounds(parts, **how, seed=seed))
        if classifier is None:
            classifier = SpectrumClassifier.fit(parts, **options, checkpoint=place and place / TRAINING)
            measured = classifier.evaluate(parts.test)
            if control:
                half = _control(files, parts, {**options, "checkpoint": place and place / CONTROL}, seed)
        else:
            measured = classifier.evaluate(files)
        return SpectrumAudit(parts, spectra, classifier, measured, half, found, _examples(classifier, measured))


def _spectra(files: LabeledFiles, reading: Reading, place: Path | None) -> dict[str, MeanSpectra]:
    """The mean spectrum of each generator beside that of all real images."""
    found: dict[str, MeanSpectra] = {}
    real: AverageSpectrum | None = None
    generators = list(dict.fromkeys(o for o, label in zip(files.origins, files.labels, strict=True) if label))
    for number, name in enumerate(["real", *generators]):
        wanted = [
            i for i, (origin, label) in enumerate(zip(files.origins, files.labels, strict=True))
            if (label == 0 if number == 0 else origin == name)
        ]  # fmt: skip
        kept = None if place is None else place / spectra_file(number)
        size = None if real is None else (real.mean.shape[1], real.mean.shape[2])
        one = average_spectrum(
            files.rows(wanted).files, reading=reading, size=size, checkpoint=kept, label=f"spectra, {name}"
        )
        if real is None:
            real = one
        else:
            call = Call("mean_spectra", {}, name, files.classes[0], PAPER, 0, 0, 0)
            found[name] = MeanSpectra(real, one, (files.classes[0], name), call)
    return found


def _control(files: LabeledFiles, parts: Split, options: dict[str, Any], seed: int) -> Evaluation | None:
    """The same training on two halves of the real images; None where there are too few."""
    real = files.of(0)
    if len(real) < 6:
        return None
    sizes = [max(1, one.labels.count(0) // 2) for one in (parts.train, parts.validation, parts.test)]
    cut = split(halves(real, seed), sizes[0], sizes[1], sizes[2], seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of files that were named when the classifier was trained
        return SpectrumClassifier.fit(cut, **options).evaluate(cut.test)


def _examples(model: SpectrumClassifier, measured: Evaluation) -> tuple[Example, ...]:
    """Of each origin those that it is surest of, and those that it is wrong about most surely."""
    sure = measured.probabilities.max(1).values
    order = sure.argsort(descending=True, stable=True).tolist()
    right = measured.correct.tolist()
    rows: list[int] = []
    for origin in dict.fromkeys(measured.origins):
        rows += [row for row in order if right[row] and measured.origins[row] == origin][:_OF_EACH]
    rows += [row for row in order if not right[row]][:_WRONG]
    return tuple(_example(model, measured, row) for row in rows)


def _example(model: SpectrumClassifier, measured: Evaluation, row: int) -> Example:
    image = model.read_one(measured.files[row])[None]
    said = int(measured.predicted[row])
    linear = model.net.kind == "linear" and model.net.features == "spectrum"
    frequencies = model.contributions(image, said)[0].sum(0).cpu() if linear else None
    return Example(
        image[0], measured.files[row], measured.origins[row], measured.classes[int(measured.labels[row])],
        measured.classes[said], float(measured.probabilities[row, said]),
        model.explain(image, torch.tensor([said])), frequencies,
    )  # fmt: skip
