"""Who gets in at `workbench lab` and `workbench app`: every route is asked, and every setting is hostile."""

import json
import os
import re
import socket
import stat
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest
from hostile import REPOSITORY, UPGRADE
from hostile_files import KINDS, KNOWN, MARK, PAGE_MARK, SECRET
from jupyter_server import DEFAULT_STATIC_FILES_PATH
from routes import path_of
from tornado.web import create_signed_value

from workbench.serve.launch import write_private

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
FILLERS = ("x.svg", "workbench.ipynb", "")
STRANGERS = {
    "without a token": {},
    "who asks for a page": {"Accept": "text/html"},
    "by another host name": {"Host": "evil.example", "Origin": "http://evil.example"},
    "from another page": {"Origin": "http://evil.example"},
    "with a guessed token": {"Authorization": f"token {KNOWN}"},
    "with an empty token": {"Authorization": "token "},
}
CONCRETE = (
    "/",
    "/api",
    "/api/contents",
    "/api/contents/x.svg",
    "/api/kernels",
    "/api/kernelspecs",
    "/api/me",
    "/api/sessions",
    "/api/status",
    "/api/terminals",
    "/custom/custom.css",
    "/doc/tree/x.svg",
    "/edit/x.svg",
    "/files/secret.txt",
    *(f"/files/x.{kind}" for kind in KINDS),
    *(f"/voila/templates/lab/static/x.{kind}" for kind in KINDS),
    *(f"/static/x.{kind}" for kind in KINDS),
    *(f"/served/x.{kind}" for kind in KINDS),
    "/function",
    "/lab",
    "/lab/api/settings",
    "/lab/api/workspaces",
    "/lab/tree/x.svg",
    "/lsp/status",
    "/metrics",
    "/nbconvert/html/workbench.ipynb",
    "/notebooks/workbench.ipynb",
    "/open/x.svg",
    "/static/open/x.svg",
    "/templates/x.svg",
    "/terminals/websocket/1",
    "/tree",
    "/view/x.svg",
    "/voila",
    "/voila/files/x.svg",
    "/voila/files/secret.txt",
    "/voila/render/workbench.ipynb",
    "/voila/templates/lab/static/voila.js",
    "/voila/tree",
    "/x.svg",
    "//x.svg",
    "/elsewhere/files/x.svg",
)


def paths_of(server):
    """A path of every route that is registered, and those that people would try."""
    found = {path_of(pattern, filler) for pattern in server.routes for filler in FILLERS}
    found = {quote(path, safe="/.-_~:@") if path.startswith("/") else f"/{quote(path)}" for path in found}
    return sorted(found | set(CONCRETE))


def is_public(path):
    return path == "/login"


def test_every_route_is_asked(server):
    assert len(server.routes) > {"lab": 60, "app": 8}[server.command]
    assert len(paths_of(server)) > len(server.routes)
    assert any("/open/" in route for route in server.routes) is (server.command == "lab")


def test_voila_serves_no_folder(server):
    voila = {route for route in server.routes if "voila" in route}
    assert not [route for route in voila if re.search("files|tree|render|contents", route)]
    assert bool(voila) is (server.command == "app")


@pytest.mark.parametrize("stranger", STRANGERS)
def test_no_route_answers_a_stranger(server, stranger):
    headers = STRANGERS[stranger]
    answered = []
    for path in paths_of(server):
        for method in METHODS:
            status, answer, text = server.ask(path, method, headers)
            assert MARK not in text, (method, path)
            assert server.token not in text + str(answer), (method, path)
            assert "access-control-allow-origin" not in answer, (method, path)
            to_login = status == 302 and answer["location"].startswith("/login?")
            if not (status in {403, 405} or to_login or (is_public(path) and "Origin" not in headers)):
                answered.append((method, path, status))
    assert answered == []
    assert server.kernels() == []


