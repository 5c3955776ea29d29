"""The one loop of all trainings: what is kept of it, and that it goes on to the bit."""

from __future__ import annotations

import importlib

import pytest
import torch
from torch import nn

import pellucid
from pellucid.files.tensors import OtherWork, read_tensors
from pellucid.model import training
from pellucid.model.training import Checkpoint, descend, resumed, steps_in


def walk(path=None, steps=12, stop=None, inside="loss", recipe="a"):
    """Weights after some steps that draw their targets; stopped in a step's loss, or in the step itself."""
    draw = torch.Generator().manual_seed(3)
    weight = torch.zeros(4, requires_grad=True)
    optimizer = torch.optim.Adam([weight], 0.1)
    kept = path and Checkpoint(path, recipe, lambda: {"weight": weight}, [draw], every=2)
    done = resumed(kept, optimizer)

    def loss_of(number):
        if stop == number and inside == "loss":
            raise KeyboardInterrupt
        return (weight - torch.randn(4, generator=draw)).square().sum()

    def before(number):
        if stop == number and inside == "step":
            raise KeyboardInterrupt

    descend(loss_of, [weight], optimizer, steps, done=done, before=before, kept=kept)
    assert weight.grad is None
    return weight.detach()


@pytest.mark.parametrize("inside", ["loss", "step"])
@pytest.mark.parametrize("stop", [0, 1, 5, 11])
def test_it_goes_on_to_the_bit(tmp_path, stop, inside):
    path = tmp_path / "walk.safetensors"
    with pytest.raises(KeyboardInterrupt):
        walk(path, stop=stop, inside=inside)
    # In the middle of a step nothing is written: what was kept last is whole.
    assert (steps_in(path) if path.exists() else 0) == (stop if inside == "loss" else stop // 2 * 2)
    assert torch.equal(walk(path), walk()) and steps_in(path) == 12
    before = path.read_bytes()
    assert torch.equal(walk(path), walk()) and path.read_bytes() == before  # over, so that nothing is done


def test_another_training_is_refused(tmp_path):
    path = tmp_path / "walk.safetensors"
    walk(path)
    with pytest.raises(OtherWork, match="of another training"):
        walk(path, recipe="b")
    with pytest.raises(ValueError, match="holds something else; expected a decoder"):
        read_tensors(path, "a decoder")
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(ValueError, match="is damaged"):
        walk(path)


@pytest.mark.slow
@pytest.mark.parametrize("stop", [3, 4, 7])
def test_adversarial_training_goes_on_to_the_bit(tmp_path, monkeypatch, stop):
    """With the statistics of a batch norm and the draws of a dropout, stopped inside a step or an epoch."""
    scenes = pellucid.shapes.scenes(10)
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 5, stride=4), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.3), nn.AdaptiveAvgPool2d(2),
        nn.Flatten(), nn.Linear(16, 8),
    ).eval()  # fmt: skip
    seen: list[tuple] = []

    def train(images=scenes.images, **more):
        return pellucid.adversarial_training(
            net, images, scenes.labels % 8, epochs=3, steps=1, batch=4, each_epoch=lambda *told: seen.append(told),
            **more,
        )  # fmt: skip

    whole = train()
    told, path = list(seen), tmp_path / "robust.safetensors"
    seen.clear()
    module = importlib.import_module("pellucid.adversarial.adversarial_training")
    attacked, calls = module._attacked, []

    def stopping(*given):
        calls.append(1)
        found = attacked(*given)
        if len(calls) == stop + 1:
            raise KeyboardInterrupt
        return found

    monkeypatch.setattr(training, "EVERY", 0)
    with monkeypatch.context() as patch:
        patch.setattr(module, "_attacked", stopping)
        with pytest.raises(KeyboardInterrupt):
            train(checkpoint=path)
    assert steps_in(path) == stop
    again = train(checkpoint=path)
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), again.state_dict().values(), strict=True))
    assert seen == told and not again.training
    with pytest.raises(OtherWork):
        train(scenes.images / 2, checkpoint=path)
