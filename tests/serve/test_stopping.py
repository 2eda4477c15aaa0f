"""How `workbench lab` and `workbench app` end: their kernels and what those have started end with them."""

import signal
import time

import psutil
from hostile import HostileServer
from hostile_files import CHILD

WAIT_SECONDS = 60


def start_kernel(server):
    """All processes of the server, once a kernel has started one: in the lab it is in an endless loop."""
    if server.command == "lab":
        server.run_in_kernel(f"{CHILD}\nwhile True: pass")
    else:
        headers = {"Authorization": f"token {server.token}", "Accept": "text/html"}
        assert server.ask("/", headers=headers)[0] == 200
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        found = psutil.Process(server.process.pid).children(recursive=True)
        if "sleep" in [one.name() for one in found]:
            return found
        time.sleep(0.05)
    raise AssertionError("the kernel has started no child")


def assert_all_end(server, processes):
    assert server.process.wait(WAIT_SECONDS) == 0, server.output
    _, alive = psutil.wait_procs(processes, timeout=WAIT_SECONDS)
    assert alive == []
    left = [file.name for file in (server.folder / "home" / "runtime").rglob("*") if file.is_file()]
    assert [name for name in left if name.startswith(("kernel-", "jpserver-", "workbench-"))] == []


def test_a_terminal_that_is_closed_ends_the_server_and_its_kernels(server):
    """Last of those that use the server."""
    processes = start_kernel(server)
    server.hang_up()
    assert_all_end(server, processes)


def test_under_nohup_it_goes_on_and_sigterm_ends_it(tmp_path):
    server = HostileServer("app", tmp_path, ignored=signal.SIGHUP)
    try:
        processes = start_kernel(server)
        server.hang_up()
        server.process.send_signal(signal.SIGHUP)
        assert server.ask("/login")[0] == 200
        assert [one for one in processes if not one.is_running()] == []
        server.process.send_signal(signal.SIGTERM)
        assert_all_end(server, processes)
    finally:
        server.stop()
