"""Networks of torchvision through ONNX and back: how far the outputs, gradients and relevances are apart.

    python scripts/onnx_networks.py [NAME ...] [--new]

Random weights, small images, gradients and relevances in float64. `--new` takes torch's newer exporter, which needs
onnxscript.
"""

from __future__ import annotations

import contextlib
import copy
import io
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

import pellucid
from pellucid.importers import ImportFailed

NAMES = (
    "convnext_tiny densenet121 efficientnet_b0 efficientnet_v2_s googlenet inception_v3 maxvit_t mnasnet0_5 "
    "mobilenet_v2 mobilenet_v3_small regnet_y_400mf resnet18 resnext50_32x4d shufflenet_v2_x0_5 squeezenet1_1 swin_t "
    "swin_v2_t vit_b_16"
)
SIDES = {"inception_v3": 96, "maxvit_t": 224}
OPTIONS: dict[str, dict[str, Any]] = {
    "googlenet": {"aux_logits": False},
    "inception_v3": {"aux_logits": False},
    "vit_b_16": {"image_size": 64},
}


def made(name: str) -> nn.Module:
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net: nn.Module = torchvision.models.get_model(name, weights=None, **OPTIONS.get(name, {}))
    with torch.no_grad():
        for weight in net.parameters():
            if not weight.any():
                weight.normal_(0, 0.05)
    return net.eval()


def export(net: nn.Module, images: Tensor, path: Path, new: bool) -> None:
    quiet = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
        warnings.simplefilter("ignore")
        if new:
            shapes = ({0: torch.export.Dim.DYNAMIC},)
            torch.onnx.export(net, (images,), path, dynamo=True, dynamic_shapes=shapes, verbose=False)
        else:
            axes = {"images": {0: "N"}}
            torch.onnx.export(net, (images,), path, dynamo=False, input_names=["images"], dynamic_axes=axes)


def apart(mine: Tensor, theirs: Tensor) -> float:
    return float((mine - theirs).abs().max() / theirs.abs().max())


def main(arguments: list[str]) -> None:
    new = "--new" in arguments
    names = [name for name in arguments if name != "--new"] or NAMES.split()
    print("| network | outputs | gradients | LRP | layers | seconds of one core to import |\n|---|---|---|---|---|---|")
    for name in names:
        side = SIDES.get(name, 64)
        net, images = made(name), torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(1))
        with tempfile.TemporaryDirectory() as folder, pellucid.settings(progress=False):
            path = Path(folder, "net.onnx")
            try:
                export(net, images, path, new)
            except Exception as error:
                print(f"| {name} | not exported: {str(error).splitlines()[0][:90]} |", flush=True)
                continue
            start = time.process_time()
            try:
                model = pellucid.from_onnx(path)
            except ImportFailed as error:
                print(f"| {name} | refused: {error} |", flush=True)
                continue
            seconds = time.process_time() - start
        wide = [copy.deepcopy(which).double() for which in (model, net)]
        with pellucid.settings(progress=False):
            gradients, relevances = (
                apart(*(method(which, images.double(), 1).values for which in wide))
                for method in (pellucid.gradient_x_input, pellucid.lrp)
            )
        print(
            f"| {name} | {model.net.difference:.1e} | {gradients:.1e} | {relevances:.1e} | "
            f"{len(pellucid.layers(model))} | {seconds:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main(sys.argv[1:])
