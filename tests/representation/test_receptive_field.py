"""The box that a place can see: against what moves it when pixels are changed one by one, and by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pellucid.model.run import run
from pellucid.representation import receptive_fields

from ..nets import small_model


def moved(net: nn.Module, layer: str, size: tuple[int, int], channels: int) -> Tensor:
    """The boxes by trial: each pixel is made very large and very small, and what changes has seen it."""
    torch.manual_seed(3)
    start = torch.rand(1, channels, *size, dtype=torch.float64)
    height, width = size
    found = torch.tensor([height, width, 0, 0])
    boxes: Tensor | None = None
    with torch.no_grad():
        kept = run(net, start, read=[layer]).activations[layer]
        for y in range(height):
            for x in range(width):
                changed = start.repeat(2, 1, 1, 1)
                changed[0, :, y, x], changed[1, :, y, x] = 1e4, -1e4
                change = run(net, changed, read=[layer]).activations[layer] - kept
                differs = (change.abs() > 1e-9).any(0).any(0)  # not rounding, which differs with the batch
                boxes = found.expand(*differs.shape, 4).clone() if boxes is None else boxes
                low, high = torch.tensor([y, x]), torch.tensor([y + 1, x + 1])
                boxes[differs] = torch.cat(
                    [torch.minimum(boxes[differs][:, :2], low), torch.maximum(boxes[differs][:, 2:], high)], 1
                )
    assert boxes is not None
    return boxes


class Branches(nn.Module):
    """A residual sum, a concatenation, a function call, and a product with a shift."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=2, dilation=2)
        self.wide, self.out = nn.Conv2d(2, 4, (1, 5), padding=(0, 2)), nn.Conv2d(8, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        first = F.leaky_relu(self.one(x))
        first = first + self.two(first)
        both = torch.cat([first, torch.sigmoid(1e-4 * self.wide(x)) * 2], 1)
        return self.out(torch.roll(both, 1, dims=3)[:, :, 1:])


def conv(*args, **options) -> nn.Module:
    return nn.Conv2d(*args, **options)


NETS = {
    "strided": lambda: nn.Sequential(conv(2, 3, 3, stride=2, padding=1), nn.LeakyReLU(), conv(3, 3, 3, stride=2)),
    "dilated": lambda: nn.Sequential(conv(2, 3, 3, dilation=2, padding=2), conv(3, 3, (3, 1), padding=(1, 0))),
    "same": lambda: nn.Sequential(conv(2, 3, 4, padding="same"), conv(3, 2, (2, 3), padding="same", dilation=(1, 2))),
    "pooled": lambda: nn.Sequential(conv(2, 3, 3), nn.MaxPool2d(3, 2, 1, ceil_mode=True), nn.AvgPool2d(2, 2, 1)),
    "ceil": lambda: nn.Sequential(nn.AvgPool2d(3, 2, ceil_mode=True), nn.MaxPool2d(2, dilation=2, stride=1)),
    "adaptive": lambda: nn.Sequential(conv(2, 2, 2), nn.AdaptiveAvgPool2d((5, 5)), conv(2, 2, 2)),
    "groups": lambda: nn.Sequential(conv(2, 4, 3, padding=1, groups=2), nn.GELU(), conv(4, 4, 2, groups=4)),
    "reflected": lambda: nn.Sequential(nn.ReflectionPad2d(2), conv(2, 2, 3), nn.ZeroPad2d((1, 0, 2, 0)), conv(2, 2, 3)),
    "circular": lambda: nn.Sequential(conv(2, 2, 3, padding=1, padding_mode="circular"), conv(2, 2, 3, padding=1)),
    "transposed": lambda: nn.Sequential(
        conv(2, 3, 3, stride=2), nn.ConvTranspose2d(3, 2, 3, stride=2, padding=1, output_padding=1), conv(2, 2, 2)
    ),
    "nearest": lambda: nn.Sequential(conv(2, 2, 3, stride=2), nn.Upsample(scale_factor=2), conv(2, 2, 3)),
    "normed": lambda: nn.Sequential(conv(2, 4, 3), nn.BatchNorm2d(4), nn.Softmax(1), nn.LocalResponseNorm(3)),
    "shuffled": lambda: nn.Sequential(conv(2, 8, 3, padding=1), nn.PixelShuffle(2), nn.AvgPool2d(2), conv(2, 2, 2)),
    "branches": Branches,
}


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("size", [(9, 11), (12, 10)])
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
def test_the_box_is_what_moves_a_place(name, size):
    torch.manual_seed(1)
    net = nn.Sequential(NETS[name]()).double().eval()
    found = receptive_fields(net, "0", size, channels=2)
    expected = moved(net, "0", size, 2)
    seen = expected[..., 2] > 0  # a place that pads alone made sees nothing
    assert torch.equal(found.boxes[seen], expected[seen])
    assert (found.boxes[~seen] == 0).all()
    assert found.grid == tuple(expected.shape[:2]) and found.size == size and not found.guessed


def test_a_classifier_normalizes_before():
    model = small_model()
    found = receptive_fields(model, "relu2", (12, 12))
    assert torch.equal(found.boxes, receptive_fields(model.net, "relu2", (12, 12)).boxes)
    assert not found.whole and not found.guessed


def test_what_is_not_known_is_said_and_taken_for_the_worst():
    class Sorted(nn.Module):
        def forward(self, x):
            return x.sort(3).values

    net = nn.Sequential(Sorted(), nn.Conv2d(1, 1, 3)).eval()
    fields = receptive_fields(net, "1", (6, 6), channels=1)
    assert fields.whole and fields.guessed == ("sort",)


def test_by_hand_at_the_border_and_inside():
    net = nn.Sequential(nn.Conv2d(3, 2, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(2, 2, 3, padding=1)).eval()
    fields = receptive_fields(net, "3", (16, 16))
    # A place of the last layer sees 3 x 3 pooled ones: 6 pixels from the second layer, one more on each side.
    assert fields[4, 4] == (5, 5, 13, 13)
    assert fields[0, 7] == (0, 11, 5, 16)
    assert fields.cell((4, 4)) == (8, 8, 10, 10)
    assert not fields.whole


def test_normalizing_over_places_sees_all():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4)).eval()
    assert receptive_fields(net, "1", (8, 8)).whole
    assert not receptive_fields(net, "0", (8, 8)).whole


