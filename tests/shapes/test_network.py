"""The network that ships with the package is small, plain, and knows the shapes."""

import doctest
import importlib
import json
from importlib.resources import as_file, files

import pytest
import torch
from safetensors import safe_open
from torch import nn

from pellucid.shapes import CLASSES, MEAN, STD, ShapesNet, load_weights, scenes, trained_network

WEIGHTS = files("pellucid.shapes").joinpath("weights.safetensors")


def normalized(images: torch.Tensor) -> torch.Tensor:
    return (images - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def test_weights_are_small_and_say_what_they_are():
    assert len(WEIGHTS.read_bytes()) < 1_000_000
    assert sum(p.numel() for p in ShapesNet().parameters()) < 240_000
    with as_file(WEIGHTS) as path, safe_open(path, "pt") as file:
        facts = file.metadata()
    assert tuple(json.loads(facts["classes"])) == CLASSES
    assert float(facts["accuracy with 1 object(s)"]) >= 0.97


def test_weights_fit_the_network_exactly():
    ShapesNet().load_state_dict(load_weights(), strict=True)


@pytest.mark.slow
@pytest.mark.parametrize("objects", [1, 2])
def test_accuracy_on_held_out_scenes(objects):
    batch = scenes(500, seed=20_000 + objects, objects=objects)
    with torch.no_grad():
        predicted = trained_network()(normalized(batch.images)).argmax(1)
    assert (predicted == batch.labels).float().mean() >= 0.97


def test_logits_are_a_linear_map_of_the_mean_features():
    # This is what makes class activation maps exact on it.
    network, images = trained_network(), normalized(scenes(2).images)
    with torch.no_grad():
        features = network.features(images)
        logits = network.classifier(features.mean((2, 3)))
        assert features.shape == (2, 72, 12, 12)
        assert (features >= 0).all()
        torch.testing.assert_close(network(images), logits)


def test_every_relu_is_a_module_of_its_own_and_not_in_place():
    relus = [m for _, m in ShapesNet().named_modules(remove_duplicate=False) if isinstance(m, nn.ReLU)]
    assert len(relus) == len(set(relus)) == 8
    assert not any(relu.inplace for relu in relus)


def test_trained_network_is_in_evaluation_mode_and_leaves_random_numbers_alone():
    state = torch.get_rng_state()
    assert not any(m.training for m in trained_network().modules())
    assert torch.equal(state, torch.get_rng_state())


def test_examples_in_the_docstrings():
    assert doctest.testmod(importlib.import_module("pellucid.shapes.network")).failed == 0
