"""The classification networks of torchvision go through lrp as they are, and relevance is kept where it should be."""

from __future__ import annotations

import gc

import pytest
import torch
import torchvision
from torch import nn

import pellucid

# The largest are others of these with more of the same blocks; with 0.6 billion weights they tell no more.
LARGEST = ("regnet_y_128gf", "vit_h_14")
NAMES = [name for name in torchvision.models.list_models(module=torchvision.models) if name not in LARGEST]
ATTENTION = ("vit_", "swin_", "maxvit")
# A depthwise convolution adds up nine values of one channel. Where no ReLU stands before or behind it, none of them may
# speak for its output: z+ finds no positive contribution there, and drops what relevance such an output has.
DEPTHWISE = ("efficientnet", "mobilenet_v3", "mnasnet", "shufflenet", "convnext", "regnet_y")


def size_of(name: str) -> int:
    if name.startswith("vit_"):
        return 32
    return {"maxvit_t": 224, "inception_v3": 75}.get(name, 64)


def network(name: str) -> nn.Module:
    """Without biases, tokens and means, which would take relevance."""
    torch.manual_seed(0)
    options: dict[str, object] = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    if name.startswith("vit_"):
        options["image_size"] = size_of(name)
    net = getattr(torchvision.models, name)(num_classes=10, **options).eval().requires_grad_(False)
    for path, tensor in [*net.named_parameters(), *net.named_buffers()]:
        word = path.rpartition(".")[2]
        if word in ("bias", "running_mean", "class_token", "pos_embedding") or "position_bias_table" in word:
            tensor.zero_()
        elif word == "layer_scale":
            tensor.fill_(0.5)
        elif tensor.ndim > 1 and not tensor.any():
            tensor.normal_(0, 0.02)
    return net


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_relevance(name):
    net = network(name)
    images = torch.randn(1, 3, size_of(name), size_of(name), generator=torch.Generator().manual_seed(1))
    before = net(images)
    kept = {preset: share(net, images, preset) for preset in ("EPSILON_PLUS_FLAT", "ATTNLRP")}  # no warning: all known
    if not name.startswith(ATTENTION):
        assert kept["ATTNLRP"] == pytest.approx(1, abs=0.01)
        if not name.startswith(DEPTHWISE):
            assert kept["EPSILON_PLUS_FLAT"] == pytest.approx(1, abs=0.01)
    else:  # the softmax of an attention does not keep relevance unless it is a constant
        assert share(net, images, "CP_LRP") == pytest.approx(1, abs=0.01)
    assert torch.equal(net(images), before)
    del net
    gc.collect()


def share(net: nn.Module, images: torch.Tensor, preset: str) -> float:
    """The sum of the relevance as a share of the objective."""
    result = pellucid.lrp(net, images, None, rules=preset)
    total = float(result.values.sum())
    assert result.convergence_delta is not None
    return total / (total - float(result.convergence_delta))
