"""JupyterLab on this machine, set up so that the workbench has the room and the speed it needs.

It runs inside the calling process until Ctrl+C, listens on the loopback address alone and asks for a token.
What the user has set in their own JupyterLab stays in force: the settings here are defaults below theirs, and
nothing is written into their folders. What decides who gets in is ours alone, whatever their files say.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import shutil
import signal
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jupyter_server.auth.authorizer import AllowAllAuthorizer
from jupyter_server.serverapp import ServerApp
from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection
from jupyter_server.services.kernels.kernelmanager import ServerKernelManager
from traitlets.config import Config

from workbench.serve.door import TokenIdentity, close_door, identity_settings
from workbench.serve.launch import (
    COURSE,
    HOST,
    NOTEBOOK,
    OwnKernelSpecs,
    announce,
    culling,
    end_at_hang_up,
    free_port,
    new_token,
    notebook_in,
)
from workbench.serve.saving import keep_picture

WORKSPACE = "workbench"
NOTEBOOK_GONE = 24 * 3600  # seconds: other notebooks' variables are nowhere but in their kernel

LAB_SETTINGS: dict[str, dict[str, Any]] = {
    "@jupyterlab/application-extension:shell": {"dockPanelPadding": False},
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/lsp-extension:plugin": {"activate": "off"},
    # A view scrolled out of sight must stay attached, or it is drawn anew when it comes back.
    "@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"},
    # A notebook opened again shows what it showed when it was saved, without being run.
    "@jupyter-widgets/jupyterlab-manager:plugin": {"saveState": True},
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


class LabServer(ServerApp):
    """Jupyter's server with its door kept: `pinned` stands above every configuration file.

    Of the server's own settings the user's files say those of THEIRS alone. Arguments would win over the
    server's files, but not over those of JupyterLab and other extensions.
    """

    pinned = Config()

    def update_config(self, config: Any) -> None:
        """Take of `config` what may be the user's, and then what is pinned."""
        super().update_config(of_the_user(config))
        super().update_config(self.pinned)

    def init_configurables(self) -> None:
        """Make the managers; that of the files keeps a picture of each workbench that is saved."""
        super().init_configurables()
        self.contents_manager.register_pre_save_hook(keep_picture)

    def init_server_extensions(self) -> None:
        """Link the user's extensions, but not Voilà's: it serves every picture without a token."""
        for name in self.jpserver_extensions:
            if name.partition(".")[0] == "voila":
                self.jpserver_extensions[name] = False
        super().init_server_extensions()

    def init_httpserver(self) -> None:
        """Put the check of the token before all routes, the extensions' too, then listen."""
        close_door(self.web_app, Path(self.root_dir))
        super().init_httpserver()

    def write_browser_open_file(self) -> None:
        """Write the page that leads the browser to the address with its token, readable by the user alone."""
        self.remove_browser_open_file()
        before = os.umask(0o077)
        try:
            super().write_browser_open_file()
        finally:
            os.umask(before)


def serve_lab(
    notebooks: Path, port: int | None = None, open_browser: bool = True, notebook: str = NOTEBOOK
) -> None:
    """Run JupyterLab on one notebook of the folder `notebooks` until Ctrl+C.

    `port` is a TCP port, None or 0 for any free one; `notebook` is a path in the folder. Raises LaunchError
    when the port is taken or the folder has no such notebook.
    """
    from jupyterlab.labapp import LabApp

    opened = notebook_in(notebooks, notebook)

    # Deprecations inside Jupyter are not for the person at this terminal.
    logging.captureWarnings(True)
    port, token = free_port(port), new_token()
    path = f"/lab/workspaces/{WORKSPACE}/tree/{quote(opened)}"
    with tempfile.TemporaryDirectory(prefix="workbench-") as folder:
        settings, workspaces = Path(folder) / "settings", Path(folder) / "workspaces"
        _write_settings(settings, Path(LabApp().app_dir) / "settings")
        _write_layout(workspaces)
        kernels = Config(MappingKernelManager=culling(NOTEBOOK_GONE))  # where the user's files do not say
        server = LabServer.instance(jpserver_extensions={"jupyterlab": True}, config=kernels)
        server.pinned = server_settings(notebooks, port, token)
        server.pinned.LabServer.update(open_browser=open_browser, default_url=path)
        server.pinned.LabApp = Config(
            open_browser=open_browser,
            default_url=path,
            app_settings_dir=str(settings),
            workspaces_dir=str(workspaces),
            news_url=None,
            check_for_updates_class="jupyterlab.handlers.announcements.NeverCheckForUpdate",
            log_level="ERROR",
        )
        server.initialize(argv=[], starter_extension=LabApp.name)
        course = [f"Course:    workbench lab --open {COURSE}"] if (notebooks / COURSE).is_file() else []
        url = f"http://{HOST}:{port}{path}?token={token}"
        server.io_loop.add_callback(announce, url, notebooks, *course)
        _stop_at_interrupt(server)
        end_at_hang_up()
        server.start()