def test_no_route_takes_a_websocket_of_a_stranger(server, let_in):
    cases = [UPGRADE, UPGRADE | let_in | {"Origin": "http://evil.example"}]
    for path in paths_of(server):
        for headers in cases:
            status, _, _ = server.ask(path, headers=headers)
            assert status != 101, path
            assert status in {403, 405} or is_public(path), (path, status)


def test_who_has_the_token_gets_in_by_this_machine_s_name_alone(server, let_in):
    for headers in (let_in, {"Authorization": f"token {server.token}"}):
        foreign = (
            {"Host": "evil.example"},
            {"Host": f"evil.example:{server.port}", "Origin": f"http://evil.example:{server.port}"},
            {"Origin": "http://evil.example"},
            {"Origin": "null"},
            {"Origin": f"http://{server.host}:1"},
            {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"},
        )
        for path in paths_of(server):
            for other in foreign:
                status, answer, text = server.ask(path, headers=headers | other)
                assert (status, MARK in text) == (403, False), (path, other)
                assert "access-control-allow-origin" not in answer
    assert server.kernels() == []


def test_the_login_page_needs_no_other_file(server):
    status, headers, text = server.ask("/login")
    assert status == 200
    assert re.findall(r"""(?:href|src|url)\s*[=(]\s*["']?([^"' >)]+)""", text) == ["data:,"]
    assert "<script" not in text
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]


def test_no_asset_leads_to_the_notebooks(server):
    static = {"lab": "/static/", "app": "/voila/static/"}[server.command]
    away = os.path.relpath(server.notebooks / "x.svg", DEFAULT_STATIC_FILES_PATH)
    straight = str(server.notebooks / "x.svg")
    for path in (
        away,
        quote(away, safe=""),
        away.replace("..", "%2e%2e"),
        straight,
        quote(straight, safe=""),
    ):
        status, _, text = server.ask(static + path)
        assert status in {302, 403, 404}, path
        assert MARK not in text


@pytest.mark.parametrize("typed", ["", KNOWN])
def test_no_known_word_logs_in(server, typed):
    _, headers, text = server.ask("/login")
    mark = re.search(r"_xsrf=([^;]+)", headers["set-cookie"])[1]
    form = {"Content-Type": "application/x-www-form-urlencoded", "Cookie": f"_xsrf={mark}"}
    status, answer, _ = server.ask("/login", "POST", form, f"password={typed}&_xsrf={quote(mark)}")
    assert status == 401
    assert "username-" not in answer.get("set-cookie", "")
    assert text.count("password")
    status, answer, _ = server.ask("/login", "POST", form, f"password={server.token}&_xsrf={quote(mark)}")
    assert (status, answer["set-cookie"].startswith("username-")) == (302, True)
    assert "SameSite=Lax" in answer["set-cookie"]
    assert "HttpOnly" in answer["set-cookie"]


def test_a_cookie_of_another_server_does_not_let_in(server, let_in):
    name = let_in["Cookie"].partition("=")[0]
    user = json.dumps(dict.fromkeys(("username", "name", "display_name", "initials", "color"), "stranger"))
    for known in (name, "known"):
        forged = create_signed_value(SECRET, known, user).decode()
        assert server.ask("/api/me", headers={"Cookie": f"{known}={forged}"})[0] == 403


def test_a_cookie_alone_changes_nothing(server, let_in):
    """Without the cross-site mark that only the page itself can read."""
    for path in ("/api/kernels", "/api/terminals", "/api/contents", "/api/sessions"):
        assert server.ask(path, "POST", let_in)[0] in {403, 404}
    assert server.kernels() == []


def test_a_picture_runs_no_script_in_the_page_s_origin(server, let_in):
    served = 0
    for path in [path for path in paths_of(server) if path.endswith((".svg", ".ipynb"))]:
        status, headers, text = server.ask(path, headers=let_in | {"Referer": f"http://{server.address}/"})
        if (
            status == 200
            and (MARK in text or "/nbconvert/" in path)
            and "json" not in headers["content-type"]
        ):
            policy = headers["content-security-policy"]
            assert "sandbox" in policy, path
            assert "allow-same-origin" not in policy, path
            assert not (path.endswith(".svg") and "allow-scripts" in policy), path
            assert headers["x-content-type-options"] == "nosniff", path
            served += 1
    assert (served > 0) == (server.command == "lab")


