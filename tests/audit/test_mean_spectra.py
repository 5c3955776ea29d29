"""Streaming means against numpy's, interruptions, and files that are broken or of another size."""

import os
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import pellucid
from pellucid.audit.spectra import average_spectrum as module
from pellucid.audit.spectra.average_spectrum import average_spectrum
from pellucid.audit.spectra.moments import Moments
from pellucid.files.images import write_image


def write(folder, images, suffix=".png"):
    for number, image in enumerate(images):
        write_image(image, folder / f"{number}{suffix}")
    return folder


@pytest.fixture
def folders(tmp_path):
    draw = torch.Generator().manual_seed(0)
    real, fake = torch.rand(70, 3, 8, 10, generator=draw), torch.rand(41, 3, 8, 10, generator=draw)
    return write(tmp_path / "real", real), write(tmp_path / "fake", fake)


def reference(folder):
    spectra = []
    for number in range(len(list(folder.iterdir()))):
        with Image.open(folder / f"{number}.png") as picture:
            image = np.asarray(picture).transpose(2, 0, 1) / 255
        spectra.append(np.fft.fftshift(np.log(np.abs(np.fft.fft2(image)) + 1e-12), (1, 2)))
    return np.stack(spectra)


def test_as_numpy_has_it(folders):
    found = pellucid.mean_spectra(*folders)
    for side, folder in ((found.real, folders[0]), (found.fake, folders[1])):
        expected = reference(folder)
        assert side.count == len(expected)
        # Where pixels add up to exactly 0, what is left is rounding, and its logarithm beside that of eps anything.
        certain = (expected > -20).all(0)
        assert certain.mean() > 0.99
        for ours, numpys in ((side.mean, expected.mean(0)), (side.std, expected.std(0))):
            assert np.abs(ours.numpy() - numpys)[certain].max() < 1e-12
        rows, whole = expected.mean(2), certain.all(1)
        for ours, numpys in ((side.rows, rows.mean(0)), (side.rows_std, rows.std(0))):
            assert np.abs(ours.numpy() - numpys)[whole].max() < 1e-12
    assert torch.equal(found.difference, found.fake.mean - found.real.mean)


def test_sums_are_numpys_to_1e_12():
    images = torch.rand(200, 2, 6, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with pellucid.settings(batch_size=7):
        found = average_spectrum(images)
    spectra = np.fft.fftshift(np.log(np.abs(np.fft.fft2(images.numpy())) + 1e-12), (2, 3))
    for ours, numpys in (
        (found.mean, spectra.mean(0)), (found.std, spectra.std(0)),
        (found.rows, spectra.mean(2).mean(0)), (found.rows_std, spectra.mean(2).std(0)),
    ):  # fmt: skip
        assert np.abs(ours.numpy() - numpys).max() < 1e-12


@settings(max_examples=40)
@given(
    values=st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=30),
    cuts=st.lists(st.integers(1, 9), min_size=1, max_size=30),
    offset=st.sampled_from([0.0, 1e9]),
)
def test_moments_do_not_depend_on_the_cuts(values, cuts, offset):
    data = torch.tensor(values, dtype=torch.float64) + offset
    seen, start = Moments(), 0
    for cut in cuts * len(values):
        if start < len(data):
            seen = seen.add(data[start : start + cut])
            start += cut
    assert seen.count == len(data)
    assert float(seen.mean) == pytest.approx(float(data.mean()), rel=1e-12, abs=1e-9)
    # Where squares are summed and the squared mean taken off, an offset of 1e9 leaves nothing of the spread.
    assert float(seen.std()) == pytest.approx(float(np.std(data.numpy())), rel=1e-6, abs=1e-4 if offset else 1e-9)


def test_an_interruption_loses_nothing(folders, tmp_path, monkeypatch):
    whole = pellucid.mean_spectra(*folders)
    monkeypatch.setattr(module, "EVERY", 0)
    add, calls = module._Sums.add, []

    def once(self, *arguments):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return add(self, *arguments)

    monkeypatch.setattr(module._Sums, "add", once)
    with pytest.raises(KeyboardInterrupt):
        pellucid.mean_spectra(*folders, checkpoint=tmp_path / "kept")
    assert sorted(p.name for p in (tmp_path / "kept").iterdir()) == ["real.safetensors"]
    found = pellucid.mean_spectra(*folders, checkpoint=tmp_path / "kept")
    assert len(calls) == 2 + 2 + 2  # 70 files are three groups of 32, 41 are two; the first was kept
    assert torch.equal(found.real.mean, whole.real.mean) and torch.equal(found.fake.std, whole.fake.std)
    again = pellucid.mean_spectra(*folders, checkpoint=tmp_path / "kept")
    assert len(calls) == 6 and torch.equal(again.difference, whole.difference)


