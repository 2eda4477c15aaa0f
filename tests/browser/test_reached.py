"""The workbench reaches everybody: axe-core's rules, names of numbers, one live region, tabs with panels.

And it explains itself: every number and plot has its ?.
"""

import re
from pathlib import Path

import axe_playwright_python
import pytest
from notebook_page import THEMES, expect_measured
from playwright.sync_api import expect
from tabs import CUT, CUT_SIDEWAYS, PATIENCE, set_width, settle, to_budget

from workbench.course.glossary import glossary, term
from workbench.page.writing import TERMS
from workbench.widgets.constants import TERM_OF

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
# What hinders people, of the rules that axe itself calls so; each with the elements, and what is wrong there.
FINDINGS = """async () => {
  const { violations } = await axe.run('.wbw-root', { resultTypes: ['violations'] });
  return violations.filter(one => ['serious', 'critical'].includes(one.impact)).flatMap(one => one.nodes.map(
    node => `${one.id}: ${node.html.slice(0, 160)} ${node.failureSummary}`));
}"""
TABS = ("layer", "budget", "compare", "tune", "theory", "network")

# Of every text that is drawn in a plot or stands in a step that is undone: its colour, and what is behind it.
TEXTS = """() => {
  const clear = (colour) => /rgba\\(.*, 0\\)/.test(colour) || colour === 'transparent';
  const behind = (node) => {
    for (let one = node; one; one = one.parentElement) {
      const back = getComputedStyle(one).backgroundColor;
      if (!clear(back)) return back;
    }
    return 'rgb(255, 255, 255)';
  };
  const undone = '.wbw-undone .wbw-name, .wbw-undone .wbw-cell';
  return [...document.querySelectorAll(`.wbw-root svg text, ${undone}`)]
    .filter(node => node.checkVisibility() && node.textContent.trim()
      && !node.matches('.wbw-grip-text, .wbw-on-kept'))
    .map(node => [getComputedStyle(node)[node.closest('svg') ? 'fill' : 'color'], behind(node),
      Number(getComputedStyle(node).opacity), node.textContent]);
}"""
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
SHOWN = "all => all.filter(node => [node, ...node.children].some(one => one.checkVisibility())).length"
LIVE = "[aria-live]:not([aria-live=off]), [role=status], [role=alert], [role=log], [role=timer], output"
# Counts what the live region says from now on.
HEAR = """() => {
  const region = document.querySelector('[data-testid=live]');
  window.heard = [];
  new MutationObserver(() => region.textContent && window.heard.push(region.textContent))
    .observe(region, { childList: true, characterData: true, subtree: true });
}"""
UPWARDS = """(node, times) => {
  const press = { key: 'ArrowUp', bubbles: true, cancelable: true };
  for (let i = 0; i < times; i++) node.dispatchEvent(new KeyboardEvent('keydown', press));
}"""


@pytest.fixture(scope="module")
def bench(workbench_page):
    """Every tab with something on it, and a step that is undone."""
    expect_measured(workbench_page.page)
    bench = to_budget(workbench_page)
    bench.page.evaluate(AXE)
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
    settle(bench)
    bench.find("undo").click()
    settle(bench)
    bench.find("tab-theory").click()
    expect(bench.find("theory-row").first).to_be_visible(timeout=PATIENCE)
    bench.find("tab-layer").click()
    bench.find("layer-fc1").click()
    settle(bench)
    return bench


def contrast(one, other):
    """WCAG's ratio of two CSS colours, rgb(…) each."""

    def luminance(colour):
        channels = [float(part) / 255 for part in re.findall(r"[\d.]+", colour)[:3]]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def faint(bench):
    """Texts that less than 4.5 to 1 tells from what is behind them."""
    found = bench.page.evaluate(TEXTS)
    assert len(found) > 10
    return [one for one in found if one[2] < 1 or contrast(one[0], one[1]) < 4.5]


@pytest.mark.parametrize("theme", ["Light", "Dark"])
def test_axe_finds_nothing_that_hinders_on_any_tab_and_card(bench, theme):
    bench.theme(f"JupyterLab {theme}")
    for tab in TABS:
        bench.find(f"tab-{tab}").click()
        settle(bench)
        expect(bench.page.locator(".wbw-lag:visible")).to_have_count(0, timeout=PATIENCE)
        assert bench.page.evaluate(FINDINGS) == [], tab
        assert faint(bench) == [], tab
    bench.find("tab-layer").click()
    for card in ("load", "export"):
        bench.find(card).click()
        expect(bench.find(f"{card}-card")).to_be_visible()
        assert bench.page.evaluate(FINDINGS) == [], card
        bench.page.keyboard.press("Escape")
    bench.find("history-flips-2").click()
    expect(bench.find("flips-gallery")).to_be_visible(timeout=PATIENCE)
    settle(bench)
    assert bench.page.evaluate(FINDINGS) == []
    bench.page.keyboard.press("Escape")
    bench.theme("JupyterLab Light")


def test_axe_is_at_work_here(bench):
    """What it must find, it finds."""
    bench.page.evaluate(
        "() => document.querySelector('.wbw-root').insertAdjacentHTML('beforeend', "
        '\'<button id="nameless" style="width:9px;height:9px"></button>\')'
    )
    assert any("button-name" in one for one in bench.page.evaluate(FINDINGS))
    bench.page.evaluate("() => document.getElementById('nameless').remove()")


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


