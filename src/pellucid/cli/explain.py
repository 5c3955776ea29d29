"""`pellucid explain` and `pellucid demo`: pages, pictures and numbers of attributions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from . import options
from .command import OUTPUT, written
from .console import FAILED, STOPPED, in_flags, print_json, say
from .group import PIXELS, computing, load, target, values_of, verb

if TYPE_CHECKING:
    from ..jobs.explain.job import Explained

_MOST_NAMED = 10  # files in a list of failures on the screen


@verb(
    PIXELS,
    "Show what a model looks at in images.",
    """
    pellucid explain castle.jpg --model resnet50
    pellucid explain photos/ --model resnet50 --truth truth.csv --output photos.html
    pellucid explain photos/ --model resnet18 --weights mine.pth --labels classes.txt --target koala
    pellucid explain cat.png --model mine.pt2 --methods grad_cam --layer layer3 --format png --output maps
    pellucid explain cat.png --model resnet50 --target layer3:7 --methods smoothgrad --option smoothgrad.samples=50
    """,
)
@options.images()
@options.methods()
@options.target("LABEL|INDEX|LAYER:CHANNEL", "What to explain; else the predicted class.")
@options.layer()
@options.of_method("An option of a method; repeatable.", "METHOD.NAME=VALUE")
@options.truth("True classes: a .csv or .json of files and labels, or folders called like labels.")
@options.model()
@options.output(None, "Page, or folder.  [default: report.html]")
@options.format("One page; or for each image a picture; or its numbers.")
@options.option("--title", default="", show_default=False, metavar="TEXT", room=OUTPUT, help="Of the page.")
@options.run("Where the numbers are kept; else beside.")
@options.overwrite()
@options.json()
@options.seed()
@click.pass_context
def explain(context: click.Context, /, images: tuple[str, ...], as_json: bool, **given: Any) -> None:
    """Show what a model looks at in images.

    Writes one page (or a picture, or numbers, for each image) with the predicted classes and a map for each
    method. Folders are searched for images, with all their folders. Work is kept as it goes in a run folder
    beside the output: if it is interrupted, the same command resumes it.
    """
    output: Path = given["output"] or Path("report.html" if given["format"] == "html" else "report")
    from ..jobs.explain.outputs import check_output, place_of

    check_output(output, given["format"], [Path(image) for image in images])
    from ..jobs.explain.job import explain as job

    names, asked = _methods(given["methods"]), _options(given["options"])
    with computing(given):
        model = load(given["model"], given)
        try:
            done = job(
                model,
                images,
                output=output,
                format=given["format"],
                methods=names,
                objective=target(given["target"], model),
                layer=given["layer"],
                options=asked,
                seed=given["seed"],
                labels=None if given["truth"] == "none" else given["truth"],
                title=given["title"],
                command=written(context),
                run=given["run"],
                overwrite=given["overwrite"],
                on_message=say,
            )
        except KeyboardInterrupt:
            place = given["run"] or place_of(output, given["format"])
            kept = f"; what is finished is kept in {place}: run the same command to go on" if place.exists() else ""
            say(f"stopped{kept}")
            context.exit(STOPPED)
    _tell(done, as_json)
    context.exit(FAILED if done.failures or done.problems else 0)


@verb(
    PIXELS,
    "Try all methods on scenes whose truth is known.",
    """
    pellucid demo
    pellucid demo --output reports/demo/index.html
    """,
)
@options.output("reports/demo/index.html")
@options.json()
@options.seed("Of scenes and methods.", type=click.IntRange(0))
@options.device()
@options.batch_size()
@click.pass_context
def demo(context: click.Context, /, output: Path, seed: int, as_json: bool, **given: Any) -> None:
    """Run every method on scenes whose truth is known, and say which of them point at the object.

    Needs no download: draws scenes, explains what the small network that comes with pellucid sees in them, and
    measures how much of each map lies on the object.
    """
    from ..jobs.explain.outputs import check_output

    check_output(output, "html", [])
    from ..jobs.demo import demo as job
    from ..jobs.demo import means

    with computing(given):
        done = job(output, seed=seed, command=written(context), on_message=say)
    scores = means(done.folder)
    _tell(done, as_json, {"scores": scores})
    if not as_json:
        click.echo("\nshare of each map that lies on the object (its peak there), mean over the scenes:")
        for name, values in sorted(scores.items(), key=lambda pair: -next(iter(pair[1].values()))):
            mass, peak = values.values()
            click.echo(f"  {name:22} {mass:5.0%} ({peak:4.0%})  {'#' * round(30 * mass)}")
    context.exit(FAILED if done.failures or done.problems else 0)


def _methods(text: str | None) -> list[str] | None:
    """The names in "a,b"; None for the usual ones."""
    if text == "all":
        from ..catalogue import of_kind

        return list(of_kind("attribution"))
    return options.names_in(text)


def _options(texts: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Options of methods from "method.name=value"."""
    from ..catalogue import CATALOGUE
    from ..names import UnknownName, nearest

    found: dict[str, dict[str, Any]] = {}
    for text in texts:
        place, mark, _ = text.partition("=")
        name, dot, _ = place.strip().partition(".")
        if not mark or not dot:
            raise click.BadParameter(f"{text!r}: expected method.name=value, as in smoothgrad.samples=50")
        if name not in CATALOGUE:
            raise UnknownName(f"--option {text}: there is no method {name!r}; {nearest(name, CATALOGUE)}")
        entry = CATALOGUE[name]
        option = text.strip().removeprefix(f"{name}.")
        found.setdefault(name, {}).update(values_of(name, [option], entry.options, entry.option_types))
    return found


def _tell(done: Explained, as_json: bool, more: dict[str, Any] | None = None) -> None:
    """Say what was done: on stdout; what failed on stderr."""
    if done.failures:
        say(f"{len(done.failures)} {'file' if len(done.failures) == 1 else 'files'} could not be explained:")
        for name, reason in done.failures[:_MOST_NAMED]:
            click.echo(f"  {name}: {in_flags(reason)}", err=True)
        if len(done.failures) > _MOST_NAMED:
            click.echo(f"  and {len(done.failures) - _MOST_NAMED} more", err=True)
    for method, (failed, reason) in done.problems.items():
        say(f"{method} failed for {failed} {'map' if failed == 1 else 'maps'}: {reason}")
    if as_json:
        print_json(_summary(done) | (more or {}))
    else:
        count = f"{done.images} {'image' if done.images == 1 else 'images'}"
        click.echo(f"wrote {done.output} ({count}; numbers in {done.folder.path})")


def _summary(done: Explained) -> dict[str, Any]:
    from .. import runfolder

    columns = ("file", "name", "true", "labels", "classes", "probabilities", "problem")
    return {
        "output": str(done.output),
        "run": str(done.folder.path),
        "images": [{column: row[column] for column in columns} for row in runfolder.each_row(done.folder)],
        "failed": [{"name": name, "reason": in_flags(reason)} for name, reason in done.failures],
        "problems": {n: {"maps": count, "reason": in_flags(reason)} for n, (count, reason) in done.problems.items()},
    }
