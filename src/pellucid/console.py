"""What commands share: errors in a line, exit codes, JSON for machines, messages on stderr."""

from __future__ import annotations

import json
import math
import os
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import click

FAILED, WRONG, STOPPED = 1, 2, 130
CODES = """\b
Exit codes:
  0    all is well
  1    done, but some files or methods failed (which, is said at the end)
  2    wrong usage or input, or no place to write
  130  interrupted; what is finished is kept, the same command goes on"""


class Verbs(click.Group):
    """A group that tells errors in a line, without a traceback, and ends with the exit codes above."""

    def main(  # type: ignore[override]
        self, args: Sequence[str] | None = None, prog_name: str | None = None, **options: Any
    ) -> NoReturn:
        given = list(sys.argv[1:] if args is None else args) or ["--help"]
        options |= {"standalone_mode": False, "obj": given}
        try:
            with _warnings_in_a_line():
                code = super().main(given, prog_name or "pellucid", **options)
                sys.stdout.flush()
        except (click.Abort, KeyboardInterrupt):
            say("stopped")
            code = STOPPED
        except click.ClickException as error:
            context = getattr(error, "ctx", None)
            hint = f"; `{context.command_path} --help` shows how" if context else ""
            code = _failed(given, error.format_message().rstrip(".") + hint)
        except (ValueError, TypeError, OSError, KeyError, RuntimeError, ImportError, MemoryError) as error:
            if _wants_traceback(given) or not _for_users(error):
                raise
            code = _failed(given, " ".join(str(error).split()) or type(error).__name__)
        sys.exit(code if isinstance(code, int) else 0)


def print_json(value: Any) -> None:
    click.echo(json.dumps(_finite(value), indent=1, default=str))


def _finite(value: Any) -> Any:
    """The same without NaN and infinity, which JSON does not know."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def say(text: str) -> None:
    """A line for people, on stderr, above a progress bar if there is one."""
    line = f"pellucid: {text}"
    tqdm = sys.modules.get("tqdm.auto")
    bars = list(getattr(tqdm.tqdm, "_instances", ())) if tqdm is not None else []
    if tqdm is not None and any(time.time() > bar.start_t + bar.delay for bar in bars if not bar.disable):
        tqdm.tqdm.write(line, file=sys.stderr)  # which would also show bars that are not due yet
    else:
        click.echo(line, err=True)


def _failed(given: Sequence[str], message: str) -> int:
    click.echo(f"pellucid: error: {message}", err=True)
    if "--json" in given:
        print_json({"error": message})
    return WRONG


def _wants_traceback(given: Sequence[str]) -> bool:
    return "--traceback" in given or bool(os.environ.get("PELLUCID_TRACEBACK"))


def _for_users(error: Exception) -> bool:
    """Whether an error is told in words for users: of KeyErrors, only those of names that do not exist."""
    if isinstance(error, KeyError):
        from .checks import UnknownName

        return isinstance(error, UnknownName)
    return True


@contextmanager
def _warnings_in_a_line() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = lambda message, *_args, **_more: say(" ".join(str(message).split()))
        yield
