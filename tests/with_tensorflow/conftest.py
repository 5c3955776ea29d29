"""What needs TensorFlow, with Keras on it: `make test` runs this folder in an environment of its own."""

import os
from importlib.util import find_spec

if find_spec("tensorflow") is None or os.environ.get("KERAS_BACKEND") != "tensorflow":
    collect_ignore_glob = ["test_*.py", "maps.py"]
else:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    import tensorflow  # noqa: F401 - before whatever would load Triton

    from pellucid.importers.graph.optional_imports import without_triton

    without_triton()
