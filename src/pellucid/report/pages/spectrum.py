"""A page of the spectra of real and fake images: what differs, what a classifier makes of it, what to trust."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...audit import SpectrumAudit
from ...display.colors import colorize, smooth
from ...files.atomic import atomic_write, short_names
from .. import Plate, gallery

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SPECTRA = (
    ("real", "mean log |F| of real images, frequency 0 in the middle"),
    ("fake", "of fake ones"),
    ("difference", "the difference; up-sampling leaves grids and stripes"),
)
_CURVES = (("rows", "mean over rows, by horizontal frequency"), ("circles", "mean over all directions, by frequency"))
SMOOTHED = 1.5  # pixels, for maps of single pixels that the eye takes for noise


def spectrum_page(path: str | Path, result: SpectrumAudit, *, title: str = "", command: str = "") -> Path:
    """Write a page of an audit of spectra: one HTML file that needs nothing else, whole or not at all.

    Args:
        path: the file.
        result: of `spectrum_audit`.
        title: of the page.
        command: the command or call that made the page.

    Raises:
        OSError: if the file cannot be written.
    """
    measured, model = result.evaluation, result.classifier
    plates: list[Plate] = []
    for name, one in result.spectra.items():
        pair = f"{one.names[0]} and {name}"
        shown = [(text, one.figure(shown=part)) for part, text in _SPECTRA]
        plates.append(Plate(f"Spectra of {pair}", shown, f"{one.real.count} {one.names[0]}, {one.fake.count} {name}"))
        curves = [(text, one.figure(shown="curves", curve=curve)) for curve, text in _CURVES]
        plates.append(Plate(f"Curves of {pair}", curves))
    facts = {"Correctly classified": str(measured.accuracy), "Chance": f"{measured.chance:.1%}"}
    if measured.auc is not None:
        facts["Area under the ROC curve"] = f"{measured.auc:.4f}"
    if model.history:
        facts["Training"] = f"{model.about.get('trained_on', 0)} images, epoch {model.best + 1} of {len(model.history)}"
    tiles: list[tuple[str, Tensor | Figure]] = [
        ("test images, which it has not seen", measured.figure(shown="confusion")),
        ("by origin", measured.figure(shown="origins")),
    ]
    if model.history:
        tiles.append(("how it was trained", _history(result)))
    plates.append(Plate("Classifier", tiles, f"{model.name}: {measured.accuracy}", facts))
    if model.net.kind == "linear":
        where = "each frequency (0 in the middle)" if model.net.features == "spectrum" else "each pixel"
        if model.net.features == "azimuthal":
            plates.append(Plate("Weights", [("by frequency", model.figure())]))
        else:
            pictures = colorize(smooth(model.weights().float(), 0.7), signed=True, shared=True)
            plates.append(
                Plate(
                    "Weights",
                    [(f"speaks for {n}" , _enlarged(p)) for n, p in zip(model.labels, pictures, strict=True)],
                    f"what {where} adds to a class: red speaks for it, blue against it; drawn a little smoothed",
                )
            )  # fmt: skip
    if result.control is not None:
        holds = "not told apart, as it should be" if result.control_holds else "told apart: something is wrong"
        plates.append(
            Plate("Control: two halves of the real images",
                  [("", result.control.figure(shown="confusion")), ("", result.control.figure(shown="origins"))],
                  f"{holds}: {result.control.accuracy}")
        )  # fmt: skip
    called = result.confounds.flagged
    plates.append(
        Plate(
            "Confounds: what gives the classes away without a spectrum",
            [("each trait alone, learned and tried on other files", result.confounds.figure())],
            f"flagged: {', '.join(one.name for one in called)}" if called else "nothing flagged",
            {one.name: one.detail for one in called if one.detail},
        )
    )
    plates += _examples(result)
    head = {
        "Images": str(len(measured.labels)) + " tested",
        "Correctly classified": str(measured.accuracy),
        "Verdict": result.verdict(),
    }
    return gallery(
        path, plates, title=title or f"Spectra of {' and '.join(model.labels)} images", model=model, facts=head,
        table=_table(result), failures=result.failures, command=command,
    )  # fmt: skip


def save_spectrum_numbers(path: str | Path, result: SpectrumAudit) -> list[Path]:
    """Write the numbers of a page beside it, by its name: predictions, curves, confounds, and the classifier.

    Returns:
        The files.
    """
    path = Path(path)
    files = [
        result.evaluation.save(path.with_suffix(".parquet")),
        result.confounds.save(path.with_name(f"{path.stem}_confounds.csv")),
        result.classifier.save(path.with_suffix(".safetensors")),
    ]
    for number, one in enumerate(result.spectra.values()):
        end = "" if len(result.spectra) == 1 else f"_{number + 1}"
        files += [
            one.save(path.with_name(f"{path.stem}_curves{end}.csv")),
            one.save(path.with_name(f"{path.stem}_spectra{end}.npz")),
        ]
    with atomic_write(path.with_name(f"{path.stem}_table.csv")) as part:
        import csv

        with part.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(_table(result))
    return [*files, path.with_name(f"{path.stem}_table.csv")]


def _table(result: SpectrumAudit) -> list[list[str]]:
    rows = [["what", "of", "correctly classified", "interval", "chance", "remark"]]

    def add(name: str, share: object, chance: float, remark: str = "") -> None:
        rows.append([
            name, str(getattr(share, "count", "")), f"{getattr(share, 'value', 0):.1%}",
            f"{getattr(share, 'low', 0):.1%} to {getattr(share, 'high', 0):.1%}", f"{chance:.1%}", remark,
        ])  # fmt: skip

    measured = result.evaluation
    add(f"classifier ({result.classifier.name})", measured.accuracy, measured.chance)
    for origin, share in measured.by_origin.items():
        add(f"images of {origin}", share, measured.chance)
    if result.control is not None:
        remark = "" if result.control_holds else "should be at chance"
        add("control: halves of the real images", result.control.accuracy, result.control.chance, remark)
    for one in result.confounds.found:
        add(f"{one.name} alone", one.accuracy, one.chance, "flagged" if one.flagged else "")
    return rows


def _examples(result: SpectrumAudit) -> list[Plate]:
    names = short_names([one.file for one in result.examples])
    plates = []
    for one, name in zip(result.examples, names, strict=True):
        call = one.attribution.call
        said = f"the score of {one.predicted}"
        pixels = colorize(smooth(one.attribution.values.float().cpu().sum(1, keepdim=True), SMOOTHED), signed=True)[0]
        tiles: list[tuple[str, Tensor | Figure]] = [("image", _enlarged(one.image))]
        if one.frequencies is not None:
            added = colorize(smooth(one.frequencies.float()[None, None], 0.7), signed=True)[0]
            tiles.append((f"what each frequency adds to {said}", _enlarged(added)))
        tiles.append((f"what each pixel adds to {said}, through the spectrum", _enlarged(pixels)))
        right = one.true == one.predicted
        verdict = f"{one.predicted}, {one.probability:.1%}" + ("" if right else f"; it is {one.true}")
        plates.append(Plate(f"{name}", tiles, verdict, {"from": one.origin, "class": one.true}, call))
    return plates


def _enlarged(picture: Tensor) -> Tensor:
    """Small pictures with pixels as squares: browsers would blur them."""
    times = max(1, 384 // max(picture.shape[1:]))
    return picture.repeat_interleave(times, 1).repeat_interleave(times, 2)


def _history(result: SpectrumAudit) -> Figure:
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(4.8, 3.2), dpi=130, layout="constrained")
    axis = figure.subplots()
    epochs = torch.arange(1, len(result.classifier.history) + 1).tolist()
    axis.plot(epochs, [one.loss for one in result.classifier.history], label="training loss", color="tab:blue")
    axis.plot(epochs, [one.validation_loss for one in result.classifier.history], label="validation loss",
              color="tab:orange")  # fmt: skip
    axis.axvline(result.classifier.best + 1, color="0.6", linestyle=":", linewidth=1)
    axis.set_yscale("log")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_xlabel("epoch; dotted: the one that was kept", fontsize=8)
    axis.tick_params(labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(fontsize=8, frameon=False)
    return figure
