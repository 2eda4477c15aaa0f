"""Pictures: what is drawn is what was given."""

import io
import re
import threading
from xml.etree import ElementTree

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
    assert ax.get_ylabel() == "accuracy (share of examples)"
    with pytest.raises(ValueError, match="differ"):
        plots.plot_comparison([1, 2], [0.5], ["greedy"])


def bar_label(ax):
    return ax.collections[0].colorbar.ax.get_ylabel()


def test_a_sensitivity_of_losses_is_dark_where_they_are_large():
    shades = {}
    for label in ("accuracy", "output loss"):
        ax = plots.plot_sensitivity(["conv1"], [0.5, 0.125], [[0.1, 0.9]], label)
        mesh = ax.collections[0]
        shades[label] = mesh.to_rgba(np.array([0.1, 0.9]))[:, :3].sum(1)
        assert [text.get_text() for text in ax.get_xticklabels()] == ["50%", "12.5%"]
    assert shades["accuracy"][0] < shades["accuracy"][1]
    assert shades["output loss"][0] > shades["output loss"][1]
    assert bar_label(ax) == "output loss (share; lower is better)"


def test_a_sensitivity_is_a_heat_map_of_groups_and_shares():
    ax = plots.plot_sensitivity(["conv1", "conv2"], [0.5, 0.25], [[0.9, 0.8], [0.7, np.nan]])
    assert [text.get_text() for text in ax.get_yticklabels()] == ["conv1", "conv2"]
    assert [text.get_text() for text in ax.get_xticklabels()] == ["50%", "25%"]
    assert bar_label(ax) == "score (higher is better)"
    with pytest.raises(ValueError, match="do not fit"):
        plots.plot_sensitivity(["conv1"], [0.5, 0.25], [[0.9, 0.8], [0.7, 0.1]])


def test_the_pareto_front_is_what_nothing_beats():
    costs, scores = [3, 1, 2, 2, 4], [0.9, 0.5, 0.4, 0.7, np.nan]
    assert plots.pareto_front(costs, scores).tolist() == [1, 3, 0]
    ax = plots.plot_branches({"main": (costs, scores), "thin": ([1.5], [0.65])})
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["main", "thin", "Pareto front"]


def drawn():
    """Every figure, with made-up arrays; several lines in each that has lines."""
    lams, rates = np.geomspace(1e-8, 1e-2, 7), (0.3, 0.5, 0.8)
    falling = {"input": [1, 0.5, 0.1], "output": [1, 0.4, 0.2], "combined": [1, 0.45, 0.15]}
    pieces = {rate: rate - (np.arange(7) - 3) ** 2 / 100 for rate in rates}
    branches = {"main": ([3e6, 2e6], [0.9, 0.8]), "thin": ([2.5e6, 1e6], [0.9, 0.7])}
    yield plots.plot_spectrum(MU, lam=0.75)
    yield plots.plot_degrees_of_freedom(MU, lam=0.75)
    yield plots.plot_spectra({"MNIST": MU, "CIFAR-10": np.sqrt(MU), "VGG-13": np.arange(60.0, 0, -1)})
    yield plots.plot_degrees_of_freedom({"flat": np.ones(5), "falling": MU})
    yield plots.plot_moment([[1, 2], [2, 1], [0, 0]])
    yield plots.plot_noise_edge(MU, 0.75)
    yield plots.plot_sample_sizes([50, 100, 200], {"λ = 1e-3 Tr Σ": [3, 4, 5], "λ = 1e-5 Tr Σ": [5, 9, 12]})
    yield plots.plot_leverage({"λ = 1": [0.1, 0.9, 0.5], "λ = 2": [0.1, 0.5, 0.4]})
    yield plots.plot_losses(range(3), falling, width=2)
    yield plots.plot_errors({"MNIST": ([20, 80], [0.08, 0.02]), "CIFAR-10": ([20, 40], [0.3, 0.2])}, width=40)
    yield plots.plot_lam_sweep(lams, pieces)
    yield plots.plot_theta_sweep(np.linspace(0, 1, 7), pieces)
    yield plots.plot_bias_variance(lams, np.sqrt(lams), 1e-7 / lams)
    yield plots.plot_bounds([5, 10, 20], [0.3, 0.2, 0.1], {"4λ": [1, 0.9, 0.8], "local": [2, 1, np.inf]})
    yield plots.plot_bounds(["conv1", "fc1"], [0.3, 0.2], {"4λ": [1, 0.9]}, "layer", "error (relative)")
    yield plots.plot_history([62_000, 31_000], [0.9, 0.8], ["original", "conv1"], metric="accuracy")
    yield plots.plot_comparison([1e6, 2e6] * 2, [0.5, 0.6, 0.3, 0.4], ["greedy"] * 2 + ["random"] * 2)
    yield plots.plot_sensitivity(["conv1", "conv2"], [0.5, 0.25], [[0.9, 0.8], [0.7, np.nan]])
    yield plots.plot_branches(branches)
    yield plots.plot_scores([8, 16], {"Â": [0.7, 0.9], "none": [0.2, 0.5]}, {"Â": [0.01, 0.02]}, 0.95)


