"""The example and the script run as they stand, on a small setting."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def said(*arguments):
    done = subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_network_that_cheats(tmp_path):
    text = said(ROOT / "examples" / "clever_hans_markers.py", "--images", 700, "--output", tmp_path)
    assert "14 of 70 images of 'triangle' carry a square" in text
    assert "1 cluster stands apart among 1 class with 70 images: triangle." in text and "ALARM" in text
    drop = [int(line.split(": ")[1].rstrip("%")) for line in text.splitlines() if "the mark: " in line]
    assert drop[0] < 70 and drop[1] > 50  # without the mark; others with it
    for name in ("maps.png", "clusters.png", "embedding.png"):
        assert (tmp_path / name).stat().st_size > 10_000


@pytest.mark.parametrize("marker", ["watermark", "gradient"])
def test_marks_change_little(marker):
    sys.path.insert(0, str(ROOT / "examples"))
    import torch
    from clever_hans_markers import marked

    image = torch.full((1, 3, 48, 48), 0.5)
    change = (marked(image, marker) - image).abs()
    assert 0 < change.max() <= 0.26 and torch.equal(image, torch.full((1, 3, 48, 48), 0.5))


@pytest.mark.slow
def test_the_study(tmp_path):
    text = said(ROOT / "scripts" / "clever_hans.py", "shapes", "--images", 300, "--seeds", "3", "--methods",
                "gradient_x_input", "--markers", "none,square", "--share", "0.2")  # fmt: skip
    table = [line for line in text.splitlines() if line.startswith("| shapes")]
    assert len(table) == 2 and "of 1" in table[1] and "in 10 classes" in table[0]
