"""The workbench notebook as a page of its own: Voilà on this machine, no code shown and no key to press.

It runs inside the calling process until Ctrl+C, listens on the loopback address alone and asks for a token.
Of Voilà it takes the page, and neither its configuration files nor its way to serve the folder's files.
"""

from __future__ import annotations

import logging
import tempfile
import threading
import webbrowser
from pathlib import Path
from typing import Any

from jupyter_core.paths import jupyter_runtime_dir
from tornado.ioloop import IOLoop
from tornado.web import HTTPError
from traitlets import default
from traitlets.config import Config
from voila.app import Voila
from voila.shutdown_kernel_handler import VoilaShutdownKernelHandler
from voila.static_file_handler import AllowListFileHandler
from voila.tornado.handler import TornadoVoilaHandler

from workbench.serve.door import TokenIdentity, close_door, identity_settings
from workbench.serve.launch import (
    HOST,
    NOTEBOOK,
    OwnKernelSpecs,
    announce,
    culling,
    end_at_hang_up,
    free_port,
    new_token,
    write_private,
)

PAGE_GONE = 3600  # seconds that a kernel waits for a page that did not say that it closed

# Voilà's page links icon fonts on a public network; an address without content loads nothing.
TEMPLATE = """{% extends "voila/templates/lab/index.html.j2" %}
{% block notebook_css %}
{{ super() | replace("https://cdn.jsdelivr.net/npm/", "data:text/css,") }}
{% endblock %}
"""


class ShutdownKernel(VoilaShutdownKernelHandler):
    """Voilà's way to stop a page's kernel, which the closing page calls by a beacon.

    A beacon cannot carry the cross-site mark, and refused, every reload would leave a kernel behind. The
    caller still has to be logged in and to know the kernel's random name.
    """

    def check_xsrf_cookie(self) -> None:
        """Let the beacon pass."""


class NotebookPage(TornadoVoilaHandler):
    """The page at `/`; for other paths Voilà's own leads on to the folder's files, which are not served."""

    async def get(self, path: str | None = None) -> None:
        """Start a kernel and write its page."""
        if path:
            raise HTTPError(404)
        await super().get(path)


class Page(Voila):
    """Voilà with the workbench's template in front of its own, and kernels that end with their page."""

    template_folder = ""

    @default("config_file_paths")
    def _no_config_files(self) -> list[str]:
        """Voilà would run voila.py of the current folder, and read who gets in from other files."""
        return []

    def setup_template_dirs(self) -> None:
        """Voilà's template folders, after ours."""
        super().setup_template_dirs()
        self.template_paths.insert(0, self.template_folder)

    def init_handlers(self) -> list[Any]:
        """Voilà's handlers without that of the folder's files, with our page and our way to stop a kernel."""
        swap = {VoilaShutdownKernelHandler: ShutdownKernel, TornadoVoilaHandler: NotebookPage}
        return [
            (rule, swap.get(handler, handler), *rest)
            for rule, handler, *rest in super().init_handlers()
            if not issubclass(handler, AllowListFileHandler)
        ]

    def listen(self) -> None:
        """Put the check of the token before all routes, then listen."""
        close_door(self.app, Path(self.root_dir))
        super().listen()


def serve_app(notebooks: Path, port: int | None = None, open_browser: bool = True) -> None:
    """Run the workbench notebook in the folder `notebooks` as a page until Ctrl+C.

    `port` is a TCP port, None or 0 for any free one. Raises LaunchError when the port is taken.
    """
    # A refused address is not for the person at this terminal, and may hold the token.
    for said in ("access", "general"):
        logging.getLogger(f"tornado.{said}").setLevel(logging.ERROR)
    port, token = free_port(port), new_token()
    url = f"http://{HOST}:{port}/?token={token}"
    redirect = Path(jupyter_runtime_dir()) / f"workbench-{port}.html"
    with tempfile.TemporaryDirectory(prefix="workbench-") as folder:
        (Path(folder) / "index.html.j2").write_text(TEMPLATE, encoding="utf-8")
        page = Page.instance()
        page.template_folder = folder
        kernels = culling(PAGE_GONE)
        page.update_config(Config(TokenIdentity=identity_settings(token), MappingKernelManager=kernels))
        page.initialize([str(notebooks / NOTEBOOK), *_arguments(port, token)])
        end_at_hang_up()
        # Three times the interval is the default, which tornado refuses with a warning.
        page.tornado_settings = {"ws_ping_timeout": 30_000, **page.tornado_settings}
        loop = IOLoop.current()
        loop.add_callback(announce, url, notebooks)
        if open_browser:
            loop.add_callback(_open_in_browser, url, redirect)
        try:
            page.start()
        finally:
            redirect.unlink(missing_ok=True)


def _arguments(port: int, token: str) -> list[str]:
    return [
        f"--Voila.ip={HOST}",
        f"--Voila.port={port}",
        "--Voila.port_retries=0",
        "--Voila.open_browser=False",
        f"--Voila.token={token}",
        f"--Voila.identity_provider_class={TokenIdentity.__module__}.TokenIdentity",
        "--Voila.log_level=ERROR",
        "--VoilaConfiguration.show_tracebacks=True",
        f"--VoilaConfiguration.kernel_spec_manager_class={OwnKernelSpecs.__module__}.OwnKernelSpecs",
    ]


def _open_in_browser(url: str, redirect: Path) -> None:
    """Open `url` through a private file: others on the machine can read a command line, and so the token."""
    write_private(redirect, f'<meta http-equiv="refresh" content="0;url={url}">')
    threading.Thread(target=webbrowser.open, args=(redirect.as_uri(), 2), daemon=True).start()
