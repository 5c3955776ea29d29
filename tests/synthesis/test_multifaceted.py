"""A unit that likes two things shows both."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import pellucid
from pellucid.synthesis import Fourier, Pixels, multifaceted

from ..nets import small_model, some_images


class TwoThings(nn.Module):
    """Responds to a bright left half or to a bright right half, whichever is stronger."""

    def __init__(self) -> None:
        super().__init__()
        left = torch.zeros(1, 8, 8, dtype=torch.float64)
        left[..., :4] = 1
        self.register_buffer("things", torch.stack([left - 0.5, 0.5 - left]))
        self.match = nn.Identity()
        self.eval()

    def forward(self, x):
        return self.match(torch.einsum("nchw,kchw->nk", x - 0.5, self.things)).amax(1, keepdim=True)


def halves(count):
    things = (TwoThings().things + 0.5).repeat(count, 1, 1, 1)
    noise = torch.rand(things.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return 0.5 * things + 0.25 + 0.2 * (noise - 0.5)


def test_both_kinds_are_found():
    found = multifaceted(
        TwoThings(), halves(6), 0, facets=2, layer="match", steps=30, bias=0.0, parametrization=Pixels()
    )
    left = found.images[..., :4].mean((1, 2, 3)) - found.images[..., 4:].mean((1, 2, 3))
    assert left.sign().sum() == 0 and (left.abs() > 0.5).all()
    assert found.titles == ("logit(0), facet 1 (6 images)", "logit(0), facet 2 (6 images)")
    assert (found.values > found.history[:, 0]).all()


def test_the_largest_kind_is_first_and_seeds_repeat():
    images = torch.cat([halves(3), halves(3)[::2]])
    options = {"facets": 2, "layer": "match", "steps": 3, "parametrization": Fourier()}
    found = multifaceted(TwoThings(), images, 0, **options)
    assert "(6 images)" in found.titles[0] and "(3 images)" in found.titles[1]
    assert torch.equal(found.images, multifaceted(TwoThings(), images, 0, **options).images)


def test_center_bias_keeps_corners_plain():
    model, images = small_model(), some_images(4)

    def corners(bias):
        found = multifaceted(model, images, 1, facets=1, layer="conv1", steps=20, bias=bias, parametrization=Pixels())
        return (found.images - model.mean)[..., [0, 0, -1, -1], [0, -1, 0, -1]].abs().mean()

    assert corners(5.0) < 0.5 * corners(0.0)


def test_what_is_refused():
    model, images = small_model(), some_images(3)
    with pytest.raises(ValueError, match="1 to 3"):
        multifaceted(model, images, 0, facets=4)
    with pytest.raises(ValueError, match="takes one objective"):
        multifaceted(model, images, [0, 1, 2], facets=3, layer="conv1")
    with pytest.raises(ValueError, match="from 0"):
        multifaceted(model, images, 0, facets=2, bias=-1.0)
    with pytest.raises(pellucid.checks.UnknownName):
        multifaceted(model, images, 0, facets=2, layer="nowhere")
