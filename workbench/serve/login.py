"""The login page: the one address that answers without the token, and so it needs no other file."""

from __future__ import annotations

from string import Template
from typing import Any
from urllib.parse import urlencode

from jupyter_server.auth.login import LoginFormHandler
from tornado.escape import xhtml_escape

POLICY = "; ".join(
    (
        "default-src 'none'",
        "style-src 'unsafe-inline'",
        "img-src data:",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
)

PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Workbench</title>
<link rel="icon" href="data:,">
<style>
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif;
  --line: #8a8a8a; --accent: #0b5cad; --on-accent: #fff; --wrong: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --accent: #7db8f0; --on-accent: #10202f; --wrong: #ff9d94; } }
main { max-width: 30rem; margin: 16vh auto 0; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin: 0 0 .5rem; }
label { display: block; margin: 1.5rem 0 .25rem; font-weight: 600; }
.row { display: flex; gap: .5rem; }
input[type=password] { flex: 1; min-width: 0; font: inherit; padding: .5rem .75rem;
  border: 1px solid var(--line); border-radius: 6px; }
button { font: inherit; font-weight: 600; padding: .5rem 1.25rem; border: 0; border-radius: 6px;
  color: var(--on-accent); background: var(--accent); cursor: pointer; }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
.wrong { color: var(--wrong); margin: .75rem 0 0; }
</style>
</head>
<body>
<main>
<h1>Workbench</h1>
<p>Open the address that <code>workbench</code> printed in its terminal. It ends with this run's token,
which can also be typed here.</p>
<form method="post" action="$action">
$mark
<label for="token">Token</label>
<div class="row">
<input type="password" id="token" name="password" required autofocus autocomplete="off"
 aria-describedby="wrong">
<button type="submit">Open</button>
</div>
<p class="wrong" id="wrong" role="alert">$message</p>
</form>
</main>
</body>
</html>
""")

WRONG = "That is not the token of this run. A server that is started again has a new one."


class LoginPage(LoginFormHandler):
    """Asks for the token; who brings it in the address or by a cookie is led on."""

    @property
    def content_security_policy(self) -> str:
        """The page loads nothing, runs nothing and is shown in no frame."""
        return POLICY

    def _render(self, message: dict[str, str] | None = None) -> None:
        query = urlencode({"next": self.get_argument("next", default=self.base_url)})
        fields: dict[str, Any] = {
            "action": xhtml_escape(f"{self.settings['login_url']}?{query}"),
            "mark": self.xsrf_form_html(),
            "message": xhtml_escape(WRONG) if message else "",
        }
        self.finish(PAGE.substitute(fields))