@pytest.mark.parametrize("theme", THEMES)
def test_nothing_is_cut_by_the_questions(bench, theme):
    bench.theme(theme)
    try:
        for size, cut in ((1280, 800), CUT), ((700, 1200), CUT_SIDEWAYS):
            bench.page.set_viewport_size(dict(zip(("width", "height"), size, strict=True)))
            for tab in TABS[1:-1]:  # a picture scrolls
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


def called(bench, role="group"):
    """The names of all nodes of a role as Chromium tells them to a screen reader; a thin space is a space."""
    reader = bench.page.context.new_cdp_session(bench.page)
    nodes = reader.send("Accessibility.getFullAXTree")["nodes"]
    reader.detach()
    groups = [node for node in nodes if node.get("role", {}).get("value") == role]
    return [str(node.get("name", {}).get("value", "")).replace("\u202f", " ") for node in groups]


def test_numbers_are_called_by_what_they_are_with_value_and_unit(bench):
    bench.find("tab-layer").click()
    settle(bench)
    names = called(bench)
    for testid, caption, unit in (
        ("N", "N(λ)", " units"), ("N-share", "N(λ) / m", ""), ("width", "width from N(λ)", " units"),
        ("input-loss", "input loss", ""), ("output-loss", "output loss", ""),
        ("params-saved", "param. saved", " numbers"), ("macs-saved", "MACs saved", " an example"),
    ):  # fmt: skip
        said = bench.find(f"readout-{testid}").inner_text().replace("\u202f", " ")
        assert unit or said.endswith("%")
        assert names.count(f"{caption} {said}{unit}") == 1, names

    def count(pattern):
        return len([name for name in names if re.fullmatch(pattern, name)])

    for meter in ("parameters", "MACs", "accuracy"):
        assert count(rf"{meter}: \S+( .)? in the original, \S+( .)? now, .*") == 1, names
    assert count(r"accuracy 0\.\d{4}") >= 3  # a step each
    bench.find("tab-budget").click()
    settle(bench)
    names = called(bench)
    for column in (r"N\(λ\) [\d.]+", r"param\. [\d.]+ %", r"MACs [\d.]+ %", r"output loss [<\d. ]+%"):
        assert count(column) == 4, names
    assert count(r"parameters \S+ k → \S+ k [\d.]+ %") == 1
    bench.find("tab-theory").click()
    settle(bench)
    names = called(bench)
    assert count(r"dimension N\(λ\) the theory says [\d.]+ of 128 units") == 1, names
    assert count(r"kept \d+ / \d+") == 4
    bench.find("tab-compare").click()
    settle(bench)
    names = called(bench, "button")
    assert count(r"\w+ at \d+ units?: .*\d.*; set this width in the Budget") == bench.find("heat").count() > 8


def test_every_tab_has_its_panel_and_the_panel_its_tab(bench):
    for tab in TABS:
        button = bench.find(f"tab-{tab}")
        button.click()
        panel = bench.page.locator(f"[id='{button.get_attribute('aria-controls')}']")
        expect(panel).to_have_role("tabpanel")
        expect(panel).to_have_accessible_name(button.inner_text())
        assert bench.page.locator(".wbw-root [role=tabpanel]").evaluate_all(SHOWN) == 1
    bench.find("tab-layer").click()
    panel = bench.page.get_by_role("tabpanel", name="Layer")
    expect(panel.get_by_role("listbox")).to_be_visible()
    expect(panel.get_by_test_id("commit")).to_be_visible()


def test_the_way_back_says_to_which_step(bench):
    way = bench.find("history-back-0")
    expect(way).to_have_accessible_name("back to here: step 0, original")
    expect(way).to_have_text("back to here")
    expect(bench.find("history-back-3")).to_have_accessible_name(
        re.compile("^forward to here: step 3, fine-tuned")
    )


def test_there_is_one_live_region_and_it_says_the_last_word_once(bench):
    assert bench.page.locator(".wbw-root").locator(LIVE).count() == 1
    bench.find("tab-layer").click()
    settle(bench)
    bench.page.wait_for_timeout(900)
    bench.page.evaluate(HEAR)
    bench.find("lam-line").evaluate(UPWARDS, 6)  # without a rest between, however busy the machine
    bench.page.wait_for_function("() => window.heard.length")
    bench.page.wait_for_timeout(900)
    expect(bench.find("live")).to_contain_text("fc1: N(λ)")
    freedom, width = bench.find("readout-N").inner_text(), bench.find("width-input").input_value()
    assert len(heard := bench.page.evaluate("() => window.heard")) == 1, heard
    assert heard[0].startswith(f"fc1: N(λ) {freedom}, width {width} of 128")
    bench.find("try").click()
    expect(bench.find("live")).to_contain_text(bench.find("score-try").inner_text() or "nothing kept")
    bench.kernel(
        "setattr(Out[1].state, 'error', 'no such thing') or setattr(Out[1].state, 'error_at', 'choice')"
    )
    expect(bench.find("live")).to_contain_text("Error: no such thing")
    bench.kernel("setattr(Out[1].state, 'error', '')")
