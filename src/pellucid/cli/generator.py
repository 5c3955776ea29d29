"""`pellucid generator`: decoders of codes, so that an ascent keeps to what images are like."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from .console import CODES, STOPPED
from .group import computing, json_option, load, main, names_in, with_model
from .synthesis import PAGES, PICTURES, check_places, decoder_in, finished, options_of, tell


@main.group(
    epilog=f"""\b
Examples:
  pellucid generator train photos/ --output faces.safetensors --report faces.html
  pellucid generator draw faces.safetensors --output faces.png
  pellucid visualize --model mine.pt2 --target smile --generator faces.safetensors

{CODES}"""
)
def generator() -> None:
    """Train a decoder of images, over whose codes `visualize` climbs: what it shows then looks like its images."""


@generator.command(
    epilog=f"""\b
Examples:
  pellucid generator train photos/ --size 96 --steps 8000 --option mirror=true --output faces.safetensors
  pellucid generator train digits/ --size 28 --option channels=1 --option length=24 --output digits.safetensors
  pellucid generator train photos/ --model vgg16 --layers features.4 --size 96

{CODES}"""
)
@click.argument("photos", nargs=-1, required=True, metavar="IMAGE|FOLDER...")
@click.option("--model", metavar="NAME|FILE", help="Whose features decoded images must share, for sharper edges.")
@click.option("--layers", metavar="A,B", help="Of that model.")
@click.option("--steps", type=click.IntRange(1), metavar="N", help="How many to take.")
@click.option("--option", "options", multiple=True, metavar="NAME=VALUE", help="Another option; repeatable.")
@click.option(
    "--output", type=click.Path(path_type=Path), default=Path("generator.safetensors"), metavar="PATH",
    show_default=True, help="The decoder; the same command goes on where it was stopped.",
)  # fmt: skip
@click.option("--report", type=click.Path(path_type=Path), metavar="PATH", help="A page of images that it draws.")
@click.option("--seed", type=int, default=0, show_default=True, metavar="S", help="Of what is random.")
@with_model
@json_option
@click.pass_context
def train(context: click.Context, /, photos: Sequence[str], **given: Any) -> None:
    """Train a decoder on the images of a folder; --size is that of what it draws, by default 64 or the model's."""
    from ..report.pages import generator_page
    from ..synthesis import train_generator

    output, layers = given["output"], names_in(given["layers"]) or []
    check_places([(output, (".safetensors",)), (given["report"], PAGES)])
    elsewhere = ("seed", "steps", "checkpoint", "model", "layers", "size")
    options = options_of("train_generator", train_generator, given, elsewhere)
    with computing(given):
        model = None if given["model"] is None else load(given["model"], given)
        known = None if model is None or model.preprocessing.size is None else model.preprocessing.size[0]
        if size := given["size"] or known:
            options["size"] = size
        if model is not None:
            options = {"channels": model.preprocessing.channels} | options
        checkpoint = output.with_suffix(".checkpoint.safetensors")
        decoder = train_generator(list(photos), model=model, layers=layers, checkpoint=checkpoint, **options)
        decoder.save(output)
        done = finished(checkpoint, options["steps"])
        if given["report"] is not None:
            generator_page(given["report"], decoder, list(photos), command=shlex.join(["pellucid", *context.obj]))
    words = f"codes of {decoder.length} numbers"
    tell(given["as_json"], [output, given["report"]], words, code=decoder.length, interrupted=not done)
    context.exit(0 if done else STOPPED)


@generator.command(
    epilog=f"""\b
Examples:
  pellucid generator draw faces.safetensors
  pellucid generator draw shapes --count 40 --output shapes.png

{CODES}"""
)
@click.argument("decoder", metavar="FILE|shapes")
@click.option("--count", type=click.IntRange(1), default=20, show_default=True, metavar="N", help="How many images.")
@click.option("--output", type=click.Path(path_type=Path), default=Path("drawn.png"), metavar="PATH",
              show_default=True, help="A picture.")  # fmt: skip
@click.option("--seed", type=int, default=0, show_default=True, metavar="S", help="Of the codes.")
@json_option
def draw(decoder: str, count: int, output: Path, seed: int, as_json: bool) -> None:
    """Draw the images of random codes: what a decoder has learned."""
    from ..synthesis import Synthesis
    from ..synthesis.ingredients.decoder import random_images

    check_places([(output, PICTURES)])
    Synthesis(random_images(decoder_in(decoder), count, seed)).save(output, plain=True)
    tell(as_json, [output], images=count)
