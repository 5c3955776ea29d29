"""`pellucid spectrum`: whether images are fake, by their frequencies, and what else gives them away."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from . import options
from .command import written
from .console import FAILED, print_json, say
from .group import CHEATS, stopping, verb

_MOST_NAMED = 10


@verb(
    CHEATS,
    "Tell real images from fake ones by their frequencies.",
    """
    pellucid spectrum photos/ generated/
    pellucid spectrum faces/ --train 700 --validation 100 --test 200
    pellucid spectrum faces/ --classes folders --network cnn --output generators.html
    pellucid spectrum others/ --classifier spectrum.safetensors --output others.html
    """,
)
@options.images("REAL FAKE... | FOLDER", "folders")
@options.option("--train", type=click.IntRange(1), metavar="N", help="Images of each folder to learn from.  [70 %]")
@options.option("--validation", type=click.IntRange(1), metavar="N", help="And to stop by.  [10 %]")
@options.option("--test", type=click.IntRange(1), metavar="N", help="And to measure on.  [the rest]")
@options.option("--classes", type=click.Choice(["binary", "folders"]), default="binary",
                help="Real or fake; or each folder a class.")  # fmt: skip
@options.option("--features", type=click.Choice(["spectrum", "azimuthal", "pixels"]), default="spectrum",
                help="What the classifier sees.")  # fmt: skip
@options.option("--network", type=click.Choice(["linear", "cnn"]), default="linear",
                help="One layer, or three convolutions and one layer.")  # fmt: skip
@options.option("--window", type=click.Choice(["hann", "none"]), default="hann",
                help="What fades images out towards their borders, before the transform.")  # fmt: skip
@options.option("--classifier", type=click.Path(path_type=Path), metavar="FILE",
                help="One that was trained before: measure it on all files, and train none.")  # fmt: skip
@options.option("--crop", type=click.IntRange(2), metavar="N", help="Cut a square of N pixels from the center.")
@options.option("--resize", type=click.IntRange(2), metavar="N", help="Scale the shorter side to N; leaves traces.")
@options.option("--gray", is_flag=True, help="One channel instead of three.")
@options.option("--epochs", type=click.IntRange(1), default=100, metavar="N", help="At most.")
@options.option("--control/--no-control", default=True, help="Try to tell two halves of the real images apart.")
@options.output("spectrum.html", "The page; numbers and classifier are written beside it.")
@options.run("Where unfinished work is kept; else beside the page.")
@options.json()
@options.seed("Of the split and the training.")
@options.device()
@click.pass_context
def spectrum(context: click.Context, /, folders: tuple[str, ...], as_json: bool, **given: Any) -> None:
    """Tell real images from fake ones by their frequencies, and say whether to believe it.

    Give the folder of the real images and one for each generator; or one folder with sub-folders A_... (real) and
    B_..., C_... (fake). Writes a page with mean spectra, a classifier measured on images that it has not seen, its
    weights and examples explained, a control on two halves of the real images, and whether file format, compression,
    size, colors or framing alone give the classes away. Beside it: predictions, curves and confounds as tables, and
    the classifier, which `pellucid explain --model` takes too. If it is stopped, however, the same command goes on
    where it was.
    """
    from ..jobs.explain.outputs import check_output

    output: Path = given["output"]
    check_output(output, "html", [Path(folder) for folder in folders])
    from ..audit import SpectrumClassifier, spectrum_audit
    from ..audit.spectra.resumable import discard
    from ..model.settings import settings
    from ..report.pages import save_spectrum_numbers, spectrum_page

    saved = given["classifier"]
    if saved is not None and saved.resolve() == output.with_suffix(".safetensors").resolve():
        raise ValueError(f"{saved} would be written over: give the page another name with --output")
    place: Path = given["run"] or output.with_suffix(".run")
    with settings(device=given["device"]), stopping(context, place):
        classifier = SpectrumClassifier.load(saved) if saved is not None else None
        done = spectrum_audit(
            *folders, train=given["train"], validation=given["validation"], test=given["test"],
            classes=given["classes"], features=given["features"], network=given["network"], window=given["window"],
            classifier=classifier, crop=given["crop"], resize=given["resize"], channels=1 if given["gray"] else 3,
            epochs=given["epochs"], control=given["control"], checkpoint=place, on_message=say,
            seed=given["seed"],
        )  # fmt: skip
        spectrum_page(output, done, command=written(context))
        files = save_spectrum_numbers(output, done)
        discard(place)
    failures = done.failures
    for name, reason in failures[:_MOST_NAMED]:
        say(f"{name}: {reason}")
    if len(failures) > _MOST_NAMED:
        say(f"and {len(failures) - _MOST_NAMED} more files could not be read; the page names all")
    if as_json:
        share, control = done.evaluation.accuracy, done.control
        print_json(
            {
                "output": str(output), "files": [str(file) for file in files], "verdict": done.verdict(),
                "accuracy": share.value, "interval": [share.low, share.high], "chance": done.evaluation.chance,
                "origins": {name: one.value for name, one in done.evaluation.by_origin.items()},
                "control": None if control is None else {
                    "accuracy": control.accuracy.value, "interval": [control.accuracy.low, control.accuracy.high],
                    "holds": done.control_holds,
                },
                "confounds": [
                    {"trait": one.name, "accuracy": one.accuracy.value, "flagged": one.flagged}
                    for one in done.confounds.found
                ],
                "failed": [{"name": name, "reason": reason} for name, reason in failures],
            }
        )  # fmt: skip
    else:
        click.echo(done.evaluation.table())
        click.echo(f"\n{done.verdict()}\n")
        click.echo(f"wrote {output} (numbers: {', '.join(file.name for file in files)})")
    context.exit(FAILED if failures else 0)
