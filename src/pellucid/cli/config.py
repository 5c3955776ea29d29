"""`pellucid.toml`: defaults of options, for all commands or for one."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from ..names import nearest
from .command import Option, Place, Unfit

NAME = "pellucid.toml"

# What no file may say for whoever works in its folder, and why.
_REFUSED = {
    "trusted": "it runs code that a model's file may hold",
    "overwrite": "it throws work away",
    "json": "it is for one call of a program",
}


class ConfigError(ValueError):
    """What is wrong with a file of settings."""


def defaults(file: Path, main: click.Group) -> dict[str, Any]:
    """The defaults that a file gives, for each command by the names of its parameters, as click takes them.

    Keys are options without dashes in front (`batch-size` or `batch_size`). Those at the top hold for all commands that
    have them, those of a table such as `[explain]` or `[style.train]` for that command, before those at the top. Paths
    are seen from the folder of the file.

    Raises:
        ConfigError: for a file that cannot be read, a command or an option that does not exist, a value that the
            option cannot take, and for what a file may not say.
    """
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f'{file} is no TOML ({error}): expected lines such as model = "resnet50"') from error
    return _of_group(_Source(file), table, main, (), {})


class _Source:
    """The file, for messages and paths."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.folder = None if file.absolute().parent == Path.cwd() else file.parent

    def wrong(self, path: Sequence[str], words: str) -> ConfigError:
        place = f" [{'.'.join(path)}]" if path else ""
        return ConfigError(f"{self.file}{place}: {words}")

    def place(self, text: str, kind: Any) -> str:
        """A path as it is seen from the working folder; a name as it is."""
        if self.folder is None or (isinstance(kind, Place) and text in (kind.names or ())):
            return text
        if isinstance(kind, Place) and kind.names is None and not (self.folder / text).exists():
            return text
        return str(self.folder / text)


def _of_group(
    source: _Source, table: Mapping[str, Any], group: click.Group, path: tuple[str, ...], outer: Mapping[str, Any]
) -> dict[str, Any]:
    """The defaults of all commands of a group.

    path: the names of the tables that lead here. outer: keys of the tables around it.
    """
    keys, below = dict(outer), {}
    for key, value in table.items():
        if isinstance(value, dict) and key in group.commands:
            below[key] = value
        elif isinstance(value, dict) and not _having(group, key):
            raise source.wrong(path, f"there is no command {key!r}; {nearest(key, group.commands)}")
        else:
            having = _known(source, path, key, _having(group, key), group)
            if all(isinstance(value_of(source, path, key, value, one), Unfit) for one in having):
                raise ConfigError(value_of(source, path, key, value, having[0]).words)
            keys[key] = (path, value)
    found: dict[str, Any] = {}
    for name, command in group.commands.items():
        inside = (*path, name)
        if isinstance(command, click.Group):
            found[name] = _of_group(source, below.get(name, {}), command, inside, keys)
            continue
        mine = found[name] = {}
        for key, (place, value) in keys.items():
            if (parameter := _named(command, key)) is not None and not parameter.own:
                mine[parameter.name] = value_of(source, place, key, value, parameter)
        for key, value in below.get(name, {}).items():
            (parameter,) = _known(source, inside, key, [one for one in [_named(command, key)] if one], command)
            mine[parameter.name] = taken = value_of(source, inside, key, value, parameter)
            if isinstance(taken, Unfit):
                raise ConfigError(taken.words)
    return found


def _known(
    source: _Source, path: Sequence[str], key: str, having: list[Option], command: click.Command
) -> list[Option]:
    """The options of that name, which there are and which a file may set."""
    plain = _plain(key)
    if plain in _REFUSED:
        raise source.wrong(
            path, f"{key} cannot be set in a file, for {_REFUSED[plain]}: give --{plain} with the command itself"
        )
    if not having:
        known = sorted({one.spelling.lstrip("-") for one in _options(command) if not one.hidden} - set(_REFUSED))
        what = f"`pellucid {' '.join(path)}`" if path else "any command"
        raise source.wrong(
            path, f"there is no option {key!r} of {what}; {nearest(plain, known)}. It may set {', '.join(known)}"
        )
    return having


def _plain(key: str) -> str:
    return key.replace("_", "-").lower()


def _options(command: click.Command) -> Iterator[Option]:
    """All options of a command, or of all commands of a group."""
    if isinstance(command, click.Group):
        for one in command.commands.values():
            yield from _options(one)
    else:
        yield from (one for one in command.params if isinstance(one, Option))


def _having(group: click.Group, key: str) -> list[Option]:
    return [one for one in _options(group) if f"--{_plain(key)}" in (*one.opts, *one.secondary_opts, *one.former)]


def _named(command: click.Command, key: str) -> Option | None:
    return next((one for one in _options(command) if f"--{_plain(key)}" in (*one.opts, *one.former)), None)


def value_of(source: _Source, path: Sequence[str], key: str, value: Any, parameter: Option) -> Any:
    """A value as the option takes it; `Unfit` with words if it cannot."""
    try:
        if parameter.is_flag:
            if not isinstance(value, bool):
                raise click.BadParameter(f"{value!r} is neither true nor false")
            return value
        if parameter.multiple:
            items = _flat(value) if isinstance(value, dict) else value if isinstance(value, list) else [value]
            taken: Any = [_one(source, item, parameter) for item in items]
        else:
            taken = _one(source, value, parameter)
        if parameter.callback is not None:
            parameter.callback(click.Context(click.Command(None)), parameter, taken)
        return taken
    except click.BadParameter as error:
        return Unfit(str(source.wrong(path, f"{key}: {error.message.rstrip('.')}")))


def _one(source: _Source, value: Any, parameter: Option) -> Any:
    kind = parameter.type
    if isinstance(value, list) and "," in (parameter.metavar or ""):
        value = ",".join(_text(item) for item in value)
    if isinstance(value, list):
        raise click.BadParameter(f"{value!r} is a list, expected one value")
    if isinstance(kind, (click.types.IntParamType, click.types.FloatParamType)):
        whole = isinstance(kind, click.types.IntParamType)
        if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
            raise click.BadParameter(f"{value!r} is no {'whole ' * whole}number")
        kind.convert(value, parameter, None)
        return value
    text = _text(value)
    if isinstance(kind, (click.Path, Place)):
        return source.place(text, kind)
    kind.convert(text, parameter, None)
    return text


def _text(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise click.BadParameter(f"{value!r} is neither a text nor a number")
    return str(value)


def _flat(table: Mapping[str, Any], lead: str = "") -> list[str]:
    """`[explain.option]` with smoothgrad.samples = 50 in it, as the option is written: smoothgrad.samples=50."""
    found: list[str] = []
    for key, value in table.items():
        if isinstance(value, dict):
            found += _flat(value, f"{lead}{key}.")
        else:
            items = value if isinstance(value, list) else [value]
            texts = [str(item).lower() if isinstance(item, bool) else _text(item) for item in items]
            found.append(f"{lead}{key}={','.join(texts)}")
    return found
