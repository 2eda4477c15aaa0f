"""Files that try to open the door: of the user, of the current folder and of the notebooks folder."""

import json
from pathlib import Path

from jupyter_server.auth import passwd

MARK = "only-for-who-has-the-token"
PICTURE = f'<svg xmlns="http://www.w3.org/2000/svg"><script>{MARK}</script></svg>'
PAGE_MARK = "written by the kernel"
# What a kernel starts goes with it, and hears no Ctrl+C of its own.
CHILD = "import subprocess; subprocess.Popen(['sleep', '600'], stderr=subprocess.DEVNULL)"
PAGE = f"{CHILD}\nprint({PAGE_MARK!r})"
KNOWN = "known-to-strangers"
SECRET = b"a cookie secret that strangers know"
KINDS = ("svg", "SVG", "svgz", "png", "html", "xhtml", "xml", "json")

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

# Another package's extension that serves the folder to everyone, by a handler, by a function and as an asset.
EXTENSION = f"""
import pathlib
from tornado.httputil import HTTPHeaders, ResponseStartLine
from tornado.web import StaticFileHandler

def _jupyter_server_extension_points():
    return [{{"module": "open_extension"}}]

def answer(request):
    text = b"{MARK}"
    headers = HTTPHeaders({{"Content-Length": str(len(text))}})
    request.connection.write_headers(ResponseStartLine("HTTP/1.1", 200, "OK"), headers, text)
    request.connection.finish()

def _load_jupyter_server_extension(server):
    here = {{"path": server.root_dir}}
    server.web_app.add_handlers(".*$", [("/open/(.*)", StaticFileHandler, here),
                                        ("/static/open/(.*)", StaticFileHandler, here)])
    server.web_app.default_router.add_rules([("/function", answer)])
    server.web_app.default_router.rules.insert(0, server.web_app.default_router.rules.pop())
    server.web_app.settings.update(disable_check_xsrf=True, xsrf_cookies=False, allow_origin="*")
"""

OPEN = {
    "ip": "0.0.0.0",
    "sock": "/tmp/for-everyone",
    "certfile": "/nowhere.pem",
    "allow_origin": "*",
    "allow_origin_pat": ".*",
    "allow_credentials": True,
    "allow_remote_access": True,
    "allow_unauthenticated_access": True,
    "allow_external_kernels": True,
    "authenticate_prometheus": False,
    "disable_check_xsrf": True,
    "local_hostnames": ["evil.example"],
    "trust_xheaders": True,
    "password": passwd(KNOWN, "sha1"),
    "token": KNOWN,
    "base_url": "/elsewhere/",
    "custom_display_url": "http://evil.example/",
    "default_url": "//evil.example/",
    "root_dir": "/",
    "notebook_dir": "/",
    "preferred_dir": "/tmp",
    "nbconvert_csp_sandbox": False,
    "authorizer_class": "jupyter_server.auth.authorizer.AllowAllAuthorizer",
    "identity_provider_class": "jupyter_server.auth.identity.IdentityProvider",
    "login_handler_class": "jupyter_server.auth.login.LegacyLoginHandler",
    "kernel_manager_class": "jupyter_server.gateway.managers.GatewayMappingKernelManager",
    "cookie_options": {"samesite": "None"},
    "tornado_settings": {
        "headers": {"Access-Control-Allow-Origin": "*", "Content-Security-Policy": ""},
        "disable_check_xsrf": True,
        "allow_remote_access": True,
    },
}
EXTENSIONS = {"voila": True, "voila.server_extension": True, "open_extension": True}
IDENTITY = {
    "token": "",
    "cookie_name": "known",
    "cookie_options": {"samesite": "None"},
    "secure_cookie": False,
}
KERNELS = {"ip": "0.0.0.0", "transport": "ipc"}
LOOSE = {"disable_check_xsrf": True, "headers": {"Access-Control-Allow-Origin": "*"}}

