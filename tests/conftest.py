"""What all tests share: where the data is, one thread, seeds."""

import os
import random
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

REPOSITORY = Path(__file__).resolve().parent.parent

_shared = REPOSITORY.parent / "shared" / "data"
if "WORKBENCH_DATA" not in os.environ and _shared.is_dir():
    os.environ["WORKBENCH_DATA"] = str(_shared)

# A workbench keeps its session in the person's own folder; where tests mean that, they name another.
os.environ["WORKBENCH_AUTOSAVE"] = "off"
os.environ["OMP_NUM_THREADS"] = "1"  # of kernels and other children: several at once wait for each other else

# Started in the background of a shell (`pytest &`), this process ignores Ctrl+C, and so would its children,
# which tests end by it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Small matrices on a shared machine: one thread is faster than two that wait for each other.
torch.set_num_threads(1)


WORKERS = 3  # for all tests: much of what they do is to wait for browsers, kernels and other processes


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Three for all tests, none for named ones: these begin at once, and a debugger reaches them."""
    return WORKERS if config.args_source is config.ArgsSource.TESTPATHS else 0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Playwright keeps an event loop running in this thread: what tests the absence of one comes before it.
    # The course's notebooks take longest of all files, so they do not come last.
    browser = "/tests/browser/"
    items.sort(key=lambda item: (browser in item.path.as_posix(), "course_runs" not in _named(item)))


def _named(item: pytest.Item) -> tuple[str, ...]:
    """The fixtures that a test asks for by name."""
    return item._fixtureinfo.argnames if isinstance(item, pytest.Function) else ()


@pytest.fixture
def seed() -> int:
    """Seeds Python's, numpy's and torch's generators, and is the seed for a test's own ones."""
    number = 20240613
    random.seed(number)
    np.random.seed(number)
    torch.manual_seed(number)
    return number


@pytest.fixture
def generator(seed: int) -> torch.Generator:
    """A seeded torch generator."""
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The repository's top folder."""
    return REPOSITORY
