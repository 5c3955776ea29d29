"""Pages of images that a model made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor

from ...display.figures import displayable
from ...model.classifier import Classifier
from ...synthesis import Decoder, StyleNetwork, Synthesis
from ...synthesis.ingredients.decoder import random_images
from ...synthesis.style_network import Blend
from ...synthesis.training.training import Squares
from .. import Plate, gallery
from ..gallery import MOST_PLATES

TITLES = {
    "invert": "What {} keeps of an image",
    "dream": "What {} dreams",
    "texture": "A texture, as {} sees it",
    "quilt": "A texture, quilted",
    "style_transfer": "Painted by what {} sees",
}


def synthesis_page(
    path: str | Path,
    model: Classifier | str,
    result: Synthesis,
    *,
    given: Mapping[str, Tensor] = MappingProxyType({}),
    title: str = "",
    command: str = "",
) -> Path:
    """A page of images that a model made, and of the objective on the way.

    Args:
        path: the file.
        model: that made them, or what to say instead of one.
        result: of a verb of `pellucid.synthesis`.
        given: images 1 x C x H x W that it was given, by what to call them.
        title: of the page; by default one that suits the verb.
        command: that made the page.

    Raises:
        OSError: if the file cannot be written.
    """
    assert result.call is not None
    images = displayable(result.images.cpu())
    titles = [*result.titles, *[""] * (len(images) - len(result.titles))]
    notes = [result.note(row) for row in range(len(images))]
    tiles = [(f"{t}: {n}" if t and n else t or n, image) for t, n, image in zip(titles, notes, images, strict=True)]
    shown = min(len(tiles), MOST_PLATES)
    plates = [Plate("Given", [(name, displayable(image.cpu())[0]) for name, image in given.items()])] if given else []
    plates += [Plate(result.call.method, tiles[start : min(start + 8, shown)]) for start in range(0, shown, 8)]
    if result.history.shape[1] > 1:
        plates.append(Plate("The objective on the way", [("", result.figure(history=True))], call=result.call))
    facts = {"Images": str(len(images)), "Steps": f"{result.steps}{', interrupted' if result.interrupted else ''}"}
    name = model if isinstance(model, str) else model.name
    title = title or TITLES.get(result.call.method, "What {} wants to see").format(name)
    return gallery(path, plates, title=title, model=model, facts=facts, command=command)


def generator_page(path: str | Path, decoder: Decoder, photos: Sequence[str | Path], *, command: str = "") -> Path:
    """A page of what a decoder draws, beside squares of the images that it learned from.

    Args:
        path: the file.
        decoder: that draws.
        photos: files and folders that it learned from.
        command: that made the page.

    Raises:
        OSError: if the file cannot be written.
    """
    learned = Squares(list(photos), decoder.size, decoder.channels).draw(8, torch.Generator().manual_seed(0))
    drawn = random_images(decoder, 16)
    plates = [
        Plate("Of random codes", [("", image) for image in displayable(drawn)]),
        Plate("What it learned from", [("", image) for image in displayable(learned)]),
    ]
    facts = {"Size": f"{decoder.size} x {decoder.size}", "Numbers in a code": str(decoder.length)}
    numbers = sum(parameter.numel() for parameter in decoder.parameters())
    return gallery(
        path, plates, title="What a decoder draws", model=f"decoder of {numbers:,} weights", facts=facts,
        command=command,
    )  # fmt: skip


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
