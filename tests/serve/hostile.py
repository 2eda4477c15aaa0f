"""`workbench lab` and `workbench app` where every configuration file there is tries to open the door."""

import http.client
import json
import os
import re
import signal
import site
import subprocess
import sys
import time
from pathlib import Path

import psutil
from jupyter_server.auth import passwd

REPOSITORY = Path(__file__).resolve().parents[2]
START_SECONDS = 120
MARK = "only-for-who-has-the-token"
PICTURE = f'<svg xmlns="http://www.w3.org/2000/svg"><script>{MARK}</script></svg>'
PAGE_MARK = "written by the kernel"
KNOWN = "known-to-strangers"
SECRET = b"a cookie secret that strangers know"

# Runs in the server's process before the command: writes down its routes once it listens.
DRIVER = """
import json, pathlib, sys
from tornado.web import Application
from workbench import cli
from workbench.serve import launch

applications, made, announced = [], Application.__init__, launch.announce

def watched(self, *arguments, **named):
    applications.append(self)
    made(self, *arguments, **named)

def rules_of(router):
    for rule in router.rules:
        if hasattr(rule.target, "rules"):
            yield from rules_of(rule.target)
        elif hasattr(rule.matcher, "regex"):
            yield rule.matcher.regex.pattern

def announce(*arguments):
    patterns = [pattern for one in applications for pattern in rules_of(one.default_router)]
    pathlib.Path("routes.json").write_text(json.dumps(patterns))
    announced(*arguments)

Application.__init__, launch.announce = watched, announce
sys.exit(cli.main(sys.argv[1:]))
"""

# Another package's extension that serves the folder to everyone, pictures with their scripts.
EXTENSION = """
import pathlib
from tornado.web import StaticFileHandler

def _jupyter_server_extension_points():
    return [{"module": "open_extension"}]

def _load_jupyter_server_extension(server):
    here = [("/open/(.*)", StaticFileHandler, {"path": server.root_dir})]
    server.web_app.add_handlers(".*$", here)
"""

SETTINGS = {
    "ServerApp": {
        "ip": "0.0.0.0",
        "allow_origin": "*",
        "allow_origin_pat": ".*",
        "allow_credentials": True,
        "allow_remote_access": True,
        "allow_unauthenticated_access": True,
        "authenticate_prometheus": False,
        "disable_check_xsrf": True,
        "local_hostnames": ["evil.example"],
        "trust_xheaders": True,
        "password": passwd(KNOWN, "sha1"),
        "token": KNOWN,
        "base_url": "/elsewhere/",
        "nbconvert_csp_sandbox": False,
        "jpserver_extensions": {"voila": True, "voila.server_extension": True, "open_extension": True},
        "identity_provider_class": "jupyter_server.auth.identity.IdentityProvider",
        "tornado_settings": {
            "headers": {"Access-Control-Allow-Origin": "*", "Content-Security-Policy": ""},
            "disable_check_xsrf": True,
            "allow_remote_access": True,
        },
    },
    "IdentityProvider": {"token": "", "cookie_name": "known", "cookie_options": {"samesite": "None"}},
    "PasswordIdentityProvider": {"token": "", "hashed_password": passwd(KNOWN, "sha1")},
    "KernelManager": {"ip": "0.0.0.0"},
    "Session": {"key": "", "signature_scheme": ""},
    "Voila": {"ip": "0.0.0.0", "token": "", "auto_token": False},
    "VoilaConfiguration": {"file_allowlist": [".*"], "file_denylist": [], "preheat_kernel": True},
}


class HostileServer:
    """A running `workbench COMMAND`: its port, its token and the regular expressions of its routes."""

    def __init__(self, command: str, folder: Path) -> None:
        self.folder, self.notebooks = folder, folder / "notebooks"
        self._write_files()
        self._output = folder / "output.txt"
        arguments = [command, "--no-browser", "--notebooks", str(self.notebooks)]
        with self._output.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-P", str(folder / "driver.py"), *arguments],
                cwd=folder,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        found = self._wait_for_address()
        self.host, self.port, self.token = found[1], int(found[2]), found[3]
        self.address = f"{self.host}:{self.port}"
        self.routes: list[str] = json.loads((folder / "routes.json").read_text())

    def _write_files(self) -> None:
        here = self.notebooks
        cells = [{"cell_type": "code", "source": f"print({PAGE_MARK!r})", "metadata": {}, "outputs": []}]
        kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
        notebook = {
            "cells": [{**cell, "execution_count": None, "id": "one"} for cell in cells],
            "metadata": kernel,
            "nbformat": 4,
            "nbformat_minor": 5,
        }
        python = f"import pathlib\npathlib.Path({str(self.folder)!r}, 'was-run.txt').touch()\n"
        python += "".join(f"c.{name}.{key} = {value!r}\n" for name, key, value in _flat(SETTINGS, here))
        lab = f"c.ServerApp.cookie_secret = {SECRET!r}\n"
        lab += "".join(f"c.{name}.{key} = {value!r}\n" for name, key, value in _flat(SETTINGS, here))
        files = {
            "driver.py": DRIVER,
            "packages/open_extension.py": EXTENSION,
            "voila.py": python,
            "jupyter_server_config.py": python,
            "jupyter_lab_config.py": python,
            "voila.json": json.dumps(SETTINGS),
            "config/voila.json": json.dumps(SETTINGS),
            "config/jupyter_config.json": json.dumps(SETTINGS),
            "config/jupyter_server_config.py": lab,
            "config/jupyter_lab_config.py": lab,
            "config/jupyter_server_config.d/mine.json": json.dumps(
                {"ServerApp": {"jpserver_extensions": {"voila.server_extension": True, "voila": True}}}
            ),
            "notebooks/workbench.ipynb": json.dumps(notebook),
            "notebooks/x.svg": PICTURE,
            "notebooks/static/x.svg": PICTURE,
            "notebooks/secret.txt": MARK,
        }
        for name, text in files.items():
            file = self.folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)

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
            found = re.search(r"http://([^/:]+):(\d+)/\S*token=(\w+)(?=\s)", self._output.read_text())
            if found:
                return found
            time.sleep(0.05)
        self.stop()
        raise RuntimeError(f"no address in {START_SECONDS} s; it printed:\n{self._output.read_text()}")

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

    def cookie(self) -> str:
        """The cookie that a browser holds once it has opened the printed address."""
        headers = self.ask("/login", headers={"Authorization": f"token {self.token}"})[1]
        return headers["set-cookie"].partition(";")[0]

    def kernels(self) -> list[psutil.Process]:
        """The kernels that it has started and that run."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        return [child for child in children if "ipykernel_launcher" in " ".join(child.cmdline())]

    def listens_at(self) -> set[str]:
        """The addresses at which it and its kernels take connections."""
        processes = [psutil.Process(self.process.pid), *self.kernels()]
        connections = [one for process in processes for one in process.net_connections("tcp")]
        return {one.laddr.ip for one in connections if one.status == psutil.CONN_LISTEN}

    def stop(self) -> None:
        """Ctrl+C; a server that does not end by it is killed."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def _flat(settings: dict, notebooks: Path):
    for name, section in settings.items():
        yield from ((name, key, value) for key, value in section.items())
    yield "ServerApp", "extra_static_paths", [str(notebooks)]
