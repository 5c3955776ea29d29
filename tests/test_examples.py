"""The examples run as they stand, and say what they should."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

EXAMPLES = Path(__file__).parent.parent / "examples"


def said(name: str, *arguments: object) -> str:
    command = [sys.executable, EXAMPLES / name, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_two_networks_for_a_minimum(tmp_path):
    lines = said("lrp_minimum.py", tmp_path).splitlines()
    found = {line.split()[0]: [float(n) for n in line.partition("[")[2].strip("]").split(",")] for line in lines[1:3]}
    assert found["(i)"] == pytest.approx([1.542857, 0.457143], abs=1e-5) and found["(ii)"] == [0, 2]
    assert (tmp_path / "lrp_minimum.png").stat().st_size > 10_000


@pytest.mark.slow
def test_a_photo_by_rules(tmp_path):
    text = said("lrp_photo.py", "", "", "", tmp_path)
    assert "a rule for each depth: relevance" in text
    assert (tmp_path / "lrp_photo.png").stat().st_size > 10_000


@pytest.mark.slow
def test_photos_as_a_network_sees_them(tmp_path):
    lines = said("representation_photos.py", "", "", "", tmp_path).splitlines()
    assert lines[0].startswith("40 images, 40 forward, 40 backward")
    shares = {line.split(":")[0]: int(line.split()[1].rstrip("%")) for line in lines if "of the same class" in line}
    assert shares["flatten"] > 60 > 40 > shares["pixels"]
    for name in ("alike", "patches_activation", "patches_relevance"):
        assert (tmp_path / f"{name}.png").stat().st_size > 10_000
    again = said("representation_photos.py", "", "", "", tmp_path)
    assert "1 of 1 chunks are finished already" in again and "40 images, 0 forward, 0 backward" in again


@pytest.mark.slow
def test_a_network_of_digits_in_torch(tmp_path):
    text = said("torch_mnist.py", "", "", tmp_path)
    line = text.partition("the neuron of the 6: ")[2].splitlines()[0]
    ones, found = (float(word) for word in line.split() if word[-1].isdigit())
    assert found > ones
    assert (tmp_path / "torch_mnist.png").stat().st_size > 10_000


@pytest.mark.skipif(not (find_spec("keras") and find_spec("jax")), reason="needs Keras and JAX")
def test_a_keras_model_and_a_photo(tmp_path):
    text = said("keras_photo.py", "", "", "", tmp_path)
    assert "imported from " in text
    assert (tmp_path / "keras_photo.png").stat().st_size > 10_000


@pytest.mark.skipif(not all(map(find_spec, ("flax", "jax", "optax"))), reason="needs JAX, Flax and optax")
def test_a_network_of_digits_in_jax(tmp_path):
    digits = load_digits()  # 8 x 8 pixels, of 0 ... 16
    pixels = np.pad(np.kron(digits.images, np.ones((3, 3))), ((0, 0), (2, 2), (2, 2))) * 255 / 16
    pixels, answers = pixels.astype(np.uint8), digits.target
    files = {"x_train": pixels[:1280], "y_train": answers[:1280], "x_test": pixels[-240:], "y_test": answers[-240:]}
    np.savez(tmp_path / "digits.npz", **files)
    text = said("jax_mnist.py", tmp_path / "digits.npz", tmp_path)
    assert float(text.partition("%")[0]) > 70
    assert float(text.partition("differ from JAX's by ")[2].split()[0]) < 1e-5
    assert all(f"{name} " in text for name in ("Conv_0", "Conv_2", "Dense_0", "Dense_1"))
    assert float(text.partition("miss the change of the neurons by ")[2].split()[0]) < 0.1
    assert (tmp_path / "jax_mnist.png").stat().st_size > 10_000
