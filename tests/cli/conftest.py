"""Commands keep names of layers and networks for completion; those of tests are kept in a folder of their own."""

import pytest

from pellucid.cli import known


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setattr(known, "cache", lambda: folder)
