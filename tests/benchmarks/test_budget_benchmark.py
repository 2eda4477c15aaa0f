"""Least loss per cost on ResNet-20 and ResNet-56, beside magnitude and torch-pruning's own pruner."""

import pytest
import torch
from tables import Bench

from workbench.measure.refitting import reestimate_norms
from workbench.session.finetune import Tuning

IMAGES = 2000


def numbers(name, ratio):
    """Accuracies at `ratio` times fewer MACs, without fine-tuning; 1,024 calibration images."""
    bench = Bench(name, IMAGES, epoch=0)
    session, target = bench.session, bench.whole / ratio
    streams = {g.name: g.width for g in session.groups if g.prunable and not g.name.startswith("layer")}
    least = session.plan(target, rule="least", locks=streams)
    equal = session.plan(target, rule="equal", locks=streams)
    found_outside = bench.torch_pruning(target)
    assert found_outside is not None
    other, macs = found_outside
    images = bench.subject.calibration[0].split(256)
    found = {
        "unpruned": bench.score(bench.subject.model),
        "least loss per cost, greedy, `original`": bench.score(bench.pruned(least, "greedy", "original")),
        "equal widths, magnitude L1": bench.score(bench.pruned(equal, "magnitude-l1", "none")),
        "equal widths, magnitude L1, norms re-estimated": bench.score(
            bench.pruned(equal, "magnitude-l1", "none", True)
        ),
        "torch-pruning, global L1": bench.score(other),
        "torch-pruning, global L1, norms re-estimated": bench.score(reestimate_norms(other, images)),
    }
    print(f"\n{name}: {bench.whole:,} → {least.macs:,} MACs (torch-pruning {macs:,}), {IMAGES} test images")
    print("\n".join(f"| {title} | {score:.3f} |" for title, score in found.items()))
    assert least.macs <= target
    assert macs <= target
    with torch.no_grad():
        assert torch.isfinite(other(images[0][:2])).all()
    return found


def check(found, share):
    whole, *_ = found.values()
    least = found["least loss per cost, greedy, `original`"]
    assert least >= share * whole
    assert least == max(score for title, score in found.items() if title != "unpruned")


@pytest.mark.timeout(1800)
def test_resnet20_at_half_its_macs():
    pytest.importorskip("torch_pruning")
    found = numbers("resnet20", 1 / 0.5055)  # half of the blocks' MACs
    check(found, 0.71 / 0.81)
    assert found["least loss per cost, greedy, `original`"] >= 0.70


@pytest.mark.timeout(1800)
def test_refitting_and_steps_without_labels_go_on_from_there():
    bench = Bench("resnet20", IMAGES, epoch=0)
    session = bench.session
    streams = {g.name: g.width for g in session.groups if g.prunable and not g.name.startswith("layer")}
    session.commit_plan(session.plan(0.5055 * bench.whole, locks=streams), reconstruction="original")
    committed = bench.score(session.model)
    session.refit()
    refitted = bench.score(session.model)
    session.finetune(bench.subject.calibration[0].split(128), Tuning(steps=120, distill=1.0, temperature=2.0))
    tuned = bench.score(session.model)
    print(f"\nresnet20: committed {committed:.3f}, refitted {refitted:.3f}, 120 steps {tuned:.3f}")
    assert committed < refitted < tuned


@pytest.mark.timeout(1800)
def test_resnet56_at_2_1_times_fewer_macs_keeps_95_percent():
    pytest.importorskip("torch_pruning")
    check(numbers("resnet56", 2.1), 0.95)
