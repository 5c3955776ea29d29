"""The command `pellucid`, and what its verbs share: which model, which objective, how they end."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from cloup import HelpTheme, Section, Style

from . import config as configuration
from .command import CONFIG, Verb, Verbs
from .completion import keep_layers
from .console import CODES, STOPPED, say, typed

if TYPE_CHECKING:
    from ..model.classifier import Classifier

PIXELS = Section("Which pixels mattered")
UNITS = Section("What a unit wants to see")
FOOLS = Section("What fools it")
WORLD = Section("How it sees the world")
CHEATS = Section("Whether it cheats")
THERE = Section("What there is")


def _version(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value and not context.resilient_parsing:
        from ..version import __version__

        click.echo(f"pellucid {__version__}")
        context.exit()


@click.group(
    "pellucid",
    cls=Verbs,
    sections=[PIXELS, UNITS, FOOLS, WORLD, CHEATS, THERE],
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
        "formatter_settings": {"theme": HelpTheme(heading=Style(bold=True))},
    },
    epilog=f"""\b
Examples:
  pellucid demo
  pellucid explain castle.jpg --model resnet50 --output castle.html
  pellucid explain photos/ --model mine.pt2 --methods saliency,grad_cam
  pellucid methods

Options that are always the same can stand in {configuration.NAME}, in the folder where you work:

\b
  model = "resnet50"
  device = "cuda"
  [explain]
  methods = ["lrp", "grad_cam"]

{CODES}""",
)
@click.option(
    "--version", is_flag=True, expose_value=False, is_eager=True, callback=_version, help="Say which version."
)
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE",
              help=f"Defaults of options.  [default: {configuration.NAME} if there is one]")  # fmt: skip
@click.option(
    "--traceback", is_flag=True, hidden=True, help="Show where an error comes from; also PELLUCID_TRACEBACK=1."
)
@click.pass_context
def main(context: click.Context, config: Path | None, traceback: bool) -> None:  # noqa: ARG001 - read in Verbs.main
    """Look inside an image classifier: which pixels mattered, and is that the right evidence?"""
    file = config or Path(configuration.NAME)
    command = main.commands.get(context.invoked_subcommand or "")
    idle = command is None or not getattr(command, "computes", True) or {"-h", "--help"} & set(context.obj or ())
    if idle or (config is None and not file.is_file()):
        return
    context.meta[CONFIG] = str(file)
    context.default_map = configuration.defaults(file, main)


def verb(
    section: Section | None,
    short_help: str,
    examples: str,
    *,
    of: Verbs | None = None,
    name: str | None = None,
    codes: bool = True,
    computes: bool = True,
) -> Callable[[Callable[..., Any]], Verb]:
    """A command.

    Args:
        section: of the list of all commands. short_help: its line there. examples: commands, a line each.
        of: the group, if not the whole. name: if not that of the function. codes: its page tells the exit codes.
        computes: it needs torch.
    """
    lines = "\n".join(f"  {line.strip()}" for line in examples.strip().splitlines())
    epilog = f"\b\nExamples:\n{lines}\n" + (f"\n{CODES}" if codes else "")
    group = of or main
    return group.command(
        name, cls=Verb, section=section, short_help=short_help, epilog=epilog, computes=computes
    )  # fmt: skip


def load(name: str, given: dict[str, Any]) -> Classifier:
    from ..zoo import load

    model = load(name, **{key: given[key] for key in ("weights", "labels", "mean", "std", "size", "trusted")})
    keep_layers(name, model.net)
    return model


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
    from ..checks import in_words
    from ..names import UnknownName, nearest

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