def test_an_attention_sees_all_and_a_patch_its_own_square():
    torchvision = pytest.importorskip("torchvision")
    net = torchvision.models.VisionTransformer(16, 4, 2, 2, 8, 16, num_classes=3).eval()
    assert receptive_fields(net, "conv_proj", (16, 16))[1, 2] == (4, 8, 8, 12)
    assert receptive_fields(net, "encoder.layers.encoder_layer_0", (16, 16)).whole


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "densenet121", "swin_t", "convnext_tiny", "mobilenet_v3_small"])
def test_nothing_outside_the_box_moves_a_place(name):
    torchvision = pytest.importorskip("torchvision")
    torch.manual_seed(0)
    net = getattr(torchvision.models, name)().eval()
    layer = {"resnet18": "layer2", "densenet121": "features.denseblock2", "swin_t": "features.3.0",
             "convnext_tiny": "features.3", "mobilenet_v3_small": "features.2"}[name]  # fmt: skip
    fields = receptive_fields(net, layer, (96, 96))
    assert not fields.guessed
    rows, columns = fields.grid
    y, x = rows // 2, columns // 3
    top, left, bottom, right = fields[y, x]
    image = torch.rand(1, 3, 96, 96)
    other = torch.rand(1, 3, 96, 96)
    other[:, :, top:bottom, left:right] = image[:, :, top:bottom, left:right]
    with torch.no_grad():
        kept = run(net, torch.cat([image, other]), read=[layer]).activations[layer]
    kept = kept if kept.shape[1] not in (rows,) or name == "resnet18" else kept.movedim(3, 1)
    torch.testing.assert_close(kept[0, :, y, x], kept[1, :, y, x], rtol=1e-3, atol=1e-4)


def test_layers_without_places_are_refused_in_words():
    with pytest.raises(ValueError, match="'fc' gives N x 3, which does not lie over the image"):
        receptive_fields(small_model(), "fc", (12, 12))
    with pytest.raises(KeyError, match="there is no layer 'conv9'"):
        receptive_fields(small_model(), "conv9", (12, 12))


def test_the_model_is_as_it_was():
    model = small_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    receptive_fields(model, "conv2", (12, 12))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
