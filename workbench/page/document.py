"""The HTML around a page's values: style, script and data in one file that asks for nothing."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from typing import Any

from workbench.widgets.modules import FRONT, joined

# Nothing can be fetched, whatever a name or a number in the page may hold.
POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:"
STYLES = ("workbench.css", "still.css")


def document(title: str, values: Mapping[str, Any], module: str, show: str) -> str:
    """A whole HTML page.

    Args:
        title: of the browser's tab.
        values: what the page holds, ready for JSON.
        module: the file of front/ that draws it.
        show: the function of `module` that is called with the values and the page's root element.

    Returns:
        Its text. It has no address in it, so that it opens from a disk and inside of another page alike.
    """
    style = "\n".join((FRONT / name).read_text(encoding="utf-8") for name in STYLES)
    script = joined(module)
    for what, text in (("script", script), ("style", style)):
        if f"</{what}" in text.lower() or "<!--" in text:
            raise ValueError(f"the {what} of {module} would end before its end: write </ in another way")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<title>{html.escape(title)}</title>
<style>
{style}
</style>
</head>
<body>
<div id="root"></div>
<noscript>This page computes in the browser: it needs JavaScript, and nothing else.</noscript>
<script id="values" type="application/json">{in_script(values)}</script>
<script>
(() => {{
"use strict";
{script}
{show}(JSON.parse(document.getElementById("values").textContent), document.getElementById("root"));
}})();
</script>
</body>
</html>
"""


def in_script(values: Mapping[str, Any]) -> str:
    """JSON that no text in it can end early: < and > are written as \\u003c and \\u003e."""
    text = json.dumps(values, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
