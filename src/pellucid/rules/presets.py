"""Sets of rules that the literature uses, as mappings to print, edit and combine: {**EPSILON_PLUS, "first": flat()}."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .functions import gradient, norm, pass_through, rescale, rescale_max, rescale_product, share, stop
from .linear import alpha_beta, epsilon, flat, gamma, z_box, z_plus, zero
from .rule import Rule


@dataclass(frozen=True)
class Schedule:
    """Rules by depth: the calls of a kind in the order of the pass, cut into as many equal stretches."""

    rules: tuple[Rule, ...]

    def at(self, number: int, count: int) -> Rule:
        """The rule of call `number` of `count`, from 1."""
        return self.rules[min(len(self.rules) - 1, (number - 1) * len(self.rules) // max(1, count))]

    def __repr__(self) -> str:
        return f"by_depth({', '.join(map(repr, self.rules))})"


def by_depth(*rules: Rule) -> Schedule:
    """Rules from the first to the last call of a kind, each for an equal stretch of them.

    >>> by_depth(gamma(1.0), gamma(0.1))
    by_depth(gamma(1), gamma(0.1))
    """
    kinds = [rule.kinds for rule in rules]
    if not rules or any(kind != kinds[0] for kind in kinds):
        raise ValueError("by_depth takes rules of one sort, at least one")
    return Schedule(rules)


Key = str | Callable[..., Any]
Rules = Mapping[Any, "Rule | Schedule"]

BASE: Rules = {
    "norm": epsilon(),
    "activation": pass_through(),
    "softmax": gradient(),
    "product": share(),
    "sum": norm(),
    "average": norm(),
}
"""What every set of rules for relevance begins with."""

LRP_ZERO: Rules = {**BASE, "norm": zero(), "sum": gradient(), "average": gradient()}
"""LRP-0 everywhere (Bach et al. 2015)."""

EPSILON: Rules = {**BASE, "conv": epsilon(), "linear": epsilon()}
"""LRP-epsilon everywhere (Bach et al. 2015)."""

EPSILON_PLUS: Rules = {**BASE, "conv": z_plus(1e-6), "linear": epsilon()}
"""z+ for convolutions, epsilon for dense layers (Montavon et al. 2019; Kohlbrenner et al. 2020)."""

EPSILON_PLUS_FLAT: Rules = {**EPSILON_PLUS, "first": flat(1e-6)}
"""As EPSILON_PLUS, and flat for the layers that see the image (Lapuschkin et al. 2019)."""

EPSILON_ALPHA2_BETA1: Rules = {**BASE, "conv": alpha_beta(2.0, 1.0, 1e-6), "linear": epsilon()}
"""alpha-beta (2, 1) for convolutions, epsilon for dense layers (Kohlbrenner et al. 2020)."""

EPSILON_ALPHA2_BETA1_FLAT: Rules = {**EPSILON_ALPHA2_BETA1, "first": flat(1e-6)}
"""As EPSILON_ALPHA2_BETA1, and flat for the layers that see the image (Kohlbrenner et al. 2020)."""

EPSILON_GAMMA_BOX: Rules = {**BASE, "conv": gamma(0.25, 1e-6), "linear": epsilon(), "first": z_box(0.0, 1.0, 1e-6)}
"""z-box for the pixels, gamma for convolutions, epsilon for dense layers (Montavon et al. 2019)."""

EXCITATION_BACKPROP: Rules = {**BASE, "conv": z_plus(1e-6), "linear": z_plus(1e-6)}
"""Excitation backprop: z+ everywhere (Zhang, Lin, Brandt, Shen & Sclaroff 2016)."""

_FALLING = (gamma(1.0), gamma(10**-0.5), gamma(0.1), gamma(10**-1.5), gamma(0.01))

GAMMA_SCHEDULE: Rules = {**BASE, "conv": by_depth(*_FALLING), "linear": gradient(), "first": z_box(0.0, 1.0)}
"""z-box for the pixels, then gamma falling with depth from 1 to 0.01, dense layers plain (Montavon et al. 2019)."""

GAMMA_SCHEDULE_VGG16: Rules = {
    **BASE,
    "conv": gamma(0.01),
    "features.[0-4]": _FALLING[0],
    "features.[5-9]": _FALLING[1],
    "features.1[0-6]": _FALLING[2],
    "features.1[7-9]": _FALLING[3],
    "features.2[0-3]": _FALLING[3],
    "linear": gradient(),
    "first": z_box(0.0, 1.0),
}
"""GAMMA_SCHEDULE by the layer numbers of VGG-16: one gamma for each of its five blocks."""

ATTNLRP: Rules = {**BASE, "product": share(gate=0.5), "conv": gamma(0.25), "linear": epsilon()}
"""AttnLRP for transformers (Achtibat et al. 2024): half for each factor of a product, softmax by its gradient, layer
norm with its statistics fixed; gamma for the patches' convolution, epsilon for dense layers."""

CP_LRP: Rules = {**ATTNLRP, "softmax": stop()}
"""CP-LRP for transformers (Ali et al. 2022): the weights of attentions are constants."""

DEEPLIFT: Rules = {"activation": rescale(), "max": rescale_max(), "product": rescale_product()}
"""Slopes between an image and a baseline, for batches of images and then their baselines (Shrikumar et al. 2017)."""


def written(rules: Rules) -> str:
    """A mapping as it can be written in Python: by the name of a set, with what differs from it.

    >>> written(EPSILON_GAMMA_BOX), written({**EPSILON, "conv": gamma(1.0)}), written({})
    ('EPSILON_GAMMA_BOX', "{**EPSILON, 'conv': gamma(1)}", '{}')
    """
    named = {name: value for name, value in globals().items() if name.isupper() and isinstance(value, Mapping)}
    ways = [[f"{_key(key)}: {rule!r}" for key, rule in rules.items()]]
    for name, known in named.items():
        if list(rules)[: len(known)] == list(known):
            more = [f"{_key(key)}: {rule!r}" for key, rule in rules.items() if known.get(key) != rule]
            ways.append([f"**{name}", *more] if more else [name])
    best = min(ways, key=len)
    return best[0] if best in ([name] for name in named) else f"{{{', '.join(best)}}}"


def _key(key: Any) -> str:
    return repr(key) if isinstance(key, str) else getattr(key, "__name__", repr(key))
