"""The wheel holds what the package needs, and it works where nothing else of the project is."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = ["-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, ROOT]
    subprocess.run([sys.executable, *map(str, command)], check=True, capture_output=True)
    return next(folder.glob("*.whl"))


@pytest.mark.slow
def test_the_wheel_is_small_and_complete(wheel):
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
    source = ROOT / "src"
    wanted = {str(p.relative_to(source)) for p in source.rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    assert wanted <= names
    assert not [name for name in names if not name.startswith("pellucid") or "tests" in name]
    assert (source / "pellucid" / "shapes" / "weights.safetensors").stat().st_size < 1_000_000
    assert wheel.stat().st_size < 2_000_000


@pytest.mark.slow
def test_the_command_is_there_and_quick_to_be_stopped(wheel):
    """It begins in a module that imports nothing before it can be interrupted."""
    from pellucid.__main__ import main

    with zipfile.ZipFile(wheel) as file:
        (name,) = (name for name in file.namelist() if name.endswith("entry_points.txt"))
        assert f"pellucid = {main.__module__}:main" in file.read(name).decode()


@pytest.mark.slow
def test_the_wheel_works_alone(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as file:
        file.extractall(tmp_path / "site")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r}); import pellucid; "
        "print(pellucid.__file__); model = pellucid.load('shapes'); "
        "print(pellucid.saliency(model, pellucid.shapes.scenes(1).images).values.shape)"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert str(tmp_path) in done.stdout and "[1, 1, 96, 96]" in done.stdout
