"""Pictures of moments: the ellipse is the moment's, the points are on their sides of the edge."""

import matplotlib as mpl
import numpy as np
import pytest

mpl.use("Agg")

from matplotlib import pyplot

from workbench import plots


@pytest.fixture(autouse=True)
def closed():
    yield
    pyplot.close("all")


def test_the_ellipse_and_its_half_axes_are_those_of_the_uncentred_moment():
    points = np.random.default_rng(0).normal([3, 1], [2, 0.5], (53, 2))
    drawn, ellipse, first, second = (line.get_xydata() for line in plots.plot_moment(points).lines[:4])
    sigma = sum(np.outer(point, point) for point in points) / 53
    assert drawn == pytest.approx(points)
    assert np.einsum("ki,ij,kj->k", ellipse, np.linalg.inv(sigma), ellipse) == pytest.approx(np.ones(200))
    for half, value in ((first[1], max), (second[1], min)):
        assert sigma @ half == pytest.approx(value(np.linalg.eigvalsh(sigma)) * half)
        assert half @ half == pytest.approx(value(np.linalg.eigvalsh(sigma)))
        assert half @ points.mean(0) >= 0


def test_a_moment_without_area_and_one_of_the_origin_are_drawn():
    line = plots.plot_moment([[1.0, 1.0], [2.0, 2.0]]).lines[3].get_xydata()
    assert line == pytest.approx(np.zeros((2, 2)), abs=1e-7)
    assert plots.plot_moment([[0.0, 0.0]]).lines[2].get_xydata() == pytest.approx(np.zeros((2, 2)))


@pytest.mark.parametrize("samples", [[1.0, 2.0], np.ones((3, 3)), np.ones((0, 2)), [[np.nan, 1.0]]])
def test_what_does_not_lie_in_a_plane_is_refused(samples):
    with pytest.raises(ValueError, match=r"finite samples \(n, 2\)"):
        plots.plot_moment(samples)


def test_eigenvalues_lie_on_their_side_of_the_edge():
    above, below, edge = plots.plot_noise_edge([4.0, 2.0, 1.0, 0.5, 0.0], 1.0).lines
    assert above.get_xydata().tolist() == [[1, 4], [2, 2]]
    assert below.get_xydata().tolist() == [[3, 1], [4, 0.5]]
    assert edge.get_ydata()[0] == 1.0
    with pytest.raises(ValueError, match="positive"):
        plots.plot_noise_edge([4.0, 2.0], 0.0)


def test_sample_sizes_are_the_ticks():
    ax = plots.plot_sample_sizes([50, 100, 400], {"a": [1, 2, 3], "b": [2, 3, 4]})
    assert [text.get_text() for text in ax.get_xticklabels()] == ["50", "100", "400"]
    assert ax.lines[1].get_xydata().tolist() == [[50, 2], [100, 3], [400, 4]]
    with pytest.raises(ValueError, match="counts"):
        plots.plot_sample_sizes([50, 100], {"a": [1, 2, 3]})
    with pytest.raises(ValueError, match="positive"):
        plots.plot_sample_sizes([0, 100], {"a": [1, 2]})


def test_leverage_is_drawn_in_descending_order():
    ax = plots.plot_leverage({"a": [0.1, 0.9, 0.5]})
    assert ax.lines[0].get_xydata().tolist() == [[1, 0.9], [2, 0.5], [3, 0.1]]
