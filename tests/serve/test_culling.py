"""A kernel whose page is gone ends by itself; an hour, or a day in lab, is made two seconds here."""

import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress

import nbformat
import psutil
import pytest

from workbench.serve.app import PAGE_GONE
from workbench.serve.lab import NOTEBOOK_GONE
from workbench.serve.launch import culling

START = """
import sys
from pathlib import Path
import workbench.serve.{command} as serving
serving.{name} = 2
serving.serve_{command}(Path({folder!r}), open_browser=False)
"""
NAMES = {"app": "PAGE_GONE", "lab": "NOTEBOOK_GONE"}
SECONDS = 90


def kernels(process):
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # it has just ended
            found += [child] * ("ipykernel_launcher" in " ".join(child.cmdline()))
    return found


def until(found):
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        value = found()
        if value:
            return value
        time.sleep(0.1)
    return None


@pytest.mark.parametrize("command", ["app"])  # lab's takes the same setting, looked at below
def test_a_kernel_whose_page_is_gone_ends(command, tmp_path):
    cell = nbformat.v4.new_code_cell("1 + 1")
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    notebook = nbformat.v4.new_notebook(cells=[cell], metadata=metadata)
    nbformat.write(notebook, tmp_path / "workbench.ipynb")
    code = START.format(command=command, name=NAMES[command], folder=str(tmp_path))
    home = {"HOME": str(tmp_path), "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime")}
    said = tmp_path / "said.txt"
    with said.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-c", code], env=os.environ | home, stdout=file, stderr=subprocess.STDOUT
        )
    try:
        host, token = until(lambda: re.search(r"(http://[^/]+)/\S*token=(\w+)", said.read_text())).groups()
        begin(command, host, {"Authorization": f"token {token}"})
        assert until(lambda: kernels(process)), said.read_text()
        assert until(lambda: not kernels(process)), said.read_text()
        assert process.poll() is None  # the server itself goes on
    finally:
        process.terminate()
        process.wait(30)


def begin(command, host, headers):
    """Open the page, or start a kernel as JupyterLab does, and leave it."""
    if command == "app":
        request = urllib.request.Request(f"{host}/", headers=headers)
    else:
        body = json.dumps({"name": "python3"}).encode()
        request = urllib.request.Request(f"{host}/api/kernels", body, headers)
    with urllib.request.urlopen(request, timeout=SECONDS) as answer:
        answer.read(100)


def test_the_stock_times_are_an_hour_and_a_day():
    assert culling(PAGE_GONE) == {"cull_idle_timeout": 3600, "cull_interval": 300}
    assert culling(NOTEBOOK_GONE)["cull_idle_timeout"] == 86_400
