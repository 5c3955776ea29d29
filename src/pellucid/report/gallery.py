"""A page of plates: pictures side by side with what is known of them, for results that are images themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from torch import Tensor

from ..files.atomic import atomic_write
from ..methods.result import Call
from ..model.classifier import Classifier
from ..version import __version__
from .encode import SMALL, Picture, drawing, photo
from .page import environment, name_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure


MOST_PLATES = 200  # of a page; its table has all


@dataclass(frozen=True)
class Plate:
    """Pictures side by side.

    title: of the plate. tiles: a caption and an image (C x H x W in [0, 1]) or a figure each.
    verdict: a line beside the title. facts: names and values below. call: how it was made.
    """

    title: str
    tiles: Sequence[tuple[str, Tensor | Figure]] = field(repr=False)
    verdict: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    call: Call | None = None


def gallery(
    path: str | Path,
    plates: Sequence[Plate],
    *,
    title: str,
    model: str | Classifier,
    facts: Mapping[str, str] = MappingProxyType({}),
    table: Sequence[Sequence[str]] = (),
    failures: Sequence[tuple[str, str]] = (),
    command: str = "",
    size: int = 448,
) -> Path:
    """Write a page of plates: one HTML file that needs nothing else, whole or not at all.

    Args:
        path: the file.
        plates: in order.
        title: of the page.
        model: a `Classifier` or its name.
        facts: names and values for the head of the page.
        table: the rows of a table, its heads first.
        failures: names of files that are not on the page, with the reason.
        command: the command or call that made the page.
        size: the longer side of the pictures, in pixels.

    Returns:
        The path.

    Raises:
        OSError: if the file cannot be written.

    >>> import tempfile, torch
    >>> plate = Plate("a cat", [("before", torch.rand(3, 8, 8)), ("after", torch.rand(3, 8, 8))])
    >>> gallery(tempfile.mkdtemp() + "/page.html", [plate], title="Cats", model="cats").name
    'page.html'
    """
    path = Path(path)
    shown = [
        {
            "title": plate.title,
            "verdict": plate.verdict,
            "facts": plate.facts,
            "call": plate.call,
            "tiles": (tiles := [(caption, _picture(image, size)) for caption, image in plate.tiles]),
            "small": all(max(picture.height, picture.width) <= SMALL for _, picture in tiles),
        }
        for plate in plates
    ]
    text = (
        environment()
        .get_template("gallery.html")
        .render(
            title=title,
            model=name_of(model),
            made=datetime.now().astimezone(),
            version=__version__,
            command=command.splitlines(),
            facts=facts,
            table=table,
            plates=shown,
            failures=list(failures),
        )
    )
    with atomic_write(path) as part:
        part.write_text(text, encoding="utf-8")
    return path


def _picture(image: Tensor | Figure, size: int) -> Picture:
    return photo(image, size) if isinstance(image, Tensor) else drawing(image)
