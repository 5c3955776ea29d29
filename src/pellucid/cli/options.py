"""Options that several commands take, each said once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from . import completion
from .command import ASKED, COMPUTING, MODEL, OUTPUT, Option, Place

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

A_MODEL = "A name of `pellucid models`, or a file: .pt2, .onnx, .keras, .h5, or the folder of a SavedModel."
MAPS = ("attribution",)  # kinds of methods that make maps


def option(*names: str, room: str = ASKED, former: Sequence[str] = (), **attrs: Any) -> Decorator:
    """An option whose default is shown, in a room of the page of help; former names of it are taken, and not shown."""
    attrs.setdefault("show_default", True)
    return click.option(*names, cls=Option, room=room, former=former, **attrs)


def together(*options: Decorator) -> Decorator:
    """Several options as one decorator, in this order."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for one in reversed(options):
            command = one(command)
        return command

    return decorate


def numbers(_context: click.Context, _parameter: click.Parameter, value: str | None) -> Any:
    if value is None:
        return None
    try:
        numbers = [float(part) for part in value.split(",")]
    except ValueError:
        raise click.BadParameter(f"{value!r} is no number, nor several with commas between") from None
    return numbers[0] if len(numbers) == 1 else numbers


def names_in(text: str | None) -> list[str] | None:
    """Words between commas."""
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def _layers(_context: click.Context, _parameter: click.Parameter, texts: Sequence[str]) -> list[str] | None:
    return [name for text in texts for name in names_in(text) or ()] or None


# Of what is asked.


def images(metavar: str = "IMAGE|FOLDER...", name: str = "images", nargs: int = -1) -> Decorator:
    return click.argument(name, nargs=nargs, required=True, metavar=metavar, type=Place())


def target(metavar: str, help: str, **attrs: Any) -> Decorator:
    return option("--target", "target", metavar=metavar, help=help, former=("--objective",), **attrs)


def layer(help: str = "For methods that look at one; see `pellucid layers`.", **attrs: Any) -> Decorator:
    """One layer."""
    return option("--layer", "layer", metavar="NAME", help=help, former=("--layers",),
                  shell_complete=completion.layers, **attrs)  # fmt: skip


def layers(help: str, **attrs: Any) -> Decorator:
    """Some layers, as a list; None if none is given."""
    return option("--layer", "layers", metavar="A,B", multiple=True, callback=_layers, former=("--layers",),
                  help=f"{help}; several with commas between, or repeated.", shell_complete=completion.layers,
                  **attrs)  # fmt: skip


def method(help: str, kinds: Sequence[str] = MAPS, **attrs: Any) -> Decorator:
    """One method."""
    complete: dict[str, Any] = {} if "type" in attrs else {"shell_complete": completion.methods(kinds)}
    return option("--method", "method", metavar=attrs.pop("metavar", "NAME"), help=help, former=("--methods",),
                  **complete, **attrs)  # fmt: skip


def methods() -> Decorator:
    """Some methods, as the text that was given."""
    return option("--methods", "methods", metavar="A,B", former=("--method",),
                  help="Names of `pellucid methods`, or 'all'; the usual ones by default.",
                  shell_complete=completion.methods(MAPS, many=True, more=("all",)))  # fmt: skip


def of_method(help: str = "Another option; repeatable.", metavar: str = "NAME=VALUE") -> Decorator:
    return option("--option", "options", multiple=True, metavar=metavar, help=help, former=("--options",))


def steps(help: str = "How many to take.", least: int = 1, **attrs: Any) -> Decorator:
    return option("--steps", type=click.IntRange(least), metavar="N", help=help, **attrs)


def truth(
    help: str = "True classes: a .csv or .json of files and labels, or the names of folders.",
    words: Sequence[str] = ("folders", "none"),
) -> Decorator:
    return option("--truth", default="folders", metavar="|".join(("FILE", *words)), type=Place(words), help=help)


