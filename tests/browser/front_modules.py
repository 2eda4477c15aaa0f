"""The page's modules, run as they are: a page that serves the files of front/, and calls into them."""

import json
from collections.abc import Sequence
from typing import Any

from notebook_page import watch
from playwright.sync_api import BrowserContext, Page, Route

from workbench.widgets.modules import CONSTANTS, FRONT, source

ADDRESS = "http://127.0.0.1/front/"
FILES = sorted([*(path.name for path in FRONT.glob("*.js")), CONSTANTS])


def modules_page(context: BrowserContext) -> Page:
    """A page at ADDRESS where every file of front/ is served as it is; nothing else is answered."""
    page = watch(context.new_page())

    def answer(route: Route) -> None:
        file = route.request.url.removeprefix(ADDRESS)
        if file in FILES:
            route.fulfill(body=source(file), content_type="text/javascript")
        else:
            route.fulfill(body="<!doctype html><title>modules</title>", content_type="text/html")

    page.route("http://127.0.0.1/**", answer)
    page.goto(ADDRESS)
    return page


def run(page: Page, file: str, body: str, cases: Sequence[Any]) -> Any:
    """What `body`, with the names of the module `file` under `m`, returns for every case."""
    script = (
        "async ([file, cases]) => { const m = await import(file); return JSON.parse(cases).map((one) => {"
        + body
        + "}); }"
    )
    return page.evaluate(script, [ADDRESS + file, json.dumps(cases)])
