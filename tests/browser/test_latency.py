"""How fast λ answers: from the move to the painted read-out, in the page and through the kernel."""

import statistics

from playwright.sync_api import expect

EVENTS = 120

# Moves come at any phase of the screen's frames, as a hand's do.
TOOLS = """
  const find = (id) => document.querySelector(`[data-testid=${id}]`);
  const pause = (i) => new Promise(done => setTimeout(done, 20 + (i * 7.3) % 16.7));
  const painted = () => new Promise(done => requestAnimationFrame(() => {
    const channel = new MessageChannel();
    channel.port1.onmessage = () => done(performance.now());
    channel.port2.postMessage(0);
  }));
  const share = (i) => 0.1 + 0.8 * ((i * 37) % events) / events;
"""

# One move of the λ line, then the time until the frame with the new read-out has been drawn.
IN_THE_PAGE = f"""async (events) => {{{TOOLS}
  const surface = find('spectrum-plot').querySelector('.wbw-surface');
  const box = surface.getBoundingClientRect();
  const send = (type, y) => surface.dispatchEvent(new PointerEvent(type, {{ bubbles: true, pointerId: 1,
    button: 0, buttons: 1, isPrimary: true, clientX: box.x + box.width / 2, clientY: y }}));
  const work = [], spent = [], late = [];
  send('pointerdown', box.y + box.height / 2);
  for (let i = 0; i < events; i++) {{
    await pause(i);
    const before = find('readout-N').dataset.value;
    const start = performance.now();
    send('pointermove', box.y + box.height * share(i));
    work.push(performance.now() - start);
    spent.push(await painted() - start);
    if (find('readout-N').dataset.value === before) late.push(i);
  }}
  send('pointerup', box.y + box.height / 2);
  return {{ work, spent, late }};
}}"""

# The same number asked of the kernel, written into the page, and drawn.
THROUGH_THE_KERNEL = f"""async (events) => {{{TOOLS}
  const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
  const shown = document.body.appendChild(document.createElement('output'));
  const spent = [];
  for (let i = 0; i < events; i++) {{
    await pause(i);
    const start = performance.now();
    const asked = `Out[1].session.spectrum('conv1').degrees_of_freedom(${{10 ** (-5 * share(i))}})`;
    const request = {{ code: '', silent: true, user_expressions: {{ n: asked }} }};
    const reply = await kernel.requestExecute(request).done;
    shown.textContent = reply.content.user_expressions.n.data['text/plain'];
    spent.push(await painted() - start);
  }}
  shown.remove();
  return spent;
}}"""


def line(what, values):
    median, p95 = statistics.median(values), sorted(values)[int(0.95 * len(values))]
    return f"  {what:32s} {median:8.1f} {p95:6.1f}"


def test_dragging_lam_repaints_within_a_frame(workbench_page, capsys):
    bench = workbench_page
    expect(bench.find("readout-N")).not_to_have_attribute("data-value", "", timeout=60_000)
    expect(bench.find("cancel")).to_be_hidden(timeout=60_000)
    bench.find("layer-conv1").click()
    bench.page.evaluate(IN_THE_PAGE, 20)
    page = bench.page.evaluate(IN_THE_PAGE, EVENTS)
    bench.wait_idle()
    kernel = bench.page.evaluate(THROUGH_THE_KERNEL, EVENTS)
    with capsys.disabled():
        print("\nλ drag, milliseconds                 median    p95")
        print(line("handler, in the page", page["work"]))
        print(line("move to painted, in the page", page["spent"]))
        print(line("asked of the kernel and painted", kernel))
    assert page["late"] == []
    assert statistics.median(page["spent"]) <= 16
    assert statistics.median(page["spent"]) < statistics.median(kernel)
