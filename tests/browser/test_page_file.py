"""A page opened from disk, without a network and a kernel: it computes what Python does, and nothing else."""

import json

import nbformat
import pytest
from chromium import FLAGS
from nbconvert import HTMLExporter
from notebook_page import watch
from painting import PAINTED
from playwright.sync_api import expect

from workbench.course.glossary import glossary
from workbench.page.figure import Figure
from workbench.page.writing import page_text, write_page
from workbench.session.session import Session
from workbench.spectral.bounds import guaranteed_width, suggested_width

HOSTILE = "</script><img src=x onerror=\"document.title='owned'\"><!--"
MOVES = 90
READABLE = 16  # px, 12 pt

WATCH = f"""() => {{{PAINTED}
  const surface = document.querySelector('[data-testid=spectrum-plot] .wbw-surface');
  const readout = document.querySelector('[data-testid=readout-N]');
  window.seen = {{ moves: 0, late: 0, frames: 0 }};
  const count = () => (window.seen.frames++, requestAnimationFrame(count));
  requestAnimationFrame(count);
  surface.addEventListener('pointermove', async () => {{
    const before = readout.dataset.value;
    window.seen.moves++;
    await painted();
    if (readout.dataset.value === before) window.seen.late++;
  }}, {{ capture: true }});
}}"""

# Every text in sight with the size it is drawn at: an svg's own scale counts.
SIZES = """() => {
  const found = [];
  for (const node of document.querySelectorAll('#root *')) {
    const own = [...node.childNodes].some((one) => one.nodeType === 3 && one.textContent.trim());
    if (!own || !node.checkVisibility()) continue;
    const svg = node.ownerSVGElement;
    const larger = svg ? svg.getBoundingClientRect().width / svg.viewBox.baseVal.width : 1;
    found.push([parseFloat(getComputedStyle(node).fontSize) * larger, node.textContent]);
  }
  return found;
}"""


@pytest.fixture(scope="module")
def session():
    session = Session.example("digits-cnn")
    session.measure()
    return session


@pytest.fixture(scope="module")
def file(session, tmp_path_factory):
    return write_page(session, tmp_path_factory.mktemp("page") / "digits.html")


@pytest.fixture(scope="module")
def offline(playwright, chromium_path, tmp_path_factory):
    """A browser that reaches no network."""
    browser = playwright.chromium.launch_persistent_context(
        tmp_path_factory.mktemp("offline"),
        executable_path=chromium_path,
        args=list(FLAGS),
        viewport={"width": 1280, "height": 800},
        offline=True,
        color_scheme="null",  # the browser's own way, in frames too
    )
    yield browser
    browser.close()


@pytest.fixture
def opened(offline, file):
    page = watch(offline.new_page())
    page.asked = []
    page.on("request", lambda request: page.asked.append(request.url))
    page.goto(file.as_uri())
    expect(page.get_by_test_id("readout-N")).not_to_have_attribute("data-value", "")
    yield page
    assert page.errors == []
    page.close()


def value(page, testid):
    return page.get_by_test_id(testid).get_attribute("data-value")


def drag_to(page, part):
    """The λ line, to so far down the plot."""
    box = page.locator(".wbw-surface").first.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 3, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 3, box["y"] + box["height"] * part, steps=4)
    page.mouse.up()
    page.evaluate(f"async () => {{{PAINTED} await painted(); }}")


def expect_widths(page, session, widths):
    """In the table, which is painted once it is in sight, and in the totals, which Python has too."""
    page.get_by_test_id("budget-width-conv1").scroll_into_view_if_needed()
    for name, width in widths.items():
        expect(page.get_by_test_id(f"budget-width-{name}")).to_have_value(str(width))
    parameters, macs = session.cost_model.total(widths)
    expect(page.get_by_test_id("total-parameters")).to_have_attribute("data-value", str(parameters))
    expect(page.get_by_test_id("total-macs")).to_have_attribute("data-value", str(macs))
    page.evaluate("() => scrollTo(0, 0)")


def widths_at(session, relative):
    spectra = {one.name: session.spectrum(one.name) for one in session.groups if one.prunable}
    return {
        name: suggested_width(s.degrees_of_freedom(relative * s.trace), s.width)
        for name, s in spectra.items()
    }


def lam_of(page):
    return float(page.get_by_test_id("lam-line").get_attribute("aria-valuenow"))


def choose(page, session, name):
    names = [group.name for group in session.groups]
    page.get_by_test_id("layers").get_by_role("option").nth(names.index(name)).click()


