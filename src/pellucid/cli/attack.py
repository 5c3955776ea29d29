"""`pellucid attack` and `pellucid robustness`: what fools a model, and how little it takes."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import click

from . import options
from .command import written
from .console import FAILED, in_flags, print_json, say
from .group import FOOLS, computing, load, stopping, target, values_of, verb

ATTACKS = ("attack",)
MOST_NAMED = 10  # files in a list of failures on the screen


def budget(_context: click.Context, _parameter: click.Parameter, value: str | None) -> Any:
    """Budgets such as 8/255 or 0.5; several with commas between."""
    if value is None:
        return None
    try:
        return [float(Fraction(part.strip())) for part in value.split(",")]
    except (ValueError, ZeroDivisionError):
        raise click.BadParameter(f"{value!r} is no budget: expected a number such as 8/255 or 0.5") from None


@verb(
    FOOLS,
    "Change images a little, so that a model is fooled.",
    """
    pellucid attack elephant.jpg --model resnet50 --to koala
    pellucid attack photos/ --model resnet50 --eps 8/255 --method pgd --option steps=100
    pellucid attack photos/ --model resnet50 --method deepfool --format png --output fooled
    """,
)
@options.images()
@options.option("--to", metavar="LABEL|INDEX", former=("--target",), own=True,
                help="The class to be taken for; else any wrong one.")  # fmt: skip
@options.method("An attack of `pellucid methods`.  [default: targeted with --to, else pgd]", ATTACKS)
@options.option("--eps", metavar="E", callback=budget, help="How far a pixel of [0, 1] may move, as in 8/255.")
@options.option("--norm", metavar="linf|l2|l1", help="In which the budget is measured.")
@options.of_method("An option of the attack; repeatable.")
@options.truth("True classes, as for explain; else the predicted class is the right one.")
@options.model()
@options.output(None, "Page, numbers, or folder of images.  [default: attack.html]")
@options.format("One page; or the images, of 8 bits; or all numbers.")
@options.run("Where finished images are kept; else beside.")
@options.overwrite()
@options.json()
@options.seed()
@click.pass_context
def attack(context: click.Context, /, images: tuple[str, ...], as_json: bool, **given: Any) -> None:
    """Change images a little, so that a model is fooled, and show by how little.

    Writes one page with each image before and after, the difference, and ten times the difference. Finished images
    are kept in a run folder beside it: if it is interrupted, the same command resumes it.
    """
    kind = given["format"]
    output: Path = given["output"] or Path({"html": "attack.html", "npz": "attack.npz", "png": "attack"}[kind])
    from ..jobs.explain.outputs import check_output

    if kind != "npz":
        check_output(output, kind, [Path(image) for image in images])
    from ..report.pages import attack_page, attack_photos, kept, photos, save_images

    method = given["method"] or ("targeted" if given["to"] else "pgd")
    asked = _options(method, given)
    with computing(given):
        model = load(given["model"], given)
        taken = photos(model, images, None if given["truth"] == "none" else given["truth"])
        aim, place = target(given["to"], model), _place(given["run"], output, kind)
        with stopping(context, place):
            result = kept(
                lambda: attack_photos(
                    model, taken, method=method, target=aim, seed=given["seed"], options=asked, folder=place
                ),
                place,
                overwrite=given["overwrite"],
                replace=given["run"] is None,
                on_message=say,
            )
        said = ""
        if kind == "html":
            attack_page(output, model, taken, result, command=written(context))
        elif kind == "npz":
            result.save(output.with_suffix(".npz"))
        else:
            _, still = save_images(output, model, taken, result)
            said = f"; with 8 bits a color, {still} of {int(result.success.sum())} still fool it"
    _failures(taken.failures)
    attacked = int((~result.misclassified).sum())
    if as_json:
        print_json(
            {
                "output": str(output),
                "images": [
                    {
                        "name": name, "before": model.label(int(was)), "after": model.label(int(now)),
                        "fooled": bool(success), "linf": far, "l2": long,
                    }
                    for name, was, now, success, far, long in zip(
                        taken.names, result.before, result.after, result.success, result.distance("linf").tolist(),
                        result.distance("l2").tolist(), strict=True,
                    )
                ],
                "failed": [{"name": name, "reason": reason} for name, reason in taken.failures],
            }
        )  # fmt: skip
    else:
        already = len(result.images) - attacked
        why = "seen wrongly" if result.targets is None else "of that class"
        said += f"; {already} {'was' if already == 1 else 'were'} {why} before" if already else ""
        click.echo(f"wrote {output} ({int(result.success.sum())} of {attacked} images fooled{said})")
    context.exit(FAILED if taken.failures else 0)


@verb(
    FOOLS,
    "Say how many images are still correctly classified under attack.",
    """
    pellucid robustness photos/ --model resnet50
    pellucid robustness digits/ --model mine.pt2 --eps 0.1,0.2,0.3 --method pgd
    """,
)
@options.images()
@options.option("--eps", metavar="E,E", callback=budget, default="2/255,4/255,8/255,16/255",
                help="Budgets, of pixels in [0, 1].")  # fmt: skip
@options.option("--norm", metavar="linf|l2|l1", help="In which budgets are measured.")
@options.method("An attack of `pellucid methods`.", ATTACKS, default="auto_attack")
@options.of_method("An option of the attack; repeatable.")
@options.truth("True classes: a .csv or .json of files and labels, or folders called like labels.", words=("folders",))
@options.model()
@options.output("robustness.html")
@options.run("Where finished images are kept; else beside.")
@options.overwrite()
@options.json()
@options.seed()
@click.pass_context
def robustness(context: click.Context, /, images: tuple[str, ...], as_json: bool, **given: Any) -> None:
    """Say how many images a model classifies correctly under attack, over budgets, with confidence intervals.

    Finished images are kept in a run folder beside the page: if it is interrupted, the same command resumes it.
    """
    from ..jobs.explain.outputs import check_output

    check_output(given["output"], "html", [Path(image) for image in images])
    from ..report.pages import kept, photos, robust_photos, robustness_page

    asked = _options(given["method"], {**given, "eps": None})
    norm = asked.pop("norm", None) or "linf"
    with computing(given):
        model = load(given["model"], given)
        taken = photos(model, images, given["truth"])
        place = _place(given["run"], given["output"], "html")
        with stopping(context, place):
            result = kept(
                lambda: robust_photos(
                    model, taken, eps=given["eps"], norm=norm, method=given["method"], seed=given["seed"],
                    options=asked, folder=place,
                ),
                place,
                overwrite=given["overwrite"],
                replace=given["run"] is None,
                on_message=say,
            )  # fmt: skip
        robustness_page(given["output"], model, taken, result, command=written(context))
    _failures(taken.failures)
    if as_json:
        budgets = zip(result.budgets.tolist(), result.robust_accuracy.tolist(), result.intervals.tolist(), strict=True)
        print_json(
            {
                "output": str(given["output"]),
                "accuracy": result.accuracy,
                "budgets": [{"eps": eps, "accuracy": share, "interval": ends} for eps, share, ends in budgets],
                "failed": [{"name": name, "reason": reason} for name, reason in taken.failures],
            }
        )
    else:
        click.echo(result.table())
        click.echo(f"wrote {given['output']} ({len(taken.names)} images)")
    context.exit(FAILED if taken.failures else 0)


def _place(run: Path | None, output: Path, kind: str) -> Path:
    """Where finished images are kept."""
    from ..jobs.explain.outputs import place_of

    return run or (output.with_suffix(".run") if kind == "npz" else place_of(output, kind))


def _options(method: str, given: dict[str, Any]) -> dict[str, Any]:
    """The options of an attack, from --option name=value, --eps and --norm."""
    from ..catalogue import find

    entry = find("attack", method)
    known, kinds = entry.options, entry.option_types
    found: dict[str, Any] = {}
    for name, value in (("eps", given["eps"]), ("norm", given["norm"])):
        if value is None:
            continue
        if name not in known:
            raise ValueError(f"{method} has no {name}: it looks for the least change; leave --{name} out")
        found[name] = value[0] if isinstance(value, list) else value
    elsewhere = ("seed", "target", "bounds", "folder")
    return found | values_of(method, given["options"], known, kinds, elsewhere)


def _failures(failures: tuple[tuple[str, str], ...]) -> None:
    if failures:
        say(f"{len(failures)} {'file' if len(failures) == 1 else 'files'} could not be read:")
    for name, reason in failures[:MOST_NAMED]:
        click.echo(f"  {in_flags(reason if reason.startswith(name) else f'{name}: {reason}')}", err=True)
    if len(failures) > MOST_NAMED:
        click.echo(f"  and {len(failures) - MOST_NAMED} more", err=True)
