"""ResNet-20 on CIFAR-10, every block's inner width halved: ways to choose and to rebuild, side by side.

`python tests/benchmarks/reconstructions.py [--write]` takes some minutes on one core.
"""

from collections.abc import Iterable

import results
import torch
from cifar_resnets import calibration, evaluation, inner_groups, resnet
from torch import nn

import workbench as wb

LAM = 1e-6  # of the trace, as in the paper's Figure 1
IMAGES = 10_000
WAYS = {  # title: selection, reconstruction
    "magnitude L1, none": ("magnitude-l1", "none"),
    "magnitude L1, `channel` (the paper's Â)": ("magnitude-l1", "channel"),
    "greedy, `channel`": ("greedy", "channel"),
    "greedy, `kernel` [beyond]": ("greedy", "kernel"),
    "greedy, `original` [beyond]": ("greedy", "original"),
}


def halved(session: wb.Session, selection: str, reconstruction: str, reestimate: bool = False) -> nn.Module:
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


def scores(
    images: int = IMAGES, examples: int = 1024, titles: Iterable[str] = WAYS
) -> tuple[wb.Session, dict[str, tuple[float, float]]]:
    """The session, and of each way the accuracy as it comes and with batch norms re-estimated."""
    session = wb.Session(resnet(20), calibration(examples))
    session.measure()
    test = evaluation(images)
    found = {"unpruned": (wb.evaluate(session.model, test),) * 2}
    for title in titles:
        plain, normed = (wb.evaluate(halved(session, *WAYS[title], norms), test) for norms in (False, True))
        found[title] = plain, normed
    return session, found


def main() -> None:
    parser = results.options(__doc__)
    parser.add_argument("--images", type=int, default=IMAGES, help=f"test images (default {IMAGES})")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    session, found = scores(asked.images)
    before, after = session.history[0].macs, session.macs
    lines = [
        f"{before:,} → {after:,} MACs, 1,024 calibration images, {asked.images:,} test images.",
        "",
        "| selection, reconstruction | accuracy | with batch norms re-estimated |",
        "|---|---:|---:|",
    ]
    lines += [f"| {title} | {plain:.3f} | {norms:.3f} |" for title, (plain, norms) in found.items()]
    results.show("reconstructions", "\n".join(lines), asked.write)


if __name__ == "__main__":
    main()
