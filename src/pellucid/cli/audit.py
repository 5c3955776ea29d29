"""`pellucid audit` and `pellucid compare`: does a model look at the right evidence, and which method tells?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from . import options
from .command import written
from .console import FAILED, print_json, say
from .group import CHEATS, PIXELS, computing, load, stopping, target, values_of, verb
from .options import names_in

if TYPE_CHECKING:
    from ..audit import CleverHans

MEASURES = "deletion,insertion,infidelity,sensitivity,mass,pointing"


@verb(
    CHEATS,
    "Find groups of images judged by evidence of their own.",
    """
    pellucid audit photos/ --model resnet50
    pellucid audit photos/ --model mine.pt2 --class horse --method integrated_gradients --option steps=20
    pellucid audit photos/ --model resnet50 --truth truth.csv --output audit.html --table audit.parquet
    pellucid audit report.run --model resnet50 --method integrated_gradients
    """,
)
@options.images("FOLDER...|RUN")
@options.option("--class", "classes", multiple=True, metavar="LABEL|INDEX", former=("--target", "--objective"),
                own=True, help="The class to audit; repeatable.  [default: all with enough images]")  # fmt: skip
@options.method("Of `pellucid methods`.", default="lrp")
@options.of_method("An option of the method; repeatable.")
@options.option("--maps", type=click.IntRange(2), default=16, metavar="N",
                help="Rows and columns that maps are averaged down to.")  # fmt: skip
@options.option("--transform", type=click.Choice(["places", "frequencies"]), default="places",
                help="Compare where relevance lies, or patterns wherever they are.")  # fmt: skip
@options.option("--threshold", type=click.FloatRange(0, min_open=True), metavar="T",
                help="Surprise of an alarm; the documented one by default.")  # fmt: skip
@options.truth()
@options.model()
@options.output("audit.html")
@options.table("A row for each image: .csv or .parquet.  [default: .csv beside the page]")
@options.run("Where maps are kept; else beside.")
@options.overwrite()
@options.json()
@options.seed()
@click.pass_context
def audit(context: click.Context, /, images: tuple[str, ...], as_json: bool, **given: Any) -> None:
    """Find groups of images that a model judges by evidence of their own, such as a mark in a corner.

    Looks where the evidence for the class lies in each image, clusters that, and ranks clusters by how unlike the rest
    they are. Writes a page with the clusters, and a table of all images. Maps are kept in a run folder beside it: if it
    is interrupted, the same command resumes it. In place of images, the run folder of a finished `pellucid explain`
    gives the maps that it has, which are not computed again.
    """
    output, table = _places(given, images)
    from ..audit import clever_hans
    from ..audit.relevance_clusters.clusters import THRESHOLD
    from ..audit.relevance_clusters.explain_run import run_folder_in
    from ..catalogue import of_kind
    from ..report.pages import audit_page, kept

    known = of_kind("attribution")
    _known(given["method"], known)
    entry = known[given["method"]]
    asked = values_of(entry.name, given["options"], entry.options, entry.option_types)
    explained = run_folder_in(images)
    for name, idle in (("--run", given["run"]), ("--overwrite", given["overwrite"])):
        if explained is not None and idle:
            raise click.UsageError(f"{explained.path} is a run folder, whose maps are read: leave out {name}")
    place: Path = given["run"] or output.with_suffix(".run")
    with computing(given), stopping(context, place):
        model = load(given["model"], given)
        classes = [chosen for text in given["classes"] if (chosen := target(text, model)) is not None]

        def work(folder: Path | None) -> CleverHans:
            return clever_hans(
                model, list(images), None if given["truth"] == "none" else given["truth"], classes=classes or None,
                method=entry.name, options=asked, size=given["maps"], transform=given["transform"],
                threshold=given["threshold"] or THRESHOLD, seed=given["seed"], folder=folder, on_message=say,
            )  # fmt: skip

        if explained is not None:
            place, result = explained.path, work(None)
        else:
            overwrite, replace = given["overwrite"], given["run"] is None
            result = kept(lambda: work(place), place, overwrite=overwrite, replace=replace, on_message=say)
        audit_page(output, model, result, command=written(context), seed=given["seed"])
        result.save(table)
    for name, reason in result.failures:
        say(f"{name}: {reason}")
    if as_json:
        print_json(
            {
                "output": str(output), "table": str(table), "run": str(place), "images": len(result.names),
                "threshold": result.threshold,
                "clusters": [
                    {"class": c.label, "images": [result.names[row] for row in c.members], "share": c.share,
                     "outlier_score": c.outlier_score, "score": c.score, "alarm": c.alarm}
                    for c in result.clusters
                ],
                "skipped": dict(result.skipped),
                "failed": [{"name": name, "reason": reason} for name, reason in result.failures],
            }
        )  # fmt: skip
    else:
        click.echo(result.verdict())
        for cluster in result.alarms:
            click.echo(f"  {result.words(cluster)}")
        click.echo(f"wrote {output} and {table} ({len(result.names)} images, maps in {place})")
    context.exit(FAILED if result.failures else 0)


@verb(
    PIXELS,
    "Compare methods: what a map costs, and how true it is.",
    """
    pellucid compare castle.jpg --model resnet50 --methods lrp,grad_cam,saliency
    pellucid compare photos/ --model mine.pt2 --methods all --masks masks/ --table compare.parquet
    """,
)
@options.images()
@options.methods()
@options.target("LABEL|INDEX|LAYER:CHANNEL", "What to explain; else the predicted class.")
@options.option("--masks", type=click.Path(path_type=Path), metavar="FOLDER",
                help="Pictures named like the images, bright where the evidence is.")  # fmt: skip
@options.option("--measures", metavar="A,B", help=f"Some of {MEASURES}.  [default: all that can be computed]")
@options.steps("Of the curves.", default=25)
@options.option("--samples", type=click.IntRange(1), default=25, metavar="N", help="Squares covered.")
@options.option("--around", type=click.IntRange(1), default=3, metavar="N", help="Images around each, for sensitivity.")
@options.model()
@options.output("compare.html")
@options.table("A row for each image and method: .csv or .parquet.  [default: .csv beside the page]")
@options.run("Where numbers are kept; else beside.")
@options.overwrite()
@options.json()
@options.seed()
@click.pass_context
def compare(context: click.Context, /, images: tuple[str, ...], as_json: bool, **given: Any) -> None:
    """Compare methods on images: what a map costs, and how true it is, in one table.

    Writes a page with the table and all maps, and the numbers of each image and method. Numbers are kept in a run
    folder beside it: if it is interrupted, the same command resumes it.
    """
    output, table = _places(given, images)
    from ..catalogue import of_kind
    from ..metrics import compare as job
    from ..metrics.compare import DEFAULTS
    from ..report.pages import compare_page, kept

    known = of_kind("attribution")
    names = list(known) if given["methods"] == "all" else names_in(given["methods"]) or list(DEFAULTS)
    for name in names:
        _known(name, known)
    place: Path = given["run"] or output.with_suffix(".run")
    with computing(given), stopping(context, place):
        model = load(given["model"], given)
        result = kept(
            lambda: job(
                model, list(images), names, target(given["target"], model), given["masks"],
                measures=names_in(given["measures"]), steps=given["steps"], samples=given["samples"],
                around=given["around"], seed=given["seed"], folder=place, on_message=say,
            ),
            place,
            overwrite=given["overwrite"],
            replace=given["run"] is None,
            on_message=say,
        )  # fmt: skip
        compare_page(output, model, result, command=written(context))
        result.save(table)
    for name, reason in result.failures:
        say(f"{name}: {reason}")
    for name, (count, reason) in result.problems.items():
        say(f"{name} failed on {count} of {len(result.names)} images: {reason}")
    if as_json:
        methods = [
            {
                "method": name, "seconds": float(result.seconds[number].nanmean()),
                "forward": float(result.forward[number].nanmean()),
                "backward": float(result.backward[number].nanmean()),
                **{measure: float(result.mean(measure)[number]) for measure in result.scores},
            }
            for number, name in enumerate(result.methods)
        ]  # fmt: skip
        print_json(
            {
                "output": str(output), "table": str(table), "run": str(place), "images": len(result.names),
                "methods": methods,
                "failed": [{"name": name, "reason": reason} for name, reason in result.failures],
                "problems": {name: {"images": count, "reason": why} for name, (count, why) in result.problems.items()},
            }
        )  # fmt: skip
    else:
        click.echo(result.table())
        click.echo(f"wrote {output} and {table} ({len(result.names)} images, numbers in {place})")
    context.exit(FAILED if result.failures or result.problems else 0)


def _places(given: dict[str, Any], images: tuple[str, ...]) -> tuple[Path, Path]:
    """The page and the table, both with names that can be written."""
    from ..jobs.explain.outputs import check_output

    output: Path = given["output"]
    table: Path = given["table"] or output.with_suffix(".csv")
    check_output(output, "html", [Path(image) for image in images])
    if table.suffix.lower() not in (".csv", ".parquet"):
        raise click.BadParameter(f"{table} is no name for a table: let it end in .csv or .parquet")
    return output, table


def _known(name: str, known: dict[str, Any]) -> None:
    from ..names import UnknownName, nearest

    if name not in known:
        raise UnknownName(f"there is no method {name!r}; {nearest(name, known)} (`pellucid methods` lists all)")
