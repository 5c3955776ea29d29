"""`pellucid generator`: decoders of codes, so that an ascent keeps to what images are like."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from . import options
from .command import Place, Verbs, forget, written
from .console import CODES, STOPPED
from .group import UNITS, computing, load, main, verb
from .synthesis import PICTURES, check_places, decoder_in, finished, options_of, places, tell


@main.group(
    cls=Verbs,
    section=UNITS,
    short_help="Train a decoder of images for `visualize` to climb over.",
    epilog=f"""\b
Examples:
  pellucid generator train photos/ --output faces.safetensors --output faces.html
  pellucid generator draw faces.safetensors --output faces.png
  pellucid visualize --model mine.pt2 --target smile --generator faces.safetensors

{CODES}""",
)
def generator() -> None:
    """Train a decoder of images, over whose codes `visualize` climbs: what it shows then looks like its images."""


@verb(
    None,
    "Train a decoder on the images of a folder.",
    """
    pellucid generator train photos/ --size 96 --steps 8000 --option mirror=true --output faces.safetensors
    pellucid generator train digits/ --size 28 --option channels=1 --option length=24 --output digits.safetensors
    pellucid generator train photos/ --model vgg16 --layer features.4 --size 96
    """,
    of=generator,
)
@options.images(name="photos")
@options.layers("Of that model")
@options.steps()
@options.of_method()
@options.model("Whose features decoded images must share, for sharper edges.", required=False)
@options.outputs(
    "The decoder, .safetensors; the same command resumes an interrupted training. Or a page of images that it draws, "
    ".html.  [default: generator.safetensors]"
)
@options.json()
@options.seed()
@click.pass_context
def train(context: click.Context, /, photos: Sequence[str], **given: Any) -> None:
    """Train a decoder on the images of a folder; --size is that of what it draws, by default 64 or the model's."""
    from ..report.pages import generator_page
    from ..synthesis import train_generator

    output, report = places(given, Path("generator.safetensors"), (".safetensors",), always=True)
    assert output is not None
    layers = given["layers"] or []
    if not layers:
        forget(context, given, "model", "its features are compared only with --layer")
    elsewhere = ("seed", "steps", "checkpoint", "model", "layers", "size")
    asked = options_of("train_generator", train_generator, given, elsewhere)
    with computing(given):
        model = None if given["model"] is None else load(given["model"], given)
        known = None if model is None or model.preprocessing.size is None else model.preprocessing.size[0]
        if size := given["size"] or known:
            asked["size"] = size
        if model is not None:
            asked = {"channels": model.preprocessing.channels} | asked
        checkpoint = output.with_suffix(".checkpoint.safetensors")
        decoder = train_generator(list(photos), model=model, layers=layers, checkpoint=checkpoint, **asked)
        decoder.save(output)
        done = finished(checkpoint, asked["steps"])
        if report is not None:
            generator_page(report, decoder, list(photos), command=written(context))
    words = f"codes of {decoder.length} numbers"
    tell(given["as_json"], [output, report], words, code=decoder.length, interrupted=not done)
    context.exit(0 if done else STOPPED)


@verb(
    None,
    "Draw the images of random codes.",
    """
    pellucid generator draw faces.safetensors
    pellucid generator draw shapes --count 40 --output shapes.png
    """,
    of=generator,
)
@click.argument("decoder", metavar="FILE|shapes", type=Place(("shapes",)))
@options.option("--count", type=click.IntRange(1), default=20, metavar="N", help="How many images.")
@options.output("drawn.png", "A picture.")
@options.json()
@options.seed("Of the codes.")
def draw(decoder: str, count: int, output: Path, seed: int, as_json: bool) -> None:
    """Draw the images of random codes: what a decoder has learned."""
    from ..synthesis import Synthesis
    from ..synthesis.ingredients.decoder import random_images

    check_places([(output, PICTURES)])
    Synthesis(random_images(decoder_in(decoder), count, seed)).save(output, plain=True)
    tell(as_json, [output], images=count)
