"""What a command of pellucid is: its options in rooms, its words whole, and what it does before it computes."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import click
import cloup
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from .console import STOPPED, failed, for_users, say, wants_traceback, warnings_in_a_line

ASKED, MODEL, OUTPUT, COMPUTING = "What is asked", "The model", "What is written", "Computing"
ROOMS = (ASKED, MODEL, OUTPUT, COMPUTING)
CONFIG = "pellucid.config"  # in the context: the file of settings
_GIVEN = "pellucid.given"  # in the context: the arguments of the command that runs


if TYPE_CHECKING:
    _Text = click.ParamType[str]
else:
    _Text = click.ParamType  # no generic class before click 8.4


@dataclass(frozen=True)
class Unfit:
    """What a file of settings says for all commands, where this one cannot take it: told if it is asked for."""

    words: str


class Option(cloup.Option):
    """An option that stands in a room of the page of help, and may have had other names, which are taken as well.

    room: the heading. former: its other names. own: it means something else than in other commands, so that what a
        file of settings says for all of them is not meant for it.
    """

    def __init__(
        self, *args: Any, room: str = ASKED, former: Sequence[str] = (), own: bool = False, **attrs: Any
    ) -> None:
        super().__init__(*args, **attrs)
        self.room, self.former, self.own = room, tuple(former), own

    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:
        shown = self.opts
        try:
            self.opts = [*shown, *self.former]
            super().add_to_parser(parser, ctx)
        finally:
            self.opts = shown

    def consume_value(self, ctx: click.Context, opts: Mapping[str, Any]) -> tuple[Any, ParameterSource]:
        value, source = super().consume_value(ctx, opts)
        if isinstance(value, Unfit):
            raise click.UsageError(value.words, ctx)
        return value, source

    @property
    def spelling(self) -> str:
        """Its long name."""
        return max(self.opts, key=len)


class Place(_Text):
    """A file or folder, kept as it was written.

    names: words that are no files. None: whatever is no file is a name.
    """

    name = "text"

    def __init__(self, names: Collection[str] | None = ()) -> None:
        self.names = names

    def convert(self, value: Any, _parameter: click.Parameter | None, _context: click.Context | None) -> str:
        return str(value)

    def shell_complete(
        self, _context: click.Context, _parameter: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        words = [CompletionItem(word) for word in self.names or () if incomplete and word.startswith(incomplete)]
        return words or [CompletionItem(incomplete, type="file")]


class Verb(cloup.Command):
    """A command.

    computes: it needs torch.
    """

    def __init__(self, *args: Any, params: Sequence[click.Parameter] = (), computes: bool = True, **attrs: Any) -> None:
        self.computes = computes
        groups = {room: cloup.OptionGroup(room) for room in ROOMS}  # of its own, for a group knows its options
        for parameter in params or ():
            if isinstance(parameter, Option):
                parameter.group = groups[parameter.room]
        super().__init__(*args, params=list(params or ()), **attrs)
        self.option_groups.sort(key=lambda group: ROOMS.index(group.title) if group.title in ROOMS else len(ROOMS))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[_GIVEN] = list(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        if flags := configured(ctx):
            say(f"from {ctx.meta[CONFIG]}: {shlex.join(flags)}")
        if self.computes:
            with stopping_at_once():
                import torch  # noqa: F401 - takes seconds, in which there is nothing to be kept
        return super().invoke(ctx)

    # As click has it: cloup would begin at the margin.
    format_epilog = click.Command.format_epilog


class Verbs(cloup.Group):
    """A group that tells errors in a line, without a traceback, and ends with the exit codes of `console`."""

    format_epilog = click.Command.format_epilog

    def main(  # type: ignore[override]
        self, args: Sequence[str] | None = None, prog_name: str | None = None, **options: Any
    ) -> NoReturn:
        given = list(sys.argv[1:] if args is None else args) or ["--help"]
        options |= {"standalone_mode": False, "obj": given}
        try:
            with warnings_in_a_line():
                code = super().main(given, prog_name or "pellucid", **options)
                sys.stdout.flush()
        except (click.Abort, KeyboardInterrupt):
            say("stopped")
            code = STOPPED
        except click.ClickException as error:
            context = getattr(error, "ctx", None)
            hint = f"; `{context.command_path} --help` shows how" if context else ""
            code = failed(given, error.format_message().rstrip(".") + hint)
        except (ValueError, TypeError, OSError, KeyError, RuntimeError, ImportError, MemoryError) as error:
            if _interrupted(error):
                say("stopped")
                sys.exit(STOPPED)
            if wants_traceback(given) or not for_users(error):
                raise
            code = failed(given, " ".join(str(error).split()) or type(error).__name__)
        sys.exit(code if isinstance(code, int) else 0)


def _interrupted(error: BaseException | None) -> bool:
    """Whether Ctrl-C is what an error came of: an import that it comes into may say so in its own way."""
    seen = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, KeyboardInterrupt):
            return True
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return False


def configured(context: click.Context) -> list[str]:
    """What a file of settings said for this command, as options."""
    flags = []
    for parameter in context.command.params:
        name = parameter.name or ""
        if isinstance(parameter, Option) and context.get_parameter_source(name) is ParameterSource.DEFAULT_MAP:
            value = (context.default_map or {})[name]
            if parameter.is_flag:
                flags += [parameter.spelling] if value else parameter.secondary_opts[:1]
                continue
            for one in value if parameter.multiple else [value]:
                flags += [parameter.spelling, str(one)]
    return flags


def forget(context: click.Context, given: dict[str, Any], name: str, why: str) -> None:
    """Do without what a file of settings said for all commands, where it has no sense; why: for people."""
    if given[name] is not None and context.get_parameter_source(name) is ParameterSource.DEFAULT_MAP:
        say(f"the {name} of {context.meta[CONFIG]} is not used: {why}")
        (context.default_map or {}).pop(name)
        context.set_parameter_source(name, ParameterSource.DEFAULT)
        given[name] = None


def written(context: click.Context) -> str:
    """The command as it could be written without a file of settings, for the page that it makes."""
    _, *path = context.command_path.split()
    return shlex.join(["pellucid", *path, *configured(context), *context.meta[_GIVEN]])


@contextmanager
def stopping_at_once() -> Iterator[None]:
    """Ctrl-C ends the process here and now: an import that it comes into may swallow it, or die of it with a traceback.

    Nothing happens where another handler than Python's own has been set, or in another thread.
    """
    usual = signal.default_int_handler
    mine = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is usual
    if mine:
        signal.signal(signal.SIGINT, _stop)
    try:
        yield
    finally:
        if mine:
            signal.signal(signal.SIGINT, usual)


def _stop(_number: int, _frame: Any) -> None:
    os.write(2, b"pellucid: stopped\n")
    os._exit(STOPPED)
