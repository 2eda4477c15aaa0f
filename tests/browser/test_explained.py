"""Every number and plot of the workbench has its ?, and the tour shows a first visitor the way."""

import re
from pathlib import Path

import pytest
from chromium import FLAGS
from notebook_page import expect_measured, watch
from playwright.sync_api import expect
from tabs import CUT, CUT_SIDEWAYS, PATIENCE, set_width, settle, to_budget

from workbench.course.glossary import glossary, term
from workbench.page.writing import TERMS
from workbench.widgets.constants import TERM_OF

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
# Every number and plot in sight without a ? in its read-out, its row, the head of its column, or its heading.
UNEXPLAINED = """() => {
  const root = document.querySelector('.wbw-root');
  const seen = (names) => [...root.querySelectorAll(names)].filter(node => node.checkVisibility());
  const marks = (node) => [...(node?.querySelectorAll('.wbw-question') ?? [])];
  const asks = (node) => marks(node).some(mark => mark.checkVisibility());
  const around = ['readout', 'moved', 'meter', 'total', 'asking', 'row', 'claim', 'theory-head', 'half',
    'swept', 'history-plot', 'frontier', 'compared', 'beside-title', 'tune-plots', 'spectrum']
    .map(name => `.wbw-${name}`).concat('div:has(> .wbw-row > .wbw-asked)').join();
  const headsOf = (node) => (node.getAttribute('aria-labelledby') ?? '').split(' ').filter(Boolean)
    .map(id => document.querySelector(`[id='${id}']`)).filter(head => head && head !== node);
  const explained = (node) => {
    for (let one = node.closest(around); one; one = one.parentElement.closest(around)) {
      if (asks(one)) return true;
    }
    if (asks(node.closest('.wbw-plot')?.previousElementSibling)) return true; // its title
    return headsOf(node).some(head => asks(head.parentElement));
  };
  const told = (cell) => /\\d/.test(cell.textContent) && !cell.closest('.wbw-steps-head');
  const numbers = [...seen('.wbw-number, .wbw-meter-value, .wbw-heat, .wbw-set, svg.wbw-svg'),
    ...seen('input[type=range], input[type=number]').filter(node => !node.closest('.wbw-budget-row')),
    ...seen('.wbw-cell').filter(told)];
  return numbers.filter(node => !explained(node)).map(node => node.outerHTML.slice(0, 160));
}"""
ASKED = "marks => marks.filter(mark => mark.checkVisibility()).map(mark => mark.dataset.term)"
TABS = ("layer", "budget", "compare", "tune", "theory")
STOPS = (
    ("Load", "model-select"), ("The spectrum", "spectrum-plot"), ("λ", "lam-line"),
    ("The width", "width-input"), ("Commit", "commit"), ("Undo", "undo"),
)  # fmt: skip


@pytest.fixture(scope="module")
def bench(workbench_page):
    """Every tab with something on it."""
    expect_measured(workbench_page.page)
    bench = to_budget(workbench_page)
    for name, width in (("conv1", 13), ("conv2", 23)):
        set_width(bench, name, width)
    for deed in ("measure-damage", "try-all"):
        bench.find(deed).click()
        settle(bench)
    bench.find("tab-compare").click()
    for deed in ("compare", "sweep"):
        bench.find(deed).click()
        settle(bench)
    bench.find("tab-budget").click()
    bench.find("commit-all").click()
    expect(bench.find("undo")).to_be_enabled(timeout=PATIENCE)
    settle(bench)
    bench.find("tab-tune").click()
    bench.find("tune-unit").select_option("steps")
    bench.find("tune-amount").fill("12")
    bench.find("tune-start").click()
    expect(bench.find("tune-how")).to_contain_text("done", timeout=PATIENCE)
    bench.find("tab-theory").click()
    expect(bench.find("theory-row").first).to_be_visible(timeout=PATIENCE)
    settle(bench)
    return bench


