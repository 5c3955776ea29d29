"""The list of layers."""

from __future__ import annotations

import pytest
import torch
import torchvision

import pellucid

from ..nets import Styles, small_model, small_net, some_images


def test_names_kinds_and_shapes_in_order():
    listed = pellucid.layers(small_model())
    assert [layer.name for layer in listed] == [name for name, _ in small_net().named_children()]
    assert (listed[0].kind, listed[0].shape, listed[-1].shape) == ("Conv2d", (4, 12, 12), (3,))
    assert "conv1" in repr(listed) and "4 x 12 x 12" in repr(listed) and len(repr(listed).splitlines()) == 9


def test_a_list_is_made_once():
    net, images = small_net(), some_images(dtype=torch.float32)
    passes = []
    net.conv1.register_forward_hook(lambda *_: passes.append(1))
    assert pellucid.layers(net, images) is pellucid.layers(net, images[:1])
    assert len(passes) == 1
    net.conv2 = torch.nn.Conv2d(4, 5, 1).eval()  # another network
    assert pellucid.layers(net, images)[4].shape == (5, 6, 6)


def test_what_the_list_needs():
    with pytest.raises(ValueError, match=r"layers\(model, images\)"):
        pellucid.layers(small_net())
    with pytest.raises(TypeError, match="no named layers"):
        pellucid.layers(lambda x: x)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "googlenet", "mobilenet_v2", "shufflenet_v2_x0_5", "swin_t", "vit_b_32"])
def test_every_listed_layer_can_be_read(name):
    options = {"init_weights": False, "aux_logits": False} if name == "googlenet" else {}
    options |= {"image_size": 64} if name.startswith("vit") else {}
    torch.manual_seed(0)
    net = torchvision.models.get_model(name, weights=None, **options).eval()
    images = torch.rand(1, 3, 64, 64)
    listed = pellucid.layers(net, images)
    read = pellucid.run(net, images, read=[layer.name for layer in listed])
    assert {name: tuple(a.shape[1:]) for name, a in read.activations.items()} == {y.name: y.shape for y in listed}


def test_reused_modules_are_listed_again():
    names = [
        layer.name for layer in pellucid.layers(Styles(small_net(), "module"), some_images(1, dtype=torch.float32))
    ]
    assert names == ["conv1", "norm1", "relu", "conv2", "relu#2", "fc"]
