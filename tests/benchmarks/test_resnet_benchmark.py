"""ResNets on CIFAR-10: reconstruction modes side by side, and a forward pass that is really faster."""

from statistics import median

import pytest
import torch
from cifar_resnets import calibration, evaluation, inner_groups, resnet

import workbench as wb
from workbench.network.cost import measure_latency

LAM = 1e-6  # of the trace, as in the paper's Figure 1


def halved(session, selection, reconstruction, reestimate=False):
    """Every block's inner width halved, from the input to the output; nothing is fine-tuned."""
    session.reset()
    names = inner_groups(session)
    for name in names:
        session.commit(
            session.preview(
                name,
                width=session.group(name).width // 2,
                lam=LAM * session.spectrum(name).trace,
                selection=selection,
                reconstruction=reconstruction,
                reestimate=reestimate and name == names[-1],
            )
        )
    return session.model


WAYS = {
    "magnitude L1, none": ("magnitude-l1", "none", False),
    "magnitude L1, none, norms re-estimated": ("magnitude-l1", "none", True),
    "magnitude L1, `channel` (Â)": ("magnitude-l1", "channel", False),
    "greedy, `channel` (Â)": ("greedy", "channel", False),
    "greedy, `channel` (Â), norms re-estimated": ("greedy", "channel", True),
    "greedy, `kernel`": ("greedy", "kernel", False),
    "greedy, `kernel`, norms re-estimated": ("greedy", "kernel", True),
    "greedy, `original`": ("greedy", "original", False),
    "greedy, `original`, norms re-estimated": ("greedy", "original", True),
}


@pytest.mark.timeout(1500)
def test_against_the_original_lands_twenty_points_above_magnitude():
    session = wb.Session(resnet(20), calibration())
    session.measure()
    assert len(inner_groups(session)) == 9
    scores = {"unpruned": wb.evaluate(session.model, evaluation())}
    for title, (selection, reconstruction, reestimate) in WAYS.items():
        scores[title] = wb.evaluate(halved(session, selection, reconstruction, reestimate), evaluation())
    print(f"\n{session.history[0].macs:,} → {session.macs:,} MACs\n| way | accuracy |\n|---|---:|")
    print("\n".join(f"| {title} | {score:.3f} |" for title, score in scores.items()))
    magnitude = scores["magnitude L1, none, norms re-estimated"]
    assert scores["greedy, `original`"] >= magnitude + 0.20
    assert scores["greedy, `kernel`"] > scores["greedy, `channel` (Â)"] > scores["magnitude L1, none"]


def test_the_pruned_resnet56_is_really_faster():
    session = wb.Session(resnet(56), calibration(64))
    session.measure()
    images = calibration(64)
    halved(session, "magnitude-l1", "none")
    ratios = []
    for _ in range(5):  # turn by turn, since other work on the machine comes and goes
        whole = measure_latency(session.original, images, repeats=3)
        ratios.append(measure_latency(session.model, images, repeats=3) / whole)
    macs = session.macs / session.history[0].macs
    print(f"\nResNet-56, 64 images: MACs × {macs:.3f}, time × {median(ratios):.3f} (5 rounds {ratios})")
    assert macs == pytest.approx(0.5, abs=0.02)
    assert median(ratios) < 0.9
    with torch.no_grad():
        assert torch.isfinite(session.model(images)).all()
