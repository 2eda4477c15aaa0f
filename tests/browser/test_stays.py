"""What is in no group: a quiet line below the groups, which opens to the reasons."""

from ast import literal_eval

from notebook_page import expect_measured
from playwright.sync_api import expect

NETWORK = """
import torch, workbench as wb
from torch import nn

class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.norm, self.up, self.down, self.head = (
            nn.Linear(8, 24), nn.LayerNorm(24), nn.Linear(24, 48), nn.Linear(48, 24), nn.Linear(24, 5)
        )
        self.temperature = nn.Parameter(torch.ones(()))

    def forward(self, x):
        x = self.embed(x)
        x = x + self.down(torch.relu(self.up(self.norm(x))))
        return self.head(x) * self.temperature

x = torch.randn(256, 8)
session = wb.Session(Classifier(), x, (x, torch.randint(5, (256,))), name="classifier")
"""
LINE = "__import__('workbench.session.tables').session.tables.stays_line(session)"


def place_in_list(bench, name):
    """How far a group lies below the head of the workbench."""
    return bench.find(f"layer-{name}").bounding_box()["y"] - bench.find("workbench").bounding_box()["y"]


def test_the_line_opens_every_tensor_with_its_reason(open_notebook):
    bench = open_notebook(NETWORK, "wb.Workbench(session)")
    bench.run_all()
    expect_measured(bench.page)
    bench.find("workbench").scroll_into_view_if_needed()
    line = bench.find("stays")
    summary, reasons = line.locator("summary"), line.locator("li")
    assert summary.inner_text() == bench.kernel(LINE).strip("'")
    assert summary.evaluate("node => node.scrollWidth <= node.clientWidth")
    expect(reasons.first).to_be_hidden()
    before = place_in_list(bench, "embed")
    bench.screenshot("stays-closed")
    sizes = bench.find("sizes")
    assert sizes.locator("summary").inner_text() == "proved at one size of input"
    sizes.locator("summary").click()
    assert sizes.locator("p").inner_text() == bench.kernel("str(session.sizes)").strip("'")
    bench.screenshot("sizes-open")
    summary.click()
    expect(sizes.locator("p")).to_be_hidden()
    stays = literal_eval(bench.kernel("[(one.name, one.numbers, one.why_not) for one in session.stays]"))
    assert {name for name, _, _ in stays} == {"norm.weight", "norm.bias", "temperature"}
    assert reasons.all_inner_texts() == [f"{name} ({numbers}): {why}" for name, numbers, why in stays]
    for one in reasons.all():
        expect(one).to_be_visible()
    assert place_in_list(bench, "embed") == before
    bench.in_both_themes("stays-open")
    summary.click()
    expect(reasons.first).to_be_hidden()
    assert bench.page.errors == []


def test_nothing_is_said_where_everything_is_in_a_group(workbench_page):
    expect(workbench_page.find("layer-conv1")).to_be_visible()
    expect(workbench_page.find("stays")).to_be_hidden()
