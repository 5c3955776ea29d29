"""`pellucid visualize`, `invert`, `dream`, `texture` and `style`: pictures that a model makes."""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, get_type_hints

import click

from ..console import CODES, print_json
from .group import computing, json_option, load, main, target, values_of, with_model

if TYPE_CHECKING:
    from ..synthesis import StyleNetwork, Synthesis

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".bmp")


LONGEST = click.option(
    "--longest", type=click.IntRange(1), default=512, show_default=True, metavar="N",
    help="Larger pictures are scaled down to it, in pixels.",
)  # fmt: skip


def _made(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The options of all verbs that make pictures."""
    options = (
        click.option("--model", required=True, metavar="NAME|FILE", help="A name of `pellucid models`, or a file."),
        click.option("--steps", type=click.IntRange(1), metavar="N", help="How many to take."),
        click.option(
            "--option", "options", multiple=True, metavar="NAME=VALUE", help="Another option; repeatable."
        ),
        click.option(
            "--output", type=click.Path(path_type=Path), default=Path(f"{name}.png"), metavar="PATH", show_default=True,
            help="A picture: .png, .jpg, .webp, .tif.",
        ),
        click.option(
            "--film", type=click.Path(path_type=Path), metavar="PATH",
            help="A film of how it came about: .gif, .webp, or .mp4.",
        ),
        click.option("--report", type=click.Path(path_type=Path), metavar="PATH", help="A page about it as well."),
        click.option("--seed", type=int, default=0, show_default=True, metavar="S", help="Of what is random."),
    )  # fmt: skip

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        command = json_option(with_model(command))
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


@main.command(
    epilog=f"""\b
Examples:
  pellucid visualize --model resnet50 --target castle
  pellucid visualize --model resnet50 --target layer3:7,layer3:8 --steps 500 --report units.html
  pellucid visualize --model digits.pt2 --size 28 --target 6 --option start=ones --film six.gif

{CODES}"""
)
@click.option("--target", required=True, metavar="A,B", help="Labels, indices, or LAYER:CHANNEL, commas between.")
@_made("visualize")
@click.pass_context
def visualize(context: click.Context, /, **given: Any) -> None:
    """Make the images that a class or a unit of a model wants to see."""

    def make(model: Any, options: dict[str, Any]) -> Synthesis:
        from ..synthesis import maximize

        return maximize(model, _targets(given["target"], model), **options)

    _run(context, given, "maximize", make)


@main.command(
    epilog=f"""\b
Examples:
  pellucid invert castle.jpg --model resnet50 --layer layer2
  pellucid invert castle.jpg --model resnet50 --layer layer1,layer2,layer3 --report layers.html

{CODES}"""
)
@click.argument("image", metavar="IMAGE")
@click.option("--layer", required=True, metavar="A,B", help="Of `pellucid layers`; several with commas between.")
@_made("invert")
@click.pass_context
def invert(context: click.Context, /, image: str, **given: Any) -> None:
    """Show what a layer keeps of an image: another image that it cannot tell from it."""

    def make(model: Any, options: dict[str, Any]) -> Synthesis:
        from ..synthesis import invert

        layers = [name.strip() for name in given["layer"].split(",")]
        return invert(model, model.read(image), layers[0] if len(layers) == 1 else layers, **options)

    _run(context, given, "invert", make)


@main.command(
    epilog=f"""\b
Examples:
  pellucid dream castle.jpg --model resnet50
  pellucid dream castle.jpg --model resnet50 --layer layer3 --guide flowers.jpg
  pellucid dream castle.jpg --model resnet50 --option zoom=60 --film dream.mp4

{CODES}"""
)
@click.argument("image", metavar="IMAGE")
@click.option("--layer", metavar="NAME", help="Whose features are to appear; else one three quarters of the way.")
@click.option("--guide", metavar="IMAGE", help="An image whose features are to appear.")
@LONGEST
@_made("dream")
@click.pass_context
def dream(context: click.Context, /, image: str, **given: Any) -> None:
    """Make more of what a layer sees in an image."""

    def make(model: Any, options: dict[str, Any]) -> Synthesis:
        from ..objectives import layer
        from ..synthesis import dream

        objective = None if given["layer"] is None else layer(given["layer"])
        guide = None if given["guide"] is None else _picture(model, given["guide"], given["longest"])
        return dream(model, _picture(model, image, given["longest"]), objective, guide=guide, **options)

    _run(context, given, "dream", make)


@main.command(
    epilog=f"""\b
Examples:
  pellucid texture pebbles.jpg --model vgg19
  pellucid texture pebbles.jpg --model vgg19 --steps 500 --option size=512

{CODES}"""
)
@click.argument("sample", metavar="IMAGE")
@LONGEST
@_made("texture")
@click.pass_context
def texture(context: click.Context, /, sample: str, **given: Any) -> None:
    """Make more of a texture, as a model sees it."""

    def make(model: Any, options: dict[str, Any]) -> Synthesis:
        from ..synthesis import texture

        return texture(model, _picture(model, sample, given["longest"]), **options)

    _run(context, given, "texture", make)


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
  pellucid style transfer castle.jpg waves.jpg sketch.jpg --model vgg19 --option style_weight=30

{CODES}"""
)
@click.argument("image", metavar="IMAGE")
@click.argument("styles", nargs=-1, required=True, metavar="STYLE...")
@LONGEST
@_made("painted")
@click.pass_context
def transfer(context: click.Context, /, image: str, styles: Sequence[str], **given: Any) -> None:
    """Paint an image in the style of one or several others, as a model sees them."""

    def make(model: Any, options: dict[str, Any]) -> Synthesis:
        from ..synthesis import style_transfer

        taken = [_picture(model, one, given["longest"]) for one in styles]
        return style_transfer(
            model, _picture(model, image, given["longest"]), taken if len(taken) > 1 else taken[0], **options
        )

    _run(context, given, "style_transfer", make)


