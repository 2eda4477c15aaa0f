"""The networks of the course, measured: on the real data, or on a smaller set where that is not at hand."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import nn
from torch.nn.functional import interpolate, pad

from workbench.data.batches import Batches
from workbench.data.checkpoints import load_checkpoint
from workbench.data.randomness import OwnRandomness
from workbench.examples.catalogue import build_model, example_spec, prepare, weights_file
from workbench.examples.datasets import Images, at_hand, load_digits
from workbench.session.session import Session

SIDE, STEP = 32, 16  # of the patches that stand in for CIFAR-10, pixels
INNER, EDGE, CONTRAST = 18, 5, 2.0  # of the digits that stand in for MNIST: pixels, pixels, times
PHOTOGRAPHS = ("china.jpg", "flower.jpg")


def example(name: str, *, fresh: bool = False, say: bool = True) -> Session:
    """A measured session on a built-in example; prints what it is measured on.

    Where the example's data is not on this machine nothing is downloaded: in place of NN3 on MNIST stands the
    same network trained on scikit-learn's digits, the recurrent network sees these digits enlarged, and in
    place of CIFAR-10 a network sees patches of scikit-learn's two photographs, without labels and so without
    a score.

    Args:
        name: a key of `workbench.EXAMPLES`.
        fresh: a session of one's own, to commit in; False: the one that all of a process share, which is
            only looked at.
        say: whether to print a line that names the network and the data.

    Returns:
        The session, its groups measured.

    Raises:
        ValueError: there is no such example (the message lists them).
    """
    session = _measured(name) if not fresh else _made(name)
    if say:
        score = f", score {session.history[0].score:.4f}" if session.history[0].score is not None else ""
        print(f"{session.name} on {session.data_name}: {session.parameters:,} parameters{score}")
    return session


def stands_in(name: str) -> bool:
    """Whether `example(name)` uses the smaller data set, because the real one is not on this machine."""
    return not at_hand(example_spec(name).data_name)


@cache
def _measured(name: str) -> Session:
    return _made(name)


def _made(name: str) -> Session:
    spec = example_spec(name)
    if at_hand(spec.data_name):
        session = Session.example(name)
    elif name == "rnn-mnist":
        session = _on_enlarged_digits(name)
    elif spec.data_name == "MNIST":
        session = Session.example("digits-mlp")
    else:
        session = _on_photographs(name)
    session.measure()
    return session


def _on_photographs(name: str) -> Session:
    seen: Batches = prepare(example_spec(name), photographs())
    told = "patches of scikit-learn's two photographs (CIFAR-10 is not at hand)"
    return Session(_trained(name), seen.inputs, name=name, data_name=told)


def _on_enlarged_digits(name: str) -> Session:
    spec = example_spec(name)
    seen, scored = (prepare(spec, enlarged_digits(split)) for split in ("train", "test"))
    told = "scikit-learn's digits, enlarged (MNIST is not at hand)"
    return Session(_trained(name), seen, scored, name=name, data_name=told)


def _trained(name: str) -> nn.Module:
    with OwnRandomness(0).drawing():
        model = build_model(name)
    load_checkpoint(model, weights_file(name))
    return model.eval()


def enlarged_digits(split: str) -> Images:
    """scikit-learn's digits in the form of MNIST: (n, 1, 28, 28) uint8, black at the edges.

    MNIST's strokes are thinner and sharper, so a network trained there knows most of these, not all.

    Args:
        split: "train" or "test".

    Returns:
        The images: 18 × 18 pixels by bicubic interpolation with twice the contrast, and 5 of edge around.

    Raises:
        ValueError: `split` is neither "train" nor "test".
    """
    digits = load_digits(split)
    grey = interpolate(digits.pixels.float() / 16, size=INNER, mode="bicubic").clamp(0, 1)
    sharp = (CONTRAST * (grey - 0.5) + 0.5).clamp(0, 1)
    pixels = (255 * pad(sharp, (EDGE,) * 4)).round().byte()
    return Images(pixels, digits.labels, digits.classes)


@cache
def photographs() -> Images:
    """Patches of scikit-learn's two photographs, as many as fit half overlapping: (n, 3, 32, 32) uint8.

    The labels say from which photograph a patch is.
    """
    from sklearn.datasets import load_sample_image  # takes most of a second, so only when it is wanted

    patches, labels = [], []
    for label, file in enumerate(PHOTOGRAPHS):
        whole = np.ascontiguousarray(load_sample_image(file).transpose(2, 0, 1))  # (3, h, w)
        pixels = torch.from_numpy(whole).unfold(1, SIDE, STEP).unfold(2, SIDE, STEP)  # (3, r, c, 32, 32)
        cut = pixels.permute(1, 2, 0, 3, 4).reshape(-1, 3, SIDE, SIDE)
        patches.append(cut)
        labels.append(torch.full((len(cut),), label))
    return Images(torch.cat(patches), torch.cat(labels), tuple(PHOTOGRAPHS))
