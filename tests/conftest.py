"""Tests run side by side, one core each: the threads of several processes would wait for one another."""

import pytest
import torch

torch.set_num_threads(1)


def pytest_configure(config: pytest.Config) -> None:
    # Tests that start processes may run where JAX was imported; the processes begin anew, and nothing can wait for JAX.
    config.addinivalue_line("filterwarnings", r"ignore:os.fork\(\) was called:RuntimeWarning")