@style.command(
    epilog=f"""\b
Examples:
  pellucid style train photos/ --style waves.jpg --model vgg19 --output painter.safetensors
  pellucid style train photos/ --style waves.jpg --style mosaic.jpg --model squeezenet1_1 --steps 4000

{CODES}"""
)
@click.argument("photos", nargs=-1, required=True, metavar="IMAGE|FOLDER...")
@click.option("--style", "styles", multiple=True, required=True, metavar="IMAGE", help="A style; repeatable.")
@click.option("--model", required=True, metavar="NAME|FILE", help="A name of `pellucid models`, or a file.")
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
@click.pass_context
def train(context: click.Context, /, photos: Sequence[str], styles: Sequence[str], **given: Any) -> None:
    """Train a network that paints any image in some styles, in one pass."""
    from ..images import list_images
    from ..synthesis import train_style

    output: Path = given["output"]
    _check_places([(output, (".safetensors",)), (given["report"], (".html", ".htm"))])
    options = _options("train_style", train_style, given, ("seed", "steps", "checkpoint", "begin"))
    with computing(given):
        model = load(given["model"], given)
        named = {Path(file).stem: _picture(model, file, given["longest"]) for file in styles}
        if len(named) < len(styles):
            raise ValueError("two styles have the same name: rename one of the files")
        checkpoint = output.with_suffix(".checkpoint.safetensors")
        network = train_style(model, list(photos), named, checkpoint=checkpoint, **options)
        network.save(output)
        checkpoint.unlink(missing_ok=True)
        if given["report"] is not None:
            shown = {file.stem: _picture(model, str(file), given["longest"]) for file in list_images(*photos)[:4]}
            _style_report(context, given["report"], network, shown, {k: k for k in network.styles}, styles=named)
    click.echo(f"wrote {', '.join(map(str, _given(output, given['report'])))} (styles: {', '.join(network.styles)})")


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
@click.pass_context
def apply(
    context: click.Context, /, image: str, network: str, wanted: str, output: Path, report: Path | None, device: str
) -> None:
    """Paint an image of any size in a style that a network has learned."""
    from ..images import read_image, write_image
    from ..synthesis import StyleNetwork

    _check_places([(output, PICTURES), (report, (".html", ".htm"))])
    painter = StyleNetwork.load(network).to(device)
    shares: Any = wanted
    if wanted not in painter.styles:
        parts = wanted.split(",")
        with suppress(ValueError):
            shares = int(wanted) if len(parts) == 1 else [float(part) for part in parts]
    photo = read_image(image, channels=painter.channels)[None]
    painted = painter.paint(photo, shares)
    write_image(painted[0], output)
    if report is not None:
        _style_report(context, report, painter, {Path(image).stem: photo}, {wanted: shares})
    click.echo(f"wrote {', '.join(map(str, _given(output, report)))}")


