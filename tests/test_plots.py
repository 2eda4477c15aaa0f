"""Pictures: what is drawn is what was given."""

import matplotlib as mpl
import numpy as np
import pytest

mpl.use("Agg")

from matplotlib import pyplot

from workbench import plots
from workbench.plots import plot_degrees_of_freedom, plot_history, plot_losses, plot_spectrum

MU = np.array([4.0, 2.0, 1.0, 0.5, 0.0])


@pytest.fixture(autouse=True)
def closed():
    yield
    pyplot.close("all")


def test_spectrum_shows_shares_of_the_trace_and_the_lam_line():
    ax = plot_spectrum(MU, lam=0.75)
    heights = [bar.get_height() for bar in ax.patches]
    assert heights == pytest.approx(list(MU[:4] / MU.sum()))
    assert ax.lines[0].get_ydata()[0] == pytest.approx(0.75 / MU.sum())
    assert ax.get_yscale() == "log"
    assert f"{(MU / (MU + 0.75)).sum():.2f}" in ax.get_title()


def test_spectrum_fades_with_the_share():
    from matplotlib.colors import to_rgb

    ax = plot_spectrum(MU, lam=1e9)
    assert ax.patches[0].get_facecolor()[:3] == pytest.approx(to_rgb("#c3c8cd"), abs=1e-6)


def test_degrees_of_freedom_is_the_formula():
    ax = plot_degrees_of_freedom(MU, lam=0.75)
    x, y = ax.lines[0].get_data()
    for relative, freedom in zip(x[::40], y[::40], strict=True):
        assert freedom == pytest.approx((MU / (MU + relative * MU.sum())).sum())
    assert ax.lines[1].get_ydata()[0] == pytest.approx((MU / (MU + 0.75)).sum())


def test_losses_are_drawn_under_their_names_on_the_given_axes():
    _, ax = pyplot.subplots()
    same = plot_losses(range(4), {"input": [1, 0.5, 0.1, 0], "output": [1, 0.4, 0.2, 0.1]}, width=2, ax=ax)
    assert same is ax
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["input", "output"]
    assert ax.lines[0].get_ydata().tolist() == [1, 0.5, 0.1]
    assert ax.lines[2].get_xdata()[0] == 2


def test_history_joins_its_steps():
    ax = plot_history([100, 60, 40], [0.9, 0.89, 0.8], ["original", "a", "b"])
    assert ax.lines[0].get_xdata().tolist() == [100, 60, 40]
    assert [text.get_text() for text in ax.texts] == ["original", "a", "b"]


@pytest.mark.parametrize(
    ("values", "lam"), [([], None), ([[1.0]], None), ([-1.0], None), ([0.0], None), ([np.nan], None), (MU, 0)]
)
def test_what_is_no_spectrum_is_refused(values, lam):
    for plot in (plot_spectrum, plot_degrees_of_freedom):
        with pytest.raises(ValueError, match="must be"):
            plot(values, lam)


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="input loss"):
        plot_losses(range(3), {"input": [1, 0.5]})
    with pytest.raises(ValueError, match="differ"):
        plot_history([1, 2], [1])


def test_a_comparison_has_a_line_a_way_and_the_unpruned_score():
    ax = plots.plot_comparison(
        [1, 2, 1, 2], [0.5, 0.6, 0.3, np.nan], ["greedy", "greedy", "random", "random"], "accuracy", (3, 0.8)
    )
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["greedy", "random"]
    assert ax.get_ylabel() == "accuracy"
    with pytest.raises(ValueError, match="differ"):
        plots.plot_comparison([1, 2], [0.5], ["greedy"])


def test_a_sensitivity_is_a_heat_map_of_groups_and_shares():
    ax = plots.plot_sensitivity(["conv1", "conv2"], [0.5, 0.25], [[0.9, 0.8], [0.7, np.nan]])
    assert [text.get_text() for text in ax.get_yticklabels()] == ["conv1", "conv2"]
    assert [text.get_text() for text in ax.get_xticklabels()] == ["50%", "25%"]
    with pytest.raises(ValueError, match="do not fit"):
        plots.plot_sensitivity(["conv1"], [0.5, 0.25], [[0.9, 0.8], [0.7, 0.1]])


def test_the_pareto_front_is_what_nothing_beats():
    costs, scores = [3, 1, 2, 2, 4], [0.9, 0.5, 0.4, 0.7, np.nan]
    assert plots.pareto_front(costs, scores).tolist() == [1, 3, 0]
    ax = plots.plot_branches({"main": (costs, scores), "thin": ([1.5], [0.65])})
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["main", "thin", "Pareto front"]
