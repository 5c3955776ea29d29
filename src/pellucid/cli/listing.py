"""`pellucid methods`, `models` and `layers`: what there is."""

from __future__ import annotations

from typing import Any

import click
from click.shell_completion import get_completion_class

from . import completion, known, options
from .command import Place
from .console import print_json
from .group import THERE, computing, load, main, verb


@verb(
    THERE,
    "List the methods, with their papers and options.",
    """
    pellucid methods
    pellucid methods smoothgrad
    pellucid methods --json
    """,
    codes=False,
    computes=False,
)
@click.argument("name", required=False, shell_complete=completion.methods(()))
@options.json()
def methods(name: str | None, as_json: bool) -> None:
    """List the methods: what each shows, and the paper that it comes from; of one also its options."""
    from ..names import UnknownName, nearest

    catalogue = known.methods()
    if name is not None and name not in catalogue:
        raise UnknownName(f"there is no method {name!r}; {nearest(name, catalogue)}")
    found = [entry for entry in catalogue.values() if name in (None, entry.name)]
    if as_json:
        fields = ("name", "family", "summary", "paper", "options")
        print_json([{field: getattr(entry, field) for field in fields} for entry in found])
        return
    for family in dict.fromkeys(entry.family for entry in found):
        click.secho(family, bold=True)
        for entry in sorted((entry for entry in found if entry.family == family), key=lambda entry: entry.name):
            click.echo(f"  {entry.name:22} {entry.summary}")
            click.secho(f"  {'':22} {entry.paper}", dim=True)
            for option, default in entry.shown.items() if name else ():
                takes = f"  {entry.takes[option]}" if option in entry.takes else ""
                click.echo(f"  {'':22} {f'{option} = {default}':24}{takes}".rstrip())


@verb(
    THERE,
    "List the models that have a name.",
    """
    pellucid models
    pellucid models resnet
    pellucid models 'vit_*'
    """,
    codes=False,
    computes=False,
)
@click.argument("pattern", default="", shell_complete=completion.models)
@options.json()
def models(pattern: str, as_json: bool) -> None:
    """List the models that have a name; PATTERN is a part of it, or all of it with * and ?."""
    found = known.networks(pattern)
    if as_json:
        print_json([vars(entry) for entry in found])
        return
    if not found:
        raise ValueError(f"no model is called like {pattern!r}: `pellucid models` lists all")
    for entry in found:
        click.echo(f"{entry.name:52} {entry.source:12} {' x '.join(map(str, entry.size))}")


@verb(
    THERE,
    "List the layers of a model.",
    """
    pellucid layers resnet50 --weights random
    pellucid layers mine.pt2 --size 224
    """,
    codes=False,
)
@click.argument("model", metavar="MODEL", type=Place(None), shell_complete=completion.models)
@options.model(named=False)
@options.json()
def layers(model: str, as_json: bool, **given: Any) -> None:
    """List the layers of a model, with kind and output shape, in the order of a pass."""
    from ..model.layers import layers as listed

    with computing(given):
        found = listed(load(model, given))
    if as_json:
        print_json([vars(layer) for layer in found])
    else:
        click.echo("\n".join(map(str, found)))


@verb(
    THERE,
    "Print what makes a shell complete commands.",
    """
    pellucid completion bash >> ~/.bashrc
    pellucid completion zsh >> ~/.zshrc
    pellucid completion fish > ~/.config/fish/completions/pellucid.fish
    """,
    name="completion",
    codes=False,
    computes=False,
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion_(shell: str) -> None:
    """Print the script by which a shell completes commands, options, models, methods and layers after TAB."""
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(main, {}, "pellucid", "_PELLUCID_COMPLETE").source())