def file_of(ax, kind):
    buffer = io.BytesIO()
    ax.figure.savefig(buffer, format=kind)
    return buffer.getvalue()


def test_every_figure_is_a_vector_with_text_as_text():
    before = dict(mpl.rcParams)
    for ax in drawn():
        root = ElementTree.fromstring(file_of(ax, "svg"))
        tags = [element.tag.rpartition("}")[2] for element in root.iter()]
        assert "image" not in tags
        text = " ".join("".join(e.itertext()) for e in root.iter() if e.tag.rpartition("}")[2] == "text")
        for label in (ax.get_xlabel(), ax.get_ylabel()):
            assert label
            assert re.sub(r"\s", "", label) in re.sub(r"\s", "", text), label
        pdf = file_of(ax, "pdf")
        assert b"/Type3" not in pdf.replace(b" ", b"")
        assert b"/Subtype/Image" not in pdf.replace(b" ", b"")
    assert dict(mpl.rcParams) == before  # the process's own look is as it was


def test_every_axis_says_what_it_counts_in():
    for ax in drawn():
        names = [ax.get_ylabel()] if ax.get_xlabel() == "layer" else [ax.get_xlabel(), ax.get_ylabel()]
        for label in names:
            assert label == "group" or re.fullmatch(r".+ \(.+\)", label), label


def test_no_text_is_smaller_than_12_points():
    from matplotlib.text import Text

    for ax in drawn():
        ax.figure.canvas.draw()
        for axes in ax.figure.axes:
            sizes = [text.get_fontsize() for text in axes.findobj(Text) if text.get_text().strip()]
            assert min(sizes) >= 12


def test_lines_differ_without_colour():
    """In dashes or markers: printed in grey, no two lines of a figure look the same."""
    for ax in drawn():
        lines = [line for line in ax.lines if line.get_label() in labels_of(ax)]
        forms = [(line.get_linestyle(), line.get_marker(), line._unscaled_dash_pattern) for line in lines]
        assert len({str(form) for form in forms}) == len(lines)


def labels_of(ax):
    legend = ax.get_legend()
    return [text.get_text() for text in legend.get_texts()] if legend else []


def test_twenty_lines_are_twenty_looks():
    from workbench.plots.style import looks

    assert len({str(look) for look in looks(20)}) == 20
    assert len({(look["linestyle"], look["marker"]) for look in looks(7)}) == 7


def test_the_style_sheet_is_the_colour_blind_palette_and_serves_other_figures():
    import seaborn
    from matplotlib.colors import to_hex

    with plots.style():
        figure, ax = pyplot.subplots()
        lines = ax.plot(np.zeros((2, 10)))
        assert mpl.rcParams["svg.fonttype"] == "none"
        assert mpl.rcParams["pdf.fonttype"] == 42
    palette = seaborn.color_palette("colorblind").as_hex()
    assert [to_hex(line.get_color()) for line in lines] == palette
    assert ax.xaxis.label.get_fontsize() == 12
    assert figure.get_layout_engine() is not None


def test_threads_that_draw_at_once_leave_no_style_behind():
    before = dict(mpl.rcParams)
    inside, leave = threading.Barrier(2), threading.Event()

    def hold():
        with plots.style():
            inside.wait(10)
            leave.wait(0.2)

    other = threading.Thread(target=hold)
    other.start()
    inside.wait(10)
    with plots.style():
        leave.set()
    other.join()
    assert dict(mpl.rcParams) == before


def test_spectra_are_divided_by_their_largest():
    ax = plots.plot_spectra({"a": MU, "b": 10 * MU[:3]})
    assert ax.get_yscale() == "log"
    assert ax.lines[0].get_xydata().tolist() == [[1, 1], [2, 0.5], [3, 0.25], [4, 0.125]]
    assert ax.lines[1].get_ydata().tolist() == [1, 0.5, 0.25]
    assert labels_of(ax) == ["a", "b"]


def test_degrees_of_freedom_of_several_spectra_each_by_its_own_trace():
    ax = plots.plot_degrees_of_freedom({"flat": np.full(5, 2.0), "falling": MU})
    assert labels_of(ax) == ["flat", "falling"]
    x, y = ax.lines[0].get_data()
    assert y == pytest.approx(5 * 2 / (2 + 10 * x))
    with pytest.raises(ValueError, match="marked on one spectrum"):
        plots.plot_degrees_of_freedom({"flat": np.ones(5)}, lam=1.0)


