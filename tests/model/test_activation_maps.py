"""Which activations lie over the image, and how."""

from __future__ import annotations

import pytest
import torch

from pellucid.model.activation_maps import as_maps, grid


@pytest.mark.parametrize(
    ("shape", "size", "expected"),
    [
        ((1, 64, 56, 56), (224, 224), ("NCHW", 56, 56, 0)),
        ((1, 512, 1, 1), (224, 224), ("NCHW", 1, 1, 0)),
        ((1, 1000, 15, 15), (224, 224), ("NCHW", 15, 15, 0)),
        ((1, 8, 7, 12), (224, 384), ("NCHW", 7, 12, 0)),
        ((1, 256, 109, 109), (224, 224), ("NCHW", 109, 109, 0)),
        ((1, 7, 7, 768), (224, 224), ("NHWC", 7, 7, 0)),
        ((1, 56, 56, 96), (224, 224), ("NHWC", 56, 56, 0)),
        ((1, 197, 768), (224, 224), ("NTC", 14, 14, 1)),
        ((1, 196, 768), (224, 224), ("NTC", 14, 14, 0)),
        ((1, 201, 768), (224, 224), ("NTC", 14, 14, 5)),
        ((1, 50, 768), (224, 224), ("NTC", 7, 7, 1)),
        ((1, 5, 768), (64, 64), ("NTC", 2, 2, 1)),
        ((1, 1 + 14 * 24, 64), (224, 384), ("NTC", 14, 24, 1)),
        ((1, 12, 197, 64), (224, 224), None),  # attention heads
        ((1, 1000), (224, 224), None),
        ((1, 77, 512), (224, 224), None),  # words
        ((1, 3, 4, 5, 6), (224, 224), None),
    ],
)
def test_grids(shape, size, expected):
    assert grid(shape, size) == expected


def test_the_values_are_those_of_the_places():
    maps = torch.rand(2, 8, 3, 3)
    assert as_maps(maps, (24, 24)) is maps
    assert torch.equal(as_maps(maps.permute(0, 2, 3, 1), (24, 24)), maps)
    tokens = torch.cat([torch.rand(2, 1, 8), maps.flatten(2).transpose(1, 2)], 1)
    assert torch.equal(as_maps(tokens, (24, 24)), maps)
    assert as_maps(torch.rand(2, 8), (24, 24)) is None
