"""Draws the picture at the top of the README: scenes with a known object, and what methods show of them."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

import pellucid
from pellucid.display.colors import colorize, smooth
from pellucid.display.figures import grid

METHODS = {
    "saliency": pellucid.saliency,
    "smoothgrad": pellucid.smoothgrad,
    "integrated_gradients": pellucid.integrated_gradients,
    "occlusion": lambda *a: pellucid.occlusion(*a, window=14, stride=4),
    "rise": lambda model, images: pellucid.rise(model, images, pellucid.probability()),
    "grad_cam": pellucid.grad_cam,
    "layer_cam": lambda *a: pellucid.layer_cam(*a, layer="features.4"),
    "cam": pellucid.cam,
}


def main(path: Path) -> None:
    """Write the picture to `path`."""
    model = pellucid.load("shapes")
    images = pellucid.shapes.scenes(20, seed=8).images[[6, 9, 7, 4]]
    columns = [images]
    for method in METHODS.values():
        values = method(model, images).values.sum(1, keepdim=True)
        columns.append(colorize(smooth(values, 0.7), percentile=99.8))
    rows = torch.stack(columns, 1).flatten(0, 1)
    grid(list(rows), ["image", *METHODS], columns=len(columns), inches=1.3).savefig(path, bbox_inches="tight")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent.parent / "docs" / "methods.png"))
