"""Pages of images that a model made."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from torch import Tensor

from ..classifier import Classifier
from ..pictures import displayable
from ..report import Plate, gallery
from ..report.gallery import MOST_PLATES
from ..synthesis import StyleNetwork, Synthesis
from ..synthesis.style_network import Blend


def synthesis_page(
    path: str | Path, model: Classifier, result: Synthesis, *, title: str = "", command: str = ""
) -> Path:
    """A page of images that a model made, and of the objective on the way.

    Raises:
        OSError: if the file cannot be written.
    """
    assert result.call is not None
    images = displayable(result.images.cpu())
    titles = [*result.titles, *[""] * (len(images) - len(result.titles))]
    notes = []
    for row in range(len(images)):
        dead = len(result.dead) > row and bool(result.dead[row])
        value = f"{float(result.values[row]):.4g}" if len(result.values) > row else ""
        notes.append("no gradient was found" if dead else value)
    tiles = [(f"{t}: {n}" if t and n else t or n, image) for t, n, image in zip(titles, notes, images, strict=True)]
    shown = min(len(tiles), MOST_PLATES)
    plates = [Plate(result.call.method, tiles[start : min(start + 8, shown)]) for start in range(0, shown, 8)]
    if result.history.shape[1] > 1:
        plates.append(Plate("The objective on the way", [("", result.figure(history=True))], call=result.call))
    facts = {"Images": str(len(images)), "Steps": f"{result.steps}{', interrupted' if result.interrupted else ''}"}
    return gallery(
        path, plates, title=title or f"What {model.name} wants to see", model=model, facts=facts, command=command
    )


def style_page(
    path: str | Path,
    network: StyleNetwork,
    photos: Mapping[str, Tensor],
    wanted: Mapping[str, Blend],
    *,
    styles: Mapping[str, Tensor] = MappingProxyType({}),
    command: str = "",
) -> Path:
    """A page of photos that a style network painted.

    Args:
        path: the file.
        network: that paints.
        photos: 1 x C x H x W by name.
        wanted: by what to call them, the styles or blends to paint each photo in.
        styles: the images that the network learned the styles from, by name, if they are at hand.
        command: that made the page.

    Raises:
        OSError: if the file cannot be written.
    """
    plates = [Plate("Styles", [(name, displayable(image)[0]) for name, image in styles.items()])] if styles else []
    for name, photo in photos.items():
        painted = {title: network.paint(photo, blend) for title, blend in wanted.items()}
        tiles = [("photo", displayable(photo)[0]), *((t, displayable(p.cpu())[0]) for t, p in painted.items())]
        plates.append(Plate(name, tiles))
    facts = {"Styles": ", ".join(network.styles), "Photos": str(len(photos))}
    numbers = sum(parameter.numel() for parameter in network.parameters())
    return gallery(
        path, plates, title="Painted in one pass", model=f"style network of {numbers:,} weights", facts=facts,
        command=command,
    )  # fmt: skip
