"""Targets of every kind that a score is read from, with what scikit-learn or a hand count gives."""

import numpy as np
import torch
from sklearn.metrics import accuracy_score, r2_score
from torch.nn import functional

from workbench.data.batches import IGNORED
from workbench.measure.targets import VOID

EXAMPLES = 31


def generator(seed=3):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=3):
    return torch.randn(*shape, generator=generator(seed))


def whole(high, *shape, seed=4):
    return torch.randint(high, shape, generator=generator(seed))


def ignored(targets, mark, share=0.3):
    return targets.masked_fill(torch.rand(targets.shape, generator=generator(9)) < share, mark)


def batched(outputs, targets):
    return [(outputs[:13], targets[:13]), (outputs[13:], targets[13:])]


def hits(answers, targets, *marks):
    """accuracy_score over what counts."""
    counted = ~np.isin(np.asarray(targets), marks)
    return accuracy_score(np.asarray(targets)[counted], np.asarray(answers)[counted])


def cross(outputs, targets, mark=IGNORED):
    """Cross-entropy with the classes second."""
    return functional.cross_entropy(outputs, targets.long(), ignore_index=mark)


def rights(outputs, axis, targets, *marks):
    return hits(outputs.argmax(axis), targets, *marks)


plain, tokens, second = normal(EXAMPLES, 5), normal(EXAMPLES, 7, 5), normal(EXAMPLES, 5, 7)
pixels, one, several = normal(EXAMPLES, 3, 4, 6), normal(EXAMPLES, 1), normal(EXAMPLES, 6)
masks = normal(EXAMPLES, 1, 4, 6)
label, token_labels, pixel_labels = whole(5, EXAMPLES), whole(5, EXAMPLES, 7), whole(3, EXAMPLES, 4, 6)
marks, many, mask = whole(2, EXAMPLES), whole(2, EXAMPLES, 6), whole(2, EXAMPLES, 4, 6)
true = normal(EXAMPLES, 6, seed=8) * torch.arange(1, 7) + 3
bce = functional.binary_cross_entropy_with_logits

TABLE = {
    "classes": ("accuracy", plain, label, hits(plain.argmax(1), label), cross(plain, label)),
    "classes in a column": ("accuracy", plain, label[:, None], rights(plain, 1, label), cross(plain, label)),
    "classes of small numbers": (
        "accuracy", plain, label.to(torch.uint8), hits(plain.argmax(1), label), cross(plain, label)
    ),
    "classes, some ignored": (
        "accuracy", plain, ignored(label, IGNORED), hits(plain.argmax(1), ignored(label, IGNORED), IGNORED),
        cross(plain, ignored(label, IGNORED)),
    ),
    "classes as floats of 0 and 1": (
        "accuracy", plain[:, :2], marks.float(), rights(plain[:, :2], 1, marks), cross(plain[:, :2], marks)
    ),
    "tokens": (
        "token accuracy", tokens, token_labels, hits(tokens.argmax(2), token_labels),
        cross(tokens.transpose(1, 2), token_labels),
    ),
    "tokens, classes second": (
        "token accuracy", second, token_labels, rights(second, 1, token_labels), cross(second, token_labels)
    ),
    "tokens, padding ignored": (
        "token accuracy", tokens, ignored(token_labels, IGNORED),
        hits(tokens.argmax(2), ignored(token_labels, IGNORED), IGNORED),
        cross(tokens.transpose(1, 2), ignored(token_labels, IGNORED)),
    ),
    "pixels": (
        "pixel accuracy", pixels, pixel_labels, rights(pixels, 1, pixel_labels), cross(pixels, pixel_labels)
    ),
    "pixels, classes last": (
        "pixel accuracy", pixels.permute(0, 2, 3, 1), pixel_labels, hits(pixels.argmax(1), pixel_labels),
        cross(pixels, pixel_labels),
    ),
    "pixels of bytes, void ignored": (
        "pixel accuracy", pixels, ignored(pixel_labels, VOID).to(torch.uint8),
        rights(pixels, 1, ignored(pixel_labels, VOID), VOID),
        cross(pixels, ignored(pixel_labels, VOID), VOID),
    ),
    "pixels with an axis of one": (
        "pixel accuracy", pixels, pixel_labels[:, None], hits(pixels.argmax(1), pixel_labels),
        cross(pixels, pixel_labels),
    ),
    "a logit": ("accuracy", one, marks, hits(one[:, 0] > 0, marks), bce(one[:, 0], marks.float())),
    "a logit, floats": (
        "accuracy", one, marks.float(), hits(one[:, 0] > 0, marks), bce(one[:, 0], marks.float())
    ),
    "a logit, a column": (
        "accuracy", one, marks[:, None].double(), hits(one[:, 0] > 0, marks), bce(one[:, 0], marks.float())
    ),
    "a logit without an axis": (
        "accuracy", one[:, 0], marks.bool(), hits(one[:, 0] > 0, marks), bce(one[:, 0], marks.float())
    ),
    "a logit a pixel": (
        "pixel accuracy", masks, mask, hits(masks[:, 0] > 0, mask), bce(masks[:, 0], mask.float())
    ),
    "a logit a pixel, floats": (
        "pixel accuracy", masks, mask[:, None].float(), hits(masks[:, 0] > 0, mask),
        bce(masks[:, 0], mask.float()),
    ),
    "a logit a token": (
        "token accuracy", several[..., None], many, hits(several > 0, many), bce(several, many.float())
    ),
    "labels": ("label accuracy", several, many.float(), hits(several > 0, many), bce(several, many.float())),
    "labels, whole": ("label accuracy", several, many, hits(several > 0, many), bce(several, many.float())),
    "one-hot": (
        "accuracy", plain, functional.one_hot(label, 5).float(), rights(plain, 1, label), cross(plain, label)
    ),
    "values": ("R²", several, true, r2_score(true, several), functional.mse_loss(several, true)),
    "a value": (
        "R²", one, true[:, 0], r2_score(true[:, 0], one[:, 0]), functional.mse_loss(one, true[:, :1])
    ),
    "a value, doubles": (
        "R²", one, true[:, :1].double(), r2_score(true[:, 0], one[:, 0]),
        functional.mse_loss(one, true[:, :1]),
    ),
}  # fmt: skip
