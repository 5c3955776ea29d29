"""Files of Keras and folders of TensorFlow, imported in a process of their own: neither is loaded here.

Each takes its time and memory, Keras has one backend for all of a process, and TensorFlow and Triton cannot be loaded
into one. What comes back is a torch network, which needs none of them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import fx

from ..importers import ImportFailed
from ..importers.graph.finish import check_shape
from ..model.batches import progress
from ..model.classifier import Classifier
from .keras import SUFFIXES, backend, keras_file
from .saved_model import is_saved_model, saved_model
from .weights import UnreadableWeights

ERRORS = {kind.__name__: kind for kind in (ImportFailed, UnreadableWeights, ImportError, ValueError, TypeError)}
GLANCE = 0.5  # seconds between two looks at the process


def needs_process(path: Path) -> bool:
    """Whether a path is one that Keras or TensorFlow reads."""
    return path.suffix.lower() in SUFFIXES or is_saved_model(path)


def imported_in_process(path: Path, **options: Any) -> Classifier:
    """The network of a .keras or .h5 file, or of what a SavedModel serves.

    Args:
        path: the file or folder.
        options: trusted, mean, std, size as for `load`.

    Raises:
        FileNotFoundError: if there is no such file.
        ImportError: if Keras or TensorFlow is not installed.
        ImportFailed: as for `from_keras` and `from_tensorflow`.
        UnreadableWeights: for what is broken, or would run code or reach out, unless it is trusted.
    """
    if not (path.is_file() or is_saved_model(path)):
        raise FileNotFoundError(f"there is no file {path}{' (it is a folder)' if path.is_dir() else ''}")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "network.pt")
        told = json.dumps({"path": str(path), "out": str(out), **options})
        # -P and no empty entries: code that happens to lie in the working folder is not to be imported.
        sources = [str(Path(__file__).parents[2]), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
        words = {
            "PYTHONPATH": os.pathsep.join(sources), "KERAS_BACKEND": backend(), "TF_CPP_MIN_LOG_LEVEL": "3",
            "CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu",
        }  # fmt: skip
        command = [sys.executable, "-P", "-c", f"import {__name__} as apart; apart.worker_main()", told]
        said = _watched(command, os.environ | words, f"import {path.name}")
        failed = out.with_suffix(".json")
        if failed.exists():
            kind, message = json.loads(failed.read_text(encoding="utf-8"))
            raise ERRORS[kind](message)
        if not out.exists():
            raise ImportFailed(f"{path} could not be imported: {said}")
        # Written a moment ago by this program's own process: weights_only could not read modules.
        model: Classifier
        model, kinds = torch.load(out, weights_only=False)
    for name, module in model.net.named_modules():  # a network that was written has no names of its layers' classes
        if isinstance(module, fx.GraphModule):
            type(module).__name__ = kinds[name]
    how = model.preprocessing  # nor hooks
    model.net.register_forward_pre_hook(partial(check_shape, (how.channels, *(how.size or ()))))
    return model


def _watched(command: list[str], environment: dict[str, str], label: str) -> str:
    """Run a program to its end, under a bar; what went wrong in it, in a line."""
    with (
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            errors="replace", env=environment,
        ) as process,
        progress(1, label, "file") as advance,
    ):  # fmt: skip
        try:
            while True:
                try:
                    said = process.communicate(timeout=GLANCE)[1]
                    break
                except subprocess.TimeoutExpired:
                    advance(0)
        except BaseException:
            process.kill()
            raise
    if process.returncode < 0:
        return f"the process that reads it was ended by signal {-process.returncode}, as where memory runs out"
    last = (said.strip() or f"it ended with {process.returncode}").splitlines()[-1]
    return f"the process that reads it failed: {last}"


def worker_main() -> None:
    """What that process does."""
    told = json.loads(sys.argv[1])
    path, out = Path(told.pop("path")), Path(told.pop("out"))
    try:
        model = (saved_model if is_saved_model(path) else keras_file)(path, **told)
        torch.save((model, {name: type(module).__name__ for name, module in model.net.named_modules()}), out)
    except tuple(ERRORS.values()) as error:
        kind = next(name for name, known in ERRORS.items() if isinstance(error, known))
        out.with_suffix(".json").write_text(json.dumps([kind, str(error)]), encoding="utf-8")
