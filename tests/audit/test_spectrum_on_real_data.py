"""Photographs of faces against those of a generator: 1000 of each, 128 x 128, JPEG with the same tables."""

import pytest

import pellucid
from pellucid import SpectrumClassifier
from pellucid.audit import confounds, halves, labeled_files, split

from .. import real


@pytest.fixture(scope="module")
def faces():
    return real.path("faces")


@pytest.mark.parametrize("seed", [0, 1])
def test_faces_are_told_by_their_spectrum(faces, seed):
    parts = split(faces, 700, 100, 200, seed=seed)
    found = SpectrumClassifier.fit(parts).evaluate(parts.test)
    assert found.accuracy.count == 400 and found.accuracy.value >= 0.98
    assert all(one.count == 200 and one.value > 0.96 for one in found.by_origin.values())


def test_two_halves_of_real_faces_are_not_told_apart(faces):
    parts = split(halves(labeled_files(faces).of(0)), 350, 50, 100)
    found = SpectrumClassifier.fit(parts).evaluate(parts.test)
    assert found.accuracy.low < 0.5 < found.accuracy.high


def test_their_framing_is_called_out_and_their_files_are_not(faces):
    """Source and framing differ too: a thumbnail tells them apart. The files were made alike."""
    found = confounds(split(faces, 700, 100, 200)).flagged
    assert found[0].name == "thumbnail of 8 x 8" and found[0].accuracy.value > 0.9
    assert "file" not in {one.kind for one in found}


def test_generated_faces_have_less_at_high_frequencies_and_a_grid(faces):
    found = pellucid.mean_spectra(faces / "A_real", faces / "B_gan")
    assert found.real.count == found.fake.count == 1000
    apart = found.difference.mean(0)
    assert float(apart[:16, :16].mean()) < -0.3  # corners: the highest frequencies
    # Traces of up-sampling by two, again and again, lie at multiples of an eighth of the sampling rate.
    for y in (32, 48, 80, 96):
        for x in (32, 48, 80, 96):
            near = apart[y - 3 : y + 4, x - 3 : x + 4].clone()
            peak = float(near[3, 3])
            near[3, 3] = float("nan")
            around = near[~near.isnan()]
            if (y, x) in ((32, 32), (96, 96), (32, 96), (96, 32)):
                assert peak > float(around.mean() + 2 * around.std())
