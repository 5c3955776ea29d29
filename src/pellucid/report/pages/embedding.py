"""A page to walk about an embedding: a map to move and to come closer to, with images, names and classes."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from PIL import Image
from torch import Tensor

from ... import report
from ...display.figures import plain
from ...files.atomic import atomic_write
from ...representation import DeepMDS, Embedding, IntrinsicDimension
from ...version import __version__
from ..encode import SMALL, Picture, drawing
from ..page import environment

COLUMNS = 32  # of thumbnails in a sheet, and as many rows
SIZES = ((400, 128), (2000, 64), (5000, 48))  # up to so many points, thumbnails of so many pixels; of more
LEAST = 32
MOST_AXES = 10


def embedding_page(
    path: str | Path,
    result: Embedding,
    *,
    title: str = "",
    dimensions: Sequence[IntrinsicDimension] = (),
    failures: Sequence[tuple[str, str]] = (),
    command: str = "",
) -> Path:
    """Write a page to walk about an embedding: one HTML file that needs nothing else, whole or not at all.

    Points can be found by name, shown as images, and by class; one under the pointer shows its image, name and class.

    Args:
        path: the file.
        result: of two dimensions or more; of one, points are spread a little to tell them apart.
        title: of the page.
        dimensions: sweeps of the intrinsic dimension, shown below the map.
        failures: names of files that are not on the page, with the reason.
        command: the command or call that made the page.

    Returns:
        The path.

    Raises:
        OSError: if the file cannot be written.

    >>> import pellucid, tempfile, torch
    >>> found = pellucid.pca(torch.rand(9, 4), labels=[0, 1, 2] * 3)
    >>> embedding_page(tempfile.mkdtemp() + "/map.html", found).name
    'map.html'
    """
    path = Path(path)
    count, wide = result.values.shape
    thumb = next((size for most, size in SIZES if count <= most), LEAST)
    pictures = result.thumbnails(thumb)
    call = result.call
    method = call.method if call else "embedding"
    facts = {"Points": str(count), "Method": method, "Seen from": call.objective if call else ""}
    if result.interrupted:
        facts["Stopped"] = f"{result.interrupted}: this is the map so far"
    if result.labels:
        facts["Classes"] = str(len(result.classes))
    if result.variance is not None:
        facts["Variance kept"] = f"{float(result.variance.sum()):.1%}"
    figures = [(f"Intrinsic dimension, {sweep}", drawing(sweep.figure())) for sweep in dimensions]
    table: list[list[str]] = []
    if isinstance(result, DeepMDS):
        figures.insert(0, ("Stress of each stage", drawing(result.figure(stages=True))))
        lines = result.table().splitlines()
        table = [line.strip("| ").split(" | ") for line in (lines[0], *lines[2:])]
    script = _script()
    text = (
        environment()
        .get_template("map.html")
        .render(
            title=title or f"Where {count} {'points' if result.look is None else 'images'} lie among each other",
            model=call.model if call else "",
            made=datetime.now().astimezone(),
            version=__version__,
            command=command.splitlines(),
            facts=facts,
            count=count,
            kind="Predicted class" if result.predicted else "Class",
            still=drawing(result.figure(thumbnails=False)),
            sheets=[] if pictures is None else _sheets(pictures),
            figures=figures,
            table=table,
            table_title="Stages",
            call=call,
            failures=list(failures),
            data=_data(result, thumb, min(wide, MOST_AXES)),
            script=Markup(script),
            hash=_hash(script),
        )
    )
    with atomic_write(path) as part:
        part.write_text(text, encoding="utf-8")
    return path


def _data(result: Embedding, thumb: int, axes: int) -> Markup:
    """What the script draws, as JSON that no name can break out of."""
    places = result.plane((0, 1)).T if axes == 1 else result.values[:, :axes].numpy().astype(np.float64).T
    spread = float(np.ptp(places, 1).max()) or 1.0
    # To a ten-thousandth of the map, which no screen shows.
    scaled = ((places - places.mean(1, keepdims=True)) / spread).round(5)
    groups = [
        {"name": name, "color": color, "marker": marker, "points": rows.tolist()}
        for name, color, marker, rows in result.groups()
    ]
    small = False
    if result.look is not None:
        small = max(result.look(0).shape[1:]) <= SMALL // 2
    names: dict[str, Any] = {"names": [plain(name) for name in result.names or result.files]}
    text = json.dumps(
        {
            "places": scaled.tolist(),
            "axes": [f"dimension {number + 1}" for number in range(len(scaled))],
            "groups": groups,
            "columns": COLUMNS,
            "thumb": thumb,
            "small": small,
            **names,
        },
        separators=(",", ":"),
    )
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))


def _sheets(pictures: Tensor) -> list[Picture]:
    """Thumbnails in sheets of COLUMNS x COLUMNS, each one picture."""
    size, sheets = pictures.shape[2], []
    for part in pictures.split(COLUMNS**2):
        rows = -(-len(part) // COLUMNS)
        sheet = np.zeros((rows * size, COLUMNS * size, 3), np.uint8)
        for place, picture in enumerate(part):
            y, x = place // COLUMNS * size, place % COLUMNS * size
            sheet[y : y + size, x : x + size] = picture.permute(1, 2, 0).numpy()
        buffer = BytesIO()
        Image.fromarray(sheet).save(buffer, "webp", quality=80, method=4)
        text = base64.b64encode(buffer.getvalue()).decode()
        sheets.append(Picture(Markup(f"data:image/webp;base64,{text}"), COLUMNS * size, rows * size))
    return sheets


def _script() -> str:
    return (Path(report.__file__).parent / "map.js").read_text(encoding="utf-8")


def _hash(script: str) -> str:
    """What tells a browser that this script, and no other, may run."""
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"
