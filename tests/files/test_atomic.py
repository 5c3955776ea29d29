"""Files are written whole or not at all."""

from __future__ import annotations

import errno
import os
import stat

import pytest

from pellucid.files.atomic import atomic_write


def test_written_whole_in_a_new_folder(tmp_path):
    with atomic_write(tmp_path / "a" / "b.txt") as part:
        part.write_text("x")
        assert not (tmp_path / "a" / "b.txt").exists()
    assert (tmp_path / "a" / "b.txt").read_text() == "x"
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["b.txt"]
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE((tmp_path / "a" / "b.txt").stat().st_mode) == 0o666 & ~umask


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_the_old_file_stays_when_writing_fails(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(error), atomic_write(path) as part:
        part.write_text("half")
        raise error
    assert path.read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_disk_full(tmp_path):
    with (
        pytest.raises(OSError, match=r"cannot write .*a\.txt: No space left.*make room"),
        atomic_write(tmp_path / "a.txt"),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert not list(tmp_path.iterdir())


def test_places_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="cannot write"), atomic_write(tmp_path / "file" / "a.txt"):
        pass
    with pytest.raises(IsADirectoryError, match="it is a folder"), atomic_write(tmp_path):
        pass


def test_errors_of_what_is_read_are_not_rewritten(tmp_path):
    with pytest.raises(FileNotFoundError, match="other"), atomic_write(tmp_path / "a.txt"):
        (tmp_path / "other.txt").read_text()
    assert not list(tmp_path.iterdir())
