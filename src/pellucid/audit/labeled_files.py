"""Folders of real and of fake images: which file is of which class, and which are for training."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path

import torch

from ..files.images import SUFFIXES, list_images
from .image_files.file_classes import Classes, LabeledFiles, Split

REAL, FAKE = "real", "fake"
_LETTER = re.compile(r"([A-Za-z])(?:_.*)?$")


def labeled_files(*folders: str | Path, classes: Classes = "binary") -> LabeledFiles:
    """Real and fake images from folders, by name.

    Args:
        folders: one folder whose sub-folders begin with a letter: `A_...` holds real images, every other letter those
            of a generator. Or the folder of the real images first, and after it one for each generator.
        classes: "binary" tells real from fake; "folders" makes each letter (or folder) a class of its own.

    Returns:
        All their files, sorted within a folder by name; class 0 is real.

    Raises:
        FileNotFoundError: for a folder that does not exist.
        ValueError: for a folder without images, without real or without fake ones, or one that cannot be told.

    >>> import pathlib, tempfile
    >>> root = pathlib.Path(tempfile.mkdtemp())
    >>> for name in ("A_photos/1.png", "B_gan/1.png", "B_gan/2.png"):
    ...     (root / name).parent.mkdir(exist_ok=True)
    ...     (root / name).touch()
    >>> labeled_files(root)
    LabeledFiles(1 real, 2 fake)
    """
    if classes not in ("binary", "folders"):
        raise ValueError(f"classes is {classes!r}, expected 'binary' (real or fake) or 'folders' (each its own class)")
    if not folders:
        raise ValueError("give one folder with sub-folders A_... (real) and B_... (fake), or a real and a fake folder")
    paths = [Path(folder) for folder in folders]
    for path in paths:
        if path.is_file():
            raise ValueError(f"{path} is a file, expected a folder of images")
    kinds = _by_letter(paths[0]) if len(paths) == 1 else _in_order(paths)
    _check_apart([folder for _, folder in kinds])
    groups = list(dict.fromkeys(group for group, _ in kinds))
    names = {group: [folder.resolve().name for g, folder in kinds if g == group] for group in groups}
    titles = (
        (REAL, FAKE) if classes == "binary" else _different([names[g][0] if len(names[g]) == 1 else g for g in groups])
    )
    origins = _different([folder.resolve().name for _, folder in kinds])
    files: list[Path] = []
    labels: list[int] = []
    sources: list[str] = []
    for (group, folder), origin in zip(kinds, origins, strict=True):
        found = list_images(folder)
        files += found
        number = groups.index(group)
        labels += [min(number, 1) if classes == "binary" else number] * len(found)
        sources += [origin] * len(found)
    return LabeledFiles(tuple(files), tuple(labels), titles, tuple(sources))


def split(
    files: LabeledFiles | str | Path | Sequence[str | Path],
    train: int | None = None,
    validation: int | None = None,
    test: int | None = None,
    *,
    classes: Classes = "binary",
    seed: int = 0,
) -> Split:
    """Files for training, validation and test, drawn from each folder by itself.

    Files are put in the order of a hash of the seed and their name, without folder and suffix. So another generator
    changes nothing for those that were there, and folders with the same pictures by the same names (as they were and
    up-sampled, as PNG and as JPEG) are cut alike: no picture is learned in one form and met again in another.

    Args:
        files: of `labeled_files`, or the folders for it.
        train, validation, test: how many of each folder. Without numbers 70 %, 10 % and the rest of the smallest.
        classes: as for `labeled_files`.
        seed: of the draw.

    Raises:
        ValueError: if a folder has too few files, or a number is below 1.

    >>> import pathlib, tempfile
    >>> root = pathlib.Path(tempfile.mkdtemp())
    >>> for name in [f"{kind}/{i}.png" for kind in ("A_photos", "B_gan") for i in range(10)]:
    ...     (root / name).parent.mkdir(exist_ok=True)
    ...     (root / name).touch()
    >>> split(root, 6, 2, 2).test
    LabeledFiles(2 real, 2 fake)
    """
    if not isinstance(files, LabeledFiles):
        paths = [files] if isinstance(files, (str, Path)) else list(files)
        files = labeled_files(*paths, classes=classes)
    by_origin: dict[str, list[int]] = {}
    for row, origin in enumerate(files.origins):
        by_origin.setdefault(origin, []).append(row)
    smallest = min(by_origin, key=lambda name: len(by_origin[name]))
    sizes = _sizes(train, validation, test, len(by_origin[smallest]))
    if sum(sizes) > len(by_origin[smallest]):
        raise ValueError(
            f"{smallest} has {len(by_origin[smallest])} images, too few for {sizes[0]} to train, {sizes[1]} to "
            f"validate and {sizes[2]} to test, of each folder: take smaller numbers"
        )
    parts: list[list[int]] = [[], [], []]
    for rows in by_origin.values():
        keys = dict(zip(rows, _drawn([files.files[row] for row in rows], seed), strict=True))
        order = sorted(rows, key=lambda row: keys[row])
        start = 0
        for part, size in zip(parts, sizes, strict=True):
            part += sorted(order[start : start + size])
            start += size
    learned, held_out, tried = (files.rows(part) for part in parts)
    return Split(learned, held_out, tried, seed)


def halves(files: LabeledFiles, seed: int = 0) -> LabeledFiles:
    """One class cut into two halves at random, as two classes: nothing should be able to tell them apart.

    Raises:
        ValueError: for fewer than 2 files.

    >>> halves(LabeledFiles(tuple(map(Path, "abcd")), (0,) * 4, ("real",), ("photos",) * 4))
    LabeledFiles(2 one half, 2 other half)
    """
    if len(files) < 2:
        raise ValueError(f"there are {len(files)} files, expected at least 2 for two halves")
    order = torch.randperm(len(files), generator=torch.Generator().manual_seed(seed)).tolist()
    order = order[: len(order) // 2 * 2]
    names = ("one half", "other half")
    side = {row: place % 2 for place, row in enumerate(order)}
    rows = sorted(side)
    chosen = files.rows(rows)
    labels = tuple(side[row] for row in rows)
    return LabeledFiles(chosen.files, labels, names, tuple(names[label] for label in labels))


def _drawn(files: Sequence[Path], seed: int) -> list[tuple[str, str]]:
    """A key for each file to sort by: a hash of the seed and the name below the folder that all lie in."""
    base = os.path.commonpath([Path(file).parent for file in files])
    names = [Path(file).relative_to(base).with_suffix("").as_posix() for file in files]
    hashes = [hashlib.sha256(f"{seed}/{name}".encode()).hexdigest() for name in names]
    return list(zip(hashes, map(str, files), strict=True))


def _sizes(train: int | None, validation: int | None, test: int | None, least: int) -> tuple[int, int, int]:
    given = (train, validation, test)
    if given == (None, None, None):
        if least < 3:
            raise ValueError(
                f"a folder has {least} image{'s' if least != 1 else ''}: training, validation and test need one each"
            )
        few = max(1, least // 10)
        learned = min(7 * least // 10, least - 2 * few) or 1
        return learned, few, least - learned - few
    if train is None or validation is None or test is None:
        raise ValueError("give all three numbers, to train, validate and test, or none of them")
    for name, value in zip(("train", "validation", "test"), given, strict=True):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} is {value!r}, expected a number of images of each folder, 1 or more")
    return train, validation, test


def _by_letter(root: Path) -> list[tuple[str, Path]]:
    """Letter and path of each sub-folder, A first."""
    if not root.is_dir():
        list_images(root)  # which says what is wrong with it
    inside = sorted(p for p in root.iterdir() if not p.name.startswith("."))
    loose = [p.name for p in inside if p.is_file() and p.suffix.lower() in SUFFIXES]
    folders = [p for p in inside if p.is_dir() and p.suffix != ".run"]  # unfinished work of a page that lies here
    wanted = "expected sub-folders such as A_photos (real) and B_gan (fake), or a real and a fake folder"
    if loose:
        raise ValueError(f"{root} holds images of no class ({loose[0]}, {len(loose)} in all): {wanted}")
    strange = [p.name for p in folders if not _LETTER.match(p.name)]
    if strange or not folders:
        names = ", ".join(strange[:3]) or "none"
        raise ValueError(f"{root}: the class of its sub-folders cannot be told by their names ({names}): {wanted}")
    kinds = sorted(((p.name[0].upper(), p) for p in folders), key=lambda pair: (pair[0], pair[1].name))
    letters = {letter for letter, _ in kinds}
    if "A" not in letters:
        raise ValueError(f"{root} has no folder of real images (found {', '.join(p.name for p in folders)}): {wanted}")
    if letters == {"A"}:
        raise ValueError(f"{root} has no folder of fake images (found {', '.join(p.name for p in folders)}): {wanted}")
    return kinds


def _in_order(folders: Sequence[Path]) -> list[tuple[str, Path]]:
    return [(str(number), folder) for number, folder in enumerate(folders)]


def _check_apart(folders: Sequence[Path]) -> None:
    places = [folder.resolve() for folder in folders]
    for i, place in enumerate(places):
        for j, other in enumerate(places):
            if i != j and (place == other or place in other.parents):
                raise ValueError(
                    f"{folders[j]} lies in {folders[i]} (or is the same): its images would be of two classes; real and "
                    "fake images must lie apart"
                )


def _different(names: Sequence[str]) -> tuple[str, ...]:
    """The names, those that occur again with a number."""
    seen: dict[str, int] = {}
    out = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        out.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return tuple(out)
