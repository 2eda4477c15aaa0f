"""The README keeps its word: its example runs, its picture is there, its commands exist."""

import re
import subprocess
import sys

import pytest


@pytest.fixture
def readme(repository):
    return (repository / "README.md").read_text()


def test_the_example_runs_and_is_five_lines(readme, repository):
    example = re.findall(r"```python\n(.*?)```", readme, re.S)[0]
    assert len([line for line in example.splitlines() if line]) == 5
    done = subprocess.run(
        [sys.executable, "-c", example], cwd=repository, capture_output=True, text=True, check=True
    )
    assert re.fullmatch(r"conv2 64 → 32: 62,378 parameters, accuracy 0\.9\d\d\n", done.stdout), done.stdout


def test_its_pictures_are_there_and_small(readme, repository):
    pictures = re.findall(r"!\[[^]]+\]\(([^)]+)\)", readme)
    assert pictures
    for picture in pictures:
        assert (repository / picture).stat().st_size < 300_000


def test_the_tests_it_names_exist(readme, repository):
    named = re.findall(r"pytest (tests/\S+?)[ `]", readme)
    assert named
    for path in named:
        assert (repository / path).exists(), path
