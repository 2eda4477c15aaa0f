"""The README keeps its word: its example runs, its picture is there, its commands exist."""

import re
import subprocess
import sys

import pytest
import torch

import workbench as wb


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


def test_the_lines_on_all_layers_run_and_compare_what_differs(readme):
    lines = re.findall(r"```python\n(.*?)```", readme, re.S)[2]
    session = wb.Session.example("digits-cnn")
    session.measure()
    names = {"wb": wb, "session": session, "loader": [(torch.rand(8, 1, 8, 8), torch.arange(8))]}
    exec(lines.replace("steps=240", "steps=2"), names)
    scores = [line.split("|")[4] for line in names["table"].splitlines()[2:]]
    assert len(scores) == 4
    assert len(set(scores)) > 1
    assert [step.label for step in session.history if step.tuning] == [
        "fine-tuned, 2 steps",
        "fine-tuned, 1 epoch",
    ]


def test_its_pictures_are_there_and_small(readme, repository):
    pictures = re.findall(r"!\[[^]]+\]\(([^)]+)\)", readme)
    assert pictures
    for picture in pictures:
        assert (repository / picture).stat().st_size < 300_000


def test_the_commands_it_and_the_results_name_exist(readme, repository):
    results = (repository / "tests" / "benchmarks" / "RESULTS.md").read_text()
    named = re.findall(r"(?:pytest|python) (tests/\S+?)[\s`]", readme + results)
    assert len(named) > 5
    for path in named:
        assert (repository / path).exists(), path


def test_it_reads_in_a_few_minutes(readme):
    prose = re.sub(r"```.*?```", "", readme, flags=re.S)
    words = [word for word in prose.split() if re.search(r"\w", word)]  # the lines of tables are none
    assert len(words) < 1050
