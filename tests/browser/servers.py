"""Run `workbench lab` and `workbench app` as a user does, in a home of their own."""

import json
import os
import re
import shutil
import signal
import site
import subprocess
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
START_SECONDS = 120

# Runs inside the server: writes down, for each kernel websocket, whether its socket sends without delay.
SERVER_CONFIG = """
import pathlib, socket
from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection as Connection

def watched(self, stock=Connection.connect):
    stream = self.websocket_handler.ws_connection.stream
    no_delay = stream.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    with pathlib.Path({path!r}).open("a") as file:
        print(f"{{type(self).__name__}} {{bool(no_delay)}}", file=file)
    return stock(self)

Connection.connect = watched
"""


class Server:
    """A running `workbench lab` or `workbench app`: `url` is the address that it printed.

    It works on a copy of the notebooks, or, as an installed `program`, in an empty folder with what it puts
    there. `variables` are of its environment, and so of its kernels'.
    """

    def __init__(self, command: str, folder: Path, program: Path | None = None, **variables: str) -> None:
        self.folder = folder
        self.connections = folder / "connections.txt"
        self._output = folder / "output.txt"
        if program is None:
            self.notebooks, home = folder / "notebooks", folder
            ignored = shutil.ignore_patterns(".*", "__pycache__")
            shutil.copytree(REPOSITORY / "notebooks", self.notebooks, ignore=ignored)
            line = [sys.executable, "-m", "workbench", command, "--notebooks", str(self.notebooks)]
        else:
            home = folder / "empty"
            home.mkdir()
            self.notebooks, line = home / "workbench-notebooks", [str(program), command]
        environment = _home(folder, self.connections) | variables
        with self._output.open("w") as output:
            self.process = subprocess.Popen(
                [*line, "--no-browser"],
                cwd=home,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self.url = self._wait_for_url()
        self.origin = re.match(r"http://[^/]+", self.url)[0]
        self.token = self.url.rpartition("token=")[2]

    @property
    def output(self) -> str:
        """All that the command has printed so far."""
        return self._output.read_text()

    def _wait_for_url(self) -> str:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            found = re.search(r"http://\S+token=\w+(?=\s)", self.output)
            if found:
                return found[0]
            time.sleep(0.05)
        self.stop()
        raise RuntimeError(f"no address from `workbench` in {START_SECONDS} s; it printed:\n{self.output}")

    def stop(self) -> int:
        """Ctrl+C, and the exit code; a server that does not end by it is killed."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


def _home(folder: Path, connections: Path) -> dict[str, str]:
    """The environment of a user who has never run Jupyter here and has a 'python3' kernel from elsewhere."""
    home = folder / "home"
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("JUPYTER", "XDG_"))
    }
    environment |= {
        "HOME": str(home),
        "PYTHONUSERBASE": site.getuserbase(),
        # The code under test is this checkout's, whatever else is installed.
        "PYTHONPATH": os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")])),
        "IPYTHONDIR": str(home / "ipython"),
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_DATA_DIR": str(home / "data"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    files = {
        "config/jupyter_lab_config.json": json.dumps({"LabApp": {"expose_app_in_browser": True}}),
        "config/jupyter_server_config.py": SERVER_CONFIG.format(path=str(connections)),
        "settings/@jupyterlab/docmanager-extension/plugin.jupyterlab-settings": json.dumps(
            {"autosave": False}
        ),
        "data/kernels/python3/kernel.json": json.dumps(
            {
                "argv": ["another-python", "{connection_file}"],
                "display_name": "Elsewhere",
                "language": "python",
            }
        ),
    }
    for name, text in files.items():
        file = home / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return environment