def test_every_number_and_plot_has_its_question_and_no_term_is_left_over(bench):
    marks = bench.page.locator(".wbw-root .wbw-question")
    asked = set()
    for tab in TABS:
        bench.find(f"tab-{tab}").click()
        settle(bench)
        if tab == "layer":
            bench.find("layer-fc1").click()
            bench.find("try").click()
            settle(bench)
        assert bench.page.evaluate(UNEXPLAINED) == [], tab
        asked |= set(marks.evaluate_all(ASKED))
    bench.find("tab-compare").click()
    for kind in ("changes", "divergences", "losses"):
        bench.find("heat-kind").select_option(kind)
        asked |= set(marks.evaluate_all(ASKED))
    bench.find("tab-budget").click()
    for unit in ("ms", "mb", "parameters", "macs"):
        bench.find("goal-unit").select_option(unit)
        settle(bench)
        asked |= set(marks.evaluate_all(ASKED))
    bench.find("history-flips-2").click()
    expect(bench.find("flips-gallery")).to_be_visible(timeout=PATIENCE)
    settle(bench)
    asked |= set(marks.evaluate_all(ASKED))
    bench.page.keyboard.press("Escape")
    assert asked <= set(glossary())
    lessons = [path.read_text(encoding="utf-8") for path in NOTEBOOKS.glob("course/*.ipynb")]
    calls = [call for text in lessons for call in re.findall(r"\bwords\((.*?)\)", text)]
    taught = {term(word).name for call in calls for word in re.findall(r'\\"(.*?)\\"', call)}
    assert len(taught) > 20
    stale = {"stale"}  # shown by a group that is, which test_workbench.py makes
    assert set(glossary()) - asked - taught - set(TERMS) - set(TERM_OF.values()) - stale == set()


@pytest.mark.parametrize("theme", ["Light", "Dark"])
def test_nothing_is_cut_by_the_questions(bench, theme):
    bench.theme(f"JupyterLab {theme}")
    try:
        for size, cut in ((1280, 800), CUT), ((700, 1200), CUT_SIDEWAYS):
            bench.page.set_viewport_size(dict(zip(("width", "height"), size, strict=True)))
            for tab in TABS[1:]:
                bench.find(f"tab-{tab}").click()
                settle(bench)
                assert bench.page.evaluate(cut) == [], (tab, size)
    finally:
        bench.page.set_viewport_size({"width": 1280, "height": 800})
        bench.theme("JupyterLab Light")


def test_what_is_asked_is_told_in_place_and_another_term_with_the_choice(bench):
    bench.find("tab-layer").click()
    words = glossary()
    shown = bench.page.locator("[data-testid=explanation]:popover-open")
    mark = bench.page.locator(".wbw-choice .wbw-asking-menu .wbw-question").first
    for selection, name in (("apoz", "APoZ"), ("random", "random"), ("greedy", "greedy")):
        bench.find("selection").select_option(selection)
        settle(bench)
        mark.click()
        for part in (words[name].what, words[name].formula, words[name].good):
            expect(shown).to_contain_text(part)
        bench.page.keyboard.press("Escape")
    heading = bench.page.locator(".wbw-half h4").first
    before = heading.inner_text()
    heading.locator(".wbw-question").click()
    expect(shown).to_contain_text(words["degrees of freedom"].what)
    bench.page.keyboard.press("Escape")
    assert heading.inner_text() == before  # nothing is left of it


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
    page = watch(context.new_page())
    page.goto(app.url)
    if forgetful:  # the server's own pages need their cookie
        page.add_init_script(f"({FORGETFUL})()")
        page.reload()
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
    page.reload()
    expect_measured(page)
    expect(find("tour-offer")).to_be_hidden()
    find("tour").click()  # again when it is wanted, from any tab
    expect(find("tour-card")).to_be_visible()
    page.keyboard.press("Escape")
    expect(find("tour-card")).to_be_hidden()
    expect(find("tour")).to_be_focused()
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