def test_lam_moves_everything_as_python_has_it(opened, session):
    seen = set()
    for name in ("conv1", "conv3", "fc1"):
        choose(opened, session, name)
        for part in (0.15, 0.5, 0.85):
            drag_to(opened, part)
            relative = lam_of(opened)
            spectrum = session.spectrum(name)
            freedom = spectrum.degrees_of_freedom(relative * spectrum.trace)
            assert float(value(opened, "readout-N")) == pytest.approx(freedom, rel=1e-9)
            assert int(value(opened, "readout-guaranteed")) == guaranteed_width(freedom)
            seen.add(relative)
        expect_widths(opened, session, widths_at(session, relative))
    assert len(seen) == 9


def test_it_opens_with_the_numbers_and_units_of_a_preview(opened, session):
    for name in ("conv1", "conv2", "fc1"):
        choose(opened, session, name)
        choice = session.preview(name, lam=1e-3 * session.spectrum(name).trace)
        expect(opened.get_by_test_id("width-input")).to_have_value(str(choice.width))
        expect(opened.get_by_test_id("units-kept")).to_have_attribute(
            "data-units", " ".join(map(str, choice.kept))
        )
        for testid, number in {
            "input-loss": choice.input_loss,
            "output-loss": choice.output_loss,
            "combined-loss": choice.combined_loss,
            "error": choice.predicted_error,
            "params-saved": choice.parameters_saved,
            "macs-saved": choice.macs_saved,
        }.items():
            assert float(value(opened, f"readout-{testid}")) == pytest.approx(number, rel=1e-5), testid
        expect(opened.get_by_test_id("chosen-at")).to_have_text("")


def test_between_the_computed_lams_it_says_whose_units_they_are(opened):
    drag_to(opened, 0.61)
    expect(opened.get_by_test_id("chosen-at")).to_contain_text("as chosen at λ =")


def test_a_width_by_hand_stands_until_lam_is_followed_again(opened, session):
    entry = opened.get_by_test_id("budget-width-conv2")
    entry.scroll_into_view_if_needed()
    entry.fill("5")
    entry.press("Enter")
    expect(opened.get_by_test_id("follow")).not_to_be_checked()
    widths = widths_at(session, 1e-3) | {"conv2": 5}
    expect_widths(opened, session, widths)
    drag_to(opened, 0.3)
    expect_widths(opened, session, widths)
    opened.get_by_test_id("follow").check()
    expect_widths(opened, session, widths_at(session, lam_of(opened)))


def test_the_width_mark_moves_lam(opened, session):
    width = widths_at(session, 1e-3)["conv1"] - 1
    opened.get_by_test_id("width-line").focus()
    opened.keyboard.press("ArrowLeft")
    expect(opened.get_by_test_id("width-input")).to_have_value(str(width))
    expect(opened.get_by_test_id("lam-line")).not_to_have_attribute("aria-valuenow", "0.001")
    spectrum = session.spectrum("conv1")
    assert lam_of(opened) == pytest.approx(spectrum.lam_for(width) / spectrum.trace, rel=1e-9)


def test_nothing_but_the_file_is_asked_for_and_nothing_could_be(opened, file):
    drag_to(opened, 0.3)
    assert opened.asked == [file.as_uri()]
    refused = opened.evaluate(
        """async () => {
          const seen = [];
          const note = (event) => seen.push(event.effectiveDirective);
          document.addEventListener('securitypolicyviolation', note);
          await fetch('http://127.0.0.1:9/').catch(() => {});
          new Image().src = 'http://127.0.0.1:9/a.png';
          await new Promise((done) => setTimeout(done, 100));
          return seen;
        }"""
    )
    assert set(refused) == {"connect-src", "img-src"}
    opened.errors.clear()  # which say so too


def test_what_needs_a_kernel_is_not_there(opened):
    words = opened.locator("button").all_inner_texts()
    assert not [one for one in words if one in ("Try", "Commit", "Load…", "Export…", "Undo", "Measure")]
    expect(opened.locator("button:disabled, input:disabled")).to_have_count(0)
    expect(opened.locator("footer")).to_contain_text("pip install")


def test_all_that_is_read_is_large_enough(opened):
    small = [one for one in opened.evaluate(SIZES) if one[0] < READABLE]
    assert small == []


def test_the_word_under_each_number_leads_to_its_term_of_the_glossary(opened):
    words = opened.locator(".wbw-still-choice .wbw-still-readout a")
    assert words.count() == opened.locator(".wbw-still-choice .wbw-still-readout").count() == 10
    for index in range(words.count()):
        words.nth(index).click()
        said = opened.locator(".wbw-still-terms div:has(> dt:target)")
        term = glossary()[said.locator("dt").inner_text()]
        assert said.locator("dd").all_inner_texts()[:2] == [term.formula, term.what]


