"""The examples run as they stand, and say what they should."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


def said(name: str, *arguments: object) -> str:
    command = [sys.executable, EXAMPLES / name, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_two_networks_for_a_minimum(tmp_path):
    lines = said("lrp_minimum.py", tmp_path).splitlines()
    found = {line.split()[0]: [float(n) for n in line.partition("[")[2].strip("]").split(",")] for line in lines[1:3]}
    assert found["(i)"] == pytest.approx([1.542857, 0.457143], abs=1e-5) and found["(ii)"] == [0, 2]
    assert (tmp_path / "lrp_minimum.png").stat().st_size > 10_000


def test_a_photo_by_rules(tmp_path):
    text = said("lrp_photo.py", "", "", "", tmp_path)
    assert "a rule for each depth: relevance" in text
    assert (tmp_path / "lrp_photo.png").stat().st_size > 10_000
