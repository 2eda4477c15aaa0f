"""JupyterLab on this machine, set up so that the workbench has the room and the speed it needs.

It runs inside the calling process until Ctrl+C, listens on the loopback address alone and asks for a token.
What the user has set in their own JupyterLab stays in force: the settings here are defaults below theirs, and
nothing is written into their folders.
"""

from __future__ import annotations

import json
import logging
import shutil
import signal
import tempfile
from pathlib import Path
from typing import Any

from jupyter_server.serverapp import ServerApp
from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection

from workbench.serve.launch import HOST, NOTEBOOK, OwnKernelSpecs, announce, free_port, new_token

WORKSPACE = "workbench"

LAB_SETTINGS: dict[str, dict[str, Any]] = {
    "@jupyterlab/application-extension:shell": {"dockPanelPadding": False},
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/lsp-extension:plugin": {"activate": "off"},
    # A view scrolled out of sight must stay attached, or it is drawn anew when it comes back.
    "@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"},
    "@jupyterlab/statusbar-extension:plugin": {"visible": False},
}

_FOLDED = {"collapsed": True, "visible": True, "widgets": []}
LAB_LAYOUT = {
    "data": {
        "layout-restorer:data": {
            "main": {"dock": None},
            "down": {"size": 0, "widgets": []},
            "left": _FOLDED,
            "right": _FOLDED,
            "relativeSizes": [0, 1, 0],
        }
    },
    "metadata": {"id": WORKSPACE},
}


class NoDelayConnection(ZMQChannelsWebsocketConnection):
    """A kernel websocket that sends each message at once (TCP_NODELAY).

    Small messages otherwise wait for the browser's delayed acknowledgement: 55 instead of 23 ms a round trip.
    """

    def connect(self) -> Any:
        """Switch the delay off, then connect to the kernel as the stock class does."""
        self.websocket_handler.set_nodelay(True)
        return super().connect()


def serve_lab(notebooks: Path, port: int | None = None, open_browser: bool = True) -> None:
    """Run JupyterLab on the workbench notebook in the folder `notebooks` until Ctrl+C.

    `port` is a TCP port, None or 0 for any free one. Raises LaunchError when the port is taken.
    """
    from jupyterlab.labapp import LabApp

    # Deprecations inside Jupyter are not for the person at this terminal.
    logging.captureWarnings(True)
    port, token = free_port(port), new_token()
    path = f"/lab/workspaces/{WORKSPACE}/tree/{NOTEBOOK}"
    with tempfile.TemporaryDirectory(prefix="workbench-") as folder:
        settings, workspaces = Path(folder) / "settings", Path(folder) / "workspaces"
        _write_settings(settings, Path(LabApp().app_dir) / "settings")
        _write_layout(workspaces)
        arguments = {
            **_server_arguments(notebooks, port, token),
            "LabApp.open_browser": open_browser,
            "LabApp.default_url": path,
            "LabApp.app_settings_dir": settings,
            "LabApp.workspaces_dir": workspaces,
            "LabApp.news_url": None,
            "LabApp.check_for_updates_class": "jupyterlab.handlers.announcements.NeverCheckForUpdate",
            "LanguageServerManager.autodetect": False,
        }
        server = LabApp.initialize_server(argv=[f"--{name}={value}" for name, value in arguments.items()])
        server.io_loop.add_callback(announce, f"http://{HOST}:{port}{path}?token={token}", notebooks)
        _stop_at_interrupt(server)
        server.start()


def _stop_at_interrupt(server: ServerApp) -> None:
    """Shut the kernels down at Ctrl+C; without a terminal, Jupyter itself would leave them to notice."""

    def stop(*_: object) -> None:
        # A second Ctrl+C does not wait for kernels that hang.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        server.stop(from_signal=True)

    signal.signal(signal.SIGINT, stop)


def _server_arguments(notebooks: Path, port: int, token: str) -> dict[str, Any]:
    """What must hold whatever the user's files say: in Jupyter, arguments win over files."""
    return {
        "ServerApp.ip": HOST,
        "ServerApp.port": port,
        "ServerApp.port_retries": 0,
        "ServerApp.root_dir": notebooks,
        "ServerApp.base_url": "/",
        "ServerApp.allow_root": True,
        "ServerApp.answer_yes": True,
        "ServerApp.kernel_websocket_connection_class": _name(NoDelayConnection),
        "ServerApp.kernel_spec_manager_class": _name(OwnKernelSpecs),
        "IdentityProvider.token": token,
        "ServerApp.log_level": "ERROR",
        "LabApp.log_level": "ERROR",
    }


def _name(thing: type) -> str:
    return f"{thing.__module__}.{thing.__qualname__}"


def _write_settings(folder: Path, site: Path) -> None:
    """Our settings beside a copy of the installation's own, which come later in Lab's order and so win."""
    if site.is_dir():
        shutil.copytree(site, folder)
    defaults = folder / "overrides.d"
    defaults.mkdir(parents=True, exist_ok=True)
    (defaults / "workbench.json").write_text(json.dumps(LAB_SETTINGS), encoding="utf-8")


def _write_layout(folder: Path) -> None:
    from jupyterlab_server.workspaces_handler import WorkspacesManager

    folder.mkdir(parents=True)
    WorkspacesManager(str(folder)).save(WORKSPACE, json.dumps(LAB_LAYOUT))