@pytest.mark.parametrize("width", [1280, 1000, 700, 420])
def test_nothing_is_wider_than_the_page(opened, width):
    opened.set_viewport_size({"width": width, "height": 800})
    opened.evaluate(f"async () => {{{PAINTED} await painted(); await painted(); }}")
    assert opened.evaluate("() => document.documentElement.scrollWidth - innerWidth") <= 0


def test_every_move_is_painted_in_its_frame(opened, capsys):
    meter = opened.context.new_cdp_session(opened)
    meter.send("Performance.enable")

    def counters():
        return {one["name"]: one["value"] for one in meter.send("Performance.getMetrics")["metrics"]}

    box = opened.locator(".wbw-surface").first.bounding_box()
    x = box["x"] + box["width"] / 2
    opened.evaluate(WATCH)
    opened.mouse.move(x, box["y"] + 5)
    opened.mouse.down()
    before = counters()
    for i in range(MOVES):
        opened.mouse.move(x, box["y"] + box["height"] * (0.05 + 0.9 * (i * 37 % MOVES) / MOVES))
    after, seen = counters(), opened.evaluate("() => window.seen")
    opened.mouse.up()
    spent = {
        name: 1000 * (after[f"{name}Duration"] - before[f"{name}Duration"]) / seen["moves"]
        for name in ("Script", "RecalcStyle", "Layout", "Task")
    }
    with capsys.disabled():
        print(f"\npage, λ dragged: {seen}; ms a move: {', '.join(f'{k} {v:.1f}' for k, v in spent.items())}")
    assert seen["moves"] >= MOVES * 0.9
    assert seen["late"] <= MOVES * 0.05
    assert after["LayoutCount"] - before["LayoutCount"] <= 2 * seen["frames"] + 5


def test_hostile_names_are_text(offline, session, tmp_path):
    hostile = json.dumps(HOSTILE).replace("<", "\\u003c")
    text = page_text(session).replace('"conv1"', hostile).replace('"digits-cnn"', hostile)
    file = tmp_path / "hostile.html"
    file.write_text(text, encoding="utf-8")
    page = watch(offline.new_page())
    page.on("dialog", lambda dialog: pytest.fail(dialog.message))
    page.goto(file.as_uri())
    expect(page.locator("h1")).to_have_text(HOSTILE)
    expect(page.get_by_test_id("layers").get_by_role("option").first).to_contain_text("onerror")
    assert page.locator("img").count() == 0
    assert page.title() != "owned"
    assert page.errors == []
    page.close()


@pytest.mark.parametrize(("theme", "light"), [("light", "true"), ("dark", "false")])
def test_a_rendered_notebook_moves_and_follows_its_theme(offline, session, tmp_path, theme, light):
    spectra = {HOSTILE: session.spectrum("conv1").eigenvalues, "conv2": session.spectrum("conv2").eigenvalues}
    figures = (
        Figure(session, "conv2", show=("spectrum", "freedom", "losses", "units")),
        Figure(eigenvalues=spectra, show=("spectrum", "freedom")),
    )
    shown = [nbformat.v4.new_output("display_data", data=one._repr_mimebundle_()) for one in figures]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("figure", outputs=shown)])
    file = tmp_path / "rendered.html"
    rendered, _ = HTMLExporter(theme=theme).from_notebook_node(notebook)
    file.write_text(rendered, encoding="utf-8")
    page = watch(offline.new_page())
    page.goto(file.as_uri())
    one, several = (frame for frame in page.frames if frame.parent_frame)
    for frame in (one, several):
        line = frame.get_by_test_id("lam-line")
        line.focus()  # and in sight: a frame that is not is not painted, and hears of no theme
        expect(line).to_have_attribute("aria-valuenow", "0.001")
        expect(frame.locator("html")).to_have_attribute("data-jp-theme-light", light)
        page.keyboard.press("Shift+ArrowUp")
        expect(line).not_to_have_attribute("aria-valuenow", "0.001")
    spectrum = session.spectrum("conv2")
    for frame, testid in ((one, "readout-N"), (several, "N-1")):
        expected = spectrum.degrees_of_freedom(lam_of(frame) * spectrum.trace)
        number = frame.get_by_test_id(testid).get_attribute("data-value")
        assert float(number) == pytest.approx(expected, rel=1e-9)
    for frame in (one, several):
        assert frame.evaluate("() => document.documentElement.scrollHeight - innerHeight") <= 0
    assert page.errors == []
    page.close()
