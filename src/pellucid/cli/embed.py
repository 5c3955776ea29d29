"""`pellucid embed` and `pellucid dimension`: where images lie among each other, and in how many dimensions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from . import options
from .command import forget, written
from .console import FAILED, STOPPED, print_json, say
from .group import WORLD, computing, load, stopping, values_of, verb

if TYPE_CHECKING:
    from ..representation import Features, IntrinsicDimension

NAMES = ("tsne", "pca", "umap", "pacmap", "deep_mds")
SWEEPS = ("graph", "mle", "twonn")


_MODEL = "Of `pellucid models`, or a file; not for a run folder."
_LAYER = "Of `pellucid layers`, or 'pixels'; else the last but one."


def _seen(command: Callable[..., Any]) -> Callable[..., Any]:
    """What all verbs over vectors of images take."""
    taken = (
        options.layer(_LAYER), options.truth(), options.model(_MODEL, required=False),
        options.run("Where the vectors are kept; else beside the output."), options.overwrite(), options.json(),
        options.seed(),
    )  # fmt: skip
    return options.together(options.images("FOLDER|RUN-FOLDER"), *taken)(command)


@verb(
    WORLD,
    "Show where images lie among each other.",
    """
    pellucid embed photos/ --model resnet50
    pellucid embed photos/ --model resnet50 --layer layer3 --method pca --dimensions 5
    pellucid embed photos.run/ --layer avgpool --method umap --option neighbors=30 --output photos.html
    pellucid embed digits/ --model mine.pt2 --method deep_mds --dimensions 10 --dimension --table digits.parquet
    """,
)
@options.method("How places are found.", metavar=None, type=click.Choice(NAMES), default="tsne")
@options.option("--dimensions", type=click.IntRange(1), default=2, metavar="N", help="Of the map.")
@options.of_method("An option of the method; repeatable.")
@options.option("--dimension", is_flag=True, help="Estimate the intrinsic dimension as well, and show it on the page.")
@options.output("embedding.html")
@options.table("The places: .csv or .parquet.  [default: .csv beside the page]")
@_seen
@click.pass_context
def embed(context: click.Context, /, images: tuple[str, ...], as_json: bool, **given: Any) -> None:
    """Show where images lie among each other, as a layer of a model sees them.

    Writes a page with a map to move and to come closer to, with images, names and classes, and a table of the places.
    The vectors are kept in a run folder: other methods and layers that it holds need no model.
    """
    from ..jobs.explain.outputs import check_output

    output: Path = given["output"]
    table: Path = given["table"] or output.with_suffix(".csv")
    check_output(output, "html", [Path(image) for image in images])
    if table.suffix.lower() not in (".csv", ".parquet"):
        raise click.BadParameter(f"{table} is no name for a table: let it end in .csv or .parquet")
    from ..catalogue import CATALOGUE
    from ..report.pages import embedding_page

    found = _features(context, images, given, output)
    entry = CATALOGUE[given["method"]]
    elsewhere = ("labels", "names", "images", "seed")
    asked = values_of(entry.name, given["options"], entry.options, entry.option_types, elsewhere, "perplexity=20")
    place: Path = found.folder or given["run"] or output.with_suffix(".run")
    with computing(given), stopping(context, place):
        result = entry.function(found, given["dimensions"], seed=given["seed"], **asked)
        sweeps = _sweeps(found, SWEEPS, None, given) if given["dimension"] else []
        embedding_page(output, result, dimensions=sweeps, failures=found.failures, command=written(context))
        result.save(table)
    for name, reason in found.failures:
        say(f"{name}: {reason}")
    if as_json:
        about = {"output": str(output), "table": str(table), "method": entry.name, "layer": found.layers[0],
                 "interrupted": result.interrupted}  # fmt: skip
        print_json({**about, "points": len(result.values), **_told(sweeps), "failed": _failed(found)})
    else:
        for sweep in sweeps:
            click.echo(f"{sweep.method}\n{sweep.table()}\n")
        stopped = f", stopped {result.interrupted}" if result.interrupted else ""
        click.echo(f"wrote {output} and {table} ({len(result.values)} images, {found.layers[0]}{stopped})")
    context.exit(STOPPED if result.interrupted else FAILED if found.failures else 0)


@verb(
    WORLD,
    "Estimate how many numbers say where an image lies.",
    """
    pellucid dimension photos/ --model resnet50
    pellucid dimension photos.run/ --layer avgpool --method mle --k 5,10,20,40
    """,
)
@options.method("Which estimate.", metavar=None, type=click.Choice([*SWEEPS, "all"]), default="all")
@options.option("--k", metavar="K,K", help="Numbers of neighbors, two or more.  [default: some of each method]")
@options.option("--metric", type=click.Choice(["l2", "cosine"]), default="l2", help="The distance.")
@options.output("dimension.png", "The picture: .png, .svg or .pdf.")
@_seen
@click.pass_context
def dimension(context: click.Context, /, images: tuple[str, ...], as_json: bool, **given: Any) -> None:
    """Estimate how many numbers it takes to say where an image lies among others, as a layer of a model sees them.

    One number of neighbors misleads: estimates are made over several, and drawn.
    """
    output: Path = given["output"]
    if output.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise click.BadParameter(f"{output} is no name for a picture: let it end in .png, .svg or .pdf")
    ks = None
    if given["k"] is not None:
        try:
            ks = [int(part) for part in given["k"].split(",")]
        except ValueError:
            raise click.BadParameter(
                f"{given['k']!r}: expected whole numbers with commas between, as in 4,8,16"
            ) from None
    from ..files.atomic import atomic_write
    from ..representation.intrinsic_dimension import sweeps_figure

    found = _features(context, images, given, output)
    place: Path = found.folder or given["run"] or output.with_suffix(".run")
    with computing(given), stopping(context, place):
        sweeps = _sweeps(found, SWEEPS if given["method"] == "all" else [given["method"]], ks, given)
    figure = sweeps_figure(sweeps)
    with atomic_write(output) as part:
        figure.savefig(part, format=output.suffix[1:].lower(), bbox_inches="tight")
    for name, reason in found.failures:
        say(f"{name}: {reason}")
    if as_json:
        print_json({"output": str(output), "layer": found.layers[0], **_told(sweeps), "failed": _failed(found)})
    else:
        for sweep in sweeps:
            click.echo(f"{sweep.method}, {sweep.count} images: {sweep.dimension:.1f}\n{sweep.table()}\n")
        click.echo(f"wrote {output} ({found.layers[0]})")
    context.exit(FAILED if found.failures else 0)


def _features(context: click.Context, images: Sequence[str], given: dict[str, Any], output: Path) -> Features:
    """The vectors of one layer, from a run folder or of a model."""
    from ..names import UnknownName, nearest
    from ..representation import features
    from ..representation.stored_features import stored_features
    from ..representation.sweeps.vectors import stored

    layer = given["layer"]
    if len(images) == 1 and (Path(images[0]) / "manifest.json").is_file():
        forget(context, given, "model", f"{images[0]} is a run folder, which has its vectors already")
        if given["model"] is not None:
            raise click.BadParameter(f"{images[0]} is a run folder, which has its vectors already: leave --model out")
        kept_there = stored_features(images[0])
        if layer is None and len(kept_there.layers) > 1:
            raise click.BadParameter(
                f"{images[0]} has several layers: give --layer, one of {', '.join(kept_there.layers)}"
            )
        name = kept_there.layers[0] if layer is None else stored("vectors", layer).removeprefix("vectors.")
        if name not in kept_there.layers:
            raise UnknownName(f"{images[0]} has no vectors of layer {layer!r}; {nearest(name, kept_there.layers)}")
        return kept_there[name]
    if given["model"] is None:
        raise click.BadParameter("give --model, whose layers are to look at the images; only a run folder needs none")
    from ..report.pages import kept

    place: Path = given["run"] or output.with_suffix(".run")
    with computing(given), stopping(context, place):
        model = load(given["model"], given)
        truth = None if given["truth"] == "none" else given["truth"]
        return kept(
            lambda: features(model, images, layer, labels=truth, folder=place, on_message=say),
            place,
            overwrite=given["overwrite"],
            replace=given["run"] is None,
            on_message=say,
        )


def _sweeps(
    found: Features, methods: Sequence[str], ks: Sequence[int] | None, given: dict[str, Any]
) -> list[IntrinsicDimension]:
    from ..representation import intrinsic_dimension

    metric = given.get("metric", "l2")
    return [intrinsic_dimension(found, name, ks, metric=metric, seed=given["seed"]) for name in methods]  # type: ignore[arg-type]


def _told(sweeps: Sequence[IntrinsicDimension]) -> dict[str, Any]:
    """Sweeps for machines."""
    told = {
        sweep.method: {
            "dimension": sweep.dimension,
            "k": sweep.k.tolist(),
            "values": sweep.values.tolist(),
            "intervals": sweep.intervals.tolist(),
        }
        for sweep in sweeps
    }
    return {"dimensions": told} if told else {}


def _failed(found: Features) -> list[dict[str, str]]:
    return [{"name": name, "reason": reason} for name, reason in found.failures]
