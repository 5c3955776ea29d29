"""The true classes of image files: from a table, or from the folders that they lie in."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..checks import UnknownName
from .classifier import Classifier

_HEADS = ({"file", "filename", "image", "path", "name"}, {"label", "class", "true", "truth", "target"})

Truth = Mapping[str, str | int] | str | Path | None


def true_classes(model: Classifier, files: Sequence[Path], labels: Truth) -> list[int | None]:
    """The true class of each file, None where it is not known.

    Args:
        model: whose labels count.
        files: as the user named them.
        labels: None; "folders" takes the name of a file's folder where that is a label of the model, and only
            where it is part of the path as the user wrote it: within a folder that happens to be called
            "notebook", `castle.jpg` is no notebook. Or a table: a dict, a .json file with such (or with a list
            of {"file": ..., "label": ...}), or a .csv file of two columns. Its files may be named by any tail of
            their path, such as the bare name; its labels may be indices.

    Raises:
        FileNotFoundError, ValueError: for a table that cannot be read, or names none of the files.
        UnknownName: for a label in the table that the model does not have.

    >>> import torch, pellucid
    >>> model = pellucid.wrap(torch.nn.Flatten(), labels=["cat", "tench, Tinca tinca"])
    >>> true_classes(model, [Path("photos/Tench/1.jpg"), Path("photos/2.jpg")], "folders")
    [1, None]
    """
    if labels is None:
        return [None] * len(files)
    if labels == "folders":
        folders = {name: _folder_class(model, name) for name in {file.parent.name for file in files}}
        return [folders[file.parent.name] for file in files]
    found, said = _from_table(files, labels)
    return [None if label is None else _index(model, label, said) for label in found]


def true_names(
    model: Classifier, files: Sequence[Path], labels: Truth, within: Sequence[Path] = ()
) -> list[str | None]:
    """The true class of each file in words, None where it is not known: also classes that the model does not have.

    Args:
        model: a label that it has in another form is called as the model calls it.
        files: as the user named them.
        labels: as for `true_classes`; but any folder in one of `within` names a class, and so does any word of a table.
        within: the folders that the user named.

    Raises:
        FileNotFoundError, ValueError: for a table that cannot be read, or names none of the files.
        UnknownName: for an index in the table that the model does not have.

    >>> import torch, pellucid
    >>> model = pellucid.wrap(torch.nn.Flatten(), labels=["cat", "tench, Tinca tinca"])
    >>> true_names(model, [Path("a/Tench/1.jpg"), Path("a/real/2.jpg"), Path("a/3.jpg")], "folders", [Path("a")])
    ['tench, Tinca tinca', 'real', None]
    """
    if labels is None:
        return [None] * len(files)
    if labels != "folders":
        found, said = _from_table(files, labels)
        return [None if label is None else _named(model, label, said) for label in found]
    names: dict[Path, str | None] = {}
    for folder in {file.parent for file in files}:
        index = _folder_class(model, folder.name)
        inside = any(folder != top and folder.is_relative_to(top) for top in within)
        names[folder] = model.label(index) if index is not None else folder.name if inside else None
    return [names[file.parent] for file in files]


def _from_table(files: Sequence[Path], labels: Mapping[str, str | int] | str | Path) -> tuple[list[Any], str]:
    """The label of each file in a table, None where there is none; and the table in words."""
    table = dict(labels if isinstance(labels, Mapping) else _read(Path(labels)))
    said = f"in {labels}" if isinstance(labels, (str, Path)) else "in the table of true classes"
    known = {Path(file).as_posix(): label for file, label in table.items()}
    found = [_look_up(known, file) for file in files]
    if all(label is None for label in found):
        first = next(iter(table), None)
        raise ValueError(
            f"none of the {len(files)} images is named {said}"
            + (f", whose first file is {first!r}: give names or ends of paths" if first else ", which is empty")
        )
    return found, said


def _named(model: Classifier, label: str | int, said: str) -> str:
    try:
        return model.label(_index(model, label, said))
    except UnknownName:
        if isinstance(label, int):
            raise
        return label


def _folder_class(model: Classifier, name: str) -> int | None:
    for form in (name, name.replace("_", " ")):
        try:
            return model.index(form) if form else None
        except UnknownName:
            continue
    return None


def _look_up(known: Mapping[str, str | int], file: Path) -> str | int | None:
    parts = file.absolute().parts
    tails = (Path(*parts[start:]).as_posix() for start in range(len(parts)))
    return next((known[tail] for tail in tails if tail in known), None)


def _index(model: Classifier, label: str | int, said: str) -> int:
    if isinstance(label, int) or (label not in model.labels and label.isdecimal()):
        index = int(label)
        if index < 0 or (model.labels and index >= len(model.labels)):
            raise UnknownName(f"the class {index} {said} is out of range: the model has {len(model.labels)} classes")
        return index
    try:
        return model.index(label)
    except UnknownName as error:
        raise UnknownName(f"{said}: {error}") from error


def _read(path: Path) -> Iterator[tuple[str, str | int]]:
    """Pairs of file and label from a .csv or .json file."""
    if path.is_dir():
        raise IsADirectoryError(
            f"{path} is a folder, expected a table of true classes (.csv or .json); the word folders takes the names "
            "of the folders in which the images lie"
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise FileNotFoundError(f"there is no table of true classes {path}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text: save the table as UTF-8") from error
    if path.suffix.lower() == ".json":
        yield from _from_json(path, text)
        return
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        return
    mark = max(",;\t", key=lines[0].count)
    table = list(csv.reader(lines, delimiter=mark))
    head = [cell.strip().lower() for cell in table[0]]
    named = [next((i for i, cell in enumerate(head) if cell in heads), None) for heads in _HEADS]
    file, label = (0, 1) if None in named else (named[0] or 0, named[1] or 0)
    for number, row in enumerate(table[0 if None in named else 1 :], start=1 if None in named else 2):
        if len(row) <= max(file, label):
            raise ValueError(f"{path}, line {number}: expected a file and a label, got {mark.join(row)!r}")
        yield row[file].strip(), row[label].strip()


def _from_json(path: Path, text: str) -> Iterator[tuple[str, str | int]]:
    try:
        data: Any = json.loads(text)
        pairs = data.items() if isinstance(data, dict) else [(entry["file"], entry["label"]) for entry in data]
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f'{path} is not a table of true classes ({error}): expected {{"a.jpg": "koala", ...}} '
            'or [{"file": "a.jpg", "label": "koala"}, ...]'
        ) from error
    for file, label in pairs:
        if not isinstance(label, (str, int)) or isinstance(label, bool):
            raise ValueError(f"{path}: the label of {file!r} is {label!r}, expected a name or an index")
        yield str(file), label
