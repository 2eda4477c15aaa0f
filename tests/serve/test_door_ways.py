"""Ways around the check of `workbench lab` and `workbench app`: paths, hosts, links, marks and settings."""

import json
import re
import subprocess
import sys
from urllib.parse import quote

import pytest
from hostile import REPOSITORY
from hostile_files import KINDS, MARK, PAGE_MARK

AWAY = ("../", "..%2f", "%2e%2e/", "%2e%2e%2f", "..%252f", "..\\", "..%5c", "....//", ".%00./")
ROOTS = (
    "/",
    "//",
    "/static/",
    "/files/",
    "/custom/",
    "/lab/static/",
    "/voila/static/",
    "/voila/templates/lab/static/",
    "/voila/labextensions/",
    "/voila/api/themes/",
    "/login/",
    "/login//",
)
LINK = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
SOMEWHERE = "01234567-0123-0123-0123-0123456789ab"


def start_line(answer):
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else 0


def mark_of(server, let_in):
    """The cross-site mark, as the cookie and the word that a page sends beside it."""
    _, headers, _ = server.ask("/login")
    mark = re.search(r"_xsrf=([^;]+)", headers["set-cookie"])[1]
    return {"Cookie": f"{let_in['Cookie']}; _xsrf={mark}", "X-XSRFToken": mark}


def test_no_way_round_leads_in(server):
    """`/login` is the one path that is public, and nothing behind, before or beside it is."""
    aims = ("files/secret.txt", "notebooks/secret.txt", "secret.txt", "api/kernels")
    for root in ROOTS:
        for away in AWAY:
            for aim in aims:
                answer = server.say(f"GET {root}{away}{aim} HTTP/1.1", f"Host: {server.address}")
                assert start_line(answer) in {0, 400, 403}, (root, away, aim)
                assert MARK.encode() not in answer


@pytest.mark.parametrize(
    "path", ["/login/", "/login;x", "/LOGIN", "/login%2f", "//login", "/./login", "/loginx"]
)
def test_what_looks_like_the_login_page_is_not_it(server, path):
    assert server.ask(path)[0] == 403


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "EVIL.example:80",
        "localhost.",
        "127.0.0.1.",
        "a.localhost",
        "0.0.0.0",
        "[::]",
        "x@y",
        "",
    ],
)
def test_no_other_name_is_answered(server, host):
    for path in ("/login", "/api", "/", "/static/x.svg"):
        asked = (f"GET {path}?token={server.token} HTTP/1.1", f"Host: {host}")
        assert start_line(server.say(*asked)) in {0, 400, 403}, path


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
def test_this_machine_s_names_are_answered(server, host):
    assert start_line(server.say("GET /login HTTP/1.1", f"Host: {host}:{server.port}")) == 200


def test_a_second_host_does_not_stand_in_for_the_first(server):
    for hosts in (("evil.example", server.address), (server.address, "evil.example")):
        lines = [f"Host: {host}" for host in hosts]
        assert start_line(server.say("GET /login HTTP/1.1", *lines)) in {0, 400, 403}
    absolute = server.say("GET http://evil.example/login HTTP/1.1", f"Host: {server.address}")
    assert start_line(absolute) in {400, 403}


@pytest.mark.parametrize(
    "header", ["X-Forwarded-Host", "X-Real-Ip", "X-Forwarded-For", "X-Scheme", "Forwarded"]
)
def test_no_proxy_is_believed(server, header):
    value = "host=127.0.0.1;for=127.0.0.1" if header == "Forwarded" else "127.0.0.1"
    assert server.ask("/api", headers={header: value})[0] == 403
    assert server.ask("/login", headers={"Host": "evil.example", header: value})[0] == 403


@pytest.mark.parametrize("path", ["/", "/lab?fromURL=http://evil.example/x.ipynb", "/api/kernels", "/logout"])
def test_a_link_on_another_page_leads_in_with_the_token_alone(server, let_in, path):
    status, headers, text = server.ask(path, headers=let_in | LINK | {"Accept": "text/html"})
    assert (status, headers.get("location")) == (403, None)
    assert "open the address" in text
    assert server.ask("/api", headers=LINK | let_in)[0] == 403
    at = "/lab" if server.command == "lab" else "/voila/api/themes/none"
    asked = server.ask(f"{at}?token={server.token}", headers=LINK)
    assert asked[0] in {200, 404}


