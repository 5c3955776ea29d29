"""`pellucid methods`, `models` and `layers`: what there is."""

from __future__ import annotations

from typing import Any

import click

from .console import print_json
from .group import computing, json_option, load, main, with_model


@main.command(
    epilog="""\b
Examples:
  pellucid methods
  pellucid methods smoothgrad
  pellucid methods --json"""
)
@click.argument("name", required=False)
@json_option
def methods(name: str | None, as_json: bool) -> None:
    """List the methods: what each shows, and the paper that it comes from; of one also its options."""
    from ..names import UnknownName, nearest
    from . import known

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


@main.command(
    epilog="""\b
Examples:
  pellucid models
  pellucid models resnet
  pellucid models 'vit_*'"""
)
@click.argument("pattern", default="")
@json_option
def models(pattern: str, as_json: bool) -> None:
    """List the models that have a name; PATTERN is a part of it, or all of it with * and ?."""
    from . import known

    found = known.networks(pattern)
    if as_json:
        print_json([vars(entry) for entry in found])
        return
    if not found:
        raise ValueError(f"no model is called like {pattern!r}: `pellucid models` lists all")
    for entry in found:
        click.echo(f"{entry.name:52} {entry.source:12} {' x '.join(map(str, entry.size))}")


@main.command(
    epilog="""\b
Examples:
  pellucid layers resnet50 --weights random
  pellucid layers mine.pt2 --size 224"""
)
@click.argument("model", metavar="MODEL")
@with_model
@json_option
def layers(model: str, as_json: bool, **given: Any) -> None:
    """List the layers of a model, with kind and output shape, in the order of a pass."""
    from ..model.layers import layers as listed

    with computing(given):
        found = listed(load(model, given))
    if as_json:
        print_json([vars(layer) for layer in found])
    else:
        click.echo("\n".join(map(str, found)))
