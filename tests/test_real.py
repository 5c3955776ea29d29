"""The facts that were measured on the real networks hold for them as pellucid takes them."""

import pytest
import torch

from . import real


def test_squeezenet_sees_the_castle():
    model, images = real.squeezenet(), real.castle(227)
    assert images.shape == (1, 3, 227, 227) and real.castle().shape == (1, 3, 224, 224)
    with torch.no_grad():
        logits = model(images)[0]
    assert logits.argmax() == real.CASTLE == model.index("castle")
    assert logits[real.CASTLE].item() == pytest.approx(12.14, abs=0.005)
    assert logits.softmax(0)[real.CASTLE].item() == pytest.approx(0.416, abs=0.001)


def test_squeezenet_knows_most_photos():
    model = real.squeezenet()
    folder = real.path("photos/imagenet")
    files = sorted(folder.iterdir())[:40]
    names = [file.stem.partition("_")[2].replace("_", " ").lower() for file in files]
    labels = [row[0].lower() for row in model.predict(model.read(files), k=1).labels]
    assert sum(name in label.split(", ") for name, label in zip(names, labels, strict=True)) >= 24


def test_mnist_network_reads_digits():
    images, digits = real.mnist_images(1000)
    assert images.shape == (1000, 1, 28, 28) and images.max() == 1
    with torch.no_grad():
        logits, probabilities = real.mnist_cnn()(images), real.mnist_cnn(sigmoid=True)(images)
    assert (logits.argmax(1) == digits).float().mean().item() == pytest.approx(0.986, abs=1e-6)
    assert logits.abs().max() > 300
    assert torch.equal(probabilities, logits.sigmoid())


def test_labels():
    assert len(real.labels()) == 1000
    assert real.labels()[real.CASTLE] == "castle"