SETTINGS = {
    "ServerApp": OPEN | {"jpserver_extensions": EXTENSIONS},
    # The server's own class, and those that it has been made from.
    "LabServer": OPEN | {"jpserver_extensions": EXTENSIONS},
    "JupyterApp": {"answer_yes": False},
    "LabApp": {"settings": LOOSE, "default_url": "//evil.example/"},
    "TokenIdentity": IDENTITY,
    "IdentityProvider": IDENTITY,
    "PasswordIdentityProvider": {"token": "", "hashed_password": passwd(KNOWN, "sha1")},
    "FileContentsManager": {"root_dir": "/"},
    "AsyncLargeFileManager": {"root_dir": "/", "preferred_dir": "/tmp"},
    "ContentsManager": {"files_handler_class": "tornado.web.StaticFileHandler"},
    "MappingKernelManager": {"root_dir": "/"},
    "MultiKernelManager": {"kernel_manager_class": "jupyter_client.ioloop.AsyncIOLoopKernelManager"},
    "AsyncIOLoopKernelManager": KERNELS,
    "ServerKernelManager": KERNELS,
    "KernelManager": KERNELS,
    "GatewayClient": {"url": "http://evil.example"},
    "Session": {"key": "", "signature_scheme": ""},
    "Voila": {"ip": "0.0.0.0", "token": "", "auto_token": False},
    "Page": {"ip": "0.0.0.0", "token": "", "auto_token": False},
    "VoilaConfiguration": {
        "file_allowlist": [".*"],
        "file_denylist": [],
        "preheat_kernel": True,
        "template": "open",
    },
}


def files_of(folder: Path) -> dict[str, str]:
    """Name → text: the user's settings in config/, and what lies about in the folder and its notebooks."""
    python = _as_python(folder / "notebooks")
    ran = f"import pathlib\npathlib.Path({str(folder)!r}, 'was-run.txt').touch()\n"
    files = {"driver.py": DRIVER, "packages/open_extension.py": EXTENSION}
    for name in ("jupyter_server_config", "jupyter_lab_config", "jupyter_config"):
        files[f"config/{name}.py"] = f"c.ServerApp.cookie_secret = {SECRET!r}\n{python}"
    files |= {
        "config/voila.json": json.dumps(SETTINGS),
        "config/jupyter_config.json": json.dumps(SETTINGS),
        "config/jupyter_server_config.d/mine.json": json.dumps(
            {"ServerApp": {"jpserver_extensions": EXTENSIONS}}
        ),
        "home/ipython/profile_default/ipython_kernel_config.py": "c.IPKernelApp.ip = '0.0.0.0'\n",
    }
    here = ("", "notebooks/")
    for where in here:
        for name in ("voila", "jupyter_server_config", "jupyter_lab_config", "jupyter_config", "overrides"):
            files[f"{where}{name}.json"] = json.dumps(SETTINGS)
            files[f"{where}{name}.py"] = ran + python
        for name in ("ipython_config", "ipython_kernel_config", "startup/00-first"):
            files[f"{where}profile_default/{name}.py"] = ran
            files[f"{where}{name}.py"] = ran
        for name in ("ipykernel_launcher", "sitecustomize", "usercustomize"):
            files[f"{where}{name}.py"] = ran
    for where in ("", "static/", "templates/", "voila/templates/lab/static/"):
        files |= {f"notebooks/{where}x.{kind}": PICTURE for kind in KINDS}
    files["notebooks/workbench.ipynb"] = _notebook(PAGE)
    files["notebooks/secret.txt"] = MARK
    return files


def _notebook(cell: str) -> str:
    one = {"cell_type": "code", "source": cell, "metadata": {}, "outputs": [], "execution_count": None}
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return json.dumps(
        {
            "cells": [{**one, "id": "one"}],
            "metadata": {"kernelspec": kernel},
            "nbformat": 4,
            "nbformat_minor": 5,
        }
    )


def _as_python(notebooks: Path) -> str:
    """SETTINGS as a Python file says them, and more that only such a file can."""
    lines = [
        f"c.{name}.{key} = {value!r}" for name, section in SETTINGS.items() for key, value in section.items()
    ]
    folder = [str(notebooks)]
    return "\n".join(
        (
            *lines,
            f"c.ServerApp.extra_static_paths = {folder}",
            f"c.LabApp.static_paths = {folder}",
            "from tornado.web import StaticFileHandler",
            f"served = ('/served/(.*)', StaticFileHandler, {{'path': {str(notebooks)!r}}})",
            "c.ServerApp.extra_services = ['open_extension']",
            "c.LabApp.handlers = [served]",
            "c.ServerApp.tornado_settings.update({'disable_check_xsrf': True})",
            "c.FileContentsManager.files_handler_params = {'path': '/'}",
            "",
        )
    )