def test_a_checkpoint_of_other_files_is_refused(folders, tmp_path):
    pellucid.mean_spectra(*folders, checkpoint=tmp_path / "kept")
    write_image(torch.rand(3, 8, 10), folders[0] / "more.png")
    with pytest.raises(ValueError, match=r"real.safetensors is of other files, or of another eps"):
        pellucid.mean_spectra(*folders, checkpoint=tmp_path / "kept")


def test_broken_files_are_named(folders, tmp_path):
    (folders[1] / "3.png").write_bytes(b"nothing")
    (folders[1] / "zz.png").write_bytes(b"")
    with pytest.warns(UserWarning, match=r"2 files could not be read and are left out, the first: .*3\.png"):
        found = pellucid.mean_spectra(*folders)
    assert found.fake.count == 40 and [os.path.basename(name) for name, _ in found.failures] == ["3.png", "zz.png"]  # noqa: PTH119
    for file in folders[1].iterdir():
        file.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="none of 42 images can be read"):
        pellucid.mean_spectra(*folders)


def test_sizes_must_agree(folders):
    write_image(torch.rand(3, 12, 10), folders[1] / "tall.png")
    with pytest.raises(ValueError, match=r"tall.png is 10 x 12, .* 10 x 8: .* crop"):
        pellucid.mean_spectra(*folders)
    found = pellucid.mean_spectra(*folders, crop=8)
    assert found.difference.shape == (3, 8, 8) and found.fake.count == 42
    assert pellucid.mean_spectra(*folders, resize=(6, 6), channels=1).difference.shape == (1, 6, 6)


def test_no_folder_no_images(tmp_path, folders):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        pellucid.mean_spectra(folders[0], tmp_path / "fak")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no image"):
        pellucid.mean_spectra(folders[0], tmp_path / "empty")


def test_one_image_has_no_spread():
    one = torch.rand(1, 1, 4, 4)
    found = pellucid.mean_spectra(one, one)
    assert float(found.real.std.abs().max()) == 0 and float(found.difference.abs().max()) == 0
    assert found.significance.isfinite().all()


def test_where_they_differ_is_significant():
    draw = torch.Generator().manual_seed(3)
    real = torch.rand(60, 1, 8, 8, generator=draw)
    fake = torch.rand(60, 1, 8, 8, generator=draw) + 0.5 * (torch.arange(8) % 2)  # stripes of the highest frequency
    found = pellucid.mean_spectra(real, fake).significance
    assert float(found[0, 4, 0]) > 15 and int((found.abs() > 5).sum()) <= 2  # and the mean


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".png", ".npz", ".csv", ".parquet"])
def test_saved(tmp_path, suffix):
    found = pellucid.mean_spectra(torch.rand(3, 3, 8, 6), torch.rand(4, 3, 8, 6))
    path = found.save(tmp_path / f"a{suffix}")
    if suffix == ".npz":
        with np.load(path) as file:
            assert np.array_equal(file["real_mean"], found.real.mean) and file["difference"].shape == (3, 8, 6)
    if suffix == ".csv":
        lines = path.read_text().splitlines()
        assert lines[0] == "channel,frequency,real_mean,real_std,fake_mean,fake_std" and len(lines) == 1 + 3 * 6
        assert lines[1].startswith("0,-0.5,") and "0,0.0," in lines[4]


def test_figures():
    found = pellucid.mean_spectra(torch.rand(3, 3, 8, 6), torch.rand(4, 3, 8, 6))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for shown in ("all", "real", "difference", "curves"):
            found.figure(shown=shown).canvas.draw()
        found.figure(curve="circles").canvas.draw()
    with pytest.raises(ValueError, match="curve is 'lines'"):
        found.figure(curve="lines")
