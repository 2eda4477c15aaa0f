"""The workbench notebook as a page of its own: Voilà on this machine, no code shown and no key to press.

It runs inside the calling process until Ctrl+C, listens on the loopback address alone and asks for a token.
"""

from __future__ import annotations

import tempfile
import threading
import webbrowser
from pathlib import Path
from typing import Any

from jupyter_core.paths import jupyter_runtime_dir
from tornado.ioloop import IOLoop
from voila.app import Voila
from voila.shutdown_kernel_handler import VoilaShutdownKernelHandler

from workbench.serve.launch import HOST, NOTEBOOK, OwnKernelSpecs, announce, free_port, new_token

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


class Page(Voila):
    """Voilà with the workbench's template in front of its own, and kernels that end with their page."""

    template_folder = ""

    def setup_template_dirs(self) -> None:
        """Voilà's template folders, after ours."""
        super().setup_template_dirs()
        self.template_paths.insert(0, self.template_folder)

    def init_handlers(self) -> list[Any]:
        """Voilà's handlers, with our way to stop a kernel."""
        swap = {VoilaShutdownKernelHandler: ShutdownKernel}
        return [(rule, swap.get(handler, handler), *rest) for rule, handler, *rest in super().init_handlers()]


def serve_app(notebooks: Path, port: int | None = None, open_browser: bool = True) -> None:
    """Run the workbench notebook in the folder `notebooks` as a page until Ctrl+C.

    `port` is a TCP port, None or 0 for any free one. Raises LaunchError when the port is taken.
    """
    port, token = free_port(port), new_token()
    url = f"http://{HOST}:{port}/?token={token}"
    redirect = Path(jupyter_runtime_dir()) / f"workbench-{port}.html"
    with tempfile.TemporaryDirectory(prefix="workbench-") as folder:
        (Path(folder) / "index.html.j2").write_text(TEMPLATE, encoding="utf-8")
        page = Page.instance()
        page.template_folder = folder
        page.initialize([str(notebooks / NOTEBOOK), *_arguments(port, token)])
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
        "--Voila.log_level=ERROR",
        "--VoilaConfiguration.show_tracebacks=True",
        f"--VoilaConfiguration.kernel_spec_manager_class={OwnKernelSpecs.__module__}.OwnKernelSpecs",
    ]


def _open_in_browser(url: str, redirect: Path) -> None:
    """Open `url` through a private file: others on the machine can read a command line, and so the token."""
    redirect.parent.mkdir(parents=True, exist_ok=True)
    redirect.touch(mode=0o600)
    redirect.write_text(f'<meta http-equiv="refresh" content="0;url={url}">', encoding="utf-8")
    threading.Thread(target=webbrowser.open, args=(redirect.as_uri(), 2), daemon=True).start()
