"""`pellucid features`, `neighbors`, `patches` and `activations`: what the layers of a model hold for many images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from . import completion, options
from .command import Place, forget, written
from .console import FAILED, print_json, say
from .group import WORLD, computing, load, stopping, target, verb
from .options import names_in

if TYPE_CHECKING:
    from ..model.classifier import Classifier
    from ..representation import Features

TABLES = (".csv", ".parquet")


def _over_images(output: str, tables: str = ".csv or .parquet") -> options.Decorator:
    """The options of verbs that go over many images."""
    return options.together(
        options.images(),
        options.model(),
        options.output(f"{output}.html"),
        options.table(f"The numbers: {tables}.  [default: .parquet beside the page]"),
        options.run("Where work is kept as it goes; else beside the page."),
        options.overwrite(),
        options.json(),
    )


def _channels(_context: click.Context, _parameter: click.Parameter, text: str | None) -> list[int] | str | None:
    """What --channels says, read before any work: numbers, "all" or nothing."""
    if text is None or text == "all":
        return text
    try:
        ranges = [[int(end) for end in part.split("-")] for part in text.split(",")]
        return [number for first, *last in ranges for number in range(first, (last or [first])[-1] + 1)]
    except ValueError:
        raise click.BadParameter(f"{text!r}: expected numbers of channels, as in 0,5,8-11, or all") from None


@verb(
    WORLD,
    "Write what layers of a model hold for each image.",
    """
    pellucid features photos/ --model resnet50
    pellucid features photos/ --model resnet50 --layer layer2,layer4 --table photos.h5
    pellucid features photos/ --model mine.pt2 --layer conv3 --places flatten --truth truth.csv
    """,
)
@options.layers("Of `pellucid layers`, or 'pixels'; else what the last one looks at")
@options.option("--places", type=click.Choice(["mean", "max", "flatten", "token"]), default="mean",
                help="What becomes of a layer's places.")  # fmt: skip
@options.truth()
@_over_images("features", ".parquet, .csv, .npz or .h5")
@click.pass_context
def features(context: click.Context, /, images: tuple[str, ...], as_json: bool, **given: Any) -> None:
    """Write what layers of a model hold for each image, as vectors.

    Work is kept in a run folder as it goes: if it is interrupted, the same command resumes it.
    """
    output, table = _places(given, images, (*TABLES, ".npz", ".h5", ".hdf5"))
    from ..report.pages.representation import features_page

    with computing(given):
        model = load(given["model"], given)
        found = _features(context, model, images, given, given["layers"])
        features_page(output, model, found, command=written(context))
        found.save(table)
    told = {layer: list(found[layer].shape) for layer in found.layers}
    _tell(context, given, found.failures, as_json, {"layers": told}, f"{len(found)} images", table)


@verb(
    WORLD,
    "Show which images a layer takes for alike.",
    """
    pellucid neighbors photos/ --model resnet50
    pellucid neighbors photos/ --model resnet50 --query photos/castle.jpg --query photos/koala.jpg --k 8
    pellucid neighbors photos/ --model resnet50 --layer layer3 --metric cosine --output alike.html
    """,
)
@options.layer("Of `pellucid layers`; else what the last one looks at.")
@options.option("--query", "queries", multiple=True, metavar="IMAGE", type=Place(),
                help="Whose neighbors; repeatable.  [default: 12]")  # fmt: skip
@options.option("--k", type=click.IntRange(1), metavar="K", help="How many neighbors.  [default: 5]")
@options.option("--metric", type=click.Choice(["l2", "cosine"]), default="l2", help="The distance.")
@options.truth()
@_over_images("neighbors")
@click.pass_context
def neighbors(context: click.Context, /, images: tuple[str, ...], as_json: bool, **given: Any) -> None:
    """Show which images a layer takes for alike, beside those whose pixels are."""
    output, table = _places(given, images, TABLES)
    from ..report.pages.representation import neighbors_page
    from ..representation import neighbors as nearest
    from ..representation.features import chosen_layers
    from ..representation.sweeps.measures import PIXELS

    with computing(given):
        model = load(given["model"], given)
        layer = chosen_layers(model, list(images), given["layer"])[0]
        found = _features(context, model, images, given, [layer, PIXELS] if layer != PIXELS else [layer])
        others = len(found) - 1
        if not others:
            raise ValueError("there is 1 image, which has no neighbors: give more")
        k = given["k"] or min(5, others)
        if k > others:
            few = "1 other" if others == 1 else f"{others} others"
            raise ValueError(f"--k is {k}, but an image has only {few}: ask for fewer")
        rows = _rows(found, given["queries"])
        near = nearest(found[layer], rows, k, metric=given["metric"], include_self=False)
        beside = None
        if layer != PIXELS:
            beside = nearest(found[PIXELS], rows, k, metric=given["metric"], include_self=False)
        neighbors_page(output, model, near, beside=beside, command=written(context))
        near.save(table)
    told = {"layer": layer, "neighbors": near.rows()}
    _tell(context, given, found.failures, as_json, told, f"{len(rows)} queries among {len(found)} images", table)


@verb(
    WORLD,
    "Show which patches of images excite the channels of a layer.",
    """
    pellucid patches photos/ --model resnet50 --layer layer3 --channels 0,5,8-11
    pellucid patches photos/ --model resnet50 --layer layer4 --by relevance --target castle
    pellucid patches photos/ --model mine.pt2 --layer conv2 --steps 0
    """,
)
@options.layer("Of `pellucid layers`.", required=True)
@options.option("--channels", metavar="A,B-C", callback=_channels,
                help="Their numbers; the first 16 by default, and 'all' for all.")  # fmt: skip
@options.option("--k", type=click.IntRange(1), default=9, metavar="K", help="Patches of a channel.")
@options.option("--by", type=click.Choice(["activation", "relevance"]), default="activation",
                help="Where it is most active, or most relevant for a class.")  # fmt: skip
@options.target("LABEL|INDEX", "Relevant for what; else each image's predicted class.")
@options.steps("Of the synthesis of an image for each channel; 0 leaves it out.", 0, default=128)
@_over_images("patches")
@options.seed("Of the synthesis.")
@click.pass_context
def patches(context: click.Context, /, images: tuple[str, ...], as_json: bool, **given: Any) -> None:
    """Show which patches of images excite the channels of a layer most, beside what they want to see.

    Patches are cut to what the place can see. One pass over the images serves all channels.
    """
    output, table = _places(given, images, TABLES)
    from ..report.pages import kept
    from ..report.pages.representation import patches_page
    from ..representation import top_patches

    if given["by"] != "relevance":
        forget(context, given, "target", "it goes with --by relevance")
    if given["target"] is not None and given["by"] != "relevance":
        raise click.BadParameter("--target goes with --by relevance: where a channel is most active knows no class")
    place: Path = given["run"] or output.with_suffix(".run")
    with computing(given), stopping(context, place):
        model = load(given["model"], given)
        found = kept(
            lambda: top_patches(
                model, list(images), given["layer"], k=given["k"], by=given["by"],
                objective=target(given["target"], model), folder=place, on_message=say,
            ),
            place, overwrite=given["overwrite"], replace=given["run"] is None, on_message=say,
        )  # fmt: skip
        channels, count = given["channels"], len(found.channels)
        found = found.chosen(
            channels if isinstance(channels, list) else range(min(16, count) if channels is None else count)
        )
        command = written(context)
        patches_page(output, model, found, steps=given["steps"], seed=given["seed"], command=command)
        found.save(table)
    told = {"layer": found.layer, "patches": found.rows()}
    _tell(context, given, found.failures, as_json, told, f"{len(found.channels)} channels", table)


@verb(
    WORLD,
    "Show the weights of layers, and their channels on images.",
    """
    pellucid activations castle.jpg --model resnet50
    pellucid activations castle.jpg --model resnet50 --layer layer1,layer2 --filters conv1,layer1.0.conv1
    """,
)
@options.images()
@options.layers("Whose channels; the first convolution by default")
@options.option("--filters", metavar="A,B", help="Whose weights; the first convolution by default.",
                shell_complete=completion.layers)  # fmt: skip
@options.model()
@options.output("activations.html")
@options.json()
@click.pass_context
def activations(context: click.Context, /, images: tuple[str, ...], as_json: bool, **given: Any) -> None:
    """Show the weights of layers as pictures, and what all their channels say of images."""
    from ..jobs.explain.outputs import check_output

    output: Path = given["output"]
    check_output(output, "html", [Path(image) for image in images])
    from ..report.pages.representation import activations_page
    from ..representation import activations as channels_of
    from ..representation import filters

    with computing(given):
        model = load(given["model"], given)
        photos = model.read(*images)
        named = names_in(given["filters"])
        weights = [filters(model, name) for name in named] if named else [filters(model)]
        layers = given["layers"] or [weights[0].layer]
        found = [channels_of(model, photos, layer) for layer in layers]
        activations_page(output, model, found, weights, command=written(context))
    if as_json:
        print_json({"output": str(output), "layers": {one.layer: list(one.values.shape) for one in found}})
    else:
        click.echo(f"wrote {output} ({', '.join(one.layer for one in found)})")


def _features(
    context: click.Context, model: Classifier, images: Sequence[str], given: dict[str, Any], layers: list[str] | None
) -> Features:
    """The vectors of some layers, from the run folder as far as it has them."""
    from ..report.pages import kept
    from ..representation import features

    place: Path = given["run"] or given["output"].with_suffix(".run")
    truth = None if given["truth"] == "none" else given["truth"]
    places = given.get("places", "mean")
    with stopping(context, place):
        return kept(
            lambda: features(model, list(images), layers, pooling=places, labels=truth, folder=place, on_message=say),
            place, overwrite=given["overwrite"], replace=given["run"] is None, on_message=say,
        )  # fmt: skip
    raise AssertionError  # stopping leaves the command


def _places(given: dict[str, Any], images: Sequence[str], endings: Sequence[str]) -> tuple[Path, Path]:
    """The page and the table, refused before any work if they cannot be written."""
    from ..jobs.explain.outputs import check_output

    output: Path = given["output"]
    table: Path = given["table"] or output.with_suffix(".parquet")
    check_output(output, "html", [Path(image) for image in images])
    if table.suffix.lower() not in endings:
        known = f"{', '.join(endings[:-1])} or {endings[-1]}"
        raise click.BadParameter(f"{table} is no name for a table: let it end in {known}")
    return output, table


def _rows(found: Features, queries: Sequence[str]) -> list[int]:
    """Which of the images the queries are; by default twelve, evenly taken."""
    from ..names import UnknownName, nearest

    if not queries:
        count = min(12, len(found))
        return [round(place * (len(found) - 1) / max(1, count - 1)) for place in range(count)]
    known = {name: row for row, name in enumerate(found.names)}
    known |= {str(Path(file).resolve()): row for row, file in enumerate(found.files)}
    rows = []
    for query in queries:
        row = known.get(query, known.get(str(Path(query).resolve())))
        if row is None:
            raise UnknownName(f"--query {query} is not among the images; {nearest(Path(query).name, found.names)}")
        rows.append(row)
    return rows


def _tell(
    context: click.Context,
    given: dict[str, Any],
    failures: Sequence[tuple[str, str]],
    as_json: bool,
    told: dict[str, Any],
    text: str,
    table: Path,
) -> None:
    for name, reason in failures:
        say(f"{name}: {reason}")
    if as_json:
        failed = [{"name": name, "reason": reason} for name, reason in failures]
        print_json({"output": str(given["output"]), "table": str(table), **told, "failed": failed})
    else:
        click.echo(f"wrote {given['output']} and {table} ({text})")
    context.exit(FAILED if failures else 0)
