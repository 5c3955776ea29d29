"""A style network learns, is kept, goes on after a kill, and takes another style without losing the first."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import pellucid
from pellucid.checks import UnknownName
from pellucid.files.images import write_image
from pellucid.model.training import steps_in
from pellucid.synthesis import StyleNetwork, content, style, train_style
from pellucid.synthesis.style_network import Norm
from pellucid.synthesis.training.training import Squares

from ..methods.test_contract import same, state
from ..nets import small_net


def model():
    return pellucid.wrap(small_net(), mean=[0.4, 0.5, 0.6], std=[0.2, 0.25, 0.3])


def photos(count=4, seed=0):
    small = torch.rand(count, 3, 6, 6, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(small, 32, mode="bilinear")


STRIPES = torch.zeros(1, 3, 24, 24)
STRIPES[:, 0, :, ::4] = 1
DOTS = torch.zeros(1, 3, 24, 24)
DOTS[:, 2, ::5, ::5] = 1
OPTIONS = {
    "width": 4, "blocks": 1, "size": 24, "batch": 2, "content_layers": "conv1", "style_layers": ("conv1", "relu2"),
    "style_weight": 30.0, "step": 5e-3,
}  # fmt: skip


def test_the_norm_is_instance_normalization_with_a_gain_of_the_style():
    norm, x = Norm(2, 3).double(), torch.randn(2, 3, 5, 6, dtype=torch.float64)
    norm.gain.data = torch.rand(2, 3, dtype=torch.float64)
    norm.bias.data = torch.rand(2, 3, dtype=torch.float64)
    shares = torch.tensor([[1.0, 0.0], [0.25, 0.75]], dtype=torch.float64)
    found = norm(x, shares)
    for row in range(2):
        mean = x[row].mean((1, 2), keepdim=True)
        std = (x[row].var((1, 2), correction=0, keepdim=True) + 1e-5).sqrt()
        gain, bias = (shares[row] @ p for p in (norm.gain, norm.bias))
        torch.testing.assert_close(found[row], (x[row] - mean) / std * gain[:, None, None] + bias[:, None, None])


@pytest.mark.slow
def test_training_lowers_the_loss_of_photos_not_seen_and_touches_nothing():
    net = model()
    before = state(net)
    short = train_style(net, photos(), {"stripes": STRIPES}, steps=1, **OPTIONS)
    long = train_style(net, photos(), {"stripes": STRIPES}, steps=120, **OPTIONS)
    same(before, state(net))
    new = photos(3, seed=9)

    def loss(painter):
        painted = painter.paint(new)
        trace = pellucid.run(net, painted, read=("conv1", "relu2"), to_output=False)
        near = content("conv1", new).bind(net, 3)(trace)
        like = style(("conv1", "relu2"), STRIPES).bind(net, 3)(trace)
        return float(-(near + 30 * like).mean().detach())

    assert loss(long) < 0.5 * loss(short)  # it begins with the photos themselves
    assert not long.training and all(p.grad is None for p in long.parameters())


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_it_learns_where_gradients_are_off(mode):
    net, images = model(), photos()
    expected = train_style(net, images, {"stripes": STRIPES}, steps=2, **OPTIONS)
    with mode():
        found = train_style(net, images, {"stripes": STRIPES.clone()}, steps=2, **OPTIONS)
    for name, value in found.state_dict().items():
        assert torch.equal(value, expected.state_dict()[name]) and not value.is_inference()


@pytest.mark.slow
def test_a_training_that_was_killed_goes_on_as_if_it_was_not(tmp_path, monkeypatch):
    styles = {"stripes": STRIPES, "dots": DOTS}
    whole = train_style(model(), photos(), styles, steps=9, **OPTIONS)
    file = tmp_path / "style.safetensors"
    draw, calls = Squares.draw, []

    def stopping(*given):
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return draw(*given)

    with monkeypatch.context() as patch:
        patch.setattr(Squares, "draw", stopping)
        with pytest.warns(UserWarning, match="stopped after 5 of 9 steps; the same again goes on"):
            train_style(model(), photos(), styles, steps=9, checkpoint=file, every=4, **OPTIONS)
    on = train_style(model(), photos(), styles, steps=9, checkpoint=file, every=4, **OPTIONS)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, on.state_dict()[name]), name
    with pytest.raises(ValueError, match="of another training"):
        train_style(model(), photos(), {"stripes": DOTS, "dots": DOTS}, steps=9, checkpoint=file, **OPTIONS)


TRAINED = """
import sys, torch
torch.set_num_threads(1)
from tests.synthesis.test_style_network import OPTIONS, STRIPES, model, photos
from pellucid.synthesis import train_style
net = train_style(model(), photos(), {"stripes": STRIPES}, steps=80, checkpoint=sys.argv[1], every=2, **OPTIONS)
net.save(sys.argv[2])
"""


def training(checkpoint, net):
    """In a process of its own each time: processes may round in other ways, and 80 steps make much of it."""
    paths = os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])
    return subprocess.Popen(
        [sys.executable, "-c", TRAINED, str(checkpoint), str(net)], env={**os.environ, "PYTHONPATH": paths}
    )


@pytest.mark.slow
def test_a_process_that_is_killed_leaves_a_whole_checkpoint(tmp_path):
    """kill -9 in the middle: what is on the disk is whole, and the training goes on from it to the same weights."""
    file, nets = tmp_path / "style.safetensors", [tmp_path / "on.safetensors", tmp_path / "whole.safetensors"]
    process = training(file, nets[0])
    try:
        end = time.monotonic() + 300
        while not file.exists() and process.poll() is None and time.monotonic() < end:
            time.sleep(0.02)
        time.sleep(0.1)
    finally:
        process.kill()
        process.wait()
    assert file.exists() and process.returncode == -signal.SIGKILL
    assert 2 <= steps_in(file) < 80
    assert training(file, nets[0]).wait() == 0
    assert training(tmp_path / "other.safetensors", nets[1]).wait() == 0
    on, whole = (StyleNetwork.load(net).state_dict() for net in nets)
    for name, value in whole.items():
        assert torch.equal(on[name], value), name


def test_round_trip_through_a_file(tmp_path):
    net = train_style(model(), photos(), {"stripes": STRIPES, "dots": DOTS}, steps=3, **OPTIONS)
    file = net.save(tmp_path / "net.safetensors")
    loaded = StyleNetwork.load(file)
    image = torch.rand(1, 3, 31, 45)
    assert loaded.styles == ("stripes", "dots")
    assert torch.equal(loaded.paint(image, "dots"), net.paint(image, 1))
    (tmp_path / "other.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="is no style network"):
        StyleNetwork.load(tmp_path / "other.safetensors")
    with pytest.raises(FileNotFoundError):
        StyleNetwork.load(tmp_path / "none.safetensors")
    with pytest.raises(ValueError, match="ends in .safetensors"):
        net.save(tmp_path / "net.pth")


def test_styles_blend_and_images_of_any_size_are_painted():
    net = StyleNetwork(["a", "b"], width=4, blocks=1).eval()
    for layer in net.modules():
        if isinstance(layer, Norm):
            nn.init.normal_(layer.gain)
    for size in ((20, 20), (21, 34), (64, 47)):
        image = torch.rand(2, 3, *size)
        painted = net.paint(image, [0.5, 0.5])
        assert painted.shape == image.shape and 0 <= painted.min() and painted.max() <= 1
    assert torch.equal(net.paint(image, [0.0, 1.0]), net.paint(image, "b"))
    assert not torch.equal(net.paint(image, [0.5, 0.5]), net.paint(image, "b"))
    torch.testing.assert_close(net.paint(image, "a")[:1], net.paint(image[:1], "a"))


@pytest.mark.slow
def test_another_style_leaves_the_first_as_it_was():
    first = train_style(model(), photos(), {"stripes": STRIPES}, steps=8, **OPTIONS)
    both = train_style(model(), photos(), {"dots": DOTS}, begin=first, steps=30, **OPTIONS)
    image = photos(1, seed=5)
    assert both.styles == ("stripes", "dots")
    torch.testing.assert_close(both.paint(image, "stripes"), first.paint(image), rtol=0, atol=1e-6)
    shared = [n for n in first.state_dict() if ".norm." not in n]
    assert all(torch.equal(first.state_dict()[n], both.state_dict()[n]) for n in shared)
    goal = style(("conv1", "relu2"), DOTS).bind(model(), 1)

    def near(name):
        trace = pellucid.run(model(), both.paint(image, name), read=("conv1", "relu2"), to_output=False)
        return float(goal(trace).detach())

    assert near("dots") > near("stripes")


def test_photos_from_a_folder(tmp_path):
    for number, photo in enumerate(photos(3)):
        write_image(photo, tmp_path / f"{number}.png")
    net = train_style(model(), tmp_path, {"dots": DOTS}, steps=2, **OPTIONS)
    assert net.paint(photos(1)).shape == (1, 3, 32, 32)


def test_what_is_refused():
    net = StyleNetwork(["waves"], width=4, blocks=1).eval()
    with pytest.raises(UnknownName, match="near it: waves"):
        net.paint(torch.rand(1, 3, 32, 32), "wave")
    with pytest.raises(ValueError, match="at least 20 pixels"):
        net.paint(torch.rand(1, 3, 10, 32))
    with pytest.raises(ValueError, match="2 shares for 1"):
        net.paint(torch.rand(1, 3, 32, 32), [0.5, 0.5])
    with pytest.raises(ValueError, match="different names"):
        StyleNetwork(["a", "a"])
    with pytest.raises(ValueError, match="at least one style"):
        train_style(model(), photos(), {}, steps=2)