def _style_report(
    context: click.Context,
    report: Path,
    network: StyleNetwork,
    photos: Mapping[str, Any],
    wanted: Mapping[str, Any],
    styles: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    from ..pages import style_page

    style_page(report, network, photos, wanted, styles=styles, command=shlex.join(["pellucid", *context.obj]))


def _given(*places: Path | None) -> list[Path]:
    return [place for place in places if place is not None]


def _run(context: click.Context, given: dict[str, Any], name: str, make: Callable[..., Synthesis]) -> None:
    """Check where results go, make them, write them, and say so."""
    from ..explain.outputs import check_output

    output, film, report = given["output"], given["film"], given["report"]
    from .. import synthesis
    from ..synthesis.film import FILMS, check_film

    _check_places([(output, PICTURES), (film, FILMS), (report, (".html", ".htm"))])
    if report is not None:
        check_output(report, "html", [])
    if film is not None:
        check_film(film)

    options = _options(name, getattr(synthesis, name), given, ("seed", "steps", "film", "guide"))
    known = inspect.signature(getattr(synthesis, name)).parameters
    if film is not None and not options.get("zoom"):
        options["film"] = max(1, options.get("steps", known["steps"].default) // 50)
    with computing(given):
        model = load(given["model"], given)
        result = make(model, options)
        result.save(output, plain=True)
        if film is not None:
            result.film(film)
        if report is not None:
            from ..pages import synthesis_page

            synthesis_page(report, model, result, command=shlex.join(["pellucid", *context.obj]))
    places = [str(place) for place in (output, film, report) if place is not None]
    if given["as_json"]:
        images = zip(result.titles, result.values.tolist(), strict=False)
        print_json(
            {"output": places, "steps": result.steps, "interrupted": result.interrupted,
             "images": [{"of": title, "value": value} for title, value in images]}
        )  # fmt: skip
    else:
        stopped = ", interrupted" if result.interrupted else ""
        click.echo(f"wrote {', '.join(places)} ({result.steps} steps{stopped})")
    context.exit(130 if result.interrupted else 0)


def _check_places(places: Sequence[tuple[Path | None, Sequence[str]]]) -> None:
    """Refuse files that end in something else, or lie in a folder that there is not."""
    for place, kinds in places:
        if place is not None and place.suffix.lower() not in kinds:
            raise ValueError(f"{place}: expected a file that ends in {', '.join(kinds)}")
        if place is not None and not place.absolute().parent.is_dir():
            raise ValueError(f"{place}: there is no folder {place.parent}")


def _options(name: str, function: Any, given: dict[str, Any], elsewhere: Sequence[str]) -> dict[str, Any]:
    """The options of a function from --option, --steps and --seed."""
    function = inspect.unwrap(function)
    known = {p.name: p.default for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY}
    options = values_of(name, given["options"], known, get_type_hints(function), elsewhere)
    return options | {"seed": given["seed"]} | ({"steps": given["steps"]} if given["steps"] else {})


def _targets(text: str, model: Any) -> list[Any]:
    """The objectives in "a,b"; a label with a comma in it is looked for first."""
    if text in model.labels:
        return [text]
    return [target(part.strip(), model) for part in text.split(",")]


def _picture(model: Any, file: str, longest: int) -> Any:
    """A picture with its own proportions: dreams and textures need no square."""
    from torch.nn import functional as F

    from ..images import read_image

    image = read_image(file, channels=model.preprocessing.channels)[None]
    sides = image.shape[2:]
    if max(sides) <= longest:
        return image
    smaller = [max(1, round(side * longest / max(sides))) for side in sides]
    return F.interpolate(image, smaller, mode="bicubic", antialias=True).clamp(0, 1)
