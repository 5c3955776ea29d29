"""What gives classes away that has nothing to do with what is to be learned: source, compression, framing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional as F

from ..files.images import Size, UnreadableImage
from ..methods.verb import verb
from ..model.batches import progress
from .image_files.confounds_result import BOTH, FILE, PICTURE, SURE, Confound, Confounds
from .image_files.evaluation import proportion
from .image_files.file_classes import LabeledFiles, Split
from .image_files.file_traits import BYTES, file_traits
from .image_files.pixels import Reading

if TYPE_CHECKING:
    pass

THUMBNAIL = 8  # pixels: no eye, no edge, no up-sampling trace is left in it
Words = list[dict[str, str | float]]


@verb()
def confounds(
    parts: Split,
    *,
    crop: Size | None = None,
    resize: Size | None = None,
    channels: int = 3,
    most: int = 2000,
    seed: int = 0,
) -> Confounds:
    """Look for what tells the classes apart without any spectrum.

    For each trait a trivial rule is learned on the training files and tried on the test files: of words (file format,
    color mode, size, JPEG tables and subsampling, metadata) the class in which a value is commonest; of numbers (bytes
    a pixel, mean color, a thumbnail of 8 x 8 pixels) a logistic regression. Beyond chance, with intervals of 99.9 %,
    it is flagged: then the source, the compression or the framing differ, and a classifier of the same files may
    have learned that.

    Args:
        parts: of `pellucid.audit.split`.
        crop, resize, channels: as for `mean_spectra`; for colors and thumbnails.
        most: files of each set that are looked at.
        seed: of which ones, if there are more.

    Returns:
        `Confounds`: .found, .flagged, .verdict(), .table(), .show(), .save(path).

    Raises:
        ValueError: if no file can be read.

    >>> import tempfile
    >>> from pellucid.audit import split
    >>> from pellucid.files.images import write_image
    >>> from pellucid.shapes import scenes
    >>> root = Path(tempfile.mkdtemp())
    >>> for number, image in enumerate(scenes(80).images[:, :, ::4, ::4]):
    ...     write_image(image, root / f"A_photos/{number}.png")
    ...     write_image(image, root / f"B_same_as_jpeg/{number}.jpg")
    >>> found = confounds(split(root, 40, 10, 30))
    >>> [one.name for one in found.flagged][:2]
    ['file format', 'JPEG quantization']
    """
    if most < 2:
        raise ValueError(f"most is {most}, expected at least 2 files")
    reading = Reading(crop, resize, channels)
    draw = torch.Generator().manual_seed(seed)
    sets = [_some(files, most, draw) for files in (parts.train, parts.test)]
    failures: list[tuple[str, str]] = []
    with progress(sum(map(len, sets)), "confounds") as advance:
        (learned, learned_pixels, y), (tried, tried_pixels, z) = (
            _looked_at(s, reading, failures, advance) for s in sets
        )
    if len(set(y.tolist())) < 2 or not len(z):
        first = f" (the first: {': '.join(failures[0])})" if failures else ""
        raise ValueError(
            f"there are not enough readable images of each class to look for what tells them apart: {len(failures)} "
            f"cannot be read{first}"
        )
    chance = float(np.bincount(z).max()) / len(z)
    found = []
    for name in learned[0]:
        if name == BYTES:
            values = [np.log([[float(one[name])] for one in side]) for side in (learned, tried)]
            said = _by_regression(values[0], y, values[1])
            found.append(_confound(name, BOTH, said, z, chance, _medians(tried, z, parts.classes)))
            continue
        words = [[str(one[name]) for one in side] for side in (learned, tried)]
        said = _by_value(words[0], y, words[1], len(parts.classes))
        found.append(_confound(name, FILE, said, z, chance, _commonest(words[1], z, parts.classes)))
    for name, columns in (("mean color", slice(0, channels)), ("thumbnail of 8 x 8", slice(channels, None))):
        said = _by_regression(learned_pixels[:, columns], y, tried_pixels[:, columns])
        found.append(_confound(name, PICTURE, said, z, chance, ""))
    found.sort(key=lambda one: -one.accuracy.value)
    return Confounds(tuple(found), parts.classes, tuple(failures))


def _some(files: LabeledFiles, most: int, draw: torch.Generator) -> LabeledFiles:
    return files.rows(sorted(torch.randperm(len(files), generator=draw)[:most].tolist()))


def _looked_at(
    files: LabeledFiles, reading: Reading, failures: list[tuple[str, str]], advance: Any
) -> tuple[Words, np.ndarray, np.ndarray]:
    """Of each file that can be read: its traits, its mean color and thumbnail, and its class."""
    traits: Words = []
    pixels, labels = [], []
    for file, label in zip(files.files, files.labels, strict=True):
        try:
            one = file_traits(Path(file))
            image = reading.one(file)
        except (UnreadableImage, OSError, MemoryError) as error:
            failures.append((str(file), " ".join(str(getattr(error, "reason", error)).split())))
        else:
            small = F.adaptive_avg_pool2d(image[None], THUMBNAIL)[0]
            traits.append(one)
            pixels.append(torch.cat([image.mean((1, 2)), small.flatten()]).numpy())
            labels.append(label)
        advance(1)
    return traits, np.array(pixels), np.array(labels)


def _by_value(learned: Sequence[str], y: np.ndarray, tried: Sequence[str], classes: int) -> np.ndarray:
    """The class in which each value is commonest, as a share of the class; of an unknown value the commonest class."""
    sizes = np.bincount(y, minlength=classes).clip(1)
    shares: dict[str, np.ndarray] = {}
    for word, label in zip(learned, y, strict=True):
        shares.setdefault(word, np.zeros(classes))[label] += 1 / sizes[label]
    usual = int(sizes.argmax())
    return np.array([int(shares[word].argmax()) if word in shares else usual for word in tried])


def _by_regression(learned: np.ndarray, y: np.ndarray, tried: np.ndarray) -> np.ndarray:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rule = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=5000, class_weight="balanced"))
    return np.asarray(rule.fit(learned, y).predict(tried))


def _confound(name: str, kind: str, said: np.ndarray, z: np.ndarray, chance: float, detail: str) -> Confound:
    return Confound(name, kind, proportion(int((said == z).sum()), len(z), SURE), chance, detail)


def _commonest(words: Sequence[str], z: np.ndarray, classes: Sequence[str]) -> str:
    told = []
    for number, name in enumerate(classes):
        here = Counter(word for word, label in zip(words, z, strict=True) if label == number)
        if here:
            word, count = here.most_common(1)[0]
            told.append(f"{name}: {word} {count / here.total():.0%}")
    return "; ".join(told)


def _medians(traits: Words, z: np.ndarray, classes: Sequence[str]) -> str:
    values = np.array([float(one[BYTES]) for one in traits])
    medians = [(name, np.median(values[z == i])) for i, name in enumerate(classes) if (z == i).any()]
    return "; ".join(f"{name}: median {value:.2g}" for name, value in medians)
