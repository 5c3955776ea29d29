"""`pellucid visualize`, `invert`, `dream`, `texture` and `quilt`: pictures that a model makes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

import click

from . import options
from .command import Place, written
from .console import STOPPED, print_json
from .group import UNITS, computing, load, target, values_of, verb

if TYPE_CHECKING:
    from torch import Tensor

    from ..synthesis import Synthesis

Made = tuple["Synthesis", Mapping[str, "Tensor"]]  # and what it was given, for the page
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".bmp")
PAGES = (".html", ".htm")


def makes(name: str) -> options.Decorator:
    """The options of all verbs that make pictures."""
    return options.together(
        options.steps(),
        options.of_method(),
        options.model(),
        options.outputs(f"A picture: .png, .jpg, .webp, .tif; or a page about it: .html.  [default: {name}.png]"),
        options.film(),
        options.json(),
        options.seed(),
    )


@verb(
    UNITS,
    "Make the images that a class or a unit wants to see.",
    """
    pellucid visualize --model resnet50 --target castle
    pellucid visualize --model resnet50 --target layer3:7,layer3:8 --steps 500 --output units.png --output units.html
    pellucid visualize --model digits.pt2 --size 28 --target 6 --option start=ones --film six.gif
    pellucid visualize --model shapes --target star --generator shapes --option count=6
    pellucid visualize --model resnet50 --target castle --facets castles/ --option facets=6
    """,
)
@options.target("A,B", "Labels, indices, or LAYER:CHANNEL, commas between.", required=True)
@options.option("--generator", "decoder", metavar="FILE|shapes", type=Place(("shapes",)),
                help="Climb over the codes of a decoder that `pellucid generator train` made.")  # fmt: skip
@options.option("--facets", metavar="FOLDER", type=Place(),
                help="Images of it: one picture for each kind of them, not the best alone.")  # fmt: skip
@makes("visualize")
@click.pass_context
def visualize(context: click.Context, /, **given: Any) -> None:
    """Make the images that a class or a unit of a model wants to see."""

    def make(model: Any, asked: dict[str, Any]) -> Made:
        from ..model.settings import current
        from ..synthesis import Generator, l2, maximize, multifaceted

        wanted = _targets(given["target"], model)
        if given["facets"] is not None:
            if len(wanted) > 1:
                raise ValueError(f"--facets takes one target, got {len(wanted)}")
            return multifaceted(model, model.read(given["facets"]), wanted[0], **asked), {}
        if given["decoder"] is not None:
            decoder = decoder_in(given["decoder"]).to(current().device)
            codes: dict[str, Any] = {"parametrization": Generator(decoder, bounds=(-2.5, 2.5)), "transforms": ()}
            asked = codes | {"penalties": l2(0.02, on="code"), "size": decoder.size} | asked
        return maximize(model, wanted, **asked), {}

    if given["decoder"] is not None and given["facets"] is not None:
        raise ValueError("--generator has no way back from images, which --facets begins with: leave one of them out")
    write_results(context, given, "maximize" if given["facets"] is None else "multifaceted", make)


@verb(
    UNITS,
    "Show what a layer keeps of an image.",
    """
    pellucid invert castle.jpg --model resnet50 --layer layer2
    pellucid invert castle.jpg --model resnet50 --layer layer1,layer2,layer3 --output layers.html
    """,
)
@options.images("IMAGE", "image", 1)
@options.layers("Of `pellucid layers`", required=True)
@makes("invert")
@click.pass_context
def invert(context: click.Context, /, image: str, **given: Any) -> None:
    """Show what a layer keeps of an image: another image that it cannot tell from it."""

    def make(model: Any, asked: dict[str, Any]) -> Made:
        from ..synthesis import invert

        layers = given["layers"]
        photo = model.read(image)
        return invert(model, photo, layers[0] if len(layers) == 1 else layers, **asked), {Path(image).name: photo}

    write_results(context, given, "invert", make)


@verb(
    UNITS,
    "Make more of what a layer sees in an image.",
    """
    pellucid dream castle.jpg --model resnet50
    pellucid dream castle.jpg --model resnet50 --layer layer3 --guide flowers.jpg
    pellucid dream castle.jpg --model resnet50 --option zoom=60 --film dream.mp4
    """,
)
@options.images("IMAGE", "image", 1)
@options.layer("Whose features are to appear; else one three quarters of the way.")
@options.option("--guide", metavar="IMAGE", type=Place(), help="An image whose features are to appear.")
@options.longest()
@makes("dream")
@click.pass_context
def dream(context: click.Context, /, image: str, **given: Any) -> None:
    """Make more of what a layer sees in an image."""

    def make(model: Any, asked: dict[str, Any]) -> Made:
        from ..objectives import layer
        from ..synthesis import dream

        objective = None if given["layer"] is None else layer(given["layer"])
        files = [file for file in (image, given["guide"]) if file is not None]
        photo, *guide = (picture(model, file, given["longest"]) for file in files)
        made = dream(model, photo, objective, guide=guide[0] if guide else None, **asked)
        return made, dict(zip(names_of(files), [photo, *guide], strict=True))

    write_results(context, given, "dream", make)


@verb(
    UNITS,
    "Make more of a texture, as a model sees it.",
    """
    pellucid texture pebbles.jpg --model vgg19
    pellucid texture pebbles.jpg --model vgg19 --steps 500 --size 512
    """,
)
@options.images("IMAGE", "sample", 1)
@options.longest()
@makes("texture")
@click.pass_context
def texture(context: click.Context, /, sample: str, **given: Any) -> None:
    """Make more of a texture, as a model sees it; --size is that of what is made."""

    def make(model: Any, asked: dict[str, Any]) -> Made:
        from ..synthesis import texture

        made = {} if given["size"] is None else {"size": given["size"]}
        photo = picture(model, sample, given["longest"])
        return texture(model, photo, **made | asked), {Path(sample).name: photo}

    write_results(context, given, "texture", make)


@verb(
    UNITS,
    "Make more of a texture, pixel by pixel, without a model.",
    """
    pellucid quilt pebbles.jpg
    pellucid quilt pebbles.jpg --size 128 --longest 96 --option window=15
    """,
)
@options.images("IMAGE", "sample", 1)
@options.option("--size", metavar="N", type=click.IntRange(3), own=True,
                help="Height and width of what is made.  [default: the sample's]")  # fmt: skip
@options.longest(64, "A larger sample is scaled down to it, in pixels.")
@options.of_method()
@options.outputs("A picture: .png, .jpg, .webp, .tif; or a page about it: .html.  [default: quilt.png]")
@options.json()
@options.seed()
@click.pass_context
def quilt(context: click.Context, /, sample: str, **given: Any) -> None:
    """Make more of a texture, pixel by pixel from the sample itself; no model is needed."""
    from ..files.images import read_image
    from ..report.pages import synthesis_page
    from ..synthesis import quilt

    output, report = places(given, Path("quilt.png"))
    asked, size = options_of("quilt", quilt, given, ("size", "seed")), given["size"]
    photo = _no_larger(read_image(sample)[None], given["longest"])
    made = quilt(photo, size=size, **asked)
    if output is not None:
        made.save(output, plain=True)
    if report is not None:
        pictures = {Path(sample).name: photo}
        synthesis_page(report, "no network", made, given=pictures, command=written(context))
    height, width = made.images.shape[2:]
    words = f"{width} x {height} pixels{', interrupted' if made.interrupted else ''}"
    tell(given["as_json"], [output, report], words, interrupted=made.interrupted)
    context.exit(STOPPED if made.interrupted else 0)


def tell(as_json: bool, places: Sequence[Path | None], words: str = "", **facts: Any) -> None:
    """What was written, and a few words on it; or as JSON, with facts for machines."""
    written = [str(place) for place in places if place is not None]
    if as_json:
        print_json({"output": written, **facts})
    else:
        click.echo(f"wrote {', '.join(written)}{f' ({words})' if words else ''}")


def write_results(
    context: click.Context, given: dict[str, Any], name: str, make: Callable[..., Made], picture: str = ""
) -> None:
    """Check where results go, make them, write them, and say so; picture: its name if none was given."""
    from ..jobs.explain.outputs import check_output

    output, report = places(given, Path(f"{picture or context.info_name}.png"))
    film = given["film"]
    from .. import synthesis
    from ..synthesis.ascent.film import FILMS, check_film

    check_places([(film, FILMS)])
    if report is not None:
        check_output(report, "html", [])
    if film is not None:
        check_film(film)

    asked = options_of(name, getattr(synthesis, name), given, ("seed", "steps", "film", "guide"))
    if film is not None and not asked.get("zoom"):
        asked["film"] = max(1, asked["steps"] // 50)
    with computing(given):
        model = load(given["model"], given)
        result, pictures = make(model, asked)
        if output is not None:
            result.save(output, plain=True)
        if film is not None:
            result.film(film)
        if report is not None:
            from ..report.pages import synthesis_page

            synthesis_page(report, model, result, given=pictures, command=written(context))
    images = [{"of": t, "value": v} for t, v in zip(result.titles, result.values.tolist(), strict=False)]
    words = f"{result.steps} steps{', interrupted' if result.interrupted else ''}"
    facts = {"steps": result.steps, "interrupted": result.interrupted, "images": images}
    tell(given["as_json"], [output, film, report], words, **facts)
    context.exit(STOPPED if result.interrupted else 0)


def places(
    given: dict[str, Any], default: Path, kinds: Sequence[str] = PICTURES, *, always: bool = False
) -> tuple[Path | None, Path | None]:
    """Where what is made goes, and where a page about it; of what --output names, the ending tells.

    default: where it goes if nothing is said; if only a page is asked for, that is all, but where it is always kept.
    """
    pages = [place for place in given["outputs"] if place.suffix.lower() in PAGES]
    things = [place for place in given["outputs"] if place not in pages]
    asked_for_page = bool(pages)
    pages += [given["report"]] if given["report"] is not None else []
    check_places([*((place, (*kinds, *PAGES)) for place in things), *((place, PAGES) for place in pages)])
    for several in (pages, things):
        if len(several) > 1:
            raise ValueError(f"--output {several[0]} and {several[1]} are for the same thing: give one of them")
    thing = things[0] if things else None if asked_for_page and not always else default
    check_places([(thing, kinds)])
    return thing, pages[0] if pages else None


def check_places(pooling: Sequence[tuple[Path | None, Sequence[str]]]) -> None:
    """Refuse files that end in something else, or lie in a folder that there is not."""
    for place, kinds in pooling:
        if place is not None and place.suffix.lower() not in kinds:
            raise ValueError(f"{place}: expected a file that ends in {', '.join(kinds)}")
        if place is not None and not place.absolute().parent.is_dir():
            raise ValueError(f"{place}: there is no folder {place.parent}")


def options_of(name: str, function: Any, given: dict[str, Any], elsewhere: Sequence[str]) -> dict[str, Any]:
    """The options of a function from --option, --steps and --seed; steps as they are by default."""
    function = inspect.unwrap(function)
    known = {p.name: p.default for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY}
    found = values_of(name, given["options"], known, get_type_hints(function), elsewhere)
    steps = {"steps": given["steps"] or known["steps"]} if "steps" in known else {}
    return found | {"seed": given["seed"]} | steps


def finished(checkpoint: Path, steps: int) -> bool:
    """Whether a training made all its steps; its checkpoint goes then."""
    from ..model.training import steps_in

    if steps_in(checkpoint) < steps:
        return False
    checkpoint.unlink()
    return True


def decoder_in(file: str) -> Any:
    """The decoder in a file; "shapes" is the one that ships with the package."""
    from ..shapes import generator
    from ..synthesis import Decoder

    return generator() if file == "shapes" else Decoder.load(file)


def names_of(files: Sequence[str]) -> list[str]:
    """What to call files on a page, each otherwise."""
    return [
        f"{number}. {Path(file).name}" if len(files) > 1 else Path(file).name for number, file in enumerate(files, 1)
    ]


def _targets(text: str, model: Any) -> list[Any]:
    """The objectives in "a,b"; a label with a comma in it is looked for first."""
    if text in model.labels:
        return [text]
    return [target(part.strip(), model) for part in text.split(",")]


def picture(model: Any, file: str, longest: int) -> Any:
    """A picture with its own proportions: dreams and textures need no square."""
    from ..files.images import read_image

    return _no_larger(read_image(file, channels=model.preprocessing.channels)[None], longest)


def _no_larger(image: Any, longest: int) -> Any:
    from torch.nn import functional as F

    sides = image.shape[2:]
    if max(sides) <= longest:
        return image
    smaller = [max(1, round(side * longest / max(sides))) for side in sides]
    return F.interpolate(image, smaller, mode="bicubic", antialias=True).clamp(0, 1)
