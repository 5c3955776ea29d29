"""The examples of frequencies run as they stand, in a small setting."""

import subprocess
import sys
from pathlib import Path

import pytest

from pellucid import SpectrumClassifier

EXAMPLES = Path(__file__).parents[2] / "examples"


def said(name, *arguments):
    command = [sys.executable, EXAMPLES / name, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_upsampling_and_then_its_photos_as_faces(tmp_path):
    lines = said("frequency_upsampling.py", tmp_path, 60).splitlines()
    shares = {tuple(line.split()[:2]): float(line.split()[2].rstrip("%")) for line in lines[:9]}
    assert shares["nearest", "spectrum"] > 85 > 75 > shares["nearest", "pixels"]
    assert (tmp_path / "spectra_nearest.png").stat().st_size > 10_000

    text = said("frequency_faces.py", tmp_path / "photos", tmp_path / "faces", 36, 6, 18)
    assert "convergence delta" in text and "two halves of the photographs" in text and "| trait alone |" in text
    for name in ("spectra.png", "weights.png", "examples.png"):
        assert (tmp_path / "faces" / name).stat().st_size > 10_000
    assert SpectrumClassifier.load(tmp_path / "faces" / "classifier.safetensors").labels == ("real", "fake")


@pytest.mark.slow
def test_without_faces_it_says_what_to_give(tmp_path):
    assert said("frequency_faces.py", tmp_path / "none").startswith("there are no faces here: give their folder")
