"""Models that Keras saved are loaded as any other; Keras runs in a process of its own, and not in the caller's."""

import os
import subprocess
import sys
import textwrap
import types
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

import pellucid
from pellucid.files.images import write_image
from pellucid.zoo import UnreadableWeights, keras
from pellucid.zoo.separate_process import _watched

SOURCE = Path(pellucid.__file__).parents[1]
pytestmark = pytest.mark.skipif(not (find_spec("keras") and find_spec("jax")), reason="needs Keras and JAX")


def python(*arguments, folder, backend=None):
    environment = {key: value for key, value in os.environ.items() if key != "KERAS_BACKEND"}
    path = os.pathsep.join([str(SOURCE), os.environ.get("PYTHONPATH", "")])
    environment |= {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"} | ({"KERAS_BACKEND": backend} if backend else {})
    return subprocess.run(
        [sys.executable, *map(str, arguments)], capture_output=True, text=True, cwd=folder, check=False, env=environment
    )


def run(code, folder, backend=None):
    done = python("-c", textwrap.dedent(code), folder=folder, backend=backend)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keras")
    run(
        """
        import keras
        from keras import layers

        class Own(layers.Layer):
            def call(self, x):
                return 2 * x

        keras.utils.set_random_seed(0)
        parts = [keras.Input((12, 12, 3)), layers.Conv2D(4, 3, activation="relu", name="first"),
                 layers.GlobalAveragePooling2D(name="average"), layers.Dense(2, activation="softmax", name="classes")]
        model = keras.Sequential(parts)
        model.save("mine.keras")
        model.save("mine.h5")
        model.save_weights("mine.weights.h5")
        for name, layer in {"code": layers.Lambda(lambda x: x * 2), "own": Own()}.items():
            twice = keras.Sequential([parts[0], layer, *parts[1:]])
            twice.save(f"{name}.keras")
            twice.save(f"{name}.h5")
        whole = open("mine.keras", "rb").read()
        open("half.keras", "wb").write(whole[:len(whole) // 2])
        open("half.h5", "wb").write(open("mine.h5", "rb").read()[:4000])
        open("empty.keras", "wb")
        any_size = keras.Input((None, None, 3))
        keras.Model(any_size, layers.Dense(2)(layers.GlobalAveragePooling2D()(any_size))).save("any.keras")
        """,
        folder,
        "jax",
    )
    (folder / "labels.txt").write_text("cat\ndog\n")
    write_image(torch.rand(3, 12, 12, generator=torch.Generator().manual_seed(0)), folder / "noise.png")
    (folder / "jax.py").write_text("raise SystemExit('code of the working folder was run')")
    return folder


def test_a_saved_model_is_loaded_and_explained_without_keras(folder):
    (shape,) = run(
        """
        import sys
        import pellucid, torch
        model = pellucid.load("mine.keras", labels="labels.txt")
        images = torch.rand(2, 3, 12, 12, generator=torch.Generator().manual_seed(0))
        assert model.labels == ("cat", "dog") and model.name == "mine" and model.net.difference < 1e-5
        assert [layer.name for layer in pellucid.layers(model)] == ["first", "average", "classes"]
        result = pellucid.lrp(model, images, "dog", rules="EPSILON")
        try:
            model(torch.rand(1, 3, 9, 9))
        except ValueError as error:
            assert "imported for images 3 x 12 x 12" in str(error)
        assert not {"keras", "jax", "tensorflow"} & set(sys.modules)

        sys.path.remove("")  # of python -c: there is a jax.py in the working folder
        import keras
        theirs = keras.models.load_model("mine.keras", compile=False)(images.permute(0, 2, 3, 1).numpy())
        assert abs(torch.tensor(theirs.tolist()) - model(images).softmax(1)).max() < 1e-5
        print(tuple(result.values.shape))
        """,
        folder,
        "jax",
    )
    assert shape == "(2, 3, 12, 12)"


def test_a_saved_model_on_the_command_line(folder):
    done = python("-m", "pellucid", "layers", "mine.keras", folder=folder, backend="torch")
    listed = [line.split() for line in done.stdout.splitlines()]
    assert done.returncode == 0 and listed[0] == ["first", "Conv2D", "4", "x", "10", "x", "10"], done.stderr
    assert [line[0] for line in listed] == ["first", "average", "classes"] and listed[-1][1:] == ["Dense", "2"]
    done = python(
        "-m", "pellucid", "explain", "noise.png", "--model", "mine.h5", "--labels", "labels.txt", "--target", "dog",
        "--methods", "saliency,lrp", "--option", "lrp.rules=EPSILON", "--format", "npz", "--output", "maps",
        folder=folder,
    )  # fmt: skip
    assert done.returncode == 0 and "wrote maps (1 image" in done.stdout, done.stderr
    assert list((folder / "maps").glob("*.npz"))


def test_code_in_a_file_is_run_only_for_those_who_trust_it(folder):
    done = python("-m", "pellucid", "layers", "code.keras", folder=folder)
    assert done.returncode == 2 and done.stdout == ""
    last = done.stderr.splitlines()[-1]  # where it took a while, a bar is above
    assert last.startswith("pellucid: error: code.keras holds Python code (a Lambda layer)")
    assert last.endswith("unless you trust whoever made it: give --trusted")
    done = python("-m", "pellucid", "layers", "code.h5", "--trusted", folder=folder)
    assert done.returncode == 0 and "lambda_" in done.stdout, done.stderr


def test_what_is_wrong_is_said(folder):
    wrong = {
        "code.h5": "code.h5 holds Python code",
        "own.keras": "own.keras needs Python code that is not in it, of 'Own': .* pellucid.from_keras",
        "own.h5": "own.h5 needs Python code that is not in it, of 'Own'",
        "half.keras": "half.keras is no model of Keras, or not all of it",
        "half.h5": "half.h5 is no model that Keras can read: .*truncated",
        "empty.keras": "empty.keras is empty",
        "mine.weights.h5": "holds weights without a network",
        "any.keras": "images of any size: give size=",
    }
    told = run(
        f"""
        import sys
        sys.path.remove("")
        from pathlib import Path
        from pellucid.zoo.keras import keras_file
        for file in {list(wrong)}:
            try:
                keras_file(Path(file), trusted=False, mean=None, std=None, size=None)
            except ValueError as error:
                print(error)
        """,
        folder,
        "jax",
    )
    assert len(told) == len(wrong)
    for line, words in zip(told, wrong.values(), strict=True):
        with pytest.raises(ValueError, match=words):
            raise ValueError(line)
    with pytest.raises(FileNotFoundError, match="there is no file none.keras"):
        pellucid.load("none.keras")
    with pytest.raises(FileNotFoundError, match="it is a folder"):
        (folder / "folder.keras").mkdir()
        pellucid.load(folder / "folder.keras")
    with pytest.raises(ValueError, match="has its weights inside"):
        pellucid.load(folder / "mine.keras", weights="x")


def test_keras_that_is_missing_or_old(monkeypatch, folder):
    told = {"trusted": False, "mean": None, "std": None, "size": None}
    monkeypatch.setitem(sys.modules, "keras", None)
    with pytest.raises(ImportError, match=r"needs keras: pip install 'pellucid\[keras\]'"):
        keras.keras_file(folder / "mine.keras", **told)
    monkeypatch.setitem(sys.modules, "keras", types.SimpleNamespace(__version__="3.11.0"))
    with pytest.raises(UnreadableWeights, match=r"Keras 3.11.0 cannot be kept from .* pip install --upgrade keras"):
        keras.keras_file(folder / "mine.keras", **told)


def test_a_file_is_read_on_a_backend_that_is_there(monkeypatch):
    monkeypatch.setattr(keras, "find_spec", lambda name: None if name == "tensorflow" else name)
    for asked, used in {"torch": "torch", "jax": "jax", "tensorflow": "jax", "numpy": "jax"}.items():
        monkeypatch.setenv("KERAS_BACKEND", asked)
        assert keras.backend() == used
    monkeypatch.delenv("KERAS_BACKEND")
    monkeypatch.setattr(keras, "find_spec", lambda name: name == "torch" or None)
    assert keras.backend() == "torch"


def test_a_process_that_is_ended_is_told():
    code = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    assert "ended by signal 9" in _watched([sys.executable, "-c", code], dict(os.environ), "import")
    said = _watched([sys.executable, "-c", "raise RuntimeError('no way')"], dict(os.environ), "import")
    assert said.endswith("RuntimeError: no way")
