"""A kernel that ends has its work on the disk, also what was done right before."""

import sys

import pytest
from jupyter_client.manager import KernelManager

from workbench.session.runs import runs

WORK = """
import sys
sys.path[:0] = {path!r}
import time
from pathlib import Path
from surviving import measured
from workbench.session import autosave
from workbench.session.autosave import Autosave
write = autosave.store.write
autosave.store.write = lambda *given: (time.sleep(0.7), write(*given))  # as that of a large network is
session = measured()
saves = Autosave(session, Path({root!r}))
saves.wait()
for width in (4, 3, 2):
    session.commit(session.preview("0", width=width))
"""


@pytest.mark.parametrize("how", ["shutdown", "SIGTERM"])
def test_a_commit_right_before_the_end_is_on_the_disk(how, tmp_path):
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel()
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=120)
        reply = client.execute_interactive(WORK.format(path=sys.path, root=str(tmp_path)), timeout=120)
        assert reply["content"]["status"] == "ok", reply["content"]
        if how == "shutdown":
            manager.shutdown_kernel()
        else:
            manager.provisioner.process.terminate()
            manager.provisioner.process.wait(60)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    (run,) = runs(tmp_path)
    assert (run.steps, run.open) == (3, False)
