"""Models that Keras saved are loaded as any other, in a process of its own: Keras has one backend for all of it."""

import os
import subprocess
import sys
import textwrap
from importlib.util import find_spec
from pathlib import Path

import pytest

import pellucid

SOURCE = Path(pellucid.__file__).parents[1]
pytestmark = pytest.mark.skipif(not (find_spec("keras") and find_spec("jax")), reason="needs Keras and JAX")


def python(code, folder):
    environment = {key: value for key, value in os.environ.items() if key != "KERAS_BACKEND"}
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, cwd=folder, check=False,
        env=environment | {"PYTHONPATH": os.pathsep.join([str(SOURCE), os.environ.get("PYTHONPATH", "")])},
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keras")
    done = python(
        """
        import os; os.environ["KERAS_BACKEND"] = "jax"
        import keras
        keras.utils.set_random_seed(0)
        layers = [keras.Input((12, 12, 3)), keras.layers.Conv2D(4, 3, activation="relu", name="first"),
                  keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(2, activation="softmax")]
        model = keras.Sequential(layers)
        model.save("mine.keras")
        model.save("mine.h5")
        layers.insert(1, keras.layers.Lambda(lambda x: x * 2))
        keras.Sequential(layers).save("code.keras")
        open("broken.keras", "wb").write(b"nothing")
        """,
        folder,
    )
    assert done.returncode == 0, done.stderr
    (folder / "labels.txt").write_text("cat\ndog\n")
    return folder


@pytest.mark.parametrize("file", ["mine.keras", "mine.h5"])
def test_a_saved_model_is_loaded_and_explained(folder, file):
    done = python(
        f"""
        import pellucid, torch
        model = pellucid.load("{file}", labels="labels.txt")
        images = torch.rand(2, 3, 12, 12, generator=torch.Generator().manual_seed(0))
        assert model.labels == ("cat", "dog") and model.name == "mine" and model.net.difference < 1e-5
        assert "first" in [layer.name for layer in pellucid.layers(model)]
        result = pellucid.lrp(model, images, "dog", rules="EPSILON")
        import keras
        theirs = keras.models.load_model("{file}", compile=False)(images.permute(0, 2, 3, 1).numpy())
        ours = model(images).softmax(1).detach()
        assert abs(torch.tensor(theirs.tolist()) - ours).max() < 1e-5
        print(tuple(result.values.shape))
        """,
        folder,
    )
    assert done.returncode == 0 and done.stdout.strip() == "(2, 3, 12, 12)", done.stderr


def test_what_is_wrong_is_said(folder):
    done = python(
        """
        import pellucid
        tried = {"code.keras": {}, "broken.keras": {}, "none.keras": {}, "mine.keras": {"weights": "x"}}
        for file, options in tried.items():
            try:
                pellucid.load(file, **options)
            except (ValueError, OSError) as error:
                print(type(error).__name__, str(error).splitlines()[0])
        """,
        folder,
    )
    assert done.returncode == 0, done.stderr
    code, broken, none, weights = done.stdout.splitlines()
    assert "code.keras holds Python code" in code and "trusted=True" in code
    assert "broken.keras is no model that Keras can read" in broken
    assert "there is no file none.keras" in none and "has its weights inside" in weights