@pytest.mark.parametrize(
    "aim",
    ["//evil.example", "https://evil.example", "///evil.example", "/\\evil.example", "https:evil.example"],
)
def test_the_login_page_leads_to_no_other_site(server, let_in, aim):
    query = f"/login?next={quote(aim, safe='')}"
    assert server.ask(query, headers=let_in)[1]["location"].startswith("/%5C") or (
        server.ask(query, headers=let_in)[1]["location"] == "/"
    )
    assert "evil.example" not in re.sub(r'action="[^"]*"', "", server.ask(query)[2])


def test_what_is_asked_of_the_login_page_is_not_run_there(server):
    aim = quote('"><script>alert(1)</script>')
    text = server.ask(f"/login?next={aim}")[2]
    assert "<script" not in text


def kernel_of(server, let_in):
    if server.command == "app":
        text = server.ask("/", headers=let_in | {"Accept": "text/html"})[2]
        assert PAGE_MARK in text
        return re.search(r'"kernelId": *"([\w-]+)"', text)[1]
    answer = server.ask("/api/kernels", "POST", mark_of(server, let_in), '{"name": "python3"}')
    assert answer[0] == 201, answer
    return json.loads(answer[2])["id"]


def test_a_kernel_is_stopped_with_the_cross_site_mark_alone(server, let_in):
    kernel = f"/api/kernels/{kernel_of(server, let_in)}"
    other = mark_of(server, let_in) | {"X-XSRFToken": mark_of(server, let_in)["X-XSRFToken"][::-1]}
    for headers in (let_in, {**let_in, "X-XSRFToken": "another"}, other):
        assert server.ask(kernel, "DELETE", headers)[0] in {403, 404}
        assert server.ask(kernel, headers=let_in)[0] == 200
    foreign = mark_of(server, let_in) | {"Origin": "http://evil.example"}
    assert server.ask(kernel, "DELETE", foreign)[0] == 403
    assert server.ask(kernel, "DELETE", mark_of(server, let_in))[0] == 204


def test_no_setting_moves_the_folder_or_the_kernels(server, let_in):
    if server.command == "lab":
        names = {one["name"] for one in json.loads(server.ask("/api/contents", headers=let_in)[2])["content"]}
        assert {"workbench.ipynb", "secret.txt"} <= names
        assert not names & {"config", "home", "etc"}
        assert server.ask("/", headers=let_in)[1]["location"].startswith("/lab")
    listed = server.ask(f"/api/kernels/{SOMEWHERE}", headers=let_in)
    assert (listed[0], "evil.example" in listed[2]) == (404, False)


def test_a_route_that_cannot_ask_for_the_token_is_not_asked(server, let_in):
    status, _, text = server.ask("/function", headers=let_in)
    assert (status, MARK in text) == ({"lab": 403, "app": 404}[server.command], False)


def test_the_folder_s_files_are_given_as_what_they_are(server, let_in):
    """To who has the token, in the lab; no file of any kind in the app."""
    own = let_in | {"Referer": f"http://{server.address}/lab"}
    for kind in KINDS:
        for where in ("", "static/", "templates/", "voila/templates/lab/static/"):
            file = f"{where}x.{kind}"
            paths = [
                f"{root}{file}" for root in ("/", "/files/", "/static/", "/voila/static/", "/voila/files/")
            ]
            for path in (*paths, f"/files/{file}?token={server.token}"):
                status, headers, text = server.ask(path, headers=own)
                if server.command == "app" or not path.startswith("/files/"):
                    assert status != 200 or MARK not in text, path
                elif status == 200:
                    assert headers["x-content-type-options"] == "nosniff"
                    assert "sandbox" in headers["content-security-policy"], path
                    scripts = kind == "html" and "token" not in path
                    if not scripts and kind not in {"png", "json"}:
                        assert "allow-scripts" not in headers["content-security-policy"], path


@pytest.mark.parametrize("command", ["lab", "app"])
def test_the_help_says_what_is_tested(command):
    done = subprocess.run(
        [sys.executable, "-m", "workbench", command, "--help"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
    )
    said = " ".join(done.stdout.split())
    for promise in (
        "Listens on this machine alone",
        "only the printed address with its token gets in",
        "whatever the user's configuration says",
        "Ctrl+C, SIGTERM or a closed terminal stops it and its kernels",
    ):
        assert promise in said
