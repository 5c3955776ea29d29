"""`pellucid style`: one image painted as others are, or a network that learns to paint any."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import click

from .console import CODES, STOPPED
from .group import MODEL, computing, json_option, load, main, with_model
from .synthesis import (
    LONGEST,
    PAGES,
    PICTURES,
    Made,
    check_places,
    finished,
    makes,
    names_of,
    options_of,
    picture,
    tell,
    write_results,
)

if TYPE_CHECKING:
    from ..synthesis import StyleNetwork


@main.group(
    epilog=f"""\b
Examples:
  pellucid style transfer castle.jpg starry_night.jpg --model vgg19
  pellucid style train photos/ --style waves.jpg --style mosaic.jpg --model vgg19 --output painter.safetensors
  pellucid style apply castle.jpg --network painter.safetensors --style waves

{CODES}"""
)
def style() -> None:
    """Paint images in the style of others: one image slowly, or any by a network that learns to."""


@style.command(
    epilog=f"""\b
Examples:
  pellucid style transfer castle.jpg starry_night.jpg --model vgg19
  pellucid style transfer castle.jpg waves.jpg sketch.jpg --model vgg19 --option mixture=0.7,0.3
  pellucid style transfer castle.jpg waves.jpg sand.jpg --model vgg19 --mask sea.png --mask beach.png

{CODES}"""
)
@click.argument("image", metavar="IMAGE")
@click.argument("styles", nargs=-1, required=True, metavar="STYLE...")
@click.option("--mask", "masks", multiple=True, metavar="IMAGE",
              help="For each style a picture that is white where it goes; repeatable.")  # fmt: skip
@LONGEST
@makes("painted")
@click.pass_context
def transfer(context: click.Context, /, image: str, styles: Sequence[str], **given: Any) -> None:
    """Paint an image in the style of one or several others, as a model sees them."""

    def make(model: Any, options: dict[str, Any]) -> Made:
        from ..files.images import read_image
        from ..synthesis import style_transfer

        content = picture(model, image, given["longest"])
        sides = (int(content.shape[2]), int(content.shape[3]))
        masks = [read_image(file, channels=1, resize=sides)[0] for file in given["masks"]]
        taken = [picture(model, one, given["longest"]) for one in styles]
        made = style_transfer(model, content, taken, masks=masks, **options)
        return made, dict(zip(names_of([image, *styles]), [content, *taken], strict=True))

    write_results(context, given, "style_transfer", make)


@style.command(
    epilog=f"""\b
Examples:
  pellucid style train photos/ --style waves.jpg --model vgg19 --output painter.safetensors
  pellucid style train photos/ --style waves.jpg --style mosaic.jpg --model squeezenet1_1 --steps 4000
  pellucid style train photos/ --style sand.jpg --model vgg19 --add-to painter.safetensors --output three.safetensors

{CODES}"""
)
@click.argument("photos", nargs=-1, required=True, metavar="IMAGE|FOLDER...")
@click.option("--style", "styles", multiple=True, required=True, metavar="IMAGE", help="A style; repeatable.")
@click.option("--add-to", "begin", type=click.Path(path_type=Path), metavar="FILE",
              help="A trained network to add the styles to; those that it knows stay as they are.")  # fmt: skip
@click.option("--model", required=True, metavar="NAME|FILE", help=MODEL)
@click.option("--steps", type=click.IntRange(1), metavar="N", help="How many to take.")
@click.option("--option", "options", multiple=True, metavar="NAME=VALUE", help="Another option; repeatable.")
@click.option(
    "--output", type=click.Path(path_type=Path), default=Path("painter.safetensors"), metavar="PATH", show_default=True,
    help="The network; the same command goes on where it was stopped.",
)  # fmt: skip
@click.option("--report", type=click.Path(path_type=Path), metavar="PATH", help="A page of photos that it painted.")
@click.option("--seed", type=int, default=0, show_default=True, metavar="S", help="Of what is random.")
@LONGEST
@with_model
@json_option
@click.pass_context
def train(context: click.Context, /, photos: Sequence[str], styles: Sequence[str], **given: Any) -> None:
    """Train a network that paints any image in some styles, in one pass."""
    from ..files.images import list_images
    from ..synthesis import StyleNetwork, train_style

    output, begin = given["output"], given["begin"]
    check_places([(output, (".safetensors",)), (given["report"], PAGES)])
    if begin is not None and output.resolve() == begin.resolve():
        raise ValueError(f"--add-to and --output are the same file: write the larger network beside {begin}")
    options = options_of("train_style", train_style, given, ("seed", "steps", "checkpoint", "begin"))
    with computing(given):
        model = load(given["model"], given)
        named = {Path(file).stem: picture(model, file, given["longest"]) for file in styles}
        if len(named) < len(styles):
            raise ValueError("two styles have the same name: rename one of the files")
        checkpoint = output.with_suffix(".checkpoint.safetensors")
        first = None if begin is None else StyleNetwork.load(begin)
        network = train_style(model, list(photos), named, begin=first, checkpoint=checkpoint, **options)
        network.save(output)
        done = finished(checkpoint, options["steps"])
        if given["report"] is not None:
            shown = {file.stem: picture(model, str(file), given["longest"]) for file in list_images(*photos)[:4]}
            _style_report(context, given["report"], network, shown, {k: k for k in network.styles}, styles=named)
    words = f"styles: {', '.join(network.styles)}"
    tell(given["as_json"], [output, given["report"]], words, styles=network.styles, interrupted=not done)
    context.exit(0 if done else STOPPED)


@style.command(
    epilog=f"""\b
Examples:
  pellucid style apply castle.jpg --network painter.safetensors --style waves
  pellucid style apply castle.jpg --network painter.safetensors --style 0.5,0.5 --output both.png

{CODES}"""
)
@click.argument("image", metavar="IMAGE")
@click.option("--network", required=True, metavar="FILE", help="Made by `pellucid style train`.")
@click.option("--style", "wanted", default="0", metavar="NAME|SHARES", help="A style, or a share for each of them.")
@click.option("--output", type=click.Path(path_type=Path), default=Path("painted.png"), metavar="PATH",
              show_default=True, help="A picture.")  # fmt: skip
@click.option("--report", type=click.Path(path_type=Path), metavar="PATH", help="A page with the photo beside it.")
@click.option("--device", metavar="D", default="cpu", show_default=True, help="cpu, cuda, cuda:1, mps.")
@json_option
@click.pass_context
def apply(
    context: click.Context, /, image: str, network: str, wanted: str, output: Path, report: Path | None, device: str,
    as_json: bool,
) -> None:  # fmt: skip
    """Paint an image of any size in a style that a network has learned."""
    from ..files.images import read_image, write_image
    from ..synthesis import StyleNetwork

    check_places([(output, PICTURES), (report, PAGES)])
    painter = StyleNetwork.load(network).to(device)
    shares: Any = wanted
    if wanted not in painter.styles:
        parts = wanted.split(",")
        with suppress(ValueError):
            shares = int(wanted) if len(parts) == 1 else [float(part) for part in parts]
    photo = read_image(image, channels=painter.channels)[None]
    painted = painter.paint(photo, shares)
    wanted = painter.styles[shares] if isinstance(shares, int) else wanted
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

    style_page(report, network, photos, wanted, styles=styles, command=shlex.join(["pellucid", *context.obj]))
