"""A quick part of every benchmark: the commands beside this file run the whole of each."""

import budgets
import damage
import figure1
import half_width
import measuring
import opening
import pytest
import reconstructions
import results
import speed
import swaps
import tables
from tables import RULES, Bench, Found, Subject

import workbench as wb
from workbench.course.figure1 import read_figure1
from workbench.session.replay import replay
from workbench.session.session import Session

POINTS_LOST = {"digits-cnn": 0.03, "digits-mlp": 0.03, "nn3-mnist": 0.01}


@pytest.mark.parametrize("name", POINTS_LOST)
def test_half_width_keeps_most_of_the_accuracy(name, tmp_path):
    session, score, left = half_width.halved(name)
    assert score >= session.history[0].score - POINTS_LOST[name]
    assert left <= 0.45
    session.save(tmp_path)
    again = replay(tmp_path / "recipe.json")
    assert again.evaluate() == score
    assert again.parameters == session.parameters


def test_rebuilding_beats_magnitude_with_norms_re_estimated():
    titles = ["magnitude L1, none", "greedy, `channel`", "greedy, `original` [beyond]"]
    _, found = reconstructions.scores(images=300, examples=128, titles=titles)
    magnitude, channel, original = (found[title] for title in titles)
    assert original[0] >= max(magnitude) + 0.1
    assert channel[0] > magnitude[0] + 0.1


def test_least_loss_per_cost_beats_equal_widths_by_magnitude_and_torch_pruning(monkeypatch):
    pytest.importorskip("torch_pruning")
    monkeypatch.setattr(tables, "CALIBRATION", 128)
    _, found = budgets.scores("resnet20", images=200, steps=1)
    least = found["least loss per cost, greedy, `original` [beyond]"]
    assert least >= 0.85 * found["unpruned"]
    assert max(score for title, score in found.items() if "L1" in title) < 0.7 * least
    assert found["least loss per cost, then `session.refit()` [beyond]"] > 0.95 * least


def test_a_table_has_a_row_for_every_rule():
    bench = Bench("nn3-mnist", images=500, epoch=0)
    plans = {rule: bench.session.plan(bench.whole / 2, rule=rule) for rule in RULES}
    scores = {rule: bench.score(bench.pruned(plan, "greedy", "original")) for rule, plan in plans.items()}
    assert min(scores.values()) > 0.97


def digits(*_):
    """A small network as a subject of the tables."""
    example = wb.load_example("digits-cnn")
    given, test = ((one.inputs[:256], one.targets[:256]) for one in (example.calibration, example.evaluation))
    return Subject(example.model, given, given, test)


def test_plans_of_measured_damage_are_scored_and_ranked(monkeypatch):
    monkeypatch.setattr(damage, "RATIOS", (3.0,))
    monkeypatch.setattr(tables, "subject", digits)
    monkeypatch.setattr(damage, "PRUNERS", ())
    monkeypatch.setitem(damage.SECONDS, "digits-cnn", 1)
    table = damage.Table("digits-cnn", images=256, epoch=0, found=Found([]))
    lines = [line.split("|") for line in table.text().splitlines()[4:]]
    assert [line[1].strip() for line in lines] == [*damage.RULES]
    assert min(float(line[2]) for line in lines) > 0.9
    text = damage.Plans("digits-cnn", Found([])).text(2)
    assert text.count("random plans") == 2
    assert "one step around it" in text


def test_a_sweep_that_was_broken_off_goes_on_from_what_it_found(tmp_path, monkeypatch):
    session = figure1.opened("digits-cnn", images=200)
    path, grid = tmp_path / "points.json", {"rates": (0.5,), "thetas": (0.3,)}
    figure1.measured(session, path, lams=(1e-6,), **grid)
    asked = []
    compare = Session.compare
    monkeypatch.setattr(Session, "compare", lambda self, *a, **k: asked.append(k) or compare(self, *a, **k))
    figure1.measured(session, path, lams=(1e-6, 0.1), **grid)
    assert [one["lam"] for one in asked] == [0.1]
    lam, theta = read_figure1(path)
    assert (lam.values, theta.values) == ((1e-6, 0.1), (0.3,))
    assert theta.points[0] == lam.points[0]
    assert lam.points[0].score > 0.9 > lam.points[1].score
    assert lam.told["test images"] == lam.examples == 200
    figure1.measured(figure1.opened("digits-cnn", images=100), path, lams=(1e-6,), **grid)
    assert len(asked) == 2  # on other images every point is measured again, a shared one once


@pytest.mark.parametrize(("outputs", "ratio"), [(128 * 3, 50), (64, 20)])
def test_the_path_is_the_definition_s_and_much_faster(outputs, ratio):
    faster, off = speed.path_against_definition(outputs, m=64, k=32)
    assert off < 1e-9
    assert faster > ratio


def test_a_path_costs_little_more_than_the_products_it_is_made_of():
    *_, ratio = speed.path_against_products(1024, 200)
    assert ratio < 20


def test_swaps_cost_a_bounded_number_of_greedy_paths():
    path, after, made = swaps.times(256, 500, repeats=3)
    assert made > 5
    assert after < 60 * path


def test_the_pruned_resnet56_is_really_faster():
    macs, share = speed.pruned_against_whole(rounds=3, images=32)
    assert macs == pytest.approx(0.5, abs=0.02)
    assert share < 0.9


def test_fine_tuning_is_faster_channels_last():
    assert speed.layouts(match=0.0, steps=3) > 1


@pytest.mark.parametrize(("name", "most"), [("digits-cnn", 19), ("a small BERT", 25)])
def test_opening_takes_few_passes(name, most):
    found = opening.passes(*opening.NETWORKS[name]())
    assert 0 < found.total() <= most
    assert max(size for size, _ in found) <= 16  # of the 64 that are given


def test_opening_costs_a_bounded_number_of_passes_of_the_batch():
    _, ratio = opening.opening_against_a_pass(*opening.resnet(20), repeats=3)
    assert ratio < 40


SMALL = {
    "ResNet-20": {},
    "a small ViT": {"width": 48, "size": 32},
    "a small LLaMA": {"width": 64, "tokens": 16},
}


@pytest.mark.parametrize("name", SMALL)
def test_measuring_multiplies_a_tensor_once_and_makes_no_activation_float64(name):
    work = measuring.work(name, **SMALL[name])
    assert work["multiplied"] == work["distinct"] <= work["readers"]
    assert work["converted"] <= work["received"] / 20  # rows of units that carry a quarter of the trace


def test_queries_keys_and_values_share_one_product():
    work = measuring.shared(width=24)
    assert work["readers"] == 3 * work["distinct"] == 3 * work["multiplied"] == 3


@pytest.mark.parametrize("name", SMALL)
def test_moments_are_those_in_float64_to_what_is_stated(name):
    assert measuring.off(name, **SMALL[name]) <= 1e-7


def test_a_table_is_put_in_its_place_and_nowhere_else(tmp_path, monkeypatch):
    page = tmp_path / "RESULTS.md"
    page.write_text("a\n<!-- table x -->\nold\n\n<!-- end -->\n<!-- table y -->\nstays\n\n<!-- end -->\n")
    monkeypatch.setattr(results, "RESULTS", page)
    results.put("x", "| new |\\1")
    assert page.read_text() == (
        "a\n<!-- table x -->\n| new |\\1\n\n<!-- end -->\n<!-- table y -->\nstays\n\n<!-- end -->\n"
    )
    with pytest.raises(SystemExit, match="no place for z"):
        results.put("z", "")
