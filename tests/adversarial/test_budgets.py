"""The budget and the bounds hold exactly for every attack, norm and type, whatever is asked for."""

from __future__ import annotations

import warnings
from fractions import Fraction
from typing import get_args

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

import pellucid
from pellucid import CATALOGUE

from .nets import small_net_of_all_classes
from .test_every_attack import BUDGETED

TYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
PAIRS = [(name, norm) for name in BUDGETED for norm in get_args(CATALOGUE[name].option_types["norm"])]
QUICK = {"auto_attack": {"budget": 0.02}, "apgd": {"steps": 12}, "pgd": {"steps": 4}, "square": {"queries": 12}}
NETWORK = pellucid.wrap(small_net_of_all_classes().float(), mean=[0.5] * 3, std=[0.25] * 3, size=12)


def outside(images, found, eps, norm):
    """By how much a change is above the budget, in whole fractions, so that no rounding hides or makes an excess."""
    excess = []
    for image, other in zip(images.double(), found.double(), strict=True):
        pairs = zip(image.flatten().tolist(), other.flatten().tolist(), strict=True)
        changes = [abs(Fraction(a) - Fraction(b)) for a, b in pairs if a != b] or [Fraction(0)]
        size = {"linf": max, "l1": sum, "l2": lambda values: sum(v * v for v in values)}[norm](changes)
        excess.append(float(size - Fraction(eps) ** (2 if norm == "l2" else 1)))
    return max(excess)


@pytest.mark.parametrize("name, norm", PAIRS)
@settings(max_examples=6)
@example(seed=0, dtype=torch.float16, share=8 / 255, aimed=False)
@given(
    seed=st.integers(0, 10**6),
    dtype=st.sampled_from(TYPES),
    share=st.one_of(st.sampled_from([1 / 255, 8 / 255, 0.3]), st.floats(1e-3, 0.9)),
    aimed=st.booleans(),
)
def test_no_attack_leaves_the_ball_or_the_bounds(name, norm, seed, dtype, share, aimed):
    source = torch.Generator().manual_seed(seed)
    images = (torch.rand(2, 3, 12, 12, generator=source) * 1.4 - 0.2).clamp(0, 1).to(dtype)
    eps = share * {"linf": 1.0, "l2": 432**0.5, "l1": 432.0}[norm]  # a share of what would allow everything
    options = {"target": seed % 3} if aimed and "target" in CATALOGUE[name].options else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of what is seen as the target already, and the like
        result = CATALOGUE[name].function(NETWORK, images, eps=eps, norm=norm, seed=seed, **options,
                                          **QUICK.get(name, {}))  # fmt: skip
    found = result.images
    assert found.dtype == dtype and found.min() >= 0 and found.max() <= 1
    assert outside(images, found, eps, norm) <= 0


@settings(max_examples=8)
@given(seed=st.integers(0, 10**6), norm=st.sampled_from(["linf", "l2", "l1"]), share=st.floats(1e-3, 0.5))
def test_one_change_for_all_and_other_bounds_hold_too(seed, norm, share):
    images = torch.rand(4, 3, 12, 12, generator=torch.Generator().manual_seed(seed))
    eps = share * {"linf": 1.0, "l2": 432**0.5, "l1": 432.0}[norm]
    result = pellucid.universal(NETWORK, images, eps=eps, norm=norm, epochs=2)
    assert outside(images, result.images, eps, norm) <= 0
    assert outside(0 * images[:1], result.perturbation, eps, norm) <= 0
    wide = pellucid.pgd(NETWORK.net, 4 * images - 2, eps=4 * eps, norm=norm, bounds=(-2, 2), steps=2, seed=seed)
    assert outside(4 * images - 2, wide.images, 4 * eps, norm) <= 0 and wide.images.abs().max() <= 2


@pytest.mark.parametrize("name", ["deepfool", "carlini_wagner", "fab", "hop_skip_jump", "targeted"])
@pytest.mark.parametrize("dtype", TYPES)
def test_attacks_without_a_budget_stay_in_bounds(name, dtype):
    images = (torch.rand(2, 3, 12, 12, generator=torch.Generator().manual_seed(1)) * 1.6 - 0.3).clamp(0, 1).to(dtype)
    quick = {"carlini_wagner": {"steps": 10, "searches": 2}, "fab": {"steps": 4, "restarts": 2},
             "hop_skip_jump": {"steps": 1, "directions": 8}, "targeted": {"steps": 20}}  # fmt: skip
    options = {"target": (pellucid.run(NETWORK, images).output.argmax(1) + 1) % 3} if name == "targeted" else {}
    found = CATALOGUE[name].function(NETWORK, images, **options, **quick.get(name, {})).images
    assert found.dtype == dtype and found.min() >= 0 and found.max() <= 1 and not torch.equal(found, images)
