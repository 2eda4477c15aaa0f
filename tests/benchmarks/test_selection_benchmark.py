"""How fast the greedy path is, against the formula it replaces and on its own."""

import statistics
import time

import pytest
import torch

from workbench.spectral.greedy import GreedySelector
from workbench.spectral.moment import Moment
from workbench.spectral.spectrum import Spectrum, ridge

THETA = 0.3


def problem(m, outputs, seed=0):
    """Correlated ReLU activations' moment, and a readout (outputs, m)."""
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(m + m // 4, m, generator=generator) * torch.logspace(0, -2, m)
    moment = Moment.of((hidden @ torch.randn(m, m, generator=generator)).relu())
    return moment, torch.randn(outputs, m, generator=generator, dtype=torch.float64)


def naive_path(sigma, readout, tau, width):
    """The definition: for every candidate of every step, solve and take the traces (method, §3)."""
    readout = readout * (sigma.trace() / ((readout @ sigma) * readout).sum()).sqrt()

    def loss(kept):
        gram = sigma[kept][:, kept] + torch.diag(tau[kept])
        residual = sigma - sigma[:, kept] @ torch.linalg.solve(gram, sigma[kept])
        return float(THETA * residual.trace() + (1 - THETA) * ((readout @ residual) * readout).sum())

    kept, losses = [], [1.0]
    for _ in range(width):
        tried = {unit: loss([*kept, unit]) for unit in range(len(sigma)) if unit not in kept}
        best = min(tried, key=tried.__getitem__)
        kept.append(best)
        losses.append(tried[best] / float(sigma.trace()))
    return kept, torch.tensor(losses, dtype=torch.float64)


def seconds(call, repeats):
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = call()
        times.append(time.perf_counter() - start)
    return statistics.median(times), result


def report(capsys, *lines):
    with capsys.disabled():
        print("", *lines, sep="\n")


# The 128-channel layers of the paper's VGG-13 are read by 3×3 convolutions; a small Linear reader makes the
# definition itself cheaper.
@pytest.mark.parametrize(
    ("kind", "outputs", "ratio"), [("3×3 convolution", 128 * 9, 1000), ("Linear reader", 128, 300)]
)
def test_faster_than_the_definition(kind, outputs, ratio, capsys):
    moment, readout = problem(128, outputs)
    spectrum = Spectrum.of(moment)
    tau = ridge(spectrum, spectrum.lam_for(64), 64)
    slow, (order, losses) = seconds(lambda: naive_path(moment.matrix, readout, tau, 64), 1)
    prepare, selector = seconds(lambda: GreedySelector([moment], [readout]), 5)
    fast, path = seconds(lambda: selector.path(tau, THETA, 64), 21)
    report(
        capsys,
        f"m=128, k=64, {kind} with 128 outputs: seconds",
        f"by the definition  {slow:9.4f}",
        f"precomputation     {prepare:9.4f}",
        f"path               {fast:9.4f}   {slow / fast:.0f} times faster",
    )
    assert path.order.tolist() == order
    torch.testing.assert_close(path.losses, losses, rtol=0, atol=1e-9)
    assert slow / fast >= ratio


@pytest.mark.parametrize(("m", "k", "target"), [(512, 256, 0.06), (4096, 400, 2.0)])
def test_a_path_takes_no_longer_than_a_person_notices(m, k, target, capsys):
    moment, readout = problem(m, min(m, 1000))
    # Eigenvalues of the large one would take longer than everything measured here.
    tau = torch.full((m,), 1e-6 * k / m * float(moment.matrix.trace()), dtype=torch.float64)
    prepare, selector = seconds(lambda: GreedySelector([moment], [readout]), 1)
    path_time, path = seconds(lambda: selector.path(tau, THETA, k), 3)
    report(
        capsys, f"m={m}, k={k}: precomputation {prepare:.3f} s, path {path_time:.3f} s (target {target} s)"
    )
    assert len(path.order) == k
    # Three times the target: machines are shared.
    assert path_time < 3 * target
