"""`workbench lab` and `workbench app` where every configuration file there is tries to open the door."""

import fcntl
import http.client
import json
import os
import pty
import re
import signal
import site
import socket
import subprocess
import sys
import termios
import time
from pathlib import Path

import psutil
from hostile_files import KNOWN, files_of
from jupyter_client import BlockingKernelClient

REPOSITORY = Path(__file__).resolve().parents[2]
START_SECONDS = 120
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
}


class HostileServer:
    """A running `workbench COMMAND`: its port, its token and the regular expressions of its routes."""

    def __init__(self, command: str, folder: Path, ignored: signal.Signals | None = None) -> None:
        self.command, self.folder, self.notebooks = command, folder, folder / "notebooks"
        for name, text in files_of(folder).items():
            file = folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        self._output = folder / "output.txt"
        arguments = [command, "--no-browser", "--notebooks", str(self.notebooks)]
        # A terminal of its own, which `hang_up` closes.
        self._terminal, line = pty.openpty()
        with self._output.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-P", str(folder / "driver.py"), *arguments],
                cwd=folder,
                env=self._environment(),
                stdin=line,
                stdout=output,
                stderr=output,
                preexec_fn=lambda: _take(line, ignored),
            )
        os.close(line)
        found = self._wait_for_address()
        self.host, self.port, self.token = found[1], int(found[2]), found[3]
        self.address = f"{self.host}:{self.port}"
        self.routes: list[str] = json.loads((folder / "routes.json").read_text())

    @property
    def output(self) -> str:
        """All that it has printed so far."""
        return self._output.read_text()

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("JUPYTER", "XDG_"))}
        home = self.folder / "home"
        return kept | {
            "HOME": str(home),
            "PYTHONUSERBASE": site.getuserbase(),
            "PYTHONPATH": os.pathsep.join(
                filter(None, [str(REPOSITORY), str(self.folder / "packages"), os.environ.get("PYTHONPATH")])
            ),
            "IPYTHONDIR": str(home / "ipython"),
            "JUPYTER_CONFIG_DIR": str(self.folder / "config"),
            "JUPYTER_DATA_DIR": str(home / "data"),
            "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
            "JUPYTER_TOKEN": KNOWN,
            "JUPYTER_SERVER_ALLOW_UNAUTHENTICATED_ACCESS": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def _wait_for_address(self) -> re.Match[str]:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            found = re.search(r"http://([^/:]+):(\d+)/\S*token=(\w+)(?=\s)", self.output)
            if found:
                return found
            time.sleep(0.05)
        self.stop()
        raise RuntimeError(f"no address in {START_SECONDS} s; it printed:\n{self.output}")

    def ask(self, path: str, method: str = "GET", headers: dict[str, str] | None = None, body: str = ""):
        """The answer's status, its headers in lower case, and its text."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=20)
        try:
            connection.request(method, path, body or None, headers or {})
            answer = connection.getresponse()
            # After a switch of protocol nothing more is said until the other side speaks.
            text = "" if answer.status == 101 else answer.read().decode(errors="replace")
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, text
        finally:
            connection.close()

    def say(self, *lines: str) -> bytes:
        """The start of the answer to a request as it is written here, which no client would make."""
        with socket.create_connection((self.host, self.port), timeout=20) as connection:
            connection.sendall("\r\n".join((*lines, "Connection: close", "", "")).encode())
            return connection.recv(65536)

    def cookie(self) -> str:
        """The cookie that a browser holds once it has opened the printed address."""
        headers = self.ask("/login", headers={"Authorization": f"token {self.token}"})[1]
        return headers["set-cookie"].partition(";")[0]

    def kernels(self) -> list[psutil.Process]:
        """The kernels that it has started and that run."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        return [child for child in children if "ipykernel_launcher" in " ".join(child.cmdline())]

    def run_in_kernel(self, code: str) -> None:
        """Start a kernel as JupyterLab does, and `code` in it; nothing is waited for."""
        token = {"Authorization": f"token {self.token}"}
        _, _, text = self.ask("/api/kernels", "POST", token, '{"name": "python3"}')
        runtime = self.folder / "home" / "runtime"
        client = BlockingKernelClient(connection_file=str(runtime / f"kernel-{json.loads(text)['id']}.json"))
        client.load_connection_file()
        client.start_channels()
        client.wait_for_ready(timeout=START_SECONDS)
        client.execute(code)
        client.stop_channels()

    def listens_at(self) -> set[str]:
        """The addresses at which it and its kernels take connections."""
        processes = [psutil.Process(self.process.pid), *self.kernels()]
        connections = [one for process in processes for one in process.net_connections("tcp")]
        return {one.laddr.ip for one in connections if one.status == psutil.CONN_LISTEN}

    def hang_up(self) -> None:
        """Close its terminal, as one closes a window."""
        if self._terminal >= 0:
            os.close(self._terminal)
            self._terminal = -1

    def stop(self) -> None:
        """Ctrl+C; a server that does not end by it is killed."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.hang_up()


def _take(terminal: int, ignored: signal.Signals | None) -> None:
    os.setsid()
    fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whether the tests run under nohup or not
    if ignored is not None:
        signal.signal(ignored, signal.SIG_IGN)
