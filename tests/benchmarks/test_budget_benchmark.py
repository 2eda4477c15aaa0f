"""Least loss per cost on ResNet-20 and ResNet-56, beside magnitude and torch-pruning's own pruner."""

import pytest
import torch
from tables import Bench

from workbench.fitting.norms import reestimate_norms
from workbench.tuning.settings import Tuning

IMAGES = 10_000


def planned(name, ratio):
    """A bench, and plans by two rules at `ratio` times fewer MACs that leave the streams whole."""
    bench = Bench(name, IMAGES, epoch=0)
    session = bench.session
    streams = {g.name: g.width for g in session.groups if g.prunable and not g.name.startswith("layer")}
    return bench, *(
        session.plan(bench.whole / ratio, rule=rule, locks=streams) for rule in ("least", "equal")
    )


def outside(bench, target):
    """torch-pruning's accuracy under `target` MACs, as it comes and with norms re-estimated."""
    other, macs = bench.torch_pruning(target)
    assert macs <= target
    images = bench.subject.calibration[0].split(256)
    with torch.no_grad():
        assert torch.isfinite(other(images[0][:2])).all()
    return macs, bench.score(other), bench.score(reestimate_norms(other, images))


def numbers(name, ratio, steps):
    """Accuracies at `ratio` times fewer MACs without fine-tuning: 1,024 calibration images without labels."""
    bench, least, equal = planned(name, ratio)
    session, images = bench.session, bench.subject.calibration[0]
    target = bench.whole / ratio
    assert least.macs <= target
    found = {"unpruned": bench.score(bench.subject.model)}
    for title, selection, reconstruction, reestimate in (
        ("equal widths, magnitude L1", "magnitude-l1", "none", False),
        ("equal widths, magnitude L1, norms re-estimated", "magnitude-l1", "none", True),
    ):
        found[title] = bench.score(bench.pruned(equal, selection, reconstruction, reestimate))
    macs, found["torch-pruning, global L1"], found["torch-pruning, global L1, norms re-estimated"] = outside(
        bench, target
    )
    session.commit_plan(least, reconstruction="original")
    found["least loss per cost, greedy, `original`"] = bench.score(session.model)
    committed = session.position
    if name == "resnet20":
        session.refit()
        found["then refitted"] = bench.score(session.model)
        session.goto(committed)
    session.finetune(images, Tuning(steps=steps, rate=2e-3, match=1.0, flips=True, shifts=4))
    found[f"then {steps} steps without labels"] = bench.score(session.model)
    print(f"\n{name}: {bench.whole:,} → {least.macs:,} MACs (torch-pruning {macs:,}), {IMAGES:,} test images")
    print("\n".join(f"| {title} | {score:.3f} |" for title, score in found.items()))
    return found, found[f"then {steps} steps without labels"]


@pytest.mark.timeout(1800)
def test_resnet20_at_half_its_blocks_macs():
    pytest.importorskip("torch_pruning")
    found, matched = numbers("resnet20", 1 / 0.5055, steps=240)  # half of the blocks' MACs
    least = found["least loss per cost, greedy, `original`"]
    assert least >= 0.71
    assert least < found["then refitted"] < matched
    assert matched >= 0.775
    assert max(score for title, score in found.items() if "L1" in title) < 0.6 * matched


@pytest.mark.timeout(1800)
def test_resnet56_at_2_1_times_fewer_macs_keeps_95_percent():
    pytest.importorskip("torch_pruning")
    found, matched = numbers("resnet56", 2.1, steps=120)
    least = found["least loss per cost, greedy, `original`"]
    assert least >= 0.95 * found["unpruned"]
    assert matched >= 0.975 * found["unpruned"]
    assert max(score for title, score in found.items() if "L1" in title) < least