def _stop_at_interrupt(server: ServerApp) -> None:
    """Shut the kernels down at Ctrl+C; without a terminal, Jupyter itself would leave them to notice."""

    def stop(*_: object) -> None:
        # A second Ctrl+C does not wait for kernels that hang.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        server.stop(from_signal=True)

    signal.signal(signal.SIGINT, stop)


def of_the_user(config: Config) -> Config:
    """What of a user's configuration the server takes.

    Args:
        config: what a file says; it stays as it is.

    Returns:
        All of it but who gets in, which folder is served and by what, and where kernels run; of the server's
        own settings those of THEIRS.
    """
    taken = Config()
    own = {kind.__name__ for kind in LabServer.mro()}
    for name in config.keys() - _OURS:
        section = config[name]
        keys = section.keys() & THEIRS if name in own else section.keys() - _FOLDER
        taken[name] = Config({key: section[key] for key in keys})
    return taken


def server_settings(notebooks: Path, port: int, token: str) -> Config:
    """What must hold whatever the user's files say: where the server listens, and who gets in.

    Args:
        notebooks: the folder to serve.
        port: a free TCP port.
        token: the secret of this run.

    Returns:
        The configuration for LabServer.pinned.
    """
    pinned = Config()
    # In the section of the class itself, which wins over those of its bases.
    pinned.LabServer = Config(_REACH | _WHO)
    pinned.LabServer.update(
        port=port,
        root_dir=str(notebooks),
        # Else every server of this user would take the cookies of all the others.
        cookie_secret=secrets.token_bytes(32),
        kernel_websocket_connection_class=NoDelayConnection,
        kernel_spec_manager_class=OwnKernelSpecs,
        log_level="ERROR",
    )
    pinned.TokenIdentity = Config(identity_settings(token))
    # Kernels are no less a way in: theirs are sockets, and a key signs what is said there.
    pinned.ServerKernelManager = Config(ip=HOST, transport="tcp")
    manager = f"{ServerKernelManager.__module__}.{ServerKernelManager.__name__}"
    pinned.AsyncMappingKernelManager = Config(kernel_manager_class=manager, root_dir=str(notebooks))
    pinned.KernelProvisionerFactory = Config(default_provisioner_name="local-provisioner")
    pinned.GatewayClient = Config(url="")
    pinned.Session = Config(key=secrets.token_hex(32).encode(), keyfile="", signature_scheme="hmac-sha256")
    pinned.LanguageServerManager = Config(autodetect=False)
    return pinned


# Where the server is reached: at one address of this machine, as the printed line says.
_REACH: dict[str, Any] = {
    "ip": HOST,
    "port_retries": 0,
    "file_url_prefix": "/lab/tree",
    "allow_root": True,
    "answer_yes": True,
    "use_redirect_file": True,
}

# Who gets in, where a default depends on the environment or on a file.
_WHO: dict[str, Any] = {
    "identity_provider_class": TokenIdentity,
    "authorizer_class": AllowAllAuthorizer,
    "allow_remote_access": False,
    "allow_unauthenticated_access": False,
    "authenticate_prometheus": True,
    "local_hostnames": ["localhost"],
    "nbconvert_csp_sandbox": True,
}

# Sections of which nothing is the user's here: who gets in, and other machines that would run the kernels.
_OURS = frozenset(
    (
        "TokenIdentity",
        "PasswordIdentityProvider",
        "IdentityProvider",
        "LegacyIdentityProvider",
        "GatewayClient",
    )
)

# Of whatever manager: which folder is served, and by what handler.
_FOLDER = frozenset(("root_dir", "preferred_dir", "files_handler_class", "files_handler_params"))

# What a user's files may say of the server itself. None of it decides where it listens, who gets in, which
# folder it serves or what its pages hold; a setting that is new in Jupyter is not taken until it is here.
THEIRS = frozenset(
    (
        "browser",
        "contents_manager_class",
        "iopub_data_rate_limit",
        "iopub_msg_rate_limit",
        "jpserver_extensions",
        "limit_rate",
        "max_body_size",
        "max_buffer_size",
        "min_open_files_limit",
        "rate_limit_window",
        "shutdown_no_activity_timeout",
        "terminado_settings",
        "terminals_enabled",
        "webbrowser_open_new",
        "websocket_compression_options",
        "websocket_ping_interval",
        "websocket_ping_timeout",
    )
)


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
