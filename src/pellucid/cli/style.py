"""`pellucid style`: one image painted as others are, or a network that learns to paint any."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import click

from . import options
from .command import Place, Verbs, written
from .console import CODES, STOPPED
from .group import UNITS, computing, load, main, verb
from .synthesis import (
    Made,
    finished,
    makes,
    names_of,
    options_of,
    picture,
    places,
    tell,
    write_results,
)

if TYPE_CHECKING:
    from ..synthesis import StyleNetwork


@main.group(
    cls=Verbs,
    section=UNITS,
    short_help="Paint images in the style of others.",
    epilog=f"""\b
Examples:
  pellucid style transfer castle.jpg starry_night.jpg --model vgg19
  pellucid style train photos/ --style waves.jpg --style mosaic.jpg --model vgg19 --output painter.safetensors
  pellucid style apply castle.jpg --network painter.safetensors --style waves

{CODES}""",
)
def style() -> None:
    """Paint images in the style of others: one image slowly, or any by a network that learns to."""


@verb(
    None,
    "Paint an image in the style of one or several others.",
    """
    pellucid style transfer castle.jpg starry_night.jpg --model vgg19
    pellucid style transfer castle.jpg waves.jpg sketch.jpg --model vgg19 --option mixture=0.7,0.3
    pellucid style transfer castle.jpg waves.jpg sand.jpg --model vgg19 --mask sea.png --mask beach.png
    """,
    of=style,
)
@options.images("IMAGE", "image", 1)
@options.images("STYLE...", "styles")
@options.option("--mask", "masks", multiple=True, metavar="IMAGE", type=Place(),
                help="For each style a picture that is white where it goes; repeatable.")  # fmt: skip
@options.longest()
@makes("painted")
@click.pass_context
def transfer(context: click.Context, /, image: str, styles: Sequence[str], **given: Any) -> None:
    """Paint an image in the style of one or several others, as a model sees them."""

    def make(model: Any, asked: dict[str, Any]) -> Made:
        from ..files.images import read_image
        from ..synthesis import style_transfer

        content = picture(model, image, given["longest"])
        sides = (int(content.shape[2]), int(content.shape[3]))
        masks = [read_image(file, channels=1, resize=sides)[0] for file in given["masks"]]
        taken = [picture(model, one, given["longest"]) for one in styles]
        made = style_transfer(model, content, taken, masks=masks, **asked)
        return made, dict(zip(names_of([image, *styles]), [content, *taken], strict=True))

    write_results(context, given, "style_transfer", make, "painted")


@verb(
    None,
    "Train a network that paints any image in some styles.",
    """
    pellucid style train photos/ --style waves.jpg --model vgg19 --output painter.safetensors
    pellucid style train photos/ --style waves.jpg --style mosaic.jpg --model squeezenet1_1 --steps 4000
    pellucid style train photos/ --style sand.jpg --model vgg19 --add-to painter.safetensors --output three.safetensors
    """,
    of=style,
)
@options.images(name="photos")
@options.option("--style", "styles", multiple=True, required=True, metavar="IMAGE", type=Place(),
                help="A style; repeatable.")  # fmt: skip
@options.option("--add-to", "begin", type=click.Path(path_type=Path), metavar="FILE",
                help="A trained network to add the styles to; those that it knows stay as they are.")  # fmt: skip
@options.longest()
@options.steps()
@options.of_method()
@options.model()
@options.outputs(
    "The network, .safetensors; the same command resumes an interrupted training. Or a page of photos that it painted, "
    ".html.  [default: painter.safetensors]"
)
@options.json()
@options.seed()
@click.pass_context
def train(context: click.Context, /, photos: Sequence[str], styles: Sequence[str], **given: Any) -> None:
    """Train a network that paints any image in some styles, in one pass."""
    from ..files.images import list_images
    from ..synthesis import StyleNetwork, train_style

    begin = given["begin"]
    output, report = places(given, Path("painter.safetensors"), (".safetensors",), always=True)
    assert output is not None
    if begin is not None and output.resolve() == begin.resolve():
        raise ValueError(f"--add-to and --output are the same file: write the larger network beside {begin}")
    asked = options_of("train_style", train_style, given, ("seed", "steps", "checkpoint", "begin"))
    with computing(given):
        model = load(given["model"], given)
        named = {Path(file).stem: picture(model, file, given["longest"]) for file in styles}
        if len(named) < len(styles):
            raise ValueError("two styles have the same name: rename one of the files")
        checkpoint = output.with_suffix(".checkpoint.safetensors")
        first = None if begin is None else StyleNetwork.load(begin)
        network = train_style(model, list(photos), named, begin=first, checkpoint=checkpoint, **asked)
        network.save(output)
        done = finished(checkpoint, asked["steps"])
        if report is not None:
            shown = {file.stem: picture(model, str(file), given["longest"]) for file in list_images(*photos)[:4]}
            _style_report(context, report, network, shown, {k: k for k in network.styles}, styles=named)
    words = f"styles: {', '.join(network.styles)}"
    tell(given["as_json"], [output, report], words, styles=network.styles, interrupted=not done)
    context.exit(0 if done else STOPPED)


@verb(
    None,
    "Paint an image in a style that a network has learned.",
    """
    pellucid style apply castle.jpg --network painter.safetensors --style waves
    pellucid style apply castle.jpg --network painter.safetensors --style 0.5,0.5 --output both.png
    """,
    of=style,
)
@options.images("IMAGE", "image", 1)
@options.option("--network", required=True, metavar="FILE", type=Place(), help="Made by `pellucid style train`.")
@options.option("--style", "wanted", default="0", metavar="NAME|SHARES", help="A style, or a share for each of them.")
@options.outputs("A picture, or a page with the photo beside it: .html.  [default: painted.png]")
@options.json()
@options.device()
@click.pass_context
def apply(
    context: click.Context, /, image: str, network: str, wanted: str, device: str, as_json: bool, **given: Any
) -> None:
    """Paint an image of any size in a style that a network has learned."""
    from ..files.images import read_image, write_image
    from ..synthesis import StyleNetwork

    output, report = places(given, Path("painted.png"))
    painter = StyleNetwork.load(network).to(device)
    shares: Any = wanted
    if wanted not in painter.styles:
        parts = wanted.split(",")
        with suppress(ValueError):
            shares = int(wanted) if len(parts) == 1 else [float(part) for part in parts]
    photo = read_image(image, channels=painter.channels)[None]
    painted = painter.paint(photo, shares)
    wanted = painter.styles[shares] if isinstance(shares, int) else wanted
    if output is not None:
        write_image(painted[0], output)
    if report is not None:
        _style_report(context, report, painter, {Path(image).stem: photo}, {wanted: shares})
    tell(as_json, [output, report], style=wanted)


def _style_report(
    context: click.Context,
    report: Path,
    network: StyleNetwork,
    photos: Mapping[str, Any],
    wanted: Mapping[str, Any],
    styles: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    from ..report.pages import style_page

    style_page(report, network, photos, wanted, styles=styles, command=written(context))
