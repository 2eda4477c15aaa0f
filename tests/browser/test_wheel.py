"""A built wheel, installed: `workbench lab` and `workbench app` start in an empty folder by one line."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
from notebook_page import NotebookPage, expect_measured
from servers import REPOSITORY, Server

PARTS = ("workbench", "notebooks", "pyproject.toml", "README.md", "LICENSE")
BUILD = "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """The command `workbench` of a new environment into which the wheel alone was installed.

    All else comes from the environment of the tests, whose own workbench is a folder that is not looked into.
    """
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for part in PARTS:
        copy = shutil.copytree if (REPOSITORY / part).is_dir() else shutil.copyfile
        copy(REPOSITORY / part, source / part)
    subprocess.run([sys.executable, "-c", BUILD, str(folder)], cwd=source, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    shutil.rmtree(source)
    made = folder / "environment"
    venv.create(made, symlinks=True, with_pip=False)
    scripts = made / ("Scripts" if os.name == "nt" else "bin")
    python = scripts / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index"]
    alone = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run([*pip, str(wheel)], env=alone, check=True, capture_output=True)
    (site,) = made.rglob("site-packages")
    (site / "others.pth").write_text(sysconfig.get_paths()["purelib"])
    asked = "import workbench; print(workbench.__file__)"
    found = subprocess.run(
        [python, "-c", asked], cwd=folder, env=alone, capture_output=True, text=True, check=True
    )
    assert Path(found.stdout.strip()).is_relative_to(made)
    return scripts / "workbench"


def start(program, command, folder):
    """The command in an empty folder; what JupyterLab's packages bring stands in the tests' environment."""
    share = Path(sys.prefix) / "share" / "jupyter"
    lab = {"JUPYTERLAB_DIR": str(share / "lab"), "JUPYTER_PATH": str(share)}
    return Server(command, folder, program, PYTHONPATH="", **lab)


def test_lab_starts_in_an_empty_folder_with_its_notebooks(program, page, tmp_path):
    server = start(program, "lab", tmp_path)
    try:
        assert server.output.startswith(f"Notebooks: {server.notebooks}\n")
        assert (server.notebooks / "course" / "01-spectra.ipynb").is_file()
        notebook = NotebookPage(page).open(server.url)
        notebook.press_shift_enter()
        expect_measured(page)
        home = notebook.kernel("__import__('workbench').__file__")
        assert str(program.parents[1]) in home
        notebook.close()
    finally:
        assert server.stop() == 0, server.output


def test_app_starts_in_an_empty_folder(program, page, tmp_path):
    server = start(program, "app", tmp_path)
    try:
        page.goto(server.url)
        expect_measured(page)
        assert page.errors == []
    finally:
        assert server.stop() == 0, server.output
