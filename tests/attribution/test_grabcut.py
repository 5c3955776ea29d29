"""GrabCut from saliency."""

from __future__ import annotations

import sys

import pytest
import torch

import pellucid
from pellucid.methods.result import Attribution


@pytest.fixture
def disc():
    """A red disc on a green ground, and a map that points to its middle."""
    y, x = torch.meshgrid(torch.arange(48), torch.arange(48), indexing="ij")
    distance = ((y - 20) ** 2 + (x - 26) ** 2).sqrt()
    mask = (distance < 12)[None, None]
    noise = 0.05 * torch.rand(1, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    image = torch.where(
        mask, torch.tensor([0.8, 0.1, 0.1])[:, None, None], torch.tensor([0.1, 0.7, 0.2])[:, None, None]
    )
    return Attribution(torch.exp(-distance / 8)[None, None], images=image + noise), mask


def test_the_object_is_cut_out(disc):
    pytest.importorskip("cv2")
    attribution, mask = disc
    found = pellucid.grabcut(attribution)
    assert found.dtype == torch.bool and found.shape == mask.shape
    assert (found & mask).sum() / (found | mask).sum() > 0.98
    assert torch.equal(found, pellucid.grabcut(attribution))


def test_a_constant_map_points_nowhere(disc):
    pytest.importorskip("cv2")
    assert not pellucid.grabcut(Attribution(torch.zeros(1, 1, 48, 48), images=disc[0].images)).any()


def test_wrong_quantiles(disc):
    pytest.importorskip("cv2")
    with pytest.raises(ValueError, match="0 < background < foreground < 1"):
        pellucid.grabcut(disc[0], foreground=0.2, background=0.5)


def test_without_opencv(disc, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(ImportError, match=r"pip install 'pellucid\[grabcut\]'"):
        pellucid.grabcut(disc[0])
