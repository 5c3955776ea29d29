"""Tests run side by side, one core each: the threads of several processes would wait for one another."""

from importlib.util import find_spec

import hypothesis
import pytest
import torch

torch.set_num_threads(1)
# The same examples each time, however long they take: a busy machine is no reason to fail.
hypothesis.settings.register_profile(
    "steady", deadline=None, derandomize=True, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("steady")


def pytest_configure(config: pytest.Config) -> None:
    # Tests that start processes may run where JAX was imported; the processes begin anew, and nothing can wait for JAX.
    config.addinivalue_line("filterwarnings", r"ignore:os.fork\(\) was called:RuntimeWarning")


NEEDS = {
    "pellucid.importers.jax.": "jax",
    "pellucid.importers.keras.": "keras",
    "pellucid.importers.tensorflow.": "tensorflow",
    "pellucid.attribution.grabcut.": "cv2",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Examples in docstrings need what they import."""
    for item in items:
        for place, package in NEEDS.items():
            if item.name.startswith(place) and find_spec(package) is None:
                item.add_marker(pytest.mark.skip(reason=f"needs {package}"))
