"""The form that loads a network of a person's own, networks to load, and a look at cards and read-outs."""

from playwright.sync_api import expect

NETS = '''
import time

from torch import nn

def small():
    return nn.Sequential(nn.Conv2d(1, 13, 3), nn.BatchNorm2d(13), nn.ReLU(), nn.Conv2d(13, 17, 3), nn.ReLU(),
                         nn.Flatten(), nn.Linear(17 * 16, 23), nn.ReLU(), nn.Linear(23, 7)).eval()

class Encoder(nn.Module):
    """Many groups with long names, heads among them."""

    def __init__(self, layers=30):
        super().__init__()
        self.embed = nn.Linear(11, 12)
        layer = nn.TransformerEncoderLayer(12, 4, 17, batch_first=True, dropout=0.0)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.head = nn.Linear(12, 3)

    def forward(self, x):
        return self.head(self.encoder(self.embed(x)).mean(1))

class Square(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(13, 11), nn.ReLU(), nn.Linear(11, 25))

    def forward(self, x):
        return self.body(x).unflatten(1, (5, 5))

class Slow(nn.Sequential):
    """Takes its time at every pass."""

    def forward(self, x):
        time.sleep(0.4)
        return super().forward(x)

def slow():
    return Slow(nn.Linear(13, 11), nn.ReLU(), nn.Linear(11, 5))

def wide():
    return nn.Sequential(nn.Linear(13, 700), nn.ReLU(), nn.Linear(700, 3), nn.ReLU(), nn.Linear(3, 2))
'''


PATIENCE = 90_000


# Words cut off by their box, and what stands outside its panel or the window.
CUT = """() => {
  const card = document.querySelector('.wbw-card:not([hidden])');
  const all = [...card.querySelectorAll('*')].filter(node => node.checkVisibility());
  const box = card.getBoundingClientRect();
  const out = all.filter(node => {
    const one = node.getBoundingClientRect();
    return one.right > box.right + 1 || one.bottom > box.bottom + 1 || one.bottom > innerHeight;
  });
  const cut = all.filter(node => node.matches('.wbw-caption, button, h3, .wbw-check'))
    .filter(node => node.scrollWidth > node.clientWidth + 1);
  return [...out, ...cut].map(node => node.outerHTML.slice(0, 120));
}"""


# Words of the meters and of the history's head that stand over each other.
OVERLAPPING = """() => {
  const rows = [...document.querySelectorAll('.wbw-meter-row, .wbw-step.wbw-steps-head')];
  return rows.flatMap(row => {
    const texts = [...row.children].filter(node => node.textContent && node.checkVisibility());
    const boxes = texts.map(node => {
      const range = document.createRange();
      range.selectNodeContents(node);
      return range.getBoundingClientRect();
    });
    return texts.slice(1).filter((_, index) => boxes[index + 1].left < boxes[index].right + 2)
      .map(node => node.textContent);
  });
}"""


def settle(bench):
    bench.page.wait_for_timeout(250)
    expect(bench.find("cancel")).to_be_hidden(timeout=PATIENCE)
    expect(bench.page.locator("[data-current]")).to_have_attribute("data-current", "true", timeout=PATIENCE)


def load(bench, **form):
    if not bench.find("load-card").is_visible():
        bench.find("load").click()
    for key in ("model", "calibration", "evaluation", "size", "calibration_limit", "mask"):
        bench.find(key).fill(form.get(key, ""))
    for key in ("metric", "classes"):
        bench.find(key).select_option(form.get(key, ""))
    bench.find("load-go").click()


def loaded(bench, name):
    expect(bench.find("load-card")).to_be_hidden(timeout=PATIENCE)
    expect(bench.find("model-select")).to_have_value(name, timeout=PATIENCE)
    settle(bench)


def opened(bench, name, **form):
    """Load a network, unless it is the one that is there."""
    if bench.find("model-select").input_value() != name:
        load(bench, model=name, **form)
        loaded(bench, name)
