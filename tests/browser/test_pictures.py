"""In a real browser, a stranger's picture reads no mark and starts no kernel, nor does a page elsewhere."""

import http.server
import json
import threading
from urllib.parse import quote
from urllib.request import Request, urlopen

import pytest

# What a script in the page's origin could do; each way writes down how it went in the page's title.
ATTACK = """
const said = {ran: true};
try { said.mark = document.cookie.match(/_xsrf=([^;]+)/)[1] } catch (error) { said.mark = '' }
const mark = said.mark || new URLSearchParams(location.search).get('_xsrf') || '';
const ways = [{}, {'X-XSRFToken': mark}].flatMap(headers => ['cors', 'no-cors'].map(mode =>
  fetch('ORIGIN/api/kernels?_xsrf=' + mark,
        {method: 'POST', body: '{}', credentials: 'include', mode, headers})
    .then(answer => answer.status, () => 0)));
const socket = new Promise(resolve => {
  const opened = new WebSocket('ORIGIN'.replace('http', 'ws') + '/api/events/subscribe');
  opened.onopen = () => resolve(true); opened.onerror = () => resolve(false);
});
Promise.all([socket, ...ways]).then(([open, ...statuses]) => {
  Object.assign(said, {open, statuses});
  document.title = JSON.stringify(said);
});
"""
KINDS = {
    "svg": '<svg xmlns="http://www.w3.org/2000/svg"><title/><script><![CDATA[{}]]></script></svg>',
    "xhtml": '<html xmlns="http://www.w3.org/1999/xhtml"><head><title/>'
    "<script><![CDATA[{}]]></script></head></html>",
    "html": "<title></title><script>{}</script>",
}

EMPTY = "/lab/workspaces/pictures"
FILES = [name for kind in KINDS for name in (f"attack.{kind}", f"Attack.{kind.upper()}")]


def kernels(server):
    """The names of the lab's kernels, by its own list of them."""
    request = Request(f"{server.origin}/api/kernels", headers={"Authorization": f"token {server.token}"})
    with urlopen(request, timeout=30) as answer:
        return {one["id"] for one in json.load(answer)}


@pytest.fixture(scope="module")
def attacked(lab, app):
    for server in (lab, app):
        for name in FILES:
            text = KINDS[name.lower().partition(".")[2]]
            (server.notebooks / name).write_text(text.format(ATTACK.replace("ORIGIN", server.origin)))


@pytest.fixture(scope="module")
def lab_page(context, lab, attacked):
    """JupyterLab, open and let in, without a notebook and so without a kernel."""
    page = context.new_page()
    page.goto(f"{lab.origin}{EMPTY}?token={lab.token}")
    page.wait_for_function("document.cookie.includes('_xsrf=')")
    yield page
    page.close()


@pytest.mark.parametrize("name", FILES)
def test_a_file_opened_in_the_lab_starts_no_kernel(lab_page, lab, name):
    before = kernels(lab)
    own = lab_page.evaluate("document.cookie.match(/_xsrf=([^;]+)/)[1]")
    for query in ("", f"?_xsrf={quote(own)}", f"?token={lab.token}"):
        with lab_page.expect_popup() as opening:
            lab_page.evaluate("address => { window.open(address) }", f"/files/{name}{query}")
        opened = opening.value
        opened.wait_for_load_state()
        if name.lower().endswith(".html") and "token" not in query:
            # A page with its own scripts stays one, but of no origin.
            opened.wait_for_function("document.title")
            said = json.loads(opened.title())
            assert (said["mark"], said["open"], {*said["statuses"]} <= {0, 403}) == ("", False, True)
        else:
            assert opened.evaluate("typeof said") == "undefined"
            assert name.lower()[-4:] in opened.evaluate(
                "document.contentType + location.pathname.toLowerCase()"
            )
        opened.close()
    assert kernels(lab) <= before


@pytest.mark.parametrize("kind", KINDS)
def test_the_app_gives_no_file(page, app, attacked, kind):
    for root in ("", "voila/files/", "files/", "static/", "voila/static/"):
        answer = page.goto(f"{app.origin}/{root}attack.{kind}?token={app.token}")
        assert answer.status in {403, 404}
        assert page.title() == "" or "ran" not in page.title()


class Elsewhere(http.server.BaseHTTPRequestHandler):
    """A page of another origin on this machine, which tries the same and then leads to the server."""

    def do_GET(self):
        text = KINDS["html"].format(self.server.attack).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture
def elsewhere(lab):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere)
    server.attack = ATTACK.replace("ORIGIN", lab.origin)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://localhost:{server.server_port}/"
    server.shutdown()
    server.server_close()


def test_a_page_elsewhere_starts_no_kernel_and_leads_nowhere(page, lab, lab_page, elsewhere):
    before = kernels(lab)
    page.goto(elsewhere)
    page.wait_for_function("document.title")
    said = json.loads(page.title())
    assert (said["mark"], said["open"]) == ("", False)
    assert {*said["statuses"]} <= {0, 403}
    with page.expect_navigation():
        page.evaluate("address => { location = address }", f"{lab.origin}/lab?fromURL={elsewhere}")
    assert "open the address that `workbench` printed" in page.inner_text("body")
    assert kernels(lab) <= before


def test_what_was_opened_by_a_file_can_be_loaded_again(page, lab, tmp_path):
    """The browser opens the address through a file, and then the page hides the token."""
    led = tmp_path / "redirect.html"
    led.write_text(f'<meta http-equiv="refresh" content="0;url={lab.origin}{EMPTY}?token={lab.token}">')
    page.goto(led.as_uri())
    page.wait_for_url(f"{lab.origin}/lab/**")
    page.wait_for_selector("#jp-main-dock-panel")
    page.wait_for_function("!location.search.includes('token')")
    assert page.reload().status == 200
    page.wait_for_selector("#jp-main-dock-panel")
