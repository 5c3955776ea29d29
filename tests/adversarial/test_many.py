"""What is made of attacks: robustness curves, transfer, stand-ins, universal changes, patches, training."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import pellucid
from pellucid.adversarial.attack.transformations import adjust_brightness, warp_onto
from pellucid.model.run import counted
from pellucid.runfolder import OtherRun

from ..nets import some_images
from .nets import small_model
from .test_every_attack import RIGHT, same, state


@pytest.fixture
def digits():
    """Images of 1 x 8 x 8 of two classes: a bright spot says which, faint stripes all over say it without error."""
    source = torch.Generator().manual_seed(0)
    labels = torch.randint(2, (128,), generator=source)
    images = 0.1 * torch.rand(128, 1, 8, 8, generator=source) + 0.25
    stripes = torch.tensor([0.15, -0.15]).repeat(4)[:, None]
    for number, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
        image += stripes if label else -stripes
        half = label if number % 10 else 1 - label
        image[:, 3:5, 4 * half : 4 * half + 4] += 0.5
    return images, labels


def plain_net(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 2)).eval()


def test_robustness_falls_and_its_intervals_hold(tmp_path):
    model, images = small_model(), some_images(12)
    labels = pellucid.run(model, images).output.argmax(1)
    labels[0] = (labels[0] + 1) % 3
    result = pellucid.robustness(model, images, labels, eps=[0.2, 0.001, 0.01], method="pgd", steps=5)
    assert result.budgets.tolist() == [0.001, 0.01, 0.2]
    shares = result.robust_accuracy
    assert result.accuracy == pytest.approx(11 / 12) and (shares.diff() <= 0).all() and shares[-1] < shares[0]
    assert ((result.intervals[:, 0] <= shares) & (shares <= result.intervals[:, 1])).all()
    # What stood a budget is attacked with the next one, and nothing else is.
    for attack, share in zip(result.attacks[1:], shares, strict=False):
        assert len(attack.images) == round(12 * float(share))
    moved = (result.images - images).abs().amax((1, 2, 3))
    assert ((moved <= result.broken + 1e-12) | result.broken.isinf()).all()
    assert result.save(tmp_path / "curve.png").stat().st_size > 1000
    assert "| 51/255 | 0.0%" in result.table() and "91.7% at 0" in repr(result)
    assert result.call.forward == sum(attack.call.forward for attack in result.attacks)


def test_robustness_by_an_attack_that_looks_for_the_least_change():
    model, images = small_model(), some_images(6)
    labels = pellucid.run(model, images).output.argmax(1)
    result = pellucid.robustness(model, images, labels, eps=[0.005, 0.05], method="deepfool", norm="linf")
    assert len(result.attacks) == 1
    assert torch.equal(result.broken, result.attacks[0].distance("linf"))


def test_wilson_by_hand():
    model, images = small_model(), some_images(6)
    labels = pellucid.run(model, images).output.argmax(1)
    result = pellucid.robustness(model, images, labels, eps=[1e-6], method="fgsm")
    assert result.robust_accuracy.tolist() == [1.0]
    z = 1.959964
    torch.testing.assert_close(result.intervals[0], torch.tensor([6 / (6 + z**2), 1.0]).double(), rtol=1e-5, atol=1e-6)


def test_robustness_goes_on_in_its_folder(tmp_path):
    model, images = small_model(), some_images(6)
    labels = pellucid.run(model, images).output.argmax(1)
    options = {"eps": [0.002, 0.02], "budget": 0.03, "folder": tmp_path / "runs"}
    first = pellucid.robustness(model, images, labels, **options)
    assert sorted(f.name for f in (tmp_path / "runs").iterdir()) == ["linf-0.002", "linf-0.02"]
    with counted() as passes:
        again = pellucid.robustness(model, images, labels, **options)
    assert torch.equal(first.broken, again.broken) and passes.forward == 0
    # An attack that looks for the least change runs once, beside these.
    least = {"eps": [0.002], "method": "deepfool", "folder": tmp_path / "runs"}
    first = pellucid.robustness(model, images, labels, **least)
    assert torch.equal(first.broken, pellucid.robustness(model, images, labels, **least).broken)
    assert (tmp_path / "runs" / "linf-least" / "manifest.json").is_file()


def test_robustness_refuses():
    model, images = small_model(), some_images()
    for error, words, options in [
        (KeyError, "near it: deepfool", {"method": "deepfol"}),
        (ValueError, "all above 0", {"eps": [0.0]}),
        (ValueError, "one budget or more", {"eps": []}),
        (ValueError, "least change in l2", {"method": "carlini_wagner"}),
        (ValueError, "level is 95", {"level": 95}),
    ]:
        with pytest.raises(error, match=words):
            pellucid.robustness(model, images, RIGHT, **options)
    with pytest.raises(ValueError, match="needs the right classes"):
        pellucid.robustness(model, images, None)


def test_auto_attack_goes_on_where_it_was_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr("pellucid.adversarial.attack.resumable.MOST", 2)
    model, images = small_model(), some_images(6)
    options = {"eps": 0.05, "budget": 0.03}
    whole = pellucid.auto_attack(model, images, **options)

    class Stopping(nn.Module):
        """Is interrupted in the second chunk."""

        def __init__(self, net):
            super().__init__()
            self.net, self.left = net, 10**9

        def forward(self, x):
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt
            return self.net(x)

    net = Stopping(model.net).eval()
    twin = pellucid.wrap(net, mean=[0.5] * 3, std=[0.25] * 3, size=12)
    first = pellucid.auto_attack(twin, images[:2], **options)
    net.left = first.call.forward // 2 + 2
    with pytest.raises(KeyboardInterrupt):
        pellucid.auto_attack(twin, images, **options, folder=tmp_path / "run")
    net.left = 10**9
    done = len(list((tmp_path / "run" / "rows").iterdir()))
    again = pellucid.auto_attack(twin, images, **options, folder=tmp_path / "run")
    torch.testing.assert_close(again.images, whole.images, rtol=1e-7, atol=1e-9)
    assert torch.equal(again.success, whole.success) and torch.equal(again.queries, whole.queries)
    # In each of the three chunks one image is looked at twice.
    assert again.call.forward == whole.call.forward + 2 and done < 3
    net.left = 1  # nothing is left to do
    finished = pellucid.auto_attack(twin, images, **options, folder=tmp_path / "run")
    assert torch.equal(finished.images, again.images) and finished.call.forward == again.call.forward
    net.left = 10**9
    with pytest.raises(OtherRun, match="eps"):
        pellucid.auto_attack(twin, images, eps=0.06, budget=0.03, folder=tmp_path / "run")


def test_auto_attack_says_that_gradients_are_masked():
    class Masked(nn.Module):
        """Its gradient points away from where its outputs rise."""

        def forward(self, x):
            m = x.mean((1, 2, 3))
            z = 10 * (m.detach() - 0.5) - 1e-3 * (m - m.detach())
            return torch.stack([-z, z], 1)

    image = torch.full((1, 1, 8, 8), 0.46).double()
    with pytest.warns(UserWarning, match="squares fool 1 images that gradients do not"):
        result = pellucid.auto_attack(Masked().eval(), image, 0, eps=0.1, budget=0.2)
    assert result.success.item()


@pytest.mark.filterwarnings("ignore:the gradient is exactly zero")
def test_auto_attack_says_that_a_network_is_random():
    class Random(nn.Module):
        def __init__(self):
            super().__init__()
            self.source = torch.Generator().manual_seed(1)

        def forward(self, x):
            noise = torch.randn(len(x), 4, generator=self.source, dtype=x.dtype)
            return noise + 0 * x.sum((1, 2, 3))[:, None] + x.mean((1, 2, 3))[:, None] * torch.ones(4).to(x)

    net, images = Random().eval(), some_images(8)
    with pytest.warns(UserWarning, match="it is random"):
        pellucid.auto_attack(net, images, budget=0.01)


def test_transfer_to_the_same_network_is_the_attack_itself():
    model, images = small_model(), some_images(8)
    labels = pellucid.run(model, images).output.argmax(1)
    result = pellucid.transfer({"a": model, "b": small_model()}, images, labels, method="fgsm", eps=0.01)
    rate = result.attacks[0].success_rate
    assert 0 < rate and torch.allclose(result.rates, torch.full((2, 2), rate).double())
    assert (result.counts == 8).all() and result.names == ("a", "b")


def test_transfer_counts_what_both_see_rightly(digits, tmp_path):
    images, labels = digits
    nets = [_taught(plain_net(seed), images, labels) for seed in (0, 1)]
    result = pellucid.transfer(nets, images, labels, method="pgd", eps=0.2, steps=10)
    assert (result.rates.diag() > 0.5).all() and (result.rates > 0.1).all()
    assert result.save(tmp_path / "transfer.png").stat().st_size > 1000
    with pytest.raises(ValueError, match="expected two or more"):
        pellucid.transfer(nets[:1], images, labels)
    with pytest.raises(KeyError, match="near it: pgd"):
        pellucid.transfer(nets, images, labels, method="pgdd")


def _taught(net, images, labels):
    return pellucid.adversarial_training(net, images, labels, eps=1e-3, steps=1, epochs=15, batch=32, rate=0.01)


@pytest.mark.slow
def test_adversarial_training_makes_a_network_more_robust(digits):
    images, labels = digits
    net = plain_net()
    before = state(net)
    losses = []
    usual = _taught(net, images, labels)
    robust = pellucid.adversarial_training(
        net, images, labels, eps=0.2, steps=5, epochs=30, batch=32, rate=0.01,
        each_epoch=lambda epoch, loss, right: losses.append(loss),
    )  # fmt: skip
    same(before, state(net))
    assert len(losses) == 30 and not robust.training and all(p.grad is None for p in robust.parameters())
    accuracies = [pellucid.pgd(n, images, labels, eps=0.2, steps=20).robust_accuracy for n in (usual, robust)]
    assert accuracies[1] > accuracies[0] + 0.1, accuracies
    again = pellucid.adversarial_training(net, images, labels, eps=0.1, steps=5, epochs=2, batch=32, rate=0.01)
    twice = pellucid.adversarial_training(net, images, labels, eps=0.1, steps=5, epochs=2, batch=32, rate=0.01)
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), twice.parameters(), strict=True))
    for options, words in [({"epochs": 0}, "at least 1"), ({"eps": 0}, "above 0"), ({"eps": 8}, "8/255")]:
        with pytest.raises(ValueError, match=words):
            pellucid.adversarial_training(net, images, labels, **options)
    with pytest.raises(ValueError, match="expected 128 whole numbers"):
        pellucid.adversarial_training(net, images, labels[:3])


def test_a_universal_change_fools_images_it_was_not_made_from(digits):
    images, labels = digits
    net = _taught(plain_net(), images, labels)
    result = pellucid.universal(net, images[:64], labels[:64], eps=0.2, epochs=10)
    assert result.perturbation.shape == (1, 1, 8, 8) and (result.perturbation.double().abs() <= 0.2).all()
    attacked = ~result.misclassified
    assert torch.allclose(result.images[attacked], (images[:64] + result.perturbation).clamp(0, 1)[attacked])
    others = pellucid.run(net, (images[64:] + result.perturbation).clamp(0, 1)).output.argmax(1)
    plain = pellucid.run(net, images[64:]).output.argmax(1)
    assert (others != labels[64:]).double().mean() > (plain != labels[64:]).double().mean() + 0.2
    assert result.success.any() and result.call.backward == 640
    result.picture()
    assert repr(result).startswith("Attack(") and "universal(" in repr(result)
    to_one = pellucid.universal(net, images[:64][labels[:64] == 0], 0, target=1, eps=0.2)
    assert (to_one.after[to_one.success] == 1).all() and to_one.success.any()


@pytest.mark.slow
def test_a_stand_in_is_asked_for_and_attacked(digits):
    images, labels = digits
    net = _taught(plain_net(), images, labels)
    before = state(net)
    result = pellucid.substitute(net, images[:32], labels[:32], seeds=images[32:48], rounds=3, epochs=20, eps=0.25)
    same(before, state(net))
    assert "fooled, " in repr(result) and "Sequential" in repr(result)
    assert result.agreement > 0.8 and result.success.any() and result.transfer > 0.3
    assert (result.images - images[:32]).abs().max() <= 0.25 and result.call.backward == 0
    # Asked: 16 + 16 + 32 to learn, 32 for the agreement, 32 before and one of them again, those attacked after.
    attacked = int((~result.misclassified).sum())
    assert result.call.forward == 64 + 32 + 33 + attacked
    with pytest.raises(ValueError, match="expected alike"):
        pellucid.substitute(net, images[:2], seeds=images[:, :, :4])


@pytest.mark.slow
def test_a_patch_fools_and_prints(tmp_path):
    model, scenes = pellucid.load("shapes"), pellucid.shapes.scenes(4)
    result = pellucid.patch(model, scenes.images, target="star", size=0.5, steps=15)
    attacked = ~result.misclassified
    outside = ((result.images - scenes.images) == 0).all(1).flatten(1).double().mean(1)
    assert (outside[attacked] > 0.5).all()  # a disc of half the side covers a fifth of the image
    assert result.success.any() and result.patch.min() >= 0 and result.patch.max() <= 1
    again = pellucid.patch(model, scenes.images, target="star", size=0.5, steps=15)
    assert torch.equal(again.patch, result.patch) and "patch(shapes, to star" in repr(result)
    with np.load(result.save(tmp_path / "patch.npz")) as file:
        assert np.array_equal(file["patch"], result.patch.numpy())
    path = result.print_to(tmp_path / "patch.png", centimetres=5, dots=100)
    with Image.open(path) as picture:
        assert picture.size == (197, 197) and round(picture.info["dpi"][0]) == 100
        assert np.asarray(picture)[0, 0].tolist() == [255, 255, 255]
    assert result.print_to(tmp_path / "patch.pdf").stat().st_size > 500
    with pytest.raises(ValueError, match=r"expected \.png or \.pdf"):
        result.print_to(tmp_path / "patch.jpg")
    with pytest.raises(ValueError, match="must fit"):
        pellucid.patch(model, scenes.images, target="star", size=0.9)


def test_where_a_patch_lies():
    made = torch.arange(4.0).view(1, 2, 2)
    shown, mask = warp_onto((8, 8), made, scale=0.5, angle=0, y=0, x=0, round_=False)
    assert mask.sum() == 16 and mask[0, 2:6, 2:6].all()
    assert shown[0, 2, 2] == 0 and shown[0, 5, 5] == 3 and shown[0, 2, 5] == 1
    _, mask = warp_onto((8, 8), made, scale=0.5, angle=0, y=0.5, x=-0.5, round_=False)
    assert mask[0, 4:8, 0:4].all() and mask.sum() == 16  # below, and to the left
    _, disc = warp_onto((100, 100), made, scale=0.5, angle=0.3, y=0, x=0, round_=True)
    assert disc.mean().item() == pytest.approx(torch.pi / 16, rel=0.02)
    # A wide picture: the patch stays square.
    _, mask = warp_onto((8, 16), made, scale=0.5, angle=0, y=0, x=0, round_=False)
    assert mask[0, 2:6, 6:10].all() and mask.sum() == 16
    turned, _ = warp_onto((8, 8), made, scale=1, angle=torch.pi / 2, y=0, x=0, round_=False)
    assert turned[0, 0, 0] == 1 and turned[0, 7, 0] == 0  # counter-clockwise: the right edge comes to the top


def test_light():
    x = torch.tensor([0.0, 0.5, 1.0])
    assert torch.allclose(adjust_brightness(x, brightness=0.2, contrast=1.0), torch.tensor([0.2, 0.7, 1.0]))
    assert torch.allclose(adjust_brightness(x, brightness=0.0, contrast=0.5), torch.tensor([0.25, 0.5, 0.75]))


def test_a_gradient_of_zero_is_told():
    class Flat(nn.Module):
        def forward(self, x):
            m = x.mean((1, 2, 3))
            return torch.stack([m.clamp(0.9, 1), 0 * m], 1)

    with pytest.warns(UserWarning, match="exactly zero for 3 of 3 images: .* pellucid.square"):
        result = pellucid.pgd(Flat().eval(), some_images(), 0, eps=0.1, steps=3)
    assert not result.success.any()
