"""Where the data sets of these tests lie."""

from pathlib import Path

import numpy as np
import pytest

from workbench.examples.datasets import DATA_VARIABLE


@pytest.fixture
def data(tmp_path, monkeypatch) -> Path:
    """An empty folder that WORKBENCH_DATA names; the cache is an absent one beside it."""
    folder = tmp_path / "data"
    folder.mkdir()
    monkeypatch.setenv(DATA_VARIABLE, str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder


@pytest.fixture
def numbers() -> np.random.Generator:
    return np.random.default_rng(13)
