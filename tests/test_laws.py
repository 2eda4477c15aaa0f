"""The laws of spectral pruning, against a naive float64 version written here from the definitions."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.spectral.bounds import guaranteed_width, local_error, sampling_bound
from workbench.spectral.greedy import greedy_path
from workbench.spectral.losses import information_loss, losses_along
from workbench.spectral.moment import Moment
from workbench.spectral.reconstruction import fold, reconstruction_matrix
from workbench.spectral.regression import ridge
from workbench.spectral.selection import leverage_order
from workbench.spectral.spectrum import Spectrum

M, OUTPUTS = 17, 13
THETAS = [0.0, 0.3, 1.0]
RELATIVE_LAMS = [1e-1, 1e-3, 1e-6]


def activations(n=211, m=M, seed=0, decay=-2.0):
    """Correlated ReLU activations (n, m) whose spectrum falls over `decay` decades."""
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(n, m, generator=generator, dtype=torch.float64)
    mixing = torch.randn(m, m, generator=generator, dtype=torch.float64)
    return (hidden * torch.logspace(0, decay, m, dtype=torch.float64) @ mixing + 0.1).relu()


def reader(m=M, outputs=OUTPUTS, seed=1):
    return torch.randn(outputs, m, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def ridge_of(moment, relative_lam, width=7):
    if relative_lam == 0:
        return torch.zeros(moment.width, dtype=torch.float64)
    spectrum = Spectrum.of(moment)
    return ridge(spectrum, relative_lam * spectrum.trace, width)


def naive_residual(sigma, kept, tau):
    kept = list(kept)
    gram = sigma[kept][:, kept] + torch.diag(tau[kept])
    return sigma - sigma[:, kept] @ torch.linalg.solve(gram, sigma[kept])


def naive_loss(sigma, kept, tau, readout, theta):
    """L^θ relative to keeping nothing, with the readout scaled so that both losses start equal."""
    residual = naive_residual(sigma, kept, tau)
    scale = sigma.trace() / (readout @ sigma @ readout.T).trace()
    output = scale * (readout @ residual @ readout.T).trace()
    return float((theta * residual.trace() + (1 - theta) * output) / sigma.trace())


def naive_greedy(sigma, readout, tau, theta, width):
    kept, losses = [], [1.0]
    for _ in range(width):
        candidates = [unit for unit in range(len(sigma)) if unit not in kept]
        tried = {unit: naive_loss(sigma, [*kept, unit], tau, readout, theta) for unit in candidates}
        best = min(candidates, key=tried.__getitem__)
        kept.append(best)
        losses.append(tried[best])
    return kept, torch.tensor(losses, dtype=torch.float64)


@pytest.mark.parametrize("theta", THETAS)
@pytest.mark.parametrize("relative_lam", [*RELATIVE_LAMS, 1e-10, 0])
@pytest.mark.parametrize("decay", [-1.0, -5.0])
def test_greedy_path_is_the_naive_greedy_path(theta, relative_lam, decay):
    moment = Moment.of(activations(decay=decay))
    tau = ridge_of(moment, relative_lam)
    order, losses = naive_greedy(moment.matrix, reader(), tau, theta, M)
    path = greedy_path(moment, reader(), tau, theta)
    torch.testing.assert_close(path.losses, losses, rtol=0, atol=1e-10)
    # Below rounding any order is as good as another.
    meaningful = int((losses > 1e-11).sum()) - 1
    assert path.order[:meaningful].tolist() == order[:meaningful]


@pytest.mark.parametrize("theta", THETAS)
@pytest.mark.parametrize("relative_lam", [*RELATIVE_LAMS, 1e-14, 0])
def test_combined_loss_never_rises_along_a_path(theta, relative_lam):
    moment = Moment.of(activations(decay=-6.0))
    path = greedy_path(moment, reader(), ridge_of(moment, relative_lam), theta)
    assert path.losses[0] == 1
    assert bool((path.losses.diff() <= 0).all())
    assert float(path.losses[-1]) >= 0
    assert sorted(path.order.tolist()) == list(range(M))


@settings(max_examples=60, deadline=None)
@given(
    kept=st.lists(st.integers(0, M - 1), unique=True),
    relative_lam=st.sampled_from([*RELATIVE_LAMS, 0]),
    seed=st.integers(0, 100),
)
def test_losses_match_the_definition_and_stay_in_range(kept, relative_lam, seed):
    moment, readout = Moment.of(activations(seed=seed)), reader(seed=seed)
    tau = ridge_of(moment, relative_lam)
    residual = naive_residual(moment.matrix, kept, tau)
    for weights in (None, readout):
        full = torch.eye(M, dtype=torch.float64) if weights is None else weights
        expected = float((full @ residual @ full.T).trace())
        start = float((full @ moment.matrix @ full.T).trace())
        loss = information_loss(moment, kept, tau, weights)
        assert loss == pytest.approx(expected, rel=1e-9, abs=1e-10 * start)
        assert 0 <= loss <= start * (1 + 1e-14)


@pytest.mark.parametrize("relative_lam", RELATIVE_LAMS)
def test_input_loss_is_the_least_ridge_regression_error(relative_lam):
    phi, kept = activations(), [11, 2, 7, 5]
    moment = Moment.of(phi)
    tau = ridge_of(moment, relative_lam)

    def objective(matrix):
        error = (phi - phi[:, kept] @ matrix.T).square().sum(1).mean()
        return float(error + (matrix.square() @ tau[kept]).sum())

    best = reconstruction_matrix(moment, kept, tau)
    assert objective(best) == pytest.approx(information_loss(moment, kept, tau), rel=1e-11)
    for seed in range(5):
        assert objective(best + 1e-3 * reader(len(kept), M, seed)) > objective(best)


@pytest.mark.parametrize("decay", [-1.0, -4.0])
def test_full_width_without_ridge_changes_nothing(decay):
    phi = activations(decay=decay)
    moment, tau = Moment.of(phi), torch.zeros(M)
    matrix = reconstruction_matrix(moment, range(M), tau)
    torch.testing.assert_close(matrix, torch.eye(M, dtype=torch.float64), rtol=0, atol=1e-12)
    torch.testing.assert_close(phi @ fold(reader(), matrix).T, phi @ reader().T, rtol=1e-12, atol=1e-12)
    assert information_loss(moment, range(M), tau) <= 1e-13 * float(moment.matrix.trace())


@pytest.mark.parametrize("decay", [-1.0, -3.0])
def test_full_width_reconstruction_tends_to_the_identity_as_the_ridge_vanishes(decay):
    moment = Moment.of(activations(decay=decay))
    eye = torch.eye(M, dtype=torch.float64)
    errors = [
        float((reconstruction_matrix(moment, range(M), ridge_of(moment, lam, M)) - eye).abs().max())
        for lam in (1e-6, 1e-9, 1e-12)
    ]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-5


@pytest.mark.parametrize("relative_lam", [*RELATIVE_LAMS, 0])
def test_predicted_local_error_is_the_measured_one_plus_the_ridge_part(relative_lam):
    phi, kept, readout = activations(), [3, 16, 8, 1, 12], reader()
    moment = Moment.of(phi)
    tau = ridge_of(moment, relative_lam)
    folded = fold(readout, reconstruction_matrix(moment, kept, tau))
    measured = (phi @ readout.T - phi[:, kept] @ folded.T).square().sum(1).mean().sqrt()
    slack = (folded.square() @ tau[kept]).sum()
    predicted = local_error(moment, kept, tau, readout)
    assert predicted == pytest.approx(math.hypot(float(measured), float(slack.sqrt())), rel=1e-10)
    assert predicted >= float(measured) * (1 - 1e-12)


@pytest.mark.parametrize("theta", THETAS)
@pytest.mark.parametrize("relative_lam", [1e-12, 0])
def test_removing_a_duplicate_costs_nothing(theta, relative_lam):
    phi = activations()
    phi[:, 13] = phi[:, 4]
    moment = Moment.of(phi)
    tau = ridge_of(moment, relative_lam, M)
    path = greedy_path(moment, reader(), tau, theta)
    assert float(path.losses[M - 1]) == pytest.approx(float(path.losses[M]), abs=1e-10)
    without = [unit for unit in range(M) if unit != 13]
    folded = fold(reader(), reconstruction_matrix(moment, without, tau))
    torch.testing.assert_close(phi[:, without] @ folded.T, phi @ reader().T, rtol=0, atol=1e-6)


def test_removing_a_duplicate_without_ridge_folds_its_weight_onto_the_other():
    phi = activations()
    phi[:, 13] = phi[:, 4]
    without = [unit for unit in range(M) if unit != 13]
    matrix = reconstruction_matrix(Moment.of(phi), without, torch.zeros(M))
    expected = torch.zeros(M - 1, dtype=torch.float64)
    expected[4] = 1
    torch.testing.assert_close(matrix[13], expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("theta", THETAS)
@pytest.mark.parametrize("relative_lam", [1e-3, 0])
def test_dead_units_go_first_and_cost_nothing(theta, relative_lam):
    phi = activations()
    phi[:, [0, 6]] = 0
    moment = Moment.of(phi)
    tau = ridge_of(moment, relative_lam)
    path = greedy_path(moment, reader(), tau, theta)
    assert path.order[-2:].tolist() == [0, 6]
    assert path.losses[M - 2] == path.losses[M]
    kept = path.order[: M - 2].tolist()
    start = float(moment.matrix.trace())
    assert information_loss(moment, kept, tau) == pytest.approx(
        information_loss(moment, [*kept, 0, 6], tau), abs=1e-14 * start
    )


@pytest.mark.parametrize("relative_lam", RELATIVE_LAMS)
def test_losses_along_an_order_are_those_of_its_prefixes(relative_lam):
    moment = Moment.of(activations())
    tau, order = ridge_of(moment, relative_lam), [5, 16, 0, 3, 11, 7]
    for readout in (None, reader()):
        along = losses_along(moment, order, tau, readout)
        single = [information_loss(moment, order[:k], tau, readout) for k in range(len(order) + 1)]
        torch.testing.assert_close(along, torch.tensor(single, dtype=torch.float64), rtol=1e-12, atol=1e-13)
        assert bool((along.diff() <= 0).all())


def test_sampling_the_guaranteed_width_keeps_the_guarantee():
    m = 211
    basis = torch.linalg.qr(reader(m, m)).Q
    sigma = basis @ torch.diag(10.0 ** -torch.arange(m, dtype=torch.float64).clamp(max=9)) @ basis.T
    spectrum = Spectrum.of(sigma)
    lam = spectrum.lam_for(2.0)
    width = guaranteed_width(spectrum.degrees_of_freedom(lam) - 1e-9)
    tau = ridge(spectrum, lam, width)
    held = 0
    for seed in range(20):
        kept = leverage_order(spectrum.leverage(lam), seed)[:width].tolist()
        worst = float(torch.linalg.eigvalsh(naive_residual(sigma, kept, tau))[-1])
        held += worst <= sampling_bound(lam)
    assert width == 51
    assert held > 10
