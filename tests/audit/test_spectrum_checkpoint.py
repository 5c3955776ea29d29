"""A training that was stopped, wherever it was, ends as if it had not been."""

import pytest
import torch

from pellucid import SpectrumClassifier
from pellucid.audit import split, upsampled_photos
from pellucid.audit.spectra import training
from pellucid.files.tensors import OtherWork


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    root = upsampled_photos(tmp_path_factory.mktemp("photos"), ["bilinear"], size=16, most=80)
    return split(root, 50, 10, 20)


def state(model):
    return [*model.state_dict().values(), torch.tensor([[e.loss, e.validation_loss] for e in model.history])]


@pytest.mark.slow
@pytest.mark.parametrize("network", ["linear", "cnn"])
@pytest.mark.parametrize("stops", [[1], [7, 9], [2, 25]])
def test_it_goes_on_to_the_bit(parts, tmp_path, monkeypatch, network, stops):
    """Written at every pass and stopped after some of them, inside an epoch or at its end."""
    how = {"network": network, "epochs": 8, "patience": 2, "batch": 16}
    whole = SpectrumClassifier.fit(parts, **how)
    monkeypatch.setattr(training, "EVERY", 0)
    write = training.write_training
    left = []

    def until(*arguments):
        write(*arguments)
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt

    place = tmp_path / "training.safetensors"
    for stop in stops:
        left[:] = [stop]
        with monkeypatch.context() as patch:
            patch.setattr(training, "write_training", until)
            with pytest.raises(KeyboardInterrupt):
                SpectrumClassifier.fit(parts, **how, checkpoint=place)
    again = SpectrumClassifier.fit(parts, **how, checkpoint=place)
    assert all(torch.equal(a, b) for a, b in zip(state(again), state(whole), strict=True))
    assert again.best == whole.best and len(again.history) > 2
    # One that is over is read, and not trained again.
    monkeypatch.setattr(training, "_descend", None)
    monkeypatch.setattr(training, "_shuffled", None)
    third = SpectrumClassifier.fit(parts, **how, checkpoint=place)
    assert all(torch.equal(a, b) for a, b in zip(state(third), state(whole), strict=True))


def test_other_work_is_left_alone(parts, tmp_path):
    place = tmp_path / "training.safetensors"
    SpectrumClassifier.fit(parts, epochs=1, checkpoint=place)
    before = place.read_bytes()
    for options in ({"epochs": 2}, {"epochs": 1, "window": "none"}, {"epochs": 1, "seed": 3}):
        with pytest.raises(OtherWork, match="training on other files or with other options"):
            SpectrumClassifier.fit(parts, **options, checkpoint=place)
    changed = parts.train.files[0]
    changed.write_bytes(changed.read_bytes() + b" ")
    with pytest.raises(OtherWork):
        SpectrumClassifier.fit(parts, epochs=1, checkpoint=place)
    assert place.read_bytes() == before
    place.write_bytes(before[:100])
    with pytest.raises(ValueError, match="is damaged"):
        SpectrumClassifier.fit(parts, epochs=1, checkpoint=place)


def test_weight_decay_makes_weights_small(parts):
    sizes = [
        float(SpectrumClassifier.fit(parts, epochs=3, weight_decay=decay).net.linear.weight.detach().norm())
        for decay in (0.0, 1.0, 100.0)
    ]
    assert sizes[0] > 2 * sizes[1] > 10 * sizes[2] > 0
