"""Accuracy against λ and θ, the error of one layer, and the results file of Figures 1c and 1d."""

import os

import numpy as np
import pytest
import torch

import workbench as wb
from workbench.course import example
from workbench.course.errors import errors_against_width, outputs, relative_error
from workbench.course.figure1 import FIGURE1, read_figure1, write_figure1
from workbench.course.sweeps import (
    Point,
    Sweep,
    accuracy_against_lam,
    accuracy_against_theta,
    widths_at,
)
from workbench.pruning.problem import NotMeasuredError


@pytest.fixture(scope="module")
def digits():
    return example("digits-cnn", say=False)


def sweep_of(scores, along="lam"):
    points = [
        Point(rate, value if along == "lam" else 1e-6, 0.3 if along == "lam" else value, score, 10, 20)
        for rate, row in scores.items()
        for value, score in row.items()
    ]
    return Sweep(along, tuple(points), 0.9, 100)


@pytest.mark.parametrize(("lam", "theta"), [(1e-6, 0.3), (3e-3, 0.9)])
def test_a_point_is_what_commits_by_hand_give(digits, lam, theta):
    (point,) = accuracy_against_lam(digits, [0.75], [lam], theta).points
    assert accuracy_against_theta(digits, [0.75], [theta], lam).points == (point,)
    session = example("digits-cnn", fresh=True, say=False)
    for group in [g for g in session.groups if g.prunable]:
        absolute = lam * session.spectrum(group.name).trace
        choice = session.preview(group.name, width=group.width // 4, lam=absolute, theta=theta)
        session.commit(choice)
    assert session.history[-1].score == point.score
    assert sum(p.numel() for p in session.model.parameters()) == point.parameters
    assert session.macs == point.macs
    assert digits.position == 0


def test_the_rate_is_the_share_of_units_that_go(digits):
    assert widths_at(digits, 0.75) == {"conv1": 8, "conv2": 16, "conv3": 16, "fc1": 32}
    assert set(widths_at(digits, 0.999).values()) == {1}
    assert widths_at(digits, 0)["conv1"] == 32
    for rate in (1, -0.1, 1.5):
        with pytest.raises(ValueError, match="share of units"):
            widths_at(digits, rate)


def test_a_sweep_tells_the_best_and_what_is_as_good():
    sweep = sweep_of(
        {0.1: {1e-6: 0.8, 1e-4: 0.82, 1e-5: 0.815, 1e-2: 0.1}, 0.5: dict.fromkeys((1e-6, 1e-5), 0.5)}
    )
    assert sweep.values == (1e-6, 1e-5, 1e-4, 1e-2)
    assert sweep.best(0.1) == 1e-4
    assert sweep.as_good(0.1, within=0.005) == (1e-5, 1e-4)
    assert sweep.as_good(0.1, within=0.02) == (1e-6, 1e-4)
    with pytest.raises(ValueError, match=r"0\.3 was not measured"):
        sweep.best(0.3)
    bumpy = sweep_of({0.1: {1e-6: 0.8, 1e-5: 0.82, 1e-4: 0.7, 1e-3: 0.82, 1e-2: 0.816}})
    assert (bumpy.best(0.1), bumpy.as_good(0.1)) == (1e-5, (1e-5, 1e-5))  # not across the gap
    assert np.isnan(sweep.scores[0.5][2:]).all()
    assert sweep.as_good(0.5) == (1e-6, 1e-5)
    whole = sweep_of({0.1: {0.0: 0.8, 1.0: 0.9}, 0.5: {0.0: 0.5, 1.0: 0.5}}, "theta")
    lines = whole.table().splitlines()
    assert lines[0] == "| θ | 10 % taken away | 50 % taken away |"
    assert lines[2:] == [
        "| 0 | 0.8000 | **0.5000** |",
        "| 1 | **0.9000** | **0.5000** |",
        "| as good | 1 … 1 | 0 … 1 |",
    ]


def test_points_that_are_known_are_not_measured_again(digits, monkeypatch):
    known = [Point(0.5, 1e-6, 0.3, 0.123, 1, 2)]
    monkeypatch.setattr(wb.Session, "compare", lambda *_, **__: pytest.fail("measured again"))
    told = []
    sweep = accuracy_against_lam(digits, [0.5], [1e-6], known=known, found=told.append)
    assert list(sweep.points) == told == known


def test_what_cannot_be_swept_is_told(digits):
    unmeasured = wb.Session(digits.original, digits.calibration.inputs[:20], digits.evaluation)
    with pytest.raises(NotMeasuredError):
        accuracy_against_lam(unmeasured, [0.5], [1e-6])
    unscored = wb.Session(digits.original, digits.calibration.inputs[:20], lambda model: 1.0)
    with pytest.raises(ValueError, match="batches of"):
        accuracy_against_lam(unscored, [0.5], [1e-6])
    with pytest.raises(ValueError, match="θ"):
        accuracy_against_theta(digits, [0.5], [1.5])


def test_a_results_file_comes_back_as_it_was_written(tmp_path):
    path = tmp_path / "points.json"
    lam, theta = sweep_of({0.1: {1e-6: 0.8}}), sweep_of({0.1: {0.5: 0.7}}, "theta")
    write_figure1(path, lam.points, theta.points, {"unpruned": 0.9, "test images": 100, "how": "Â"})
    found = read_figure1(path)
    assert [sweep.points for sweep in found] == [lam.points, theta.points]
    assert found[0].told == {"unpruned": 0.9, "test images": 100, "how": "Â"}
    assert [p.name for p in tmp_path.iterdir()] == ["points.json"]
    for text in ("{}", "[]", "", '{"lam": [{"rate": 1}], "theta": []}'):
        path.write_text(text)
        with pytest.raises(ValueError, match="no results file"):
            read_figure1(path)


def test_the_error_is_numpy_s_and_that_of_the_paper_s_correction():
    session = example("digits-mlp", say=False)
    choice = session.preview("fc3", width=40, lam=1e-3 * session.spectrum("fc3").trace, theta=0.5)
    model, data = session.model, session.calibration
    f, f_sharp = outputs(model, data).numpy(), outputs(session.pruned(choice), data).numpy()
    with torch.no_grad():
        phi = torch.relu(model.fc3(torch.relu(model.fc2(torch.relu(model.fc1(data.inputs.flatten(1)))))))
    phi, weight = phi.double().numpy(), model.fc4.weight.detach().double().numpy()
    sigma = phi.T @ phi / len(phi)
    mu, vectors = np.linalg.eigh(sigma)
    leverage = np.square(vectors) @ (mu / (mu + choice.lam)) / (mu / (mu + choice.lam)).sum()
    kept = list(choice.kept)
    tau = np.diag(choice.lam * 40 * leverage[kept])
    folded = sigma[:, kept] @ np.linalg.inv(sigma[np.ix_(kept, kept)] + tau)  # Â   (m, k)
    by_hand = phi[:, kept] @ folded.T @ weight.T + model.fc4.bias.detach().double().numpy()
    assert np.abs(by_hand - f_sharp).max() < 1e-4 * np.abs(f).max()
    error = relative_error(torch.from_numpy(f), torch.from_numpy(f_sharp))
    assert error == pytest.approx(
        np.sqrt(((f - by_hand) ** 2).sum(1).mean() / (f**2).sum(1).mean()), rel=1e-3
    )
    assert errors_against_width(session, "fc3", [40], lam=1e-3, theta=0.5) == [pytest.approx(error)]
    assert session.position == 0


def test_an_error_without_a_meaning_is_told():
    zero = torch.zeros(3, 2, dtype=torch.float64)
    with pytest.raises(ValueError, match="0 everywhere"):
        relative_error(zero, zero + 1)
    with pytest.raises(ValueError, match="cannot be compared"):
        relative_error(zero + 1, zero[:2])


@pytest.fixture(scope="module")
def real():
    if not os.environ.get("WORKBENCH_DATA"):
        pytest.fail("no MNIST and CIFAR-10 here: set WORKBENCH_DATA to a folder that has them")
    return {name: example(f"nn3-{name}", say=False) for name in ("mnist", "cifar10")}


def test_figure_1a_and_1b_on_the_real_data(real):
    mu = {name: session.spectrum("fc3").eigenvalues for name, session in real.items()}
    shares = {name: float(values[49] / values[0]) for name, values in mu.items()}
    assert shares["cifar10"] > 5 * shares["mnist"]
    errors = {name: errors_against_width(one, "fc3", [20, 80, 300], theta=0.5) for name, one in real.items()}
    for found in errors.values():
        assert found[0] > found[1] > found[2]
        assert found[2] < 1e-3
    assert errors["mnist"][1] < 0.035
    assert errors["cifar10"][1] > 3 * errors["mnist"][1]
    (default,) = errors_against_width(real["mnist"], "fc3", [80])  # θ = 0.3
    assert default < 0.03


def test_figure_1c_and_1d_are_of_the_network_that_they_name():
    lam, theta = read_figure1()
    model = wb.examples.catalogue.build_model(lam.told["network"])
    assert sum(p.numel() for p in model.parameters()) == lam.told["parameters"]
    channels = np.array([3, *(32, 32, 64, 64, 128, 128, 256, 256, 256, 256), 10])
    for point in lam.points + theta.points:
        left = channels.copy()
        left[1:-1] = np.maximum(1, np.round((1 - point.rate) * channels[1:-1]))
        convolutions = 9 * (left[:-2] * left[1:-1]).sum() + 2 * left[1:-1].sum()  # weights, γ and β
        assert point.parameters == convolutions + left[-2] * 10 + 10
    assert lam.examples >= 2000
    assert lam.rates == theta.rates
    assert FIGURE1.stat().st_size < 50_000
    edges = [lam.as_good(rate)[1] for rate in lam.rates]
    assert edges == sorted(edges, reverse=True)
    assert edges[-1] < edges[0] / 3
    assert 0.2 <= theta.best(0.5) <= 0.6
    assert max(theta.scores[0.1]) - min(theta.scores[0.1]) < 0.01