def test_errors_have_widths_of_their_own():
    ax = plots.plot_errors({"MNIST": ([20, 80], [0.081, 0.021]), "CIFAR-10": ([10, 20, 40], [0.3, 0.2, 0])})
    assert ax.lines[0].get_xydata().tolist() == [[20, 0.081], [80, 0.021]]
    assert ax.lines[1].get_xdata().tolist() == [10, 20]
    assert ax.get_yscale() == "log"
    with pytest.raises(ValueError, match="MNIST error"):
        plots.plot_errors({"MNIST": ([20, 80], [0.081])})


def test_scores_have_bars_where_a_spread_is_given():
    ways = {"Â": [0.7, 0.9], "none": [0.2, np.nan]}
    ax = plots.plot_scores([8, 16], ways, {"Â": [0.01, 0.02]}, unpruned=0.95)
    bars = [segment[:, 1].tolist() for segment in ax.collections[0].get_segments()]
    assert bars == [pytest.approx([0.69, 0.71]), pytest.approx([0.88, 0.92])]
    assert len(ax.collections) == 1
    assert labels_of(ax) == ["Â", "none", "unpruned"]
    assert ax.get_xticks().tolist() == [8, 16]
    assert any(list(line.get_ydata()) == [0.95, 0.95] for line in ax.lines)
    for bad in ({"Â": [0.7]}, {}):
        with pytest.raises(ValueError, match="numbers for x of shape"):
            plots.plot_scores([8, 16], bad, {"Â": [0.01, 0.02]})


def stars(ax):
    return [tuple(line.get_xydata()[0]) for line in ax.lines if line.get_marker() == "*"]


def test_the_best_of_every_curve_is_marked():
    scores = {0.5: [0.6, 0.9, 0.9], "80 %": [np.nan, 0.2, 0.1], 0.9: [np.nan] * 3}
    ax = plots.plot_lam_sweep([1e-6, 1e-4, 1e-2], scores, "R²")
    assert stars(ax) == [(1e-4, 0.9), (1e-4, 0.2)]
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "linear")
    assert ax.get_ylabel() == "R² (share of variance)"
    assert labels_of(ax) == ["50 %", "80 %", "90 %"]
    assert ax.get_legend().get_title().get_text() == "compression rate"
    ax = plots.plot_theta_sweep([0, 0.3, 1], {0.5: [0.1, 0.4, 0.2]})
    assert stars(ax) == [(0.3, 0.4)]
    assert ax.get_xscale() == "linear"
    with pytest.raises(ValueError, match="positive"):
        plots.plot_lam_sweep([0, 1e-4], {0.5: [0.1, 0.2]})
    with pytest.raises(ValueError, match=r"0\.5 score"):
        plots.plot_theta_sweep([0, 1], {0.5: [0.1]})


def test_bias_and_variance_with_the_least_sum():
    lams, bias, variance = [1e-6, 1e-4, 1e-2], [0.001, 0.01, 0.1], [0.5, 0.05, 0.005]
    ax = plots.plot_bias_variance(lams, bias, variance)
    assert [list(line.get_ydata()) for line in ax.lines[:2]] == [bias, variance]
    assert ax.lines[2].get_ydata() == pytest.approx(np.add(bias, variance))
    assert stars(ax) == [(1e-4, pytest.approx(0.06))]
    with pytest.raises(ValueError, match="no sum"):
        plots.plot_bias_variance([1.0], [np.nan], [1.0])


def test_bounds_stand_beside_what_was_measured():
    ax = plots.plot_bounds(["conv1", "fc1"], [0.3, 0.2], {"4λ": [np.inf, 0.9]}, xlabel="layer")
    assert labels_of(ax) == ["measured", "4λ"]
    assert ax.lines[0].get_ydata().tolist() == [0.3, 0.2]
    assert np.isnan(ax.lines[1].get_ydata()[0])
    with pytest.raises(ValueError, match="4λ curve"):
        plots.plot_bounds([1, 2], [0.3, 0.2], {"4λ": [1]})


def test_a_notebook_takes_the_style_for_all_its_figures(monkeypatch):
    asked, shown = [], []
    monkeypatch.setattr("IPython.core.getipython.get_ipython", lambda: object())
    monkeypatch.setattr("IPython.display.display", lambda bundle, raw: shown.append(bundle))
    monkeypatch.setattr("matplotlib_inline.backend_inline.set_matplotlib_formats", asked.append)
    with mpl.rc_context():
        plots.use_style()
        assert mpl.rcParams["font.size"] == 12
        assert mpl.rcParams["svg.fonttype"] == "none"
    assert asked == ["svg"]
    assert "font-size: 16px" in shown[0]["text/html"]
    assert shown[0]["text/plain"] == ""
