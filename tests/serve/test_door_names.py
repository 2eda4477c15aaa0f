"""Which hosts and which pages the door takes for this machine's own."""

from types import SimpleNamespace

import pytest
from tornado.httputil import HTTPHeaders, HTTPServerRequest, RequestStartLine

from workbench.serve.door import is_foreign, is_led_here, is_local


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1:8888", True),
        ("localhost", True),
        ("LOCALHOST:1", True),
        ("[::1]:8888", True),
        ("127.9.9.9", True),
        ("evil.example", False),
        ("localhost.evil.example:8888", False),
        ("127.0.0.1.evil.example", False),
        ("192.168.1.7:8888", False),
        ("localhost.:8888", False),
        ("127.0.0.1.:8888", False),
        ("evil.localhost:8888", False),
        ("127.0.0.1@evil.example", False),
        ("[::ffff:192.168.1.7]:8888", False),
        ("0.0.0.0:8888", False),
        ("127.0.0.1,evil.example", False),
        ("", False),
    ],
)
def test_a_name_is_of_this_machine(host, local):
    assert is_local(host) is local


def request(method, headers):
    return HTTPServerRequest(
        headers=HTTPHeaders({"Host": "127.0.0.1:8888", **headers}),
        start_line=RequestStartLine(method, "/", "HTTP/1.1"),
        connection=SimpleNamespace(context=None),
    )


def fetch(of, mode, what):
    return {"Sec-Fetch-Site": of, "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": what}


@pytest.mark.parametrize(
    ("method", "headers", "foreign"),
    [
        ("GET", {}, False),
        ("POST", {"Origin": "http://127.0.0.1:8888"}, False),
        ("POST", {"Origin": "http://127.0.0.1:9999"}, True),
        ("POST", {"Origin": "null"}, True),
        ("POST", {"Origin": ""}, True),
        ("POST", {"Origin": "file://"}, True),
        ("POST", {"Origin": "https://127.0.0.1:8888"}, True),
        ("POST", {"Origin": "http://localhost:8888"}, True),
        ("POST", {"Origin": "http://127.0.0.1:8888.evil.example"}, True),
        ("GET", {"Sec-Fetch-Site": "none"}, False),
        ("GET", fetch("same-origin", "no-cors", "image"), False),
        ("GET", fetch("cross-site", "navigate", "document"), False),  # but see is_led_here
        ("POST", fetch("cross-site", "navigate", "document"), True),
        ("GET", fetch("cross-site", "navigate", "iframe"), True),
        ("GET", fetch("same-site", "no-cors", "image"), True),
    ],
)
def test_a_request_of_another_page_is_seen(method, headers, foreign):
    assert is_foreign(request(method, headers)) is foreign


@pytest.mark.parametrize(
    ("method", "headers", "led"),
    [
        ("GET", {}, False),
        ("GET", {"Sec-Fetch-Site": "none"}, False),
        ("GET", fetch("same-origin", "navigate", "document"), False),
        ("GET", fetch("cross-site", "navigate", "document"), True),
        ("GET", fetch("same-site", "navigate", "document"), True),
    ],
)
def test_who_is_led_here_by_another_page_is_seen(method, headers, led):
    assert is_led_here(request(method, headers)) is led
