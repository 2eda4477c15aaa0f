"""The tour shows a first visitor the way, once, and never again unasked."""

import pytest
from chromium import FLAGS
from notebook_page import expect_measured, watch
from playwright.sync_api import expect

STOPS = (
    ("Load", "model-select"), ("The spectrum", "spectrum-plot"), ("λ", "lam-line"),
    ("The width", "width-input"), ("Commit", "commit"), ("Undo", "undo"),
)  # fmt: skip

# The first page of a person without a past; `broken`: its browser lets no page remember anything.
FORGETFUL = """() => {
  const refuse = () => { throw new DOMException('denied', 'SecurityError') };
  Object.defineProperty(window, 'localStorage', { get: refuse });
  Object.defineProperty(document, 'cookie', { get: refuse, set: refuse });
}"""
# Buttons of the header that its edge cuts.
OUTSIDE_THE_HEADER = """() => {
  const edge = document.querySelector('.wbw-header').getBoundingClientRect();
  return [...document.querySelectorAll('.wbw-header button')].filter(one => one.checkVisibility())
    .filter(one => one.getBoundingClientRect().right > edge.right).map(one => one.textContent);
}"""


def visit(chromium, app, forgetful=False, **size):
    """A browser without a past, at the app's page, measured: its page; the caller closes its context."""
    context = chromium.new_context(viewport={"width": 1280, "height": 800, **size})
    context.request.get(app.url)  # the server's own pages need its cookie
    page = watch(context.new_page())
    if forgetful:
        page.add_init_script(f"({FORGETFUL})()")
    page.goto(app.url)
    expect_measured(page)
    return page


@pytest.fixture(scope="module")
def chromium(playwright, chromium_path):
    browser = playwright.chromium.launch(executable_path=chromium_path, args=list(FLAGS))
    yield browser
    browser.close()


def test_a_first_visit_offers_a_tour_that_keys_alone_can_take(chromium, app):
    page = visit(chromium, app)
    find = page.get_by_test_id
    expect(find("tour-offer")).to_be_visible()
    for width in (700, 1000, 1280, 1600, 1920):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate(OUTSIDE_THE_HEADER) == []
    page.set_viewport_size({"width": 1280, "height": 800})
    expect(find("tour-card")).to_be_hidden()
    find("tour-take").focus()
    for number, (title, target) in enumerate(STOPS, 1):
        page.keyboard.press("Enter")
        card = page.get_by_role("dialog", name=f"tour, step {number} of 6: {title}")
        expect(card).to_be_visible()
        expect(find("tour-next")).to_be_focused()
        ring, shown = page.locator(".wbw-tour-ring").bounding_box(), find(target).bounding_box()
        assert abs(ring["x"] + ring["width"] / 2 - shown["x"] - shown["width"] / 2) < 0.75 * shown["width"]
        assert ring["y"] - 1 <= shown["y"] + shown["height"] / 2 <= ring["y"] + ring["height"] + 1
        box = card.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 1280
        assert box["y"] + box["height"] <= 800
        if title == "λ":  # the work goes on meanwhile
            before = find("readout-N").inner_text()
            find("lam-line").focus()
            page.keyboard.press("ArrowUp")
            expect(find("readout-N")).not_to_have_text(before)
            find("tour-next").focus()
    page.keyboard.press("Enter")
    expect(find("tour-card")).to_be_hidden()
    expect(find("tour")).to_be_focused()
    find("tour").click()  # again when it is wanted, from any tab
    expect(find("tour-card")).to_be_visible()
    page.keyboard.press("Escape")
    expect(find("tour-card")).to_be_hidden()
    expect(find("tour")).to_be_focused()
    assert page.evaluate("() => localStorage.length") > 0
    page.evaluate("() => localStorage.clear()")  # as at the next port, where a server begins anew
    page.reload()
    expect_measured(page)
    expect(find("tour-offer")).to_be_hidden()
    assert page.errors == []
    page.context.close()


def test_the_tour_is_refused_for_good_and_works_where_nothing_is_remembered(chromium, app):
    page = visit(chromium, app, forgetful=True, width=700)
    find = page.get_by_test_id
    find("tour-leave").click()
    expect(find("tour-offer")).to_be_hidden()
    find("tour").click()
    for _ in range(3):
        find("tour-next").click()
    box = find("tour-card").bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 700
    find("tour-back").click()
    expect(find("tour-card")).to_contain_text("3 of 6")
    find("tour-end").click()
    expect(find("tour-card")).to_be_hidden()
    assert page.errors == []
    page.context.close()
