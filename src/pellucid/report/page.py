"""One page for many images: what the model saw in each, by several methods, side by side.

A page is one HTML file that needs nothing else: no network, no script, no font, no folder of pictures.
Cases are written as they come, so that a folder of photos never lies in memory.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import IO, TYPE_CHECKING, Any

from markupsafe import Markup

from ..display.figures import plain
from ..files.atomic import atomic_write
from ..methods.result import Call
from ..model.classifier import Classifier
from ..version import __version__
from .encode import SMALL, fit, gradient, heatmap, photo
from .page_items import Case, same
from .summary import Summary

if TYPE_CHECKING:
    import jinja2


def write(
    path: str | Path,
    cases: Iterable[Case],
    *,
    title: str,
    model: str | Classifier,
    failures: Sequence[tuple[str, str]] = (),
    command: str = "",
    size: int = 448,
    legend: Mapping[str, str] = MappingProxyType({}),
) -> Path:
    """Write a page about many images: one HTML file that needs nothing else, whole or not at all.

    Args:
        path: the file. Where something fails or is interrupted, an older file of that name stays as it was.
        cases: any iterable; each case is asked for when the one before is written, and is not kept.
        title: of the page.
        model: a `Classifier` or its name.
        failures: names of files that are not on the page, with the reason. Read after the last case, so
            that it may be filled while cases are made.
        command: the command or call that made the page, so that others can repeat it.
        size: the longer side of the pictures, in pixels. 160 makes a page of a thousand images light.
        legend: by name of a score, a sentence that says what it measures; shown below the summary.

    Returns:
        The path.

    Raises:
        OSError: if the file cannot be written.
        ValueError: for a size that is no whole number above 0.
        Exception: whatever `cases` raises.

    >>> import pellucid, tempfile, torch
    >>> from pellucid.report import Case, Panel
    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 2)).eval()
    >>> model = pellucid.wrap(net, size=8, labels=["cat", "dog"])
    >>> image = torch.rand(1, 3, 8, 8)
    >>> panel = Panel("saliency", pellucid.saliency(model, image))
    >>> case = Case("tom.png", image[0], model.predict(image), true="cat", panels=[panel])
    >>> write(tempfile.mkdtemp() + "/page.html", [case], title="Tom", model=model).name
    'page.html'
    """
    if not isinstance(size, int) or size < 1:
        raise ValueError(f"size is {size!r}, expected a whole number of pixels above 0")
    path = Path(path)
    summary = Summary()
    page = environment().get_template("template.html")
    section = environment().get_template("case.html")
    try:
        # What the head of the page says is known after the last case: cases go to a file without a name first.
        with atomic_write(path) as part, tempfile.TemporaryFile("w+", encoding="utf-8", dir=part.parent) as body:
            source = _guarded(cases)
            while (case := next(source, None)) is not None:
                summary.add(case)
                body.writelines(section.generate(_view(summary.count, case, size)))
                del case  # before the next is made: one image at a time
            body.seek(0)
            with part.open("w", encoding="utf-8") as file:
                stream = page.generate(
                    title=title,
                    model=name_of(model),
                    made=datetime.now().astimezone(),
                    version=__version__,
                    command=command.splitlines(),
                    failures=list(failures),
                    summary=summary,
                    legend=legend,
                    signed_bar=gradient(True),
                    plain_bar=gradient(False),
                    body=_pieces(body),
                )
                file.writelines(stream)
    except _CaseError as error:
        assert error.__cause__ is not None
        raise error.__cause__ from error.__cause__.__cause__
    return path


class _CaseError(Exception):
    """Carries an OSError out of the cases past `whole`, which would take it for one of the page."""


def _guarded(cases: Iterable[Case]) -> Iterator[Case]:
    try:
        yield from cases
    except OSError as error:
        raise _CaseError from error


def _pieces(file: IO[str], length: int = 1 << 20) -> Iterator[Markup]:
    while piece := file.read(length):
        yield Markup(piece)


def _view(number: int, case: Case, size: int) -> dict[str, Any]:
    """What the template of a case shows, with pictures made."""
    picture = photo(case.image, size)
    height, width = fit(case.image.shape[1], case.image.shape[2], size)
    labels = case.predictions.labels[0]
    ranks = [
        {"label": label, "value": value, "true": case.true is not None and same(case.true, label)}
        for label, value in zip(labels, case.predictions.probabilities[0].tolist(), strict=True)
    ]
    groups: dict[str, list[dict[str, Any]]] = {}
    for panel in case.panels:
        picture_of = heatmap(panel.attribution.values[0], height, width)
        gap = panel.attribution.convergence_delta
        groups.setdefault(panel.title, []).append(
            {
                "group": panel.group,
                "map": picture_of,
                "call": panel.attribution.call,
                "convergence_delta": None if gap is None else gap.flatten()[0].item(),
                "scores": {name: float(value) for name, value in panel.scores.items()},
            }
        )
    return {
        "number": number,
        "case": case,
        "photo": picture,
        "small": max(height, width) <= SMALL,
        "ranks": ranks,
        "listed": any(rank["true"] for rank in ranks),
        "methods": [{"title": title, "panels": panels, "call": _shared(panels)} for title, panels in groups.items()],
    }


def _shared(panels: list[dict[str, Any]]) -> Call | None:
    """The call of the first panel, if all panels have the same method, paper and options."""
    calls = [panel["call"] for panel in panels]
    if any(call is None for call in calls):
        return None
    same = {(call.method, call.paper, repr(sorted(call.options.items()))) for call in calls}
    return calls[0] if len(same) == 1 else None


def name_of(model: str | Classifier) -> str:
    """What a page calls a model."""
    return model if isinstance(model, str) else model.name


@cache
def environment() -> jinja2.Environment:
    """Templates that escape whatever they are given, and show control characters as spaces."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: value if isinstance(value, Markup) else plain(str(value)),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(percent=_percent, number=_number, score=_score, share=_share, seconds=_seconds)
    return environment


def _percent(value: float) -> str:
    if 0 < value < 0.0005:
        return "< 0.1 %"
    return "> 99.9 %" if 0.9995 <= value < 1 else f"{100 * value:.1f} %"


def _number(value: float) -> str:
    text = f"{value:.2g}"
    mantissa, e, exponent = text.partition("e")
    return (f"{mantissa}e{int(exponent)}" if e else text).replace("-", "\N{MINUS SIGN}")


def _score(value: float) -> str:
    if not math.isfinite(value):
        return "\N{EN DASH}"
    return f"{value:.2f}" if 0 <= value <= 1 else _number(value)


def _share(value: float) -> float | None:
    """The length of a bar, or None for what is no share."""
    return round(value, 4) if 0 <= value <= 1 else None


def _seconds(value: float) -> str:
    if value < 0.001:
        return "< 1 ms"
    return f"{1000 * value:.0f} ms" if value < 1 else f"{value:.1f} s" if value < 60 else f"{value / 60:.1f} min"
