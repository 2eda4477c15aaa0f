"""How fast the greedy path, a pruned ResNet-56 and fine-tuning are, each against something in the same run.

`python tests/benchmarks/speed.py [--write]` takes two minutes on one core.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

import results
import torch
from cifar_resnets import calibration, resnet
from reconstructions import halved

import workbench as wb
from workbench.network.latency import measure_latency
from workbench.spectral.greedy import GreedySelector
from workbench.spectral.moment import Moment
from workbench.spectral.regression import ridge
from workbench.spectral.spectrum import Spectrum
from workbench.tuning import finetuning
from workbench.tuning.layout import lay_channels_last
from workbench.tuning.settings import Tuning

THETA = 0.3
# The 128-channel layers of the paper's VGG-13 are read by 3×3 convolutions; a Linear reader makes the
# definition itself cheaper.
READERS = {"3×3 convolution": 128 * 9, "Linear": 128}


def seconds(call: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    """The median of several runs, and what the last gave."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = call()
        times.append(time.perf_counter() - start)
    return statistics.median(times), result


def problem(m: int, outputs: int, seed: int = 0) -> tuple[Moment, torch.Tensor]:
    """Correlated ReLU activations' moment, and a readout (outputs, m)."""
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(m + m // 4, m, generator=generator) * torch.logspace(0, -2, m)
    moment = Moment.of((hidden @ torch.randn(m, m, generator=generator)).relu())
    return moment, torch.randn(outputs, m, generator=generator, dtype=torch.float64)


def naive_path(
    sigma: torch.Tensor, readout: torch.Tensor, tau: torch.Tensor, width: int
) -> tuple[list[int], torch.Tensor]:
    """The definition: for every candidate of every step, solve and take the traces (method.md §3)."""
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


def path_against_definition(outputs: int, m: int = 128, k: int = 64) -> tuple[float, float]:
    """How many times as fast as the definition the path is, and the largest difference of the losses.

    Raises ValueError where the two choose other units.
    """
    moment, readout = problem(m, outputs)
    spectrum = Spectrum.of(moment)
    tau = ridge(spectrum, spectrum.lam_for(k), k)
    slow, (order, losses) = seconds(lambda: naive_path(moment.matrix, readout, tau, k), 1)
    selector = GreedySelector([moment], [readout])
    fast, path = seconds(lambda: selector.path(tau, THETA, k), 11)
    if path.order.tolist() != order:
        raise ValueError(f"the path chooses {path.order.tolist()[:8]}…, the definition {order[:8]}…")
    return slow / fast, float((path.losses - losses).abs().max())


def path_against_products(m: int, k: int) -> tuple[float, float, float]:
    """Seconds of a path; of its precomputation; and the first over m·k² multiply–adds three times, streamed.

    A step reads L, R and P, (m, i) each, three or four times: so products of such matrices with a vector,
    one a step, are what a path is made of.
    """
    moment, readout = problem(m, min(m, 1000))
    # Eigenvalues of a large one would take longer than everything measured here.
    tau = torch.full((m,), 1e-6 * k / m * float(moment.matrix.trace()), dtype=torch.float64)
    once, selector = seconds(lambda: GreedySelector([moment], [readout]), 1)
    path, _ = seconds(lambda: selector.path(tau, THETA, k), 3)
    matrix, vector = torch.rand(m, k, dtype=torch.float64), torch.rand(k, dtype=torch.float64)

    def products() -> None:
        for i in range(1, k + 1):
            for _ in range(3):
                matrix[:, :i] @ vector[:i]

    return path, once, path / seconds(products, 3)[0]


def pruned_against_whole(rounds: int = 5, images: int = 64) -> tuple[float, float]:
    """ResNet-56 with every inner width halved: shares of its MACs and of its time for a forward pass."""
    inputs = calibration(images)
    session = wb.Session(resnet(56), inputs)
    session.measure()
    halved(session, "magnitude-l1", "none")
    ratios = []
    for _ in range(rounds):  # turn by turn, since other work on the machine comes and goes
        whole = measure_latency(session.original, inputs, repeats=3)
        ratios.append(measure_latency(session.model, inputs, repeats=3) / whole)
    return session.macs / session.history[0].macs, statistics.median(ratios)


def layouts(match: float, rounds: int = 2, steps: int = 8) -> float:
    """How many times as fast ResNet-20 at half its MACs is fine-tuned channels last."""
    inputs, labels = torch.randn(128, 3, 32, 32), torch.arange(128) % 10
    session = wb.Session(resnet(20), inputs)
    session.measure()
    session.commit_plan(session.plan(session.macs / 2, rule="equal"))
    spent: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(rounds):
        for last in spent:
            laid = lay_channels_last if last else lambda *given: False
            with mock.patch.object(finetuning, "lay_channels_last", laid):
                start = time.process_time()
                session.finetune([(inputs, labels)], Tuning(steps=steps, match=match))
                spent[last].append(time.process_time() - start)
            session.undo()
    return min(spent[False]) / min(spent[True])


def main() -> None:
    asked = results.options(__doc__).parse_args()
    torch.set_num_threads(1)
    rows = []
    for reader, outputs in READERS.items():
        faster, off = path_against_definition(outputs)
        rows.append((f"greedy path against its definition, m = 128, k = 64, {reader} reader with 128 outputs",
                     f"{faster:,.0f} × as fast, losses equal to {off:.0e}"))  # fmt: skip
    for m, k in ((512, 256), (4096, 400)):
        path, once, ratio = path_against_products(m, k)
        rows.append((f"greedy path, m = {m}, k = {k} (what does not depend on λ and θ, once: {once:.2f} s)",
                     f"{path:.3f} s, {ratio:.1f} × its bare products"))  # fmt: skip
    macs, share = pruned_against_whole()
    rows.append(("ResNet-56, every inner width halved, 64 images: share of the MACs, of the time",
                 f"{macs:.3f}, {share:.2f}"))  # fmt: skip
    for what, match in (("with labels", 0.0), ("following activations", 1.0)):
        rows.append((f"fine-tuning ResNet-20 at half its MACs {what}, channels last against plain",
                     f"{layouts(match):.2f} × as fast"))  # fmt: skip
    lines = ["| what | measured |", "|---|---:|", *(f"| {what} | {found} |" for what, found in rows)]
    results.show("speed", "\n".join(lines), asked.write)


if __name__ == "__main__":
    main()
