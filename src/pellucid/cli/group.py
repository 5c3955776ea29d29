"""The command `pellucid`, and what its verbs share: which model, which objective, JSON for machines."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .console import CODES, STOPPED, Verbs, say, typed

if TYPE_CHECKING:
    from ..model.classifier import Classifier

MODEL = "A name of `pellucid models`, or a file: .pt2, .onnx, .keras, .h5, or the folder of a SavedModel."


def _version(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value and not context.resilient_parsing:
        from ..version import __version__

        click.echo(f"pellucid {__version__}")
        context.exit()


@click.group(
    "pellucid",
    cls=Verbs,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=f"""\b
Examples:
  pellucid demo
  pellucid explain castle.jpg --model resnet50 --output castle.html
  pellucid explain photos/ --model mine.pt2 --methods saliency,grad_cam
  pellucid methods

{CODES}""",
)
@click.option(
    "--version", is_flag=True, expose_value=False, is_eager=True, callback=_version, help="Say which version."
)
@click.option(
    "--traceback", is_flag=True, hidden=True, help="Show where an error comes from; also PELLUCID_TRACEBACK=1."
)
def main(traceback: bool) -> None:
    """Look inside an image classifier: which pixels mattered, and is that the right evidence?"""


def with_model(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say which model, and where it computes."""
    options = (
        click.option("--weights", metavar="FILE", help="File of weights, name of known ones, or 'random'."),
        click.option(
            "--labels", metavar="FILE", type=click.Path(path_type=Path), help="Names of the classes, one a line."
        ),
        click.option(
            "--mean",
            metavar="R,G,B",
            callback=numbers,
            help="Per channel, of pixels in [0, 1]; needed for a .pt2 whose network wants normalized images.",
        ),
        click.option("--std", metavar="R,G,B", callback=numbers, help="The same for the standard deviation."),
        click.option("--size", metavar="N", type=click.IntRange(1), help="Height and width of the model's images."),
        click.option("--trusted", is_flag=True, help="Run code that the model's file may hold."),
        click.option("--device", metavar="D", default="cpu", show_default=True, help="cpu, cuda, cuda:1, mps."),
        click.option("--batch-size", metavar="N", type=click.IntRange(1), help="Images in a pass; else by memory."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document, for machines.")(command)


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


def load(name: str, given: dict[str, Any]) -> Classifier:
    from ..zoo import load

    return load(name, **{key: given[key] for key in ("weights", "labels", "mean", "std", "size", "trusted")})


@contextmanager
def stopping(context: click.Context, place: Path) -> Iterator[None]:
    """Ctrl-C ends the command with the words how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        there = f"; what is finished is kept in {place}: run the same command to go on" if place.exists() else ""
        say(f"stopped{there}")
        context.exit(STOPPED)


@contextmanager
def computing(given: dict[str, Any]) -> Iterator[None]:
    from ..model.settings import settings

    with settings(device=given["device"], batch_size=given["batch_size"]):
        yield


def target(text: str | None, model: Classifier) -> int | str | None:
    """What --target says: a label is looked for first, for labels may be numbers."""
    return int(text) if text is not None and text not in model.labels and text.isdecimal() else text


def values_of(
    name: str,
    texts: Sequence[str],
    known: Mapping[str, Any],
    kinds: Mapping[str, Any],
    elsewhere: Collection[str] = (),
    example: str = "steps=100",
) -> dict[str, Any]:
    """Options of one function from "name=value", of the types that it declares.

    Args:
        name: of the function. texts: as they were written. known: its options with their defaults. kinds: their types.
        elsewhere: options that are given in another way.
    """
    from ..checks import UnknownName, in_words, nearest

    options: dict[str, Any] = {}
    for text in texts:
        option, mark, value = text.partition("=")
        option = option.strip()
        if not mark:
            raise click.BadParameter(f"{text!r}: expected name=value, as in {example}")
        if option not in known or option in elsewhere:
            others = [other for other in known if other not in elsewhere]
            hint = nearest(option, others) if others else "it has none"
            raise UnknownName(f"--option {text}: {name} has no option {option!r}; {hint}")
        try:
            options[option] = typed(value.strip(), kinds.get(option, Any))
        except TypeError:
            told = f"{option} takes {in_words(kinds[option])}, which only Python can give; leave it out here"
            raise ValueError(f"--option {text}: {told}") from None
        except ValueError as error:
            raise ValueError(f"--option {text}: expected {error} (by default {known[option]!r})") from None
    return options
