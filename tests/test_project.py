"""What the files around the package promise: they must agree with each other."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import PurePosixPath

import pytest
from packaging.requirements import Requirement

# conda-forge's name where it is another; the -base packages leave out the desktop.
CONDA_NAMES = {"torch": "pytorch", "matplotlib": "matplotlib-base", "seaborn": "seaborn-base"}
FILE_LIMIT = 1_500_000
WEIGHTS_LIMIT = 12_000_000


@pytest.fixture(scope="module")
def project(repository):
    return tomllib.loads((repository / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def tracked(repository):
    """Every file that git has or would take, or, in an unpacked archive without git, every visible one."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=repository, capture_output=True, text=True)
    if listed.returncode == 0:
        return [path for name in listed.stdout.split("\0") if name and (path := repository / name).is_file()]
    visible = (path for path in repository.rglob("*") if path.is_file())
    return [path for path in visible if not any(part.startswith(".") for part in path.parts)]


def test_environment_has_the_ranges_of_pyproject(repository, project):
    text = (repository / "environment.yml").read_text()
    lines = re.findall(r"^  - ([a-z][\w.-]*)([<>=!~][^\n]*)?$", text, flags=re.MULTILINE)
    conda = {name: Requirement(f"{name}{limits}").specifier for name, limits in lines}
    wanted = {Requirement(line) for line in project["dependencies"]}
    expected = {CONDA_NAMES.get(one.name, one.name): one.specifier for one in wanted}
    expected["python"] = Requirement(f"python{project['requires-python']}").specifier
    conda.pop("conda-forge", None)
    assert conda.pop("pip") == Requirement("pip").specifier
    assert conda == expected
    assert re.search(r"^  - pip:\n      - -e \.$", text, flags=re.MULTILINE)
    assert text.startswith(f"name: {project['name']}\n")


def test_readme_and_ci_run_the_same_tests(repository):
    command = 'pip install -e ".[test]" && pytest'
    assert command in (repository / "README.md").read_text().splitlines()
    script = repository / ".ci" / "run"
    assert "README.md" in script.read_text()
    assert script.stat().st_mode & 0o111


def test_changelog_has_the_version(repository, project):
    changelog = (repository / "CHANGELOG.md").read_text()
    assert re.search(rf"^## \[?{re.escape(project['version'])}\b", changelog, flags=re.MULTILINE)


def test_notebooks_are_stored_without_outputs(tracked):
    notebooks = [path for path in tracked if path.suffix == ".ipynb"]
    assert notebooks
    for path in notebooks:
        for cell in json.loads(path.read_text())["cells"]:
            assert not cell.get("outputs"), f"{path} has outputs: clear them before you commit"
            assert cell.get("execution_count") is None, f"{path} has execution counts"


def test_a_wheel_carries_every_notebook(repository, tracked):
    tools = tomllib.loads((repository / "pyproject.toml").read_text())["tool"]
    carried = {
        (file, target)
        for target, patterns in tools["setuptools"]["data-files"].items()
        for pattern in patterns
        for file in repository.glob(pattern)
    }
    home = PurePosixPath("share") / "spectral-pruning-workbench"
    notebooks = [path for path in tracked if path.suffix == ".ipynb"]
    expected = {(path, str(home / path.parent.relative_to(repository).as_posix())) for path in notebooks}
    assert expected <= carried


def test_files_are_small(tracked):
    weights = [path for path in tracked if path.suffix == ".safetensors"]
    assert sum(path.stat().st_size for path in weights) <= WEIGHTS_LIMIT
    assert [path for path in tracked if path not in weights and path.stat().st_size > FILE_LIMIT] == []


def test_import_leaves_the_face_unimported(repository):
    code = "import sys, workbench; print({'ipywidgets', 'anywidget', 'matplotlib'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"