def test_it_is_reached_at_this_machine_alone(server):
    assert server.listens_at() == {"127.0.0.1"}


def test_nothing_of_the_current_folder_is_run(server):
    assert not (server.folder / "was-run.txt").exists()


def test_the_files_with_the_token_are_the_user_s_alone(server):
    held = [file for file in server.folder.rglob("*") if file.is_file() and server.token in _text(file)]
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in held if file.name != "output.txt"}
    assert set(modes.values()) <= {0o600}, modes


def _text(file):
    return file.read_bytes().decode(errors="replace")


def start_kernel(server, let_in):
    """The name of a kernel, started as JupyterLab and the page of the app do it."""
    if server.command == "lab":
        token = {"Authorization": f"token {server.token}"}
        status, _, text = server.ask("/api/kernels", "POST", token, '{"name": "python3"}')
        assert status == 201
        return json.loads(text)["id"]
    status, _, text = server.ask("/", headers=let_in | {"Accept": "text/html"})
    assert (status, PAGE_MARK in text) == (200, True)
    return re.search(r'"kernelId": *"([\w-]+)"', text)[1]


def test_who_has_the_token_has_a_kernel_and_nobody_else(server, let_in):
    """Last, since it starts the only kernel."""
    kernel = start_kernel(server, let_in)
    channels = f"/api/kernels/{kernel}/channels"
    own = {"Origin": f"http://{server.address}"}
    assert server.ask(channels, headers=UPGRADE | own)[0] == 403
    assert server.ask(channels, headers=UPGRADE | let_in | {"Origin": "http://evil.example"})[0] == 403
    assert server.ask(channels, headers=UPGRADE | let_in | own)[0] == 101
    assert server.listens_at() == {"127.0.0.1"}
    (process,) = server.kernels()
    connection = Path(next(word for word in process.cmdline() if word.endswith(".json")))
    assert json.loads(connection.read_text())["key"]
    assert stat.S_IMODE(connection.stat().st_mode) & 0o077 == 0


def test_who_has_the_token_sees_the_page(server, let_in):
    page = {"lab": "/lab", "app": "/login"}[server.command]
    status, headers, _ = server.ask(page, headers=let_in | {"Accept": "text/html"})
    assert status == {"lab": 200, "app": 302}[server.command]
    assert headers["referrer-policy"] == "same-origin"
    if server.command == "app":
        assert server.ask("/x.svg", headers=let_in)[0] == 404


def test_another_extension_s_files_need_the_token_too(server, let_in):
    assert server.ask("/open/x.svg")[0] == 403
    status, headers, text = server.ask("/open/x.svg", headers=let_in)
    assert (status, MARK in text) == {"lab": (200, True), "app": (404, False)}[server.command]
    assert server.command == "app" or "sandbox" in headers["content-security-policy"]


def test_a_voila_of_the_current_folder_is_not_taken_for_the_package(tmp_path):
    (tmp_path / "voila.py").write_text("import pathlib\npathlib.Path('was-run.txt').touch()\n")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [sys.executable, "-m", "workbench", "app", "--no-browser", "--port", port, "--notebooks", "here"],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert done.stderr.startswith(f"workbench: port {port} cannot be used")
    assert not (tmp_path / "was-run.txt").exists()


def test_a_file_with_a_secret_is_private_from_the_start(tmp_path):
    file = tmp_path / "runtime" / "redirect.html"
    write_private(file, "first")
    file.chmod(0o644)
    reader = file.open()
    write_private(file, "second")
    assert (file.read_text(), stat.S_IMODE(file.stat().st_mode)) == ("second", 0o600)
    # Who held the readable one open does not see what is written.
    assert reader.read() == "first"
    reader.close()