def longest(default: int = 512, help: str = "Larger pictures are scaled down to it, in pixels.") -> Decorator:
    return option("--longest", type=click.IntRange(1), default=default, metavar="N", help=help)


# Of the model, and where it computes.


def model(help: str = A_MODEL, *, named: bool = True, **attrs: Any) -> Decorator:
    """Which model, and where it computes; not named where it is an argument."""
    attrs.setdefault("required", True)
    name = option("--model", metavar="NAME|FILE", help=help, room=MODEL, type=Place(None),
                  shell_complete=completion.models, **attrs)  # fmt: skip
    return together(*[name] * named, *_OF_MODEL, device(), batch_size())


_OF_MODEL = (
    option("--weights", metavar="FILE", room=MODEL, type=Place(None),
           help="File of weights, name of known ones, or 'random'."),
    option("--labels", metavar="FILE", room=MODEL, type=click.Path(path_type=Path),
           help="Names of the classes, one a line."),
    option("--mean", metavar="R,G,B", room=MODEL, callback=numbers,
           help="Per channel, of pixels in [0, 1]; needed for a .pt2 whose network wants normalized images."),
    option("--std", metavar="R,G,B", room=MODEL, callback=numbers, help="The same for the standard deviation."),
    option("--size", metavar="N", room=MODEL, type=click.IntRange(1), help="Height and width of the model's images."),
    option("--trusted", is_flag=True, room=MODEL, help="Run code that the model's file may hold."),
)  # fmt: skip


def device() -> Decorator:
    return option("--device", metavar="D", room=COMPUTING, default="cpu", help="cpu, cuda, cuda:1, mps.",
                  shell_complete=completion.words("cpu", "cuda", "cuda:0", "cuda:1", "mps"))  # fmt: skip


def batch_size() -> Decorator:
    return option("--batch-size", metavar="N", room=COMPUTING, type=click.IntRange(1),
                  help="Images in a pass; else by memory.")  # fmt: skip


def seed(help: str = "Of what is random.", **attrs: Any) -> Decorator:
    return option("--seed", room=COMPUTING, default=0, metavar="S", help=help, **{"type": int} | attrs)


# Of what is written.


def output(default: str | None, help: str = "The page.") -> Decorator:
    return option("--output", type=click.Path(path_type=Path), default=None if default is None else Path(default),
                  metavar="PATH", room=OUTPUT, help=help)  # fmt: skip


def outputs(help: str) -> Decorator:
    """Places for several things, each told by its ending; and the page by the name that it had before."""
    return together(
        option("--output", "outputs", type=click.Path(path_type=Path), multiple=True, metavar="PATH", room=OUTPUT,
               help=f"{help}; repeatable."),
        option("--report", type=click.Path(path_type=Path), metavar="PATH", room=OUTPUT, hidden=True,
               help="A page as well; now --output PAGE.html."),
    )  # fmt: skip


def table(help: str) -> Decorator:
    return option("--table", type=click.Path(path_type=Path), metavar="PATH", room=OUTPUT, help=help)


def film() -> Decorator:
    return option("--film", type=click.Path(path_type=Path), metavar="PATH", room=OUTPUT,
                  help="A film of how it came about: .gif, .webp, or .mp4.")  # fmt: skip


def format(help: str) -> Decorator:
    return option("--format", type=click.Choice(["html", "png", "npz"]), default="html", room=OUTPUT, help=help)


def run(help: str) -> Decorator:
    return option("--run", type=click.Path(path_type=Path), metavar="FOLDER", room=OUTPUT, help=help)


def overwrite() -> Decorator:
    return option("--overwrite", is_flag=True, room=OUTPUT,
                  help="Throw away what the run folder holds, and begin anew.")  # fmt: skip


def json() -> Decorator:
    return option("--json", "as_json", is_flag=True, room=OUTPUT, help="Print one JSON document, for machines.")
