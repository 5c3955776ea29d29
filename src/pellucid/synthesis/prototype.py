"""Activation maximization of a linear model, solved on paper: what ascent must come to."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..methods.verb import verb
from .ingredients.penalties import Penalty


@verb(paper=("Montavon, Samek & Müller 2018, Methods for interpreting and understanding deep neural networks"))
def prototype(
    w: Tensor | Sequence[float],
    penalty: Penalty,
    *,
    generator: tuple[Tensor | Sequence[Sequence[float]], Tensor | Sequence[float]] | None = None,
) -> Tensor:
    """The x that maximizes w'x - penalty(x), in closed form.

    - `l2(lam)`, lam |x - center|^2:            x = w / (2 lam) + center
    - `gaussian_prior(mu, S)`, -log p(x):        x = mu + S w
    - with a generator x = A z + c, `l2(lam)` on the code z:  x = A A' w / (2 lam) + c

    Args:
        w: the weights of the model, of any shape; D numbers with a generator.
        penalty: `l2` or `gaussian_prior`.
        generator: A, D x E, and c, D numbers.

    Returns:
        x, of the shape of w.

    Raises:
        ValueError: for another penalty, or shapes that do not fit.

    Paper:
        Montavon, Samek & Müller 2018, Methods for interpreting and understanding deep neural networks.

    >>> from pellucid.synthesis import gaussian_prior, l2
    >>> prototype([1.0, -2.0], l2(0.5))
    tensor([ 1., -2.])
    >>> prototype([1.0, -2.0], gaussian_prior(torch.ones(2), torch.tensor([[2.0, 1.0], [1.0, 3.0]])))
    tensor([ 1., -4.])
    >>> prototype([1.0, -2.0], l2(0.25), generator=([[1.0, 0.0], [1.0, 1.0]], [0.0, 1.0]))
    tensor([-2., -5.])
    """
    w = torch.as_tensor(w)
    found: Tensor
    kind = getattr(penalty, "kind", "")
    if kind not in ("l2", "gaussian_prior"):
        raise ValueError(f"there is no closed form for {penalty!r}: expected l2(...) or gaussian_prior(mean, cov)")
    numbers = penalty.numbers
    strength = numbers["strength"]
    center = 0.0 if numbers["center"] is None else numbers["center"]
    if generator is not None:
        if kind != "l2":
            raise ValueError(f"with a generator the penalty is l2(...) on its code, got {penalty!r}")
        a, c = (torch.as_tensor(part).to(w) for part in generator)
        if w.ndim != 1 or a.ndim != 2 or len(a) != len(w) or c.shape != w.shape:
            raise ValueError(
                f"w, A and c have the shapes {tuple(w.shape)}, {tuple(a.shape)} and {tuple(c.shape)}, expected D, "
                "D x E and D"
            )
        found = a @ (a.T @ w / (2 * strength) + center) + c
        return found
    if kind == "l2":
        found = w / (2 * strength) + center
        return found
    mean, cov = numbers["mean"], numbers["cov"]
    if mean.numel() != w.numel():
        raise ValueError(f"the prior is over {mean.numel()} numbers, w has {w.numel()}")
    found = mean.to(w).flatten() + cov.to(w) @ w.flatten() / strength
    return found.view(w.shape)
