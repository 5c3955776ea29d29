"""What commands share: errors in a line, exit codes, JSON for machines, messages on stderr."""

from __future__ import annotations

import json
import math
import os
import re
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import click

FAILED, WRONG, STOPPED = 1, 2, 130
CODES = """\b
Exit codes:
  0    all is well
  1    done, but some files or methods failed (which, is said at the end)
  2    wrong usage or input, or no place to write
  130  interrupted; what is finished is kept, the same command goes on"""

# What messages of the library say in Python's words, and what it is called here.
_FLAGS = (
    (r"\b(and|or) load\((['\"])(.+?)\2, weights=(['\"]?)(.+?)\4\)", r"\1 give --model \3 --weights \5"),
    (r"\bload\((['\"])(.+?)\1, weights=(['\"]?)(.+?)\3\)", r"--model \2 --weights \4"),
    (r"\bload\((['\"])(.+?)\1\)", r"--model \2"),
    (r"\bload\(\.\.\., trusted=True\)", "give --trusted"),
    (r"\bload takes", "--model takes"),
    (r"leave out weights=", "leave out --weights"),
    (r"\b(weights|labels)=(?=['\"])", r"--\1 "),
    (r"give one, or a list of names", "give one"),
    (r"(pellucid\.)?wrap\((net, )?labels=(\.\.\.|\[\.\.\.\])\)", "--labels FILE"),
    (r"pellucid\.wrap\(net, size=\.\.\.\)", "--size N"),
    (r"use pellucid\.wrap", "use pellucid.wrap in Python"),
    (r"pellucid\.zoo\.models\(\)", "`pellucid models`"),
    (r"pellucid\.layers(\(model\))?(?= lists)", "`pellucid layers MODEL`"),
    (r"pass a batch, as in layers\(model, images\)", "give it with --size"),
    (r"pellucid\.settings\(device=['\"](\S+?)['\"]\)", r"--device \1"),
    (r"pellucid\.settings\(batch_size=(\d+)\)", r"--batch-size \1"),
    (r", or say how with reshape=, a function from that to N x C x h x w", ""),
    (r"with layer=, and how it lies with reshape=", "with --layer"),
    (r"with layer=", "with --layer"),
    (r"needs rule='midpoint'", "needs --option integrated_gradients.rule=midpoint"),
    (r"expected a mapping such as \{.*?\} or a name", "expected a name"),
    (r"\bstrict=False\b", "--option METHOD.strict=false"),
    (r"\bresize=(.+?) would", r"resizing to \1 would"),
    (r"say what to explain with a function of the output .*", "others can be explained in Python alone"),
    (r"leave methods out", "leave --methods out"),
    (r"with labels=", "with --truth"),
    (r"with size=", "with --size"),
    (r"give size=, height and width in pixels", "give it with --size"),
    (r"say random_start=True", "give --option random_start=true"),
    (r"pellucid\.(square|hop_skip_jump)", r"\1"),
    (r"(?i)(choose another folder), or overwrite", r"\1 (--run), or overwrite"),
    (r"overwrite this (one|run)( \(overwrite=True, --overwrite\))?", r"overwrite this \1 (--overwrite)"),
)


def print_json(value: Any) -> None:
    click.echo(json.dumps(finite(value), indent=1, default=str))


def finite(value: Any) -> Any:
    """The same without NaN and infinity, which JSON does not know."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def say(text: str) -> None:
    """A line for people, on stderr, above a progress bar if there is one."""
    line = f"pellucid: {in_flags(text)}"
    tqdm = sys.modules.get("tqdm.auto")
    bars = list(getattr(tqdm.tqdm, "_instances", ())) if tqdm is not None else []
    if tqdm is not None and any(time.time() > bar.start_t + bar.delay for bar in bars if not bar.disable):
        tqdm.tqdm.write(line, file=sys.stderr)  # which would also show bars that are not due yet
    else:
        click.echo(line, err=True)


def in_flags(text: str) -> str:
    """A message of the library as the command line says it.

    >>> in_flags("mine.pt2 has its weights inside: leave out weights=")
    'mine.pt2 has its weights inside: leave out --weights'
    """
    for python, here in _FLAGS:
        text = re.sub(python, here, text)
    return text


def typed(text: str, kind: Any) -> Any:
    """The value of an option, of the type that its annotation names; of several types the narrowest that fits.

    Raises:
        ValueError: with the words for what was expected.
        TypeError: nothing of that type can be written, but for None.

    >>> typed("12,20", int | tuple[int, int] | None), typed("3", str | None), typed("3", Any)
    ((12, 20), '3', 3)
    >>> typed("0.7,0.3", Sequence[float]), typed("conv1", str | Sequence[str]), typed("a,b", str | Sequence[str])
    ([0.7, 0.3], 'conv1', ['a', 'b'])
    """
    kinds = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    expected = []
    for of, words in _WORDS.items():
        for one in (int, float, NoneType, str) if kind is Any else kinds:
            if of is Sequence and str in kinds and "," not in text:
                continue  # one of them, which the text alone stands for
            if (get_origin(one) or one) is of:
                try:
                    return _read(text, of, get_args(one))
                except ValueError:
                    pass
                except TypeError:  # a sequence of what cannot be written
                    continue
                expected.append(", ".join(map(str, get_args(one))) if of is Literal else words)
    if not {*expected} - {"none"}:
        raise TypeError(f"{kind} cannot be written")
    raise ValueError(" or ".join([", ".join(expected[:-1]), expected[-1]] if expected[1:] else expected))


# What can be written, in the order in which it is tried.
_WORDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    tuple: "numbers with commas between",
    Literal: "",
    NoneType: "none",
    Sequence: "values with commas between",
    str: "a text",
}


def _read(text: str, of: Any, inner: tuple[Any, ...]) -> Any:
    if of is NoneType and text.lower() == "none":
        return None
    if of is bool and text.lower() in ("true", "yes", "false", "no"):
        return text.lower() in ("true", "yes")
    if of is Literal and text in map(str, inner):
        return next(word for word in inner if str(word) == text)
    if of is tuple and inner:
        parts = text.split(",")
        each = [inner[0]] * len(parts) if inner[1:] == (...,) else inner
        return tuple(typed(part.strip(), one) for part, one in zip(parts, each, strict=True))
    if of is Sequence:
        return [typed(part.strip(), inner[0]) for part in text.split(",")]
    if of in (int, float, str):
        return of(text)
    raise ValueError


def failed(given: Sequence[str], message: str) -> int:
    message = in_flags(message)
    click.echo(f"pellucid: error: {message}", err=True)
    if "--json" in given:
        print_json({"error": message})
    return WRONG


def wants_traceback(given: Sequence[str]) -> bool:
    return "--traceback" in given or bool(os.environ.get("PELLUCID_TRACEBACK"))


def for_users(error: Exception) -> bool:
    """Whether an error is told in words for users: of KeyErrors, only those of names that do not exist."""
    if isinstance(error, KeyError):
        from ..names import UnknownName

        return isinstance(error, UnknownName)
    return True


@contextmanager
def warnings_in_a_line() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = lambda message, *_args, **_more: say(" ".join(str(message).split()))
        yield
