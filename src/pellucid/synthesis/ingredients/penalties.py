"""What makes an image unlikely: penalties, which are objectives of the image alone.

They combine as all objectives do, `logit("castle") - l2(0.1)`, or are given as `maximize(..., penalties=[...])`,
which keeps their values apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ...model.classifier import Classifier
from ...model.run import Model, Trace
from ...objectives.algebra import Objective, Term

Center = float | Tensor | None
CODE = object()  # what a trace has for its output where its images are the codes of a generator


@dataclass(frozen=True, eq=False, repr=False)
class Penalty(Objective):
    """An objective of the image alone, of which less is better.

    kind: the function that made it. numbers: its strength and parameters. on: "images", or "code" for what a
    `Generator` is given.
    """

    kind: str = field(default="", repr=False)
    numbers: dict[str, Any] = field(default_factory=dict, repr=False)
    on: str = field(default="images", repr=False)


def l2(strength: float, *, center: Center = None, on: str = "images") -> Penalty:
    """strength x sum over pixels of (x - center)^2.

    Args:
        strength: above 0.
        center: what costs nothing: a number, a color (C), or a tensor that fits the images; by default a
            Classifier's mean color, and 0 for other networks and for codes.
        on: "images", or "code" for what a `Generator` is given.

    >>> l2(0.5)
    l2(0.5)
    """
    _check_strength("l2", strength)
    return _penalty(
        "l2", {"strength": strength}, lambda x: strength * x.flatten(1).square().sum(1), center=center, on=on
    )


def lp(strength: float, p: float = 6, *, center: Center = None, on: str = "images") -> Penalty:
    """strength x sum over pixels of |x - center|^p: hardly anything for small values, much for large ones.

    Args:
        strength: above 0.
        p: 1 or more.
        center, on: as for `l2`.

    Paper:
        Mahendran & Vedaldi 2015, Understanding deep image representations by inverting them (p = 6).

    >>> lp(0.1, 6)
    lp(0.1, 6)
    """
    _check_strength("lp", strength)
    if not p >= 1:
        raise ValueError(f"lp: p is {p}, expected 1 or more")
    numbers = {"strength": strength, "p": p}
    return _penalty("lp", numbers, lambda x: strength * x.flatten(1).abs().pow(p).sum(1), center=center, on=on)


def total_variation(strength: float, beta: float = 2) -> Penalty:
    """strength x sum over pixels and channels of ((x right - x)^2 + (x below - x)^2)^(beta / 2).

    Args:
        strength: above 0.
        beta: 1 leaves sharp edges between flat regions (with 1e-8 under the root, where it has no slope);
            2 is smooth everywhere.

    Paper:
        Mahendran & Vedaldi 2015, Understanding deep image representations by inverting them.

    >>> total_variation(0.1, beta=2)
    total_variation(0.1, 2)
    """
    _check_strength("total_variation", strength)
    if not beta > 0:
        raise ValueError(f"total_variation: beta is {beta}, expected a number above 0")

    def of(x: Tensor) -> Tensor:
        down, right = x.diff(dim=2), x.diff(dim=3)
        if beta == 2:
            return (down.flatten(1).square().sum(1) + right.flatten(1).square().sum(1)).mul(strength)
        down = torch.nn.functional.pad(down, (0, 0, 0, 1))
        right = torch.nn.functional.pad(right, (0, 1))
        size = (down.square() + right.square()).flatten(1)
        power: Tensor = (size + 1e-8).pow(beta / 2) - 1e-8 ** (beta / 2)
        return power.sum(1).mul(strength)

    return _penalty("total_variation", {"strength": strength, "beta": beta}, of, center=0.0)


def gaussian_prior(mean: Tensor, cov: Tensor, strength: float = 1.0, *, on: str = "images") -> Penalty:
    """-log p(x) of a normal distribution over all pixels, times a strength.

    (x - mean)' inverse(cov) (x - mean) / 2 + log det(2 pi cov) / 2.

    Args:
        mean: D numbers, or of the shape of one image.
        cov: D x D, symmetric with eigenvalues above 0.
        strength: above 0.
        on: as for `l2`.

    Raises:
        ValueError: for shapes that do not fit, or a covariance that is none.

    >>> gaussian_prior(torch.zeros(2), torch.eye(2))
    gaussian_prior(<2 numbers>)
    """
    _check_strength("gaussian_prior", strength)
    mean, cov = torch.as_tensor(mean).detach(), torch.as_tensor(cov).detach()
    flat = mean.flatten()
    if cov.shape != (len(flat), len(flat)):
        raise ValueError(f"cov has the shape {tuple(cov.shape)}, expected {len(flat)} x {len(flat)} for this mean")
    factor, failed = torch.linalg.cholesky_ex(cov.double())
    if int(failed) or not torch.allclose(cov, cov.T, rtol=1e-4, atol=1e-6):
        raise ValueError(
            "cov is no covariance: it must be symmetric with eigenvalues above 0; add a little to its diagonal"
        )
    constant = float(factor.diagonal().log().sum() + len(flat) / 2 * math.log(2 * math.pi))

    def of(x: Tensor) -> Tensor:
        away = x.flatten(1)
        if away.shape[1] != len(flat):
            raise ValueError(f"gaussian_prior is over {len(flat)} numbers, an image has {away.shape[1]}")
        away = away - flat.to(away)
        solved = torch.linalg.solve_triangular(factor.to(away), away.T, upper=False)
        unlikely: Tensor = solved.square().sum(0) / 2 + constant
        return unlikely.mul(strength)

    numbers = {"mean": mean, "cov": cov, "strength": strength}
    text = f"gaussian_prior(<{len(flat)} numbers>{'' if strength == 1 else f', strength={strength:g}'})"
    return _penalty("gaussian_prior", numbers, of, center=0.0, on=on, text=text)


def center_bias(strength: float, *, center: Center = None) -> Penalty:
    """strength x sum over pixels of r^2 (x - center)^2, with r the distance from the middle: 1 at the corners.

    What is shown is drawn to the middle of the image, instead of many times all over it.

    Args:
        strength: above 0.
        center: the color that costs nothing, as for `l2`.

    Paper:
        Nguyen, Yosinski & Clune 2016, Multifaceted feature visualization.

    >>> center_bias(0.1)
    center_bias(0.1)
    """
    _check_strength("center_bias", strength)

    def of(x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        y = torch.linspace(-1, 1, height).to(x)[:, None] if height > 1 else x.new_zeros(1, 1)
        across = torch.linspace(-1, 1, width).to(x)[None] if width > 1 else x.new_zeros(1, 1)
        return strength * (x.square() * ((y.square() + across.square()) / 2)).flatten(1).sum(1)

    return _penalty("center_bias", {"strength": strength}, of, center=center)


def _penalty(
    kind: str,
    numbers: dict[str, Any],
    of: Callable[[Tensor], Tensor],
    *,
    center: Center = None,
    on: str = "images",
    text: str = "",
) -> Penalty:
    if on not in ("images", "code"):
        raise ValueError(f"{kind}: on is {on!r}, expected 'images' or 'code'")
    text = text or f"{kind}({', '.join(f'{value:g}' for value in numbers.values())})"
    if on == "code":
        text = f"{text[:-1]}, on='code')"

    def prepare(model: Model, _count: int) -> Term:
        middle: float | Tensor = 0.0
        if isinstance(center, Tensor):
            middle = center.detach()[:, None, None] if center.ndim == 1 and on == "images" else center.detach()
        elif center is not None:
            middle = center
        elif isinstance(model, Classifier) and model.mean is not None and on == "images":
            middle = model.mean

        def value(trace: Trace) -> Tensor:
            x = trace.images
            if on == "code" and trace.output is not CODE:
                raise ValueError(f"{text} is about the code of a Generator: give it as maximize(penalties=[...])")
            if isinstance(middle, Tensor):
                return of(x - middle.to(x))
            return of(x - middle if middle else x)

        return Term(value, lambda: text)

    return Penalty(text, prepare, kind=kind, numbers={**numbers, "center": center}, on=on)


def _check_strength(name: str, strength: float) -> None:
    if isinstance(strength, bool) or not isinstance(strength, (int, float)) or not 0 < strength < math.inf:
        raise ValueError(f"{name}: the strength is {strength!r}, expected a number above 0")
